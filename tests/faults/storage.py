"""F09, F11, F12, F14: the database away, locked, on a full disk, and on one that takes no write."""

import asyncio
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.faults.bell import only_200
from tests.faults.cases import Case
from tests.faults.disks import needs_mounts, resize
from tests.faults.stage import DISK, POSTGRESQL, SQLITE, Setting, Stage
from tests.servers import eventually

FIRST_WITHIN = 3.0
MOST_LOG = 64 * 2**20
SMALL = "16m"
# An empty database of PostgreSQL alone is half of that.
ROOMY = "32m"
FLOOR = "6MiB"
ROOM = "256m"

# Runs beside the hub: holds SQLite's write lock, or reads for long, or writes a little again and again.
LOCK = "c.execute('BEGIN IMMEDIATE'); print('ready', flush=True); time.sleep(seconds); c.execute('ROLLBACK')"
READ = (
    "c.execute('BEGIN'); c.execute('SELECT count(*) FROM event').fetchall(); print('ready', flush=True);"
    " time.sleep(seconds); c.execute('ROLLBACK')"
)
WRITE = """
print('ready', flush=True)
end = time.monotonic() + seconds
number = 0
while time.monotonic() < end:
    number += 1
    c.execute('BEGIN IMMEDIATE')
    c.execute(f'PRAGMA user_version = {number}')
    time.sleep(0.002)
    c.execute('COMMIT')
    time.sleep(0.001)
"""
NO_FILES = """
import contextlib, os, resource, sys
user, *pids = map(int, sys.argv[1:])
if os.geteuid() == 0:
    group = os.stat(f"/proc/{pids[0]}").st_gid
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
for pid in pids:
    with contextlib.suppress(ProcessLookupError):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
"""
OTHER = """
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
seconds = float(sys.argv[2])
"""


def during(stage: Stage, began: float, ended: float) -> dict[int, int]:
    """How often each status was answered to what was posted in that time; -1 for no answer."""
    found: dict[int, int] = {}
    for one in stage.store.answered:
        if began <= one.at and one.at + one.seconds <= ended:
            found[one.status] = found.get(one.status, 0) + 1
    return found


async def postgres_ends(number: signal.Signals, stage: Stage) -> None:
    """PostgreSQL is told to stop, or killed, is away, and comes back."""
    postgres = stage.servers.postgres
    assert postgres is not None
    await stage.start_all()
    stage.begin_load()
    stage.outages += 1
    await stage.under_load(stage.scale.load / 4)
    postgres.send(number)
    assert postgres.process is not None
    await asyncio.to_thread(postgres.process.wait)
    began = time.time()
    await eventually(refuses(stage), 20)
    stage.require(True, "not ready during")
    await asyncio.sleep(max(began + stage.scale.outage - time.time(), 0))
    ended = time.time()
    await asyncio.to_thread(postgres.start)
    back = time.time()
    stage.at_most("first 2xx after it was ready", await stage.first_ack(back), FIRST_WITHIN)
    meanwhile = during(stage, began, ended)
    stage.require(meanwhile.keys() <= {503, -1} and meanwhile.get(503, 0) > 0, f"answers while away: {meanwhile}")
    stage.require(all_say_when(stage), "each 503 with Retry-After")
    await stage.sound_again()
    await stage.under_load(stage.scale.load / 4)


def refuses(stage: Stage) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not await stage.ready()

    return look


def all_say_when(stage: Stage) -> bool:
    """Whether each 503 said when to come again."""
    return all(one.again for one in stage.store.answered if one.status == 503)


async def beside(stage: Stage, script: str, seconds: float) -> "asyncio.subprocess.Process":
    """Another process at the same SQLite file, once it has begun."""
    path = stage.database_url.removeprefix("sqlite:///")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER + script, path, str(seconds), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready"
    return process


async def locked(seconds: float, stage: Stage) -> None:
    """Another process holds the write lock for so long."""
    await stage.start_all()
    stage.begin_load()
    stage.outages += 1
    await stage.under_load(stage.scale.load / 4)
    began = time.time()
    other = await beside(stage, LOCK, seconds)
    await other.wait()
    ended = time.time()
    stage.at_most("first 2xx after the lock", await stage.first_ack(ended), FIRST_WITHIN)
    found = during(stage, began, ended + FIRST_WITHIN)
    if seconds <= 3:
        only_200(stage)
    else:
        stage.require(found.keys() <= {200, 503} and found.get(503, 0) > 0, f"answers: {found}")
        stage.require(all_say_when(stage), "each 503 with Retry-After")
    await stage.sound_again()
    await stage.under_load(stage.scale.load / 4)


async def written_beside(stage: Stage) -> None:
    """Another process writes in between, again and again: no transaction of ours may find itself overtaken."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(1)
    other = await beside(stage, WRITE, stage.scale.short)
    await other.wait()
    await stage.under_load(1)
    only_200(stage)
    # The receiver's own first statement writes; it is the others that read first, and would be tried again.
    overtaken = sum(line.get("reason") == "database is locked" for line in stage.hubs["hub"].lines)
    stage.require(not overtaken, f"{overtaken} transactions overtaken")


async def read_beside(stage: Stage) -> None:
    """A reader that stays for long keeps the log from being taken over; afterwards it is cut back."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(1)
    log = Path(stage.database_url.removeprefix("sqlite:///") + "-wal")
    other = await beside(stage, READ, stage.scale.reader)
    await other.wait()
    largest = size_of(log)
    await stage.under_load(stage.scale.load / 4)
    only_200(stage)
    size = size_of(log)
    stage.require(size < MOST_LOG, f"log {largest / 2**20:.1f} MiB during, {size / 2**20:.1f} MiB after (allowed < 64)")


def size_of(path: Path) -> int:
    return path.stat().st_size


async def disk_full(floor: bool, stage: Stage) -> None:
    """The disk of the database fills up: refused before it is full (the floor), or when it is; all goes on after."""
    await filled_up(floor, stage)
    began = time.time()
    if stage.kind == POSTGRESQL:
        # Whoever asks for the status there is a process of its own, which writes nothing.
        await eventually(refuses(stage), 60)
        stage.require(True, "not ready during")
    else:
        await stage.degraded("full" if floor else "database")
    await asyncio.sleep(stage.scale.outage)
    ended = time.time()
    meanwhile = during(stage, began, ended)
    stage.require(
        meanwhile.get(503, 0) > 0 and (not floor or meanwhile.keys() == {503}), f"answers while full: {meanwhile}"
    )
    stage.require(all_say_when(stage), "each 503 with Retry-After")
    resize(stage.folder / DISK, ROOM)
    await goes_on(stage)


async def filled_up(floor: bool, stage: Stage) -> None:
    """Under load the disk is filled to its floor, or to the brim; the hub has refused something since."""
    await stage.start_all()
    stage.begin_load()
    stage.outages += 1
    await stage.under_load(stage.scale.load / 4)
    await asyncio.to_thread(fill, stage.folder / DISK / "filler", 2**22 if floor else 0)
    await eventually(lambda: stage.store.answers[503] > 0, 60)


async def goes_on(stage: Stage) -> None:
    """There is room again: it acknowledges in time, is sound, and what SQLite keeps is whole."""
    stage.at_most("first 2xx after there was room", await stage.first_ack(time.time()), 2 + FIRST_WITHIN)
    await stage.sound_again()
    await stage.under_load(stage.scale.load / 4)
    if stage.kind == SQLITE:
        whole(stage)


def fill(path: Path, leave: int) -> None:
    """Write until so many bytes are free, or none is."""
    with path.open("wb", buffering=0) as file:
        while True:
            usage = shutil.disk_usage(path.parent)
            if usage.free <= leave:
                return
            try:
                file.write(b"\0" * min(2**16, max(usage.free - leave, 4096)))
            except OSError:
                return


def whole(stage: Stage) -> None:
    """SQLite finds nothing wrong in its file."""
    path = Path(stage.database_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    stage.require(said == "ok", f"integrity {said}")


async def no_more_writes(stage: Stage) -> None:
    """The running process may make no file longer, as on a disk that has gone read-only; and may again."""
    await stage.start_all()
    stage.begin_load()
    stage.outages += 1
    await stage.under_load(stage.scale.load / 4)
    pid = stage.hubs["hub"].pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    began = time.time()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    await eventually(lambda: stage.store.answers[503] > 0, 60)
    refused = time.time()
    await stage.degraded("database")
    await asyncio.sleep(max(began + stage.scale.outage - time.time(), 1))
    ended = time.time()
    meanwhile = during(stage, refused, ended)
    stage.require(meanwhile.keys() == {503}, f"answers meanwhile: {meanwhile}")
    stage.require(all_say_when(stage), "each 503 with Retry-After")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    stage.at_most("first 2xx after", await stage.first_ack(time.time()), FIRST_WITHIN)
    await stage.sound_again()
    await stage.under_load(stage.scale.load / 4)
    whole(stage)


async def no_more_writes_of_postgres(stage: Stage) -> None:
    """PostgreSQL may make no file longer: it ends itself. Whoever runs it starts it again, where it may."""
    postgres = stage.servers.postgres
    assert postgres is not None
    assert postgres.process is not None
    await stage.start_all()
    stage.begin_load()
    stage.outages += 1
    await stage.under_load(stage.scale.load / 4)
    began = time.time()
    await asyncio.to_thread(forbid_writes, family(postgres.process.pid))
    await eventually(lambda: stage.store.answers[503] > 0, 60)
    refused = time.time()
    await eventually(refuses(stage), 60)
    stage.require(True, "not ready during")
    await asyncio.sleep(max(began + stage.scale.outage - time.time(), 1))
    meanwhile = during(stage, refused, time.time())
    stage.require(meanwhile.keys() <= {503, -1}, f"answers meanwhile: {meanwhile}")
    stage.note("PostgreSQL runs" if postgres.running() else "PostgreSQL ended itself")
    postgres.kill()
    await asyncio.to_thread(postgres.start)
    stage.at_most("first 2xx after it was ready", await stage.first_ack(time.time()), FIRST_WITHIN)
    stage.require(all_say_when(stage), "each 503 with Retry-After")
    await stage.sound_again()
    await stage.under_load(stage.scale.load / 4)


def family(pid: int) -> list[int]:
    """A process and its children; a PostgreSQL forks no further."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def forbid_writes(pids: Sequence[int]) -> None:
    """None of these may write to a file from now on. Asked as their own user: root may not in a container."""
    owner = Path(f"/proc/{pids[0]}").stat()
    subprocess.run([sys.executable, "-I", "-S", "-c", NO_FILES, str(owner.st_uid), *map(str, pids)], check=True)


STORAGE = [
    Case("F09", "fast", "PostgreSQL stopped (fast), away, back", partial(postgres_ends, signal.SIGINT), [POSTGRESQL]),
    Case("F09", "immediate", "PostgreSQL stopped (immediate)", partial(postgres_ends, signal.SIGQUIT), [POSTGRESQL]),
    Case("F09", "kill", "kill -9 postmaster", partial(postgres_ends, signal.SIGKILL), [POSTGRESQL]),
    Case("F11", "lock 3", "another process holds the write lock 3 s", partial(locked, 3.0), [SQLITE]),
    Case("F11", "lock 10", "another process holds the write lock 10 s", partial(locked, 10.0), [SQLITE]),
    Case("F11", "writer", "another process writes in between", written_beside, [SQLITE]),
    Case("F11", "reader", "another process reads for long", read_beside, [SQLITE]),
    *needs_mounts(
        Case(
            "F12", "floor", "the disk fills to the floor", partial(disk_full, True), [SQLITE],
            Setting(disk_size=SMALL, config={"disk": {"min_free": FLOOR, "min_free_percent": 0}}),
        ),
        Case("F12", "full", "the disk fills to the brim", partial(disk_full, False), setting=Setting(disk_size=ROOMY)),
    ),
    Case("F14", "", "the process may write no file (RLIMIT_FSIZE)", no_more_writes, [SQLITE]),
    Case("F14", "server", "PostgreSQL may write no file (RLIMIT_FSIZE)", no_more_writes_of_postgres, [POSTGRESQL]),
]  # fmt: skip
