"""Orders in a real Odoo 19, by both of its ways: what is kept of them there, and what it says no to."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from connectors.erp.records import Customer, Product
from hub.connector import HoldRoute, Rejected, TryAgain
from tests.erp.conftest import Recording
from tests.erp.odoo import Odoo
from tests.erp.odoo_scenes import HOME, KETTLE, ORDER, life_of_an_order, older, reached
from tests.servers import eventually


async def read(odoo: Odoo, model: str, domain: list[Any], *fields: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await odoo.admin(model, "search_read", domain=domain, fields=list(fields))
    return found


@pytest.mark.parametrize("name", ["odoo_life", "odoo_life_rpc"])
async def test_an_orders_life(odoo: Odoo, record: Recording, name: str) -> None:
    await odoo.fresh()
    async with record(name, odoo) as proxy:
        if name == "odoo_life":
            await life_of_an_order(proxy.url, odoo.key)
        else:
            async with older(proxy.url) as url:
                await life_of_an_order(url, odoo.key)
    (order,) = await read(odoo, "sale.order", [], "state", "amount_total", "partner_id", "partner_shipping_id")
    assert (order["state"], order["amount_total"]) == ("cancel", 82.6)
    assert order["partner_shipping_id"] != order["partner_id"]
    lines = await read(odoo, "sale.order.line", [], "name", "product_uom_qty", "price_unit", "discount", "tax_ids")
    assert [(one["name"], one["product_uom_qty"], one["discount"]) for one in lines] == [
        ("Kettle", 3, 6.67),
        ("Shipping", 0, 0),
    ]
    products = await read(odoo, "product.product", [["default_code", "in", ["KET-1", "CUP-1"]]], "name", "is_storable")
    assert {(one["name"], one["is_storable"]) for one in products} == {
        ("Kettle <b>steel</b>", True),
        ("Cup ☕ كوب", True),
    }
    contacts = await read(odoo, "res.partner", [["email", "=", "asha@example.test"]], "name", "city", "child_ids")
    assert [(one["name"], one["city"], len(one["child_ids"])) for one in contacts] == [("Asha Rao", "Bengaluru", 1)]
    notes = await read(odoo, "mail.message", [["body", "ilike", "[paid 86.60]"]], "body")
    assert ["&lt;b&gt;86.60&lt;/b&gt;" in one["body"] for one in notes] == [True]


async def test_six_at_once_make_one_order(odoo: Odoo) -> None:
    order = replace(ORDER, id="ord_six", number="#six")

    async def until_written() -> str:
        async with reached(odoo.url, odoo.key) as there:
            while True:
                try:
                    return (await (await there.session()).write_order(order, None, None)).record.id
                except TryAgain as again:
                    assert "could not serialize" in again.reason

    assert len(set(await asyncio.gather(*(until_written() for _ in range(6))))) == 1
    assert len(await read(odoo, "sale.order", [["client_order_ref", "=", "#six"]], "name")) == 1


async def test_what_stands_twice_and_what_money_is_not_known(odoo: Odoo) -> None:
    for name in ("One", "Two"):
        await odoo.admin("res.partner", "create", vals_list=[{"name": name, "email": "Twin@example.test"}])
        await odoo.admin("product.product", "create", vals_list=[{"name": name, "default_code": "TWIN"}])
    twin = replace(ORDER, id="ord_twin", customer=Customer("cus_t", "Twin", "twin@example.test"))
    sku = replace(ORDER, id="ord_sku", lines=(replace(ORDER.lines[0], product=Product("x", "TWIN", "Twin")),))
    async with reached(odoo.url, odoo.key) as there:
        session = await there.session()
        with pytest.raises(Rejected, match=r"several contacts in Odoo: One \(id \d+\), Two \(id \d+\)"):
            await session.write_order(twin, None, None)
        with pytest.raises(Rejected, match=r"SKU TWIN stands at several products .*One \(id \d+\).*Two \(id \d+\)"):
            await session.write_order(sku, None, None)
        with pytest.raises(HoldRoute, match=r"EUR is not active in Odoo: activate it .* add a price list in EUR"):
            await session.write_order(replace(ORDER, id="ord_eur", currency="EUR"), None, None)
        assert await session.find_order(replace(ORDER, id="ord_eur"), None) is None
    async with reached(odoo.url, odoo.key, missing_products="refuse") as there:
        lone = (replace(ORDER.lines[0], product=replace(KETTLE, key="n", sku="KET-9")),)
        with pytest.raises(Rejected, match=r"SKU KET-9 \(Kettle <b>steel</b>\) is not in Odoo: make it there"):
            await (await there.session()).write_order(replace(ORDER, id="ord_9", lines=lone), None, None)


async def test_a_later_order_does_not_move_where_an_earlier_one_goes(odoo: Odoo) -> None:
    buyer = Customer("guest-1", "Vera", "vera@example.test", address=replace(HOME, name="Vera"))
    first = replace(ORDER, id="ord_v1", customer=buyer, shipping_address=buyer.address, billing_address=buyer.address)
    thief = replace(HOME, name="Mallory", street="66 Elsewhere")
    later = replace(
        first, id="ord_v2", customer=replace(buyer, name="Mallory", phone="666", address=thief),
        shipping_address=thief, billing_address=thief,
    )  # fmt: skip
    async with reached(odoo.url, odoo.key) as there:
        session = await there.session()
        goes_to = []
        for key in ("guest-1", "cus_v"):
            one, two = (
                replace(order, id=f"{order.id}{key}", customer=replace(order.customer, key=key, email=f"{key}@x.test"))
                for order in (first, later)
            )
            made = await session.write_order(one, None, None)
            second = await session.write_order(two, None, None)
            orders = await odoo.admin(
                "sale.order", "read", ids=[int(made.record.id), int(second.record.id)], fields=["partner_shipping_id"]
            )
            ids = [order["partner_shipping_id"][0] for order in orders]
            goes_to.append(await odoo.admin("res.partner", "read", ids=ids, fields=["name", "street", "phone"]))
    guest, registered = goes_to
    assert [(one["name"], one["street"]) for one in guest] == [("Vera", "1 MG Road"), ("Mallory", "66 Elsewhere")]
    assert not guest[0]["phone"]
    assert [one["street"] for one in registered] == ["1 MG Road", "66 Elsewhere"]


async def test_an_archived_address_or_contact_is_used_as_it_is(odoo: Odoo) -> None:
    buyer = Customer("cus_arch", "Arch", "arch@example.test", address=HOME)
    order = replace(ORDER, id="ord_arch1", customer=buyer)
    async with reached(odoo.url, odoo.key) as there:
        session = await there.session()
        made = await session.write_order(order, None, None)
        (head,) = await odoo.admin(
            "sale.order", "read", ids=[int(made.record.id)], fields=["partner_id", "partner_shipping_id"]
        )
        contact, address = head["partner_id"][0], head["partner_shipping_id"][0]
        assert contact != address
        await odoo.admin("res.partner", "write", ids=[contact, address], vals={"active": False})
        again = await session.write_order(replace(order, id="ord_arch2"), None, None)
    found = await read(odoo, "sale.order", [["id", "=", int(again.record.id)]], "partner_id", "partner_shipping_id")
    assert (found[0]["partner_id"][0], found[0]["partner_shipping_id"][0]) == (contact, address)


async def test_two_thousand_lines_and_then_half_of_them(odoo: Odoo) -> None:
    line = replace(ORDER.lines[0], discount=Decimal(0))
    many = replace(ORDER, id="ord_many", lines=tuple(replace(line, key=str(n)) for n in range(2000)), total=None)
    async with reached(odoo.url, odoo.key) as there:
        session = await there.session()
        made = await session.write_order(many, None, None)
        half = replace(many, lines=many.lines[:1000], total=1000 * line.amount)
        assert (await session.write_order(half, made.record, made.fingerprint)).remarks == ()
    assert await odoo.admin("sale.order.line", "search_count", domain=[["order_id", "=", int(made.record.id)]]) == 1000


@pytest.mark.parametrize("by", ["json-2", "json-rpc"])
async def test_without_its_postgresql_an_odoo_that_worked_is_tried_again(odoo: Odoo, by: str) -> None:
    async with older(odoo.url) as hidden, reached(hidden if by == "json-rpc" else odoo.url, odoo.key) as there:
        assert (await there.backend.check(there.context)).endswith("can be written")
        odoo.postgres.stop()
        with pytest.raises(TryAgain) as away:
            await (await there.session()).find_order(ORDER, None)
        assert away.value.destination
        odoo.postgres.start()

        async def works() -> bool:
            try:
                await (await there.session()).find_order(ORDER, None)
            except TryAgain:
                return False
            return True

        await eventually(works)
