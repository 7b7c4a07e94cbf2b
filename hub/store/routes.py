"""What a person does to routes and deliveries: pause, resume, test, release, cancel; and the audit of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from hub.clock import new_id
from hub.store import AUDIT, DELIVERY, ROUTE_STATE, among
from hub.store.claims import probe_at_once
from hub.store.stats import add_endings

MOST_MENTIONS = 500
ABOUT_MANY = [f"{action}{end}" for action in ("replay", "release", "cancel") for end in ("", ".stop")]


def audit(connection: Connection, now: datetime, who: str, action: str, **detail: Any) -> str:
    """One line about what a person did; its id."""
    audit_id = new_id("aud")
    connection.execute(AUDIT.insert().values(id=audit_id, at=now, who=who, action=action, detail=detail))
    return audit_id


def list_audit(
    connection: Connection,
    limit: int,
    before: str | None = None,
    who: str | None = None,
    action: str | None = None,
) -> list[Row[Any]]:
    """What people did, newest first. `before`: only lines with a smaller id."""
    conditions = [AUDIT.c[name] == value for name, value in (("who", who), ("action", action)) if value is not None]
    if before is not None:
        conditions.append(AUDIT.c.id < before)
    return list(connection.execute(select(AUDIT).where(*conditions).order_by(AUDIT.c.id.desc()).limit(limit)).all())


def get_audit(connection: Connection, audit_id: str) -> Row[Any] | None:
    return connection.execute(select(AUDIT).where(AUDIT.c.id == audit_id)).first()


def audit_of_replay(connection: Connection, replay_id: str, since: str) -> list[Row[Any]]:
    """The lines about a replay, release or cancel, oldest first, looked for among those after the id `since`."""
    found = select(AUDIT).where(AUDIT.c.id >= since, AUDIT.c.action.in_(ABOUT_MANY))
    rows = connection.execute(found.order_by(AUDIT.c.id).limit(MOST_MENTIONS)).all()
    return [row for row in rows if row.detail.get("replay") == replay_id]


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


def resume(connection: Connection, now: datetime, route: str, who: str, reason: str | None = None) -> bool:
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
    audit(connection, now, who, "resume", route=route, reason=reason)
    return True


def tested(connection: Connection, now: datetime, route: str, who: str, passed: bool, text: str) -> str:
    """Write down what a route's Test came to; where it passed, an open breaker is probed at once. The line's id."""
    if passed:
        connection.execute(
            update(ROUTE_STATE)
            .where(ROUTE_STATE.c.route == route, ROUTE_STATE.c.opened_at.is_not(None))
            .values(probe_at=now, probe_wait=0.0)
        )
    return audit(connection, now, who, "test", route=route, passed=passed, text=text)


def release(connection: Connection, now: datetime, delivery_id: str, who: str) -> str | None:
    """Let a held delivery go; its route, or None if it was not held."""
    route: str | None = connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == delivery_id, DELIVERY.c.status == "held")
        .values(**released(now, who))
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
        .values(**cancelled(who))
        .returning(DELIVERY.c.id, DELIVERY.c.route, DELIVERY.c.lease_until)
    ).all()
    ids = sorted(row.id for row in done)
    for delivery_id in ids:
        audit(connection, now, who, "cancel", delivery=delivery_id)
    # One under way is counted when its attempt ends: it may still be delivered.
    add_endings(connection, now, [(row.route, "skipped") for row in done if row.lease_until is None])
    return ids


def released(now: datetime, who: str) -> dict[str, Any]:
    """What releasing a held delivery changes in its row."""
    fresh = {"status": "pending", "next_attempt_at": now, "released_by": who, "released_at": now}
    return fresh | {"error_key": None, "last_error": None}


def cancelled(who: str) -> dict[str, Any]:
    """What cancelling a delivery changes in its row."""
    reason = f"cancelled by {who}"
    return {"status": "skipped", "next_attempt_at": None, "error_key": "cancelled", "last_error": reason}


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
