"""`python -m tests.erp.servers odoo|tryton`: a real ERP on loopback, until Ctrl-C, with what to speak to it with."""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

from tests.erp.odoo import open_odoo
from tests.erp.packages import Lacking, home
from tests.erp.serving import Erp
from tests.erp.tryton import open_tryton

ERPS: Mapping[str, Callable[[int], Awaitable[Erp]]] = {"odoo": open_odoo, "tryton": open_tryton}
USAGE = "python -m tests.erp.servers odoo|tryton [PORT]"


async def serve(name: str, port: int) -> None:
    """Serve one ERP until somebody says to end. Lacking where this machine cannot."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    print(f"Starting {name}; what it needs is kept in {home()}. The first time takes two minutes.", flush=True)
    begun = time.monotonic()
    erp = await ERPS[name](port)
    try:
        print(f"{erp.url} after {time.monotonic() - begun:.0f} s", flush=True)
        print(f"database {erp.database}  login {erp.login}  key {erp.key}", flush=True)
        print(f"PostgreSQL {erp.postgres.url(erp.database)}  log {erp.output}  Ctrl-C ends it", flush=True)
        await ended.wait()
    finally:
        erp.close()


def main(name: str = "", port: str = "0") -> int:
    if name not in ERPS:
        print(f"usage: {USAGE}")
        return 2
    try:
        asyncio.run(serve(name, int(port)))
    except Lacking as missing:
        print(f"No {name} here: {missing}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
