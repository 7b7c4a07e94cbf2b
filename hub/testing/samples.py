"""Realistic events of all eight types, and a store that signs and posts them as Litekart does.

Only the data of `order.placed` is documented (`orderId`, `customerId`, `total`); the other fields are those of
the vendor's live API. Ids are fresh at every call, names hold more than ASCII on purpose.
"""

import hashlib
import hmac
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

import httpx

from hub.clock import new_id
from hub.connector import Event
from hub.event import EVENT_TYPES, entity_of

__all__ = ["EVENT_TYPES", "SIGNATURE_HEADER", "Posted", "StoreDouble", "event_of", "sample", "sign"]

SIGNATURE_HEADER = "X-Litekart-Signature"

PEOPLE = (
    ("Asha", "Rao", "asha.rao@example.test"),
    ("Zoë", "Ångström", "zoe@example.test"),
    ("李", "雷", "li.lei@example.test"),
    ("Sinéad", "O'Connor-Müller", "sinead@example.test"),
)
GOODS = (
    ("Copper kettle", "KET-1", Decimal("59.90")),
    ("Café crème, 250 g", "CAF-250", Decimal("12.50")),
    ("आम का अचार", "ACH-07", Decimal("4.99")),
    ("Wool scarf “Skåne”", "SCA-3", Decimal("34.00")),
)
_count = itertools.count(1001)


def sample(type: str, *, timestamp: str | None = None, **overrides: Any) -> dict[str, Any]:
    """`{event, data, timestamp}` of that type; one not in EVENT_TYPES has an id alone. `overrides` go into data."""
    number = next(_count)
    make = MAKERS.get(type, _unknown)
    moment = timestamp or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"event": type, "data": make(number) | overrides, "timestamp": moment}


def to_bytes(document: dict[str, Any]) -> bytes:
    """The JSON as a store's JavaScript writes it: no spaces, text unescaped, decimals as plain numbers."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=float).encode()


def sign(body: bytes, secret: str) -> str:
    """What the store puts into `X-Litekart-Signature`: HMAC-SHA256 of the body, 64 lower-case hex digits."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def event_of(document: dict[str, Any], store: str = "main") -> Event:
    """The Event that a connector gets for what `sample` made."""
    now = datetime.now(UTC)
    return Event(
        id=new_id("evt"),
        store=store,
        type=document["event"],
        entity=entity_of(document["event"], document["data"]),
        occurred_at=datetime.fromisoformat(document["timestamp"]),
        received_at=now,
        body=to_bytes(document),
    )


def _order(number: int) -> dict[str, Any]:
    first, last, email = PEOPLE[number % len(PEOPLE)]
    name, sku, price = GOODS[number % len(GOODS)]
    quantity = number % 3 + 1
    return {
        "orderId": new_id("ord"),
        "orderNo": number,
        "customerId": new_id("cus"),
        "total": price * quantity,
        "currency": "EUR",
        "customer": {"firstName": first, "lastName": last, "email": email},
        "items": [{"name": name, "sku": sku, "quantity": quantity, "price": price}],
    }


def _product(number: int) -> dict[str, Any]:
    name, sku, price = GOODS[number % len(GOODS)]
    return {
        "productId": new_id("prd"),
        "name": name,
        "sku": sku,
        "price": price,
        "currency": "EUR",
        "stock": 40 + number % 20,
        "status": "published",
    }


def _customer(number: int) -> dict[str, Any]:
    first, last, email = PEOPLE[number % len(PEOPLE)]
    return {"customerId": new_id("cus"), "firstName": first, "lastName": last, "email": email}


def _payment(number: int) -> dict[str, Any]:
    _, _, price = GOODS[number % len(GOODS)]
    return {
        "paymentId": new_id("pay"),
        "orderId": new_id("ord"),
        "orderNo": number,
        "amount": price * 2,
        "currency": "EUR",
        "method": "card",
    }


def _low_stock(number: int) -> dict[str, Any]:
    name, sku, _ = GOODS[number % len(GOODS)]
    return {"productId": new_id("prd"), "name": name, "sku": sku, "stock": 3, "threshold": 5}


def _unknown(number: int) -> dict[str, Any]:
    return {"id": new_id("obj"), "number": number}


MAKERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "order.placed": _order,
    "order.updated": lambda number: _order(number) | {"status": "shipped"},
    "order.cancelled": lambda number: _order(number) | {"status": "cancelled", "reason": "Ordered twice – désolé"},
    "product.created": _product,
    "product.updated": _product,
    "customer.registered": _customer,
    "payment.completed": _payment,
    "inventory.low": _low_stock,
}


@dataclass(frozen=True)
class Posted:
    """One webhook as it went out, and the answer."""

    body: bytes
    response: httpx.Response


class StoreDouble:
    """A Litekart store: signs events with `secret` and posts them to `url` (`…/webhooks/main`).

    Use it as `async with StoreDouble(url, secret) as store`. Every post is kept in `posted`.
    """

    def __init__(self, url: str, secret: str, *, timeout: float = 30.0) -> None:
        self.url = url
        self.secret = secret
        self.posted: list[Posted] = []
        self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def send(self, type: str, *, timestamp: str | None = None, **overrides: Any) -> httpx.Response:
        """Posts a fresh, rightly signed event of that type."""
        return await self.post(to_bytes(sample(type, timestamp=timestamp, **overrides)))

    async def post(
        self, body: bytes, *, signature: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Posts these bytes, with their own signature or the given one (empty: without the header)."""
        signed = sign(body, self.secret) if signature is None else signature
        fields: list[tuple[str | bytes, str | bytes]] = [("Content-Type", "application/json")]
        fields += [(SIGNATURE_HEADER, signed)] if signed else []
        fields += list((headers or {}).items())
        raw = [(_as_bytes(name), _as_bytes(value)) for name, value in fields]
        response = await self._client.post(self.url, content=body, headers=raw)
        self.posted.append(Posted(body, response))
        return response

    async def resend(self) -> httpx.Response:
        """Posts the last body once more, byte for byte, as a store that saw no answer does."""
        return await self.post(self.posted[-1].body)

    async def send_wrongly_signed(self, type: str, **overrides: Any) -> httpx.Response:
        """Posts a fresh event that was signed with another secret."""
        body = to_bytes(sample(type, **overrides))
        return await self.post(body, signature=sign(body, self.secret + "-not"))


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
