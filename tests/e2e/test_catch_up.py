"""Webhooks that are lost are found by one poll; webhooks that come repeated and in any order leave the right state."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hub.config import load_config
from hub.process import Caller, local_hub
from tests.e2e.ledger import PATIENCE
from tests.e2e.lossy import BADLY, Books, Keeper, come_after_all, even
from tests.hubs import command, config_of, hub_process, write_config
from tests.servers import eventually, free_port
from tests.whole import at_length


@asynccontextmanager
async def running(config: Path) -> AsyncIterator[Caller]:
    """`hub up`, and whom to ask."""
    async with hub_process(config, "up"), local_hub(load_config(config)) as ask:
        yield ask


async def missing(ask: Caller) -> int:
    """What `hub status` says was missing at the store."""
    return int((await ask("status", {}))["catch_up"]["main"]["missing_24h"])


async def poll(ask: Caller) -> Any:
    """What a poll finds."""
    found = (await ask("catch_up.now", {}))["stores"]["main"]
    assert found["failed"] == {}
    return found["events"]


@at_length
async def test_f25_what_came_while_nobody_listened_is_found_by_one_poll_and_done_once(tmp_path: Path) -> None:
    async with Keeper(profile="v2") as keeper, Books() as books:
        port = free_port()
        server = {"port": port, "public_url": f"http://127.0.0.1:{port}"}
        # By itself it polls at its start alone.
        stores = {"main": keeper.settings(catch_up={"every": "1d"})}
        config = write_config(tmp_path, config_of(books.routes(), server=server, stores=stores))
        async with running(config) as ask:
            code, said, errors = await command(config, "store", "connect", "main")
            assert (code, errors) == (0, ""), said
            await keeper.day()
            await even(keeper, books)
            assert await missing(ask) == 0
        await keeper.day()
        assert [one.event for one in await keeper.sent() if one.lost].count("order.placed") == 3
        async with running(config) as ask:
            await even(keeper, books)
            await keeper.configure(outage=True)
            await keeper.day()
            await keeper.configure(outage=False)
            assert (await poll(ask))["order.placed"] == 3
            await even(keeper, books)
            found = await missing(ask)
            assert found >= 2 * 5
            assert await poll(ask) == {}
            assert set(await come_after_all(keeper)) == {200}
            await even(keeper, books)
            assert await missing(ask) == found
        assert books.same_key_twice() == 0


@at_length
async def test_f26_repeated_shuffled_and_restamped_the_last_state_is_the_stores(tmp_path: Path) -> None:
    port = free_port()
    async with Keeper(webhooks=f"http://127.0.0.1:{port}/webhooks/main") as keeper, Books() as books:
        stores = {"main": keeper.settings(catch_up="off")}
        config = write_config(tmp_path, config_of(books.routes(), server={"port": port}, stores=stores))
        async with running(config) as ask:
            await keeper.back_in_equal_bytes(books)
            await keeper.configure(travel=BADLY)
            for _ in range(3):
                await keeper.day()
                await keeper.there_and_back()
            await keeper.release()
            await keeper.settle()

            async def quiet() -> bool:
                pending = (await ask("deliveries", {"status": "pending"}))["deliveries"]
                return not pending and not (await ask("status", {}))["waiting_for_fan_out"]

            await eventually(quiet, PATIENCE)
            await even(keeper, books)
        assert books.same_key_twice() == 0
