"""`hub catch-up` and `hub store`, as a person types them, with no hub running."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import stores
from hub.errors import (
    BadAnswer,
    FieldProblem,
    LitekartError,
    NotAllowed,
    NotFound,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from hub.testing.store import API_KEY, StoreApi
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
        missing = "store main: 1 missing in 24 h and found by polling, last polled 20"
        assert missing in (await hub("status")).out
        assert order["id"] in (await hub("events")).out

        fails(await hub("catch-up", "--since", "2d"), 2, "--since goes with the name of a store")
        fails(await hub("catch-up", "main", "--since", "2999-01-01"), 2, "is still to come")
        fails(await hub("catch-up", "mian"), 1, "there is no store mian")
        asked = await hub("catch-up", "main", "--since", "3650d", typed="n\n")
        assert (asked.code, asked.out.strip()) == (1, "main: 4 customer.registered, 3 order.placed, 3 product.created")
        assert "Make 10 events of what is newer than 20" in asked.err
        made = await hub("catch-up", "main", "--since", "3650d", "--yes")
        assert made.out.splitlines()[-1] == "main: made 4 customer.registered, 3 order.placed, 3 product.created"
        assert (await hub("catch-up", "main", "--since", "3650d")).out == "main: nothing was missing\n"
        # What a person had made of old things was not missing.
        assert missing in (await hub("status")).out

        assert "`hub store connect main` makes those that there never were" in (await hub("store", "watch", "main")).out
        connected = await hub("store", "connect", "main")
        assert connected.code == 0
        assert connected.out.count("made") == 8
        assert "https://hub.example/webhooks/main" in connected.out
        assert (await hub("store", "watch", "main")).code == 0
        store.shop.state.tables["webhooks"].popitem()
        watched = await hub("store", "watch", "main")
        assert (watched.code, watched.out.count("gone")) == (1, 1)
        assert "`hub store connect main` mends them" in watched.err

        await store.configure(api_key="another-key")
        refused = await hub("catch-up")
        assert (refused.code, refused.out.count("; see whether stores.main.api_key is the right one\n")) == (1, 3)
        assert "nothing was missing" not in refused.out
        for words in (("store", "watch", "main"), ("store", "connect", "main"), ("catch-up", "main", "--since", "1d")):
            fails(await hub(*words), 1, "see whether stores.main.api_key is the right one")
        checked = await hub("check")
        assert checked.code == 1
        assert re.search(r"^store main +failed +cannot be asked: HTTP 401: .*stores.main.api_key", checked.out, re.M)

        await store.configure(api_key=API_KEY)
        assert re.search(r"^store main +ok +answers to its key$", (await hub("check")).out, re.M)
        more["stores"]["main"]["profile"] = "seed"
        write_config(tmp_path, config_of({}, **more))
        assert re.search(r"^store main +failed .*stores.main.profile", (await hub("check")).out, re.M)
        del more["stores"]["main"]["api_key"]
        write_config(tmp_path, config_of({}, **more))
        assert re.search(r"^main .* seed +no {5,}20", (await hub("stores")).out, re.M)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (NotAllowed("no", status=403), "; see whether the store's admin lets stores.main.api_key do this"),
        (Unreachable("refused"), "; see whether the store is up and stores.main.url right"),
        (NotFound("no such path", status=404), "; see whether stores.main.url and stores.main.profile are right"),
        (BadAnswer("a page", status=200), "; see whether stores.main.url and stores.main.profile are right"),
        (
            ValidationFailed("Store ID is required", status=400),
            "; see whether stores.main.profile and stores.main.store_id are right",
        ),
        (ValidationFailed("no such field", status=400), ""),
        (ValidationFailed("a store id is no number", FieldProblem("id", "no number"), status=400), ""),
        (RateLimited("slow", status=429), ""),
    ],
)
def test_a_stores_answer_comes_with_where_to_look(error: LitekartError, remedy: str) -> None:
    assert stores.remedy(error, "main") == remedy
