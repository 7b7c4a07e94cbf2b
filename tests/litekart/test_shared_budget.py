"""Clients that share a store's hour through the database use it to its last request, and are never refused."""

import asyncio
from contextlib import AsyncExitStack
from itertools import count

from hub.config import StoreRate
from hub.errors import NotNow
from hub.litekart import Litekart
from hub.litekart.budget import SharedBudget
from hub.testing.store import API_KEY, StoreApi
from tests import hubdb
from tests.hubdb import Lab

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
LIMIT, RESERVE = 60, 20
PARTS = 3


async def test_three_clients_use_the_hour_to_its_end_and_background_work_leaves_the_reserve(lab: Lab) -> None:
    ids = count()

    async def read_until_spent(client: Litekart) -> int:
        done = 0
        while True:
            try:
                await client.request("GET", "/api/orders", params={"limit": 1, "page": next(ids) + 1})
            except NotNow as put_off:
                assert put_off.after > 0
                return done
            done += 1

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(StoreApi(profile="seed", limit=LIMIT))
        clients = []
        for part in range(PARTS):
            rate = StoreRate(limit=LIMIT, reserve=RESERVE)
            budget = SharedBudget("main", rate, lab.hub.writer, lab.hub.clock, f"part {part}")
            stack.push_async_callback(budget.close)
            place = store.url.removeprefix("http://")
            client = Litekart(
                API_KEY, store.url, budget=budget, retries=0, who="route:erp", clock=lab.hub.now, allow=[place]
            )
            clients.append(await stack.enter_async_context(client))
        behind = [client.acting_for("catch-up", background=True) for client in clients]
        background = await asyncio.gather(*map(read_until_spent, behind))
        assert sum(background) == LIMIT * (100 - RESERVE) // 100
        foreground = await asyncio.gather(*map(read_until_spent, clients))
        assert sum(background) + sum(foreground) == LIMIT
        calls = await store.calls()
        assert [call.status for call in calls] == [200] * LIMIT
