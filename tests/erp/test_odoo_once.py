"""One sales order for each order, whatever happens: repeats, many at once, and whoever is killed or goes away."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import asyncpg

from hub.config import load_config
from hub.process import local_hub
from tests.erp.merchant import PATIENCE, Gate, Json, Merchant, erp_route, open_gate, open_merchant
from tests.erp.odoo import Odoo
from tests.hubs import HubProcess, cluster, hub_process
from tests.servers import ValkeyServer, eventually

WORKERS = 6
CUTS = 4
CUT = """
SELECT pg_terminate_backend(pid) AS cut FROM pg_stat_activity
WHERE usename = 'odoo' AND datname = current_database() AND backend_xid IS NOT NULL
"""
# Each is a place where Odoo has something new and the hub does not know of it yet.
STAGES = ["product.product/load", "res.partner/load", "sale.order/load", "sale.order/message_post",
    "sale.order/action_confirm"]  # fmt: skip


async def stranger(merchant: Merchant, name: str) -> Json:
    """A customer and a product that Odoo cannot know yet, as `place_order` takes them."""
    sku = f"{name.upper()}-{merchant.port}"
    customer = await merchant.store.register_customer(email=f"{sku.lower()}@example.test")
    await merchant.store.create_product(sku=sku)
    return {"customer_id": customer["id"], "items": [{"sku": sku, "quantity": 2}]}


async def attempts(merchant: Merchant, order: Json) -> list[str]:
    """The outcomes of all attempts about an order, those of the newest delivery first."""
    found = await merchant.deliveries(entity=f"order:{order['id']}")
    whole = [await merchant.ask("show", id=one["id"]) for one in found]
    return [attempt["outcome"] for one in whole for attempt in one["attempted"]]


async def test_the_same_delivery_twice_is_one_sales_order(tmp_path: Path, odoo: Odoo) -> None:
    """Posted twice, changed to what it was, and replayed."""
    # Other tests leave customers and products there that stand twice on purpose.
    await odoo.fresh()
    async with open_merchant(tmp_path, odoo, seed=11) as merchant:
        config = merchant.configure({"erp": erp_route(odoo.url, odoo.key)})
        async with hub_process(config, "up"):
            await merchant.tells()
            order = await merchant.store.place_order(**await stranger(merchant, "twice"))
            await merchant.done()
            sale = await merchant.sale(order)
            first = (await merchant.store.sent("order.placed"))[0]
            assert [(await merchant.store.resend(first.number)).status for _ in range(3)] == [200] * 3
            await merchant.store.update(order["id"], status="pending")
            [changed] = await merchant.store.sent("order.updated")
            await merchant.done()
            await merchant.store.resend(changed.number)
            await merchant.done()
            [update, placed] = await merchant.deliveries(entity=f"order:{order['id']}")
            assert (placed["status"], update["status"]) == ("delivered", "skipped")
            assert update["last_error"] == f"nothing changed since {sale['name']}"
            await merchant.ask("replay.event", who="test", id=placed["event_id"], routes=["erp"])
            await merchant.done()
            await merchant.assert_once()
            assert (await merchant.sale(order))["id"] == sale["id"]


async def test_a_hub_killed_between_request_and_answer_makes_no_second(tmp_path: Path, odoo: Odoo) -> None:
    async with AsyncExitStack() as stack:
        merchant = await stack.enter_async_context(open_merchant(tmp_path, odoo, seed=12))
        gate = await stack.enter_async_context(open_gate(odoo))
        config = merchant.configure({"erp": erp_route(gate.url, odoo.key)})
        await merchant.tells()
        hub = await stack.enter_async_context(hub_process(config, "up"))
        for number, stage in enumerate(STAGES):
            order = await stranger(merchant, f"killed{number}")
            gate.hold(stage)
            placed = await merchant.store.sequence(steps=["placed", "paid"], **order)
            await asyncio.wait_for(gate.held.wait(), PATIENCE)
            await hub.kill()
            gate.let_go()
            hub = await stack.enter_async_context(hub_process(config, "up"))
            await merchant.done()
            sale = await merchant.sale(placed)
            assert sale["state"] == "sale"
            assert await merchant.notes(sale) == 1
            assert "lost" in await attempts(merchant, placed)
        await merchant.assert_once()


async def overlapping(merchant: Merchant, gate: Gate, order: Json, call: str) -> None:
    """Six deliveries about one order, without order among themselves, that come to that call all at once."""
    meeting = gate.gather(call, WORKERS)
    for number in range(WORKERS):
        await merchant.store.send("order.updated", {"orderId": order["id"], "rough": True, "number": number})
    await asyncio.wait_for(meeting.complete.wait(), PATIENCE)
    await merchant.done()


async def unheard(merchant: Merchant, order: Json) -> Json:
    """An order of which no webhook comes."""
    await merchant.store.configure(outage=True)
    placed = await merchant.store.place_order(**order)
    await merchant.store.configure(outage=False)
    return placed


async def whose(url: str, delivery: str) -> str:
    """The worker of a delivery's last attempt."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetchval(
            "SELECT worker FROM attempt WHERE delivery_id = $1 ORDER BY number DESC", delivery
        )
    finally:
        await connection.close()
    return str(found)


async def kill_who_writes(merchant: Merchant, gate: Gate, workers: Sequence[HubProcess], url: str) -> Json:
    """kill -9 of the worker that waits for the answer to its order; the order."""
    buyer = await stranger(merchant, "sixth")
    gate.hold("sale.order/load")
    order = await merchant.store.place_order(**buyer)
    await asyncio.wait_for(gate.held.wait(), PATIENCE)
    [delivery] = await merchant.deliveries(entity=f"order:{order['id']}")
    names = {str((await worker.said("hub.working"))["worker"]): worker for worker in workers}
    await names[await whose(url, delivery["id"])].kill()
    gate.let_go()
    return order


async def test_six_workers_at_once_make_one_sales_order_each(
    tmp_path: Path, odoo: Odoo, postgres_url: str, valkey_server: ValkeyServer
) -> None:
    """Each order's deliveries in their order, as is the default; six of one order at once; and one of them killed."""
    async with AsyncExitStack() as stack:
        merchant = await stack.enter_async_context(open_merchant(tmp_path, odoo, seed=13))
        gate = await stack.enter_async_context(open_gate(odoo))
        rough = "data.rough | default(false)"
        routes = {
            "erp": erp_route(gate.url, odoo.key, when=f"not ({rough})", concurrency=WORKERS, timeout="30s"),
            "rough": erp_route(gate.url, odoo.key, when=rough, concurrency=WORKERS, timeout="30s", ordered=False),
        }
        servers: Json = {"database": postgres_url, "redis": valkey_server.url, "worker": {"lease_margin": "4s"}}
        config = merchant.configure(routes, **servers)
        hubs = await stack.enter_async_context(cluster(config, receivers=1, workers=WORKERS))
        merchant.caller = await stack.enter_async_context(local_hub(load_config(config)))
        await merchant.tells(hubs.urls[0])

        placed, *_ = await merchant.store.burst(2 * WORKERS)
        for number in range(WORKERS):
            await merchant.store.update(placed["id"], comment=f"call {number}", wait=False)
        await merchant.done()
        await merchant.assert_once()
        assert len([one for one in hubs.workers if delivered_by(one)]) > 1

        # Everything is new: they meet at the first thing that is made. Then all but the order is known.
        buyer = await stranger(merchant, "rough")
        await overlapping(merchant, gate, await unheard(merchant, buyer), "product.product/load")
        await overlapping(merchant, gate, await unheard(merchant, buyer), "sale.order/load")
        await merchant.assert_once()

        killed = await kill_who_writes(merchant, gate, hubs.workers, postgres_url)
        await merchant.done()
        assert "lost" in await attempts(merchant, killed)
        await merchant.assert_once()


def delivered_by(worker: HubProcess) -> list[Json]:
    return [one for one in worker.lines if one.get("event") == "delivery.attempted" and one["status"] == "delivered"]


class Shoppers:
    """Orders come one after another, `every` so many seconds, until there are `enough`."""

    def __init__(self, merchant: Merchant, every: float) -> None:
        self.merchant = merchant
        self.every = every
        self.enough = asyncio.Event()

    async def buy(self) -> None:
        while not self.enough.is_set():
            await self.merchant.store.sequence(steps=["placed", "paid"])
            await asyncio.sleep(self.every)

    async def more(self, count: int) -> None:
        """Returns once so many more orders have come to Odoo."""
        wanted = len(await self.merchant.sales()) + count

        async def came() -> bool:
            return len(await self.merchant.sales()) >= wanted

        await eventually(came, PATIENCE)


async def test_odoo_and_its_postgresql_go_and_come_back(tmp_path: Path, odoo: Odoo) -> None:
    """Connections cut in the midst of a transaction, PostgreSQL stopped and started, Odoo restarted, mid-run."""
    async with AsyncExitStack() as stack:
        merchant = await stack.enter_async_context(open_merchant(tmp_path, odoo, seed=14))
        config = merchant.configure({"erp": erp_route(odoo.url, odoo.key)})
        hub = await stack.enter_async_context(hub_process(config, "up"))
        await merchant.tells()
        shoppers = Shoppers(merchant, every=1.0)
        buying = asyncio.create_task(shoppers.buy())
        stack.callback(buying.cancel)

        await shoppers.more(3)
        for _ in range(CUTS):
            await eventually(partial(cut, odoo), PATIENCE)
            await shoppers.more(1)

        failed = len(failures(hub))
        odoo.postgres.stop()
        await eventually(lambda: len(failures(hub)) > failed + 1, PATIENCE)
        odoo.postgres.start()
        await shoppers.more(3)

        failed = len(failures(hub))
        odoo.stop()
        await eventually(lambda: len(failures(hub)) > failed + 1, PATIENCE)
        shoppers.enough.set()
        await buying
        await odoo.start()
        await merchant.done()
        await merchant.assert_once()
        assert {one["state"] for one in await merchant.sales()} == {"sale"}


async def cut(odoo: Odoo) -> bool:
    """End a connection of Odoo's within its transaction, if there is one that writes."""
    return any(one["cut"] for one in await odoo.sql(CUT))


def failures(hub: HubProcess) -> list[Json]:
    return [one for one in hub.lines if one.get("event") == "delivery.attempted" and one["outcome"] == "try_again"]
