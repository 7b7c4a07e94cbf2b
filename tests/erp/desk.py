"""A store double on one side, a real ERP on the other, and the connector in between: one delivery at a time."""

import contextlib
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from connectors.erp import Erp
from hub.client import Guard, open_client
from hub.connector import Context, Event, Receipt
from hub.errors import Outcome
from hub.litekart import MAX_ANSWER, Litekart
from hub.testing import Bench, HttpSink, MemoryEffects, event_of, open_bench
from hub.testing.store import API_KEY, StoreApi
from tests.erp.odoo import Odoo

# Odoo's first company sells in dollars, and no other currency is active.
CURRENCY = "USD"
LOOPBACK = ("127.0.0.1:*",)
# Each desk's store has people and products of its own, for all of them meet in one Odoo.
SEEDS = itertools.count(1)
ENTITY = {"payment": "orderId", "order": "orderId", "customer": "customerId", "product": "productId"}


@dataclass
class Desk:
    """`deliver` is what the hub does with one event, but for its rows: effects of an entity are kept in memory."""

    store: StoreApi
    odoo: Odoo
    bench: Bench
    litekart: Litekart
    erp: Erp
    kept: dict[str, MemoryEffects] = field(default_factory=lambda: defaultdict(MemoryEffects))

    async def place(self, *items: tuple[str, int, str], **more: Any) -> dict[str, Any]:
        """An order of `(sku, quantity, price)` each; what it costs beside that is in `more`."""
        lines = [
            {"id": f"itm_{place}", "sku": sku, "name": f"Thing {sku}", "quantity": quantity, "price": float(price)}
            for place, (sku, quantity, price) in enumerate(items, 1)
        ]
        made = {"currency": CURRENCY, **({"line_items": lines} if items else {}), **more}
        return dict(await self.store.place_order(wait=False, **made))

    def event(self, kind: str, identity: str) -> Event:
        """An event of that type about this order, customer or product."""
        noun = kind.partition(".")[0]
        return event_of({"event": kind, "data": {ENTITY[noun]: identity}, "timestamp": "2026-11-27T12:00:00Z"})

    def context(self, event: Event) -> Context:
        """As the hub makes it: with the effects of that entity, and nothing of the store that was read before."""
        assert event.entity is not None
        self.bench.entity_effects = self.kept[event.entity]
        self.bench.litekart = self.litekart.acting_for("route:erp", newer_than=datetime.now(UTC))
        return self.bench.context(event)

    async def deliver(self, kind: str, identity: str) -> Receipt | Outcome:
        """What comes of it."""
        event = self.event(kind, identity)
        try:
            return await self.erp.deliver(event, self.context(event))
        except Outcome as outcome:
            return outcome

    async def preview(self, kind: str, identity: str) -> str:
        event = self.event(kind, identity)
        return (await self.erp.preview(event, self.context(event))).body

    def number(self, order_id: str) -> str:
        """That of the sales order which the connector made for it."""
        return self.kept[f"order:{order_id}"].kept["number"].value

    async def sales_order(self, order_id: str) -> dict[str, Any]:
        """The one sales order that stands for it in Odoo, with its `lines` in order."""
        fields = [
            "name", "state", "amount_total", "amount_untaxed", "client_order_ref", "partner_id", "partner_shipping_id",
            "currency_id", "order_line",
        ]  # fmt: skip
        domain = [["name", "=", self.number(order_id)]]
        (found,) = await self.odoo.admin("sale.order", "search_read", domain=domain, fields=fields)
        columns = ["name", "product_id", "product_uom_qty", "price_unit", "discount", "price_subtotal", "tax_ids"]
        lines = await self.odoo.admin("sale.order.line", "read", ids=found["order_line"], fields=columns)
        return {**found, "lines": lines}

    async def count(self, model: str, *domain: Any) -> int:
        return int(await self.odoo.admin(model, "search_count", domain=[list(term) for term in domain]))


def cents(value: float) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.01"))


def rows(order: Mapping[str, Any]) -> list[tuple[str, float, Decimal]]:
    """The SKU-less telling of a sales order's lines: name, quantity, amount before tax."""
    return [(line["name"], line["product_uom_qty"], cents(line["price_subtotal"])) for line in order["lines"]]


@contextlib.asynccontextmanager
async def open_desk(odoo: Odoo, more: Mapping[str, Any] | None = None, **settings: Any) -> AsyncIterator[Desk]:
    """`settings` are the route's; `more` those under `odoo`, besides its address and key."""
    own = {"url": odoo.url, "api_key": odoo.key, **(more or {})}
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            StoreApi(profile="v2", seed=next(SEEDS), orders=0, limit=100_000, window=3600)
        )
        bench = await stack.enter_async_context(open_bench(HttpSink(), timeout=60, max_answer=Erp.max_answer))
        http = await stack.enter_async_context(open_client(Guard(LOOPBACK), timeout=60, max_answer=MAX_ANSWER))
        litekart = Litekart(
            api_key=API_KEY, base_url=store.url, profile="v2", store_id=store.shop.settings.store_id, http=http
        )
        erp = Erp(Erp.Settings.model_validate({"odoo": own, **settings}))
        yield Desk(store, odoo, bench, await stack.enter_async_context(litekart), erp)
