"""Reorders as people and periodic work have them: lists and charts, approve, drop and close, and what is over.

An order whose delivery was skipped or cancelled closes its lines; one of which nothing is left waits for nobody.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, or_, select, update

from hub.store import DELIVERY, REORDER, REORDER_ORDER, STOCK_SEEN
from hub.store.reorders import OPEN, STATE, WAITING, at_place, close_lines, lines
from hub.store.routes import audit, cancelled, release
from hub.store.stats import add_endings

REMINDED_AFTER = timedelta(days=7)
SEEN_KEPT = timedelta(days=90)
MOST_SEEN = 500
MOST_EXPIRED = 500
MOST_CHARTED = 2_000
# A worker of the new config sends what is due within seconds; one of the old must not be quicker than that.
GONE_AFTER = timedelta(hours=1)
EXPIRED = "it was not closed for as long as one may stay open"
ROUTE_GONE = "it was never sent: its route is not in the config any more"
NOTHING_LEFT = "nothing of it is left to order"
BY_HUB = "hub"

UNDER_WAY = REORDER_ORDER.c.ended_at.is_(None)
OF_ORDER = DELIVERY.c.id == REORDER_ORDER.c.delivery_id
ORDERS = REORDER_ORDER.join(DELIVERY, OF_ORDER)
IDLE = DELIVERY.c.lease_until.is_(None)
UNSENT = and_(REORDER.c.order_id == REORDER_ORDER.c.id, OPEN)
# By a look at its lines that it took already: what is closed now goes out all the same.
BEING_SENT = (
    select(REORDER_ORDER.c.id)
    .select_from(ORDERS)
    .where(REORDER_ORDER.c.id == REORDER.c.order_id, UNDER_WAY, ~IDLE)
    .exists()
)
LEFT = select(REORDER.c.id).where(UNSENT).exists()
SKIPPED = and_(DELIVERY.c.status == "skipped", IDLE)
OVER = and_(UNDER_WAY, or_(SKIPPED, ~LEFT))
HELD = and_(UNDER_WAY, DELIVERY.c.status == "held")
WITH_DELIVERY = (REORDER_ORDER, DELIVERY.c.status, DELIVERY.c.last_error, DELIVERY.c.lease_until)


@dataclass(frozen=True)
class ReorderFilter:
    """Which reorders: every given part must hold. `state` is one of a Reorder's, or `waiting`: for an approval."""

    store: str | None = None
    sku: str | None = None
    state: str | None = None
    route: str | None = None


def settle(connection: Connection, now: datetime) -> int:
    """End the orders that are over: their delivery was skipped, or no line of them is open any more. How many."""
    over = select(*WITH_DELIVERY).select_from(ORDERS).where(OVER).order_by(DELIVERY.c.id)
    rows = connection.execute(over.with_for_update(skip_locked=True)).all()
    for row in rows:
        if row.status == "skipped":
            why = f"its order was not sent: {row.last_error}"
            close_lines(connection, now, why, BY_HUB, REORDER.c.order_id == row.id, REORDER.c.sent_at.is_(None))
        elif row.status == "held":
            # Whoever approved it would approve nothing.
            _cancel(connection, now, row.delivery_id, row.route, NOTHING_LEFT)
        ended = update(REORDER_ORDER).where(REORDER_ORDER.c.id == row.id)
        connection.execute(ended.values(ended_at=now, counted_at=None, amount=None))
    return len(rows)


def _cancel(connection: Connection, now: datetime, delivery_id: str, route: str, why: str) -> None:
    values = cancelled(BY_HUB) | {"last_error": why}
    connection.execute(update(DELIVERY).where(DELIVERY.c.id == delivery_id).values(**values))
    add_endings(connection, now, [(route, "skipped")])


def is_over() -> ColumnElement[bool]:
    """Whether `settle` has something to do, as a condition."""
    return select(REORDER_ORDER.c.id).select_from(ORDERS).where(OVER).exists()


def held_orders(connection: Connection) -> Sequence[Row[Any]]:
    """Orders that wait for a person, oldest first, with why."""
    held = select(*WITH_DELIVERY).select_from(ORDERS).where(HELD).order_by(REORDER_ORDER.c.id)
    return connection.execute(held).all()


def count_held(connection: Connection) -> int:
    """How many orders wait for a person."""
    return connection.execute(select(func.count()).select_from(ORDERS).where(HELD)).scalar_one()


def untold_orders(connection: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Held orders of which nobody was told, or a week ago and not since. Locked, unless somebody else has them."""
    never = REORDER_ORDER.c.told_at.is_(None)
    long_ago = and_(REORDER_ORDER.c.told_at <= now - REMINDED_AFTER, REORDER_ORDER.c.reminded_at.is_(None))
    held = select(*WITH_DELIVERY).select_from(ORDERS).where(HELD, or_(never, long_ago)).order_by(REORDER_ORDER.c.id)
    return connection.execute(held.with_for_update(of=REORDER_ORDER, skip_locked=True)).all()


def order_told(connection: Connection, now: datetime, row: Row[Any]) -> None:
    """That an order is held was told, for the first time or the second."""
    values = {"told_at": now} if row.told_at is None else {"reminded_at": now}
    connection.execute(update(REORDER_ORDER).where(REORDER_ORDER.c.id == row.id).values(**values))


def expired(connection: Connection, now: datetime, routes: Collection[str]) -> Sequence[Row[Any]]:
    """Reorders that were open for as long as they may be, and those that are due on none of these routes, which are all
    of the config. Locked, unless somebody else has them."""
    gone = and_(WAITING, REORDER.c.due_at <= now - GONE_AFTER, REORDER.c.route.not_in(routes))
    over = or_(REORDER.c.closes_at <= now, gone)
    old = select(REORDER.c.id).where(OPEN, over, ~BEING_SENT).order_by(REORDER.c.id).limit(MOST_EXPIRED)
    ids = connection.execute(old.with_for_update(skip_locked=True)).scalars().all()
    return connection.execute(lines().where(REORDER.c.id.in_(ids)).order_by(REORDER.c.id)).all() if ids else []


def expire(connection: Connection, now: datetime, rows: Sequence[Row[Any]]) -> None:
    """Close these."""
    for why, old in ((EXPIRED, True), (ROUTE_GONE, False)):
        ids = [row.id for row in rows if (row.closes_at <= now) is old]
        close_lines(connection, now, why, BY_HUB, REORDER.c.id.in_(ids))


def list_lines(
    connection: Connection, found: ReorderFilter, limit: int = 50, before: str | None = None
) -> list[Row[Any]]:
    """Reorders, newest first, with `state`, `number` and `url`. `before`: only those with a smaller id."""
    conditions: list[ColumnElement[bool]] = [
        REORDER.c[name] == getattr(found, name) for name in ("store", "sku", "route") if getattr(found, name)
    ]
    if found.state == "waiting":
        waiting = select(REORDER_ORDER.c.id).select_from(ORDERS).where(HELD)
        conditions += [OPEN, REORDER.c.order_id.in_(waiting)]
    elif found.state:
        conditions.append(STATE.in_([found.state]))
        if found.state != "closed":
            conditions.append(OPEN)
    if before is not None:
        conditions.append(REORDER.c.id < before)
    return list(connection.execute(lines().where(*conditions).order_by(REORDER.c.id.desc()).limit(limit)))


def lines_of(connection: Connection, order_ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """The lines of these orders, in the order of their opening."""
    found: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(lines().where(REORDER.c.order_id.in_(order_ids)).order_by(REORDER.c.id)):
        found.setdefault(row.order_id, []).append(row)
    return found


def find_order(connection: Connection, any_id: str) -> Row[Any] | None:
    """The order that an id means: its own, that of its event or delivery, or of one of its lines."""
    of_line = select(REORDER.c.order_id).where(REORDER.c.id == any_id).scalar_subquery()
    own = (REORDER_ORDER.c.id, REORDER_ORDER.c.event_id, REORDER_ORDER.c.delivery_id)
    query = select(*WITH_DELIVERY).select_from(ORDERS)
    return connection.execute(query.where(or_(*(each == any_id for each in own), own[0] == of_line))).first()


def get_line(connection: Connection, reorder_id: str) -> Row[Any] | None:
    """One reorder, with `state`, `number` and `url`."""
    return connection.execute(lines().where(REORDER.c.id == reorder_id)).first()


def price_of(line: Row[Any]) -> Decimal:
    """A line's price, which must be known."""
    return Decimal(line.unit_price)


def approve(connection: Connection, now: datetime, order: Row[Any], who: str) -> str | None:
    """Let a held order go; its route, or None if it was not held."""
    route = release(connection, now, order.delivery_id, who)
    if route is not None:
        audit(connection, now, who, "reorder.approve", order=order.id, delivery=order.delivery_id)
    return route


def drop(connection: Connection, now: datetime, order_id: str, who: str, why: str) -> list[str] | None:
    """Cancel an order that was not sent and close its lines; their ids, or None where it was, or is just being sent."""
    taken = select(*WITH_DELIVERY).select_from(ORDERS).where(REORDER_ORDER.c.id == order_id, UNDER_WAY, IDLE)
    row = connection.execute(taken.with_for_update()).first()
    if row is None or row.status == "delivered":
        return None
    reason = f"dropped by {who}: {why}"
    if row.status in {"pending", "held"}:
        _cancel(connection, now, row.delivery_id, row.route, reason)
    ids = close_lines(connection, now, reason, who, REORDER.c.order_id == order_id, REORDER.c.sent_at.is_(None))
    connection.execute(
        update(REORDER_ORDER).where(REORDER_ORDER.c.id == order_id).values(ended_at=now, counted_at=None, amount=None)
    )
    audit(connection, now, who, "reorder.drop", order=order_id, lines=ids, why=why)
    return ids


def close(connection: Connection, now: datetime, reorder_id: str, who: str, why: str) -> bool:
    """Close one that is not closed. False if there is none of that id, or it is just being sent."""
    closed = close_lines(connection, now, why, who, REORDER.c.id == reorder_id, ~BEING_SENT)
    if closed:
        audit(connection, now, who, "reorder.close", reorder=reorder_id, why=why)
    return bool(closed)


def seen_stock(connection: Connection, store: str, sku: str, location: str) -> list[Row[Any]]:
    """What stock was seen there, oldest first; of many the newest."""
    where = at_place(STOCK_SEEN, store, sku, location)
    newest = select(STOCK_SEEN).where(*where).order_by(STOCK_SEEN.c.at.desc()).limit(MOST_CHARTED)
    return list(reversed(connection.execute(newest).all()))


def drop_seen(connection: Connection, now: datetime) -> int:
    """Drop what was seen more than 90 days ago; how many of it. Some at a time: call it until it returns 0."""
    old = select(STOCK_SEEN.c.at).where(STOCK_SEEN.c.at < now - SEEN_KEPT).order_by(STOCK_SEEN.c.at)
    moments = connection.execute(old.limit(MOST_SEEN)).scalars().all()
    return connection.execute(delete(STOCK_SEEN).where(STOCK_SEEN.c.at <= moments[-1])).rowcount if moments else 0
