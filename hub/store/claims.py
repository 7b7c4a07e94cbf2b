"""Claiming: the short transaction before an attempt; hub.store.records has the one after it.

A claim locks its route's RouteState, then raises `attempts` in one conditional UPDATE: the number is the token
without which nobody writes the outcome. While the lease runs `next_attempt_at` equals it, so that one index
condition finds what is due.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, or_, select, update

from hub.schedule import POISON, after_taking, next_free, tokens
from hub.store import ATTEMPT, DELIVERY, EVENT, ROUTE_STATE, WORKER, among, insert_into, is_postgres
from hub.store.stats import add_endings
from hub.store.wide import execute_once_made, insert_rows, select_rows

ALIVE_WITHIN = timedelta(seconds=15)
DAY = timedelta(days=1)
ALONE_AFTER = 2
AFTER_ALL = 2**62

# What became of deliveries in a claim, without a record: (route, label) for each.
Endings = list[tuple[str, str]]

# Statements of every claim and record are made once: to make one costs more than to run it.
STATE = select(ROUTE_STATE).where(ROUTE_STATE.c.route == bindparam("route")).with_for_update()
LEASED = select(func.count().label("leased"), func.min(DELIVERY.c.lease_until).label("first")).where(
    DELIVERY.c.route == bindparam("route"), DELIVERY.c.lease_until.is_not(None)
)
TAKE = (
    update(DELIVERY)
    .where(
        DELIVERY.c.id.in_(bindparam("ids", expanding=True)),
        among(DELIVERY.c.status, "pending"),
        DELIVERY.c.next_attempt_at <= bindparam("now"),
        DELIVERY.c.lease_until.is_(None),
    )
    .values(
        attempts=DELIVERY.c.attempts + 1,
        lease_until=bindparam("until"),
        next_attempt_at=bindparam("until"),
        again=False,
        looked_at=bindparam("looked"),
    )
)
TAKE_AND_TELL = TAKE.returning(DELIVERY.c.id, DELIVERY.c.attempts)
NEXT_DUE = select(func.min(DELIVERY.c.next_attempt_at).label("due")).where(
    DELIVERY.c.route == bindparam("route"),
    among(DELIVERY.c.status, "pending"),
    DELIVERY.c.next_attempt_at > bindparam("now"),
)
STARTED = ("delivery_id", "number", "worker", "started_at")


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a route's loop asks for: at most `limit` deliveries, under the route's own bounds.

    `alone`: only deliveries that ended two processes, one of them, with nothing else beside it. `recording`: those
    whose outcome the worker has and could not write yet; they are not lost, whatever became of their lease.
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
    recording: Collection[str] = ()


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


def ensure_routes(connection: Connection, now: datetime, fingerprints: dict[str, str]) -> None:
    """A RouteState for each configured route; one whose settings changed is probed at once."""
    known = {row.route: row for row in connection.execute(select(ROUTE_STATE))}
    for route, fingerprint in sorted(fingerprints.items()):
        if route not in known:
            # Of several processes that start at once each may be the first.
            insert = insert_into(connection, ROUTE_STATE)
            connection.execute(insert.values(route=route, fingerprint=fingerprint).on_conflict_do_nothing())
        elif known[route].fingerprint != fingerprint:
            values: dict[str, Any] = {"fingerprint": fingerprint, "stopped_until": None}
            if known[route].opened_at is not None:
                values |= {"probe_at": known[route].opened_at, "probe_wait": 0.0}
            connection.execute(update(ROUTE_STATE).where(ROUTE_STATE.c.route == route).values(**values))
            if known[route].opened_at is not None:
                probe_at_once(connection, now, route)


def probe_at_once(connection: Connection, now: datetime, route: str) -> None:
    """Something for a probe: the oldest delivery that waits becomes due, however far its schedule has come."""
    oldest = (
        select(DELIVERY.c.id)
        .where(DELIVERY.c.route == route, among(DELIVERY.c.status, "pending"), DELIVERY.c.lease_until.is_(None))
        .order_by(DELIVERY.c.event_seq)
        .limit(1)
    )
    connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == oldest.scalar_subquery(), DELIVERY.c.next_attempt_at > now)
        .values(next_attempt_at=now)
    )


def claim(connection: Connection, now: datetime, items: Sequence[ClaimRequest]) -> list[Claimed]:
    """Each request's due deliveries, oldest first, under leases."""
    order = sorted(range(len(items)), key=lambda index: items[index].route)
    endings: Endings = []
    done = {index: _claim(connection, now, items[index], endings) for index in order}
    add_endings(connection, now, endings)
    return [done[index] for index in range(len(items))]


def _claim(connection: Connection, now: datetime, request: ClaimRequest, endings: Endings) -> Claimed:
    (state,) = select_rows(connection, STATE, {"route": request.route})
    in_flight, suspects = settle_expired(connection, now, request.route, request.worker, endings, request.recording)
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
    free_at = next_free(state.next_free_at, request.interval, now)
    allowed = tokens(free_at, request.interval, now, free)
    if allowed <= 0:
        if free_at != state.next_free_at:
            set_state(connection, request.route, next_free_at=free_at)
        wake = free_at if free > 0 and free_at else now + DAY
        return Claimed([], max(wake, now), suspects and free > 0)
    rows, suspect = _candidates(connection, now, request, state, allowed)
    fresh = _drop_aged(connection, now, request, state, rows)
    endings += [(request.route, "skipped")] * (len(rows) - len(fresh))
    claims = _take(connection, now, request, fresh, probing)
    _update_state(connection, now, request, state, claims)
    # A claim that took all there was is not made again for nothing: at a few events a second every one would be.
    more = len(rows) == allowed or (suspect and rows)
    return Claimed(claims, now if more else _next_due(connection, now, request.route), suspect)


def settle_expired(
    connection: Connection, now: datetime, route: str, me: str, endings: Endings, recording: Collection[str] = ()
) -> tuple[int, bool]:
    """Close attempts whose lease ran out as `lost`; the number in flight, and whether a suspect came of it.

    What became of their deliveries is added to `endings`.

    Not those of `me` that are `recording`: after an outage their outcomes are about to be written. Only an ended
    process counts against a delivery: not `me`, and no other while my own last sign of life is as old as theirs may
    be, after a sleep of the machine or an outage of the database.
    """
    ((leased, first),) = select_rows(connection, LEASED, {"route": route})
    if first is None or first > now:
        return leased, False
    found = connection.execute(
        select(
            DELIVERY.c.id, DELIVERY.c.attempts, DELIVERY.c.budget, DELIVERY.c.lost, DELIVERY.c.status,
            DELIVERY.c.lease_until, ATTEMPT.c.worker, WORKER.c.seen_at,
        )
        .join(ATTEMPT, and_(ATTEMPT.c.delivery_id == DELIVERY.c.id, ATTEMPT.c.number == DELIVERY.c.attempts))
        .outerjoin(WORKER, WORKER.c.id == ATTEMPT.c.worker)
        .where(DELIVERY.c.route == route, DELIVERY.c.lease_until <= now)
        .order_by(DELIVERY.c.id)
        .with_for_update(of=DELIVERY)
    ).all()  # fmt: skip
    expired = [row for row in found if row.worker != me or row.id not in recording]
    suspects = False
    mine = connection.execute(select(WORKER.c.seen_at).where(WORKER.c.id == me)).scalar()
    awake = mine is not None and mine >= now - ALIVE_WITHIN
    for row in expired:
        ended = awake and row.worker != me and (row.seen_at is None or row.seen_at < now - ALIVE_WITHIN)
        lost = row.lost + ended
        suspects = suspects or lost == ALONE_AFTER
        note = "the hub ended during this attempt" if ended else "no outcome within the lease"
        connection.execute(
            update(ATTEMPT)
            .where(ATTEMPT.c.delivery_id == row.id, ATTEMPT.c.number == row.attempts, ATTEMPT.c.outcome.is_(None))
            .values(outcome="lost", note=note)
        )
        # What ended the process is bounded by POISON; an attempt that a living one does not end counts as any other.
        values: dict[str, Any] = {"lease_until": None, "lost": lost, "budget": row.budget + ended}
        if row.status == "pending":
            values |= _after_lost(now, row, lost, ended)
        became = values.get("status", row.status)
        endings.append((route, "lost" if became == "pending" else became))
        connection.execute(update(DELIVERY).where(DELIVERY.c.id == row.id).values(**values))
    return leased - len(expired), suspects


def _after_lost(now: datetime, row: Any, lost: int, ended: bool) -> dict[str, Any]:
    """Due again, or dead: as poison, or where attempts without an outcome have used up the budget."""
    dead = {"status": "dead", "next_attempt_at": None}
    if lost >= POISON:
        reason = f"the hub ended {POISON} times while it was tried: kept apart so that others go on"
        return dead | {"error_key": "poison", "last_error": reason}
    if not ended and row.attempts >= row.budget:
        return dead | {"error_key": "lost", "last_error": "no outcome within the lease; it may have arrived"}
    return {"next_attempt_at": now}


def settle_gone(connection: Connection, now: datetime, me: str, configured: Collection[str]) -> None:
    """End the leases that ran out on routes which are gone from the config: nobody claims there any more."""
    found = select(DELIVERY.c.route).where(DELIVERY.c.lease_until <= now, DELIVERY.c.route.not_in(configured))
    endings: Endings = []
    for route in connection.execute(found.distinct().order_by(DELIVERY.c.route)).scalars().all():
        connection.execute(STATE, {"route": route})
        settle_expired(connection, now, route, me, endings)
    add_endings(connection, now, endings)


def _candidates(
    connection: Connection, now: datetime, request: ClaimRequest, state: Row[Any], free: int
) -> tuple[list[Row[Any]], bool]:
    """The due deliveries with their events, and whether there is one that may only go alone."""
    probe_id = None if state.opened_at is None else state.probe_id
    values = {"route": request.route, "now": now, "most": free + 1}
    if probe_id is not None:
        values["probe_id"] = probe_id
    rows = select_rows(connection, due_deliveries(request.ordered, probe_id is not None), values)
    suspects = [row for row in rows if row.lost >= ALONE_AFTER]
    if request.alone:
        return suspects[:1], bool(suspects)
    # Nothing past the first suspect: it would take the token that the suspect needs when it goes alone.
    return list(takewhile(lambda row: row.lost < ALONE_AFTER, rows))[:free], bool(suspects)


OLDEST_WAITING = select(func.min(EVENT.c.seq)).where(EVENT.c.fanned_out_at.is_(None)).scalar_subquery()


@cache
def due_deliveries(ordered: bool, probing: bool) -> Select[Any]:
    """A route's due deliveries joined to their events; `probing`: another than the last probe first.

    Parameters: route, now, most; probe_id where probing.
    """
    query = (
        select(
            DELIVERY,
            EVENT.c.type,
            EVENT.c.body,
            EVENT.c.occurred_at,
            EVENT.c.received_at,
            EVENT.c.last_repeat_at,
        )
        .join(EVENT, EVENT.c.id == DELIVERY.c.event_id)
        .where(
            DELIVERY.c.route == bindparam("route"),
            among(DELIVERY.c.status, "pending"),
            DELIVERY.c.next_attempt_at <= bindparam("now"),
            # One whose lease ran out and was not settled is still somebody's.
            DELIVERY.c.lease_until.is_(None),
        )
    )
    if ordered:
        query = query.where(_is_first())
    last_probe = [DELIVERY.c.id == bindparam("probe_id")] if probing else []
    return query.order_by(*last_probe, DELIVERY.c.next_attempt_at, DELIVERY.c.event_seq).limit(bindparam("most"))


def _is_first() -> Any:
    """True for a delivery before which nothing of its entity is still to come (design: "Order").

    Events are fanned out oldest first, so one comparison with the oldest waiting one stands for "no earlier
    event of its entity is still to be fanned out" and can only err on the late side.
    """
    other = DELIVERY.alias("other")
    same = and_(
        other.c.route == DELIVERY.c.route, other.c.store == DELIVERY.c.store, other.c.entity == DELIVERY.c.entity
    )
    earlier = and_(same, among(other.c.status, "pending", "held"), other.c.event_seq < DELIVERY.c.event_seq)
    leased = and_(same, other.c.lease_until.is_not(None), other.c.id != DELIVERY.c.id)
    first = and_(
        ~select(other.c.id).where(earlier).exists(),
        ~select(other.c.id).where(leased).exists(),
        # In the same statement: between two, an event could be fanned out past one that is still waiting.
        DELIVERY.c.event_seq < func.coalesce(OLDEST_WAITING, AFTER_ALL),
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
    looked = now if rows[0].reads_state else None
    values = {"ids": [row.id for row in rows], "now": now, "until": until, "looked": looked}
    numbers = _raise_attempts(connection, rows, values)
    claims = [Claim(row, numbers[row.id], until, probing) for row in rows if row.id in numbers]
    attempts = [(one.delivery.id, one.attempt, request.worker, now) for one in claims]
    insert_rows(connection, ATTEMPT, STARTED, attempts)
    return claims


def _raise_attempts(connection: Connection, rows: list[Row[Any]], values: dict[str, Any]) -> dict[str, int]:
    """The numbers of the attempts that may begin, by delivery."""
    if is_postgres(connection):
        return {row.id: row.attempts for row in connection.execute(TAKE_AND_TELL, values)}
    # Since BEGIN IMMEDIATE nobody else writes, so that what was due still is.
    if execute_once_made(connection, TAKE, values) != len(rows):
        raise RuntimeError("a delivery that was due a moment ago could not be taken")
    return {row.id: row.attempts + 1 for row in rows}


def _update_state(
    connection: Connection, now: datetime, request: ClaimRequest, state: Row[Any], claims: list[Claim]
) -> None:
    values: dict[str, Any] = {}
    if claims and request.interval is not None:
        free_at = next_free(state.next_free_at, request.interval, now)
        values["next_free_at"] = after_taking(free_at, request.interval, now, len(claims))
    if claims and claims[0].probe:
        values["probe_id"] = claims[0].delivery.id
    if values:
        set_state(connection, request.route, **values)


def set_state(connection: Connection, route: str, **values: Any) -> None:
    connection.execute(update(ROUTE_STATE).where(ROUTE_STATE.c.route == route).values(**values))


def _next_due(connection: Connection, now: datetime, route: str) -> datetime:
    ((due,),) = select_rows(connection, NEXT_DUE, {"route": route, "now": now})
    return now + DAY if due is None else due
