"""When a delivery is tried next, and what an attempt's outcome does to it and to its route. Pure arithmetic.

Numbers and rules are design.md's: budget of attempts, Retry-After, rate (GCRA), breaker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, NotNow, Outcome, Rejected, Skip, TryAgain

LONGEST_STOP = timedelta(hours=2)
JITTER = 0.2
OPENS_AFTER = 10
FIRST_PROBE = timedelta(seconds=30)
LAST_PROBE = timedelta(minutes=15)
# A rate faster than this is served in small groups, so that a route's loop need not wake for each delivery.
RATE_TOLERANCE = timedelta(milliseconds=100)
POISON = 3
LOOK_PAUSE = timedelta(seconds=10)


@dataclass(frozen=True)
class Settlement:
    """What becomes of a delivery after an attempt. `due` None: it waits for nothing."""

    outcome: str
    status: str
    due: datetime | None = None
    more_budget: int = 0
    error_key: str | None = None
    reason: str | None = None


def scheduled_wait(schedule: Sequence[timedelta], attempts: int, budget: int) -> timedelta:
    """The schedule's wait after attempt number `attempts`."""
    if not schedule:
        return timedelta()
    entry = len(schedule) - (budget - attempts)
    return schedule[min(max(entry, 0), len(schedule) - 1)]


def next_wait(scheduled: timedelta, after: float | None, chance: float) -> timedelta:
    """`scheduled` with jitter (`chance` 0..1 gives -20 % to +20 %), or the Retry-After if longer, within 2 h of it."""
    jittered = scheduled * (1 + JITTER * (2 * chance - 1))
    asked = timedelta(seconds=min(after or 0.0, 1e9))
    return min(max(jittered, asked), jittered + LONGEST_STOP)


def settle(
    result: Receipt | Outcome,
    *,
    now: datetime,
    attempts: int,
    budget: int,
    schedule: Sequence[timedelta],
    chance: float,
) -> Settlement:
    """What `result` of attempt number `attempts` makes of its delivery."""
    match result:
        case Receipt():
            return Settlement("delivered", "delivered", reason=result.text)
        case NotNow():
            due = now + timedelta(seconds=max(result.after, 0.0))
            return Settlement("not_now", "pending", due, 1, "not_now", result.reason)
        case Hold():
            return Settlement("hold", "held", None, 1, "hold", result.reason)
        case HoldRoute():
            return Settlement("hold_route", "pending", now, 1, "hold_route", result.reason)
        case Skip():
            return Settlement("skip", "skipped", None, 0, "skip", result.reason)
        case TryAgain() if attempts < budget:
            wait = next_wait(scheduled_wait(schedule, attempts, budget), result.after, chance)
            return Settlement("try_again", "pending", now + wait, 0, error_key(result), result.reason)
        case TryAgain():
            return Settlement("try_again", "dead", None, 0, error_key(result), result.reason)
        case Rejected():
            return Settlement("rejected", "dead", None, 0, error_key(result), result.reason)
    raise TypeError(f"{type(result).__name__} is no outcome of an attempt")


def error_key(result: Outcome) -> str:
    """A short name under which like failures are counted together."""
    status = getattr(result, "status", None)
    return f"status_{status}" if status else result.reason.partition(":")[0][:60]


@dataclass(frozen=True)
class Breaker:
    """A route's breaker. Open while `opened_at` is set; then `probe_at` is when the next probe may go."""

    failures: int = 0
    opened_at: datetime | None = None
    reason: str | None = None
    probe_at: datetime | None = None
    probe_wait: timedelta = timedelta()


def after_result(breaker: Breaker, result: Receipt | Outcome, now: datetime) -> Breaker:
    """The breaker after one attempt: success closes it, what is the destination's fault counts or prolongs it."""
    if isinstance(result, Receipt):
        return Breaker()
    broken = isinstance(result, HoldRoute) or (isinstance(result, TryAgain) and result.destination)
    if breaker.opened_at is not None:
        return _after_probe(breaker, broken, result, now)
    if isinstance(result, HoldRoute) or (broken and breaker.failures + 1 >= OPENS_AFTER):
        return Breaker(breaker.failures + 1, now, result.reason, now + FIRST_PROBE, FIRST_PROBE)
    if broken:
        return replace(breaker, failures=breaker.failures + 1)
    return Breaker() if isinstance(result, Rejected) else breaker


def _after_probe(breaker: Breaker, broken: bool, result: Outcome, now: datetime) -> Breaker:
    answered = isinstance(result, Rejected) or (isinstance(result, TryAgain) and result.status is not None)
    if answered and not broken:
        # It is there and means what it says, about this one delivery.
        return Breaker()
    if isinstance(result, Skip | Hold | NotNow):
        # It was not asked: the next probe need not wait.
        return replace(breaker, probe_at=now)
    if breaker.probe_at is not None and breaker.probe_at > now:
        # One that was under way when the breaker opened.
        return breaker
    wait = min(max(breaker.probe_wait * 2, FIRST_PROBE), LAST_PROBE)
    return replace(breaker, failures=breaker.failures + 1, reason=result.reason, probe_at=now + wait, probe_wait=wait)


def next_free(next_free_at: datetime | None, interval: timedelta | None, now: datetime) -> datetime | None:
    """`next_free_at`, but no later than the rate can have made it: clocks are set back, rates are raised."""
    if next_free_at is None or interval is None:
        return None
    return min(next_free_at, now + RATE_TOLERANCE + interval)


def tokens(next_free_at: datetime | None, interval: timedelta | None, now: datetime, most: int) -> int:
    """How many deliveries a route's rate lets go now, at most `most`. GCRA with a small tolerance.

    Slow rates go one by one; a rate of 100/s may send the ten of the next 100 ms together.
    """
    if interval is None or most <= 0:
        return max(most, 0)
    start = max(next_free_at or now, now)
    if interval >= RATE_TOLERANCE:
        return int(start <= now)
    spare = now + RATE_TOLERANCE - start
    return min(most, max(0, int(spare / interval)))


def after_taking(
    next_free_at: datetime | None, interval: timedelta | None, now: datetime, taken: int
) -> datetime | None:
    """The next free moment after `taken` deliveries went."""
    if interval is None or not taken:
        return next_free_at
    return max(next_free_at or now, now) + interval * taken


def stopped_until(result: Receipt | Outcome, now: datetime) -> datetime | None:
    """Until when a 429 or 503 with Retry-After stops the whole route."""
    if isinstance(result, TryAgain) and result.status in {429, 503} and result.after:
        return now + min(timedelta(seconds=min(result.after, 1e9)), LONGEST_STOP)
    return None
