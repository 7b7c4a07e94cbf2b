"""Orders of the store in a real Odoo: through their life, with what the merchant has already, and of awkward kinds."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from hub.connector import HoldRoute, Receipt, Rejected, Skip
from hub.errors import ServerError, TemplateError
from tests.erp.desk import Desk, cents, open_desk, rows
from tests.erp.odoo import Odoo

KETTLE, SPOON, CUP = ("LIFE-KET", 2, "29.50"), ("LIFE-SPO", 1, "4.05"), ("LIFE-CUP", 3, "3.33")


async def changed(desk: Desk, order: dict[str, Any], **fields: Any) -> Receipt | Any:
    await desk.store.update(order["id"], wait=False, **fields)
    return await desk.deliver("order.updated", order["id"])


def skipped(outcome: object) -> str:
    assert isinstance(outcome, Skip), outcome
    return outcome.reason


@pytest.mark.parametrize("more", [{}, {"login": "litekart-hub", "database": "hub", "protocol": "json-rpc"}])
async def test_an_order_through_its_life_ends_right_in_odoo(odoo: Odoo, more: dict[str, Any]) -> None:
    async with open_desk(odoo, more, taxes="as sold", write_back="tag") as desk:
        order = await desk.place(KETTLE, SPOON, CUP, shipping=4.9, discount=5, total=72.94, coupon_code="TEA", tax=0)
        made = await desk.deliver("order.placed", order["id"])
        assert isinstance(made, Receipt), made
        number = desk.number(order["id"])
        assert made.text.startswith(f"{number} made: 5 rows, 72.94 USD")
        found = await desk.sales_order(order["id"])
        assert (found["state"], cents(found["amount_total"])) == ("draft", Decimal("72.94"))
        assert rows(found) == [
            ("Thing LIFE-KET", 2, Decimal("59.00")), ("Thing LIFE-SPO", 1, Decimal("4.05")),
            ("Thing LIFE-CUP", 3, Decimal("9.99")), ("Discount TEA", 1, Decimal("-5.00")),
            ("Shipping", 1, Decimal("4.90")),
        ]  # fmt: skip
        assert skipped(await desk.deliver("order.placed", order["id"])) == f"nothing changed since {number}"

        await desk.store.pay(order["id"], wait=False)
        paid = await desk.deliver("payment.completed", order["id"])
        assert isinstance(paid, Receipt), paid
        assert "confirmed" in paid.text
        assert (await desk.sales_order(order["id"]))["state"] == "sale"

        fewer = [{**order["line_items"][0], "quantity": 3}, order["line_items"][2]]
        again = await changed(desk, order, line_items=fewer, total=98.39)
        assert isinstance(again, Receipt), again
        found = await desk.sales_order(order["id"])
        assert ("Thing LIFE-KET", 3, Decimal("88.50")) in rows(found)
        assert ("Thing LIFE-SPO", 0, Decimal("0.00")) in rows(found)
        assert cents(found["amount_total"]) == Decimal("98.39")

        refunded = await changed(desk, order, amount_refunded=4.05)
        assert isinstance(refunded, Receipt), refunded
        notes = await odoo.admin(
            "mail.message", "search_read",
            domain=[["model", "=", "sale.order"], ["res_id", "=", found["id"]], ["body", "ilike", "in the store"]],
            fields=["body"],
        )  # fmt: skip
        assert len(notes) == 2

        await desk.store.cancel(order["id"], wait=False)
        gone = await desk.deliver("order.cancelled", order["id"])
        assert gone == Receipt(f"{number} cancelled", made.url)
        assert (await desk.sales_order(order["id"]))["state"] == "cancel"
        ended = await desk.deliver("order.cancelled", order["id"])
        assert skipped(ended) == f"nothing changed since {number}, which is cancelled"
        assert (
            await desk.count("sale.order", ["client_order_ref", "=", str(order["order_no"])], ["name", "=", number])
            == 1
        )
        tags = await desk.store.rows("order_tags")
        assert [tag["tag"] for tag in tags if tag["order_id"] == order["id"]] == [number]


async def test_what_the_merchant_has_already_is_taken_and_two_of_a_kind_are_named(odoo: Odoo) -> None:
    async with open_desk(odoo) as desk:
        order = await desk.place(("HAVE-1", 1, "10"), total=10, shipping=0)
        contact = {"name": "Frau Meier", "email": order["email"].upper()}
        (partner,) = await odoo.admin("res.partner", "create", vals_list=[contact])
        (product,) = await odoo.admin(
            "product.product", "create", vals_list=[{"name": "Their own name", "default_code": "HAVE-1"}]
        )
        made = await desk.deliver("order.placed", order["id"])
        assert isinstance(made, Receipt), made
        found = await desk.sales_order(order["id"])
        assert (found["partner_id"][0], found["lines"][0]["product_id"][0]) == (partner, product)
        kept = await odoo.admin("res.partner", "read", ids=[partner], fields=["name", "email"])
        assert (kept[0]["name"], kept[0]["email"]) == ("Frau Meier", order["email"].upper())

        (second,) = await odoo.admin("res.partner", "create", vals_list=[contact | {"name": "Meier GmbH"}])
        other = await desk.place(("HAVE-1", 2, "10"), customer_id=order["customer_id"], total=20, shipping=0)
        told = await desk.deliver("order.placed", other["id"])
        assert isinstance(told, Rejected), told
        assert "Frau Meier" in told.reason
        assert "Meier GmbH" in told.reason
        await odoo.admin("res.partner", "unlink", ids=[second])

        await odoo.admin("product.product", "create", vals_list=[{"name": "Twin", "default_code": "HAVE-1"}])
        told = await desk.deliver("order.placed", other["id"])
        assert isinstance(told, Rejected), told
        assert "HAVE-1" in told.reason
        assert "Their own name" in told.reason
        assert "Twin" in told.reason
        assert (
            await desk.count(
                "sale.order", ["client_order_ref", "=", str(other["order_no"])], ["partner_id", "=", partner]
            )
            == 0
        )


async def test_awkward_orders_have_one_clear_outcome_each_and_are_never_there_by_half(odoo: Odoo) -> None:
    async with open_desk(odoo, taxes="as sold") as desk:
        before = await desk.count("sale.order")

        strange = await desk.place(("ODD-1", 1, "10"), currency="XTS", total=10, shipping=0)
        told = await desk.deliver("order.placed", strange["id"])
        assert isinstance(told, HoldRoute), told
        assert "XTS" in told.reason
        empty = await desk.place(("ODD-1", 0, "10"), total=0, shipping=0)
        told = await desk.deliver("order.placed", empty["id"])
        assert isinstance(told, Rejected), told
        assert "has no rows" in told.reason
        assert await desk.count("sale.order") == before

        nameless = await desk.place(
            ("ODD-1", 1, "10"), total=None, subtotal=None, shipping=None, discount=None, tax=None
        )
        assert isinstance(await desk.deliver("order.placed", nameless["id"]), Receipt)
        assert cents((await desk.sales_order(nameless["id"]))["amount_total"]) == Decimal("10.00")

        back = await desk.place(("ODD-1", -1, "10"), ("ODD-2", 2, "10"), total=10, shipping=0)
        assert isinstance(await desk.deliver("order.placed", back["id"]), Receipt)
        assert [quantity for _, quantity, _ in rows(await desk.sales_order(back["id"]))] == [-1, 2]

        words = '<script>alert(1)</script> & "Tee" 🫖 קומקום'
        line = {"id": "itm_1", "sku": "ODD-3", "name": words, "quantity": 1, "price": 7}
        person = {"first_name": "نور", "last_name": "<b>O'Neil</b> 🙂", "email": "noor.odd@example.test"}
        spoken = await desk.place(line_items=[line], total=7, shipping=0, **person)
        assert isinstance(await desk.deliver("order.placed", spoken["id"]), Receipt)
        found = await desk.sales_order(spoken["id"])
        assert found["lines"][0]["name"] == words
        assert found["partner_id"][1].endswith("نور <b>O'Neil</b> 🙂")

        shared = [
            await desk.place(("ODD-1", 1, "10"), total=10, shipping=0, customer_id=one["id"], email="both@example.test")
            for one in (await desk.store.rows("customers"))[:2]
        ]
        outcomes = [await desk.deliver("order.placed", one["id"]) for one in shared]
        assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
        partners = {(await desk.sales_order(one["id"]))["partner_id"][0] for one in shared}
        assert len(partners) == 1


async def test_an_order_that_is_opened_again_in_the_store_is_not_passed_over(odoo: Odoo) -> None:
    async with open_desk(odoo, confirm="on order.placed") as desk:
        order = await desk.place(("AGAIN-1", 1, "10"), total=10, shipping=0)
        assert "the quotation becomes an order" in await desk.preview("order.placed", order["id"])
        assert isinstance(await desk.deliver("order.placed", order["id"]), Receipt)
        await desk.store.cancel(order["id"], wait=False)
        assert "is cancelled" in await desk.preview("order.cancelled", order["id"])
        assert isinstance(await desk.deliver("order.cancelled", order["id"]), Receipt)
        assert "which is cancelled" in await desk.preview("order.cancelled", order["id"])

        told = await changed(desk, order, status="pending")
        assert isinstance(told, Rejected), told
        assert "which is open again: set it to a quotation in the ERP, then replay" in told.reason
        sold = (await desk.sales_order(order["id"]))["id"]
        await odoo.admin("sale.order", "action_draft", ids=[sold])
        replayed = await desk.deliver("order.updated", order["id"])
        assert isinstance(replayed, Receipt), replayed
        assert (await desk.sales_order(order["id"]))["state"] == "sale"
        # By hand in Odoo, it is another matter.
        await odoo.admin("sale.order", "action_cancel", ids=[sold])
        assert "is cancelled in the ERP, and the store's order is not" in skipped(
            await desk.deliver("order.updated", order["id"])
        )


async def test_a_comment_that_the_store_did_not_take_is_written_by_the_next_attempt(odoo: Odoo) -> None:
    async with open_desk(odoo, write_back="comment") as desk:
        order = await desk.place(("NOTED-1", 1, "10"), total=10, shipping=0)
        for method in ("PUT", "PATCH"):
            await desk.store.fail(method, "*/orders/*")
        with pytest.raises(ServerError):
            await desk.deliver("order.placed", order["id"])
        again = await desk.deliver("order.placed", order["id"])
        assert isinstance(again, Receipt), again
        assert "its comment" in again.text
        (kept,) = [one for one in await desk.store.rows("orders") if one["id"] == order["id"]]
        assert kept["comment"] == desk.number(order["id"])
        assert isinstance(await desk.deliver("order.updated", order["id"]), Skip)


async def test_an_order_of_2000_lines_is_there_whole(odoo: Odoo) -> None:
    async with open_desk(odoo, taxes="as sold") as desk:
        items = [(f"BULK-{number % 40}", 1 + number % 3, f"{1 + number % 7}.99") for number in range(2000)]
        order = await desk.place(*items, shipping=0, total=None)
        made = await desk.deliver("order.placed", order["id"])
        assert isinstance(made, Receipt), made
        found = await desk.sales_order(order["id"])
        assert len(found["order_line"]) == 2000
        expected = sum((Decimal(price) * quantity for _, quantity, price in items), Decimal(0))
        assert cents(found["amount_total"]) == expected


async def test_customers_and_products_come_over_and_their_changes(odoo: Odoo) -> None:
    async with open_desk(odoo) as desk:
        customer = await desk.store.register_customer(
            wait=False, first_name="Asha", last_name="Rao", email="asha.erp@example.test"
        )
        made = await desk.deliver("customer.registered", customer["id"])
        assert isinstance(made, Receipt), made
        assert await desk.count("res.partner", ["email", "=", "asha.erp@example.test"], ["name", "=", "Asha Rao"]) == 1
        product = await desk.store.create_product(wait=False, name="Erp pot", sku="ERP-POT", price=12.5)
        assert isinstance(await desk.deliver("product.created", product["id"]), Receipt)
        assert isinstance(await desk.deliver("product.updated", product["id"]), Skip)
        await desk.store.change_product(product["id"], wait=False, name="Erp pot, large")
        assert isinstance(await desk.deliver("product.updated", product["id"]), Receipt)
        assert (
            await desk.count("product.product", ["default_code", "=", "ERP-POT"], ["name", "=", "Erp pot, large"]) == 1
        )


async def test_preview_tells_what_would_be_written_and_writes_nothing(odoo: Odoo) -> None:
    async with open_desk(odoo) as desk:
        order = await desk.place(("PRE-1", 1, "10"), total=10, shipping=0)
        before = [await desk.count(model) for model in ("sale.order", "res.partner", "product.product")]
        told = await desk.preview("order.placed", order["id"])
        assert "a new quotation of 1 line" in told
        assert "a new product PRE-1" in told
        assert [await desk.count(model) for model in ("sale.order", "res.partner", "product.product")] == before
        assert isinstance(await desk.deliver("order.placed", order["id"]), Receipt)
        await desk.store.update(
            order["id"], wait=False, line_items=[{**order["line_items"][0], "quantity": 4}], total=40
        )
        assert "1.0 becomes 4" in await desk.preview("order.updated", order["id"])


async def test_check_says_who_and_where_and_what_is_missing(odoo: Odoo) -> None:
    async with open_desk(odoo) as desk:
        context = desk.context(desk.event("order.placed", "ord_1"))
        told = await desk.erp.check(context)
        assert "Odoo 19" in told
        assert "the store's orders can be read" in told
    async with open_desk(odoo, {"fields": {"line": {"name": "{{ line.nme }}"}}}) as desk:
        told = await desk.erp.check(desk.context(desk.event("order.placed", "ord_1")))
        assert "with a made-up order in INR: fields.line.name: no field nme" in told
        order = await desk.place(("WRONG-1", 1, "10"), total=10, shipping=0)
        with pytest.raises(TemplateError, match=r"fields\.line\.name: no field nme"):
            await desk.deliver("order.placed", order["id"])
    ends = datetime.now(UTC) + timedelta(days=7)
    async with open_desk(odoo, {"api_key": await odoo.new_key(ends)}) as desk:
        told = await desk.erp.check(desk.context(desk.event("order.placed", "ord_1")))
        assert f"the key expires on {ends:%Y-%m-%d}: soon, so make a new one and put it into `api_key`" in told


async def test_check_names_all_that_is_missing_in_plain_words(odoo: Odoo) -> None:
    [internal] = await odoo.admin(
        "ir.model.data", "search_read", domain=[["module", "=", "base"], ["name", "=", "group_user"]], fields=["res_id"]
    )
    weak = {"name": "Weak", "login": "weak-hub", "group_ids": [[6, 0, [internal["res_id"]]]]}
    await odoo.admin("res.users", "create", vals_list=[weak])
    async with open_desk(odoo, {"api_key": await odoo.new_key(login="weak-hub")}) as desk:
        with pytest.raises(HoldRoute) as missing:
            await desk.erp.check(desk.context(desk.event("order.placed", "ord_1")))
        assert "weak-hub may not read or make or change sales orders" in missing.value.reason
        assert "give that user “Sales: User: All Documents”" in missing.value.reason
        assert "make or change contacts: give that user “Contact Creation”" in missing.value.reason
        assert "make or change products: give that user “Product Creation”" in missing.value.reason
    twice = [{"name": f"Carriage {place}", "default_code": "TWICE-SHIP"} for place in "AB"]
    await odoo.admin("product.product", "create", vals_list=twice)
    async with open_desk(odoo, {"pricelists": {"CHF": "Retail"}}, shipping_sku="TWICE-SHIP") as desk:
        with pytest.raises(HoldRoute) as missing:
            await desk.erp.check(desk.context(desk.event("order.placed", "ord_1")))
        assert "the currency CHF is not active in Odoo: activate it (Currencies)" in missing.value.reason
        assert "SKU TWICE-SHIP stands at several products in Odoo" in missing.value.reason
        assert "Carriage A" in missing.value.reason
        assert "Carriage B" in missing.value.reason


async def test_an_order_is_in_the_currency_of_the_store_by_its_price_list(odoo: Odoo) -> None:
    domain = [["name", "=", "SEK"]]
    [krona] = await odoo.admin("res.currency", "search", domain=domain, context={"active_test": False})
    await odoo.admin("res.currency", "write", ids=[krona], vals={"active": True})
    lists = [{"name": name, "currency_id": krona} for name in ("Wholesale SEK", "Retail SEK")]
    await odoo.admin("product.pricelist", "create", vals_list=lists)
    async with open_desk(odoo, {"pricelists": {"SEK": "Retail SEK"}}, taxes="as sold") as desk:
        order = await desk.place(("KRONA-1", 2, "10.5"), currency="SEK", total=21, shipping=0)
        assert isinstance(await desk.deliver("order.placed", order["id"]), Receipt)
        found = await desk.sales_order(order["id"])
        assert (found["currency_id"][1], cents(found["amount_total"])) == ("SEK", Decimal("21.00"))
        [listed] = await odoo.admin("sale.order", "read", ids=[found["id"]], fields=["pricelist_id"])
        assert listed["pricelist_id"][1].startswith("Retail SEK")


async def test_a_comment_that_somebody_wrote_stays(odoo: Odoo) -> None:
    async with open_desk(odoo, write_back="comment") as desk:
        order = await desk.place(("WORD-1", 1, "10"), total=10, shipping=0, comment="Ring twice")
        assert isinstance(await desk.deliver("order.placed", order["id"]), Receipt)
        assert (await desk.store.row("orders", order["id"]))["comment"] == "Ring twice"
