"""The arithmetic of a store's hour: what answers change, in whatever order they come, and who gets how much."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from hub.hour import (
    BLOCK,
    Grant,
    Holding,
    Hour,
    RateLimit,
    Report,
    added,
    after_answer,
    left_of,
    merged,
    sensible,
    settle,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RESET = NOON + timedelta(minutes=40)
MINUTE = timedelta(minutes=1)


def report(process: str = "a", limit: int = 100, **more: Any) -> Report:
    return Report("main", process, limit, 10, **{"wants": "foreground", **more})


def taken(hour: Hour, now: datetime = NOON, **more: Any) -> tuple[Hour, Grant]:
    return settle(hour, report(**more), now)


def test_the_hour_begins_with_its_first_request_and_turns_by_itself() -> None:
    hour, grant = taken(Hour())
    assert (grant.count, grant.told, hour.given) == (BLOCK, False, BLOCK)
    ends = NOON + timedelta(hours=1, seconds=1)
    assert hour.ends == ends
    hour = replace(hour, given=100, spent={"erp": 90})
    later, nothing = taken(hour, NOON + timedelta(minutes=20), number=0)
    assert (nothing.count, nothing.wait) == (0, 40 * 60 + 1)
    # Just before the reset nobody sends: the store may count it in either hour.
    assert taken(later, ends - timedelta(seconds=1.2), number=0)[1].wait == pytest.approx(1.2)
    turned, grant = taken(later, ends, number=0, unspent=5, spent={"erp": 5})
    assert (grant.count, turned.number, turned.given, turned.spent) == (BLOCK, 1, BLOCK, {})


def test_blocks_are_small_near_the_end_and_the_last_request_can_be_taken() -> None:
    hour, sizes = Hour(), []
    while (step := settle(hour, report(number=hour.number), NOON))[1].count:
        hour, grant = step
        sizes.append(grant.count)
    assert sum(sizes) == 100
    assert (sizes[0], sizes[-1]) == (BLOCK, 1)


def test_background_work_leaves_the_reserve() -> None:
    hour, got = Hour(), 0
    while (step := settle(hour, report(wants="background"), NOON))[1].count:
        hour = step[0]
        got += step[1].above
    assert got == 90
    assert taken(hour)[1].count > 0
    # What one process has for its deliveries is no more for its background work than there is above the reserve.
    assert taken(Hour(given=75))[1].above == BLOCK
    assert taken(Hour(given=88))[1] == Grant(6, 2, 0, NOON + timedelta(hours=1, seconds=1), False)


def test_what_comes_back_can_be_had_again_in_its_own_hour_only() -> None:
    hour, _ = taken(Hour())
    back, _ = taken(hour, number=0, unspent=4, wants=None, spent={"erp": 6})
    assert (back.given, back.held, back.spent) == (6, {}, {"erp": 6})
    late, _ = taken(replace(hour, number=1, given=10), number=0, unspent=4, wants=None, spent={"erp": 6})
    assert (late.given, late.spent) == (10, {})


def test_what_others_may_still_send_is_not_given_out_again() -> None:
    """Somebody else has used the key: the store's word counts, less what is on its way to it."""
    busy = Hour(given=40, held={"b": Holding(10, NOON)})
    answer = RateLimit(100, 13, RESET)
    hour, grant = taken(busy, answer=answer, unanswered=2)
    assert grant.count == 1
    hour, grant = taken(hour, answer=RateLimit(100, 11, RESET), unanswered=1)
    assert (grant.count, grant.wait) == (0, 0.25)
    # Once it is known that they were not sent, they are there again.
    hour, _ = taken(hour, process="b", unspent=10, number=0, wants=None)
    assert taken(hour, unanswered=1)[1].count > 0
    # Of a process that ended nobody hears any more: there is nothing to hope for until the hour turns.
    dead = replace(busy, remaining=10)
    assert taken(dead, NOON + MINUTE)[1] == Grant(0, 0, 0, None, False, 3600)


ANSWERS = [RateLimit(100, 40, RESET), RateLimit(100, 38, RESET), RateLimit(None, 39, None), RateLimit(100, None, RESET)]


def test_answers_say_the_same_in_every_order() -> None:
    for answers in permutations(ANSWERS):
        hour, together = Hour(given=50), None
        for answer in answers:
            hour = after_answer(hour, answer, NOON)
            together = merged(together, answer)
        assert (hour.allowed, hour.remaining, hour.ends) == (100, 38, RESET + timedelta(seconds=1))
        assert together == RateLimit(100, 38, RESET)


def test_a_later_reset_with_more_remaining_is_another_hour() -> None:
    hour = after_answer(Hour(given=100, spent={"erp": 100}), RateLimit(100, 0, RESET), NOON)
    next_one = RESET + timedelta(hours=1)
    turned = after_answer(hour, RateLimit(100, 99, next_one), NOON)
    assert (turned.number, turned.given, turned.remaining, turned.spent) == (1, 0, 99, {})
    # What comes late of the hour before changes nothing; a window that only slides does not fill up.
    assert after_answer(turned, RateLimit(100, 3, RESET), NOON) == turned
    slid = after_answer(hour, RateLimit(100, 0, next_one), NOON)
    assert (slid.number, slid.given, slid.ends) == (0, 100, next_one + timedelta(seconds=1))


@pytest.mark.parametrize(
    "answer",
    [
        RateLimit(0, -1, None),
        RateLimit(-5, 10**12, datetime.max.replace(tzinfo=UTC)),
        RateLimit(10**9, None, RESET.replace(tzinfo=None)),
        RateLimit(100, 0, datetime.fromtimestamp(1_640_995_200, UTC)),
        RateLimit(None, None, NOON + timedelta(days=300)),
    ],
    ids=str,
)
def test_garbage_changes_nothing(answer: RateLimit) -> None:
    hour = Hour(given=50, ends=RESET, told=True, remaining=30)
    assert after_answer(hour, answer, NOON) == hour


def test_a_refusal_empties_the_hour_until_its_reset() -> None:
    hour = Hour(given=10, ends=RESET, told=True, remaining=500)
    soon = NOON + timedelta(seconds=30)
    hour = after_answer(hour, RateLimit(None, None, soon, refused=True), NOON)
    # Answers that were on their way do not fill it up again.
    hour = after_answer(hour, RateLimit(1000, 400, RESET), NOON)
    assert taken(hour)[1].wait == 31
    assert taken(hour, soon + timedelta(seconds=1))[1].count == BLOCK
    # Without a time, or with one that cannot be: its own end, a minute, two hours.
    known = Hour(ends=RESET)
    for reset, ends in ((None, RESET), (NOON - MINUTE, NOON + MINUTE), (NOON + 999 * MINUTE, NOON + 120 * MINUTE)):
        emptied = after_answer(known, RateLimit(None, None, reset, refused=True), NOON)
        assert emptied.ends in {ends, ends + timedelta(seconds=1)}
    refused = RateLimit(None, None, None, refused=True)
    assert merged(merged(ANSWERS[0], refused), ANSWERS[1]) == refused
    assert sensible(refused, NOON) == refused


def test_names_are_few_and_short() -> None:
    spent = added({"erp": 1}, {f"route-{number}": 1 for number in range(200)} | {"x" * 500: 2, "erp": 3})
    assert (spent["erp"], sum(spent.values()), len(spent) <= 51) == (4, 206, True)
    assert max(map(len, spent)) <= 100


def test_what_people_see() -> None:
    hour = Hour(3, 100, RESET, True, False, 40, 70, {"b": Holding(5, NOON)}, {"erp": 30, "slack": 5})
    seen = left_of(hour, 1000, 10, NOON)
    assert (seen.limit, seen.left, seen.reserve, seen.ends) == (100, 65, 10, RESET)
    assert seen.spent == [("erp", 30), ("slack", 5)]
    assert left_of(hour, 1000, 10, RESET).left == 100
    assert left_of(Hour(), 1000, 10, NOON).left == 1000
