"""What a person does to routes and single deliveries: pause, resume, release, cancel; and the audit of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from hub.clock import new_id
from hub.store import AUDIT, DELIVERY, ROUTE_STATE, among
from hub.store.claims import probe_at_once
from hub.store.stats import add_endings


def audit(connection: Connection, now: datetime, who: str, action: str, **detail: Any) -> None:
    """One line about what a person did."""
    connection.execute(AUDIT.insert().values(id=new_id("aud"), at=now, who=who, action=action, detail=detail))


def pause(connection: Connection, now: datetime, route: str, who: str, reason: str | None) -> bool:
    """Pause a route; no delivery's row changes. False if it was paused already."""
    done = connection.execute(
        update(ROUTE_STATE)
        .where(ROUTE_STATE.c.route == route, ROUTE_STATE.c.paused_at.is_(None))
        .values(paused_at=now, paused_by=who, paused_reason=reason)
    )
    if done.rowcount:
        audit(connection, now, who, "pause", route=route, reason=reason)
    return bool(done.rowcount)


def resume(connection: Connection, now: datetime, route: str, who: str) -> bool:
    """End a pause, and let an open breaker be probed at once. False if there was neither."""
    state = connection.execute(select(ROUTE_STATE).where(ROUTE_STATE.c.route == route).with_for_update()).first()
    if state is None or (state.paused_at is None and state.opened_at is None and state.stopped_until is None):
        return False
    values: dict[str, Any] = {"stopped_until": None, "resumed_at": now}
    values |= {"paused_at": None, "paused_by": None, "paused_reason": None}
    if state.opened_at is not None:
        values |= {"probe_at": now, "probe_wait": 0.0}
    connection.execute(update(ROUTE_STATE).where(ROUTE_STATE.c.route == route).values(**values))
    if state.opened_at is not None:
        probe_at_once(connection, now, route)
    audit(connection, now, who, "resume", route=route)
    return True


def release(connection: Connection, now: datetime, delivery_id: str, who: str) -> str | None:
    """Let a held delivery go; its route, or None if it was not held."""
    route: str | None = connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == delivery_id, DELIVERY.c.status == "held")
        .values(
            status="pending", next_attempt_at=now, released_by=who, released_at=now, error_key=None, last_error=None
        )
        .returning(DELIVERY.c.route)
    ).scalar()
    if route is not None:
        audit(connection, now, who, "release", delivery=delivery_id)
    return route


def cancel(connection: Connection, now: datetime, delivery_ids: Sequence[str], who: str) -> list[str]:
    """Skip pending and held deliveries; the ids of those that were. One under way runs to its end."""
    done = connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id.in_(delivery_ids), DELIVERY.c.status.in_(("pending", "held")))
        .values(status="skipped", next_attempt_at=None, error_key="cancelled", last_error=f"cancelled by {who}")
        .returning(DELIVERY.c.id, DELIVERY.c.route, DELIVERY.c.lease_until)
    ).all()
    cancelled = sorted(row.id for row in done)
    for delivery_id in cancelled:
        audit(connection, now, who, "cancel", delivery=delivery_id)
    # One under way is counted when its attempt ends: it may still be delivered.
    add_endings(connection, now, [(row.route, "skipped") for row in done if row.lease_until is None])
    return cancelled


def open_ids(connection: Connection, route: str) -> list[str]:
    """The pending and held deliveries of a route."""
    found = select(DELIVERY.c.id).where(DELIVERY.c.route == route, among(DELIVERY.c.status, "pending", "held"))
    return list(connection.execute(found).scalars())


def states(connection: Connection) -> dict[str, Row[Any]]:
    """Each route's state, also of routes that are gone from the config."""
    return {row.route: row for row in connection.execute(select(ROUTE_STATE))}


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """For each route the number of its open and dead deliveries by status."""
    # Two statements, since each finds its own partial index.
    some = select(DELIVERY.c.route, DELIVERY.c.status, func.count().label("number"))
    found = [
        row
        for names in (("pending",), ("dead", "held"))
        for row in connection.execute(
            some.where(among(DELIVERY.c.status, *names)).group_by(DELIVERY.c.route, DELIVERY.c.status)
        )
    ]
    numbers: dict[str, dict[str, int]] = {}
    for row in found:
        numbers.setdefault(row.route, {})[row.status] = row.number
    return numbers
