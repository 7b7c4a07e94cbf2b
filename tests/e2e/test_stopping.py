"""A hub that is asked to stop under load stops cleanly; one folder has one hub; commands work with it and without."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from sqlalchemy import select

from hub.config import load_config
from hub.process import exclusive, opened_database
from hub.store import ATTEMPT
from hub.testing import Answer
from tests.e2e.ledger import Destination, Load, balance
from tests.hubs import HubProcess, command, config_of, hub_process, route, write_config
from tests.servers import eventually, free_port
from tests.whole import at_length

LISTING = ("deliveries", "--status", "delivered", "--limit", "20", "--json")


async def refused_beside(config: Path, hub: HubProcess) -> None:
    """A second hub on the same folder says whose it is, and ends."""
    code, _, errors = await command(config, "up")
    assert code == 1
    assert f"process {hub.pid}" in errors


async def test_a_hub_and_a_command_wait_for_each_other_at_the_lock(tmp_path: Path) -> None:
    """A hub waits while a command holds the database; a command that meets a hub at its start asks that hub."""
    config = write_config(tmp_path, config_of({"all": route("http://127.0.0.1:9/")}))
    loaded = load_config(config)
    async with exclusive(loaded):
        starting = asyncio.create_task(started(config))
        # It has come to the lock, and must come past it.
        await eventually(lambda: lock_is_waited_for(loaded.data_dir / "hub.lock"))
        asking = asyncio.create_task(command(config, "events", "--json"))
    code, _, errors = await asking
    assert code == 0, errors
    assert await starting == 0


async def started(config: Path) -> int:
    async with hub_process(config, "up") as hub:
        return await hub.stop()


def lock_is_waited_for(path: Path) -> bool:
    """Whether another process has the lock's file open too."""
    users = 0
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            users += link.resolve() == path
    return users > 1


@at_length
async def test_a_hub_stopped_under_load_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        destination = await stack.enter_async_context(Destination(lambda request: Answer(wait=0.1)))
        routes = {"all": route(destination.url)}
        config = write_config(tmp_path, config_of(routes, server={"port": port}))
        first = await stack.enter_async_context(hub_process(config, "up"))
        load = await stack.enter_async_context(Load([f"http://127.0.0.1:{port}"]))
        running = asyncio.create_task(load.run())
        await load.more(80)
        assert await first.stop() == 0

        second = await stack.enter_async_context(hub_process(config, "up"))
        await load.more(80)
        load.enough.set()
        await asyncio.gather(running, refused_beside(config, second))
        await destination.took(set(load.acked))
        _, asked_of_hub, _ = await command(config, *LISTING)
        assert await second.stop() == 0
        _, read_alone, _ = await command(config, *LISTING)

        assert len(asked_of_hub["deliveries"]) == 20
        assert read_alone == asked_of_hub
        balance(load, destination).assert_even()
        assert len(destination.received) == len(load.sent), "something was sent twice"
        async with opened_database(load_config(config)) as database:
            outcomes = await database.read(lambda c: Counter(c.execute(select(ATTEMPT.c.outcome)).scalars()))
        assert outcomes == {"delivered": len(load.sent)}
