"""Two faults at once: each is survived alone, and neither may be what the other is survived by."""

import asyncio
import time
from collections import Counter
from contextlib import suppress

from tests.faults.bell import only_200
from tests.faults.cases import Case
from tests.faults.disks import needs_mounts, resize
from tests.faults.killing import recovered
from tests.faults.stage import DISK, SQLITE, Setting, Stage
from tests.faults.storage import FLOOR, ROOM, ROOMY, SMALL, filled_up, goes_on
from tests.servers import eventually

BACK_WITHIN = 10.0


async def no_bell_and_no_worker(stage: Stage) -> None:
    """Redis is away, and a worker is killed and comes back before Redis does."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(stage.scale.load / 4)
    stage.servers.get_running_valkey().kill()
    await stage.under_load(1)
    before = len(stage.plain.taken_markers)
    await stage.kill(stage.worker)
    await recovered(stage)
    await stage.under_load(stage.scale.outage)
    stage.require(
        len(stage.plain.taken_markers) > before,
        f"{len(stage.plain.taken_markers) - before} delivered while Redis was away",
    )
    await asyncio.to_thread(stage.servers.get_valkey)
    await stage.sound_again(BACK_WITHIN)
    await stage.under_load(stage.scale.load / 4)
    if stage.kind != SQLITE:
        only_200(stage)


async def full_disk_and_restart(stage: Stage) -> None:
    """The disk is at its floor, and the hub is killed there: it starts, refuses, and goes on once there is room."""
    await filled_up(True, stage)
    await stage.kill(stage.receiver)
    await stage.start(stage.receiver)
    await stage.degraded("full")
    began, before = time.time(), stage.store.answers[503]
    # All that was refused a connection comes at once, and a busy machine's store is slow to post it.
    await eventually(lambda: stage.store.answers[503] > before, 60)
    await asyncio.sleep(stage.scale.outage)
    meanwhile = Counter(one.status for one in stage.store.answered if one.at + one.seconds >= began)
    stage.require(meanwhile.keys() == {503}, f"answers while full: {dict(meanwhile)}")
    resize(stage.folder / DISK, ROOM)
    await goes_on(stage)


async def brim_and_restart(stage: Stage) -> None:
    """Not a byte is left, and the hub is killed: it may not come up before there is room, and loses nothing."""
    await filled_up(False, stage)
    await stage.kill(stage.receiver)
    up = False
    with suppress(AssertionError):
        await stage.start(stage.receiver)
        up = True
    stage.note("came up while full" if up else "did not come up while full")
    resize(stage.folder / DISK, ROOM)
    if not up:
        await stage.start(stage.receiver)
    await goes_on(stage)


PAIRS = [
    Case(
        "pair", "redis+worker", "Redis away, and kill -9 worker (F05, F03)", no_bell_and_no_worker,
        setting=Setting(given_redis=True),
    ),
    *needs_mounts(
        Case(
            "pair", "floor+restart", "the disk at its floor, and kill -9 (F12, F02)", full_disk_and_restart, [SQLITE],
            Setting(disk_size=SMALL, config={"disk": {"min_free": FLOOR, "min_free_percent": 0}}),
        ),
        Case(
            "pair", "full+restart", "the disk full to the brim, and kill -9 (F12, F02)", brim_and_restart, [SQLITE],
            Setting(disk_size=ROOMY),
        ),
    ),
]  # fmt: skip
