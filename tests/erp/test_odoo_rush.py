"""A rush of low stock, a hub that is killed in the midst, and a real Odoo: one purchase order to each vendor.

Vendors and prices are Odoo's own. The usual window is not waited for: the hub's clock is moved on by an hour.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from hub.config import load_config
from hub.process import local_hub
from hub.testing import StoreDouble, sample
from hub.testing.samples import to_bytes
from tests.erp.merchant import PATIENCE, WAITS, Gate, Json, Merchant, open_gate, open_merchant
from tests.erp.odoo import Odoo
from tests.hubs import SECRET, HubProcess, cluster, hub_process
from tests.servers import ValkeyServer, eventually
from tests.whole import WHOLE

VENDORS = ("Acme GmbH", "Beta & Sons", "Gamma SARL", "Delta Oy")
SKUS = [f"RUSH-{number:02}" for number in range(20)]
EVENTS = 500 if WHOLE else 80
SENDERS = 8
WORKERS = 3
TARGET, PACK = 60, 7
LATER = ("tests.e2e.skewed", "1")
ORDERED = """
SELECT p.name AS vendor, g.default_code AS sku, l.product_qty AS quantity, l.price_unit AS price, o.name AS number
FROM purchase_order o JOIN res_partner p ON p.id = o.partner_id
LEFT JOIN purchase_order_line l ON l.order_id = o.id LEFT JOIN product_product g ON g.id = l.product_id
ORDER BY g.default_code
"""


def stock_of(number: int) -> int:
    return number % 6


def wanted() -> list[tuple[str, str, int, float]]:
    """Vendor, SKU, quantity and price of each line: up to the target, in whole packs."""
    quantities = [-(-(TARGET - stock_of(number)) // PACK) * PACK for number in range(len(SKUS))]
    return [(VENDORS[n % 4], sku, quantities[n], price_of(n)) for n, sku in enumerate(SKUS)]


def price_of(number: int) -> float:
    return 2 + number / 4


async def stock_odoo(odoo: Odoo) -> None:
    """Its vendors, and what each of them sells."""
    vendors = await odoo.admin("res.partner", "create", vals_list=[{"name": name} for name in VENDORS])
    offers = [{"partner_id": vendors[n % 4], "price": price_of(n), "min_qty": 1} for n in range(len(SKUS))]
    goods = [
        {"name": sku, "default_code": sku, "type": "consu", "is_storable": True, "seller_ids": [[0, 0, offers[n]]]}
        for n, sku in enumerate(SKUS)
    ]
    await odoo.admin("product.product", "create", vals_list=goods)


async def low_stock(merchant: Merchant) -> list[str]:
    """The store's products, all of them low; their ids."""
    made = [
        await merchant.store.create_product(name=sku, sku=sku, price=9, stock=stock_of(n)) for n, sku in enumerate(SKUS)
    ]
    return [one["id"] for one in made]


def rush_of(products: Sequence[str], count: int) -> list[bytes]:
    """So many webhooks about them, a third of them twice, in no order."""
    chance = random.Random(7)
    about = itertools.islice(itertools.cycle(zip(SKUS, products, strict=True)), count)
    bodies = [
        to_bytes(sample("inventory.low", productId=product, sku=sku, number=number))
        for number, (sku, product) in enumerate(about)
    ]
    bodies += chance.sample(bodies, count // 3)
    chance.shuffle(bodies)
    return bodies


@dataclass
class Rush:
    """Webhooks, each sent until it is taken, whatever becomes of the hub; `taken` counts them."""

    merchant: Merchant
    bodies: Sequence[bytes]
    taken: int = 0

    async def send(self) -> None:
        waiting = iter(self.bodies)
        async with StoreDouble(f"http://127.0.0.1:{self.merchant.port}/webhooks/main", SECRET) as store:
            await asyncio.gather(*(self._send(store, waiting) for _ in range(SENDERS)))

    async def _send(self, store: StoreDouble, waiting: Iterator[bytes]) -> None:
        for body in waiting:
            await eventually(partial(taken, store, body), PATIENCE)
            self.taken += 1


async def taken(store: StoreDouble, body: bytes) -> bool:
    with suppress(httpx.TransportError):
        return (await store.post(body)).is_success
    return False


@dataclass
class Mortal:
    """The merchant's hub: killed with -9, and started again, now or later."""

    merchant: Merchant
    stack: AsyncExitStack
    hubs: list[HubProcess] = field(default_factory=list)

    async def start(self, module: Sequence[str] = ("hub.cli",)) -> None:
        starting = hub_process(self.merchant.config, "up", module=module)
        self.hubs.append(await self.stack.enter_async_context(starting))

    async def kill(self) -> None:
        await self.hubs[-1].kill()

    async def kill_before(self, gate: Gate) -> None:
        """Kill it when Odoo has done what it was asked, and the gate holds the answer."""
        await asyncio.wait_for(gate.held.wait(), PATIENCE)
        await self.kill()
        gate.let_go()


@asynccontextmanager
async def opened(folder: Path, odoo: Odoo, **servers: Any) -> AsyncIterator[tuple[Merchant, Gate, AsyncExitStack]]:
    await odoo.fresh()
    await stock_odoo(odoo)
    async with AsyncExitStack() as stack:
        merchant = await stack.enter_async_context(open_merchant(folder, odoo, seed=16, products=0))
        gate = await stack.enter_async_context(open_gate(odoo))
        settings: Json = {
            "odoo": {"url": gate.url, "api_key": odoo.key},
            "quantity": {"target": TARGET},
            "skus": {sku: {"pack": PACK} for sku in SKUS},
        }
        ordering = {
            "connector": "connectors.reorder:Reordering", "events": ["inventory.low"], "ordered": False,
            "concurrency": 8, "timeout": "20s", "retry": {"schedule": WAITS}, "settings": settings,
        }  # fmt: skip
        merchant.configure({"buy": ordering}, **servers)
        yield merchant, gate, stack


async def reorders(merchant: Merchant) -> list[Json]:
    found: list[Json] = (await merchant.ask("reorders", limit=100))["reorders"]
    return sorted(found, key=lambda one: str(one["sku"]))


async def lost(merchant: Merchant) -> int:
    """How many attempts to send an order were found to have ended with their process."""
    orders = {one["delivery_id"] for one in await reorders(merchant)}
    whole = [await merchant.ask("show", id=one) for one in orders]
    return sum(attempt["outcome"] == "lost" for one in whole for attempt in one["attempted"])


async def all_sent(merchant: Merchant) -> bool:
    return {one["state"] for one in await reorders(merchant)} == {"sent"}


async def assert_opened(merchant: Merchant) -> None:
    """One reorder for each SKU, once nothing is to be done any more."""
    await merchant.done()
    lines = await reorders(merchant)
    assert [(one["sku"], one["state"]) for one in lines] == [(sku, "open") for sku in SKUS]


async def assert_ordered(merchant: Merchant) -> None:
    """One purchase order for each vendor, with all of its lines, although a hub died when it had written one."""
    await eventually(partial(all_sent, merchant), PATIENCE)
    await merchant.done()
    found = await merchant.odoo.sql(ORDERED)
    assert [(one["vendor"], one["sku"], one["quantity"], one["price"]) for one in found] == wanted()
    numbers = {one["sku"]: one["number"] for one in found}
    assert len(set(numbers.values())) == len(VENDORS)
    assert [(one["sku"], one["number"]) for one in await reorders(merchant)] == sorted(numbers.items())
    assert await lost(merchant) >= 1


async def test_a_rush_of_low_stock_is_one_purchase_order_to_each_vendor(
    tmp_path: Path, odoo: Odoo, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path, odoo) as (merchant, gate, stack):
        hub = Mortal(merchant, stack)
        products = await low_stock(merchant)
        await hub.start()
        rush = Rush(merchant, rush_of(products, EVENTS))
        gate.hold("purchase.order.line/search_read")
        began = time.monotonic()
        sending = asyncio.create_task(rush.send())
        await hub.kill_before(gate)
        await hub.start()
        await eventually(lambda: rush.taken > len(rush.bodies) * 2 // 3, PATIENCE)
        await hub.kill()
        await hub.start()
        await sending
        seconds = time.monotonic() - began
        await assert_opened(merchant)

        # The window is over, and the first of the orders is in Odoo when the hub dies.
        await hub.kill()
        gate.hold("purchase.order/load")
        await hub.start(LATER)
        await hub.kill_before(gate)
        await hub.start(LATER)
        # The store goes on telling of what is still low.
        await Rush(merchant, rush_of(products, len(SKUS))).send()
        await assert_ordered(merchant)
        with capsys.disabled():
            print(
                f"\n{len(rush.bodies)} webhooks in {seconds:.0f} s, {len(hub.hubs) - 1} kills: "
                f"{len(SKUS)} lines in {len(VENDORS)} purchase orders"
            )


async def end_window(url: str) -> None:
    """Hubs on PostgreSQL go by its clock, which cannot be moved on."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("UPDATE reorder SET due_at = opened_at")
    finally:
        await connection.close()


async def test_workers_that_die_leave_one_purchase_order_to_each_vendor(
    tmp_path: Path, odoo: Odoo, postgres_url: str, valkey_server: ValkeyServer
) -> None:
    """Several of them at once, on PostgreSQL: what those that are killed had begun the others end."""
    servers: Json = {"database": postgres_url, "redis": valkey_server.url, "worker": {"lease_margin": "4s"}}
    async with opened(tmp_path, odoo, **servers) as (merchant, gate, stack):
        products = await low_stock(merchant)
        async with cluster(merchant.config, receivers=1, workers=WORKERS) as hubs:
            merchant.caller = await stack.enter_async_context(local_hub(load_config(merchant.config)))
            rush = Rush(merchant, rush_of(products, EVENTS))
            gate.hold("purchase.order.line/search_read")
            sending = asyncio.create_task(rush.send())
            await asyncio.wait_for(gate.held.wait(), PATIENCE)
            await hubs.workers[0].kill()
            gate.let_go()
            await sending
            await assert_opened(merchant)
        gate.hold("purchase.order/load")
        await end_window(postgres_url)
        async with cluster(merchant.config, receivers=1, workers=WORKERS) as hubs:
            await asyncio.wait_for(gate.held.wait(), PATIENCE)
            await asyncio.gather(*(worker.kill() for worker in hubs.workers))
            gate.let_go()
            await stack.enter_async_context(hub_process(merchant.config, "work"))
            await Rush(merchant, rush_of(products, len(SKUS))).send()
            await assert_ordered(merchant)
