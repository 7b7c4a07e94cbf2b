"""An order's life in Odoo, told once: `make test-erp` plays it before the real one, `make test` before its recording.

By JSON-2, and, where the server hides what it is, by JSON-RPC.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from connectors.erp.backend import Session
from connectors.erp.odoo.backend import OdooBackend
from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.records import Address, Customer, Line, Note, Order, Product
from connectors.erp.settings import Settings
from hub.connector import Context
from hub.testing import event_of, open_bench, sample
from tests.erp.recording import listening_at

HOME = Address("Asha Rao", "1 MG Road", "", "Bengaluru", "560001", "Karnataka", "India", "IN", "+91 98")
GIFT = Address("Bob Gift", "2 Hill Road", "", "Mumbai", "400001", "MH", "", "IN")
KETTLE = Product("v_1", "KET-1", "Kettle <b>steel</b>", price=Decimal("29.50"), currency="USD")
CUP = Product("v_2", "CUP-1", "Cup ☕ كوب", price=Decimal(4), currency="USD")
SHIPPING = Product("SHIPPING", "SHIPPING", "Shipping", service=True)
ORDER = Order(
    "ord_1",
    "#1001",
    "USD",
    Customer("cus_1", "Asha Rao", "asha@example.test", "+91 98", HOME),
    (
        Line("1", KETTLE, "Kettle", 2, Decimal("29.50"), Decimal("5.90")),
        Line("2", CUP, "Cup", 1, Decimal(4)),
        Line("shipping", SHIPPING, "Shipping", 1, Decimal(4), kind="shipping"),
    ),
    datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC),
    GIFT,
    HOME,
    Decimal("61.10"),
    taxes_as_sold=True,
)


@dataclass
class Reached:
    """A backend with one delivery's context, before a server."""

    backend: OdooBackend
    context: Context

    async def session(self) -> Session:
        return await self.backend.session(self.context)


@dataclass
class _Nobody:
    url: str


@asynccontextmanager
async def reached(url: str, key: str, **more: Any) -> AsyncIterator[Reached]:
    """Odoo at `url`; `more` is what else the settings say."""

    @asynccontextmanager
    async def there() -> AsyncIterator[_Nobody]:
        yield _Nobody(url)

    named = {"url": url, "api_key": key, "login": "litekart-hub", "database": "hub", **more}
    odoo = OdooSettings.model_validate(named)
    async with open_bench(there(), timeout=120) as bench:
        context = bench.context(event_of(sample("order.placed")))
        yield Reached(OdooBackend(odoo, Settings(odoo=odoo)), replace(context, store="main"))


@asynccontextmanager
async def older(url: str) -> AsyncIterator[str]:
    """The same server without what those before 19 do not have."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120) as client:

        async def answer(request: Request) -> Response:
            if request.url.path != "/jsonrpc":
                return PlainTextResponse("<h1>Not Found</h1>", 404, {"Content-Type": "text/html"})
            asked = await request.json()
            if asked["params"]["method"] == "version":
                return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": {"server_version_info": [17, 0, 0, "final"]}})
            real = await client.post("/jsonrpc", json=asked)
            return Response(real.content, real.status_code, {"Content-Type": real.headers["content-type"]})

        async with listening_at(answer) as hidden:
            yield hidden


async def life_of_an_order(url: str, key: str) -> str:
    """Placed twice, changed, paid, confirmed, changed again, cancelled; the order's id in Odoo."""
    async with reached(url, key) as odoo:
        session = await odoo.session()
        assert await session.find_order(ORDER, None) is None
        planned = await session.plan_order(ORDER, None)
        targets = [write.target for write in planned]
        # The customer, and where the gift goes: the invoice goes where the customer lives.
        assert [targets.count(model) for model in ("product.product", "res.partner", "sale.order")] == [3, 2, 1]
        made = await session.write_order(ORDER, None, None)
        assert (made.changed, made.record.state, made.remarks) == (True, "draft", ())
        # What a crash left unrecorded is found, and the same rows change nothing.
        found = await session.find_order(ORDER, None)
        assert found == made.record
        again = await session.write_order(ORDER, found, None)
        assert (again.record, again.fingerprint) == (made.record, made.fingerprint)
        assert not (await session.write_order(ORDER, found, made.fingerprint)).changed
        assert (await session.plan_order(ORDER, found))[-1].changes == ()
        await _changed_and_cancelled(session, made.record.id, made.fingerprint)
        return made.record.id


async def _changed_and_cancelled(session: Session, known: str, last: str) -> None:
    kettle, _, shipping = ORDER.lines
    fewer = replace(ORDER, lines=(replace(kettle, quantity=3), shipping), total=Decimal("86.60"))
    found = await session.find_order(fewer, known)
    assert found is not None
    (plan,) = await session.plan_order(fewer, found)
    assert "Cup: is removed" in plan.changes
    assert any(change.startswith("KET-1: product_uom_qty") for change in plan.changes)
    changed = await session.write_order(fewer, found, last)
    # 5.90 of 88.50 is 6.666 percent, of which Odoo keeps two digits: it comes out to the cent.
    assert (changed.changed, changed.remarks) == (True, ())
    confirmed = await session.confirm(changed.record)
    assert (confirmed.state, await session.confirm(confirmed)) == ("confirmed", confirmed)
    for _ in range(2):
        await session.note(confirmed, Note("paid 86.60", "Paid <b>86.60</b> on Litekart"))
    without = replace(fewer, lines=fewer.lines[:1], total=Decimal("82.60"))
    later = await session.write_order(without, confirmed, changed.fingerprint)
    assert (later.record.state, later.remarks) == ("confirmed", ())
    cancelled = await session.cancel(later.record)
    assert cancelled.state == "cancelled"
    assert await session.cancel(cancelled) == cancelled
