"""A store's registrations: made and mended once, others left alone, and told of when one leads here no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from hub import registrations
from hub.alerts import raise_alerts
from hub.errors import CommandError
from hub.event import EVENT_TYPES
from hub.store import AUDIT, EVENT, REGISTRATIONS
from hub.testing.store import StoreApi
from tests import hubdb
from tests.dashboard.served import pages_of
from tests.hubdb import SECRET, Lab, open_lab
from tests.operations import ask
from tests.test_catch_up import ROUTES, SMALL, settings_of

shared_url, database_url = hubdb.shared_url, hubdb.database_url
PUBLIC = "https://hub.example"
HERE = f"{PUBLIC}/webhooks/main"
Pair = tuple[Lab, StoreApi]


@asynccontextmanager
async def opened(folder: Path, url: str) -> AsyncIterator[Pair]:
    """A hub, and a store of the live profile that has one registration, which is somebody else's."""
    async with StoreApi(profile="v2", **SMALL) as store:
        store.shop.state.add("webhooks", others())
        server = {"port": 0, "public_url": PUBLIC}
        async with open_lab(folder, url, ROUTES, server=server, **settings_of(store)) as lab:
            yield lab, store


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with opened(tmp_path, f"sqlite:///{tmp_path}/hub.db") as both:
        yield both


def others() -> dict[str, Any]:
    return {
        "url": "https://else.example/hook", "password": "theirs", "name": "theirs", "description": "", "rank": 1,
        "event": "order.placed", "active": True,
    }  # fmt: skip


async def connect(lab: Lab) -> dict[str, str]:
    """What was done with each registration."""
    found = await ask(lab, "store.connect", store="main", who="asha")
    assert found["url"] == HERE
    return {one["event"]: one["state"] for one in found["registrations"]}


async def ours(store: StoreApi) -> dict[str, dict[str, Any]]:
    return {row["event"]: row for row in await store.rows("webhooks") if row["name"] != "theirs"}


async def test_eight_are_made_once_and_what_is_wrong_with_them_is_mended(pair: Pair) -> None:
    lab, store = pair
    assert await connect(lab) == dict.fromkeys(EVENT_TYPES, "made")
    made = await ours(store)
    assert made.keys() == set(EVENT_TYPES)
    assert {(row["url"], row["password"], row["active"]) for row in made.values()} == {(HERE, SECRET, True)}
    assert set((await connect(lab)).values()) == {"as it should be"}

    broken = {row["event"]: store.shop.state.tables["webhooks"][row["id"]] for row in made.values()}
    broken["order.placed"]["active"] = False
    broken["order.updated"]["url"] = "https://old.example/webhooks/main"
    broken["inventory.low"]["password"] = "another secret, of another hub"
    del store.shop.state.tables["webhooks"][broken["product.created"]["id"]]
    done = await connect(lab)
    assert {event: state for event, state in done.items() if state != "as it should be"} == {
        "order.placed": "mended: switched off", "order.updated": "mended: another address",
        "inventory.low": "mended: another secret", "product.created": "made",
    }  # fmt: skip
    mended = await ours(store)
    assert {(row["url"], row["password"], row["active"]) for row in mended.values()} == {(HERE, SECRET, True)}
    assert mended["order.updated"]["id"] == made["order.updated"]["id"]
    (theirs,) = [row for row in await store.rows("webhooks") if row["name"] == "theirs"]
    assert others().items() <= theirs.items()
    audits = await lab.rows(AUDIT)
    assert [(row.who, row.action) for row in audits] == [("asha", "connect")] * 2
    assert SECRET not in str([row.detail for row in audits])


async def test_one_that_leads_here_no_more_is_told_once_and_over_when_mended(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path, database_url) as (lab, store):
        await connect(lab)
        rows = store.shop.state.tables["webhooks"]
        placed = next(row for row in rows.values() if row["event"] == "order.placed" and row["url"] == HERE)
        assert (await ask(lab, "store.watch", store="main"))["wrong"] == []
        del rows[placed["id"]]
        lab.stand_still()
        since = lab.hub.now()
        for _ in range(2):
            watched = await ask(lab, "store.watch", store="main")
            assert watched["wrong"] == ["order.placed"]
            assert {one["state"] for one in watched["registrations"]} == {"gone", "as it should be"}
            await raise_alerts(lab.hub)
            row = await lab.row(REGISTRATIONS)
            assert row.wrong_since == row.alerted_at == since
            lab.later(60)
        (alert,) = await lab.rows(EVENT, EVENT.c.store == "hub")
        assert (alert.type, alert.entity) == ("hub.webhooks.wrong", "store:main")
        data = orjson.loads(alert.body)["data"]
        assert "order.placed: gone" in data["text"]
        assert "`hub store connect main`" in data["remedy"]
        reasons = (await ask(lab, "status"))["reasons"]
        assert any("store main does not send all its webhooks here" in reason for reason in reasons)
        async with pages_of(lab.hub) as url, httpx.AsyncClient(base_url=url) as client:
            assert "<strong>A store</strong><p>store main does not send all" in (await client.get("/")).text
        assert (await connect(lab))["order.placed"] == "made"
        row = await lab.row(REGISTRATIONS)
        assert (row.wrong, row.wrong_since, row.alerted_at) == (None, None, None)


async def test_what_was_entered_by_hand_is_watched_and_what_never_was_there_is_not_wrong(pair: Pair) -> None:
    lab, store = pair
    made = store.shop.state.add("webhooks", others() | {"url": f"{HERE}/", "password": SECRET})
    states = {one["event"]: one["state"] for one in (await ask(lab, "store.watch", store="main"))["registrations"]}
    assert states == dict.fromkeys(EVENT_TYPES, "there never was one") | {"order.placed": "as it should be"}
    made["active"] = False
    assert (await ask(lab, "store.watch", store="main"))["wrong"] == ["order.placed"]


async def test_where_the_api_has_none_it_says_what_to_enter_and_never_the_secret(tmp_path: Path) -> None:
    url, server = f"sqlite:///{tmp_path}/hub.db", {"port": 0, "public_url": PUBLIC}
    async with StoreApi(**SMALL) as store:
        async with open_lab(tmp_path, url, ROUTES, server=server, **settings_of(store)) as lab:
            by_hand = (await ask(lab, "store.connect", store="main"))["by_hand"]
            assert (by_hand["url"], by_hand["events"]) == (HERE, list(EVENT_TYPES))
            assert "stores.main.webhook_secrets" in by_hand["secret"]
            assert SECRET not in str(by_hand)
            with pytest.raises(CommandError, match="profile: v2"):
                await ask(lab, "store.watch", store="main")
            assert await store.calls() == []
        async with open_lab(tmp_path, url, ROUTES, **settings_of(store)) as lab:
            with pytest.raises(CommandError, match="public_url is not set"):
                await ask(lab, "store.connect", store="main")


async def test_odd_registrations_hide_no_other_and_no_answer_tells_the_secret(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, database_url) as (lab, store):
        for id in ("nul\0", "x" * 300):
            store.shop.state.add("webhooks", others() | {"url": HERE, "password": SECRET})["id"] = id
        await store.fail("POST", "/api/admin/webhooks", status=422, body={"error": f"{SECRET} is too short"})
        with pytest.raises(CommandError, match=r"\*\*\*\* is too short"):
            await connect(lab)
        assert await connect(lab) == dict.fromkeys(EVENT_TYPES, "made")
        assert (await ask(lab, "store.watch", store="main"))["wrong"] == []
        monkeypatch.setattr(registrations, "MOST_LISTED", 9)
        with pytest.raises(CommandError, match="a list without an end: 9 registrations read"):
            await ask(lab, "store.watch", store="main")
