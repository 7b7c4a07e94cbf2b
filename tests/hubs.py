"""Hubs as processes of their own, for tests that kill, stop and watch them from outside."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hub.config import load_config
from hub.process import opened_database
from hub.schema import upgrade

ROOT = Path(__file__).parents[1]
SECRET = "the webhook secret of the test shop"
START_WITHIN = 90.0
STOP_WITHIN = 60.0
READY = {"work": "hub.working", "dashboard": "dashboard.listening"}
QUICK = ["50ms", "100ms", "200ms", "400ms", "800ms"]


def route(url: str, **more: Any) -> dict[str, Any]:
    """A route of the webhook connector to `url`, with a quick schedule."""
    base = {"connector": "webhook", "settings": {"url": url}, "timeout": "30s", "retry": {"schedule": QUICK}}
    return base | more


def config_of(routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A config for one store `main`, on free ports, everything on loopback allowed.

    A lease's margin is what is usual: with less, an attempt that a busy machine begins late is put off.
    """
    base: dict[str, Any] = {
        "server": {"port": 0},
        "network": {"allow": ["127.0.0.1:*", "localhost:*"]},
        "log": {"format": "json", "level": "info"},
        "dashboard": {"port": 0},
        # A test machine's disk may be nearly full.
        "disk": {"min_free": "0B", "min_free_percent": 0},
        "stores": {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET]}},
        "routes": routes,
    }
    return base | more


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@dataclass
class HubProcess:
    """One hub process; its log lines as they came, and the URL it listens on."""

    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    ended: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return next(str(line["url"]) for line in reversed(self.lines) if line.get("event") == "hub.listening")

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"event": raw.decode(errors="replace").rstrip()}
            async with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    async def said(self, event: str, count: int = 1, timeout: float = START_WITHIN, **fields: Any) -> dict[str, Any]:
        """The `count`-th log line of that event with those fields. Raises with the log if it does not come."""

        def found() -> list[dict[str, Any]]:
            return [
                line
                for line in self.lines
                if line.get("event") == event and all(line.get(name) == value for name, value in fields.items())
            ]

        try:
            async with asyncio.timeout(timeout), self.changed:
                await self.changed.wait_for(lambda: len(found()) >= count or self.ended)
        except TimeoutError:
            pass
        if len(found()) < count:
            last = "\n".join(json.dumps(line) for line in self.lines[-30:])
            raise AssertionError(f"the hub did not say {event} {fields}; its last lines:\n{last}")
        return found()[count - 1]

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_WITHIN):
            return await self.process.wait()


@asynccontextmanager
async def hub_process(
    config: Path, *command: str, module: Sequence[str] = ("hub.cli",), env: dict[str, str] | None = None
) -> AsyncIterator[HubProcess]:
    """`hub COMMAND --config CONFIG` in a process; ready when it listens or works. Killed at the end if still there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, *command, "--config", str(config),
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, limit=2**20, cwd=ROOT,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    hub = HubProcess(process)
    reading = asyncio.create_task(hub.read())
    try:
        await hub.said(READY.get(command[0], "hub.listening"))
        yield hub
    except BaseException:
        print(f"hub {command[0]}, its last lines:", *map(json.dumps, hub.lines[-20:]), sep="\n")
        raise
    finally:
        if process.returncode is None and command[0] != "up":
            await hub.kill()
        elif process.returncode is None:
            await _end(hub)
        await reading


async def _end(hub: HubProcess) -> None:
    """A hub that a test left running is stopped in good order; killed where it is stopped or hangs."""
    with suppress(ProcessLookupError):
        os.kill(hub.pid, signal.SIGCONT)
    try:
        await hub.stop()
    except TimeoutError:
        await hub.kill()


async def command(config: Path, *words: str, env: dict[str, str] | None = None) -> tuple[int, Any, str]:
    """Run `hub WORDS --json`; exit code, parsed output (or its text), standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.cli", *words, "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, cwd=ROOT,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    out, err = await process.communicate()
    try:
        parsed = json.loads(out)
    except ValueError:
        parsed = out.decode(errors="replace")
    assert process.returncode is not None
    return process.returncode, parsed, err.decode(errors="replace")


@dataclass
class Cluster:
    """Receivers and workers beside each other on one PostgreSQL and one Redis."""

    receivers: list[HubProcess]
    workers: list[HubProcess]

    @property
    def urls(self) -> list[str]:
        return [receiver.url for receiver in self.receivers]


@asynccontextmanager
async def cluster(
    config: Path, receivers: int = 2, workers: int = 2, clocks: Sequence[float] = ()
) -> AsyncIterator[Cluster]:
    """`hub serve` and `hub work`, several of each, on an empty PostgreSQL that gets its schema first.

    `clocks`: by how many hours those of the receivers and then the workers are off; none is, where it is left out.
    """
    await make_schema(config)
    commands = ["serve"] * receivers + ["work"] * workers
    entries = [("tests.e2e.skewed", str(hours)) for hours in clocks]
    async with AsyncExitStack() as stack:
        hubs = await processes(stack, config, commands, entries)
        yield Cluster(hubs[:receivers], hubs[receivers:])


async def processes(
    stack: AsyncExitStack,
    config: Path,
    commands: Sequence[str],
    entries: Sequence[Sequence[str]] = (),
    env: dict[str, str] | None = None,
) -> list[HubProcess]:
    """A `hub_process` for each command, all started at once; `entries`: their modules, if not the hub's."""
    starting = [
        asyncio.create_task(stack.enter_async_context(hub_process(config, command, module=entry, env=env)))
        for command, entry in zip(commands, entries or [("hub.cli",)] * len(commands), strict=True)
    ]
    # Also where one fails, the others must be on the stack before it unwinds.
    await asyncio.wait(starting)
    return [task.result() for task in starting]


async def make_schema(config: Path) -> None:
    """What `hub db upgrade` does, without a process of its own."""
    loaded = load_config(config)
    async with opened_database(loaded) as database:
        await upgrade(database, loaded.database.reveal())
