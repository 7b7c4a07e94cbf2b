"""Purchase orders in a real Odoo: the scene that the fast tests replay, and the connector `reorder` before it."""

from typing import Any

from connectors.erp.odoo.transport import Line
from hub.connector import Receipt
from hub.errors import Skip
from tests.connectors.reorder.shop import KETTLE, attempted, delivered, low, open_shop, reordering
from tests.erp.conftest import Recording
from tests.erp.odoo import Odoo
from tests.erp.purchasing_scenes import buying, life_of_a_purchase, with_a_vendor


async def test_the_life_of_a_purchase_is_as_recorded(odoo: Odoo, record: Recording) -> None:
    await odoo.fresh()
    async with record("odoo_purchase", odoo) as proxy:
        orders = await life_of_a_purchase(proxy.url, odoo.key)
    assert [(one["amount_untaxed"], one["state"]) for one in orders] == [(750, "purchase"), (207, "cancel")]


async def purchases(line: Line) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await line.call(
        "purchase.order", "search_read", domain=[], fields=["name", "state", "partner_id", "order_line", "origin"]
    )
    return found


async def test_low_stock_is_one_purchase_order_even_where_a_crash_left_it_unrecorded(odoo: Odoo) -> None:
    """The vendor, his price, minimum and time of delivery are Odoo's own."""
    await odoo.fresh()
    async with open_shop() as (store, bench), buying(odoo.url, odoo.key) as buy:
        await with_a_vendor(buy.line)
        kettle = await store.create_product(**KETTLE)
        connector = reordering(odoo={"url": odoo.url, "api_key": odoo.key})
        assert isinstance(await delivered(connector, bench, low(kettle)), Receipt)
        (line,) = bench.reorders.kept.values()
        assert (line.supplier, str(line.unit_price), line.currency, line.quantity) == ("Acme GmbH", "17.25", "USD", 56)
        (due,) = bench.reorders.due()
        opened = dict(bench.reorders.kept)
        sent = await delivered(connector, bench, due)
        assert isinstance(sent, Receipt), sent
        # The worker died after Odoo had answered, and a person had it sent as new: nothing of it is known.
        bench.reorders.kept = opened
        bench.effects.kept.pop("sending")
        again = await attempted(connector, bench, due)
        (order,) = await purchases(buy.line)
        assert order["state"] == "draft"
        assert isinstance(again, Receipt), again
        assert (again.text, again.url) == (sent.text, sent.url)
        later = await delivered(connector, bench, low(kettle))
        assert isinstance(later, Skip)
        assert later.reason.startswith(f"KET-1: already ordered, {order['name']}")


async def test_a_purchase_order_that_is_open_in_odoo_means_that_none_is_made(odoo: Odoo) -> None:
    await odoo.fresh()
    async with open_shop() as (store, bench), buying(odoo.url, odoo.key) as buy:
        await with_a_vendor(buy.line)
        kettle = await store.create_product(**KETTLE)
        connector = reordering(odoo={"url": odoo.url, "api_key": odoo.key}, confirm=True)
        await delivered(connector, bench, low(kettle))
        (due,) = bench.reorders.due()
        assert isinstance(await delivered(connector, bench, due), Receipt)
        (order,) = await purchases(buy.line)
        assert order["state"] == "purchase"
        # Another hub, or a person, has no reorder of it: the one in Odoo counts.
        bench.reorders.kept.clear()
        held = await delivered(connector, bench, low(kettle))
        assert isinstance(held, Skip)
        assert held.reason == f"KET-1: already ordered, purchase order {order['name']} in the ERP is open"
        await buy.line.call("purchase.order", "button_cancel", ids=[order["id"]])
        assert isinstance(await delivered(connector, bench, low(kettle)), Receipt)


async def test_one_that_odoo_has_received_is_closed_and_low_stock_is_ordered_again(odoo: Odoo) -> None:
    await odoo.fresh()
    async with open_shop() as (store, bench), buying(odoo.url, odoo.key) as buy:
        await with_a_vendor(buy.line)
        kettle = await store.create_product(**KETTLE)
        connector = reordering(odoo={"url": odoo.url, "api_key": odoo.key}, confirm=True)
        await delivered(connector, bench, low(kettle))
        await delivered(connector, bench, bench.reorders.due()[0])
        (order,) = await purchases(buy.line)
        [found] = await buy.line.call("purchase.order", "read", ids=[order["id"]], fields=["picking_ids"])
        await buy.line.call("stock.picking", "button_validate", ids=found["picking_ids"])
        assert isinstance(await delivered(connector, bench, low(kettle)), Receipt)
        first, second = bench.reorders.kept.values()
        assert (first.state, first.why) == ("closed", f"received, or no longer open, in the ERP ({order['name']})")
        assert (second.state, second.quantity) == ("open", 56)
