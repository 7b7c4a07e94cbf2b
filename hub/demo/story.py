"""What happens in the demo's shop: a first scene with all eight types of event, then whatever comes.

Each step says which counterparts must hear of it. That is written here by hand and not worked out from the
config, so that a hub that routes wrongly is found out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hub.demo.shop import DemoShop
from hub.errors import CommandError
from hub.testing.store.happenings import cancel, create_product, pay, place_order, register_customer, restock, update
from hub.testing.store.live import happen

MAIL, SLACK, ENDPOINT = "Mail", "Slack", "Endpoint"
PLACES = (MAIL, SLACK, ENDPOINT)

ZOE = {"first_name": "Zoë", "last_name": "Ångström", "email": "zoe@example.test"}
LEI = {"first_name": "李", "last_name": "雷", "email": "li.lei@example.test", "phone": None}
KETTLE = {"name": "Copper kettle", "sku": "KET-1", "price": Decimal("59.90"), "stock": 8}
COFFEE = {"name": "Café crème, 250 g", "sku": "CAF-250", "price": Decimal("12.50"), "stock": 40}
SCARF = {"name": "Wool scarf “Skåne”", "sku": "SCA-3", "price": 34.0, "stock": 40}


@dataclass(frozen=True)
class Step:
    """One webhook to send (`{event, data, timestamp}`), and where its messages must arrive."""

    document: dict[str, Any]
    reaches: frozenset[str]

    @property
    def type(self) -> str:
        return str(self.document["event"])


def first_scene(shop: DemoShop) -> Iterator[Step]:
    """Zoë registers, places a large order, by which the kettle runs low, and pays; the kettle comes back; a scarf is
    new; a small order is cancelled.

    Each thing happens when its step is asked for.
    """
    for goods in (KETTLE, COFFEE):
        shop.state.add_product(dict(goods))
    lei = shop.state.add("customers", dict(LEI))
    zoe = register_customer(shop, **ZOE)
    yield told(shop, "customer.registered", MAIL)
    large = place_order(shop, zoe["id"], [{"sku": KETTLE["sku"], "quantity": 3}])
    yield told(shop, "order.placed", MAIL, SLACK)
    yield told(shop, "inventory.low", SLACK)
    pay(shop, large["id"])
    yield told(shop, "payment.completed")
    update(shop, large["id"])
    yield told(shop, "order.updated", MAIL)
    restock(shop, str(KETTLE["sku"]), 53)
    yield told(shop, "product.updated")
    create_product(shop, **SCARF)
    yield told(shop, "product.created")
    small = place_order(shop, lei["id"], [{"sku": COFFEE["sku"]}])
    yield told(shop, "order.placed", MAIL)
    cancel(shop, small["id"], "Ordered twice – désolé")
    yield told(shop, "order.cancelled", MAIL)


def told(shop: DemoShop, type: str, *reaches: str) -> Step:
    """What the shop has just told, which must be of that type. The endpoint hears of it too: it takes everything."""
    document = shop.outbox.popleft() if shop.outbox else {"event": "nothing"}
    if document["event"] != type:
        raise CommandError(f"the store told of {document['event']}, and {type} was to come")
    return Step(document, frozenset({ENDPOINT, *reaches}))


def later(shop: DemoShop) -> Iterator[dict[str, Any]]:
    """Documents without end: of whatever happens in the shop next."""
    while True:
        happen(shop)
        while shop.outbox:
            yield shop.outbox.popleft()
