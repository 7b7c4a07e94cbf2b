"""From a store's order to the rows of an ERP: whatever the store leaves out or means by its amounts."""

from decimal import Decimal
from typing import Any

import pytest

from connectors.erp.reading import read_customer, read_order, read_products
from connectors.erp.records import Order, Product
from connectors.erp.settings import Settings
from hub.connector import Rejected
from hub.litekart import models

ODOO = {"url": "https://odoo.example", "api_key": "canary-key-of-odoo"}
KETTLE = {"id": "itm_1", "product_id": "prd_1", "sku": "KET-1", "name": "Kettle", "quantity": 2, "price": 29.5}
SPOON = {"id": "itm_2", "product_id": "prd_2", "sku": "SPO-1", "name": "Spoon", "quantity": 1, "price": 4.0}
PLACE = {"first_name": "Asha", "last_name": "Rao", "address_1": "1 MG Road", "city": "Bengaluru", "country_code": "in"}


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"odoo": ODOO, **more})


def order(known: dict[str, list[Product]] | None = None, /, **fields: Any) -> Order:
    chosen = fields.pop("settings", settings())
    document = {"id": "ord_1", "order_no": 1001, "line_items": [KETTLE, SPOON], "currency": "INR", **fields}
    return read_order(models.read(models.Order, document), "INR", chosen, known or {})


def amounts(read: Order) -> list[tuple[str, Decimal]]:
    return [(line.kind, line.amount) for line in read.lines]


def test_goods_shipping_and_discount_become_rows_that_make_the_total() -> None:
    read = order(total=61.0, discount=6.0, shipping=4.0, coupon_code="TEA")
    assert amounts(read) == [
        ("goods", Decimal("59.0")), ("goods", Decimal("4.0")),
        ("discount", Decimal("-6.0")), ("shipping", Decimal("4.0")),
    ]  # fmt: skip
    assert read.amount == read.total == Decimal("61.0")
    assert [line.product.sku for line in read.lines] == ["KET-1", "SPO-1", "DISCOUNT", "SHIPPING"]
    assert read.lines[2].name == "Discount TEA"
    assert read.lines[3].product.service


@pytest.mark.parametrize(
    ("kettle", "more", "made"),
    [
        ({"discount": 5}, {"total": 58.0}, "58.0"),
        ({"discount": 5}, {"total": 63.0}, "63.0"),
        ({}, {"total": 63.0, "tax": 9.61}, "63.0"),
        ({}, {"total": 72.61, "tax": 9.61}, "72.61"),
        ({"discount": 5}, {"total": 67.61, "tax": 9.61}, "67.61"),
        ({}, {"total": 99.0, "tax": 9.61}, "63.0"),
        ({"discount": 5}, {"total": None, "tax": 9.61}, "63.0"),
    ],
    ids=["row discount", "no row discount", "tax inside", "tax on top", "both", "neither fits", "no total"],
)
def test_the_total_tells_what_discounts_and_tax_mean(kettle: dict[str, Any], more: dict[str, Any], made: str) -> None:
    read = order(line_items=[KETTLE | kettle, SPOON], settings=settings(taxes="as sold"), **more)
    assert read.amount == Decimal(made)


def test_a_discount_in_percent_is_shared_out_to_the_cent() -> None:
    thirds = [KETTLE | {"id": f"itm_{number}", "quantity": 1, "price": 3.33} for number in range(3)]
    read = order(line_items=thirds, discount=1, total=8.99, settings=settings(discounts="percent"))
    assert [line.discount for line in read.lines] == [Decimal("0.33"), Decimal("0.33"), Decimal("0.34")]
    assert read.amount == Decimal("8.99")


def test_tax_is_a_row_only_where_it_was_sold_so() -> None:
    assert [line.kind for line in order(total=72.61, tax=9.61).lines] == ["goods", "goods"]
    sold = order(total=72.61, tax=9.61, settings=settings(taxes="as sold"))
    assert [line.kind for line in sold.lines] == ["goods", "goods", "tax"]
    assert sold.taxes_as_sold


def test_a_row_without_a_sku_has_that_of_its_product() -> None:
    product = models.read(
        models.Product,
        {"id": "prd_1", "name": "Kettle", "variants": [
            {"id": "var_1", "sku": "KET-R", "name": "red"}, {"id": "var_2", "sku": "KET-B", "barcode": "40"},
        ]},
    )  # fmt: skip
    known = {"prd_1": read_products(product)}
    row = KETTLE | {"sku": None, "variant_id": "var_2"}
    assert [(one.sku, one.name) for one in known["prd_1"]] == [("KET-R", "Kettle, red"), ("KET-B", "Kettle")]
    assert [(one.product.sku, one.product.barcode) for one in order(known, line_items=[row]).lines] == [("KET-B", "40")]
    assert [one.product.sku for one in order(known, line_items=[row | {"variant_id": None}]).lines] == [""]


def test_who_buys_is_told_by_the_order_and_a_guest_by_the_mail_address() -> None:
    asha = order(customer_id="cus_1", first_name="Asha", last_name="Rao", email="asha@example.test").customer
    assert (asha.key, asha.name, asha.email) == ("cus_1", "Asha Rao", "asha@example.test")
    guests = [order(email=email, shipping_address=PLACE).customer for email in ("A@example.test", "a@example.test")]
    assert guests[0].key == guests[1].key
    assert guests[0].key.startswith("guest-")
    assert (guests[0].name, guests[0].address.country_code if guests[0].address else "") == ("Asha Rao", "IN")
    nobody = order().customer
    assert (nobody.name, nobody.email) == ("Customer of order 1001", "")
    assert nobody.key != guests[0].key
    person = models.read(models.Customer, {"id": "cus_2", "name": "  <b>Zoë</b>\r\nBcc: x "})
    assert read_customer(person).name == "<b>Zoë</b> Bcc: x"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "order 1001 has no rows in the store"),
        ([KETTLE | {"quantity": 0}], "order 1001 has no rows in the store"),
        ([KETTLE | {"quantity": "many"}], "order 1001, Kettle: the store names no quantity that can be read"),
        ([KETTLE | {"price": None}], "order 1001, Kettle: the store names no price that can be read"),
        ([KETTLE | {"id": f"itm_{number}"} for number in range(5001)], "order 1001 has 5001 rows; at most 5000"),
    ],
    ids=["none", "none left", "quantity", "price", "too many"],
)
def test_what_no_erp_can_hold_is_refused_in_a_sentence(rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(Rejected, match=said):
        order(line_items=rows)


def test_a_return_stays_negative_and_a_cancelled_row_is_left_out() -> None:
    read = order(line_items=[KETTLE | {"quantity": -1}, SPOON | {"status": "cancelled"}])
    assert [(line.name, line.quantity, line.amount) for line in read.lines] == [("Kettle", -1, Decimal("-29.5"))]


def test_rows_without_ids_and_with_one_id_are_kept_apart() -> None:
    nameless = [{"name": name, "quantity": 1, "price": 1} for name in ("Gift wrap", "Engraving", "Gift wrap")]
    wrap, engraving, again = (line.product.key for line in order(line_items=nameless).lines)
    assert wrap == again != engraving
    twice = order(line_items=[KETTLE, SPOON | {"id": "itm_1"}, SPOON | {"id": "shipping"}], shipping=4)
    assert len({line.key for line in twice.lines}) == 4
    assert twice.lines[0].key == "itm_1"


@pytest.mark.parametrize(
    ("paid", "due"),
    [
        ({"amount_due": 1}, True),
        ({"amount_due": 0, "amount_paid": 1}, False),
        ({"amount_due": -1}, False),
        ({"amount_paid": 62}, True),
        ({"amount_paid": 64}, False),
        ({}, False),
    ],
)
def test_what_is_still_to_be_paid(paid: dict[str, Any], due: bool) -> None:
    assert order(total=63, **paid).due is due


def test_payments_and_refunds_are_noted_by_their_amounts() -> None:
    read = order(amount_paid=63, amount_refunded=4.5, payment_method="card", payment_id="pay_1", paid=True)
    assert [(note.key, note.text) for note in read.notes] == [
        ("paid 63.00", "Paid in the store: 63.00 INR (card pay_1)"),
        ("refunded 4.50", "Refunded in the store: 4.50 INR in all"),
    ]
    assert order(paid=True, settings=settings(notes=False)).notes == ()
    assert (read.paid, order(payment_status="Paid").paid, order().paid) == (True, True, False)


def test_one_erp_must_be_named() -> None:
    for wrong in ({}, {"odoo": ODOO, "rest": {"url": "https://erp.example"}}):
        with pytest.raises(ValueError, match="name one ERP: `odoo` or `rest`"):
            Settings.model_validate(wrong)
    with pytest.raises(ValueError, match="must be a whole address"):
        Settings.model_validate({"odoo": ODOO | {"url": "odoo.example"}})
