"""What is said to Odoo about purchases, told once: before the real one and before its recording."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from connectors.erp.odoo.purchasing import OdooPurchasing
from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.odoo.transport import Line, Server
from connectors.erp.purchasing import Purchase, PurchaseLine, Vendor
from connectors.erp.records import Product
from hub.connector import Context, Rejected
from hub.testing import HttpSink, event_of, open_bench, sample

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
KETTLE = Product("var_1", "KET-1", "Kettle")
NOWHERE = Product("var_9", "NOP-9", "Not in Odoo")
PURCHASE = Purchase(
    "pur_1", "PO-ABCDEFGH", "Acme GmbH", (PurchaseLine("reo_1", KETTLE, 60, Decimal("12.50")),), "USD", NOW
)
UNPRICED = Purchase("pur_2", "PO-JKMNPQRS", "Acme GmbH", (PurchaseLine("reo_2", KETTLE, 12),), None, NOW)


@dataclass(frozen=True)
class Buying:
    """A backend before a server, a context for it, and a line of its own."""

    purchasing: OdooPurchasing
    ctx: Context
    line: Line


@asynccontextmanager
async def buying(url: str, key: str) -> AsyncIterator[Buying]:
    """In a store of its own, at a time that stands still."""
    settings = OdooSettings.model_validate({"url": url, "api_key": key})
    async with open_bench(HttpSink(), timeout=120) as bench:
        bench.now = lambda: NOW
        ctx = bench.context(event_of(sample("inventory.low")))
        yield Buying(OdooPurchasing(settings), ctx, Line(Server(settings), ctx.http))


async def with_a_vendor(line: Line) -> None:
    """The kettle in Odoo, and who delivers it."""

    async def load(model: str, **row: str) -> int:
        loaded = await line.call(
            model, "load", fields=[name.replace("__", "/.") for name in row], data=[[*row.values()]]
        )
        assert loaded["ids"], loaded
        return int(loaded["ids"][0])

    acme = await load("res.partner", id="__shop__.acme", name="Acme GmbH")
    kettle = await load(
        "product.product", id="__shop__.kettle", name="Kettle", default_code="KET-1", type="consu", is_storable="1"
    )
    [found] = await line.call("product.product", "read", ids=[kettle], fields=["product_tmpl_id"])
    template = str(found["product_tmpl_id"][0])
    terms = {"price": "17.25", "min_qty": "6", "delay": "5", "product_code": "AC-9"}
    await load(
        "product.supplierinfo", id="__shop__.offer", partner_id__id=str(acme), product_tmpl_id__id=template, **terms
    )


async def life_of_a_purchase(url: str, key: str) -> list[dict[str, Any]]:
    """From the vendor's offer to the goods; what Odoo has in the end."""
    async with buying(url, key) as buy:
        purchasing, ctx = buy.purchasing, buy.ctx
        assert (await purchasing.check(ctx)).endswith("(USD): purchase orders can be written")
        await with_a_vendor(buy.line)
        offered = [Vendor("Acme GmbH", Decimal("17.25"), "USD", 6, timedelta(days=5), "AC-9")]
        assert await purchasing.vendors_of(KETTLE, ctx) == offered
        assert await purchasing.vendors_of(NOWHERE, ctx) == ()
        assert await purchasing.open_line(KETTLE, ctx) is None
        assert await purchasing.find_purchase(PURCHASE, ctx) is None
        draft = await purchasing.write_purchase(PURCHASE, False, ctx)
        assert draft.state == "draft"
        assert await purchasing.write_purchase(PURCHASE, False, ctx) == draft
        assert await purchasing.find_purchase(PURCHASE, ctx) == draft
        assert await purchasing.open_line(KETTLE, ctx) == draft.number
        confirmed = await purchasing.write_purchase(PURCHASE, True, ctx)
        assert (confirmed.id, confirmed.state) == (draft.id, "confirmed")
        assert await purchasing.open_line(KETTLE, ctx) == draft.number
        await _receive(buy.line, int(draft.id))
        assert await purchasing.open_line(KETTLE, ctx) is None
        second = await purchasing.write_purchase(UNPRICED, False, ctx)
        await buy.line.call("purchase.order", "button_cancel", ids=[int(second.id)])
        assert await purchasing.open_line(KETTLE, ctx) is None
        await _refused(buy)
        kept = ["name", "state", "origin", "date_order", "amount_untaxed", "currency_id"]
        ids = [int(draft.id), int(second.id)]
        orders: list[dict[str, Any]] = await buy.line.call("purchase.order", "read", ids=ids, fields=kept)
        return orders


async def _receive(line: Line, order: int) -> None:
    [found] = await line.call("purchase.order", "read", ids=[order], fields=["picking_ids"])
    assert await line.call("stock.picking", "button_validate", ids=found["picking_ids"]) is True


async def _refused(buy: Buying) -> None:
    stranger = Purchase("pur_3", "PO-3", "Nobody Ltd", PURCHASE.lines)
    with pytest.raises(Rejected, match="Odoo has no contact “Nobody Ltd”"):
        await buy.purchasing.write_purchase(stranger, False, buy.ctx)
    unknown = Purchase("pur_4", "PO-4", "Acme GmbH", (PurchaseLine("reo_4", NOWHERE, 1),))
    with pytest.raises(Rejected, match=r"not in Odoo: SKU NOP-9 \(Not in Odoo\)"):
        await buy.purchasing.write_purchase(unknown, False, buy.ctx)
