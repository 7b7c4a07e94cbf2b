"""What the tests of the connector `reorder` share: a store double with one product, a bench around the connector."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from connectors.reorder import Reordering
from hub.connector import Event, Receipt
from hub.errors import Outcome
from hub.litekart import Litekart
from hub.outcome import outcome_of
from hub.testing import HttpSink, event_of, open_bench, sample
from hub.testing.bench import LOOPBACK, Bench
from hub.testing.store import API_KEY, STORE_ID, StoreApi

KETTLE = {"name": "Kettle", "sku": "KET-1", "price": 30, "cost": 12.5, "stock": 4}


def reordering(**settings: Any) -> Reordering:
    return Reordering(Reordering.Settings.model_validate({"quantity": {"target": 60}, **settings}))


@contextlib.asynccontextmanager
async def open_shop(
    profile: str = "v2", counterpart: Any = None, **settings: Any
) -> AsyncIterator[tuple[StoreApi, Bench]]:
    """A store without goods, and a bench with a client of it."""
    usual = {"products": 0, "orders": 0, "customers": 1, "limit": 100_000}
    async with (
        StoreApi(profile=profile, **usual | settings) as store,
        open_bench(counterpart or HttpSink()) as bench,
        Litekart(API_KEY, store.url, profile=profile, store_id=STORE_ID, allow=LOOPBACK) as client,
    ):
        bench.litekart = client.acting_for("route:reorder")
        yield store, bench


def low(product: dict[str, Any], **data: Any) -> Event:
    """An `inventory.low` about a product of the double."""
    return event_of({**sample("inventory.low"), "data": {"productId": product["id"], "sku": product["sku"]} | data})


def updated(product: dict[str, Any]) -> Event:
    return event_of({**sample("product.updated"), "data": {"productId": product["id"]}})


async def delivered(connector: Reordering, bench: Bench, event: Event) -> Receipt | Outcome:
    """What comes of a delivery of its own, its effects kept."""
    bench.begin()
    return await attempted(connector, bench, event)


async def attempted(connector: Reordering, bench: Bench, event: Event, **more: Any) -> Receipt | Outcome:
    """What comes of one more attempt."""
    try:
        return await bench.keep(await connector.deliver(event, dataclasses.replace(bench.context(event), **more)))
    except Exception as error:
        return outcome_of(error, bench.now())
