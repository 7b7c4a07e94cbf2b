"""Reorders as a connector has them: lines that are opened once, gathered to orders, sent, closed; the day's spending.

One line at most of a store, SKU and location is not closed: the database's own unique key says so. Nothing here decides
when an order is due or what its event says: hub/reorders.py does. What people do with them is in hub/store/reordering.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    true,
    update,
)

from hub import connector
from hub.clock import id_at, new_id
from hub.connector import Reorder, ReorderLine
from hub.models import Moment
from hub.store import DELIVERY, REORDER, REORDER_ORDER, ROUTE_STATE, STOCK_SEEN, insert_into

LINES = [each.name for each in fields(ReorderLine) if each.name not in {"unit_price", "more"}]
# The same stock is written once more after that long, so that a chart shows that it was looked at.
SEEN_AGAIN_AFTER = timedelta(hours=6)

OPEN = REORDER.c.closed_at.is_(None)
WAITING = and_(REORDER.c.order_id.is_(None), OPEN)
STATE = case(
    (REORDER.c.closed_at.is_not(None), "closed"),
    (REORDER.c.sent_at.is_not(None), "sent"),
    (REORDER.c.order_id.is_not(None), "ordering"),
    else_="open",
)


class Group(NamedTuple):
    """What becomes one order: the open lines of one store, route, supplier and currency."""

    store: str
    route: str
    supplier: str
    currency: str | None


def lines() -> Select[*tuple[Any, ...]]:
    """Reorders with their state, number and link of their order where they were sent in it, and its delivery."""
    sent = REORDER.c.sent_at.is_not(None)
    more = (
        STATE.label("state"),
        case((sent, REORDER_ORDER.c.number)).label("number"),
        case((sent, REORDER_ORDER.c.url)).label("url"),
        REORDER_ORDER.c.event_id,
        REORDER_ORDER.c.delivery_id,
        DELIVERY.c.status.label("delivery_status"),
        DELIVERY.c.last_error,
    )
    orders = REORDER.outerjoin(REORDER_ORDER, REORDER_ORDER.c.id == REORDER.c.order_id)
    joined = orders.outerjoin(DELIVERY, DELIVERY.c.id == REORDER_ORDER.c.delivery_id)
    return select(REORDER, *more).select_from(joined)


def reorder_of(row: Row[Any], *, new: bool = False) -> Reorder:
    """A row of `lines` as a connector sees it."""
    values: dict[str, Any] = {name: getattr(row, name) for name in LINES}
    return Reorder(
        **values,
        unit_price=None if row.unit_price is None else Decimal(row.unit_price),
        more=row.more or {},
        id=row.id,
        route=row.route,
        state=row.state,
        opened_at=row.opened_at,
        due_at=row.due_at,
        order_id=row.order_id,
        number=row.number,
        url=row.url,
        closed_at=row.closed_at,
        why=row.why,
        new=new,
    )


@dataclass(frozen=True)
class NewLine:
    """A line to be opened by a delivery of `route`, unless there is one."""

    store: str
    route: str
    line: ReorderLine
    window: timedelta
    close_after: timedelta


def open_line(connection: Connection, now: datetime, asked: NewLine) -> Reorder | None:
    """The line of that store, SKU and location that is not closed: the one that was there, or this one.

    None if the one that was there was closed in just this moment: asked again there is another.
    """
    line = asked.line
    values = {name: getattr(line, name) for name in LINES} | {
        "unit_price": None if line.unit_price is None else str(line.unit_price),
        "more": dict(line.more) or None,
    }
    row = values | {
        "id": new_id("reo"),
        "store": asked.store,
        "route": asked.route,
        "opened_at": now,
        "due_at": now + asked.window,
        "closes_at": now + asked.close_after,
    }
    there = _current(connection, asked.store, line.sku, line.location)
    if there is not None:
        return reorder_of(there)
    insert = insert_into(connection, REORDER)
    new = connection.execute(insert.values(**row).on_conflict_do_nothing()).rowcount == 1
    if new:
        _join(connection, row)
    found = _current(connection, asked.store, line.sku, line.location)
    return None if found is None else reorder_of(found, new=new)


def _join(connection: Connection, row: Mapping[str, Any]) -> None:
    """A line that comes within the window of others is due with the first of them."""
    of = Group(row["store"], row["route"], row["supplier"], row["currency"])
    first = connection.execute(
        select(REORDER.c.due_at).where(WAITING, _in(of)).order_by(REORDER.c.due_at).limit(1)
    ).scalar()
    if first is not None and first < row["due_at"]:
        connection.execute(update(REORDER).where(REORDER.c.id == row["id"]).values(due_at=first))


def _in(group: Group) -> ColumnElement[bool]:
    """The lines of that group, as a condition."""
    return and_(*(REORDER.c[name].is_not_distinct_from(value) for name, value in group._asdict().items()))


def _current(connection: Connection, store: str, sku: str, location: str) -> Row[Any] | None:
    """The one at that place; "" is the store's only place, so it and any other hold the same goods."""
    same = REORDER.c.location == location
    there = [same, REORDER.c.location == ""] if location else [true()]
    found = lines().where(OPEN, REORDER.c.store == store, REORDER.c.sku == sku, or_(*there))
    return connection.execute(found.order_by(case((same, 0), else_=1), REORDER.c.id).limit(1)).first()


def at_place(table: Table, store: str, sku: str, location: str) -> tuple[ColumnElement[bool], ...]:
    """The rows of a SKU in a store's place, as conditions."""
    return table.c.store == store, table.c.sku == sku, table.c.location == location


def current(connection: Connection, store: str, sku: str, location: str) -> Reorder | None:
    """The reorder there that is not closed, if there is one."""
    row = _current(connection, store, sku, location)
    return None if row is None else reorder_of(row)


def close_line(
    connection: Connection, now: datetime, store: str, sku: str, location: str, why: str, by: str
) -> Reorder | None:
    """Close the reorder there that is not closed: it, or None if there was none."""
    closed = close_lines(connection, now, why, by, OPEN, *at_place(REORDER, store, sku, location))
    return reorder_of(connection.execute(lines().where(REORDER.c.id == closed[0])).one()) if closed else None


def close_lines(connection: Connection, now: datetime, why: str, by: str, *which: Any) -> list[str]:
    """Close what is open of these, for that reason; the ids."""
    closing = update(REORDER).where(OPEN, *which).values(closed_at=now, closed_by=by, why=why)
    return sorted(connection.execute(closing.returning(REORDER.c.id)).scalars())


def is_due(now: datetime, routes: Collection[str]) -> ColumnElement[bool]:
    """Whether some line is due on these routes, as a condition."""
    return select(REORDER.c.id).where(WAITING, REORDER.c.due_at <= now, REORDER.c.route.in_(routes)).exists()


def due_groups(connection: Connection, now: datetime, routes: Collection[str]) -> list[Group]:
    """What has a line that is due, on routes of the config."""
    columns = [REORDER.c[name] for name in Group._fields]
    due = select(*columns).where(WAITING, REORDER.c.due_at <= now, REORDER.c.route.in_(routes))
    return sorted({Group(*row) for row in connection.execute(due)}, key=repr)


def take_lines(connection: Connection, now: datetime, group: Group) -> list[Reorder]:
    """All open lines of a group of which one is due, locked until this transaction ends; none where none is."""
    ids = connection.execute(select(REORDER.c.id).where(WAITING, _in(group)).order_by(REORDER.c.id).with_for_update())
    # In a statement of its own: what another process has taken meanwhile is seen to be.
    taken = lines().where(REORDER.c.id.in_(list(ids.scalars())), WAITING).order_by(REORDER.c.id)
    found = [reorder_of(row) for row in connection.execute(taken)]
    return found if any(line.due_at <= now for line in found) else []


def order_tail(found: Sequence[Reorder]) -> str:
    """What the ids of these lines' order and event end with: the same whoever makes them, and whenever.

    A backup may hold the lines and not yet their order: restored, it must not go out under another number.
    """
    when = id_at("", min(line.due_at for line in found)).removeprefix("_")
    return f"{when}{sha256(found[0].id.encode()).hexdigest()[:16]}"


def keep_order(
    connection: Connection, now: datetime, order_id: str, group: Group, found: Sequence[Reorder], event: Row[Any]
) -> None:
    """These lines are one order, sent by the delivery of this event."""
    insert = insert_into(connection, REORDER_ORDER)
    delivery_id = connection.execute(
        select(DELIVERY.c.id).where(DELIVERY.c.event_id == event.id, DELIVERY.c.route == group.route)
    ).scalar_one()
    row = insert.values(
        id=order_id,
        **group._asdict(),
        event_id=event.id,
        delivery_id=delivery_id,
        opened_at=min(line.opened_at for line in found),
        made_at=now,
    )
    connection.execute(row.on_conflict_do_nothing())
    ours = update(REORDER).where(REORDER.c.id.in_([line.id for line in found]))
    connection.execute(ours.values(order_id=order_id))


def order_of(connection: Connection, event_id: str, route: str) -> connector.ReorderOrder | None:
    """The order that a delivery of this event along this route is about, with its lines as `ctx.reorders` says."""
    row = connection.execute(
        select(REORDER_ORDER).where(REORDER_ORDER.c.event_id == event_id, REORDER_ORDER.c.route == route)
    ).first()
    if row is None:
        return None
    which = OPEN if row.number is None else REORDER.c.sent_at.is_not(None)
    found = connection.execute(lines().where(REORDER.c.order_id == row.id, which).order_by(REORDER.c.id))
    return connector.ReorderOrder(
        id=row.id,
        supplier=row.supplier,
        currency=row.currency,
        lines=tuple(reorder_of(line) for line in found),
        opened_at=row.opened_at,
        number=row.number,
        url=row.url,
    )


def drop_lines(connection: Connection, now: datetime, order_id: str, ids: Sequence[str], why: str, by: str) -> None:
    """Close these lines of an order, unless they were sent."""
    ours = (REORDER.c.order_id == order_id, REORDER.c.id.in_(ids), REORDER.c.sent_at.is_(None))
    close_lines(connection, now, why, by, *ours)


def sent(connection: Connection, now: datetime, order: connector.ReorderOrder, number: str, url: str | None) -> None:
    """The order's lines are sent under that number; the first number stands."""
    amount = str(worth(order.lines))
    ours = update(REORDER_ORDER).where(REORDER_ORDER.c.id == order.id, REORDER_ORDER.c.number.is_(None))
    counted_at = func.coalesce(REORDER_ORDER.c.counted_at, literal(now, Moment))
    connection.execute(ours.values(number=number, url=url, ended_at=now, amount=amount, counted_at=counted_at))
    unsent = update(REORDER).where(REORDER.c.order_id == order.id, OPEN, REORDER.c.sent_at.is_(None))
    connection.execute(unsent.values(sent_at=now))


def worth(found: Sequence[Reorder]) -> Decimal:
    """What lines come to; one without a price counts nothing."""
    return sum((line.quantity * (line.unit_price or Decimal(0)) for line in found), Decimal(0))


def spend(connection: Connection, now: datetime, route: str, order: connector.ReorderOrder, most: Decimal) -> bool:
    """Count an order into what its route spends today, unless all would then come to more than `most`."""
    # One after the other on a route, or two would each see room for itself.
    connection.execute(select(ROUTE_STATE.c.route).where(ROUTE_STATE.c.route == route).with_for_update())
    ours = REORDER_ORDER.c.id == order.id
    if connection.execute(select(REORDER_ORDER.c.counted_at).where(ours)).scalar() is not None:
        return True
    amount = worth(order.lines)
    today = spent_today(connection, now, route).get(order.currency or "", Decimal(0))
    if today + amount > most:
        return False
    connection.execute(update(REORDER_ORDER).where(ours).values(counted_at=now, amount=str(amount)))
    return True


def spent_today(connection: Connection, now: datetime, route: str) -> dict[str, Decimal]:
    """By currency: what was counted on a route since midnight (UTC)."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    counted = select(REORDER_ORDER.c.currency, REORDER_ORDER.c.amount).where(
        REORDER_ORDER.c.route == route, REORDER_ORDER.c.counted_at >= midnight
    )
    spent: dict[str, Decimal] = {}
    for row in connection.execute(counted):
        currency = row.currency or ""
        spent[currency] = spent.get(currency, Decimal(0)) + Decimal(row.amount)
    return spent


def see(
    connection: Connection, now: datetime, store: str, sku: str, location: str, stock: int | None, threshold: int | None
) -> None:
    """Remember what stock was seen, where it is another than last time, or that was a while ago."""
    where = at_place(STOCK_SEEN, store, sku, location)
    last = connection.execute(select(STOCK_SEEN).where(*where).order_by(STOCK_SEEN.c.at.desc()).limit(1)).first()
    if last is not None and (last.stock, last.threshold) == (stock, threshold) and last.at > now - SEEN_AGAIN_AFTER:
        return
    insert = insert_into(connection, STOCK_SEEN)
    seen = {"stock": stock, "threshold": threshold}
    row = insert.values(store=store, sku=sku, location=location, at=now, **seen)
    connection.execute(row.on_conflict_do_update(index_elements=["store", "sku", "location", "at"], set_=seen))
