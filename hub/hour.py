"""A store's hour of requests, as arithmetic: what is left of it, who may take how much, what an answer changes.

Processes take requests in blocks and tell what became of them. Two bounds hold at once: what was given out never
exceeds what the store allows, and what is given out next never exceeds the store's own `remaining` less all that
processes may still send. So none is refused by the store for what the hub itself did, and the last one can be sent.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Literal

BLOCK = 10
HOUR = timedelta(hours=1)
# A reset is told in whole seconds, and may have been rounded down.
SETTLED_AFTER = timedelta(seconds=1)
# Of a request sent later than this before the reset nobody knows in which hour the store counts it.
QUIET_BEFORE = timedelta(seconds=0.5)
SAME = timedelta(seconds=2)
LONGEST = timedelta(hours=2)
REFUSED_AGAIN = timedelta(minutes=1)
# Whoever holds requests says so every few seconds, or has ended.
ALIVE_WITHIN = timedelta(seconds=30)
ASK_AGAIN = timedelta(seconds=0.25)
MOST = 1_000_000
MOST_NAMES = 50
LONGEST_NAME = 100
OTHERS = "others"

Wanted = Literal["foreground", "background"]


@dataclass(frozen=True)
class RateLimit:
    """What an answer said of the hour: how many it allows, how many remain, when it ends. `refused`: it was a 429."""

    limit: int | None
    remaining: int | None
    reset_at: datetime | None
    refused: bool = False


@dataclass(frozen=True)
class Holding:
    """How many requests a process may still send or have answered, as it said at `at`."""

    count: int
    at: datetime


@dataclass(frozen=True)
class Hour:
    """A store's hour. `allowed` and `remaining` are the store's words, as is `ends` where it is `told`.

    `number` changes when the hour turns. `given` were handed out, less what came back; `spent` says for whom.
    `ends` None: the hour begins with its first request. `refused`: the store said 429, and nothing goes until it ends.
    """

    number: int = 0
    allowed: int | None = None
    ends: datetime | None = None
    told: bool = False
    refused: bool = False
    given: int = 0
    remaining: int | None = None
    held: Mapping[str, Holding] = field(default_factory=dict)
    spent: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a process tells of a store's hour, and asks for.

    `limit` and `reserve` (percent) are the config's. `unspent` of its block of the hour `number` come back;
    `unanswered` may be counted by the store or not; `wants` None asks for nothing.
    """

    store: str
    process: str
    limit: int
    reserve: float
    number: int | None = None
    unspent: int = 0
    unanswered: int = 0
    spent: Mapping[str, int] = field(default_factory=dict)
    answer: RateLimit | None = None
    wants: Wanted | None = None


@dataclass(frozen=True)
class Grant:
    """A block of `count` requests, of which background work may send `above`; without any, to `wait` in seconds.

    Nothing of it may be sent from `quiet_at` on.
    """

    count: int
    above: int
    number: int
    ends: datetime | None
    told: bool
    wait: float = 0.0

    @property
    def quiet_at(self) -> datetime | None:
        return None if self.ends is None else self.ends - SETTLED_AFTER - QUIET_BEFORE


@dataclass(frozen=True)
class Left:
    """What an hour looks like from outside: `left` of `limit`, the part that background work leaves alone."""

    limit: int
    left: int
    reserve: int
    ends: datetime | None
    spent: list[tuple[str, int]]


def settle(hour: Hour, report: Report, now: datetime) -> tuple[Hour, Grant]:
    """The hour after a report, and what the process gets."""
    hour = told_back(turned(hour, now), report)
    if report.answer is not None:
        hour = after_answer(hour, report.answer, now)
    grant = granted(hour, report, now)
    held = {process: holding for process, holding in hour.held.items() if process != report.process}
    if grant.count + report.unanswered:
        held[report.process] = Holding(grant.count + report.unanswered, now)
    ends = grant.ends if grant.count else hour.ends
    return replace(hour, ends=ends, given=hour.given + grant.count, held=held), grant


def turned(hour: Hour, now: datetime) -> Hour:
    """The hour itself, or the one after it once it has ended."""
    return hour if hour.ends is None or now < hour.ends else following(hour, now)


def following(hour: Hour, now: datetime) -> Hour:
    """The next hour. What living processes hold may still be sent in it."""
    alive = {process: holding for process, holding in hour.held.items() if holding.at > now - ALIVE_WITHIN}
    return Hour(number=hour.number + 1, allowed=hour.allowed, held=alive)


def told_back(hour: Hour, report: Report) -> Hour:
    """What a process gives back and has spent counts only in the hour that it was of."""
    if report.number != hour.number:
        return hour
    return replace(hour, given=max(0, hour.given - report.unspent), spent=added(hour.spent, report.spent))


def added(spent: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The sums by name, of a bounded number of names."""
    sums = Counter(spent)
    for who, count in more.items():
        name = who[:LONGEST_NAME]
        sums[name if name in sums or len(sums) < MOST_NAMES else OTHERS] += count
    return dict(sums)


def sensible(answer: RateLimit, now: datetime) -> RateLimit | None:
    """An answer without what cannot be true; None for one about an hour that is over."""
    reset = answer.reset_at
    if reset is not None and reset.tzinfo is None:
        reset = None
    if reset is not None and reset > now + LONGEST:
        reset = now + LONGEST if answer.refused else None
    if reset is not None and reset + SETTLED_AFTER <= now:
        if not answer.refused:
            return None
        reset = now + REFUSED_AGAIN
    limit = answer.limit if answer.limit is not None and 0 < answer.limit <= MOST else None
    remaining = answer.remaining if answer.remaining is not None and 0 <= answer.remaining <= MOST else None
    return RateLimit(limit, remaining, reset, answer.refused)


def merged(first: RateLimit | None, second: RateLimit) -> RateLimit:
    """What two sensible answers say together: they come in any order, and the less remaining is the newer."""
    if first is None or second.refused:
        return second
    if first.refused:
        return first
    if first.reset_at is not None and second.reset_at is not None and abs(first.reset_at - second.reset_at) > SAME:
        return first if first.reset_at > second.reset_at else second
    return RateLimit(
        first.limit if second.limit is None else second.limit,
        least(first.remaining, second.remaining),
        second.reset_at or first.reset_at,
    )


def least(first: int | None, second: int | None) -> int | None:
    return min((one for one in (first, second) if one is not None), default=None)


def after_answer(hour: Hour, answer: RateLimit, now: datetime) -> Hour:
    """The present hour after an answer. Within an hour `remaining` only falls; a later end moves the hour."""
    said = sensible(answer, now)
    if said is None:
        return hour
    ends = None if said.reset_at is None else said.reset_at + SETTLED_AFTER
    if said.refused:
        until = ends or hour.ends or now + HOUR + SETTLED_AFTER
        return replace(hour, ends=until, told=True, refused=True, remaining=0, allowed=said.limit or hour.allowed)
    if hour.refused:
        # Sent before the refusal, or in spite of it: what it says of the hour is no news.
        return hour
    if ends is not None:
        if hour.told and hour.ends is not None and ends < hour.ends - SAME:
            return hour
        hour = moved(hour, ends, said.remaining, now)
    remaining = least(hour.remaining, said.remaining)
    return replace(hour, allowed=said.limit or hour.allowed, remaining=remaining)


def moved(hour: Hour, ends: datetime, remaining: int | None, now: datetime) -> Hour:
    """The hour that ends then: another one, if more remains of it than remained of this one."""
    later = hour.told and hour.ends is not None and ends > hour.ends + SAME
    if later and remaining is not None and hour.remaining is not None and remaining > hour.remaining:
        hour = following(hour, now)
    return replace(hour, ends=ends, told=True)


def granted(hour: Hour, report: Report, now: datetime) -> Grant:
    """The block that a process gets, or how long it is to wait."""
    nothing = Grant(0, 0, hour.number, hour.ends, hour.told)
    if report.wants is None:
        return nothing
    until = HOUR if hour.ends is None else hour.ends - now
    if nothing.quiet_at is not None and now >= nothing.quiet_at:
        return replace(nothing, wait=until.total_seconds())
    allowed = hour.allowed or report.limit
    others = [holding for process, holding in hour.held.items() if process != report.process]
    kept = reserve_of(allowed, report.reserve)
    free = bounded(allowed - hour.given, hour, sum(one.count for one in others) + report.unanswered)
    usable = free - kept if report.wants == "background" else free
    if usable <= 0:
        alive = sum(holding.count for holding in others if holding.at > now - ALIVE_WITHIN)
        dead = sum(holding.count for holding in others) - alive
        hoped = bounded(allowed - hour.given + alive, hour, dead) - (kept if report.wants == "background" else 0)
        # Some may come back, or turn out not to be sent: that is known within seconds.
        return replace(nothing, wait=(min(ASK_AGAIN, until) if hoped > 0 else until).total_seconds())
    # Near the end they share: who has much would keep the last ones from who needs them.
    count = min(BLOCK, max(1, usable // (2 * (1 + len(others)))))
    ends = hour.ends or now + HOUR + SETTLED_AFTER
    return Grant(count, min(count, max(0, free - kept)), hour.number, ends, hour.told)


def bounded(free: int, hour: Hour, unsure: int) -> int:
    """`free`, or less where the store says so, of whose `remaining` as many as are `unsure` may be on their way."""
    return free if hour.remaining is None else min(free, hour.remaining - unsure)


def reserve_of(allowed: int, percent: float) -> int:
    """How many of the hour background work leaves alone."""
    return ceil(allowed * percent / 100)


def left_of(hour: Hour, limit: int, reserve: float, now: datetime) -> Left:
    """The hour as people see it: what processes hold and have not sent counts as left."""
    hour = turned(hour, now)
    allowed = hour.allowed or limit
    unspent = allowed - hour.given + sum(holding.count for holding in hour.held.values())
    left = unspent if hour.remaining is None else min(unspent, hour.remaining)
    most = sorted(hour.spent.items(), key=lambda one: (-one[1], one[0]))
    return Left(allowed, min(allowed, max(0, left)), reserve_of(allowed, reserve), hour.ends, most)
