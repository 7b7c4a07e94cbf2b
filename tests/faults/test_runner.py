"""A case that was only too slow is played once more; one whose books are wrong never is. Slowness is measured."""

import dataclasses
import time

import pytest

from tests.faults.cases import Line, played, sound
from tests.faults.ledger import Balance
from tests.faults.slowness import Slowness
from tests.faults.stage import Figure
from tests.servers import eventually

EVEN = Balance(
    sent=3, acked=3, indeterminate=0, refused=0, delivered=3, recovered=0, lost=0, phantom=0, dup_keyed=0,
    dup_plain={"plain": 0}, dead=0,
)  # fmt: skip
WELL = Figure("non-2xx 0")
IN_TIME = Figure("first 2xx after 1.0 s (allowed ≤ 3)", time=True)
LATE = Figure("first 2xx after 4.0 s (allowed ≤ 3)", sound=False, time=True)
WRONG = Figure("non-2xx 1", sound=False)


def line(*figures: Figure, balance: Balance = EVEN, fault: str | None = None, without: str | None = None) -> Line:
    clean = sound(balance, {}, None)
    passed = fault is None and clean and all(figure.sound for figure in figures)
    return Line("F99", "sqlite", "a fault", passed, 1.0, balance, list(figures), fault, without, {}, clean)


async def lines_of(*to_come: Line) -> list[Line]:
    """What is written of a case whose turns give these."""
    left = list(to_come)

    async def play() -> Line:
        return left.pop(0)

    return await played(play)


async def test_a_case_that_was_only_too_slow_is_played_once_more_and_both_lines_stand() -> None:
    first, second = await lines_of(line(WELL, LATE), line(WELL, IN_TIME), line(WELL, IN_TIME))
    assert (first.passed, second.passed) == (False, True)
    assert str(first).endswith("TOO SLOW")
    assert str(second).endswith("PASS")


async def test_a_case_that_is_too_slow_twice_fails() -> None:
    lines = await lines_of(line(LATE), line(LATE), line(IN_TIME))
    assert [one.passed for one in lines] == [False, False]


@pytest.mark.parametrize(
    "wrong",
    [
        line(LATE, WRONG),
        line(WRONG),
        line(LATE, fault="TimeoutError"),
        line(LATE, without="lease_token"),
        line(LATE, balance=dataclasses.replace(EVEN, lost=1)),
        line(LATE, balance=dataclasses.replace(EVEN, phantom=1)),
        line(LATE, balance=dataclasses.replace(EVEN, dup_keyed=1)),
        line(LATE, balance=dataclasses.replace(EVEN, dup_plain={"plain": 1})),
        line(LATE, balance=dataclasses.replace(EVEN, dead=1)),
        line(LATE, balance=dataclasses.replace(EVEN, wrong=["1 stored twice"])),
    ],
)
async def test_a_case_that_is_wrong_is_never_tried_again(wrong: Line) -> None:
    assert await lines_of(wrong, line(IN_TIME)) == [wrong]


async def test_a_case_that_passed_is_played_once() -> None:
    assert await lines_of(line(WELL, IN_TIME), line(WRONG)) == [line(WELL, IN_TIME)]


async def test_without_a_safeguard_the_moment_that_it_is_there_for_is_waited_for() -> None:
    missing = line(WELL, without="begin_immediate")
    failed = line(WRONG, without="begin_immediate")
    assert await lines_of(missing, failed, failed) == [missing, failed]
    assert await lines_of(missing, missing, missing, failed) == [missing] * 3


def test_slowness_is_of_the_time_that_was_measured_and_never_below_one() -> None:
    slowness = Slowness()
    slowness.cores = 2
    assert slowness.times(10) == 1
    now = time.monotonic()
    slowness.seen.extend([(now - 60, 40), (now - 2, 8), (now - 1, 4)])
    assert slowness.times(10) == 3
    slowness.seen.extend([(now, 0)] * 20)
    assert slowness.times(10) == 1


async def test_slowness_is_looked_at_all_the_time() -> None:
    async with Slowness() as slowness:
        await eventually(lambda: len(slowness.seen) >= 2)
