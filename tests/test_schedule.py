"""Schedule arithmetic: waits, budgets, rate, breaker."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, NotNow, Outcome, Rejected, Skip, TryAgain
from hub.schedule import (
    FIRST_PROBE,
    LAST_PROBE,
    LONGEST_STOP,
    OPENS_AFTER,
    RATE_TOLERANCE,
    Breaker,
    after_result,
    after_taking,
    next_wait,
    scheduled_wait,
    settle,
    stopped_until,
    tokens,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SCHEDULE = [timedelta(seconds=seconds) for seconds in (5, 60, 300, 1800, 7200)]

waits = st.timedeltas(timedelta(0), timedelta(days=30))
schedules = st.lists(waits, max_size=12)
chances = st.floats(0, 1)
outcomes = st.one_of(
    st.builds(TryAgain, st.text(max_size=5), st.none() | st.floats(0, 1e12), destination=st.booleans()),
    st.builds(NotNow, st.just("later"), st.floats(-5, 1e5)),
    st.builds(Hold, st.just("a person")),
    st.builds(HoldRoute, st.just("wrong key")),
    st.builds(Skip, st.just("nothing")),
    st.builds(Rejected, st.just("bad")),
)


@given(schedules, st.integers(0, 100))
def test_a_fresh_delivery_walks_the_whole_schedule_and_then_dies(schedule: list[timedelta], earlier: int) -> None:
    budget = earlier + len(schedule) + 1
    for entry, wait in enumerate(schedule):
        attempts = earlier + 1 + entry
        assert scheduled_wait(schedule, attempts, budget) == wait
        result = settle(TryAgain("no"), now=NOW, attempts=attempts, budget=budget, schedule=schedule, chance=0.5)
        assert (result.status, result.due) == ("pending", NOW + wait)
    last = settle(TryAgain("no"), now=NOW, attempts=budget, budget=budget, schedule=schedule, chance=0.5)
    assert (last.status, last.due) == ("dead", None)


@given(schedules, st.integers(1, 60), st.integers(1, 60))
def test_the_entry_stays_within_the_schedule(schedule: list[timedelta], attempts: int, budget: int) -> None:
    assert scheduled_wait(schedule, attempts, budget) in [*schedule, timedelta()]


@given(waits, st.none() | st.floats(0, 1e12), chances)
def test_a_wait_is_jittered_lengthened_and_bounded(scheduled: timedelta, after: float | None, chance: float) -> None:
    wait = next_wait(scheduled, after, chance)
    assert wait >= scheduled * 0.8 - timedelta(microseconds=1)
    assert wait <= scheduled * 1.2 + LONGEST_STOP + timedelta(microseconds=1)
    if after is None:
        assert wait <= scheduled * 1.2 + timedelta(microseconds=1)
    elif timedelta(seconds=min(after, 1e9)) <= LONGEST_STOP:
        assert wait >= min(timedelta(seconds=after), scheduled * 0.8 + LONGEST_STOP)


@given(outcomes, st.integers(1, 20), st.integers(1, 20))
def test_every_outcome_settles_and_pending_has_a_time(result: Outcome, attempts: int, budget: int) -> None:
    done = settle(result, now=NOW, attempts=attempts, budget=budget, schedule=SCHEDULE, chance=0.1)
    assert done.status in {"pending", "held", "delivered", "dead", "skipped"}
    assert (done.due is not None) == (done.status == "pending")
    assert done.due is None or done.due >= NOW


@pytest.mark.parametrize("result", [NotNow("x", 3), Hold("x"), HoldRoute("x")])
def test_what_is_not_the_deliverys_fault_uses_up_no_attempt(result: Outcome) -> None:
    done = settle(result, now=NOW, attempts=6, budget=6, schedule=SCHEDULE, chance=0.5)
    assert done.more_budget == 1
    assert done.status != "dead"


@given(st.floats(0.001, 3600), st.lists(st.floats(0, 5), min_size=1, max_size=40), st.integers(1, 50))
def test_a_rate_is_never_exceeded(interval: float, pauses: list[float], most: int) -> None:
    every = timedelta(seconds=interval)
    now, next_free, taken, started = NOW, None, 0, NOW
    for pause in pauses:
        now += timedelta(seconds=pause)
        count = tokens(next_free, every, now, most)
        assert 0 <= count <= most
        next_free = after_taking(next_free, every, now, count)
        taken += count
        allowed = (now - started + RATE_TOLERANCE) / every + 1
        assert taken <= allowed + 1e-6


@given(st.floats(0.001, 3600), st.integers(1, 50))
def test_an_idle_route_may_always_go(interval: float, most: int) -> None:
    assert tokens(None, timedelta(seconds=interval), NOW, most) >= 1
    assert tokens(NOW - timedelta(days=3), timedelta(seconds=interval), NOW, most) >= 1


def test_a_route_without_rate_is_bounded_by_its_slots_alone() -> None:
    assert tokens(None, None, NOW, 7) == 7
    assert tokens(None, None, NOW, -1) == 0


def failing(status: int = 500) -> TryAgain:
    return TryAgain(f"HTTP {status}", status=status, destination=True)


def test_the_breaker_opens_after_ten_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(OPENS_AFTER - 1):
        breaker = after_result(breaker, failing(), NOW)
    assert breaker.opened_at is None
    assert after_result(breaker, Receipt("ok"), NOW) == Breaker()
    breaker = after_result(breaker, failing(), NOW)
    assert (breaker.opened_at, breaker.probe_at) == (NOW, NOW + FIRST_PROBE)


def test_a_wrong_key_opens_it_at_once() -> None:
    breaker = after_result(Breaker(), HoldRoute("HTTP 401"), NOW)
    assert (breaker.opened_at, breaker.reason) == (NOW, "HTTP 401")


def test_the_connectors_own_faults_do_not() -> None:
    breaker = Breaker()
    for _ in range(50):
        breaker = after_result(breaker, TryAgain("a fault in the connector: KeyError"), NOW)
    assert breaker == Breaker()


def test_probes_come_further_apart_and_a_success_closes() -> None:
    breaker, now, apart = after_result(Breaker(), HoldRoute("401"), NOW), NOW, []
    for _ in range(8):
        assert breaker.probe_at is not None
        now = breaker.probe_at
        breaker = after_result(breaker, failing(), now)
        assert breaker.probe_at is not None
        apart.append(breaker.probe_at - now)
    assert apart[:3] == [FIRST_PROBE * 2, FIRST_PROBE * 4, FIRST_PROBE * 8]
    assert apart[-1] == LAST_PROBE
    assert after_result(breaker, Receipt("ok"), now) == Breaker()


def test_one_that_was_under_way_when_it_opened_does_not_put_the_probe_off() -> None:
    breaker = after_result(Breaker(), HoldRoute("401"), NOW)
    assert after_result(breaker, failing(), NOW + timedelta(seconds=1)) == breaker


@given(st.lists(outcomes | st.just(Receipt("ok")), max_size=60), st.floats(0, 2000))
def test_an_open_breaker_always_has_a_next_probe(results: list[Receipt | Outcome], apart: float) -> None:
    breaker, now = Breaker(), NOW
    for result in results:
        now += timedelta(seconds=apart)
        breaker = after_result(breaker, result, now)
        assert (breaker.opened_at is None) == (breaker.probe_at is None)
        assert breaker.probe_at is None or breaker.probe_at <= now + LAST_PROBE


@pytest.mark.parametrize(
    ("status", "after", "stops"), [(429, 30, True), (503, 1, True), (500, 30, False), (429, None, False)]
)
def test_retry_after_stops_the_route(status: int, after: float | None, stops: bool) -> None:
    until = stopped_until(TryAgain("slow down", after, status=status), NOW)
    assert until == (NOW + timedelta(seconds=after) if stops and after else None)


def test_no_retry_after_stops_it_for_more_than_two_hours() -> None:
    assert stopped_until(TryAgain("x", 1e300, status=429), NOW) == NOW + LONGEST_STOP
