"""Claims and records: the token, leases, lost attempts, slots, rates, ages, cancelling, and no delivery held twice."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Receipt
from hub.deliver import KeptEffects, delivery_key
from hub.errors import Hold, NotNow, Outcome, Rejected, Skip, TryAgain
from hub.replay import cancel_deliveries, release_held, resume_route, start_replay
from hub.runtime import Hub
from hub.store import DELIVERY, EFFECT
from hub.store.meant import Filter
from hub.store.routes import pause
from hub.store.workers import due_bells, end_leases
from tests import hubdb
from tests.hubdb import Lab, document, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
LEASE = 35.0


async def test_a_claim_raises_the_number_sets_the_lease_and_opens_the_attempt(lab: Lab) -> None:
    row = await lab.order()
    claimed = await lab.claim_one()
    now = await lab.delivery(row.id)
    assert (row.attempts, claimed.attempt, now.attempts, now.status) == (0, 1, 1, "pending")
    assert now.lease_until == claimed.lease_until == now.next_attempt_at
    assert now.lease_until - lab.hub.now() == timedelta(seconds=LEASE)
    (attempt,) = await lab.attempts(row.id)
    assert (attempt.number, attempt.worker, attempt.outcome) == (1, lab.hub.worker_id, None)


async def test_under_a_lease_it_is_not_claimed_again(lab: Lab) -> None:
    await lab.order()
    await lab.claim_one()
    lab.later(LEASE - 2)
    await lab.claim_none()


async def test_an_outcome_settles_the_delivery_and_closes_the_attempt(lab: Lab) -> None:
    row = await lab.order()
    assert await lab.finish(await lab.claim_one(), Receipt("sent to #orders", answer="ok")) == "delivered"
    now = await lab.delivery(row.id)
    assert (now.status, now.next_attempt_at, now.lease_until, now.last_error) == ("delivered", None, None, None)
    (attempt,) = await lab.attempts(row.id)
    assert (attempt.outcome, attempt.note, attempt.response) == ("delivered", "sent to #orders", "ok")
    assert attempt.duration_ms == 7


async def test_a_failure_waits_by_the_schedule_until_the_budget_is_used_up(lab: Lab) -> None:
    row = await lab.order()
    for number, wait in enumerate((10, 20, 40), 1):
        claimed = await lab.claim_one()
        assert claimed.attempt == number
        assert await lab.finish(claimed, TryAgain("HTTP 500: no", status=500, destination=True)) == "pending"
        now = await lab.delivery(row.id)
        assert 0.79 * wait < (now.next_attempt_at - lab.hub.now()).total_seconds() < 1.21 * wait
        assert (now.error_key, now.last_error) == ("status_500", "HTTP 500: no")
        lab.later(wait * 1.21)
    assert await lab.finish(await lab.claim_one(), TryAgain("HTTP 500: no", status=500)) == "dead"
    now = await lab.delivery(row.id)
    assert (now.attempts, now.budget, now.next_attempt_at) == (4, 4, None)
    assert [attempt.outcome for attempt in await lab.attempts(row.id)] == ["try_again"] * 4


@pytest.mark.parametrize(
    ("result", "status", "budget"),
    [(Rejected("no such channel"), "dead", 4), (Skip("a test order"), "skipped", 4), (Hold("over limit"), "held", 5)],
)
async def test_outcomes_that_end_it_wait_for_nothing(
    lab: Lab, result: Rejected | Skip | Hold, status: str, budget: int
) -> None:
    row = await lab.order()
    assert await lab.finish(await lab.claim_one(), result) == status
    now = await lab.delivery(row.id)
    assert (now.last_error, now.budget, now.next_attempt_at) == (result.reason, budget, None)
    lab.later(1_000_000)
    await lab.claim_none()


async def test_not_now_uses_up_no_attempt(lab: Lab) -> None:
    row = await lab.order()
    for _ in range(9):
        await lab.finish(await lab.claim_one(), NotNow("busy", 5))
        lab.later(5)
    now = await lab.delivery(row.id)
    assert (now.status, now.budget - now.attempts) == ("pending", row.budget)


async def test_what_is_released_is_due_at_once_and_knows_by_whom(lab: Lab) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), Hold("over limit"))
    await release_held(lab.hub, "asha", row.id)
    claimed = await lab.claim_one()
    assert claimed.delivery.released_by == "asha"
    assert claimed.delivery.released_at is not None
    assert (claimed.attempt, claimed.delivery.budget - claimed.attempt) == (2, 3)


async def test_a_late_finisher_overwrites_nothing_and_its_effect_is_kept(lab: Lab) -> None:
    row = await lab.order()
    slow = await lab.claim_one(worker="slow")
    lab.later(LEASE + 1)
    quick = await lab.claim_one(worker="quick")
    assert (slow.attempt, quick.attempt) == (1, 2)
    assert await lab.finish(quick, Rejected("refused")) == "dead"
    effects = KeptEffects(lab.hub, delivery_key(slow.delivery), row.id)
    await effects.put("mail", "<1@shop>")
    assert await lab.finish(slow, Receipt("sent")) == "late"
    now = await lab.delivery(row.id)
    assert (now.status, now.attempts, now.last_error) == ("dead", 2, "refused")
    first, second = await lab.attempts(row.id)
    assert (first.outcome, second.outcome) == ("late", "rejected")
    assert first.note is not None
    assert "delivered: sent" in first.note
    assert (await lab.row(EFFECT)).value == "<1@shop>"


async def test_a_late_finisher_does_not_end_the_lease_of_the_newer_attempt(lab: Lab) -> None:
    row = await lab.order()
    slow = await lab.claim_one(worker="slow")
    lab.later(LEASE + 1)
    await lab.claim_one(worker="quick")
    assert await lab.finish(slow, Receipt("sent")) == "late"
    now = await lab.delivery(row.id)
    assert (now.status, now.attempts) == ("pending", 2)
    assert now.lease_until is not None
    await lab.claim_none()


async def test_late_but_before_anybody_else_counts(lab: Lab) -> None:
    row = await lab.order()
    slow = await lab.claim_one()
    lab.later(LEASE + 1)
    assert await lab.finish(slow, Receipt("sent")) == "delivered"
    assert (await lab.attempts(row.id))[0].outcome == "delivered"
    await lab.claim_none()


async def test_a_lost_attempt_is_closed_and_due_again(lab: Lab) -> None:
    row = await lab.order()
    await lab.alive("one")
    await lab.claim_one(worker="one")
    lab.later(LEASE + 1)
    again = await lab.claim_one(worker="two")
    assert (again.attempt, again.delivery.budget - again.attempt) == (2, row.budget - 1)
    assert [attempt.outcome for attempt in await lab.attempts(row.id)] == ["lost", None]


async def test_only_processes_that_ended_count_as_lost(lab: Lab) -> None:
    row = await lab.order()
    for _ in range(row.budget - 1):
        await lab.claim_one(worker="stuck")
        lab.later(LEASE + 1)
        await lab.alive("stuck")
    assert (await lab.claim_one(worker="stuck")).delivery.lost == 0
    notes = {attempt.note for attempt in await lab.attempts(row.id)}
    assert notes == {"no outcome within the lease", None}


async def test_attempts_that_a_living_process_never_ends_use_up_the_budget(lab: Lab) -> None:
    """Else one whose outcome cannot be written would be sent once for each lease, for ever."""
    row = await lab.order()
    for _ in range(row.budget):
        stuck = await lab.claim_one(worker="stuck")
        lab.later(LEASE + 1)
    await lab.claim_none(worker="stuck")
    now = await lab.delivery(row.id)
    assert (now.status, now.attempts, now.error_key) == ("dead", row.budget, "lost")
    assert await lab.finish(stuck, Receipt("sent")) == "late"


async def lose(lab: Lab, times: int, **more: Any) -> None:
    """That many processes end during their attempt of the one delivery due."""
    for number in range(times):
        await lab.alive(f"w{number}")
        await lab.claim_one(worker=f"w{number}", **more)
        lab.later(LEASE + 1)


async def test_what_ended_two_processes_goes_only_alone(lab: Lab) -> None:
    suspect = await lab.order()
    await lose(lab, 2)
    (other,) = await lab.orders(1)
    lab.later(1)  # so that it is due before the suspect, whose lease is settled by this claim
    claimed = await lab.claim(worker="w9")
    assert [one.delivery.id for one in claimed.claims] == [other.id]
    assert claimed.suspect
    (later,) = await lab.orders(1)
    await lab.claim_none(worker="w9")  # nothing goes past it, or it would wait as long as there is anything else
    alone = await lab.claim_one(worker="w9", alone=True, limit=1)
    assert alone.delivery.id == suspect.id
    assert await lab.finish(alone, TryAgain("HTTP 500")) == "pending"
    assert (await lab.delivery(suspect.id)).lost == 0
    assert (await lab.claim_one(worker="w9")).delivery.id == later.id


async def test_what_ended_three_processes_is_dead_as_poison(lab: Lab) -> None:
    row = await lab.order()
    await lose(lab, 2)
    await lab.claim_none(worker="w9")
    await lose(lab, 1, alone=True)
    await lab.claim_none(worker="w9")
    now = await lab.delivery(row.id)
    assert (now.status, now.error_key, now.lost, now.lease_until) == ("dead", "poison", 3, None)
    await lab.claim_none(worker="w9", alone=True)


async def test_a_restart_ends_all_leases_and_counts_them(lab: Lab) -> None:
    """`hub up` holds the lock, so whoever held a lease before is gone, however lately it was seen."""
    row = await lab.order()
    await lab.alive("before")
    await lab.claim_one(worker="before")
    await lab.write(lambda connection: end_leases(connection, lab.hub.now()))
    again = await lab.claim_one(worker="after")
    assert (again.attempt, again.delivery.id) == (2, row.id)
    assert (await lab.delivery(row.id)).lost == 1


async def test_slots_are_counted_in_the_claim(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(concurrency=3)}) as lab:
        rows = await lab.orders(5)
        first = (await lab.claim(worker="one")).claims
        assert [one.delivery.id for one in first] == [row.id for row in rows[:3]]
        await lab.claim_none(worker="two")
        await lab.finish(first[0], Receipt("done"))
        assert (await lab.claim_one(worker="two")).delivery.id == rows[3].id


async def test_a_clock_that_is_set_back_keeps_no_rated_route_waiting(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(rate="1/s")}) as lab:
        lab.later(86_400)
        await lab.orders(1)
        await lab.claim_one()
        lab.later(-86_400)
        (row,) = await lab.orders(1)
        await lab.claim_none()
        lab.later(3)
        assert (await lab.claim_one()).delivery.id == row.id


async def test_the_lease_of_one_that_was_cancelled_under_way_ends_also_on_an_idle_route(lab: Lab) -> None:
    row = await lab.order()
    await lab.claim_one()
    await cancel_deliveries(lab.hub, "asha", [row.id])
    bells = await lab.hub.database.read(lambda c: due_bells(c, lab.hub.now(), ["one"]))
    assert bells == []
    lab.later(LEASE + 1)
    assert await lab.hub.database.read(lambda c: due_bells(c, lab.hub.now(), ["one"])) == ["deliver:one"]
    await lab.claim_none()
    assert (await lab.delivery(row.id)).lease_until is None
    assert await lab.hub.database.read(lambda c: due_bells(c, lab.hub.now(), ["one"])) == []


async def test_the_rate_is_counted_in_the_claim(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(rate="1/s")}) as lab:
        lab.stand_still()
        await lab.orders(5)
        await lab.claim_one(worker="one")
        waiting = await lab.claim_none(worker="two")
        assert 0 < (waiting.next_due - lab.hub.now()).total_seconds() <= 1
        lab.later(1)
        await lab.claim_one(worker="two")
        lab.later(30)
        await lab.claim_one(worker="one")
        await lab.claim_none(worker="two")


async def test_the_oldest_due_go_first_and_the_next_due_time_is_told(lab: Lab) -> None:
    rows = await lab.orders(3)
    await lab.finish(await lab.claim_one(limit=1), NotNow("busy", 20))
    assert [one.delivery.id for one in (await lab.claim()).claims] == [row.id for row in rows[1:]]
    due = (await lab.claim_none()).next_due
    assert due == (await lab.delivery(rows[0].id)).next_attempt_at


async def test_who_took_all_that_was_due_looks_again_only_when_something_is(lab: Lab) -> None:
    rows = await lab.orders(4)
    lab.stand_still()
    await lab.finish(await lab.claim_one(limit=1), NotNow("busy", 20))
    full = await lab.claim(limit=2)
    assert (len(full.claims), full.next_due) == (2, lab.hub.now())
    last = await lab.claim(limit=2)
    assert (len(last.claims), last.next_due) == (1, (await lab.delivery(rows[0].id)).next_attempt_at)


async def test_max_age_skips_before_the_first_attempt_only(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(max_age="1m")}) as lab:
        tried, untried = await lab.orders(2)
        await lab.finish(await lab.claim_one(limit=1), NotNow("busy", 1))
        lab.later(61)
        assert (await lab.claim_one()).delivery.id == tried.id
        now = await lab.delivery(untried.id)
        assert (now.status, now.error_key, now.attempts) == ("skipped", "max_age", 0)
        assert await lab.attempts(untried.id) == []


async def test_max_age_does_not_apply_to_what_a_person_resumed_or_replayed(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(max_age="1m")}) as lab:
        hub: Hub = lab.hub
        resumed = await lab.order()
        await lab.write(lambda c: pause(c, hub.now(), "one", "asha", None))
        lab.later(100)
        assert await resume_route(hub, "asha", "one")
        claimed = await lab.claim_one()
        assert claimed.delivery.id == resumed.id
        await lab.finish(claimed, Receipt("done"))
        late = await lab.order()
        lab.later(100)
        await lab.claim_none()
        assert (await lab.delivery(late.id)).error_key == "max_age"
        await start_replay(hub, "asha", Filter(ids=(late.id,)))
        assert (await lab.claim_one()).delivery.id == late.id


async def test_cancelled_while_it_waits_it_is_skipped(lab: Lab) -> None:
    row = await lab.order()
    assert await cancel_deliveries(lab.hub, "asha", [row.id]) == [row.id]
    now = await lab.delivery(row.id)
    assert (now.status, now.error_key, now.last_error) == ("skipped", "cancelled", "cancelled by asha")
    await lab.claim_none()
    assert await cancel_deliveries(lab.hub, "asha", [row.id]) == []


@pytest.mark.parametrize(
    ("result", "status"),
    [(Receipt("sent"), "delivered"), (TryAgain("HTTP 500"), "skipped"), (Rejected("no"), "skipped")],
)
async def test_cancelled_under_way_its_attempt_runs_to_its_end(
    lab: Lab, result: Receipt | TryAgain | Rejected, status: str
) -> None:
    row = await lab.order()
    claimed = await lab.claim_one()
    await cancel_deliveries(lab.hub, "asha", [row.id])
    assert await lab.finish(claimed, result) == status
    now = await lab.delivery(row.id)
    assert (now.status, now.lease_until, now.next_attempt_at) == (status, None, None)
    assert now.error_key == (None if status == "delivered" else "cancelled")


async def test_cancelled_under_way_it_is_not_started_a_second_time_by_a_replay(lab: Lab) -> None:
    row = await lab.order()
    claimed = await lab.claim_one()
    await cancel_deliveries(lab.hub, "asha", [row.id])
    await start_replay(lab.hub, "asha", Filter(ids=(row.id,)))
    await lab.claim_none()
    assert await lab.finish(claimed, Receipt("sent")) == "delivered"


async def test_cancelled_under_way_and_its_process_ended(lab: Lab) -> None:
    row = await lab.order()
    claimed = await lab.claim_one(worker="w0")
    await cancel_deliveries(lab.hub, "asha", [row.id])
    lab.later(LEASE + 1)
    await lab.claim_none()
    now = await lab.delivery(row.id)
    assert (now.status, now.lease_until, now.next_attempt_at) == ("skipped", None, None)
    assert await lab.finish(claimed, Receipt("sent")) == "late"


async def test_a_bad_answer_text_does_not_stop_the_neighbours_outcome(lab: Lab) -> None:
    """NUL, a lone surrogate and a megabyte, as an answer, as a reason."""
    rows = await lab.orders(3)
    claims = (await lab.claim()).claims
    texts = ["nul \x00 in it", "half \ud800 a pair", "x" * 2**20]
    results: list[Receipt | Outcome] = [Receipt(texts[0], answer=texts[0]), TryAgain(texts[1]), Rejected(texts[2])]
    statuses = await asyncio.gather(*(lab.finish(one, result) for one, result in zip(claims, results, strict=True)))
    assert statuses == ["delivered", "pending", "dead"]
    assert (await lab.attempts(rows[0].id))[0].response == "nul \ufffd in it"
    assert (await lab.delivery(rows[1].id)).last_error == "half \ufffd a pair"
    assert len((await lab.delivery(rows[2].id)).last_error) == 2000


async def test_two_workers_never_hold_the_same_delivery(tmp_path: Path, shared_url: str) -> None:
    routes = {"one": route(concurrency=40)}
    async with open_lab(tmp_path, shared_url, routes) as first, open_lab(tmp_path, shared_url, routes) as second:
        await first.orders(60)
        held: list[str] = []
        most = 0

        async def take(lab: Lab) -> None:
            nonlocal most
            while len(held) < 60:
                claims = (await lab.claim(limit=3)).claims
                held.extend(one.delivery.id for one in claims)
                most = max(most, len(await lab.rows(DELIVERY, DELIVERY.c.lease_until.is_not(None))))
                await asyncio.gather(*(lab.finish(one, Receipt("done")) for one in claims))

        async with asyncio.timeout(60):
            await asyncio.gather(*(take(lab) for lab in (first, second) for _ in range(3)))
        assert len(held) == len(set(held)) == 60
        assert 0 < most <= 40
        assert {row.attempts for row in await first.rows(DELIVERY)} == {1}


async def test_slots_hold_over_two_workers(tmp_path: Path, shared_url: str) -> None:
    routes = {"one": route(concurrency=5)}
    async with open_lab(tmp_path, shared_url, routes) as first, open_lab(tmp_path, shared_url, routes) as second:
        await first.orders(20)
        claimed = await asyncio.gather(*(lab.claim() for lab in (first, second) for _ in range(4)))
        assert sum(len(one.claims) for one in claimed) == 5


async def test_an_entity_of_another_route_is_nobodys_business(tmp_path: Path, database_url: str) -> None:
    routes = {"one": route(ordered=True), "two": route(ordered=True)}
    async with open_lab(tmp_path, database_url, routes) as lab:
        await lab.deliver_events(document(orderId="ord_1"))
        await lab.finish(await lab.claim_one("one"), Hold("wait"))
        await lab.deliver_events(document("order.updated", orderId="ord_1"))
        await lab.claim_none("one")
        assert len((await lab.claim("two")).claims) == 1
