"""F04, F20, F21, F24: a worker that stands still, orderly stops, events that kill, and a machine that is lost."""

import asyncio
import os
import resource
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, func, select

from hub.store import ATTEMPT, DELIVERY
from hub.testing import Answer
from tests.faults.cases import Case
from tests.faults.stage import PATIENCE, POSTGRESQL, SQLITE, Setting, Stage, database_name, markers_by_id, open_work
from tests.hubs import HubProcess, command
from tests.servers import eventually

STOP_WITHIN = 20.0
LEASES = 3
# It may have stopped within a transaction, whose locks PostgreSQL takes back only then.
TRANSACTION = 12.0
# Of address space, beyond what the process has: enough for its work, not for a greedy connector.
SPARE = 2**29


async def stands_still(stage: Stage) -> None:
    """SIGSTOP for three leases, then SIGCONT: what it finishes late overwrites nothing."""
    stage.plain.default = Answer(wait=0.5)
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(2)
    slow = stage.hubs[stage.worker]
    under_way = await eventually(partial(stopped_at_work, stage, slow), 60)
    stage.note(f"{len(under_way)} under way when it stopped")
    stage.outages += 1
    await stage.under_load(LEASES * stage.scale.lease + (TRANSACTION if stage.kind == POSTGRESQL else 0))
    if stage.kind == POSTGRESQL:
        # What has waited for its locks meanwhile is older, and goes first.
        await stage.comes(partial(stage.read, partial(taken_over, under_way)), PATIENCE)
    slow.send_signal(signal.SIGCONT)
    await stage.under_load(2)
    await stage.end_load()
    await stage.drained()
    if stage.kind == POSTGRESQL:
        await stage.comes(partial(stage.read, late_attempts), 30)
    late = await stage.read(late_attempts)
    stage.require(late > 0 or stage.kind == SQLITE, f"late {late}")


async def stopped_at_work(stage: Stage, hub: HubProcess) -> dict[str, int]:
    """The attempts that process had under way when it was stopped; where there were none it goes on."""
    hub.send_signal(signal.SIGSTOP)
    found = await stage.read(partial(attempts_of, hub.pid))
    if not found:
        hub.send_signal(signal.SIGCONT)
    return found


def attempts_of(pid: int, connection: Connection) -> dict[str, int]:
    """The attempts of a process that have no outcome yet: delivery and number."""
    query = select(ATTEMPT.c.delivery_id, ATTEMPT.c.number).where(ATTEMPT.c.outcome.is_(None))
    found = connection.execute(query.where(ATTEMPT.c.worker.endswith(f":{pid}")))
    return {row.delivery_id: row.number for row in found}


def taken_over(attempts: dict[str, int], connection: Connection) -> bool:
    """Whether one of these deliveries was tried anew."""
    rows = connection.execute(select(DELIVERY).where(DELIVERY.c.id.in_(attempts)))
    return any(row.attempts > attempts[row.id] for row in rows)


def late_attempts(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(ATTEMPT).where(ATTEMPT.c.outcome == "late")).scalar_one()


async def stopped_in_turn(stage: Stage) -> None:
    """SIGTERM to one process after the other under load, each started again."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(1)
    times = []
    for number in range(stage.scale.stops):
        name = stage.names[number % len(stage.names)]
        began = time.monotonic()
        code = await stage.hubs[name].stop()
        times.append(time.monotonic() - began)
        stage.require(code == 0, f"{name} ended with {code}") if code else None
        await stage.start(name)
        await stage.under_load(1)
    stage.at_most(f"{len(times)} stops, the longest", max(times), STOP_WITHIN)
    only_answered_200(stage)


def only_answered_200(stage: Stage) -> None:
    """Every answer was a 200; who knocked in vain (0) went elsewhere, as behind a proxy.

    A connection that the stopping process closes between two requests may lose a request on its way to it (-1): no
    server can help that, nothing was said, and it is sent again.
    """
    others = {status: count for status, count in stage.store.answers.items() if status not in {200, 0, -1}}
    stage.note(f"{stage.store.answers[-1]} answers that never came (the connection was just closed)")
    stage.require(not others, f"non-2xx {sum(others.values())}" + (f" {others}" if others else ""))


async def interrupted(stage: Stage) -> None:
    """Ctrl-C, which goes to the whole group of processes: Redis is there until the hub is done."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(2)
    hub = stage.hubs["hub"]
    os.killpg(hub.pid, signal.SIGINT)
    async with asyncio.timeout(60):
        code = await hub.process.wait()
    stage.require(code == 0, f"ended with {code}")
    await eventually(lambda: hub.ended)
    ended = [line for line in hub.lines if line.get("event") == "valkey.ended"]
    stage.require(not ended, "its Redis outlived it" if not ended else "its Redis was ended with it")
    await stage.start("hub")
    await stage.under_load(1)


async def poisoned(stage: Stage) -> None:
    """An event that ends each process that tries it: after three it is kept apart, and all others go on."""
    await stage.start_all()
    keeping = [asyncio.create_task(kept_up(stage, name)) for name in stage.names if not name.startswith("receiver")]
    try:
        stage.begin_load()
        await stage.under_load(1)
        marker = await stage.store.send(poison=True, type="order.placed")
        await stage.store.resend(marker)
        await eventually(partial(stage.read, partial(became, "fatal", "dead")), 180)
        await stage.under_load(1)
    finally:
        for task in keeping:
            task.cancel()
    deaths = stage.kills
    stage.require(deaths == 3, f"{deaths} processes ended by it")
    stage.dead = 1
    await stage.end_load()
    await stage.drained()
    parked = await stage.read(partial(reason_of, "fatal"))
    stage.require("kept apart" in parked, f"parked: {parked}")


async def kept_up(stage: Stage, name: str) -> None:
    """Start it again whenever it ends, as a supervisor does."""
    while True:
        await stage.died(name, 1e6)
        await stage.start(name)


def became(route: str, status: str, connection: Connection) -> int:
    query = select(func.count()).select_from(DELIVERY)
    return connection.execute(query.where(DELIVERY.c.route == route, DELIVERY.c.status == status)).scalar_one()


def reason_of(route: str, connection: Connection) -> str:
    return str(connection.execute(select(DELIVERY.c.last_error).where(DELIVERY.c.route == route)).scalar())


async def out_of_memory(stage: Stage) -> None:
    """A bound on the worker's address space, and a connector that takes all there is: its delivery fails, no other."""
    await stage.start_all()
    pid = stage.hubs[stage.worker].pid
    for name in stage.names:
        if name.startswith("worker") and name != stage.worker:
            await stage.hubs[name].stop()
    used = address_space(pid)
    resource.prlimit(pid, resource.RLIMIT_AS, (used + SPARE, used + SPARE))
    stage.begin_load()
    await stage.under_load(1)
    for _ in range(3):
        marker = await stage.store.send(hungry=True, type="order.placed")
        await stage.store.resend(marker)
    await eventually(lambda: stage.read(partial(dead_of, "hungry", 3)), 60)
    await stage.under_load(1)
    stage.dead = 3
    stage.require(stage.hubs[stage.worker].process.returncode is None, "the worker lives")
    said = await stage.read(partial(reason_of, "hungry"))
    stage.require("MemoryError" in said, f"3 of 3 dead, shown: {said}")


def address_space(pid: int) -> int:
    """Bytes of address space that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def dead_of(route: str, count: int, connection: Connection) -> bool:
    return became(route, "dead", connection) == count


async def restored(stage: Stage) -> None:
    """A backup under load, the machine lost, the backup put on an empty one: what it holds goes on."""
    ill = Answer(503)
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(stage.scale.load / 4)
    stage.plain.decide = lambda request: ill
    await stage.under_load(1)
    before = set(stage.store.acked)
    copy = stage.folder / "copy"
    await backed_up(stage, copy)
    await stage.under_load(2)
    await stage.end_load()
    stage.plain.decide = None
    for name in stage.names:
        await stage.kill(name)
    await put_back(stage, copy)
    kept = set((await stage.read(markers_by_id)).values())
    pending = (await stage.read(open_work))["pending"]
    stage.require(before <= kept, f"restored {len(kept)}, {len(before)} of them acknowledged before the backup began")
    stage.require(pending > 0, f"{pending} deliveries pending in it")
    stage.meant = kept
    stage.doubles(pending, "pending in the backup")
    await stage.start_all()
    await stage.ask("resume", route="plain", who="case")
    await stage.drained()
    arrived = set(stage.plain.receipts)
    stage.require(kept <= arrived, f"{len(kept & arrived)} of {len(kept)} delivered")


async def backed_up(stage: Stage, copy: Path) -> None:
    if stage.kind == SQLITE:
        await stage.ask("backup", file=str(copy))
    else:
        await tool(stage, "pg_dump", "-Fc", "-f", str(copy), "-d", database_name(stage.database_url))


async def put_back(stage: Stage, copy: Path) -> None:
    """The backup on an empty machine: another folder, another database."""
    if stage.kind == SQLITE:
        stage.move_to(f"sqlite:///{stage.folder}/found/hub.db")
        code, _, errors = await command(stage.configs["hub"], "restore", str(copy), "--yes")
        stage.require(code == 0, f"restore: {code} {errors[-200:]}")
        return
    assert stage.servers.postgres is not None
    name = database_name(stage.database_url) + "_found"
    await stage.servers.postgres.run(f"CREATE DATABASE {name}")
    stage.stack.push_async_callback(stage.servers.postgres.run, f"DROP DATABASE {name} WITH (FORCE)")
    await tool(stage, "pg_restore", "-d", name, str(copy))
    await stage.close_database()
    stage.move_to(stage.servers.postgres.url(name))


async def tool(stage: Stage, name: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, at the case's server."""
    postgres = stage.servers.postgres
    assert postgres is not None
    line = [postgres.tool(name), "-h", str(postgres.folder), "-U", "postgres", *arguments]
    done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, check=False)
    stage.require(done.returncode == 0, f"{name}: {done.returncode} {done.stderr[-200:]}")


FATAL = {"connector": "tests.faults.connectors:Fatal", "when": "data.poison | default(false)"}
HUNGRY = {
    "connector": "tests.faults.connectors:Hungry", "when": "data.hungry | default(false)", "retry": {"schedule": []},
}  # fmt: skip
LASTING = [
    Case("F04", "", "worker stopped for 3 leases (SIGSTOP), then goes on", stands_still),
    Case("F20", "", "SIGTERM under load, one process after the other", stopped_in_turn),
    Case("F20", "ctrl-c", "Ctrl-C to the whole group of processes", interrupted, [SQLITE]),
    Case("F21", "poison", "an event that kills each worker", poisoned, setting=Setting(extra={"fatal": FATAL})),
    Case(
        "F21", "memory", "a worker out of memory (RLIMIT_AS)", out_of_memory, setting=Setting(extra={"hungry": HUNGRY})
    ),
    Case("F24", "", "backup under load, restored on an empty machine", restored),
]
