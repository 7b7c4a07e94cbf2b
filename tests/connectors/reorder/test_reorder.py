"""The connector `reorder`: from low stock to one order at the supplier, over a store double in both profiles."""

from typing import Any

import pytest

from hub.connector import Receipt
from hub.errors import Skip
from hub.testing.bench import Bench
from tests.connectors.reorder.shop import KETTLE, attempted, delivered, low, open_shop, reordering, updated

PROFILES = pytest.mark.parametrize("profile", ["seed", "v2"])


def acme(bench: Bench, **more: Any) -> dict[str, Any]:
    """A supplier that takes JSON at the bench's counterpart, and has everything."""
    return {"suppliers": {"Acme": {"post": {"url": f"{bench.url}/orders"}, **more}}, "supplier": "Acme"}


@PROFILES
async def test_low_stock_becomes_one_order_as_json(profile: str) -> None:
    async with open_shop(profile) as (store, bench):
        kettle = await store.create_product(**KETTLE)
        connector = reordering(**acme(bench, pack=12))
        seen = await delivered(connector, bench, low(kettle))
        assert isinstance(seen, Receipt)
        assert seen.text.startswith("opened: 60 of KET-1 from Acme, goes out at ")
        (line,) = bench.reorders.kept.values()
        assert line.reason == "stock 4 ≤ 10; target 60; pack of 12; ordered 60"
        for event in (low(kettle), updated(kettle)):
            again = await delivered(connector, bench, event)
            assert isinstance(again, Skip)
            assert again.reason.startswith("KET-1: already to be ordered, 60 from Acme, goes out at ")
        (due,) = bench.reorders.due()
        sent = await delivered(connector, bench, due)
        (request,) = bench.counterpart.received
        assert isinstance(sent, Receipt)
        assert request.key == bench.key
        order = request.json()["data"]
        assert order["number"] in sent.text
        assert order["lines"] == [
            {
                "sku": "KET-1", "supplier_sku": "", "name": "Kettle", "quantity": 60, "price": 12.5, "amount": 750,
                "location": line.location, "location_name": "",
            }
        ]  # fmt: skip
        assert (order["total"], order["currency"], order["supplier"]) == (750, "EUR", "Acme")
        replayed = await attempted(connector, bench, due)
        assert isinstance(replayed, Receipt)
        assert replayed.text == f"already sent: {order['number']}"
        later = await delivered(connector, bench, low(kettle))
        assert isinstance(later, Skip)
        assert later.reason == f"KET-1: already ordered, {order['number']}, 60 from Acme"
        assert len(bench.counterpart.received) == 1
