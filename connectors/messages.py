"""What a person is told about each event: the default wording that Slack and mail share.

The store documents the data of `order.placed` alone, so a field is looked for under several names, and a part
of a sentence whose value is missing is left out. What the route's `with` fetched fills in what the event itself
leaves out. Every value has been cleaned: one line, no controls, a bounded length, nothing that turns the direction
of writing. In a sentence a value with right-to-left text is isolated (Unicode UAX #9), so that it leaves the words
around it in their order.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from hub.connector import Event, amount_text

VALUE_LENGTH = 300
UNKNOWN_TYPE_FACTS = 10
MOST_ITEMS = 20
ITEMS_LENGTH = 1500
LINE_ENDERS = {"Cc", "Zl", "Zp"}
FIRST_STRONG_ISOLATE, POP_ISOLATE = "\u2068", "\u2069"
TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
RIGHT_TO_LEFT = {"R", "AL"}


@dataclass(frozen=True)
class Fact:
    """One line of detail: `Customer`, `Asha Rao`."""

    label: str
    value: str


@dataclass(frozen=True)
class Message:
    """An event in words. `title` is short, `summary` one full line, `facts` the details in order.

    `link` is where the store's admin shows it, or empty.
    """

    title: str
    summary: str
    facts: tuple[Fact, ...]
    id: str
    type: str
    store: str
    time: str
    link: str = ""

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
        ("amount", "order", "customer", "email", "order_total", "items", "method", "payment_id"),
    ),
    "inventory.low": Wording(
        ("Low stock",),
        (": {product}", ", {stock} left", " (reorder at {threshold})"),
        ("product", "sku", "price", "stock", "threshold", "product_id"),
    ),
}

# The hub's own events say in `text` what there is to say; these are the lines above it.
ALERT_TITLES = {
    "hub.delivery.dead": ("litekart-hub: deliveries are dead", " on {route}"),
    "hub.route.held": ("litekart-hub: a route is held", ": {route}"),
    "hub.refused": ("litekart-hub: requests were refused",),
    "hub.disk.low": ("litekart-hub: the disk is nearly full",),
    "hub.behind": ("litekart-hub: deliveries wait too long", " on {route}"),
    "hub.catch_up.failing": ("litekart-hub: a store cannot be polled", ": {store}"),
    "hub.reorder.held": ("litekart-hub: an order waits for approval", " on {route}"),
    "hub.reorder.expired": ("litekart-hub: reorders were closed for their age", " on {route}"),
    "hub.webhooks.wrong": ("litekart-hub: webhooks do not come here", " from {store}"),
}
ALERT_LENGTH = 2_000

LABELS = {
    "order": "Order", "customer": "Customer", "email": "E-mail", "phone": "Phone", "total": "Total",
    "amount": "Amount", "method": "Method", "status": "Status", "items": "Items", "reason": "Reason",
    "product": "Product", "sku": "SKU", "price": "Price", "stock": "In stock", "threshold": "Reorder at",
    "order_total": "Order total", "product_id": "Product id", "customer_id": "Customer id", "payment_id": "Payment id",
}  # fmt: skip


# What of the store an event is about, where that is not the noun of its type.
ABOUT = {"payment": "order", "inventory": "product"}
Data = Mapping[str, Any]
Fetched = Mapping[str, Data]


def message_of(event: Event, fetched: Fetched = MappingProxyType({}), link: str | None = None) -> Message:
    """The event in words; an unknown type is told by the plain fields of its data.

    `fetched` and `link` are the context's `fetched` and `admin_url`.
    """
    data = event.data
    wording = WORDINGS.get(event.type)
    if event.type in ALERT_TITLES:
        title, summary, facts = _alert(event.type, data)
    elif wording is None:
        title = summary = clean(f"Event {event.type}")
        facts = tuple(_plain_facts(data))[:UNKNOWN_TYPE_FACTS]
    else:
        noun = event.type.partition(".")[0]
        known = _known_values(data, fetched, ABOUT.get(noun, noun))
        title = _joined(wording.title, known)
        summary = title + _joined(wording.rest, known)
        facts = tuple(Fact(LABELS[name], known[name]) for name in wording.facts if name in known)
    time = event.occurred_at.strftime("%Y-%m-%d %H:%M UTC")
    return Message(title, summary, facts, event.id, clean(event.type), event.store, time, link or "")


def _alert(kind: str, data: Data) -> tuple[str, str, tuple[Fact, ...]]:
    """Title, summary and facts of one of the hub's own events."""
    route, store = _first([data], "route"), _first([data], "store")
    title = _joined(ALERT_TITLES[kind], {name: value for name, value in (("route", route), ("store", store)) if value})
    summary = clean(data.get("text") or title, ALERT_LENGTH)
    about = data.get("entities")
    orders = ", ".join(clean(entity) for entity in about) if isinstance(about, list) else ""
    more = _first([data], "more")
    found = (
        ("Route", route),
        ("Store", store),
        ("Reason", _first([data], "reason")),
        ("Count", _first([data], "count")),
        ("Since", _first([data], "since")),
        ("About", f"{orders} and {more} more" if orders and more != "0" else orders),
        ("What to do", _first([data], "remedy")),
        ("Link", clean(data.get("url") or "", ALERT_LENGTH)),
    )
    return title, summary, tuple(Fact(label, value) for label, value in found if value)


def clean(value: object, length: int = VALUE_LENGTH) -> str:
    """`value` on one line of at most `length` characters, controls and line separators as spaces, turns left out."""
    return _one_line(str(value)[: length * 4], length, TURNS)


def clean_line(text: str, length: int = VALUE_LENGTH) -> str:
    """The same for a whole line, which may hold isolated values: they stay, unless one is left open."""
    line = _one_line(text[: length * 4], length, TURNS - {FIRST_STRONG_ISOLATE, POP_ISOLATE})
    closed = line.count(FIRST_STRONG_ISOLATE) == line.count(POP_ISOLATE)
    return line if closed else clean(line, length)


def isolated(value: str) -> str:
    """A cleaned value as it stands in a sentence: right-to-left text must not carry the words after it along."""
    if any(unicodedata.bidirectional(character) in RIGHT_TO_LEFT for character in value):
        return f"{FIRST_STRONG_ISOLATE}{value}{POP_ISOLATE}"
    return value


def cut(text: str, length: int) -> str:
    """At most `length` characters, the last of them an ellipsis where something was left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _one_line(text: str, length: int, dropped: frozenset[str]) -> str:
    harmless = "".join(_harmless(character) for character in text if character not in dropped)
    return cut(" ".join(harmless.split()), length)


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
            yield before + isolated(known[name]) + after


def _known_values(data: Data, fetched: Fetched, about: str) -> dict[str, str]:
    """The values that can be told, cleaned, by the names of LABELS; what is missing or empty is left out.

    The event's own words go first, for they say what was so when it happened; then those of the store.
    """
    stored, person = fetched.get(about, {}), fetched.get("customer", {})
    both, own = (data, stored), (data,)
    contact = (data, _part(data, "customer"), person, stored, _part(stored, "customer"))
    found = {
        "order": _first(both, "orderNo", "orderNumber", "order_no", "orderId", "id"),
        "customer": _customer(data, person, stored),
        "email": _first(contact, "email", "customerEmail", "userEmail"),
        "phone": _first(contact, "phone", "userPhone"),
        "total": _money(both, "total"),
        "order_total": _money((fetched.get("order", {}),), "total") if about == "order" else "",
        "amount": _money(own, "amount", "total", currency_of=both),
        "price": _money(both, "price"),
        "method": _first(both, "method", "paymentMethod", "gateway", "payment_method"),
        "status": _first(both, "status"),
        "items": _items(data) or _items(stored),
        "reason": _first(own, "reason", "cancelReason", "comment"),
        "product": _first(both, "name", "title", "productName", "sku", "productId", "id"),
        "sku": _first(both, "sku"),
        "stock": _first(both, "stock", "quantity", "available"),
        "threshold": _first(both, "threshold", "lowStockThreshold", "reorderPoint"),
        "product_id": _first(own, "productId", "id"),
        "customer_id": _first(own, "customerId", "userId", "id"),
        "payment_id": _first(own, "paymentId", "transactionId", "id"),
    }
    return {name: value for name, value in found.items() if value}


def _part(data: Data, name: str) -> Data:
    part = data.get(name)
    return part if isinstance(part, Mapping) else {}


def _first(sources: Sequence[Data], *names: str) -> str:
    """The first of these names that any of the sources has something for, in one line."""
    for name in names:
        for source in sources:
            value = source.get(name)
            if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
                text = clean(value)
                if text:
                    return text
    return ""


def _customer(data: Data, person: Data, order: Data) -> str:
    """The customer's name: as text, as an object, or flat in the order as the live API has it (`userFirstName`).

    Where the event names none, that of the fetched customer or order; an id where there is no name at all.
    """
    return (
        _first([data], "customer")
        or _name_of(_part(data, "customer") or data)
        or _full_name(data, "userFirstName", "userLastName")
        or _first([data], "customerName")
        or _name_of(person)
        or _name_of(_part(order, "customer"))
        or _full_name(order, "first_name", "last_name")
        or _first([data], "customerId", "userId")
    )


def _name_of(person: Data) -> str:
    return (
        _first([person], "customerName", "name")
        or _full_name(person, "firstName", "lastName")
        or _full_name(person, "first_name", "last_name")
    )


def _full_name(person: Data, first: str, last: str) -> str:
    return f"{_first([person], first)} {_first([person], last)}".strip()


def _money(sources: Sequence[Data], *names: str, currency_of: Sequence[Data] = ()) -> str:
    """The first amount of these names, with its currency."""
    found = (source[name] for name in names for source in sources if source.get(name) is not None)
    value = next(found, None)
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
        return ""
    currency = _first(currency_of or sources, "currency", "currencyCode").upper()
    try:
        text = amount_text(Decimal(value), currency)
    except (InvalidOperation, ValueError):
        text = clean(value)
    return f"{text} {currency}".strip()


def _items(data: Data) -> str:
    """`2 × Kettle; 1 × Cup; … and 3 more`: as many as there is room for, the others counted."""
    lists = (data.get(name) for name in ("items", "lineItems", "line_items"))
    found = next((each for each in lists if each and isinstance(each, list)), [])
    goods = [line for line in found if isinstance(line, Mapping)]
    told, room = list[str](), ITEMS_LENGTH
    for item in map(_item, goods[:MOST_ITEMS]):
        room -= len(item) + len("; ")
        if room < 0:
            break
        told.append(item)
    rest = len(goods) - len(told)
    return "; ".join([*told, f"… and {rest} more"] if rest else told)


def _item(line: Data) -> str:
    name = _first([line], "name", "title", "sku", "productId", "product_id", "id") or "?"
    return f"{cut(_first([line], 'quantity', 'qty') or '1', 20)} × {isolated(name)}"


def _plain_facts(data: Data) -> Iterator[Fact]:
    for name, value in data.items():
        text = _first([data], name) if not isinstance(value, bool) else ("yes" if value else "no")
        if text:
            yield Fact(clean(name, 60), text)
