"""Clients that share a store's hour through the database use it to its last request, and are never refused."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hub.config import StoreRate
from hub.errors import NotNow
from hub.litekart import PROFILES, Litekart
from hub.litekart.budget import SharedBudget
from hub.store import STORE_BUDGET
from hub.testing.store import API_KEY, StoreApi, StoreHandle
from hub.valkey import bound_to_parent
from tests import hubdb
from tests.hubdb import open_lab
from tests.servers import ValkeyServer, eventually

shared_url = hubdb.shared_url
ROOT = Path(__file__).parents[2]
LIMIT, RESERVE = 60, 20
PARTS = 3
SHARED_LIMIT, KEPT = 120, 30
LONG = 300.0
Process = asyncio.subprocess.Process
Json = dict[str, Any]


@asynccontextmanager
async def process(*module: str) -> AsyncIterator[Process]:
    """A Python process whose input and output are the test's."""
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        *bound_to_parent([sys.executable, "-P", "-m", *module]), stdin=pipe, stdout=pipe, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@asynccontextmanager
async def store_process(profile: str) -> AsyncIterator[StoreHandle]:
    """A store in a process of its own, with a small hour that its answers tell of."""
    async with process("hub.cli", "store-double", "--port", "0", "--profile", profile) as double:
        assert double.stdout is not None
        said = await asyncio.wait_for(double.stdout.readuntil(b"/api/"), LONG)
        async with StoreHandle(re.findall(r"(http\S+)/api/", said.decode())[0]) as store:
            await store.configure(limit=SHARED_LIMIT, rate_headers=True)
            yield store


async def told(processes: Sequence[Process]) -> list[str]:
    """The next line that each of them prints."""
    outputs = [one.stdout for one in processes if one.stdout is not None]
    return [
        line.decode() for line in await asyncio.wait_for(asyncio.gather(*(one.readline() for one in outputs)), LONG)
    ]


async def flushed_once(valkey: ValkeyServer, moment: Callable[[], Any]) -> None:
    """FLUSHALL at that moment, with something in it."""
    await eventually(moment, LONG)
    with valkey.client() as client:
        await eventually(client.dbsize, LONG)
        client.flushall()


async def test_three_processes_share_the_hour_and_an_emptied_redis_changes_nothing(
    tmp_path: Path, shared_url: str, valkey_server: ValkeyServer
) -> None:
    """Background work takes all but the reserve and waits, while the foreground has that to its last request."""
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(open_lab(tmp_path, shared_url))
        stores = {name: await stack.enter_async_context(store_process(name)) for name in PROFILES}
        orders = {name: (await one.rows("orders"))[0]["id"] for name, one in stores.items()}
        plan = {
            "folder": str(tmp_path), "database": shared_url, "redis": valkey_server.url,
            "terms": {"rate": {"limit": SHARED_LIMIT, "reserve": 100 * KEPT / SHARED_LIMIT}},
            "stores": {name: {"url": one.url, "order": orders[name]} for name, one in stores.items()},
        }  # fmt: skip
        module = ("tests.litekart.callers", json.dumps(plan))
        callers = [await stack.enter_async_context(process(*module)) for _ in range(PARTS)]

        async def under_way() -> bool:
            return all([len(await one.calls()) > 10 for one in stores.values()])

        flushing = asyncio.create_task(flushed_once(valkey_server, under_way))
        assert await told(callers) == ["waiting\n"] * PARTS
        await flushing
        before = {name: len(await one.calls()) for name, one in stores.items()}
        for one in callers:
            assert one.stdin is not None
            one.stdin.write(b"on\n")
        said = [json.loads(line) for line in await told(callers)]
        for name, store in stores.items():
            parts: list[Json] = [one[name] for one in said]
            background, first, rest = (
                sum(one[part] for one in parts) for part in ("background", "first", "foreground")
            )
            assert SHARED_LIMIT - KEPT <= background + first == before[name] < SHARED_LIMIT
            assert background <= SHARED_LIMIT - KEPT
            assert background + first + rest == SHARED_LIMIT
            assert all(one["denied"] for one in parts)
            assert not any(one["let_through"] for one in parts)
            assert [call.status for call in await store.calls()] == [200] * SHARED_LIMIT
            row = await lab.row(STORE_BUDGET, STORE_BUDGET.c.store == name)
            assert (row.allowed, row.remaining, row.held) == (SHARED_LIMIT, 0, {})
            assert row.spent == {"route:erp": first + rest, "catch-up": background}


async def test_three_clients_use_the_hour_to_its_end_and_background_work_leaves_the_reserve(tmp_path: Path) -> None:
    """On SQLite, which one process has."""
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
        lab = await stack.enter_async_context(open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db"))
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
