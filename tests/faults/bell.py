"""F05-F08: Redis killed, emptied, full, and hanging. The database is the record; Redis only says when to look."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from functools import partial

from tests.faults.cases import Case
from tests.faults.disks import mounted, needs_mounts
from tests.faults.stage import POSTGRESQL, SQLITE, Setting, Stage

SLOWEST_ACK = 0.5
BACK_WITHIN = 10.0
FLUSHES = 5
# Less than an empty Valkey holds, so that it takes nothing more.
TOO_LITTLE = "1mb"


def embedded_pid(stage: Stage) -> int:
    """The process of the hub's own Valkey, whichever it is just now."""
    record = stage.configs["hub"].parent / "data" / "valkey.json"
    return int(json.loads(record.read_text())["pid"])


def send(stage: Stage, number: signal.Signals) -> None:
    """A signal to Redis."""
    if stage.kind == SQLITE:
        os.kill(embedded_pid(stage), number)
    else:
        stage.servers.get_running_valkey().send(number)


async def trouble(
    stage: Stage,
    seconds: float,
    begin: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    away: str | None,
) -> None:
    """Load, with Redis in trouble in its midst: acknowledged as ever, delivered meanwhile, and back by itself.

    `away`: a word of the reason for which the status is degraded meanwhile; None where Redis still answers.
    """
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(stage.scale.load / 4)
    before = len(stage.plain.taken_markers)
    began = time.time()
    await begin()
    if away is not None:
        await stage.degraded(away, seconds + 20)
    await asyncio.sleep(max(began + seconds - time.time(), 0))
    ended = time.time()
    stage.require(
        len(stage.plain.taken_markers) > before, f"{len(stage.plain.taken_markers) - before} delivered meanwhile"
    )
    await end()
    await stage.sound_again(BACK_WITHIN)
    await stage.under_load(stage.scale.load / 4)
    only_200(stage)
    stage.at_most("ack p99 meanwhile", stage.store.p99(began, ended), SLOWEST_ACK, digits=2)


def only_200(stage: Stage) -> None:
    """Nothing was answered anything else, and nothing went without an answer."""
    others = {status: count for status, count in stage.store.answers.items() if status != 200}
    stage.require(not others, f"non-2xx {sum(others.values())}" + (f" {others}" if others else ""))


async def killed(stage: Stage) -> None:
    """kill -9. The embedded one, which comes back by itself, again and again for as long."""
    killing: list[asyncio.Task[None]] = []

    async def again() -> None:
        while True:
            for _ in range(20):
                try:
                    send(stage, signal.SIGKILL)
                except (OSError, ValueError):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.02)

    async def begin() -> None:
        if stage.kind == POSTGRESQL:
            stage.servers.get_running_valkey().kill()
        else:
            killing.append(asyncio.create_task(again()))

    async def end() -> None:
        if stage.kind == POSTGRESQL:
            await asyncio.to_thread(stage.servers.get_valkey)
        for task in killing:
            task.cancel()

    await trouble(stage, stage.scale.outage, begin, end, "Redis")


async def flushed(stage: Stage) -> None:
    """FLUSHALL, again and again; no delivery is under way twice at once because of it."""
    valkey = stage.servers.get_running_valkey()

    async def begin() -> None:
        for _ in range(FLUSHES):
            await asyncio.to_thread(valkey.flush)
            await asyncio.sleep(stage.scale.outage / FLUSHES)

    await trouble(stage, stage.scale.outage, begin, nothing, None)
    stage.note(f"{FLUSHES} times FLUSHALL, never two requests of one key at once")


async def full(policy: str, stage: Stage) -> None:
    """No memory left: what would be enqueued is refused, or thrown away again."""

    async def configure(memory: str, policy: str) -> None:
        def apply() -> None:
            with stage.servers.get_running_valkey().client() as client:
                client.config_set("maxmemory-policy", policy)
                client.config_set("maxmemory", memory)

        await asyncio.to_thread(apply)

    await trouble(
        stage, stage.scale.outage, lambda: configure(TOO_LITTLE, policy), lambda: configure("0", "noeviction"), None
    )


async def aof_disk_full(stage: Stage) -> None:
    """The disk of its append-only file is full: it takes no write any more."""
    valkey = stage.servers.get_running_valkey()
    filler = valkey.folder / "filler"

    def fill() -> None:
        with valkey.client() as client:
            client.config_set("appendfsync", "everysec")
            client.config_set("appendonly", "yes")
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True, check=False)

    def make_room() -> None:
        filler.unlink()
        with valkey.client() as client:
            client.config_set("appendonly", "no")

    async def end() -> None:
        await asyncio.to_thread(make_room)

    await trouble(stage, stage.scale.outage, lambda: asyncio.to_thread(fill), end, None)


async def aof(stage: Stage) -> None:
    """With the Valkey's folder on a small disk of its own."""
    valkey = stage.servers.get_running_valkey()
    valkey.kill()
    with mounted(valkey.folder, "4m"):
        try:
            await asyncio.to_thread(stage.servers.get_valkey)
            await aof_disk_full(stage)
            await stage.end_load()
        finally:
            valkey.kill()
    await asyncio.to_thread(stage.servers.get_valkey)


async def hanging(stage: Stage) -> None:
    """SIGSTOP: it takes connections and never answers."""

    async def begin() -> None:
        send(stage, signal.SIGSTOP)

    async def end() -> None:
        send(stage, signal.SIGCONT)

    await trouble(stage, stage.scale.outage, begin, end, "Redis")


async def nothing() -> None:
    """Nobody does anything about it."""


# `hub up` has its own Redis out of anyone's reach, unless it is given one.
GIVEN = Setting(given_redis=True)
BELL = [
    Case("F05", "", "Redis kill -9, away, back", killed),
    Case("F06", "", "FLUSHALL again and again", flushed, setting=GIVEN),
    Case("F07", "noeviction", "Redis out of memory, noeviction", partial(full, "noeviction"), setting=GIVEN),
    Case("F07", "volatile-lru", "Redis out of memory, volatile-lru", partial(full, "volatile-lru"), setting=GIVEN),
    *needs_mounts(Case("F07", "aof", "the disk of Redis's append-only file is full", aof, setting=GIVEN)),
    Case("F08", "", "Redis hangs (SIGSTOP)", hanging),
]
