"""A rush of low stock in a real hub's database, with workers that die: one reorder each, one order a supplier.

The store is its double over HTTP, the suppliers' post office a real SMTP server. A worker dies after its connector
has done its work, and before anything of that attempt is recorded.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hub.deliver import attempt, context_of, event_of
from hub.errors import Outcome
from hub.reorders import make_orders
from hub.store import REORDER, REORDER_ORDER
from hub.store.claims import Claim
from hub.testing import sample
from hub.testing.smtp import MailServer
from hub.testing.store import API_KEY, StoreApi
from tests import hubdb
from tests.hubdb import SECRET, Lab, open_lab, route
from tests.whole import WHOLE

shared_url, database_url = hubdb.shared_url, hubdb.database_url
SUPPLIERS = ("Acme", "Beta", "Gamma", "Delta")
SKUS = [f"SKU-{number:02}" for number in range(20)]
EVENTS = 500 if WHOLE else 40
LEASE = 200


def settings_for(port: int) -> dict[str, Any]:
    return {
        "suppliers": {name: {"email": f"orders@{name.lower()}.example"} for name in SUPPLIERS},
        "skus": {sku: {"supplier": SUPPLIERS[number % 4], "pack": 5} for number, sku in enumerate(SKUS)},
        "quantity": {"target": 40},
        "mail": {"host": "127.0.0.1", "port": port, "security": "none", "from": "shop@example.test"},
    }


async def dies(lab: Lab, one: Claim) -> None:
    """The connector does its work, and the worker is gone before it says so."""
    line, delivery = lab.line("buy"), one.delivery
    event = event_of(delivery)
    with contextlib.suppress(Outcome):
        await line.connector.deliver(event, context_of(lab.hub, line, delivery, delivery.attempts + 1, event))


async def work(lab: Lab, chance: random.Random) -> None:
    """All that is due is delivered; now and then a worker dies, and another one takes over once its lease is over."""
    while True:
        claims: Sequence[Claim] = (await lab.claim("buy")).claims
        if not claims:
            lab.later(LEASE)
            claims = (await lab.claim("buy")).claims
            if not claims:
                return
        dying = [one for one in claims if chance.random() < 0.1 and not one.delivery.lost]
        living = [one for one in claims if one not in dying]
        await asyncio.gather(
            *(dies(lab, one) for one in dying), *(attempt(lab.hub, lab.line("buy"), one) for one in living)
        )


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"] if WHOLE else ["sqlite"], indirect=True)
async def test_a_rush_with_dying_workers_is_one_order_to_each_supplier(tmp_path: Path, database_url: str) -> None:
    chance = random.Random(5)
    async with StoreApi(profile="v2", products=0, orders=0, limit=100_000) as store, MailServer() as post:
        main = {"url": store.url, "webhook_secrets": [SECRET], "api_key": API_KEY, "profile": "v2"}
        main |= {"store_id": store.shop.settings.store_id}
        made = {}
        for number, sku in enumerate(SKUS):
            made[sku] = await store.create_product(name=sku, sku=sku, price=9, cost=4, stock=number % 6)
        ordering = route(events=["inventory.low"], ordered=True, concurrency=8, timeout="60s")
        routes = {"buy": ordering | {"connector": "connectors.reorder:Reordering", "settings": settings_for(post.port)}}
        network = {"allow": ["127.0.0.1:*"]}
        async with open_lab(tmp_path, database_url, routes, stores={"main": main}, network=network) as lab:
            lab.stand_still()
            events = [
                sample("inventory.low", productId=made[sku]["id"], sku=sku, number=number)
                for number, sku in enumerate(SKUS * (EVENTS // len(SKUS)))
            ]
            rush = events + chance.sample(events, len(events) // 3)
            chance.shuffle(rush)
            await asyncio.gather(*(lab.keep(event) for event in rush))
            await lab.fan_out()
            await work(lab, chance)
            assert sorted(row.sku for row in await lab.rows(REORDER)) == SKUS
            lab.later(600)
            while await make_orders(lab.hub):
                pass
            await work(lab, chance)
            orders = await lab.rows(REORDER_ORDER)
            numbers = {row.supplier: row.number for row in orders}
            assert len(orders) == len(numbers) == len(SUPPLIERS)
        mails = list(post.mails)
    assert sorted(mail.to[0] for mail in mails) == sorted(f"orders@{name.lower()}.example" for name in SUPPLIERS)
    for mail in mails:
        (attached,) = mail.message.iter_attachments()
        lines = [line.split(",") for line in attached.get_content().splitlines()[1:]]
        name = mail.to[0].partition("@")[2].partition(".")[0].capitalize()
        assert {line[0] for line in lines} == {numbers[name]}
        wanted = [(sku, n) for n, sku in enumerate(SKUS) if SUPPLIERS[n % 4] == name]
        assert [(line[2], int(line[4])) for line in lines] == [(sku, -(-(40 - n % 6) // 5) * 5) for sku, n in wanted]
