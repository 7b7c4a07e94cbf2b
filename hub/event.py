"""What an event is, from headers and bytes: signature, parsing, entity, keys. Pure: no I/O, no clock.

The wire format and the eight event types are the vendor's (API overview, "Webhooks"); field names beyond
`orderId`, `customerId` and `total` are those of its live API and its older spellings.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypeGuard

import orjson

from hub.clock import to_micros
from hub.errors import FieldProblem, NotAnEvent

EVENT_TYPES = (
    "order.placed",
    "order.updated",
    "order.cancelled",
    "product.created",
    "product.updated",
    "customer.registered",
    "payment.completed",
    "inventory.low",
)
ONCE_BY_NATURE = {"order.placed", "product.created", "customer.registered"}
STATE_EVENTS = {"order.updated", "product.updated", "inventory.low"}

LARGEST_BODY = 1024 * 1024
LONGEST_NAME = 200
LONGEST_ID = 256
DEEPEST = 100
# A body is read to objects of Python: 1 MiB of the smallest would be 60 MB of them. Counted in its bytes, so that to
# refuse one costs nothing; no body of 20,000 bytes has too many.
MOST_CONTAINERS = 20_000
MOST_VALUES = 80_000
SIGNATURE = re.compile(rb"[0-9a-f]{64}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

HALF_CHARACTER = re.compile("[\ud800-\udfff]")
# What one of the two databases takes in no text, beside controls.
NO_TEXT = re.compile("[\ud800-\udfff\ufffe\uffff]")

# Whose id an event's entity is, where that is not the noun of its type.
ENTITY_FIELDS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "payment": (("order", ("orderId", "order_id")), ("payment", ("paymentId", "payment_id", "id"))),
    "customer": (("customer", ("customerId", "customer_id", "userId", "user_id", "id")),),
    "inventory": (("inventory", ("variantId", "variant_id", "sku", "productId", "product_id", "id")),),
}
# What a person searches for: each kind and the fields it stands in.
SEARCH_FIELDS: dict[str, tuple[str, ...]] = {
    "order": ("orderId", "order_id"),
    "number": ("orderNo", "order_no", "orderNumber", "order_number"),
    "customer": ("customerId", "customer_id", "userId", "user_id"),
    "email": ("email", "userEmail", "customerEmail"),
    "sku": ("sku",),
    "payment": ("paymentId", "payment_id", "transactionId"),
}
# Whose ids lead to the objects that a route can fetch, and the fields they stand in.
OBJECT_FIELDS: dict[str, tuple[str, ...]] = {
    "order": ("orderId", "order_id"),
    "customer": ("customerId", "customer_id", "userId", "user_id"),
    "product": ("productId", "product_id"),
}
LINES = ("lineItems", "line_items", "items")
MOST_LINES = 100


@dataclass(frozen=True)
class SigningKey:
    """One active webhook secret and the fingerprint it is known by (8 hex digits of its SHA-256)."""

    secret: bytes
    fingerprint: str

    @classmethod
    def of(cls, secret: str) -> "SigningKey":
        raw = secret.encode()
        return cls(raw, hashlib.sha256(raw).hexdigest()[:8])

    @cached_property
    def _keyed(self) -> hmac.HMAC:
        return hmac.new(self.secret, digestmod="sha256")

    def signature(self, body: bytes) -> bytes:
        """The signature of these bytes."""
        # hmac.digest gives the GIL away each time, and under load it takes milliseconds to come back.
        digest = self._keyed.copy()
        digest.update(body)
        return digest.hexdigest().encode()


class Parsed(NamedTuple):
    """What the hub reads from a body. `occurred_at` in microseconds; `document` is the whole JSON.

    A tuple, as are the other values of every webhook: a frozen dataclass takes three times as long to make.
    """

    type: str
    entity: str | None
    occurred_at: int
    document: dict[str, Any]


def verify(body: bytes, signature: bytes, keys: Sequence[SigningKey]) -> str | None:
    """The fingerprint of the key that signed these very bytes, or None.

    `signature` is 64 lower-case hex digits of HMAC-SHA256. Every key is tried, each in constant time.
    """
    if SIGNATURE.fullmatch(signature) is None:
        return None
    matched = None
    for key in keys:
        if hmac.compare_digest(key.signature(body), signature):
            matched = key.fingerprint
    return matched


def parse(body: bytes) -> Parsed:
    """The event in a signed body. Raises NotAnEvent: 400 for what is not JSON, 422 for JSON that is no event.

    422 also for what has more than `MOST_CONTAINERS` or `MOST_VALUES`, before it is read.
    """
    containers = body.count(b"[") + body.count(b"{")
    if containers > MOST_CONTAINERS or (len(body) > MOST_VALUES and body.count(b",") > MOST_VALUES):
        most = f"{MOST_CONTAINERS:,} arrays and objects or {MOST_VALUES:,} values"
        raise NotAnEvent(f"the body has more than {most}, by its brackets and commas", status=422)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotAnEvent(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(document, dict):
        raise _unfit(FieldProblem("", "must be a JSON object with event, data and timestamp"))
    kind, data, occurred_at = document.get("event"), document.get("data"), _moment(document.get("timestamp"))
    if not ((kind in EVENT_TYPES or _is_name(kind)) and isinstance(data, dict) and occurred_at is not None):
        raise _unfit(*_problems(document))
    if containers > DEEPEST and depth_of(document) > DEEPEST:
        raise _unfit(FieldProblem("data", f"is nested more than {DEEPEST} deep"))
    found = _entity_field(kind, data)
    if found is None:
        return Parsed(kind, None, to_micros(occurred_at), document)
    name, field, value = found
    if len(value) > LONGEST_ID or CONTROL.search(value):
        raise _unfit(FieldProblem(f"data.{field}", f"must be at most {LONGEST_ID} characters, none of them a control"))
    return Parsed(kind, f"{name}:{value}", to_micros(occurred_at), document)


def _is_name(kind: Any) -> TypeGuard[str]:
    return (
        isinstance(kind, str)
        and 0 < len(kind) <= LONGEST_NAME
        and not CONTROL.search(kind)
        and not kind.startswith("hub.")
    )


def _unfit(*problems: FieldProblem) -> NotAnEvent:
    return NotAnEvent("the JSON is not an event", *problems, status=422)


def _problems(document: dict[str, Any]) -> Iterator[FieldProblem]:
    kind = document.get("event")
    if isinstance(kind, str) and kind.startswith("hub."):
        yield FieldProblem("event", "names that start with hub. are the hub's own")
    elif not _is_name(kind):
        rule = f"at most {LONGEST_NAME} characters, none of them a control"
        yield FieldProblem("event", f"must be the event's name, such as order.placed: {rule}")
    if not isinstance(document.get("data"), dict):
        yield FieldProblem("data", "must be an object")
    if _moment(document.get("timestamp")) is None:
        yield FieldProblem("timestamp", "must be a time such as 2024-01-15T10:30:00Z")


def _moment(value: Any) -> datetime | None:
    # A NUL is no part of a time, whatever Python's reader makes of it.
    if not (isinstance(value, str) and len(value) <= 64 and value.isprintable()):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def depth_of(document: dict[str, Any] | list[Any]) -> int:
    """How deep it is nested. Level by level: the depth is a stranger's, and Python's stack is not for that."""
    level: list[Any] = [document]
    depth = 0
    while level:
        depth += 1
        members = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in level)
        level = [member for member in members if isinstance(member, (dict, list))]
    return depth


def entity_of(kind: str, data: dict[str, Any]) -> str | None:
    """What the event is about, `order:ord_123456`; None where the data names nothing."""
    found = _entity_field(kind, data)
    return f"{found[0]}:{found[2]}" if found else None


def _entity_field(kind: str, data: dict[str, Any]) -> tuple[str, str, str] | None:
    noun = kind.partition(".")[0]
    places = ENTITY_FIELDS.get(noun) or ((noun, (f"{noun}Id", f"{noun}_id", "id")),)
    for name, fields in places:
        for field in fields:
            value = id_text(data.get(field))
            if value:
                return name, field, value
        nested = data.get(name)
        if isinstance(nested, dict) and (value := id_text(nested.get("id"))):
            return name, f"{name}.id", value
    return None


def id_text(value: Any) -> str:
    """An id as text: strings and whole numbers; anything else is no id."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def object_ids(entity: str | None, data: dict[str, Any]) -> dict[str, str]:
    """The ids of the order, customer and product that an event names, by these words; those it does not are not there.

    `entity` is the event's, and counts also where its body was dropped. An id that is none the hub would take
    (too long, with controls) is left out.
    """
    found = {name: _object_id(name, entity, data) for name in OBJECT_FIELDS}
    return {name: value for name, value in found.items() if value and len(value) <= LONGEST_ID and is_clean(value)}


def _object_id(name: str, entity: str | None, data: dict[str, Any]) -> str:
    noun, _, about = (entity or "").partition(":")
    if noun == name:
        return about
    nested = data.get(name)
    inside = id_text(nested.get("id")) if isinstance(nested, dict) else ""
    return next((value for field in OBJECT_FIELDS[name] if (value := id_text(data.get(field)))), inside)


def content_hash(parsed: Parsed) -> bytes:
    """16 bytes over the body without its timestamp, spacing and key order: equal for a re-stamped repeat."""
    content = {name: value for name, value in parsed.document.items() if name != "timestamp"}
    return hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def dedupe_key(parsed: Parsed, body: bytes, id_field: str | None = None) -> bytes:
    """The strictest key the event allows, unique within its store for ever (design: "Duplicates").

    The body's own id where the store's config names that field; type and entity for what happens once by nature;
    else the signed time and a hash of the bytes, time first so that the index only grows at its end.
    """
    if id_field and (value := id_text(parsed.document.get(id_field)))[:LONGEST_ID]:
        return b"i" + hashlib.sha256(value.encode()).digest()
    if parsed.type in ONCE_BY_NATURE and parsed.entity:
        return b"o" + f"{parsed.type} {parsed.entity}".encode()
    moment = (parsed.occurred_at + 2**62).to_bytes(8, "big")
    return b"t" + moment + hashlib.sha256(body).digest()[:24]


def change_key(parsed: Parsed) -> bytes:
    """The key of a change that polling found: of what, when it was made, and, since two may share a second, to what.

    No webhook has such a one.
    """
    moment = (parsed.occurred_at + 2**62).to_bytes(8, "big")
    about = f"{parsed.type} {parsed.entity} ".encode() + content_hash(parsed)
    return b"u" + moment + hashlib.sha256(about).digest()[:24]


def search_keys(kind: str, entity: str | None, data: dict[str, Any]) -> set[tuple[str, str]]:
    """(kind, value) pairs a person may search an event by. Values over 256 characters or with controls are not."""
    found = set(_searched(data))
    for lines in LINES:
        items = data.get(lines)
        for item in items[:MOST_LINES] if isinstance(items, list) else ():
            if isinstance(item, dict):
                found.add(("sku", id_text(item.get("sku"))))
    customer = data.get("customer")
    if isinstance(customer, dict):
        found.add(("email", id_text(customer.get("email")).lower()))
    if entity:
        found.add((entity.partition(":")[0], entity.partition(":")[2]))
    return {(name, value) for name, value in found if value and len(value) <= LONGEST_ID and is_clean(value)}


def _searched(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, fields in SEARCH_FIELDS.items():
        for field in fields:
            value = id_text(data.get(field))
            yield kind, value.lower() if kind == "email" else value


def is_id(text: str) -> bool:
    """Whether an event can be about it, and a query can hold it."""
    return 0 < len(text) <= LONGEST_ID and CONTROL.search(text) is None and NO_TEXT.search(text) is None


def is_clean(text: str) -> bool:
    """No control characters, none that end a line, none that cannot be encoded."""
    return CONTROL.search(text) is None and text.isprintable()
