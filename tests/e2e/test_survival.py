"""What was acknowledged is delivered, once each and under one key, whatever is killed meanwhile."""

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from tests.e2e.ledger import Destination, Load, balance
from tests.hubs import HubProcess, cluster, config_of, hub_process, route, write_config
from tests.servers import ValkeyServer, eventually, free_port


async def leave_mid_delivery(victim: HubProcess, destination: Destination) -> None:
    """kill -9 while the destination has requests that it has not answered."""
    destination.hanging = True
    await destination.hung.wait(len(destination.hung) + 3)
    await victim.kill()
    destination.hanging = False


def valkey_pid(folder: Path) -> int:
    return int(json.loads((folder / "data" / "valkey.json").read_text())["pid"])


async def test_a_hub_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Destination())
        second = await stack.enter_async_context(Destination())
        routes = {"first": route(first.url), "second": route(second.url)}
        config = write_config(tmp_path, config_of(routes, server={"port": port}))
        hub = await stack.enter_async_context(hub_process(config, "up"))
        load = await stack.enter_async_context(Load([f"http://127.0.0.1:{port}"]))
        running = asyncio.create_task(load.run(400, every=0.03))

        await load.acknowledged(50)
        await leave_mid_delivery(hub, first)
        hub = await stack.enter_async_context(hub_process(config, "up"))

        await load.acknowledged(120)
        pid = valkey_pid(tmp_path)
        os.kill(pid, signal.SIGKILL)
        await hub.said("valkey.ended")
        await load.acknowledged(200)
        await eventually(lambda: valkey_pid(tmp_path) != pid)

        os.kill(valkey_pid(tmp_path), signal.SIGKILL)
        await leave_mid_delivery(hub, second)
        await stack.enter_async_context(hub_process(config, "up"))
        await running

        for destination in (first, second):
            await destination.took(set(load.acked))
            balance(load, destination).assert_even()
        assert load.answers == {200: 400}
        assert load.indeterminate, "no post met a hub that was away, so nothing was tried"


async def test_a_killed_worker_and_a_lost_redis_lose_nothing(
    tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Destination())
        second = await stack.enter_async_context(Destination())
        routes = {"first": route(first.url), "second": route(second.url)}
        config = write_config(tmp_path, config_of(routes, database=postgres_url, redis=valkey_server.url))
        hubs = await stack.enter_async_context(cluster(config))
        load = await stack.enter_async_context(Load(hubs.urls))
        running = asyncio.create_task(load.run(500, every=0.04))

        await load.acknowledged(50)
        await leave_mid_delivery(hubs.workers[0], first)
        await load.acknowledged(100)
        valkey_server.flush()
        await load.acknowledged(130)
        valkey_server.kill()
        await asyncio.gather(*(hub.said("bells.redis_away") for hub in (*hubs.receivers, hubs.workers[1])))
        meanwhile = len(load.acked)
        await load.acknowledged(meanwhile + 50)
        await first.took(list(load.acked)[:meanwhile])
        valkey_server.start()
        await asyncio.gather(*(hub.said("bells.redis_back") for hub in (*hubs.receivers, hubs.workers[1])))
        valkey_server.flush()
        await running

        for destination in (first, second):
            await destination.took(set(load.acked))
            balance(load, destination).assert_even()
        assert load.answers == {200: 500}
        assert not load.indeterminate
