"""Workers where something is wrong beside the attempt: probes, suspects, locks, storage that is away, a machine that
slept, connectors that do not close. Each test is named for a fault that was found.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from hub.client import Exchange
from hub.connector import Context, Event, Receipt
from hub.deliver import finish
from hub.errors import HoldRoute, Outcome, Rejected, TryAgain
from hub.replay import start_replay
from hub.schedule import FIRST_PROBE
from hub.store import DELIVERY
from hub.store.claims import ALIVE_WITHIN, Claim, claim
from hub.store.meant import Filter
from hub.store.records import Finished, record
from hub.worker import running
from tests import hubdb
from tests.faulty import Faulty
from tests.hubdb import SCHEDULE, Lab, document, open_lab, route
from tests.servers import PostgresServer, eventually

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
ATTEMPTS = len(SCHEDULE) + 1
LEASE = 35.0
# What a busy machine may add to a grace; what waits for a storage that is away waits for ever.
MARGIN = 15.0
DOWN = TryAgain("no connection", destination=True)


@pytest.fixture(autouse=True)
def no_acts() -> Iterator[None]:
    yield
    Faulty.forget()


def faulty(**more: Any) -> dict[str, Any]:
    return route(**more) | {"connector": "tests.faulty:Faulty"}


def returning(result: Any) -> Any:
    async def act(event: Event, ctx: Context) -> Any:
        return result

    return act


def finished(lab: Lab, claimed: Claim, result: Receipt | Outcome) -> Finished:
    line = lab.line(claimed.delivery.route)
    return finish(lab.hub, line, claimed, result, Exchange(), timedelta(milliseconds=7))


async def probed(lab: Lab) -> Claim:
    """The next probe of the open breaker, whenever it may go."""
    lab.later(max(((await lab.state()).probe_at - lab.hub.now()).total_seconds(), 0) + 60)
    one = await lab.claim_one()
    assert one.probe
    return one


@pytest.mark.parametrize("result", [Rejected("HTTP 400", status=400), TryAgain("HTTP 404", status=404)])
async def test_a_probe_that_was_answered_with_a_refusal_closes_the_breaker(lab: Lab, result: Outcome) -> None:
    """A destination that says no to one delivery is there: it kept all others waiting."""
    rows = await lab.orders(3)
    await lab.finish(await lab.claim_one(limit=1), HoldRoute("wrong key"))
    probe = await probed(lab)
    await lab.finish(probe, result)
    state = await lab.state()
    assert (state.opened_at, state.probe_at, state.open_reason, state.failures) == (None, None, None, 0)
    now = await lab.delivery(probe.delivery.id)
    assert now.budget == probe.delivery.budget
    assert len((await lab.claim()).claims) >= len(rows) - 1


async def test_a_connectors_fault_in_a_probe_waits_longer_each_time_and_uses_up_the_budget(lab: Lab) -> None:
    """It neither shows that the destination is well again, nor goes on for ever."""
    row = await lab.order()
    await lab.finish(await lab.claim_one(), HoldRoute("wrong key"))
    waits, statuses = [], []
    for _ in range(ATTEMPTS):
        statuses.append(await lab.finish(await probed(lab), TryAgain("a fault in the connector: KeyError")))
        waits.append((await lab.state()).probe_wait / FIRST_PROBE.total_seconds())
    assert waits == [2, 4, 8, 16]
    assert statuses == ["pending", "pending", "pending", "dead"]
    assert (await lab.delivery(row.id)).attempts == ATTEMPTS + 1
    assert (await lab.state()).opened_at is not None


async def test_the_destinations_failures_in_probes_spare_the_budget(lab: Lab) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), HoldRoute("wrong key"))
    for _ in range(2 * ATTEMPTS):
        assert await lab.finish(await probed(lab), DOWN) == "pending"
    now = await lab.delivery(row.id)
    assert now.budget - now.attempts == row.budget


async def lost_twice(lab: Lab) -> str:
    """A delivery during which two processes ended, the second a minute ago."""
    suspect: str = (await lab.order()).id
    for number in range(2):
        assert (await lab.claim_one(worker=f"w{number}")).delivery.id == suspect
        lab.later(60)
    return suspect


async def test_a_suspect_at_the_head_of_a_rated_route_gets_its_token(tmp_path: Path, database_url: str) -> None:
    """What went past it took the route's token, each time again."""
    async with open_lab(tmp_path, database_url, {"one": route(rate="1/m")}) as lab:
        suspect = await lost_twice(lab)
        # Due before the suspect, whose lease is settled by this claim.
        (other,) = await lab.orders(1)
        first = await lab.claim_one(worker="w2")
        assert first.delivery.id == other.id
        await lab.finish(first, Receipt("done"))
        (later,) = await lab.orders(1)
        lab.later(60)
        assert (await lab.claim_none(worker="w2")).suspect
        alone = await lab.claim_one(worker="w2", alone=True, limit=1)
        assert alone.delivery.id == suspect
        await lab.finish(alone, Receipt("done"))
        await lab.claim_none(worker="w2")
        lab.later(60)
        assert (await lab.claim_one(worker="w2")).delivery.id == later.id


async def test_a_worker_tries_a_suspect_of_a_rated_route_alone(tmp_path: Path, database_url: str) -> None:
    under_way: set[str] = set()
    beside: dict[str, set[str]] = {}

    async def watched(event: Event, ctx: Context) -> Receipt:
        under_way.add(event.id)
        await asyncio.sleep(0.02)
        beside[event.id] = set(under_way)
        under_way.remove(event.id)
        return Receipt("done")

    Faulty.acts |= {"one": watched, "two": watched}
    routes = {"one": faulty(rate="20/s", events=["order.placed"]), "two": faulty(events=["order.updated"])}
    async with open_lab(tmp_path, database_url, routes) as lab:
        suspect = await lab.delivery(await lost_twice(lab))
        await lab.orders(5)
        await lab.deliver_events(*(document("order.updated", orderId=f"other_{number}") for number in range(20)))
        async with running(lab.hub):
            await eventually(lambda: len(beside) == 26, 60)
    assert beside[suspect.event_id] == {suspect.event_id}


async def test_a_lease_on_a_route_that_is_gone_ends_and_its_delivery_goes_along_another(
    tmp_path: Path, database_url: str
) -> None:
    """Nobody claims there any more, which is where leases were ended."""
    async with open_lab(tmp_path, database_url, {"old": route()}) as lab:
        row = await lab.order()
        await lab.claim_one("old")
    async with open_lab(tmp_path, database_url, {"one": route(events=["none"])}) as lab:
        lab.later(LEASE + 1)

        async def ended() -> bool:
            return (await lab.delivery(row.id)).lease_until is None

        async def delivered() -> bool:
            return bool(await lab.rows(DELIVERY, DELIVERY.c.route == "one", DELIVERY.c.status == "delivered"))

        async with running(lab.hub):
            await eventually(ended)
            assert [one.outcome for one in await lab.attempts(row.id)] == ["lost"]
            await start_replay(lab.hub, "asha", Filter(route="old"), to_route="one")
            await eventually(delivered)
        assert (await lab.delivery(row.id)).error_key == "moved"


async def test_a_worker_that_slept_counts_nobodys_process_as_ended_nor_its_own(lab: Lab) -> None:
    """After a sleep of the machine all signs of life are old, and all leases over."""
    mine, theirs = await lab.orders(2)
    me, other = lab.hub.worker_id, "w1"
    assert (await lab.claim_one(worker=me, limit=1)).delivery.id == mine.id
    assert (await lab.claim_one(worker=other, limit=1)).delivery.id == theirs.id
    assert timedelta(seconds=LEASE) > ALIVE_WITHIN
    lab.later(LEASE + 1)
    # As a loop of mine that wakes before my heartbeat does.
    again = await lab.hub.writer.put(claim, lab.request(worker=me))
    assert {one.delivery.id for one in again.claims} == {mine.id, theirs.id}
    assert [(await lab.delivery(row.id)).lost for row in (mine, theirs)] == [0, 0]
    lab.later(LEASE + 1)
    await lab.claim(worker="w2")
    assert [(await lab.delivery(row.id)).lost for row in (mine, theirs)] == [1, 1]  # one that is awake does count


async def deadlocks(server: PostgresServer) -> int:
    """How many the database has met, once nobody is connected to it any more and all is counted."""
    connection = await asyncpg.connect(server.url())
    try:
        counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'hubdb'"

        async def nobody() -> bool:
            return bool(await connection.fetchval(counted) == 0)

        await eventually(nobody)
        found: int = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = 'hubdb'")
        return found
    finally:
        await connection.close()


async def test_two_workers_with_four_routes_meet_no_deadlock(
    tmp_path: Path, postgres_server: PostgresServer, shared_url: str
) -> None:
    """Each commit records on two routes and claims on the other two: each batch took its own locks in order."""
    before = await deadlocks(postgres_server)
    low, high = ("a", "b"), ("c", "d")
    routes = {name: route(concurrency=100) for name in (*low, *high)}
    async with open_lab(tmp_path, shared_url, routes) as first, open_lab(tmp_path, shared_url, routes) as second:
        await first.orders(100)
        held = {lab.hub.worker_id: await claimed_on(lab, *half) for lab, half in ((first, high), (second, low))}
        for turn in range(12):
            record_on, claim_on = (low, high) if turn % 2 else (high, low)
            answers = await asyncio.gather(
                crosswise(first, held[first.hub.worker_id], claim_on),
                crosswise(second, held[second.hub.worker_id], record_on),
            )
            held = dict(zip(held, answers, strict=True))
    assert await deadlocks(postgres_server) == before


async def claimed_on(lab: Lab, *routes: str) -> list[Claim]:
    claims = [(await lab.claim(name, limit=2)).claims for name in routes]
    return [one for several in claims for one in several]


async def crosswise(lab: Lab, held: list[Claim], routes: tuple[str, ...]) -> list[Claim]:
    """Record all that is held, and claim on `routes`, in one commit; what is held then."""
    assert held
    records = [lab.hub.writer.submit(record, finished(lab, one, Receipt("done"))) for one in held]
    asked = [lab.hub.writer.submit(claim, lab.request(name, limit=2)) for name in routes]
    assert set(await asyncio.gather(*records)) == {"delivered"}
    return [one for answer in await asyncio.gather(*asked) for one in answer.claims]


async def stopped_without_storage(lab: Lab, go_away: Any) -> float:
    """A worker that tries three deliveries, its database then gone, is stopped; how many seconds that took.

    One attempt hangs, one ends once storage is away, one waits for a record that cannot be written.
    """
    gone, waiting = asyncio.Event(), asyncio.Event()
    begun: list[str] = []

    async def act(event: Event, ctx: Context) -> Receipt:
        begun.append(event.id)
        await (gone if len(begun) > 1 else asyncio.Event()).wait()
        waiting.set()
        return Receipt("done")

    Faulty.acts["one"] = act
    await lab.orders(3)
    async with asyncio.timeout(90), running(lab.hub):
        await eventually(lambda: len(begun) == 3)
        go_away()
        gone.set()
        await waiting.wait()
        started = time.monotonic()
    return time.monotonic() - started


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> float:
    """A grace that tests can wait for; what is left then is cancelled, twice if it must be."""
    monkeypatch.setattr("hub.worker.LONGEST_STOP", 0.2)
    monkeypatch.setattr("hub.worker.STOP_EXTRA", 0.2)
    return 0.2


async def test_a_worker_stops_within_its_grace_while_sqlite_is_locked(tmp_path: Path, short_grace: float) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    async with open_lab(tmp_path, url, {"one": faulty()}) as lab:
        await lab.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout = 100"))
        with closing(sqlite3.connect(tmp_path / "hub.db", isolation_level=None)) as other:
            took = await stopped_without_storage(lab, lambda: other.execute("BEGIN IMMEDIATE"))
            other.execute("ROLLBACK")
        assert took < 3 * short_grace + MARGIN
        await tried_again_after_the_lease(lab)


async def test_a_worker_stops_within_its_grace_while_postgresql_is_away(
    tmp_path: Path, postgres_server: PostgresServer, shared_url: str, short_grace: float
) -> None:
    async with open_lab(tmp_path, shared_url, {"one": faulty()}) as lab:
        try:
            took = await stopped_without_storage(lab, postgres_server.kill)
        finally:
            postgres_server.start()
        assert took < 3 * short_grace + MARGIN
        await tried_again_after_the_lease(lab)


async def tried_again_after_the_lease(lab: Lab) -> None:
    """What could not be recorded runs out once the next process looks, and counts against nothing."""
    lab.later(LEASE + 1)

    async def claimed() -> list[Claim]:
        return (await lab.claim(worker="next")).claims

    assert [one.attempt for one in await eventually(claimed)] == [2, 2, 2]
    assert {row.budget - row.attempts for row in await lab.rows(DELIVERY)} == {ATTEMPTS - 1}


async def hang() -> None:
    await asyncio.Event().wait()


async def hang_on() -> None:
    """Hangs, whoever cancels it the first time."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("it would not close")


async def fail_cancelled() -> None:
    raise asyncio.CancelledError


async def test_a_connector_that_cannot_close_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The good ones must have closed within it.
    monkeypatch.setattr("hub.worker.STOP_EXTRA", 2.0)
    Faulty.closes |= {"a": fail, "b": hang, "c": hang_on, "d": fail_cancelled}
    names = (*Faulty.closes, "e")
    Faulty.acts |= dict.fromkeys(names, returning(Receipt("done")))
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", {name: faulty() for name in names}) as lab:
        await lab.orders(1)

        async def all_done() -> bool:
            return len(await lab.rows(DELIVERY, DELIVERY.c.status == "delivered")) == len(names)

        with capture_logs() as lines:
            async with asyncio.timeout(90):
                async with running(lab.hub) as worker:
                    await eventually(all_done)
                    clients = [line.http for line in worker.lines.values()]
        assert sorted(Faulty.closed) == list(names)
        told = [line["route"] for line in lines if line["event"] == "connector.fault" and line["at"] == "close"]
        assert sorted(told) == list(Faulty.closes)
        assert all(client.is_closed for client in clients)
