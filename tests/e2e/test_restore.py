"""A hub is lost with its machine: what its backup holds goes on elsewhere, under the same keys, and nothing twice."""

import shutil
from contextlib import AsyncExitStack
from pathlib import Path

from hub.config import load_config
from hub.process import local_hub
from hub.testing import Answer
from tests.e2e.ledger import PATIENCE, Destination, Load, marker_of
from tests.hubs import command, config_of, hub_process, route, write_config
from tests.servers import eventually
from tests.whole import at_length

ORDERS = 12


@at_length
async def test_restored_on_an_empty_machine_what_was_pending_goes_on(tmp_path: Path) -> None:
    lost, found = tmp_path / "lost", tmp_path / "found"
    lost.mkdir()
    found.mkdir()
    async with AsyncExitStack() as stack:
        well = await stack.enter_async_context(Destination())
        ill = await stack.enter_async_context(Destination(lambda request: Answer(404)))
        # A 404 opens no breaker, so that each has its attempt; what waits for the next is pending meanwhile.
        slow = route(ill.url, retry={"schedule": ["3s"] * 20}, concurrency=1, when="data.place < 9")
        hung = await stack.enter_async_context(Destination())
        # Its lease outlasts the test: only a start that ends it lets it go on.
        long = route(hung.url, timeout="10m", when="data.place == 0")
        routes = {"well": route(well.url), "ill": slow, "long": long, "never": route(ill.url, events=["order.none"])}
        config = write_config(lost, config_of(routes))
        hub = await stack.enter_async_context(hub_process(config, "up"))
        load = await stack.enter_async_context(Load([hub.url]))
        ask = await stack.enter_async_context(local_hub(load_config(config)))
        hung.hanging = True
        for number in range(ORDERS):
            await load.post_one(number, "order.placed", place=number)
        await well.took(set(load.acked))
        await eventually(lambda: len(ill.keys()) == 9, PATIENCE)
        (under_way,) = await hung.hung.wait(1, PATIENCE)

        async def recorded() -> bool:
            done = (await ask("deliveries", {"status": "delivered"}))["deliveries"]
            return len(done) == ORDERS

        await eventually(recorded, PATIENCE)
        await ask("pause", {"route": "never", "reason": "the ERP moves"})
        keys = {marker: key for marker, (key,) in ill.keys().items()}
        code, made, errors = await command(config, "backup", str(tmp_path / "copy.db"), "--json")
        assert (code, errors, made["pending"], made["events"]) == (0, "", 10, ORDERS)
        await hub.kill()
        shutil.rmtree(lost / "data")

        config = write_config(found, config_of(routes))
        code, result, errors = await command(config, "restore", str(tmp_path / "copy.db"), "--yes", "--json")
        assert (code, errors) == (0, "")
        assert (result["pending"], result["aside"]) == (10, None)
        ill.decide, hung.hanging = None, False
        sent_before = len(well.received)
        await stack.enter_async_context(hub_process(config, "up"))
        await ill.took(set(keys))
        again = await stack.enter_async_context(local_hub(load_config(config)))

        async def settled() -> bool:
            return not (await again("deliveries", {"status": "pending"}))["deliveries"]

        await eventually(settled, PATIENCE)
        assert {marker_of(request): request.key for request in ill.taken} == keys
        assert len(ill.taken) == len(keys) == 9
        assert all(len(of_marker) == 1 for of_marker in ill.keys().values()), "a key changed"
        (cut_off,) = hung.taken
        assert cut_off.key == under_way.key
        assert len(well.received) == sent_before == ORDERS, "what was delivered was sent again"
        assert (await again("status", {}))["routes"]["never"]["state"] == "paused"
