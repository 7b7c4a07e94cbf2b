"""Catching up: what no webhook brought is found by polling, once; a change goes where looking again is harmless."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import Connection, update

from hub import catch_up
from hub.alerts import raise_alerts
from hub.connector import Receipt
from hub.errors import CommandError
from hub.event import parse
from hub.litekart import models
from hub.receive import Incoming, new_event
from hub.store import ATTEMPT, AUDIT, CATCH_UP, DELIVERY, EVENT, REPEAT
from hub.store.catch_up import keep_found
from hub.store.claims import Claim
from hub.store.events import Kept
from hub.stores import client_of
from hub.testing.samples import to_bytes
from hub.testing.store import API_KEY, STORE_ID, StoreApi
from tests import hubdb
from tests.hostile import Asked, answer, hostile, less_than
from tests.hubdb import SECRET, Lab, document, open_lab, route
from tests.operations import ask

shared_url, database_url = hubdb.shared_url, hubdb.database_url
SMALL = {"orders": 3, "customers": 4, "products": 3}
ROUTES = {"all": route(), "looks": route("Looks"), "chat": route(events=["none"])}
BOTH = pytest.mark.parametrize("profile", ["seed", "v2"])
Json = dict[str, Any]


def settings_of(store: StoreApi, **more: Any) -> Json:
    """The config of a hub for this store."""
    main = {"url": store.url, "api_key": API_KEY, "webhook_secrets": [SECRET]}
    main |= {"profile": store.shop.settings.profile, "store_id": STORE_ID} | more
    return {"stores": {"main": main}, "network": {"allow": ["127.0.0.1:*"]}, "alerts": ["chat"]}


@asynccontextmanager
async def caught_up(folder: Path, url: str, profile: str = "seed", **more: Any) -> AsyncIterator[tuple[Lab, StoreApi]]:
    """A hub that catches up on a store from now on; nothing is polled yet."""
    async with (
        StoreApi(profile=profile, **SMALL) as store,
        open_lab(folder, url, ROUTES, **settings_of(store, **more)) as lab,
    ):
        await catch_up.begin(lab.hub)
        yield lab, store


@pytest.fixture
async def pair(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Lab, StoreApi]]:
    async with caught_up(tmp_path, database_url) as both:
        yield both


async def found(lab: Lab, *, products: bool = False) -> dict[str, int]:
    """What a poll finds, changes of products only if asked for: orders move stock. What it made is fanned out."""
    result = await catch_up.poll(lab.hub, "main")
    assert result is not None
    assert (result.failed, result.unreadable) == ({}, [])
    await lab.fan_out()
    return {type: count for type, count in result.events.items() if products or type != "product.updated"}


async def along(lab: Lab, event_id: str) -> set[str]:
    return {row.route for row in await lab.rows(DELIVERY, DELIVERY.c.event_id == event_id)}


def webhook(order: Json, **more: Any) -> Json:
    """The order's webhook as the vendor's page shows it."""
    return document(orderId=order["id"], customerId=order["customer_id"], total=order["total"], **more)


async def standing(lab: Lab) -> Json:
    status: Json = (await ask(lab, "status"))["catch_up"]["main"]
    return status


@BOTH
async def test_what_no_webhook_brought_becomes_an_event_and_goes_along_all_routes(tmp_path: Path, profile: str) -> None:
    async with caught_up(tmp_path, f"sqlite:///{tmp_path}/hub.db", profile) as (lab, store):
        order, product = await store.place_order(total=12.5), await store.create_product(sku="NEW-1")
        customer = await store.register_customer()
        assert await found(lab) == {"order.placed": 1, "product.created": 1, "customer.registered": 1}
        rows = {row.entity: row for row in await lab.rows(EVENT, EVENT.c.type != "product.updated")}
        assert rows.keys() == {f"order:{order['id']}", f"product:{product['id']}", f"customer:{customer['id']}"}
        placed = rows[f"order:{order['id']}"]
        assert (placed.type, placed.origin, placed.secret, placed.repeats) == ("order.placed", "poll", None, 0)
        body = orjson.loads(placed.body)
        assert (body["event"], body["data"]["orderId"], body["data"]["customerId"], body["data"]["total"]) == (
            "order.placed", order["id"], order["customer_id"], 12.5,
        )  # fmt: skip
        assert body["data"]["status"] == "pending"
        assert abs(placed.occurred_at - lab.hub.now()) < timedelta(minutes=5)
        for row in rows.values():
            assert await along(lab, row.id) == {"all", "looks"}
        assert await found(lab) == {}
        status = await standing(lab)
        assert (status["missing_24h"], status["error"]) == (3, None)
        assert status["polled_at"] is not None


async def test_a_webhook_that_comes_later_is_the_same_event_and_no_difference_is_shown(
    pair: tuple[Lab, StoreApi],
) -> None:
    lab, store = pair
    order = await store.place_order()
    assert await found(lab) == {"order.placed": 1}
    kept = await lab.keep(webhook(order))
    event = await lab.row(EVENT, EVENT.c.type == "order.placed")
    assert kept == (event.id, True)
    assert (event.repeats, event.origin, event.secret) == (1, "poll", "00000000")
    assert await lab.rows(REPEAT) == []
    # From then on there is something to compare with.
    await lab.keep(webhook(order))
    assert await lab.rows(REPEAT) == []
    await lab.keep(webhook(order, gift=True))
    assert len(await lab.rows(REPEAT)) == 1
    assert await found(lab) == {}
    assert (await lab.row(EVENT, EVENT.c.id == event.id)).repeats == 3


async def test_what_a_webhook_brought_is_not_found_again(pair: tuple[Lab, StoreApi]) -> None:
    lab, store = pair
    order = await store.place_order()
    kept = await lab.keep(webhook(order))
    assert await found(lab) == {}
    assert [row.id for row in await lab.rows(EVENT, EVENT.c.type == "order.placed")] == [kept.id]
    assert (await lab.row(EVENT, EVENT.c.id == kept.id)).repeats == 0
    assert (await standing(lab))["missing_24h"] == 0


async def test_a_webhook_that_comes_while_it_is_polled_makes_no_second_event(pair: tuple[Lab, StoreApi]) -> None:
    lab, store = pair
    orders = [await store.place_order() for _ in range(8)]
    kept: list[Kept] = []

    async def come() -> None:
        kept.extend(await asyncio.gather(*(lab.keep(webhook(order)) for order in orders)))

    polled, _ = await asyncio.gather(found(lab), come())
    rows = await lab.rows(EVENT, EVENT.c.type == "order.placed")
    assert sorted(row.entity for row in rows) == sorted(f"order:{order['id']}" for order in orders)
    assert {one.id for one in kept} == {row.id for row in rows}
    assert polled.get("order.placed", 0) == sum(row.origin == "poll" for row in rows)
    # As if the poll had looked before the webhook came.
    of_webhook = webhook(await store.place_order())
    known = await lab.keep(of_webhook)
    body = to_bytes(of_webhook | {"polled": True})
    late = new_event(lab.hub, Incoming("main", body, [], None), parse(body), "")._replace(origin="poll")
    assert await lab.hub.writer.put(keep_found, late) == (known.id, True)
    assert (await lab.row(EVENT, EVENT.c.id == known.id)).repeats == 0
    assert await lab.rows(REPEAT) == []


async def test_with_ids_of_its_own_a_webhook_still_meets_what_polling_found(tmp_path: Path, database_url: str) -> None:
    async with caught_up(tmp_path, database_url, event_id_field="id") as (lab, store):
        order = await store.place_order()
        assert await found(lab) == {"order.placed": 1}
        assert (await lab.keep(webhook(order) | {"id": "whk_1"})).duplicate
        assert not (await lab.keep(document("order.updated", orderId=order["id"]) | {"id": "whk_2"})).duplicate
        assert (await lab.keep(document("order.updated", orderId=order["id"], x=1) | {"id": "whk_2"})).duplicate


@BOTH
async def test_a_change_goes_only_where_the_present_state_is_read(tmp_path: Path, profile: str) -> None:
    async with caught_up(tmp_path, f"sqlite:///{tmp_path}/hub.db", profile) as (lab, store):
        (first, second, *_), (product, *_) = await store.rows("orders"), await store.rows("products")
        await store.update(first["id"], status="shipped")
        await store.cancel(second["id"])
        await store.change_product(product["id"], price=3.5)
        events = await found(lab, products=True)
        assert events["order.updated"] == 2
        assert events["product.updated"] >= 1
        row = await lab.row(EVENT, EVENT.c.entity == f"order:{second['id']}")
        assert (row.type, row.origin) == ("order.updated", "poll")
        assert await along(lab, row.id) == {"looks"}
        assert row.not_taken["all"].startswith("polling found this change")
        assert await found(lab, products=True) == {}


async def test_a_change_of_which_an_event_came_in_since_is_not_looked_at_again(pair: tuple[Lab, StoreApi]) -> None:
    lab, store = pair
    lab.stand_still()
    first, second, _ = await store.rows("orders")
    lab.later(10)
    for order in (first, second):
        changed_at(store, order, lab.hub.now())
    lab.later(10)
    # Late, and of an earlier time: what reads the state now reads what it is since.
    await lab.keep(document("order.updated", timestamp=stamp(lab, -60), orderId=first["id"]))
    repeated = document("order.updated", timestamp=stamp(lab, -60), orderId=second["id"])
    await lab.keep(repeated)
    assert await found(lab) == {}
    lab.later(10)
    for order in (first, second):
        changed_at(store, order, lab.hub.now())
    lab.later(10)
    # A repeat let its deliveries look again.
    assert (await lab.keep(repeated)).duplicate
    assert await found(lab) == {"order.updated": 1}
    rows = await lab.rows(EVENT, EVENT.c.type == "order.updated")
    assert [row.entity for row in rows if row.origin == "poll"] == [f"order:{first['id']}"]


def changed_at(store: StoreApi, order: Json, moment: Any) -> None:
    store.shop.state.find("orders", order["id"])["updated_at"] = moment.replace(microsecond=0)


def stamp(lab: Lab, seconds: float) -> str:
    return (lab.hub.now() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_in_one_whole_second_it_is_looked_at_once_more_and_counts_as_nothing_missing(
    pair: tuple[Lab, StoreApi],
) -> None:
    lab, store = pair
    lab.stand_still()
    order, *_ = await store.rows("orders")
    await store.update(order["id"])
    changed_at(store, order, lab.hub.now())
    await lab.keep(document("order.updated", timestamp=stamp(lab, 0), orderId=order["id"]))
    lab.later(5)
    assert await found(lab) == {}
    rows = await lab.rows(EVENT, EVENT.c.entity == f"order:{order['id']}")
    assert [row.origin for row in rows] == ["webhook", "poll"]
    assert await found(lab) == {}
    assert len(await lab.rows(EVENT)) == 2
    assert (await standing(lab))["missing_24h"] == 0


async def test_what_a_delivery_itself_wrote_to_the_store_comes_back_once_at_most(pair: tuple[Lab, StoreApi]) -> None:
    lab, store = pair
    lab.stand_still()
    order, *_ = await store.rows("orders")

    async def changes(**fields: Any) -> None:
        # Each in a second of its own, after all that came in before.
        lab.later(3)
        await store.update(order["id"], **fields)
        changed_at(store, order, lab.hub.now() + timedelta(seconds=1))

    await changes(status="shipped")
    assert await found(lab) == {"order.updated": 1}
    for comes_back in ({"order.updated": 1}, {}):
        (claim,) = (await lab.claim("looks")).claims
        # It writes the same each time, as a connector does that keeps a comment at the order.
        await changes(comment="in the ERP")
        await lab.write(partial(started_at, claim=claim, moment=lab.hub.now()))
        await lab.finish(claim, Receipt("done"))
        assert await found(lab) == comes_back
    await changes(status="delivered")
    assert await found(lab) == {"order.updated": 1}


def started_at(connection: Connection, claim: Claim, moment: datetime) -> None:
    """The attempt was made just then, whatever the clock of this test did meanwhile."""
    ours = ATTEMPT.c.delivery_id == claim.delivery.id
    connection.execute(update(ATTEMPT).where(ours).values(started_at=moment))


async def test_one_process_polls_a_store_at_a_time_and_another_goes_on_where_it_ended(
    pair: tuple[Lab, StoreApi],
) -> None:
    lab, store = pair
    await store.place_order()
    async with catch_up.leased(lab.hub, "main", None) as marks:
        assert marks.keys() == set(catch_up.RESOURCES)
        assert await catch_up.poll(lab.hub, "main") is None
        lab.later(catch_up.LEASE.total_seconds() + 1)
        assert await found(lab) == {"order.placed": 1}
    assert await catch_up.poll(lab.hub, "main", unless_within=timedelta(minutes=5)) is None
    lab.later(301)
    assert await catch_up.poll(lab.hub, "main", unless_within=timedelta(minutes=5)) is not None


async def test_it_begins_when_it_is_first_on_and_anew_when_it_was_off(tmp_path: Path, database_url: str) -> None:
    async with StoreApi(**SMALL) as store:

        async def marks(**more: Any) -> dict[str, Any]:
            async with open_lab(tmp_path, database_url, ROUTES, **settings_of(store, **more)) as lab:
                await catch_up.begin(lab.hub)
                return {row.resource: row.since for row in await lab.rows(CATCH_UP)}

        first = await marks()
        assert first.keys() == {"orders", "products", "customers"}
        assert await marks(catch_up={"every": "1h"}) == first
        assert await marks(catch_up="off") == {}
        assert await marks(api_key=None) == {}
        assert min((await marks()).values()) > max(first.values())


async def test_what_is_older_is_made_by_a_person_who_was_shown_how_many(pair: tuple[Lab, StoreApi]) -> None:
    lab, _ = pair
    assert await found(lab) == {}
    preview = await ask(lab, "catch_up.preview", store="main", since="3650d")
    assert preview["events"] == {"order.placed": 3, "product.created": 3, "customer.registered": 4}
    assert await lab.rows(EVENT) == []
    assert (await ask(lab, "catch_up.start", store="main", since="3650d", who="asha"))["events"] == preview["events"]
    assert len(await lab.rows(EVENT, EVENT.c.origin == "poll")) == 10
    assert (await ask(lab, "catch_up.preview", store="main", since="3650d"))["events"] == {}
    (audited,) = await lab.rows(AUDIT)
    assert (audited.who, audited.action) == ("asha", "catch up")
    with pytest.raises(CommandError, match="there is no store mian; there is main"):
        await ask(lab, "catch_up.now", store="mian")


async def test_a_store_that_cannot_be_polled_is_told_of_and_nothing_is_missed(pair: tuple[Lab, StoreApi]) -> None:
    lab, store = pair
    order = await store.place_order()
    await store.fail("GET", "/api/orders*", times=None, status=403)
    for _ in range(2):
        result = await catch_up.poll(lab.hub, "main")
        assert result is not None
        assert result.failed.keys() == {"orders"}
        assert result.events.keys() <= {"product.updated"}
        await raise_alerts(lab.hub)
    status = await ask(lab, "status")
    assert any("store main could not be polled since" in note for note in status["notes"])
    assert not any("polled" in reason for reason in status["reasons"])
    lab.later(91 * 60)
    for _ in range(2):
        await raise_alerts(lab.hub)
    (alert,) = await lab.rows(EVENT, EVENT.c.type == "hub.catch_up.failing")
    assert (alert.store, alert.entity) == ("hub", "store:main")
    assert "HTTP 403" in orjson.loads(alert.body)["data"]["text"]
    assert any("store main could not be polled since" in reason for reason in (await ask(lab, "status"))["reasons"])
    await store.heal()
    assert (await found(lab))["order.placed"] == 1
    assert await lab.rows(EVENT, EVENT.c.entity == f"order:{order['id']}") != []
    assert (await standing(lab))["failing_since"] is None
    assert {row.alerted_at for row in await lab.rows(CATCH_UP)} == {None}


async def polled_at(folder: Path, url: str, lab_url: str) -> tuple[catch_up.Found, list[Any], Json]:
    """What one poll of a store at `url` finds, the events it made, and how polling stands."""
    main = {"url": url, "api_key": API_KEY, "webhook_secrets": [SECRET], "profile": "v2"}
    config: Json = {"stores": {"main": main}, "network": {"allow": ["127.0.0.1:*"]}, "alerts": ["chat"]}
    async with open_lab(folder, lab_url, ROUTES, **config) as lab:
        await catch_up.begin(lab.hub)
        result = await catch_up.poll(lab.hub, "main")
        assert result is not None
        return result, await lab.rows(EVENT), await standing(lab)


async def test_what_is_wrong_with_one_thing_hides_no_other(tmp_path: Path, database_url: str) -> None:
    later = "2096-01-01T00:00:00Z"
    things: list[Json] = [
        {"id": "nul\0", "createdAt": later, "updatedAt": later},
        {"id": "no text \uffff", "createdAt": later, "updatedAt": later},
        {"id": "x" * 300, "createdAt": later, "updatedAt": later},
        {"id": "7ZZZZZZZZZ0123456789ABCDEF"},
        {"id": "last", "createdAt": "9999-12-31T23:59:59Z", "updatedAt": "9999-12-31T23:59:59Z"},
        {"id": "first", "createdAt": "0001-01-01T00:00:00+14:00", "updatedAt": -1e300},
        {"id": "huge", "createdAt": later, "note": "x" * 1_100_000},
        {"id": "half \ud800", "createdAt": later},
        {"id": "../../etc", "createdAt": later, "event": "hub.alert", "orderId": "other", "data": {"id": "else"}},
        {"id": "good", "createdAt": later},
        {"id": "told", "createdAt": later, "otp": 1, "hashtags": ["a"], "user": {"passwordHash": "x", "resetToken": 2}},
        {"id": "good", "createdAt": later, "updatedAt": later, "total": 2},
    ]
    body = json.dumps({"data": things, "count": len(things), "page": 1, "pageSize": 100}).replace("-1e+300", "1e999999")
    async with hostile(answer(body.encode(), "200 OK", "Content-Type: application/json")) as server:
        result, events, status = await polled_at(tmp_path, f"http://{server.authority}", database_url)
    assert (result.failed, status["error"]) == ({}, None)
    unreadable = {"order:nul\ufffd", "order:no text \ufffd", f"order:{'x' * 256}", "order:huge"}
    assert {one for one in result.unreadable if one.startswith("order:")} == unreadable
    placed = {row.entity for row in events if row.type == "order.placed"}
    assert placed == {"order:last", "order:half \ufffd", "order:../../etc", "order:good", "order:told"}
    (told,) = [orjson.loads(row.body)["data"] for row in events if row.entity == "order:told"]
    assert (told["hashtags"], told["user"], "otp" in told) == (["a"], {}, False)
    assert {row.type.partition(".")[0] for row in events} == {"order", "product", "customer"}


async def test_a_list_without_an_end_ends_and_a_fault_of_the_hubs_own_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "MOST_LISTED", 250)

    async def more_and_more(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start, later = len(server.asked) * 1000, "2096-01-01T00:00:00Z"
        # The customers of this store are none of them what the hub can think of.
        items = [{"id": f"one_{start + number}", "createdAt": later} for number in range(100)]
        document = {"data": items, "count": 10**9, "page": 1, "pageSize": 100}
        await answer(json.dumps(document).encode(), "200 OK", "X-RateLimit-Limit: 1000000")(asked, reader, writer)

    def broken(one: Any) -> Any:
        if isinstance(one, models.Customer):
            raise ZeroDivisionError
        return one.created_at

    monkeypatch.setattr(catch_up, "created_at", broken)
    async with hostile(more_and_more) as server:
        url = f"http://{server.authority}"
        result, events, status = await polled_at(tmp_path, url, f"sqlite:///{tmp_path}/hub.db")
    assert "a list without an end: 250 read" in result.failed["orders"]
    assert "a list without an end: 250 read" in result.failed["products"]
    assert result.failed["customers"] == "a fault in the hub: ZeroDivisionError"
    assert len(server.asked) < 20
    assert status["failing_since"] is not None
    assert {row.type for row in events} == {"order.placed", "product.created"}


@pytest.mark.parametrize("large", ["note", "id"])
async def test_a_poll_holds_few_of_a_stores_things_where_each_is_megabytes(tmp_path: Path, large: str) -> None:
    count, size = 80, 1_100_000

    async def one_a_page(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = httpx.URL(asked.target)
        page = int(url.params.get("page", "1"))
        of_orders = url.path.endswith("/orders") and url.params["sort"] == "-createdAt"
        thing = {"id": f"ord_{page}", "createdAt": "2096-01-01T00:00:00Z"}
        thing[large] = thing.get(large, "") + "x" * size
        document = {"data": [thing] if of_orders else [], "count": count * of_orders, "page": page, "pageSize": 1}
        await answer(json.dumps(document).encode(), "200 OK", "X-RateLimit-Limit: 1000")(asked, reader, writer)

    # All at once would be twice that, and would be more still as events.
    with less_than(count * size // 2**20 // 2):
        async with hostile(one_a_page) as server:
            result, _, _ = await polled_at(tmp_path, f"http://{server.authority}", f"sqlite:///{tmp_path}/hub.db")
    assert (len(result.unreadable), result.failed) == (count, {})


async def test_with_the_hour_spent_it_waits_and_says_so(pair: tuple[Lab, StoreApi]) -> None:
    lab, store = pair
    # A poll takes five, and the last one is the reserve.
    await store.configure(limit=7)
    order = await store.place_order()
    assert (await found(lab))["order.placed"] == 1
    result = await catch_up.poll(lab.hub, "main")
    assert result is not None
    assert result.failed.keys() == set(catch_up.RESOURCES)
    assert "requests for this hour are used up" in (await standing(lab))["error"]
    assert any("it is tried again" in note for note in (await ask(lab, "status"))["notes"])
    client = client_of(lab.hub, "main", who="route:looks")
    assert (await client.orders.get(order["id"])).id == order["id"]


async def test_a_store_that_does_not_sort_is_read_to_its_end_and_one_that_does_is_not() -> None:
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)

    class Listing:
        def __init__(self, days: list[int]) -> None:
            self.days, self.read = days, 0

        async def iter(self, sort: list[str]) -> AsyncIterator[Any]:
            for number, days in enumerate(self.days):
                self.read += 1
                yield models.read(models.Order, {"id": f"ord_{number}", "updatedAt": str(now - timedelta(days=days))})

    async def newest(days: list[int]) -> tuple[list[str], int]:
        listing = Listing(days)
        return [
            one.id async for one in catch_up.newest_first(listing, "updated_at", now - timedelta(days=1))
        ], listing.read

    assert await newest([0, 1, *range(2, 500)]) == (["ord_0", "ord_1"], 2 + catch_up.PROOF)
    assert await newest([*range(499, -1, -1)]) == (["ord_498", "ord_499"], 500)


def test_an_id_with_a_ulid_says_when_it_was_made() -> None:
    made = catch_up.created_at(models.Customer(id="usr_01JFY3G9F5NVT0R930JNKGQXRT"))
    assert made is not None
    assert (made.year, made.month) == (2024, 12)
    for unknown in ("usr_123", "usr_ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "usr_01jfy3g9f5nvt0r930jnkgqxrt"):
        assert catch_up.created_at(models.Customer(id=unknown)) is None
