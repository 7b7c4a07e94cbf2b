"""Reorders: what `ctx.reorders` is for a delivery, and the orders that become due.

Lines of one store, route, supplier and currency wait for each other; then one transaction makes them an order, keeps
the event `hub.reorder.due` that tells of it, and gives that event its one delivery, along the route that opened them.
The event belongs to the store whose stock it is, matches no pattern, and is held, tried, replayed and shown as any.
A process that ends anywhere leaves the lines or the order, and the ids of both are the same whoever makes them.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from hub.connector import (
    REORDER_CLOSES_AFTER,
    REORDER_DUE,
    REORDER_WINDOW,
    Rejected,
    Reorder,
    ReorderLine,
    ReorderOrder,
    Reorders,
)
from hub.errors import CommandError
from hub.event import search_keys
from hub.receive import own_event
from hub.runtime import Hub, patiently
from hub.store import reordering, reorders
from hub.store.events import keep_events
from hub.store.fan_out import Plan, event_rows, write_plans
from hub.store.reorders import Group, NewLine

NO_ORDER = "this event is about no order of this route"
NOT_TAKEN = "an order goes only along the route that opened its lines"
log = structlog.get_logger()


def refuse_none(line: ReorderLine) -> None:
    """Raises ValueError for a line of nothing, which can be planned and not opened."""
    if line.quantity < 1:
        raise ValueError(f"a reorder of {line.quantity} of {line.sku}: it must be 1 at least")


class NoReorders(Reorders):
    """For a check: there are none, and none can be opened."""

    async def open(
        self,
        line: ReorderLine,
        *,
        window: timedelta = REORDER_WINDOW,
        close_after: timedelta = REORDER_CLOSES_AFTER,
    ) -> Reorder:
        raise Rejected("nothing is reordered by a check")

    async def current(self, sku: str, location: str) -> Reorder | None:
        return None

    async def seen(self, sku: str, location: str, stock: int | None, threshold: int | None) -> None:
        return None

    async def close(self, sku: str, location: str, why: str) -> Reorder | None:
        return None

    async def order(self) -> ReorderOrder:
        raise Rejected(NO_ORDER)

    async def dropped_from(self, ids: Sequence[str], why: str) -> None:
        return None

    async def spend(self, most: Decimal) -> bool:
        raise Rejected(NO_ORDER)

    async def spent_today(self) -> Mapping[str, Decimal]:
        return {}

    async def sent(self, number: str, url: str | None = None) -> None:
        raise Rejected(NO_ORDER)


@dataclass(frozen=True)
class KeptReorders(Reorders):
    """Reorders in the database, as a delivery of that event along that route has them."""

    hub: Hub
    store: str
    route: str
    event_id: str

    async def open(
        self,
        line: ReorderLine,
        *,
        window: timedelta = REORDER_WINDOW,
        close_after: timedelta = REORDER_CLOSES_AFTER,
    ) -> Reorder:
        refuse_none(line)
        # Shown to people, as `why` is.
        line = replace(line, reason=self.hub.redact(line.reason))
        asked = NewLine(self.store, self.route, line, window, close_after)
        while True:
            found: Reorder | None = await self._write(reorders.open_line, asked)
            if found is not None:
                break
            # The one that was there was closed in that very moment.
            await asyncio.sleep(0)
        if found.new:
            log.info("reorder.opened", reorder=found.id, store=self.store, sku=found.sku, quantity=found.quantity)
        return found

    async def current(self, sku: str, location: str) -> Reorder | None:
        found: Reorder | None = await self._read(reorders.current, self.store, sku, location)
        return found

    async def seen(self, sku: str, location: str, stock: int | None, threshold: int | None) -> None:
        await self._write(reorders.see, self.store, sku, location, stock, threshold)

    async def close(self, sku: str, location: str, why: str) -> Reorder | None:
        closed: Reorder | None = await self._write(
            reorders.close_line, self.store, sku, location, self.hub.redact(why), f"route:{self.route}"
        )
        return closed

    async def order(self) -> ReorderOrder:
        found: ReorderOrder | None = await self._read(reorders.order_of, self.event_id, self.route)
        if found is None:
            raise Rejected(NO_ORDER)
        return found

    async def dropped_from(self, ids: Sequence[str], why: str) -> None:
        order = await self.order()
        await self._write(reorders.drop_lines, order.id, ids, self.hub.redact(why), f"route:{self.route}")

    async def spend(self, most: Decimal) -> bool:
        return bool(await self._write(reorders.spend, self.route, await self.order(), most))

    async def spent_today(self) -> Mapping[str, Decimal]:
        spent: Mapping[str, Decimal] = await self._read(reorders.spent_today, self.hub.now(), self.route)
        return spent

    async def sent(self, number: str, url: str | None = None) -> None:
        shown = None if url is None else self.hub.redact(url)
        await self._write(reorders.sent, await self.order(), self.hub.redact(number), shown)

    async def _read(self, work: Any, *more: Any) -> Any:
        return await patiently("reorder", lambda: self.hub.database.read(lambda c: work(c, *more)))

    async def _write(self, work: Any, *more: Any) -> Any:
        # What was done out there is done: given up here, it would be done again.
        now = self.hub.now()
        return await patiently("reorder", lambda: self.hub.database.write(lambda c: work(c, now, *more)))


async def make_orders(hub: Hub) -> int:
    """Make one order of each supplier's lines that are due, and end the orders that are over; how many there were."""
    now, routes = hub.now(), hub.config.routes
    groups = await hub.database.read(lambda connection: reorders.due_groups(connection, now, routes))
    made = [order for group in groups if (order := await _make_order(hub, group)) is not None]
    return len(made) + await hub.database.write(lambda connection: reordering.settle(connection, hub.now()))


async def _make_order(hub: Hub, group: Group) -> str | None:
    order_id = await hub.database.write(lambda connection: _order(hub, connection, hub.now(), group))
    if order_id is not None:
        hub.bells.ring(f"deliver:{group.route}")
        log.info("reorder.due", order=order_id, store=group.store, route=group.route, supplier=group.supplier)
    return order_id


def _order(hub: Hub, connection: Connection, now: datetime, group: Group) -> str | None:
    """All in one transaction; None where another process was first."""
    found = reorders.take_lines(connection, now, group)
    if not found:
        return None
    tail = reorders.order_tail(found)
    order_id = f"pur_{tail}"
    data = _data(order_id, group, found)
    once = b"o" + hashlib.sha256(order_id.encode()).digest()
    entity = f"reorder:{order_id}"
    event = own_event(REORDER_DUE, entity, data, now, once, group.store, f"evt_{tail}")
    keep_events(connection, now, [event])
    (row,) = event_rows(connection, [event.id])
    others = {name: NOT_TAKEN for name in hub.config.routes if name != group.route}
    plan = Plan([group.route], others, {}, search_keys(REORDER_DUE, entity, data))
    write_plans(connection, now, [(row, plan)], hub.terms(), hub.worker_id)
    reorders.keep_order(connection, now, order_id, group, found, row)
    return order_id


def _data(order_id: str, group: Group, found: Sequence[Reorder]) -> dict[str, Any]:
    """What the event says; the lines themselves are the connector's to read."""
    items = [
        {
            "sku": line.sku,
            "location": line.location,
            "name": line.name,
            "quantity": line.quantity,
            "reason": line.reason,
        }
        for line in found
    ]
    return {"reorderId": order_id, "supplier": group.supplier, "currency": group.currency, "items": items}


async def approve_order(hub: Hub, who: str, any_id: str) -> str:
    """Let a held order go; its id. `any_id` may be the order's, its delivery's or a line's. Raises CommandError."""
    order = await _order_meant(hub, any_id)
    route = await hub.database.write(lambda connection: reordering.approve(connection, hub.now(), order, who))
    if route is None:
        raise CommandError(f"{order.id}: waits for nobody; it {_state_of(order)}")
    hub.bells.ring(f"deliver:{route}")
    return str(order.id)


async def drop_order(hub: Hub, who: str, any_id: str, why: str) -> str:
    """Cancel an order that was not sent, and close its lines; its id. Raises CommandError."""
    order = await _order_meant(hub, any_id)
    closed = await hub.database.write(lambda connection: reordering.drop(connection, hub.now(), order.id, who, why))
    if closed is None:
        raise CommandError(f"{order.id}: cannot be dropped; it {_state_of(order)}")
    return str(order.id)


async def close_reorder(hub: Hub, who: str, reorder_id: str, why: str) -> None:
    """Close one: the next low stock opens another. Raises CommandError where there is none that is not closed, and
    where it is just being sent: closed now it would go out all the same, and be ordered a second time."""
    if not await hub.database.write(lambda connection: reordering.close(connection, hub.now(), reorder_id, who, why)):
        line = await hub.database.read(lambda connection: reordering.get_line(connection, reorder_id))
        if line is not None and line.closed_at is None:
            raise CommandError(f"{reorder_id}: is being sent just now; `hub reorders` shows what came of it")
        raise CommandError(f"{reorder_id}: there is no open reorder of that id; `hub reorders` lists them")


async def _order_meant(hub: Hub, any_id: str) -> Row[Any]:
    order = await hub.database.read(lambda connection: reordering.find_order(connection, any_id))
    if order is None:
        raise CommandError(f"{any_id}: there is no such order; `hub reorders --state waiting` lists those that wait")
    return order


def _state_of(order: Row[Any]) -> str:
    if order.number is not None:
        return f"was sent as {order.number}"
    if order.lease_until is not None:
        return "is being sent just now"
    return "has ended" if order.ended_at is not None else f"is {order.status}: {order.last_error or 'not tried yet'}"
