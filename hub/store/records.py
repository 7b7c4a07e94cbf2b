"""Recording: the short transaction after an attempt.

The attempt's outcome is always kept; the delivery changes only where the claim's token is still its own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, select, update

from hub.clock import MICROSECOND
from hub.models import harmless
from hub.schedule import Breaker, Settlement
from hub.store import ATTEMPT, DELIVERY, ROUTE_STATE, is_postgres
from hub.store.claims import ClaimRequest
from hub.store.effects import NewEffect, put_effects
from hub.store.events import fresh_look
from hub.store.stats import add_counts, hour_of
from hub.store.wide import select_rows, update_rows

# Statements of every record are made once: to make one costs more than to run it.
STATES = (
    select(ROUTE_STATE)
    .where(ROUTE_STATE.c.route.in_(bindparam("routes", expanding=True)))
    .order_by(ROUTE_STATE.c.route)
    .with_for_update()
)
ENDED = ("outcome", "note", "duration_ms", "status_code", "request", "response", "url")
SETTLED = (
    "status", "next_attempt_at", "lease_until", "budget", "error_key", "last_error", "lost", "again", "look",
)  # fmt: skip
LAST = and_(ATTEMPT.c.delivery_id == DELIVERY.c.id, ATTEMPT.c.number == DELIVERY.c.attempts)
UNDER_WAY: Select[Any] = (
    select(
        *[DELIVERY.c[name] for name in ("id", "store", "route", "entity", "attempts", "span", "key_no", *SETTLED)],
        ATTEMPT.c.outcome.label("last_outcome"),
    )
    .outerjoin(ATTEMPT, LAST)
    .where(DELIVERY.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(DELIVERY.c.id)
    .with_for_update(of=DELIVERY)
)
WRITTEN = select(ATTEMPT.c.delivery_id, ATTEMPT.c.number).where(
    ATTEMPT.c.delivery_id.in_(bindparam("ids", expanding=True)),
    ATTEMPT.c.outcome.is_not(None),
    ATTEMPT.c.outcome != "lost",
)


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt's end: how the delivery is settled, the breaker's input, and the excerpts for the record."""

    delivery_id: str
    route: str
    attempt: int
    settlement: Settlement
    duration: timedelta
    step: Any
    key_no: int = 0
    look: int = 0
    stop_until: datetime | None = None
    status_code: int | None = None
    request: str | None = None
    response: str | None = None
    url: str | None = None
    effects: Sequence[NewEffect] = ()


def lock_routes(connection: Connection, items: Sequence[Any]) -> None:
    """Lock the states of all routes that a commit's claims and records touch, in one order.

    Each batch locks its own in order, but two batches in one commit would not: two workers then wait for each other.
    """
    if is_postgres(connection):
        names = {item.route for item in items if isinstance(item, ClaimRequest | Finished)}
        if names:
            connection.execute(STATES, {"routes": sorted(names)}).all()


def record(connection: Connection, now: datetime, items: Sequence[Finished]) -> list[str]:
    """Write outcomes. Returns each delivery's status after it, or `late` where a newer attempt has the delivery."""
    # Routes are locked before deliveries, as in a claim.
    states = _lock_states(connection, items)
    ids = sorted({item.delivery_id for item in items})
    rows = {row.id: row for row in select_rows(connection, UNDER_WAY, {"ids": ids})}
    written = _written(connection, items, rows)
    # A commit whose answer was lost is tried again: what it wrote stays as it is.
    fresh = [item for item in items if (item.delivery_id, item.attempt) not in written]
    _step_breakers(connection, now, states, fresh)
    changes = {
        (item.delivery_id, item.attempt): _change(connection, now, item, rows[item.delivery_id]) for item in fresh
    }
    attempts = [_attempt_values(item, late=changes[item.delivery_id, item.attempt] is None) for item in fresh]
    update_rows(connection, ATTEMPT, ("delivery_id", "number"), ENDED, attempts)
    settled = [(of, *[values[name] for name in SETTLED]) for (of, _), values in changes.items() if values]
    update_rows(connection, DELIVERY, ("id",), SETTLED, settled)
    # A fact, whoever has the delivery by now.
    put_effects(connection, now, [effect for item in fresh for effect in item.effects])
    _count(connection, now, fresh, changes)
    return [_status_after(item, changes, rows[item.delivery_id]) for item in items]


def _count(
    connection: Connection,
    now: datetime,
    items: Sequence[Finished],
    changes: dict[tuple[str, int], dict[str, Any] | None],
) -> None:
    hour = hour_of(now)
    counts: Counter[tuple[datetime, str, str, str]] = Counter()
    for item in items:
        values, outcome = changes[item.delivery_id, item.attempt], item.settlement.outcome
        became = "late" if values is None else outcome if outcome == "delivered" else values["status"]
        counts[hour, "delivery", item.route, outcome if became == "pending" else became] += 1
        counts[hour, "attempt_ms", item.route, "sum"] += item.duration // (1000 * MICROSECOND)
        counts[hour, "attempt_ms", item.route, "count"] += 1
    add_counts(connection, counts)


def _written(connection: Connection, items: Sequence[Finished], rows: dict[str, Row[Any]]) -> set[tuple[str, int]]:
    """Which attempts have their outcome already; those before a delivery's last take one more look."""
    found = {(row.id, row.attempts) for row in rows.values() if row.last_outcome not in {None, "lost"}}
    older = sorted({item.delivery_id for item in items if item.attempt != rows[item.delivery_id].attempts})
    if older:
        found |= {(row.delivery_id, row.number) for row in connection.execute(WRITTEN, {"ids": older})}
    return found


def _status_after(item: Finished, changes: dict[tuple[str, int], dict[str, Any] | None], row: Row[Any]) -> str:
    if (item.delivery_id, item.attempt) not in changes:
        return str(row.status)
    values = changes[item.delivery_id, item.attempt]
    return "late" if values is None else str(values["status"])


def _attempt_values(item: Finished, *, late: bool) -> tuple[Any, ...]:
    """Delivery and number, then the columns of ENDED."""
    settlement = item.settlement
    outcome, note = settlement.outcome, settlement.reason
    if late:
        outcome, note = "late", f"late, after a newer attempt began: {outcome}: {note}"
    milliseconds = item.duration // (1000 * MICROSECOND)
    ended = (outcome, note, milliseconds, item.status_code, item.request, item.response, item.url)
    return (item.delivery_id, item.attempt, *ended)


def _change(connection: Connection, now: datetime, item: Finished, row: Row[Any]) -> dict[str, Any] | None:
    """The delivery's new columns, or None where the token is not ours any more."""
    settlement = item.settlement
    ours = (row.attempts, row.key_no, row.look) == (item.attempt, item.key_no, item.look)
    if not ours or (row.status != "pending" and row.lease_until is None):
        return None
    delivered = settlement.status == "delivered"
    if row.status != "pending":
        # Cancelled while under way: only a real delivery still counts.
        values = {name: getattr(row, name) for name in SETTLED} | {"lease_until": None, "lost": 0, "again": False}
        if not delivered:
            return values
        values |= {"status": "delivered", "error_key": None, "last_error": None}
        return values | (_looking_again(connection, now, row) if row.again else {})
    values = {
        "status": settlement.status,
        "next_attempt_at": settlement.due,
        "lease_until": None,
        "budget": row.budget + settlement.more_budget,
        # It may begin as the reason does, which is text from outside.
        "error_key": settlement.error_key and harmless(settlement.error_key),
        "last_error": None if delivered else settlement.reason,
        "lost": 0,
        "again": row.again,
        "look": row.look,
    }
    if row.again and (delivered or settlement.outcome == "skip"):
        values |= _looking_again(connection, now, row)
    return values


def _looking_again(connection: Connection, now: datetime, row: Row[Any]) -> dict[str, Any]:
    look = fresh_look(connection, now, row)
    return {name: look[name] for name in SETTLED if name in look}


def _lock_states(connection: Connection, items: Sequence[Finished]) -> Sequence[Row[Any]]:
    return select_rows(connection, STATES, {"routes": sorted({item.route for item in items})})


def _step_breakers(
    connection: Connection, now: datetime, states: Iterable[Row[Any]], items: Sequence[Finished]
) -> None:
    by_route: defaultdict[str, list[Finished]] = defaultdict(list)
    for item in items:
        by_route[item.route].append(item)
    for state in states:
        before = Breaker(
            state.failures, state.opened_at, state.open_reason, state.probe_at, timedelta(seconds=state.probe_wait)
        )
        breaker, stop = before, state.stopped_until
        for item in by_route[state.route]:
            breaker = item.step(breaker, now)
            if item.stop_until is not None:
                stop = max(stop or item.stop_until, item.stop_until)
        if (breaker, stop) != (before, state.stopped_until):
            connection.execute(
                update(ROUTE_STATE)
                .where(ROUTE_STATE.c.route == state.route)
                .values(
                    failures=breaker.failures,
                    opened_at=breaker.opened_at,
                    open_reason=breaker.reason,
                    probe_at=breaker.probe_at,
                    probe_wait=breaker.probe_wait.total_seconds(),
                    probe_id=state.probe_id if breaker.opened_at else None,
                    stopped_until=stop,
                )
            )
