"""`ordered: true`: each entity's deliveries in the order of their events, and one that fails holds up no other."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.connector import Receipt
from hub.errors import Hold, NotNow, Rejected, Skip, TryAgain
from hub.fan_out import fan_out_waiting
from hub.store import DELIVERY, EVENT, routes
from hub.store.claims import Claim
from tests import hubdb
from tests.hubdb import Lab, document, open_lab, route
from tests.memory import Memory

shared_url, database_url = hubdb.shared_url, hubdb.database_url
ORDERED = {"one": route(ordered=True, concurrency=1000)}
DONE = {"delivered", "dead", "skipped"}
RESULTS = [Receipt("done"), TryAgain("HTTP 500"), Rejected("no"), Skip("nothing"), NotNow("busy", 3), Hold("wait")]

entities = st.sampled_from(["a", "b", "c", None])
steps = st.one_of(
    st.tuples(st.just("event"), entities),
    st.tuples(st.just("fan_out"), st.integers(1, 3)),
    st.tuples(st.just("claim"), st.integers(1, 3)),
    st.tuples(st.just("finish"), st.tuples(st.integers(0, 5), st.sampled_from(RESULTS))),
    st.tuples(st.just("later"), st.sampled_from([1.0, 12.0, 50.0])),
    st.tuples(st.just("release"), st.none()),
)


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    made = Memory(ORDERED)
    yield made
    made.close()


def event(entity: str | None, number: int) -> dict[str, Any]:
    return document("order.updated", number=number, **({} if entity is None else {"orderId": entity}))


def check_claims(memory: Memory, claims: list[Claim]) -> None:
    """Nothing of the same entity was earlier and still to come, nor under way, when these were claimed."""
    rows = [row for row in memory.rows() if row.entity is not None]
    for one in claims:
        same = [row for row in rows if row.entity == one.delivery.entity and row.id != one.delivery.id]
        assert all(row.lease_until is None for row in same)
        assert all(row.status in DONE for row in same if row.event_seq < one.delivery.event_seq)


def check_nobody_waits_for_others(memory: Memory) -> None:
    """The first of every entity, where it is due, can be claimed, whatever became of the other entities."""
    memory.fan_out()
    rows = memory.rows()
    open_rows: defaultdict[str, list[Any]] = defaultdict(list)
    leased = {row.entity for row in rows if row.lease_until is not None and row.lease_until > memory.now}
    for row in sorted(rows, key=lambda row: row.event_seq):
        if row.status in {"pending", "held"}:
            open_rows[row.entity or row.id].append(row)
    firsts = [waiting[0] for entity, waiting in open_rows.items() if entity not in leased]
    due = {row.id for row in firsts if row.status == "pending" and row.next_attempt_at <= memory.now}
    assert {one.delivery.id for one in memory.claim().claims} == due


@given(st.lists(steps, min_size=25, max_size=60))
@settings(max_examples=60, deadline=None)
def test_each_entity_in_order_in_any_interleaving(memory: Memory, sequence: list[tuple[str, Any]]) -> None:
    memory.clear()
    under_way: list[Claim] = []
    for number, (step, given_by) in enumerate(sequence):
        match step:
            case "event":
                memory.keep(event(given_by, number))
            case "fan_out":
                memory.fan_out(given_by)
            case "claim":
                claims = memory.claim(limit=given_by).claims
                check_claims(memory, claims)
                under_way += claims
            case "finish" if under_way:
                memory.finish(under_way.pop(given_by[0] % len(under_way)), given_by[1])
            case "later":
                memory.later(given_by)
            case "release":
                held = [row.id for row in memory.rows() if row.status == "held"]
                for delivery_id in held[:1]:
                    memory.write(lambda c, of=delivery_id: routes.release(c, memory.now, of, "asha"))  # type: ignore[misc]
    check_nobody_waits_for_others(memory)


async def claims_of(lab: Lab) -> list[str | None]:
    return [one.delivery.entity for one in (await lab.claim()).claims]


async def test_an_event_still_to_be_fanned_out_holds_its_entity_back(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ORDERED) as lab:
        (row,) = await lab.deliver_events(event("a", 1))
        await lab.write(lambda c: c.execute(EVENT.update().values(fanned_out_at=None)))
        await lab.claim_none()
        await lab.fan_out()
        assert await claims_of(lab) == [row.entity]


async def test_held_and_failing_hold_back_their_own_entity_alone(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ORDERED) as lab:
        lab.stand_still()
        await lab.deliver_events(event("a", 1), event("b", 2), event("a", 3), event("b", 4), event("c", 5))
        a, b, c = (await lab.claim()).claims
        assert [one.delivery.entity for one in (a, b, c)] == ["order:a", "order:b", "order:c"]
        await lab.finish(a, Hold("wait"))
        await lab.finish(b, TryAgain("HTTP 500"))
        await lab.finish(c, Receipt("done"))
        await lab.claim_none()
        await lab.deliver_events(event("c", 6), event(None, 7), event(None, 8))
        assert await claims_of(lab) == ["order:c", None, None]
        lab.later(12.1)
        assert await claims_of(lab) == ["order:b"]


@pytest.mark.parametrize("result", [Rejected("no"), Skip("nothing"), Receipt("done")])
async def test_what_is_done_frees_the_next(
    tmp_path: Path, database_url: str, result: Rejected | Skip | Receipt
) -> None:
    async with open_lab(tmp_path, database_url, ORDERED) as lab:
        _, second = await lab.deliver_events(event("a", 1), event("a", 2))
        await lab.finish(await lab.claim_one(), result)
        assert (await lab.claim_one()).delivery.id == second.id


async def test_one_cancelled_under_way_still_holds_its_entity(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ORDERED) as lab:
        first, _ = await lab.deliver_events(event("a", 1), event("a", 2))
        claimed = await lab.claim_one()
        await lab.write(lambda c: routes.cancel(c, lab.hub.now(), [first.id], "asha"))
        await lab.claim_none()
        await lab.finish(claimed, TryAgain("HTTP 500"))
        await lab.claim_one()


async def test_two_stores_have_entities_of_their_own(tmp_path: Path, database_url: str) -> None:
    stores = {
        name: {"url": "http://shop.test", "webhook_secrets": [f"{hubdb.SECRET} {name}"]} for name in ("main", "other")
    }
    async with open_lab(tmp_path, database_url, ORDERED, stores=stores) as lab:
        await lab.keep(event("a", 1))
        await lab.keep(event("a", 1), store="other")
        await lab.fan_out()
        assert len((await lab.claim()).claims) == 2


async def test_two_workers_at_once_keep_each_order(tmp_path: Path, shared_url: str) -> None:
    """Fan-out and claims of both run at the same time, in transactions that overlap."""
    async with open_lab(tmp_path, shared_url, ORDERED) as first, open_lab(tmp_path, shared_url, ORDERED) as second:
        for number in range(60):
            await first.keep(event(f"ord_{number % 6}", number))
        seen: defaultdict[str, list[int]] = defaultdict(list)

        async def run(lab: Lab) -> None:
            while sum(map(len, seen.values())) < 60:
                await fan_out_waiting(lab.hub)
                for one in (await lab.claim(limit=2)).claims:
                    seen[one.delivery.entity].append(one.delivery.event_seq)
                    await lab.finish(one, Receipt("done"))

        async with asyncio.timeout(90):
            await asyncio.gather(run(first), run(second))
        assert all(numbers == sorted(numbers) for numbers in seen.values())
        assert {row.status for row in await first.rows(DELIVERY)} == {"delivered"}
