"""Fan-out: from events to deliveries, with search keys and the reasons for routes not taken, in one transaction.

The events are read before it and planned between: a slow condition holds no lock, and not SQLite's one writer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from hub.clock import new_id
from hub.store import DELIVERY, EVENT, EVENT_KEY, is_postgres
from hub.store.stats import add_counts, hour_of


@dataclass(frozen=True, slots=True)
class RouteTerms:
    """What a new delivery takes from its route: `span`, its attempts; and whether its connector reads state."""

    span: int
    reads_state: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Where an event goes: routes taken, reasons for the others, broken conditions, search keys."""

    taken: Sequence[str]
    not_taken: dict[str, str]
    broken: dict[str, str]
    keys: set[tuple[str, str]] = field(default_factory=set)


Planned = Sequence[tuple[Row[Any], Plan]]


def waiting_events(connection: Connection, most: int) -> Sequence[Row[Any]]:
    """The oldest events that are not fanned out yet. On PostgreSQL without those that another worker writes now."""
    return connection.execute(WAITING, {"most": most}).all()


def event_rows(connection: Connection, ids: Sequence[str]) -> Sequence[Row[Any]]:
    """These events, as `waiting_events` has them, whether or not they are fanned out."""
    return connection.execute(select(*(EVENT.c[name] for name in READ)).where(EVENT.c.id.in_(ids))).all()


# Made once, as in hub.store.claims: to make a statement costs as much as to run it.
READ = ("seq", "id", "store", "type", "entity", "occurred_at", "received_at", "body", "origin")
WAITING = (
    select(*(EVENT.c[name] for name in READ))
    .where(EVENT.c.fanned_out_at.is_(None))
    .order_by(EVENT.c.seq)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
STILL_WAITING = (
    select(EVENT.c.seq)
    .where(EVENT.c.fanned_out_at.is_(None), EVENT.c.seq.between(bindparam("first"), bindparam("last")))
    .order_by(EVENT.c.seq)
    .with_for_update(skip_locked=True)
)
FANNED_OUT = (
    update(EVENT)
    .where(EVENT.c.seq == bindparam("of"))
    .values(fanned_out_at=bindparam("at_time"), not_taken=bindparam("reasons"))
)


def write_plans(
    connection: Connection, now: datetime, planned: Planned, terms: dict[str, RouteTerms], by: str | None = None
) -> set[str]:
    """Deliveries, search keys and reasons of events that have their plan; the routes that got deliveries.

    `by`: the process that does it, which counts for itself.

    They were planned outside of this transaction: what another worker has fanned out since, or is about to, is its own.
    """
    if not planned:
        return set()
    bounds = {"first": planned[0][0].seq, "last": planned[-1][0].seq}
    waiting = set(connection.execute(STILL_WAITING, bounds).scalars())
    plans = [(event, plan) for event, plan in planned if event.seq in waiting]
    if not plans:
        return set()
    deliveries = [
        new_delivery(event, route, terms[route], now, plan.broken.get(route)) | {"id": first_id(event, route)}
        for event, plan in plans
        for route in (*plan.taken, *plan.broken)
    ]
    keys = [
        {"value": value, "kind": kind, "store": event.store, "event_id": event.id}
        for event, plan in plans
        for kind, value in sorted(plan.keys)
    ]
    _insert_new(connection, DELIVERY, deliveries)
    _insert_new(connection, EVENT_KEY, keys)
    done = [{"of": event.seq, "at_time": now, "reasons": plan.not_taken or None} for event, plan in plans]
    connection.execute(FANNED_OUT, done)
    counts = Counter((hour_of(event.received_at), "event", event.store, event.type) for event, _ in plans)
    counts += Counter((hour_of(now), "delivery", route, "dead") for _, plan in plans for route in plan.broken)
    add_counts(connection, counts, by)
    return {route for _, plan in plans for route in (*plan.taken, *plan.broken)}


def _insert_new(connection: Connection, into: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_inserting(into, is_postgres(connection)), rows)


@cache
def _inserting(into: Table, postgres: bool) -> Any:
    insert = postgresql.insert(into) if postgres else sqlite.insert(into)
    return insert.on_conflict_do_nothing()


def first_id(event: Row[Any], route: str) -> str:
    """The id of an event's delivery along a route: the same whoever fans it out, and whenever.

    It is what destinations tell repeats by. A backup may hold the event and not yet its deliveries: restored, the event
    is fanned out a second time, and must not arrive under another key. Deliveries sort as their events do.
    """
    when = event.id.removeprefix("evt_")[:16]
    mark = sha256(f"{event.id} {route}".encode()).hexdigest()
    return f"dlv_{when}{mark[:16]}"


def new_delivery(
    event: Row[Any], route: str, terms: RouteTerms, now: datetime, broken: str | None = None
) -> dict[str, Any]:
    """A delivery's first row: due now, or dead with the reason where its condition is broken."""
    return {
        "id": new_id("dlv"),
        "event_id": event.id,
        "event_seq": event.seq,
        "store": event.store,
        "route": route,
        "entity": event.entity,
        "status": "pending" if broken is None else "dead",
        "attempts": 0,
        "budget": terms.span,
        "span": terms.span,
        "key_no": 0,
        "look": 0,
        "again": False,
        "reads_state": terms.reads_state,
        "lost": 0,
        "created_at": now,
        "next_attempt_at": now if broken is None else None,
        "error_key": None if broken is None else "when",
        "last_error": broken,
    }
