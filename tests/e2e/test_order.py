"""With `ordered: true` each order's deliveries arrive as they were acknowledged, and no order waits for another."""

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from hub.testing import Answer, Received
from tests.e2e.ledger import Destination, Load, balance, marker_of
from tests.hubs import cluster, config_of, route, write_config
from tests.servers import ValkeyServer
from tests.whole import at_length

ORDERS = 50
EVENTS = 20
BROKEN = "order-0"


def refuse_broken(request: Received) -> Answer:
    return Answer(500) if request.json()["data"]["orderId"] == BROKEN else Answer()


async def post_in_turn(load: Load, order: int) -> list[str]:
    """One order's events, each posted once the one before is acknowledged, to the receivers in turn."""
    numbers = range(order * EVENTS, (order + 1) * EVENTS)
    return [await load.post_one(n, "order.updated", orderId=f"order-{order}", status=f"step {n}") for n in numbers]


async def lose_bells(valkey: ValkeyServer, load: Load) -> None:
    """Forget what Redis holds now and then, and let it hang for a while."""
    for count in range(100, ORDERS * EVENTS, 100):
        await load.acknowledged(count)
        valkey.flush()
        if count == 300:
            valkey.pause()
            await load.acknowledged(count + 100)
            valkey.resume()


def arrivals(destination: Destination) -> dict[str, list[str]]:
    """Each order's markers in the order in which they were taken."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for request in destination.taken:
        found[request.json()["data"]["orderId"]].append(marker_of(request))
    return dict(found)


@at_length
async def test_each_order_arrives_in_its_order(tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        destination = await stack.enter_async_context(Destination(refuse_broken))
        ordered = route(destination.url, ordered=True, concurrency=30, retry={"schedule": ["1s", "5m"]})
        config = write_config(tmp_path, config_of({"ordered": ordered}, database=postgres_url, redis=valkey_server.url))
        hubs = await stack.enter_async_context(cluster(config, clocks=(1, -1, -0.5, 0.5)))
        for hub, hours in zip((*hubs.receivers, *hubs.workers), (1, -1, -0.5, 0.5), strict=True):
            assert abs((await hub.said("clock.apart"))["seconds"] + hours * 3600) < 60
        load = await stack.enter_async_context(Load(hubs.urls))
        losing = asyncio.create_task(lose_bells(valkey_server, load))
        posted = await asyncio.gather(*(post_in_turn(load, order) for order in range(ORDERS)))
        await losing

        expected = {f"order-{order}": markers for order, markers in enumerate(posted)}
        stuck = expected.pop(BROKEN)
        await destination.took({marker for markers in expected.values() for marker in markers})
        assert arrivals(destination) == expected
        assert balance(load, destination).lost == set(stuck)
        assert not destination.overlaps
        tried = {marker_of(request) for request in destination.received} & set(stuck)
        assert tried == {stuck[0]}, "a later event of the failing order went before the first"
