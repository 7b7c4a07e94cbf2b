"""Purchase orders in an ERP with a JSON REST API, over real HTTP: written once, and known again after a crash."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hub.connector import Receipt
from hub.errors import Skip, TryAgain
from hub.testing import Answer, HttpSink, Received
from tests.connectors.reorder.shop import KETTLE, attempted, delivered, low, open_shop, reordering

PURCHASE = {
    "look_up": {"path": "/purchases", "query": {"ref": "{{ purchase.number }}"}},
    "create": {
        "path": "/purchases",
        "body": {
            "ref": "{{ purchase.number }}",
            "vendor": "{{ purchase.vendor }}",
            "rows": {
                "each": "purchase.lines",
                "item": {
                    "sku": "{{ line.product.sku }}",
                    "quantity": "{{ line.quantity }}",
                    "price": "{{ line.price }}",
                },
            },
        },
    },
    "number": "/name",
    "url": "https://erp.example/purchases/{{ record.id }}",
}
OPEN = {"path": "/purchases", "query": {"sku": "{{ product.sku }}", "open": "yes"}, "number": "/name"}


@dataclass
class SmallErp(HttpSink):
    """Keeps purchase orders; `crashes`: the next one is kept, and the answer lost."""

    orders: list[dict[str, Any]] = field(default_factory=list)
    crashes: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    async def respond(self, request: Received) -> Answer:
        if request.method == "POST":
            number = len(self.orders) + 1
            self.orders.append(request.json() | {"id": number, "name": f"BUY-{number}", "open": True})
            if self.crashes:
                self.crashes = False
                return Answer(drop=True)
            return told(self.orders[-1], 201)
        asked = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        found = [one for one in self.orders if asked.get("ref") in (None, one["ref"])]
        if "sku" in asked:
            found = [one for one in found if one["open"] and asked["sku"] in [row["sku"] for row in one["rows"]]]
        return told(found)


def told(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"content-type": "application/json"})


async def test_an_order_is_in_the_erp_once_though_its_answer_was_lost() -> None:
    erp = SmallErp()
    async with open_shop(counterpart=erp) as (store, bench):
        kettle = await store.create_product(**KETTLE)
        connector = reordering(
            suppliers={"Acme": {"erp": "Acme GmbH"}}, supplier="Acme",
            rest={"url": bench.url, "purchase": PURCHASE, "open_purchase": OPEN},
        )  # fmt: skip
        assert isinstance(await delivered(connector, bench, low(kettle)), Receipt)
        (due,) = bench.reorders.due()
        erp.crashes = True
        assert isinstance(await delivered(connector, bench, due), TryAgain)
        sent = await attempted(connector, bench, due)
        assert isinstance(sent, Receipt)
        assert sent.url == "https://erp.example/purchases/1"
        (order,) = erp.orders
        assert sent.text == f"purchase order BUY-1 (a draft) for {order['ref']}: 56 of KET-1 from Acme, {order['ref']}"
        assert (order["vendor"], order["rows"]) == ("Acme GmbH", [{"sku": "KET-1", "quantity": 56, "price": 12.5}])
        again = await delivered(connector, bench, low(kettle))
        assert isinstance(again, Skip)
        bench.reorders.kept.clear()
        by_hand = await delivered(connector, bench, low(kettle))
        assert isinstance(by_hand, Skip)
        assert by_hand.reason == "KET-1: already ordered, purchase order BUY-1 in the ERP is open"
        order["open"] = False
        assert isinstance(await delivered(connector, bench, low(kettle)), Receipt)


async def test_an_erp_that_cannot_tell_what_is_open_closes_nothing() -> None:
    async with open_shop(counterpart=SmallErp()) as (store, bench):
        kettle = await store.create_product(**KETTLE)
        settings = {"url": bench.url, "purchase": PURCHASE}
        connector = reordering(suppliers={"Acme": {"erp": "Acme GmbH"}}, supplier="Acme", rest=settings)
        await delivered(connector, bench, low(kettle))
        await delivered(connector, bench, bench.reorders.due()[0])
        again = await delivered(connector, bench, low(kettle))
        assert isinstance(again, Skip)
        assert again.reason == "KET-1: already ordered, BUY-1, 56 from Acme"
