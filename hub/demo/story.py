"""What happens in the demo's shop: a first scene with all eight types of event, then whatever comes.

Each step says which counterparts must hear of it. That is written here by hand and not worked out from the
config, so that a hub that routes wrongly is found out.
"""

import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hub.testing.samples import EVENT_TYPES, sample

MAIL, SLACK, ENDPOINT = "Mail", "Slack", "Endpoint"
PLACES = (MAIL, SLACK, ENDPOINT)

ZOE = {"firstName": "Zoë", "lastName": "Ångström", "email": "zoe@example.test"}
LEI = {"firstName": "李", "lastName": "雷", "email": "li.lei@example.test"}


@dataclass(frozen=True)
class Step:
    """One webhook to send (`{event, data, timestamp}`), and where its messages must arrive."""

    document: dict[str, Any]
    reaches: frozenset[str]

    @property
    def type(self) -> str:
        return str(self.document["event"])


def first_scene() -> list[Step]:
    """Zoë registers, places a large order, pays; the kettle runs low and comes back; a small order is cancelled."""
    zoe, lei = fresh("cus"), fresh("cus")
    large = {"orderId": fresh("ord"), "orderNo": 1042, "customerId": zoe, "customer": ZOE} | order_of("KET-1", 3, 59.9)
    small = {"orderId": fresh("ord"), "orderNo": 1043, "customerId": lei, "customer": LEI} | order_of(
        "CAF-250", 1, 12.5
    )
    paid = {"paymentId": fresh("pay"), "orderId": large["orderId"], "orderNo": 1042, "amount": large["total"]}
    kettle = {"productId": fresh("prd"), "name": GOODS["KET-1"], "sku": "KET-1"}
    scarf = {"productId": fresh("prd"), "name": "Wool scarf “Skåne”", "sku": "SCA-3", "price": 34.0, "stock": 40}
    return [
        step("customer.registered", MAIL, customerId=zoe, **ZOE),
        step("order.placed", MAIL, SLACK, **large),
        step("payment.completed", **paid),
        step("order.updated", MAIL, **large),
        step("inventory.low", SLACK, **kettle),
        step("product.updated", **kettle, price=59.9, stock=53),
        step("product.created", **scarf),
        step("order.placed", MAIL, **small),
        step("order.cancelled", MAIL, **small, reason="Ordered twice – désolé"),
    ]


GOODS = {"KET-1": "Copper kettle", "CAF-250": "Café crème, 250 g"}


def order_of(sku: str, quantity: int, price: float) -> dict[str, Any]:
    line = {"name": GOODS[sku], "sku": sku, "quantity": quantity, "price": price}
    return {"total": round(quantity * price, 2), "items": [line]}


def step(type: str, *reaches: str, **data: Any) -> Step:
    """A step that the endpoint, which takes everything, hears of too."""
    return Step(sample(type, **data), frozenset({ENDPOINT, *reaches}))


def later() -> Iterator[dict[str, Any]]:
    """Documents without end: of any type, each about something new."""
    while True:
        document = sample(random.choice(EVENT_TYPES))  # noqa: S311 - what it shows is no secret
        ids = {name: fresh(value.partition("_")[0]) for name, value in document["data"].items() if name.endswith("Id")}
        yield document | {"data": document["data"] | ids}


def fresh(prefix: str) -> str:
    """An id short enough to be read aloud: the demo's database lives for minutes."""
    return f"{prefix}_{secrets.token_hex(4)}"
