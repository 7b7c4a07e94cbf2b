"""The hub of the demo: `hub up` in a process of its own, which ends with the demo however that ends."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx

from hub.errors import CommandError
from hub.valkey import bound_to_parent

LAST_LINES = 15
LOOK_EVERY = 0.02
STOP_WITHIN = 30.0


@dataclass(frozen=True)
class RunningHub:
    """A hub that listens on `url`; `dashboard` is its link that logs in once."""

    url: str
    dashboard: str
    config: Path
    process: asyncio.subprocess.Process

    @property
    def webhook_url(self) -> str:
        return f"{self.url}/webhooks/main"

    async def deliveries(self) -> list[dict[str, Any]]:
        """All deliveries as the hub itself lists them, asked over its local socket."""
        note = json.loads((self.config.parent / "data" / "hub.json").read_text())
        transport = httpx.AsyncHTTPTransport(uds=note["socket"])
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            answer = await client.post("/deliveries", json={"limit": 1000})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["result"]["deliveries"]
        return found

    async def death(self) -> NoReturn:
        """Waits for the hub to end, which it should not: raises CommandError with its last words."""
        code = await self.process.wait()
        raise CommandError(_last_words(self.config.parent, code))


@asynccontextmanager
async def running_hub(config: Path) -> AsyncIterator[RunningHub]:
    """The hub of that config, from listening to its end in good order. Raises CommandError if it does not start."""
    process = await _spawn(config)
    try:
        url = await _listening(config.parent, process)
        # Said before it listens.
        yield RunningHub(url, _said(config.parent, "dashboard.link") or "", config, process)
    finally:
        await _end(process)


async def _spawn(config: Path) -> asyncio.subprocess.Process:
    command = [sys.executable, "-P", "-m", "hub.cli", "up", "--config", str(config)]
    with _log(config.parent).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *bound_to_parent(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Its sockets go where they are removed with everything else.
            env=os.environ | {"TMPDIR": str(config.parent)},
            # Ctrl-C in the terminal is for the demo, which then ends the hub in good order.
            start_new_session=True,
        )


def _log(folder: Path) -> Path:
    return folder / "hub.log"


async def _listening(folder: Path, process: asyncio.subprocess.Process) -> str:
    while True:
        ended = process.returncode
        if url := _said(folder, "hub.listening"):
            return url
        if ended is not None:
            raise CommandError(_last_words(folder, ended))
        await asyncio.sleep(LOOK_EVERY)


def _said(folder: Path, event: str) -> str | None:
    """The URL in the log's line of that event."""
    for line in _log(folder).read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("event") == event:
                return str(said["url"])
    return None


def _last_words(folder: Path, code: int) -> str:
    how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    lines = _log(folder).read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"the hub ended by itself ({how}); the end of its log:", *lines])


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
