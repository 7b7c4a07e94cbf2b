"""F01-F03: processes killed with kill -9, at each step of their work and at random moments."""

import asyncio
import random
import time
from functools import partial
from statistics import median

from sqlalchemy import Connection, select

from hub.store import DELIVERY
from tests.faults.cases import Case
from tests.faults.ledger import ACKED, INDETERMINATE
from tests.faults.points import STEPS
from tests.faults.stage import PATIENCE, POSTGRESQL, SQLITE, Stage, markers_by_id
from tests.servers import eventually

RESTART_WITHIN = 3.0
RECOVERED_WITHIN = 7.0
SETTLED_AFTER = 3.0
BEFORE_COMMIT = ("R1", "R2", "R3")
# How often a receiver passes its step before it dies: alone with one event, and in the midst of a load.
FIRST = dict.fromkeys(("R1", "R2", "R3", "R4", "R5"), 1)
UNDER_LOAD = {"R1": 40, "R2": 40, "R3": 30, "R4": 40, "R5": 30}
# `hub up` enqueues two periodic jobs at its start.
RINGS = {SQLITE: (3, 12), POSTGRESQL: (1, 4)}


async def receiver_at(step: str, stage: Stage) -> None:
    """Killed there with one single event, of which all can be told; then once more under load."""
    alone, loaded = (FIRST[step], UNDER_LOAD[step]) if step in FIRST else RINGS[stage.kind]
    await stage.start_all({stage.receiver: f"{step}:{alone}:kill"})
    await one_event(step, stage)
    await stage.start(stage.receiver, f"{step}:{loaded}:kill")
    await stage.resend_all()
    stage.begin_load()
    await stage.died(stage.receiver)
    killed = time.time()
    await stage.start(stage.receiver)
    await stage.first_ack(killed)
    await stage.under_load(stage.scale.short)


async def one_event(step: str, stage: Stage) -> None:
    if step == "R5":
        # The first looks of all loops are over, so that only the next one finds it.
        await asyncio.sleep(SETTLED_AFTER)
    marker = await stage.store.make(-1)
    answer = await stage.store.post(marker, 0)
    await stage.died(stage.receiver)
    acked, stored = answer.result == ACKED, marker in (await stage.read(markers_by_id)).values()
    expected = {"R4": (False, True), "R5": (True, True), "R6": (True, True)}.get(step, (False, False))
    stage.require(
        (acked, stored) == expected,
        f"one event alone: {'acked' if acked else INDETERMINATE}, {'stored' if stored else 'not stored'}",
    )
    if step == "R5":
        await found_without_a_bell(marker, stage)


async def found_without_a_bell(marker: str, stage: Stage) -> None:
    """Nobody rang for it: the worker's own look finds it, on SQLite that of the next start."""
    if stage.kind == SQLITE:
        await stage.start(stage.receiver)
    began = time.monotonic()
    try:
        await stage.plain.took({marker}, 20)
    except TimeoutError:
        stage.require(False, "not delivered within 20 s without a bell")
    else:
        stage.at_most("delivered without a bell after", time.monotonic() - began, RECOVERED_WITHIN)
    if stage.kind == SQLITE:
        await stage.kill(stage.receiver)


async def receivers_at_random(stage: Stage) -> None:
    """A receiver after the other, in the midst of the load; what was acknowledged is what is stored."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(1)
    receivers = [name for name in stage.names if not name.startswith("worker")]
    restarts = []
    for number in range(stage.scale.kills):
        await asyncio.sleep(random.uniform(0.3, 2 * stage.scale.load / stage.scale.kills - 0.3))
        name = receivers[number % len(receivers)]
        await stage.kill(name)
        began = time.monotonic()
        await stage.start(name)
        await eventually(partial(stage.ready, name), 30)
        seconds = time.monotonic() - began
        restarts.append((seconds, stage.slowness.times(seconds)))
    # Two lanes share two cores: single restarts meet whatever the other lane starts at that moment.
    told = f"{len(restarts)} restarts, the longest {max(restarts)[0]:.1f} s, their median"
    stage.at_most(told, median(one for one, _ in restarts), RESTART_WITHIN, times=median(one for _, one in restarts))
    await stage.under_load(1)
    await replay_kept_apart(stage)


async def worker_at(step: str, stage: Stage) -> None:
    """Killed there under load; what it had in flight is taken over."""
    await stage.start_all({stage.worker: f"{step}:40:kill"})
    stage.begin_load()
    await stage.died(stage.worker)
    await recovered(stage)
    await stage.under_load(stage.scale.short)


async def recovered(stage: Stage) -> None:
    """Everything that was under a lease at the worker's death has come on. On SQLite the next start sees to it."""
    left = await stage.read(under_lease)
    began = time.monotonic()
    if stage.kind == SQLITE:
        await stage.start(stage.worker)

    async def moved() -> bool:
        return not left.items() & (await stage.read(under_lease)).items()

    await stage.comes(moved, PATIENCE)
    stage.at_most(
        f"{len(left)} in flight, recovered after", time.monotonic() - began, stage.scale.lease + RECOVERED_WITHIN
    )
    if stage.kind == POSTGRESQL:
        await stage.start(stage.worker)


def under_lease(connection: Connection) -> dict[str, int]:
    """Deliveries that somebody has claimed, with the number of the attempt."""
    found = connection.execute(select(DELIVERY.c.id, DELIVERY.c.attempts).where(DELIVERY.c.lease_until.is_not(None)))
    return {row.id: row.attempts for row in found}


async def workers_at_random(stage: Stage) -> None:
    """A worker after the other, in the midst of the load."""
    await stage.start_all()
    stage.begin_load()
    await stage.under_load(1)
    for number in range(stage.scale.kills):
        await asyncio.sleep(random.uniform(0.3, 2 * stage.scale.load / stage.scale.kills - 0.3))
        name = f"worker{number % 2 + 1}"
        await stage.kill(name)
        await stage.start(name)
    await stage.under_load(1)
    await replay_kept_apart(stage)


async def replay_kept_apart(stage: Stage) -> None:
    """What was under way in three of the ended processes is kept apart, as poison is, until somebody replays it."""
    await stage.end_load()
    await stage.drained()
    reasons = await stage.read(reasons_of_dead)
    if reasons:
        apart = sum("kept apart" in reason for reason in reasons)
        stage.require(apart == len(reasons), f"{apart} of {len(reasons)} dead were under way in three ended processes")
        await stage.ask("replay.start", who="case", status="dead")
        await eventually(partial(stage.read, nothing_dead), PATIENCE)
        stage.note("replayed")


def reasons_of_dead(connection: Connection) -> list[str]:
    query = select(DELIVERY.c.last_error).where(DELIVERY.c.status == "dead")
    return [str(reason) for reason in connection.execute(query).scalars()]


def nothing_dead(connection: Connection) -> bool:
    return not reasons_of_dead(connection)


KILLING = [
    *(
        Case("F01", step, f"kill -9 receiver @{step} ({STEPS[step].what})", partial(receiver_at, step))
        for step in ("R1", "R2", "R3", "R4", "R5", "R6")
    ),
    Case("F02", "", "kill -9 receivers at random", receivers_at_random),
    *(
        Case("F03", step, f"kill -9 worker @{step} ({STEPS[step].what})", partial(worker_at, step))
        for step in ("W1", "W2", "W3", "W4", "W5", "W6", "S1")
    ),
    # On SQLite receiver and worker are one process, which F02 kills.
    Case("F03", "random", "kill -9 workers at random", workers_at_random, kinds=[POSTGRESQL]),
]
