"""The words that Slack and mail share: the store's several ways to name a thing, money, and right-to-left text."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.messages import ALERT_TITLES, Message, clean, clean_line, isolated, message_of
from hub.alert_texts import KINDS
from hub.connector import amount_text
from hub.language import compile_template
from hub.money import NO_CENTS, THREE_PLACES
from hub.testing import event_of, sample


def told(type_: str, **data: Any) -> Message:
    return message_of(event_of(sample(type_, **data)))


def told_with(fetched: dict[str, Any], type_: str, **data: Any) -> Message:
    """Of an event that holds nothing but this, and what was fetched for it."""
    document = {"event": type_, "data": data, "timestamp": "2026-11-23T12:00:00Z"}
    return message_of(event_of(document), fetched, "https://shop.test/admin/1")


def facts(message: Message) -> dict[str, str]:
    return {fact.label: fact.value for fact in message.facts}


def fact(message: Message, label: str) -> str | None:
    return next((fact.value for fact in message.facts if fact.label == label), None)


def test_a_live_orders_customer_is_flat_in_the_order() -> None:
    live = {"userFirstName": "Asha", "userLastName": "Rao", "userEmail": "asha@x.test", "userPhone": "+91 98"}
    message = told("order.placed", **live, orderNo=7, customer=None, customerId="cus_1", total=5)
    assert message.summary == "New order 7 from Asha Rao: 5.00 EUR"
    assert fact(message, "E-mail") == "asha@x.test"
    assert fact(told("customer.registered", **live, email=None), "Phone") == "+91 98"


@pytest.mark.parametrize("customer", ["Asha Rao", {"name": "Asha Rao"}, {"firstName": "Asha", "lastName": "Rao"}])
def test_a_customer_may_be_a_name_or_an_object(customer: Any) -> None:
    assert fact(told("order.placed", customer=customer), "Customer") == "Asha Rao"


def test_an_empty_customer_leaves_the_name_to_the_flat_fields() -> None:
    message = told("order.placed", customer={"id": None}, userFirstName="Asha", userLastName="Rao")
    assert fact(message, "Customer") == "Asha Rao"


@pytest.mark.parametrize("empty", [None, [], {}, "", {"count": 2}])
def test_line_items_are_found_beside_empty_items(empty: Any) -> None:
    message = told("order.placed", items=empty, lineItems=[{"title": "Kettle", "qty": 2}, {"title": "Cup", "qty": 1}])
    assert fact(message, "Items") == "2 × Kettle; 1 × Cup"


def test_items_beyond_the_twentieth_are_counted() -> None:
    goods = [{"name": f"A tea of the finest kind, number {number}", "quantity": 1} for number in range(23)]
    items = fact(told("order.placed", items=goods), "Items") or ""
    assert items.endswith("number 19; … and 3 more")
    assert "more" not in (fact(told("order.placed", items=goods[:20]), "Items") or "")


def test_items_for_which_there_is_no_room_are_counted_too() -> None:
    goods = [{"name": "x" * 290, "quantity": 1}] * 12
    items = fact(told("order.placed", items=goods), "Items") or ""
    shown = items.count("×")
    assert 0 < shown < 12
    assert items.endswith(f"; … and {12 - shown} more")
    assert len(items) < 1600


MONEY = [
    (Decimal("2.675"), "EUR", "2.68"),
    (Decimal("2.665"), "EUR", "2.67"),
    (Decimal("1234.5"), "JPY", "1,235"),
    (Decimal("1000.5"), "XOF", "1,001"),
    (Decimal("1.0005"), "TND", "1.001"),
    (Decimal("1.0005"), "IQD", "1.001"),
    (Decimal("-0.005"), "", "-0.01"),
]


@pytest.mark.parametrize(("amount", "currency", "reads"), MONEY)
def test_a_message_and_the_money_filter_say_the_same(amount: Decimal, currency: str, reads: str) -> None:
    assert amount_text(amount, currency) == reads
    assert fact(told("order.placed", total=str(amount), currency=currency), "Total") == f"{reads} {currency}".strip()
    filled = compile_template("{{ amount | money(currency) }}").render({"amount": amount, "currency": currency})
    assert filled == f"{currency} {reads}".strip()


@given(
    amount=st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12),
    currency=st.sampled_from(["EUR", "", *sorted(NO_CENTS | THREE_PLACES)]),
)
def test_they_never_differ(amount: Decimal, currency: str) -> None:
    filled = compile_template("{{ amount | money(currency) }}").render({"amount": amount, "currency": currency})
    assert filled.removeprefix(currency).strip() == amount_text(amount, currency)


@pytest.mark.parametrize("total", ["NaN", "Infinity", "12 apples", "1E+999999"])
def test_what_is_no_amount_is_told_as_it_is(total: str) -> None:
    assert fact(told("order.placed", total=total), "Total") == f"{total} EUR"


TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize("turn", TURNS)
def test_no_value_turns_the_direction_of_writing(turn: str) -> None:
    assert clean(f"a{turn}b") == "ab"
    message = told("order.placed", customer={"name": f"x{turn}y"}, orderNo=f"7{turn}")
    assert turn not in message.summary + "".join(fact.value for fact in message.facts)


@pytest.mark.parametrize("name", ["דנה כהן", "سارة", "ACME שלום"])
def test_right_to_left_text_is_isolated_in_a_sentence(name: str) -> None:
    message = told("order.placed", customer={"name": name}, orderNo=7, total=5, items=[{"name": name, "quantity": 2}])
    assert message.summary == f"New order 7 from \u2068{name}\u2069: 5.00 EUR"
    assert fact(message, "Customer") == name
    assert fact(message, "Items") == f"2 × \u2068{name}\u2069"


def test_other_text_is_left_as_it_is() -> None:
    assert isolated("Zoë 李") == "Zoë 李"


def test_a_line_keeps_closed_isolates_and_drops_one_left_open() -> None:
    assert clean_line("\u202ea \u2068שלום\u2069\r\nb") == "a \u2068שלום\u2069 b"
    assert clean_line("a \u2068שלום\nb") == "a שלום b"


ORDER = {
    "id": "ord_1", "order_no": "1042", "total": Decimal("1179.7"), "currency": "EUR", "status": "processing",
    "email": "asha@x.test", "first_name": "Asha", "last_name": "Rao", "payment_method": "card",
    "items": [{"name": "Kettle", "quantity": 2, "price": Decimal("59.90")}, {"name": "Cup", "quantity": 1}],
}  # fmt: skip
PERSON = {"id": "cus_1", "first_name": "Dana", "last_name": "Levi", "email": "dana@x.test", "phone": "+972 1"}
KETTLE = {"id": "prd_1", "name": "Kettle", "sku": "KET-1", "price": Decimal("59.9"), "currency": "EUR", "stock": 2}


def test_what_was_fetched_fills_in_what_the_event_leaves_out() -> None:
    message = told_with(
        {"order": ORDER, "customer": PERSON}, "order.placed", orderId="ord_1", customerId="cus_1", total=5
    )
    assert message.summary == "New order 1042 from Dana Levi: 5.00 EUR"
    assert facts(message) == {
        "Order": "1042", "Customer": "Dana Levi", "E-mail": "dana@x.test", "Total": "5.00 EUR",
        "Status": "processing", "Items": "2 × Kettle; 1 × Cup",
    }  # fmt: skip
    assert message.link == "https://shop.test/admin/1"
    assert told_with({"order": ORDER}, "order.cancelled", orderId="ord_1").summary == (
        "Order 1042 cancelled (1,179.70 EUR)"
    )


def test_without_the_customer_the_order_names_them() -> None:
    message = told_with({"order": ORDER}, "order.placed", orderId="ord_1", customerId="cus_1", total=5)
    assert (fact(message, "Customer"), fact(message, "E-mail")) == ("Asha Rao", "asha@x.test")
    assert fact(told_with({}, "order.placed", orderId="ord_1", customerId="cus_1"), "Customer") == "cus_1"


def test_a_payments_order_and_a_low_stocks_product_are_told() -> None:
    paid = told_with({"order": ORDER, "customer": PERSON}, "payment.completed", orderId="ord_1", amount=100)
    assert paid.summary == "Payment received: 100.00 EUR for order 1042 by card"
    assert facts(paid) == {
        "Amount": "100.00 EUR", "Order": "1042", "Customer": "Dana Levi", "E-mail": "dana@x.test",
        "Order total": "1,179.70 EUR", "Items": "2 × Kettle; 1 × Cup", "Method": "card",
    }  # fmt: skip
    low = told_with({"product": KETTLE}, "inventory.low", productId="prd_1", stock=3)
    assert low.summary == "Low stock: Kettle, 3 left"
    assert facts(low) == {
        "Product": "Kettle", "SKU": "KET-1", "Price": "59.90 EUR", "In stock": "3", "Product id": "prd_1",
    }  # fmt: skip
    registered = told_with({"customer": PERSON}, "customer.registered", customerId="cus_1")
    assert registered.summary == "New customer: Dana Levi (dana@x.test)"


HOSTILE: dict[str, Any] = {
    "lines": "a\r\nBcc: x@x.test\x00", "turns": "x\u202ey", "long": "x" * 100_000, "nested": {"a": [1]},
    "list": ["a"] * 50, "number": Decimal("1E+999"), "flag": True, "null": None, "rtl": "שלום",
}  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_what_the_store_says_is_cleaned_as_what_an_event_says(value: Any) -> None:
    line = {"name": value, "quantity": value, "price": value}
    order = dict.fromkeys(ORDER, value) | {"items": [line] * 500}
    fetched = {"order": order, "customer": dict.fromkeys(PERSON, value), "product": dict.fromkeys(KETTLE, value)}
    for kind, ids in (("order.placed", "orderId"), ("payment.completed", "orderId"), ("inventory.low", "productId")):
        message = told_with(fetched, kind, **{ids: "x_1"})
        texts = [message.title, message.summary, *(text for one in message.facts for text in (one.label, one.value))]
        for text in texts:
            assert text == clean_line(text, 4000)
        assert all(len(one.value) <= 1700 for one in message.facts)
        assert len(message.summary) < 2000


ALERT = {
    "route": "big-orders", "store": "main", "reason": "HTTP 410: gone", "count": 14, "since": "2026-11-23T14:05:00Z",
    "entities": ["order:ord_1", "order:ord_2"], "more": 12, "url": "https://hub.example/deliveries?status=dead",
    "remedy": "Mend the cause.", "text": "14 deliveries on route big-orders died since 14:05 UTC: HTTP 410: gone.",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("hub.delivery.dead", "litekart-hub: deliveries are dead on big-orders"),
        ("hub.route.held", "litekart-hub: a route is held: big-orders"),
        ("hub.refused", "litekart-hub: requests were refused"),
        ("hub.disk.low", "litekart-hub: the disk is nearly full"),
        ("hub.behind", "litekart-hub: deliveries wait too long on big-orders"),
        ("hub.catch_up.failing", "litekart-hub: a store cannot be polled: main"),
        ("hub.reorder.held", "litekart-hub: an order waits for approval on big-orders"),
        ("hub.reorder.expired", "litekart-hub: reorders were closed for their age on big-orders"),
        ("hub.webhooks.wrong", "litekart-hub: webhooks do not come here from main"),
    ],
)
def test_the_hubs_own_events_are_told_in_their_own_words(kind: str, title: str) -> None:
    message = told(kind, **ALERT)
    assert (message.title, message.summary) == (title, ALERT["text"])
    assert {fact.label: fact.value for fact in message.facts} == {
        "Route": "big-orders", "Store": "main", "Reason": "HTTP 410: gone", "Count": "14",
        "Since": "2026-11-23T14:05:00Z", "About": "order:ord_1, order:ord_2 and 12 more",
        "What to do": "Mend the cause.", "Link": "https://hub.example/deliveries?status=dead",
    }  # fmt: skip


def test_every_alert_has_its_title() -> None:
    assert ALERT_TITLES.keys() == KINDS.keys()


def test_what_an_alert_does_not_have_is_left_out() -> None:
    message = told("hub.disk.low", text="The disk is nearly full.", route=None, entities=[], more=0, url=None, count=1)
    assert [fact.label for fact in message.facts] == ["Count"]
    assert told("hub.behind", route=None).title == "litekart-hub: deliveries wait too long"
