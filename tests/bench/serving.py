"""The servers under load, each a process: `python -m tests.bench.serving KIND --config FILE`.

KIND is `null` (answers 200 and does nothing), `hub` (the receiver alone, without a worker beside it), `dropping` (the
same beside retention, which is at work all the time) or `afternoon`. All have the same event loop, the same uvicorn and
the same collector; the hub alone has its own bounds on connections.
"""

import argparse
import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.config import Config, load_config
from hub.jobs import open_bells
from hub.keeping import Place, drop_old
from hub.logs import configure_logs
from hub.process import BACKLOG, GRACEFUL, bound, listening, opened_database, redis_settings, serving
from hub.redaction import redactor
from hub.runtime import Hub, open_hub
from hub.schema import upgrade
from tests.bench.afternoon import create_afternoon
from tests.hubs import SECRET

log = structlog.get_logger()


async def nothing(request: Request) -> Response:
    return Response(b"ok", media_type="text/plain")


@asynccontextmanager
async def bare_hub(config: Config) -> AsyncIterator[Hub]:
    """A hub over a database of the current schema, with bells through its Redis; no loops, no server."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_database(config))
        await upgrade(database, config.database.reveal())
        redis = await stack.enter_async_context(redis_settings(config))
        bells = await stack.enter_async_context(open_bells(redis, in_process=True))
        yield await stack.enter_async_context(open_hub(config, database, bells))


async def drop_for_ever(hub: Hub) -> None:
    """What a worker does now and then, again and again."""
    while True:
        await drop_old(hub, Place())


def collect_rarely() -> None:
    """The collector as hub.process.serving sets it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@asynccontextmanager
async def serving_app(app: Starlette) -> AsyncIterator[None]:
    """Serve on a free port, with the settings of hub.process.serving."""
    sock = bound("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http="httptools", ws="none", backlog=BACKLOG, log_config=None, access_log=False, server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=GRACEFUL,
    )  # fmt: skip
    collect_rarely()
    async with listening(config, [sock], f"http://127.0.0.1:{sock.getsockname()[1]}") as listens:
        log.info("hub.listening", url=listens.url)
        yield


async def main(kind: str, config: Config) -> None:
    """Serve until SIGTERM."""
    configure_logs(config.log.level, config.log.format, redactor(config.secrets()))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        if kind in {"hub", "dropping"}:
            hub = await stack.enter_async_context(bare_hub(config))
            if kind == "dropping":
                dropping = asyncio.create_task(drop_for_ever(hub))
                stack.callback(dropping.cancel)
            await stack.enter_async_context(serving(hub))
        elif kind == "afternoon":
            redis = await stack.enter_async_context(redis_settings(config))
            app = create_afternoon(config.data_dir / "afternoon.db", SECRET, redis)
            await stack.enter_async_context(serving_app(app))
        else:
            app = Starlette(routes=[Route("/webhooks/{store}", nothing, methods=["POST"])])
            await stack.enter_async_context(serving_app(app))
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("null", "hub", "dropping", "afternoon"))
    parser.add_argument("--config", type=Path, required=True)
    given = parser.parse_args()
    uvloop.run(main(given.kind, load_config(given.config, {})))
