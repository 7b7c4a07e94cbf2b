"""What the database would refuse refuses itself only: its neighbours are received, fanned out and recorded."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hub.testing import Answer, SlackServer, StoreDouble, sample
from hub.testing.samples import to_bytes
from tests.e2e.ledger import Destination
from tests.e2e.shop import open_shop
from tests.hubs import SECRET, route
from tests.whole import at_length

NEIGHBOURS = 30
ODD = "a\x00b\ud800c\x85"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The config's part that chooses the database."""
    return {} if request.param == "sqlite" else {"database": request.getfixturevalue("postgres_url")}


async def refused(store: StoreDouble, **data: Any) -> dict[str, Any]:
    answer = await store.post(to_bytes(sample("order.placed", **data)))
    assert answer.status_code == 422, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


@at_length
async def test_a_bad_item_stops_no_neighbour(tmp_path: Path, database: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        plain, odd = [await stack.enter_async_context(Destination()) for _ in range(2)]
        slack = await stack.enter_async_context(SlackServer())
        odd.answer(Answer(500, ODD.encode("utf-8", "surrogatepass")))
        slack.answer(Answer(200, json.dumps({"ok": False, "error": ODD}).encode(), JSON))
        settings = {"token": slack.token, "channel": "C0123456", "api_url": slack.api_url}
        routes = {
            "plain": route(plain.url),
            "odd": route(odd.url),
            "never": route(plain.url, when='data.customer.firstName == "B"'),
            "slack": route("", connector="slack", settings=settings),
        }
        shop = await stack.enter_async_context(open_shop(tmp_path, routes, **database))
        store = await stack.enter_async_context(StoreDouble(f"{shop.hub.url}/webhooks/main", SECRET))

        named = {"firstName": "A\x00B", "points": 10**300}
        events, *errors = await asyncio.gather(
            asyncio.gather(
                *(shop.place("plain") for _ in range(NEIGHBOURS)),
                shop.place("plain", customer=named),
                shop.place("odd", customer=named),
                shop.place("slack", customer=named),
            ),
            refused(store, orderId="o" * 300, case="plain"),
            refused(store, orderId="o\x00", case="plain"),
        )
        assert [error["details"][0]["field"] for error in errors] == ["data.orderId"] * 2

        *neighbours, answered, told = events
        for event in neighbours:
            assert (await shop.became(event, "delivered", "plain"))["attempts"] == 1
        for event, name in ((answered, "odd"), (told, "slack")):
            delivery = await shop.became(event, "delivered", name)
            assert [attempt["outcome"] for attempt in delivery["attempted"]] == ["try_again", "delivered"]
            assert "a\N{REPLACEMENT CHARACTER}b" in delivery["attempted"][0]["note"]
        assert len(slack.messages) == 1
        assert len(plain.received) == NEIGHBOURS + 1
