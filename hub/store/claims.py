"""Claiming and recording: the two short transactions around an attempt.

A claim locks its route's RouteState, then raises `attempts` in one conditional UPDATE: the number is the token
without which nobody writes the outcome. While the lease runs `next_attempt_at` equals it, so that one index
condition finds what is due.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, or_, select, update

from hub.clock import MICROSECOND
from hub.models import harmless
from hub.schedule import POISON, Breaker, Settlement, after_taking, tokens
from hub.store import ATTEMPT, DELIVERY, EVENT, ROUTE_STATE, WORKER
from hub.store.events import fresh_look

ALIVE_WITHIN = timedelta(seconds=15)
DAY = timedelta(days=1)
ALONE_AFTER = 2


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a route's loop asks for: at most `limit` deliveries, under the route's own bounds.

    `alone`: only deliveries that ended two processes, one of them, with nothing else beside it.
    """

    route: str
    worker: str
    limit: int
    concurrency: int
    lease: timedelta
    interval: timedelta | None = None
    ordered: bool = False
    max_age: timedelta | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery under a lease: the row as claimed, its event, and whether it probes an open breaker."""

    delivery: Row[Any]
    attempt: int
    lease_until: datetime
    probe: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """The claims, when to look again at the latest, and whether a suspect waits to be tried alone."""

    claims: list[Claim]
    next_due: datetime
    suspect: bool = False


def ensure_routes(connection: Connection, fingerprints: dict[str, str]) -> None:
    """A RouteState for each configured route; one whose settings changed is probed at once."""
    known = {row.route: row for row in connection.execute(select(ROUTE_STATE))}
    for route, fingerprint in sorted(fingerprints.items()):
        if route not in known:
            connection.execute(ROUTE_STATE.insert().values(route=route, fingerprint=fingerprint))
        elif known[route].fingerprint != fingerprint:
            values: dict[str, Any] = {"fingerprint": fingerprint, "stopped_until": None}
            if known[route].opened_at is not None:
                values |= {"probe_at": known[route].opened_at, "probe_wait": 0.0}
            connection.execute(update(ROUTE_STATE).where(ROUTE_STATE.c.route == route).values(**values))


def claim(connection: Connection, now: datetime, items: Sequence[ClaimRequest]) -> list[Claimed]:
    """Each request's due deliveries, oldest first, under leases."""
    order = sorted(range(len(items)), key=lambda index: items[index].route)
    done = {index: _claim(connection, now, items[index]) for index in order}
    return [done[index] for index in range(len(items))]


def _claim(connection: Connection, now: datetime, request: ClaimRequest) -> Claimed:
    state = connection.execute(select(ROUTE_STATE).where(ROUTE_STATE.c.route == request.route).with_for_update()).one()
    in_flight, suspects = _settle_expired(connection, now, request.route)
    if state.paused_at is not None:
        return Claimed([], now + DAY)
    if state.stopped_until is not None and state.stopped_until > now:
        return Claimed([], state.stopped_until)
    probing = state.opened_at is not None
    if probing and state.probe_at > now:
        return Claimed([], state.probe_at)
    free = min(request.limit, request.concurrency - in_flight)
    if probing:
        free = min(free, 1 - in_flight)
    allowed = tokens(state.next_free_at, request.interval, now, free)
    if allowed <= 0:
        wake = state.next_free_at if free > 0 and state.next_free_at else now + DAY
        return Claimed([], max(wake, now), suspects and free > 0)
    rows, suspect = _candidates(connection, now, request, state, allowed)
    fresh = _drop_aged(connection, now, request, state, rows)
    claims = _take(connection, now, request, fresh, probing)
    _update_state(connection, now, request, state, claims)
    return Claimed(claims, now if rows else _next_due(connection, now, request.route), suspect)


def _settle_expired(connection: Connection, now: datetime, route: str) -> tuple[int, bool]:
    """Close attempts whose lease ran out as `lost`; the number in flight, and whether a suspect came of it."""
    leased, first = connection.execute(
        select(func.count(), func.min(DELIVERY.c.lease_until)).where(
            DELIVERY.c.route == route, DELIVERY.c.lease_until.is_not(None)
        )
    ).one()
    if first is None or first > now:
        return leased, False
    expired = connection.execute(
        select(
            DELIVERY.c.id, DELIVERY.c.attempts, DELIVERY.c.lost, DELIVERY.c.status, DELIVERY.c.lease_until,
            ATTEMPT.c.worker, WORKER.c.seen_at,
        )
        .join(ATTEMPT, and_(ATTEMPT.c.delivery_id == DELIVERY.c.id, ATTEMPT.c.number == DELIVERY.c.attempts))
        .outerjoin(WORKER, WORKER.c.id == ATTEMPT.c.worker)
        .where(DELIVERY.c.route == route, DELIVERY.c.lease_until <= now)
    ).all()  # fmt: skip
    suspects = False
    for row in expired:
        ended = row.seen_at is None or row.seen_at < now - ALIVE_WITHIN
        lost = row.lost + ended
        poison = lost >= POISON and row.status == "pending"
        suspects = suspects or lost == ALONE_AFTER
        note = "the hub ended during this attempt" if ended else "no outcome within the lease"
        connection.execute(
            update(ATTEMPT)
            .where(ATTEMPT.c.delivery_id == row.id, ATTEMPT.c.number == row.attempts, ATTEMPT.c.outcome.is_(None))
            .values(outcome="lost", note=note)
        )
        values: dict[str, Any] = {"lease_until": None, "lost": lost, "budget": DELIVERY.c.budget + 1}
        if row.status == "pending":
            values |= {"next_attempt_at": now}
        if poison:
            reason = f"the hub ended {POISON} times while it was tried: kept apart so that others go on"
            values |= {"status": "dead", "next_attempt_at": None, "error_key": "poison", "last_error": reason}
        connection.execute(update(DELIVERY).where(DELIVERY.c.id == row.id).values(**values))
    return leased - len(expired), suspects


def _candidates(
    connection: Connection, now: datetime, request: ClaimRequest, state: Row[Any], free: int
) -> tuple[list[Row[Any]], bool]:
    """The due deliveries with their events, and whether there is one that may only go alone."""
    query = due_deliveries(request.route, now)
    if request.ordered:
        query = query.where(_is_first(connection, request.route, now))
    if state.opened_at is not None and state.probe_id is not None:
        query = query.order_by((DELIVERY.c.id == state.probe_id), DELIVERY.c.next_attempt_at, DELIVERY.c.event_seq)
    else:
        query = query.order_by(DELIVERY.c.next_attempt_at, DELIVERY.c.event_seq)
    rows = connection.execute(query.limit(free + 1)).all()
    suspects = [row for row in rows if row.lost >= ALONE_AFTER]
    if request.alone:
        return suspects[:1], bool(suspects)
    return [row for row in rows if row.lost < ALONE_AFTER][:free], bool(suspects)


def due_deliveries(route: str, now: datetime) -> Select[Any]:
    """A route's due deliveries joined to their events."""
    return (
        select(
            DELIVERY,
            EVENT.c.type,
            EVENT.c.body,
            EVENT.c.occurred_at,
            EVENT.c.received_at,
            EVENT.c.last_repeat_at,
        )
        .join(EVENT, EVENT.c.id == DELIVERY.c.event_id)
        .where(DELIVERY.c.route == route, DELIVERY.c.status == "pending", DELIVERY.c.next_attempt_at <= now)
    )


def _is_first(connection: Connection, route: str, now: datetime) -> Any:
    """True for a delivery before which nothing of its entity is still to come (design: "Order").

    Events are fanned out oldest first, so one comparison with the oldest waiting one stands for "no earlier
    event of its entity is still to be fanned out" and can only err on the late side.
    """
    other = DELIVERY.alias("other")
    waiting = connection.execute(select(func.min(EVENT.c.seq)).where(EVENT.c.fanned_out_at.is_(None))).scalar()
    same = and_(other.c.route == route, other.c.store == DELIVERY.c.store, other.c.entity == DELIVERY.c.entity)
    earlier = and_(same, other.c.status.in_(("pending", "held")), other.c.event_seq < DELIVERY.c.event_seq)
    leased = and_(same, other.c.lease_until.is_not(None), other.c.id != DELIVERY.c.id)
    first = and_(
        ~select(other.c.id).where(earlier).exists(),
        ~select(other.c.id).where(leased).exists(),
        *([] if waiting is None else [DELIVERY.c.event_seq < waiting]),
    )
    return or_(DELIVERY.c.entity.is_(None), first)


def _drop_aged(
    connection: Connection, now: datetime, request: ClaimRequest, state: Row[Any], rows: list[Row[Any]]
) -> list[Row[Any]]:
    """Skip what came in longer than `max_age` ago and was never tried, unless a person set it going again."""
    if request.max_age is None:
        return rows
    aged = [
        row
        for row in rows
        if row.attempts == 0
        and row.received_at + request.max_age < now
        and row.replay_id is None
        and row.released_at is None
        and (state.resumed_at is None or row.created_at > state.resumed_at)
    ]
    if aged:
        reason = f"older than max_age ({request.max_age}) before its first attempt"
        connection.execute(
            update(DELIVERY)
            .where(DELIVERY.c.id.in_([row.id for row in aged]))
            .values(status="skipped", next_attempt_at=None, error_key="max_age", last_error=reason)
        )
    gone = {row.id for row in aged}
    return [row for row in rows if row.id not in gone]


def _take(
    connection: Connection, now: datetime, request: ClaimRequest, rows: list[Row[Any]], probing: bool
) -> list[Claim]:
    if not rows:
        return []
    until = now + request.lease
    taken = connection.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.id.in_([row.id for row in rows]),
            DELIVERY.c.status == "pending",
            DELIVERY.c.next_attempt_at <= now,
        )
        .values(
            attempts=DELIVERY.c.attempts + 1,
            lease_until=until,
            next_attempt_at=until,
            again=False,
            looked_at=now if rows[0].reads_state else None,
        )
        .returning(DELIVERY.c.id, DELIVERY.c.attempts)
    ).all()
    numbers = {row.id: row.attempts for row in taken}
    claims = [Claim(row, numbers[row.id], until, probing) for row in rows if row.id in numbers]
    connection.execute(
        ATTEMPT.insert().values(
            [
                {"delivery_id": c.delivery.id, "number": c.attempt, "worker": request.worker, "started_at": now}
                for c in claims
            ]
        )
    )
    return claims


def _update_state(
    connection: Connection, now: datetime, request: ClaimRequest, state: Row[Any], claims: list[Claim]
) -> None:
    values: dict[str, Any] = {}
    if claims and request.interval is not None:
        values["next_free_at"] = after_taking(state.next_free_at, request.interval, now, len(claims))
    if claims and claims[0].probe:
        values["probe_id"] = claims[0].delivery.id
    if values:
        connection.execute(update(ROUTE_STATE).where(ROUTE_STATE.c.route == request.route).values(**values))


def _next_due(connection: Connection, now: datetime, route: str) -> datetime:
    due = connection.execute(
        select(func.min(DELIVERY.c.next_attempt_at)).where(
            DELIVERY.c.route == route, DELIVERY.c.status == "pending", DELIVERY.c.next_attempt_at > now
        )
    ).scalar()
    return due if due is not None else now + DAY


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt's end: how the delivery is settled, the breaker's input, and the excerpts for the record."""

    delivery_id: str
    route: str
    attempt: int
    settlement: Settlement
    duration: timedelta
    step: Any
    stop_until: datetime | None = None
    status_code: int | None = None
    request: str | None = None
    response: str | None = None


def record(connection: Connection, now: datetime, items: Sequence[Finished]) -> list[str]:
    """Write outcomes. Returns each delivery's status after it, or `late` where a newer attempt has the delivery."""
    _step_breakers(connection, now, items)
    rows = {
        row.id: row
        for row in connection.execute(
            select(DELIVERY)
            .where(DELIVERY.c.id.in_(sorted({item.delivery_id for item in items})))
            .order_by(DELIVERY.c.id)
            .with_for_update()
        )
    }
    changes = [_change(connection, now, item, rows[item.delivery_id]) for item in items]
    attempts = [_attempt_values(item, late=values is None) for item, values in zip(items, changes, strict=True)]
    connection.execute(ATTEMPT_DONE, attempts)
    settled = [values for values in changes if values]
    if settled:
        connection.execute(DELIVERY_DONE, settled)
    return ["late" if values is None else str(values["status"]) for values in changes]


ATTEMPT_DONE = (
    update(ATTEMPT)
    .where(ATTEMPT.c.delivery_id == bindparam("of"), ATTEMPT.c.number == bindparam("at_number"))
    .values(
        {name: bindparam(name) for name in ("outcome", "note", "duration_ms", "status_code", "request", "response")}
    )
)
SETTLED = (
    "status", "next_attempt_at", "budget", "error_key", "last_error", "lost", "again", "look",
)  # fmt: skip
DELIVERY_DONE = (
    update(DELIVERY)
    .where(DELIVERY.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in SETTLED} | {"lease_until": None})
)


def _attempt_values(item: Finished, *, late: bool) -> dict[str, Any]:
    settlement = item.settlement
    note = settlement.reason
    if late:
        note = f"late, after a newer attempt began: {settlement.outcome}: {note}"
    return {
        "of": item.delivery_id,
        "at_number": item.attempt,
        "outcome": "late" if late else settlement.outcome,
        "note": note,
        "duration_ms": item.duration // (1000 * MICROSECOND),
        "status_code": item.status_code,
        "request": item.request,
        "response": item.response,
    }


def _change(connection: Connection, now: datetime, item: Finished, row: Row[Any]) -> dict[str, Any] | None:
    """The delivery's new columns, or None where the token is not ours any more."""
    settlement = item.settlement
    if row.attempts != item.attempt or (row.status != "pending" and row.lease_until is None):
        return None
    values = {name: getattr(row, name) for name in SETTLED} | {"of": row.id, "lost": 0}
    if row.status != "pending":
        # Cancelled while under way: only a real delivery still counts.
        kept = {"status": "delivered", "error_key": None, "last_error": None}
        return values | (kept if settlement.status == "delivered" else {})
    values |= {
        "status": settlement.status,
        "next_attempt_at": settlement.due,
        "budget": row.budget + settlement.more_budget,
        # It may begin as the reason does, which is text from outside.
        "error_key": settlement.error_key and harmless(settlement.error_key),
        "last_error": None if settlement.status == "delivered" else settlement.reason,
    }
    if row.again and (settlement.status == "delivered" or settlement.outcome == "skip"):
        look = fresh_look(connection, now, row)
        values |= {name: look[name] for name in SETTLED if name in look}
    return values


def _step_breakers(connection: Connection, now: datetime, items: Iterable[Finished]) -> None:
    by_route: defaultdict[str, list[Finished]] = defaultdict(list)
    for item in items:
        by_route[item.route].append(item)
    states = connection.execute(
        select(ROUTE_STATE)
        .where(ROUTE_STATE.c.route.in_(sorted(by_route)))
        .order_by(ROUTE_STATE.c.route)
        .with_for_update()
    ).all()
    for state in states:
        before = Breaker(
            state.failures, state.opened_at, state.open_reason, state.probe_at, timedelta(seconds=state.probe_wait)
        )
        breaker, stop = before, state.stopped_until
        for item in by_route[state.route]:
            breaker = item.step(breaker, now)
            stop = max(filter(None, (stop, item.stop_until)), default=None)
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
