"""Reorders in memory: what the kit uses where the hub uses rows (hub/store/reorders.py), by the same rules.

`kept` has every line, `due()` ends the windows and gives the events whose deliveries a test then runs.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal

from hub.clock import new_id, system_time
from hub.connector import (
    REORDER_CLOSES_AFTER,
    REORDER_DUE,
    REORDER_WINDOW,
    Event,
    Rejected,
    Reorder,
    ReorderLine,
    ReorderOrder,
    Reorders,
)
from hub.reorders import NO_ORDER, refuse_none
from hub.store.reorders import worth

LINE = [each.name for each in fields(ReorderLine)]


@dataclass
class MemoryReorders:
    """All reorders of one store, on one route. `seen` maps SKU and location to the stock and thresholds seen."""

    now: Callable[[], datetime] = system_time
    route: str = "kit"
    kept: dict[str, Reorder] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    """By the id of a `hub.reorder.due` event: its order's id."""
    seen: dict[tuple[str, str], list[tuple[int | None, int | None]]] = field(default_factory=dict)
    counted: dict[str, datetime] = field(default_factory=dict)

    def of(self, event: Event) -> "MemoryReordersOf":
        """As a connector sees them while it delivers this event."""
        return MemoryReordersOf(self, event.id)

    def current(self, sku: str, location: str) -> Reorder | None:
        """The one that is not closed; "" is the store's only place, so it and any other hold the same goods."""
        there = [one for one in self.kept.values() if one.sku == sku and one.state != "closed"]
        exact = [one for one in there if one.location == location]
        return next(iter(exact or [one for one in there if "" in (one.location, location)]), None)

    def close(self, reorder_id: str, why: str) -> Reorder:
        """Close one, for that reason."""
        closed = replace(self.kept[reorder_id], state="closed", closed_at=self.now(), why=why)
        self.kept[reorder_id] = closed
        return closed

    def due(self, store: str = "main") -> list[Event]:
        """End every window now: an event `hub.reorder.due` for each supplier and currency that has open lines."""
        groups: dict[tuple[str, str | None], list[Reorder]] = {}
        for one in self.kept.values():
            if one.state == "open":
                groups.setdefault((one.supplier, one.currency), []).append(one)
        return [self._order(store, supplier, lines) for (supplier, _), lines in groups.items()]

    def _order(self, store: str, supplier: str, lines: Sequence[Reorder]) -> Event:
        order_id, event_id, now = new_id("pur"), new_id("evt"), self.now()
        self.orders[event_id] = order_id
        for one in lines:
            self.kept[one.id] = replace(one, state="ordering", order_id=order_id)
        data = {
            "reorderId": order_id,
            "supplier": supplier,
            "items": [{"sku": one.sku, "quantity": one.quantity} for one in lines],
        }
        body = json.dumps({"event": REORDER_DUE, "data": data, "timestamp": now.isoformat()}).encode()
        return Event(event_id, store, REORDER_DUE, f"reorder:{order_id}", now, now, body)


@dataclass(frozen=True)
class MemoryReordersOf(Reorders):
    """The reorders of one event's delivery."""

    all: MemoryReorders
    event_id: str

    async def open(
        self,
        line: ReorderLine,
        *,
        window: timedelta = REORDER_WINDOW,
        close_after: timedelta = REORDER_CLOSES_AFTER,
    ) -> Reorder:
        refuse_none(line)
        json.dumps(dict(line.more))
        # The database lets others run meanwhile, and so does this.
        await asyncio.sleep(0)
        found = self.all.current(line.sku, line.location)
        if found is not None:
            return found
        group = [
            one.due_at
            for one in self.all.kept.values()
            if one.state == "open" and (one.supplier, one.currency) == (line.supplier, line.currency)
        ]
        now = self.all.now()
        values = {name: getattr(line, name) for name in LINE}
        kept = Reorder(
            **values,
            id=new_id("reo"),
            route=self.all.route,
            state="open",
            opened_at=now,
            due_at=min([*group, now + window]),
        )
        self.all.kept[kept.id] = kept
        return replace(kept, new=True)

    async def current(self, sku: str, location: str) -> Reorder | None:
        await asyncio.sleep(0)
        return self.all.current(sku, location)

    async def seen(self, sku: str, location: str, stock: int | None, threshold: int | None) -> None:
        self.all.seen.setdefault((sku, location), []).append((stock, threshold))

    async def close(self, sku: str, location: str, why: str) -> Reorder | None:
        found = await self.current(sku, location)
        return None if found is None or found.location != location else self.all.close(found.id, why)

    async def order(self) -> ReorderOrder:
        await asyncio.sleep(0)
        if self.event_id not in self.all.orders:
            raise Rejected(NO_ORDER)
        of = self._lines()
        lines = tuple(one for one in of if one.number) or tuple(one for one in of if one.state == "ordering")
        number, url = next(((one.number, one.url) for one in of if one.number), (None, None))
        opened_at = min(one.opened_at for one in of)
        return ReorderOrder(
            self.all.orders[self.event_id], of[0].supplier, of[0].currency, lines, opened_at, number, url
        )

    async def dropped_from(self, ids: Sequence[str], why: str) -> None:
        await asyncio.sleep(0)
        for one in self._lines():
            if one.id in ids and one.state == "ordering":
                self.all.close(one.id, why)

    async def spend(self, most: Decimal) -> bool:
        order = await self.order()
        if order.id in self.all.counted:
            return True
        today = (await self.spent_today()).get(order.currency or "", Decimal(0))
        if today + worth(order.lines) > most:
            return False
        self.all.counted[order.id] = self.all.now()
        return True

    async def spent_today(self) -> Mapping[str, Decimal]:
        spent: dict[str, Decimal] = {}
        for order_id, at in self.all.counted.items():
            if at.date() == self.all.now().date():
                lines = [one for one in self.all.kept.values() if one.order_id == order_id]
                lines = [one for one in lines if one.number or one.state != "closed"]
                currency = lines[0].currency or "" if lines else ""
                spent[currency] = spent.get(currency, Decimal(0)) + worth(lines)
        return spent

    async def sent(self, number: str, url: str | None = None) -> None:
        order = await self.order()
        self.all.counted.setdefault(order.id, self.all.now())
        for one in order.lines:
            if one.state == "ordering":
                self.all.kept[one.id] = replace(one, state="sent", number=number, url=url)

    def _lines(self) -> list[Reorder]:
        order_id = self.all.orders.get(self.event_id)
        return [one for one in self.all.kept.values() if order_id is not None and one.order_id == order_id]
