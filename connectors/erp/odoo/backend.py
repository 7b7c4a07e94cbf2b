"""Odoo behind the connector's small interface: one Server for each route, one Talk for each delivery."""

from collections.abc import Sequence

from connectors.erp.backend import Backend, Session
from connectors.erp.odoo import orders, plans
from connectors.erp.odoo.check import check
from connectors.erp.odoo.partners import ensure_partner
from connectors.erp.odoo.products import changes_of, find_products, make_product, own_id
from connectors.erp.odoo.rows import digest
from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.odoo.talk import Talk, begun
from connectors.erp.odoo.transport import Server
from connectors.erp.records import Customer, Note, Order, Product, Record, Write, Written
from connectors.erp.settings import Settings
from hub.connector import Context, Skip


class OdooSession(Session):
    """One delivery's talk with Odoo."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def find_order(self, order: Order, known: str | None) -> Record | None:
        return await orders.find_order(self._talk, order, known)

    async def write_order(self, order: Order, record: Record | None, last: str | None) -> Written:
        return await orders.write_order(self._talk, order, record, last)

    async def confirm(self, record: Record) -> Record:
        return await orders.confirm(self._talk, record)

    async def cancel(self, record: Record) -> Record:
        return await orders.cancel(self._talk, record)

    async def note(self, record: Record, note: Note) -> None:
        await orders.note(self._talk, record, note)

    async def write_customer(self, customer: Customer, last: str | None) -> Written:
        """One that the merchant has of his own is found and stays as it is; `last` makes no difference."""
        partner, changed = await ensure_partner(self._talk, customer)
        record = Record(str(partner.id), partner.name, url=await self._talk.url("res.partner", partner.id or 0))
        return Written(record, digest(partner.row), changed)

    async def write_products(self, products: Sequence[Product], last: str | None) -> Written:
        """Raises Skip for those that Odoo does not have where it is not to make them: there is nothing to do."""
        talk, changed = self._talk, False
        found = await find_products(talk, products)
        if found.missing and talk.line.server.settings.missing_products == "refuse":
            raise Skip("Odoo does not have it, and `missing_products` is refuse")
        ids = dict(found.ids)
        for product in found.missing:
            ids[product.key], changed = await make_product(talk, product), True
        there = [product for product in products if product.key in found.ids]
        for product, row, changes in await changes_of(talk, there, found.ids):
            if changes:
                await talk.load("product.product", {"id": own_id(talk, product), **row})
                changed = True
        first = products[0]
        url = await talk.url("product.product", ids[first.key])
        return Written(Record(str(ids[first.key]), first.sku or first.name, url=url), digest(ids), changed)

    async def plan_order(self, order: Order, record: Record | None) -> list[Write]:
        return await plans.plan_order(self._talk, order, record)

    async def plan_customer(self, customer: Customer) -> list[Write]:
        return await plans.plan_customer(self._talk, customer)

    async def plan_products(self, products: Sequence[Product]) -> list[Write]:
        return await plans.plan_products(self._talk, products)


class OdooBackend(Backend):
    """An Odoo server under one route's settings."""

    def __init__(self, odoo: OdooSettings, settings: Settings) -> None:
        self._server = Server(odoo)
        self._skus = (settings.shipping_sku, settings.discount_sku, settings.tax_sku)

    async def session(self, ctx: Context) -> Session:
        return OdooSession(await self.talk(ctx))

    async def talk(self, ctx: Context) -> Talk:
        """What a session, or a test, asks of the server by."""
        return await begun(self._server, ctx)

    async def check(self, ctx: Context) -> str:
        # What was mended a moment ago is to be seen now.
        self._server.forget()
        return await check(await self.talk(ctx), ctx.now(), self._skus)
