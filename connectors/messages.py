"""What a person is told about each event: the default wording that Slack and mail share.

The store documents the data of `order.placed` alone, so a field is looked for under several names, and a part
of a sentence whose value is missing is left out. Every value has been cleaned: one line, no controls, a bounded
length.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

from hub.connector import Event

VALUE_LENGTH = 300
UNKNOWN_TYPE_FACTS = 10
MOST_ITEMS = 20
DECIMALS = {"BHD": 3, "CLP": 0, "ISK": 0, "JPY": 0, "KRW": 0, "KWD": 3, "OMR": 3, "TND": 3, "UGX": 0, "VND": 0}
LINE_ENDERS = {"Cc", "Zl", "Zp"}


@dataclass(frozen=True)
class Fact:
    """One line of detail: `Customer`, `Asha Rao`."""

    label: str
    value: str


@dataclass(frozen=True)
class Message:
    """An event in words. `title` is short, `summary` one full line, `facts` the details in order."""

    title: str
    summary: str
    facts: tuple[Fact, ...]
    id: str
    type: str
    store: str
    time: str

    def names(self) -> dict[str, Any]:
        """The same as plain values, for templates."""
        return asdict(self)


@dataclass(frozen=True)
class Wording:
    """How one type reads. A part is left out when the value that it names is not in the event."""

    title: tuple[str, ...]
    rest: tuple[str, ...]
    facts: tuple[str, ...]


ORDER_FACTS = ("order", "customer", "email", "total", "status", "items", "reason")
PRODUCT_FACTS = ("product", "sku", "price", "stock", "status", "product_id")

WORDINGS = {
    "order.placed": Wording(("New order", " {order}"), (" from {customer}", ": {total}"), ORDER_FACTS),
    "order.updated": Wording(("Order", " {order}", " changed"), (": now {status}",), ORDER_FACTS),
    "order.cancelled": Wording(("Order", " {order}", " cancelled"), (": {reason}", " ({total})"), ORDER_FACTS),
    "product.created": Wording(("New product",), (": {product}", " at {price}"), PRODUCT_FACTS),
    "product.updated": Wording(("Product changed",), (": {product}", ", {stock} in stock"), PRODUCT_FACTS),
    "customer.registered": Wording(
        ("New customer",), (": {customer}", " ({email})"), ("customer", "email", "phone", "customer_id")
    ),
    "payment.completed": Wording(
        ("Payment received",),
        (": {amount}", " for order {order}", " by {method}"),
        ("amount", "order", "method", "payment_id"),
    ),
    "inventory.low": Wording(
        ("Low stock",),
        (": {product}", ", {stock} left", " (reorder at {threshold})"),
        ("product", "sku", "stock", "threshold", "product_id"),
    ),
}

LABELS = {
    "order": "Order", "customer": "Customer", "email": "E-mail", "phone": "Phone", "total": "Total",
    "amount": "Amount", "method": "Method", "status": "Status", "items": "Items", "reason": "Reason",
    "product": "Product", "sku": "SKU", "price": "Price", "stock": "In stock", "threshold": "Reorder at",
    "product_id": "Product id", "customer_id": "Customer id", "payment_id": "Payment id",
}  # fmt: skip


def message_of(event: Event) -> Message:
    """The event in words; an unknown type is told by the plain fields of its data."""
    data = event.data
    wording = WORDINGS.get(event.type)
    if wording is None:
        title = summary = clean(f"Event {event.type}")
        facts = tuple(_plain_facts(data))[:UNKNOWN_TYPE_FACTS]
    else:
        known = _known_values(data)
        title = _joined(wording.title, known)
        summary = title + _joined(wording.rest, known)
        facts = tuple(Fact(LABELS[name], known[name]) for name in wording.facts if name in known)
    time = event.occurred_at.strftime("%Y-%m-%d %H:%M UTC")
    return Message(title, summary, facts, event.id, clean(event.type), event.store, time)


def clean(value: object, length: int = VALUE_LENGTH) -> str:
    """`value` on one line of at most `length` characters, controls and line separators as spaces."""
    text = "".join(_harmless(character) for character in str(value)[: length * 4])
    return cut(" ".join(text.split()), length)


def cut(text: str, length: int) -> str:
    """At most `length` characters, the last of them an ellipsis where something was left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _harmless(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    return " " if category in LINE_ENDERS else character


def _joined(parts: tuple[str, ...], known: dict[str, str]) -> str:
    return "".join(_filled(parts, known))


def _filled(parts: tuple[str, ...], known: dict[str, str]) -> Iterator[str]:
    for part in parts:
        before, brace, name_and_rest = part.partition("{")
        name, _, after = name_and_rest.partition("}")
        if not brace:
            yield part
        elif name in known:
            yield before + known[name] + after


def _known_values(data: dict[str, Any]) -> dict[str, str]:
    """The values that can be told, cleaned, by the names of LABELS; what is missing or empty is left out."""
    found = {
        "order": _first(data, "orderNo", "orderNumber", "order_no", "orderId", "id"),
        "customer": _customer(data),
        "email": _first(data, "email", "customerEmail") or _first(_part(data, "customer"), "email"),
        "phone": _first(data, "phone") or _first(_part(data, "customer"), "phone"),
        "total": _money(data, "total"),
        "amount": _money(data, "amount", "total"),
        "price": _money(data, "price"),
        "method": _first(data, "method", "paymentMethod", "gateway"),
        "status": _first(data, "status"),
        "items": _items(data),
        "reason": _first(data, "reason", "cancelReason", "comment"),
        "product": _first(data, "name", "title", "productName", "sku", "productId", "id"),
        "sku": _first(data, "sku"),
        "stock": _first(data, "stock", "quantity", "available"),
        "threshold": _first(data, "threshold", "lowStockThreshold", "reorderPoint"),
        "product_id": _first(data, "productId", "id"),
        "customer_id": _first(data, "customerId", "userId", "id"),
        "payment_id": _first(data, "paymentId", "transactionId", "id"),
    }
    return {name: value for name, value in found.items() if value}


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    part = data.get(name)
    return part if isinstance(part, dict) else {}


def _first(data: dict[str, Any], *names: str) -> str:
    for name in names:
        value = data.get(name)
        if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
            text = clean(value)
            if text:
                return text
    return ""


def _customer(data: dict[str, Any]) -> str:
    person = _part(data, "customer") or data
    if name := _first(person, "customerName", "name"):
        return name
    both = f"{_first(person, 'firstName')} {_first(person, 'lastName')}".strip()
    return both or _first(data, "customerName", "customerId", "userId")


def _money(data: dict[str, Any], *names: str) -> str:
    value = next((data[name] for name in names if data.get(name) is not None), None)
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
        return ""
    currency = _first(data, "currency", "currencyCode").upper()
    try:
        step = Decimal(1).scaleb(-DECIMALS.get(currency, 2))
        text = f"{Decimal(value).quantize(step, ROUND_HALF_EVEN):,f}"
    except (InvalidOperation, ValueError):
        text = clean(value)
    return f"{text} {currency}".strip()


def _items(data: dict[str, Any]) -> str:
    lines = next((data[name] for name in ("items", "lineItems", "line_items") if name in data), None)
    if not isinstance(lines, list):
        return ""
    return clean("; ".join(_item(line) for line in lines[:MOST_ITEMS] if isinstance(line, dict)))


def _item(line: dict[str, Any]) -> str:
    name = _first(line, "name", "title", "sku", "productId", "id") or "?"
    return f"{_first(line, 'quantity', 'qty') or '1'} × {name}"


def _plain_facts(data: dict[str, Any]) -> Iterator[Fact]:
    for name, value in data.items():
        text = _first(data, name) if not isinstance(value, bool) else ("yes" if value else "no")
        if text:
            yield Fact(clean(name, 60), text)
