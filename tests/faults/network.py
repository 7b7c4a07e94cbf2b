"""F19: the wires between receiver and database, worker and Redis, worker and destination are cut for a while.

The wires are our own (tests.faults.wire), since not every machine lets a test make network namespaces: a packet that
is dropped is a wire that hangs, RST is RST, and one-way carries requests and no answers.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.faults.bell import only_200
from tests.faults.cases import Case
from tests.faults.stage import KINDS, POSTGRESQL, Setting, Stage
from tests.faults.storage import FIRST_WITHIN, all_say_when, during

MORE_DESCRIPTORS = 5


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def partitioned(peer: str, mode: str, stage: Stage) -> None:
    """That wire is cut, and whole again: everything goes on by itself, and nothing leaks."""
    wire = stage.wire
    assert wire is not None
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(stage.scale.load / 4)
    pids = {name: stage.hubs[name].pid for name in stage.names}
    before = {name: (descriptors(pid), threads(pid)) for name, pid in pids.items()}
    began = time.time()
    await wire.become(mode)
    await asyncio.sleep(stage.scale.partition)
    ended = time.time()
    await wire.become("pass")
    healed = time.time()
    if peer == "database":
        stage.outages += 1
        # Whoever waits on a wire that only hung must first learn it by a deadline of its own.
        stage.at_most("first 2xx after", await stage.first_ack(healed), 16 if mode != "reset" else FIRST_WITHIN)
        meanwhile = during(stage, began, ended)
        stage.require(200 not in meanwhile or mode == "hang", f"answers meanwhile: {meanwhile}")
        stage.require(all_say_when(stage), "each 503 with Retry-After")
    else:
        only_200(stage)
    await stage.under_load(stage.scale.load / 4)
    await stage.end_load()
    await stage.sound_again(90)
    await stage.drained()
    await nothing_leaks(stage, pids, before)


async def nothing_leaks(stage: Stage, pids: dict[str, int], before: dict[str, tuple[int, int]]) -> None:
    """Descriptors and threads are back to what they were."""
    deadline = time.monotonic() + 30
    while True:
        more = {
            name: (descriptors(pid) - before[name][0], threads(pid) - before[name][1]) for name, pid in pids.items()
        }
        leaked = {
            name: found for name, found in more.items() if found[0] > MORE_DESCRIPTORS or found[1] > MORE_DESCRIPTORS
        }
        if not leaked or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    most = max(found[0] for found in more.values())
    stage.require(not leaked, f"leaked {leaked}" if leaked else f"descriptors {most:+d}")


def parted(peer: str, mode: str, what: str, kinds: Sequence[str]) -> Case:
    return Case(
        "F19", f"{peer} {mode}", f"{what}, by a proxy", partial(partitioned, peer, mode), kinds, Setting(wired=peer)
    )


NETWORK = [
    parted("database", "hang", "hub and database parted (packets dropped)", [POSTGRESQL]),
    parted("database", "reset", "hub and database parted (RST)", [POSTGRESQL]),
    parted("database", "one-way", "no way back from the database", [POSTGRESQL]),
    parted("redis", "hang", "hub and Redis parted (packets dropped)", KINDS),
    parted("redis", "closed", "hub and Redis parted (connections refused)", KINDS),
    parted("erp", "one-way", "no way back from a destination", KINDS),
    parted("erp", "closed", "worker and destination parted (connections refused)", KINDS),
]
