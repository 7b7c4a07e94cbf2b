"""Fan-out: from events to deliveries, with search keys and the reasons for routes not taken, in one transaction."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from hub.clock import new_id
from hub.store import DELIVERY, EVENT, EVENT_KEY, is_postgres
from hub.store.stats import add_counts, hour_of

# Conditions are worked out inside the transaction: longer than this and webhooks would notice.
PLANNING = 0.05


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


Planner = Callable[[Row[Any]], Plan]


def fan_out(
    connection: Connection, now: datetime, most: int, planner: Planner, terms: dict[str, RouteTerms]
) -> tuple[int, set[str]]:
    """Fan out the oldest `most` events; how many there were, and the routes that got deliveries.

    On PostgreSQL several workers share the waiting events, each taking what no other holds.
    """
    events = connection.execute(
        select(EVENT)
        .where(EVENT.c.fanned_out_at.is_(None))
        .order_by(EVENT.c.seq)
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()
    if not events:
        return 0, set()
    plans, ends = [], time.monotonic() + PLANNING
    for event in events:
        plans.append((event, planner(event)))
        if time.monotonic() > ends:
            break
    write_plans(connection, now, plans, terms)
    return len(plans), {route for _, plan in plans for route in (*plan.taken, *plan.broken)}


FANNED_OUT = (
    update(EVENT)
    .where(EVENT.c.seq == bindparam("of"))
    .values(fanned_out_at=bindparam("at_time"), not_taken=bindparam("reasons"))
)


def write_plans(
    connection: Connection, now: datetime, plans: Sequence[tuple[Row[Any], Plan]], terms: dict[str, RouteTerms]
) -> None:
    """Deliveries, search keys and reasons of events that have their plan."""
    deliveries = [
        new_delivery(event, route, terms[route], now, plan.broken.get(route))
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
    add_counts(connection, counts)


def _insert_new(connection: Connection, into: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    insert: Any = postgresql.insert(into) if is_postgres(connection) else sqlite.insert(into)
    connection.execute(insert.on_conflict_do_nothing(), rows)


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


def give_up(
    connection: Connection, now: datetime, event_id: str, planner: Planner, terms: dict[str, RouteTerms]
) -> None:
    """An event whose fan-out the database refuses: dead deliveries that say so, in place of what failed."""
    event = connection.execute(
        select(EVENT).where(EVENT.c.id == event_id, EVENT.c.fanned_out_at.is_(None)).with_for_update()
    ).first()
    if event is not None:
        write_plans(connection, now, [(event, planner(event))], terms)


def waiting_ids(connection: Connection, most: int) -> list[str]:
    """The oldest events that are not fanned out yet."""
    found = select(EVENT.c.id).where(EVENT.c.fanned_out_at.is_(None)).order_by(EVENT.c.seq).limit(most)
    return list(connection.execute(found).scalars())


def one_event(
    connection: Connection, now: datetime, event_id: str, planner: Planner, terms: dict[str, RouteTerms]
) -> set[str]:
    """Fan out a single event, if nobody else has it."""
    event = connection.execute(
        select(EVENT).where(EVENT.c.id == event_id, EVENT.c.fanned_out_at.is_(None)).with_for_update(skip_locked=True)
    ).first()
    if event is None:
        return set()
    plan = planner(event)
    write_plans(connection, now, [(event, plan)], terms)
    return {*plan.taken, *plan.broken}


def waiting_count(connection: Connection) -> int:
    """How many events wait for fan-out."""
    return connection.execute(select(func.count()).where(EVENT.c.fanned_out_at.is_(None))).scalar_one()
