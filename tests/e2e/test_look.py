"""Two changes with equal bytes, the second while the first is being delivered: the last state is what arrives."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from hub.testing import Answer, HttpSink, Received, StoreDouble, sample
from hub.testing.samples import to_bytes
from tests.e2e.ledger import PATIENCE
from tests.hubs import SECRET, cluster, config_of, write_config
from tests.servers import ValkeyServer
from tests.whole import at_length


class Shelf(HttpSink):
    """Tells its present state to who asks, and takes what is seen of it; the first one waits for its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.state = 5
        self.may_answer = asyncio.Event()

    async def respond(self, request: Received) -> Answer:
        if request.method == "GET":
            return Answer(body=json.dumps(self.state).encode())
        await self.may_answer.wait()
        return Answer()

    def seen(self) -> list[tuple[int, str | None]]:
        return [(request.json(), request.key) for request in self.received if request.method == "POST"]


@at_length
async def test_the_last_of_two_changes_with_equal_bytes_is_seen(
    tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer
) -> None:
    body = to_bytes(sample("inventory.low", sku="SKU-1"))
    async with AsyncExitStack() as stack:
        shelf = await stack.enter_async_context(Shelf())
        mirror = {"connector": "tests.e2e.connectors:Mirror", "settings": {"url": shelf.url}, "timeout": "60s"}
        config = write_config(tmp_path, config_of({"one": mirror}, database=postgres_url, redis=valkey_server.url))
        hubs = await stack.enter_async_context(cluster(config))
        stores = [await stack.enter_async_context(StoreDouble(f"{url}/webhooks/main", SECRET)) for url in hubs.urls]
        first = (await stores[0].post(body)).json()["data"]
        await shelf.received.until(lambda _: len(shelf.seen()) == 1, PATIENCE)
        shelf.state = 4
        second = (await stores[1].post(body)).json()["data"]
        shelf.may_answer.set()
        await shelf.received.until(lambda _: len(shelf.seen()) == 2, PATIENCE)

        assert (first["duplicate"], second) == (False, {"id": first["id"], "duplicate": True})
        (before, key), after = shelf.seen()
        assert before == 5
        assert after == (4, f"{key}-l1")
