"""Reorders: of a SKU at a location one is open; one supplier's become one order; a person has the last word.

Everything on SQLite and PostgreSQL; where two processes matter, two hubs share one database.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Row

from hub.connector import REORDER_DUE
from hub.deliver import attempt
from hub.reorders import make_orders
from hub.store import DELIVERY, EVENT, EVENT_KEY, REORDER, REORDER_ORDER
from tests import hubdb
from tests.buyer import Buyer
from tests.hubdb import Lab, document, open_lab, route

shared_url, database_url = hubdb.shared_url, hubdb.database_url
WINDOW = 600
ROUTES = {"buy": route(events=["inventory.*"]) | {"connector": "tests.buyer:Buyer"}, "all": route()}


@pytest.fixture(autouse=True)
def nothing_bought() -> Iterator[None]:
    yield
    Buyer.bought.clear()


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """A hub whose route `buy` buys; its clock stands still."""
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["all"]) as made:
        made.stand_still()
        yield made


async def low(lab: Lab, *skus: str, **more: Any) -> None:
    """An event of each SKU, delivered along `buy`."""
    for sku in skus:
        number = lab.made = lab.made + 1
        await lab.keep(document("inventory.low", sku=sku, productId=f"prod_{sku}", number=number, **more))
    await lab.fan_out()
    await deliver(lab)


async def deliver(lab: Lab, name: str = "buy") -> list[str]:
    """All that is due on a route, tried once at the same time; the statuses."""
    statuses: list[str] = []
    while claims := (await lab.claim(name)).claims:
        statuses += await asyncio.gather(*(attempt(lab.hub, lab.line(name), one) for one in claims))
    return statuses


async def due(lab: Lab) -> list[Row[Any]]:
    """The windows end: the deliveries of `hub.reorder.due`."""
    lab.later(WINDOW)
    while await make_orders(lab.hub):
        pass
    ids = [row.id for row in await lab.rows(EVENT, EVENT.c.type == REORDER_DUE)]
    return await lab.rows(DELIVERY, DELIVERY.c.event_id.in_(ids))


async def states(lab: Lab) -> list[tuple[str, str | None]]:
    """Of each reorder its SKU, and why it was closed, if it was."""
    return [(row.sku, row.why) for row in await lab.rows(REORDER)]


def bought() -> list[list[str]]:
    return sorted(sorted(one) for orders in Buyer.bought.values() for one in orders)


async def test_a_burst_opens_one_line_of_each_and_one_order_of_each_supplier(tmp_path: Path, database_url: str) -> None:
    events = [
        document("inventory.low", sku=f"S{n}", supplier=f"Supplier {n % 3}", number=number)
        for number in range(5)
        for n in range(9)
    ]
    random.Random(7).shuffle(events)
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        lab.stand_still()
        await asyncio.gather(*(lab.keep(event) for event in events + events))
        await lab.fan_out()
        assert await deliver(lab) == ["delivered"] * 45
        assert sorted(await states(lab)) == [(f"S{n}", None) for n in range(9)]
        lab.later(WINDOW)
        # As two workers do, and one that looks twice.
        await asyncio.gather(*(make_orders(lab.hub) for _ in range(4)))
        assert await deliver(lab) == ["delivered"] * 3
        assert bought() == [[f"12 S{n}" for n in (first, first + 3, first + 6)] for first in range(3)]
        assert len(await lab.rows(EVENT, EVENT.c.type == REORDER_DUE)) == len(await lab.rows(REORDER_ORDER)) == 3


async def test_an_order_is_an_event_of_its_store_along_the_route_that_opened_it_alone(lab: Lab) -> None:
    await low(lab, "KET-1", "KET-2")
    (row,) = await due(lab)
    event = await lab.row(EVENT, EVENT.c.id == row.event_id)
    (order,) = await lab.rows(REORDER_ORDER)
    assert (event.store, event.origin, event.entity) == ("main", "hub", f"reorder:{order.id}")
    assert event.fanned_out_at is not None
    assert list(event.not_taken) == ["all"]
    assert (row.store, row.route, row.status, row.id) == ("main", "buy", "pending", order.delivery_id)
    data = orjson.loads(event.body)["data"]
    assert (data["supplier"], [one["sku"] for one in data["items"]]) == ("Acme", ["KET-1", "KET-2"])
    found = await lab.rows(EVENT_KEY, EVENT_KEY.c.event_id == event.id, EVENT_KEY.c.kind == "sku")
    assert {one.value for one in found} == {"KET-1", "KET-2"}
    assert await deliver(lab) == ["delivered"]
    assert bought() == [["12 KET-1", "12 KET-2"]]
