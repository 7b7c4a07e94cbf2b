"""`hub catch-up` and `hub store`, as a person types them, with no hub running."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.testing.store import StoreApi
from tests.console import Console, Ran, fails
from tests.hubs import config_of, write_config
from tests.test_catch_up import SMALL, settings_of


@pytest.fixture
def console() -> Iterator[Console]:
    terminal = Console()
    yield terminal
    terminal.close()


async def test_a_person_asks_for_what_was_missing_and_connects_a_store(console: Console, tmp_path: Path) -> None:
    async def hub(*words: str, typed: str = "") -> Ran:
        return await asyncio.to_thread(console.hub, tmp_path, *words, typed=typed)

    async with StoreApi(profile="v2", **SMALL) as store:
        more = settings_of(store) | {"alerts": []}
        write_config(tmp_path, config_of({}, server={"port": 0, "public_url": "https://hub.example"}, **more))
        assert (await hub("catch-up")).out == "main: nothing was missing\n"
        order = await store.place_order()
        ran = await hub("catch-up")
        assert ran.out.startswith("main: 1 order.placed")
        assert "store main: 1 missing in 24 h, last polled 20" in (await hub("status")).out
        assert order["id"] in (await hub("events")).out

        fails(await hub("catch-up", "--since", "2d"), 2, "--since goes with the name of a store")
        fails(await hub("catch-up", "mian"), 1, "there is no store mian")
        asked = await hub("catch-up", "main", "--since", "3650d", typed="n\n")
        assert (asked.code, asked.out.strip()) == (1, "main: 4 customer.registered, 3 order.placed, 3 product.created")
        assert "Make 10 events of what is newer than 20" in asked.err
        made = await hub("catch-up", "main", "--since", "3650d", "--yes")
        assert made.out.splitlines()[-1] == "main: made 4 customer.registered, 3 order.placed, 3 product.created"
        assert (await hub("catch-up", "main", "--since", "3650d")).out == "main: nothing was missing\n"

        connected = await hub("store", "connect", "main")
        assert connected.code == 0
        assert connected.out.count("made") == 8
        assert "https://hub.example/webhooks/main" in connected.out
        assert (await hub("store", "watch", "main")).code == 0
        store.shop.state.tables["webhooks"].popitem()
        watched = await hub("store", "watch", "main")
        assert (watched.code, watched.out.count("gone")) == (1, 1)
        assert "`hub store connect main` mends them" in watched.err
