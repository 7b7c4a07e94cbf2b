"""What receiving keeps: events once, repeats with other content, refusals in their rings; and letting them in later."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from hub.errors import CommandError, NotAnEvent, NotAuthenticated, Refusal, Unavailable
from hub.receive import FLUSH_EVERY, Incoming, Receiving, accept_refused, accept_repeat
from hub.store import DELIVERY, EVENT, REFUSED, REPEAT, STAT
from hub.store.refusals import RING, list_refused
from hub.testing.samples import StoreDouble, sample, sign, to_bytes
from tests import hubdb
from tests.hubdb import SECRET, Lab, document, open_lab, route, served, store_at
from tests.servers import PATIENCE, eventually

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
NEW_SECRET = "the webhook secret after rotating"
SIGNATURE = b"x-litekart-signature"
TWO = {"one": route(), "two": route()}


def incoming(body: bytes, secret: str = SECRET, store: str = "main", **more: bytes) -> Incoming:
    """A request for the endpoint, signed with `secret`."""
    headers = [(SIGNATURE, sign(body, secret).encode())]
    headers += [(name.replace("_", "-").encode(), value) for name, value in more.items()]
    return Incoming(store, body, headers, "192.0.2.7")


async def refused(receiving: Receiving, request: Incoming) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await receiving.receive(request)
    return caught.value


@asynccontextmanager
async def two_receivers(folder: Path, url: str) -> AsyncIterator[tuple[Lab, list[StoreDouble]]]:
    """Two hubs on one PostgreSQL, or the one that SQLite serves; a store that posts to each."""
    async with open_lab(folder, url, TWO) as lab, served(lab.hub) as first, store_at(first) as store:
        if url.startswith("sqlite"):
            yield lab, [store, store]
            return
        async with open_lab(folder, url, TWO) as other, served(other.hub) as second, store_at(second) as there:
            yield lab, [store, there]


async def test_two_hundred_posts_of_one_webhook_are_one_event(tmp_path: Path, database_url: str) -> None:
    body = to_bytes(sample("order.placed"))
    async with two_receivers(tmp_path, database_url) as (lab, stores):
        answers = await asyncio.gather(*(acknowledged(stores[number % 2], body) for number in range(200)))
        assert {answer.status_code for answer in answers} == {200}
        data = [answer.json()["data"] for answer in answers]
        event = await lab.row(EVENT)
        assert {one["id"] for one in data} == {event.id}
        assert [one["duplicate"] for one in data].count(False) == 1
        assert event.repeats == 199
        assert await lab.rows(REPEAT) == []
        await lab.fan_out()
        assert sorted(row.route for row in await lab.rows(DELIVERY)) == ["one", "two"]


async def acknowledged(store: StoreDouble, body: bytes) -> httpx.Response:
    """As a store sends: again, where the hub says 503, which a slow disk may well bring about here."""

    async def taken() -> httpx.Response | None:
        answer = await store.post(body)
        return answer if answer.status_code != 503 else None

    found = await eventually(taken)
    assert found is not None
    return found


async def test_many_different_webhooks_are_each_kept_once(tmp_path: Path, database_url: str) -> None:
    bodies = [to_bytes(document("order.updated", orderId=f"ord_{number}")) for number in range(30)]
    async with two_receivers(tmp_path, database_url) as (lab, stores):
        posts = (acknowledged(stores[number % 2], body) for number in (0, 1) for body in bodies * 2)
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {200}
        rows = await lab.rows(EVENT)
        assert sorted(bytes(row.body) for row in rows) == sorted(bodies)
        assert {row.repeats for row in rows} == {3}
        assert len({row.seq for row in rows}) == 30


async def test_one_commit_is_one_line_and_one_bell(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    bell = lab.hub.bells.listen("fan_out")
    with capture_logs() as lines:
        requests = (incoming(to_bytes(document(orderId=f"ord_{n % 20}"))) for n in range(25))
        await asyncio.gather(*(receiving.receive(one) for one in requests))
        await asyncio.wait_for(bell.wait(), PATIENCE)
        received = [line for line in lines if line["event"] == "event.received"]
    assert sum(line["count"] for line in received) == 25
    assert sum(line["repeats"] for line in received) == 5
    assert len(received) <= 2


async def test_the_secret_that_matched_and_the_allowed_headers_are_kept(tmp_path: Path, database_url: str) -> None:
    stores = {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET, NEW_SECRET]}}
    async with open_lab(tmp_path, database_url, stores=stores) as lab:
        receiving = Receiving(lab.hub)
        more: dict[str, Any] = {
            "x_litekart_delivery_id": b"d-1",
            "cookie": b"session",
            "user_agent": b"shop \xff" + b"x" * 500,
        }
        for number, secret in enumerate((SECRET, NEW_SECRET)):
            await receiving.receive(incoming(to_bytes(document(orderId=f"ord_{number}")), secret, **more))
        first, second = await lab.rows(EVENT)
        assert first.secret != second.secret
        assert {first.secret, second.secret} == {key.fingerprint for key in lab.hub.keys["main"]}
        assert set(first.headers) == {"x-litekart-signature", "x-litekart-delivery-id", "user-agent"}
        assert len(first.headers["user-agent"]) <= 256


async def test_a_repeat_with_other_content_is_kept_beside_its_event(lab: Lab) -> None:
    """An order is placed once by nature: a second placing with another total is a repeat, but not the same."""
    receiving = Receiving(lab.hub)
    first = await receiving.receive(incoming(to_bytes(document(orderId="ord_1", total=5))))
    stamped = document(orderId="ord_1", total=5, timestamp="2026-11-23T13:00:00Z")
    assert (await receiving.receive(incoming(to_bytes(stamped)))).duplicate
    other = to_bytes(document(orderId="ord_1", total=7))
    assert await receiving.receive(incoming(other)) == type(first)(first.id, True)
    row = await lab.row(REPEAT)
    assert (row.event_id, bytes(row.body)) == (first.id, other)
    event = await lab.row(EVENT)
    assert (event.repeats, bytes(event.body)) == (2, to_bytes(document(orderId="ord_1", total=5)))


async def test_a_repeat_can_be_let_in_once_as_an_event_of_its_own(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    first = await receiving.receive(incoming(to_bytes(document(orderId="ord_1", total=5))))
    await receiving.receive(incoming(to_bytes(document(orderId="ord_1", total=7))))
    repeat = await lab.row(REPEAT)
    let_in = await accept_repeat(lab.hub, repeat.id)
    assert (let_in.duplicate, let_in.id == first.id) == (False, False)
    assert await accept_repeat(lab.hub, repeat.id) == type(first)(let_in.id, True)
    await lab.fan_out()
    assert len(await lab.rows(DELIVERY)) == 2
    with pytest.raises(CommandError, match="rpt_0: there is no such repeat"):
        await accept_repeat(lab.hub, "rpt_0")


async def test_an_id_of_its_own_tells_repeats(tmp_path: Path, database_url: str) -> None:
    stores = {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET], "event_id_field": "webhookId"}}
    async with open_lab(tmp_path, database_url, stores=stores) as lab:
        receiving = Receiving(lab.hub)
        for number, total in (("w1", 1), ("w1", 2), ("w2", 1)):
            event = document("order.updated", orderId="ord_1", total=total) | {"webhookId": number}
            await receiving.receive(incoming(to_bytes(event)))
        assert [row.repeats for row in await lab.rows(EVENT)] == [1, 0]


async def test_each_store_has_its_own_events(tmp_path: Path, database_url: str) -> None:
    secrets = {"main": SECRET, "other": NEW_SECRET}
    stores = {name: {"url": "http://shop.test", "webhook_secrets": [secret]} for name, secret in secrets.items()}
    async with open_lab(tmp_path, database_url, stores=stores) as lab:
        receiving = Receiving(lab.hub)
        body = to_bytes(document(orderId="ord_1"))
        for name, secret in secrets.items():
            assert not (await receiving.receive(incoming(body, secret, store=name))).duplicate
        assert {row.store for row in await lab.rows(EVENT)} == {"main", "other"}


async def test_signed_refusals_are_written_before_the_answer(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    body = b'{"event":"order.placed","data":{},"timestamp":"never"}'
    refusal = await refused(receiving, incoming(body, cookie=b"session"))
    assert (refusal.status, type(refusal)) == (422, NotAnEvent)
    row = await lab.row(REFUSED)
    assert (row.signed, row.store, row.status, bytes(row.body), row.cut) == (True, "main", 422, body, False)
    assert (row.remote, set(row.headers)) == ("192.0.2.7", {"x-litekart-signature"})
    assert row.details == [{"field": "timestamp", "message": "must be a time such as 2024-01-15T10:30:00Z"}]


async def test_unsigned_refusals_are_written_once_a_second_by_the_app(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FLUSH_EVERY == 1
    flushed, go_on = Receiving.flush, asyncio.Event()

    async def flush(receiving: Receiving) -> None:
        await go_on.wait()
        await flushed(receiving)

    monkeypatch.setattr(Receiving, "flush", flush)
    async with open_lab(tmp_path, database_url) as lab, served(lab.hub) as url, store_at(url) as store:
        assert (await store.send_wrongly_signed("order.placed")).status_code == 401
        assert await lab.rows(REFUSED) == []
        go_on.set()
        await eventually(lambda: lab.rows(REFUSED))
        row = await lab.row(REFUSED)
        assert (row.signed, row.status, bytes(row.body)) == (False, 401, store.posted[0].body)
        assert "x-litekart-signature" in row.headers


async def test_what_is_not_written_yet_is_written_when_the_app_stops(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        async with served(lab.hub) as url, store_at(url) as store:
            for _ in range(3):
                await store.send_wrongly_signed("order.placed")
        assert len(await lab.rows(REFUSED)) == 3


async def test_unsigned_ones_have_a_ring_and_leave_the_signed_ones_alone(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    await refused(receiving, incoming(b"[]"))
    most = RING[False]
    for number in range(most + 30):
        await refused(receiving, incoming(b"%d" % number, "a secret of somebody else"))
    await receiving.flush()
    unsigned = await lab.rows(REFUSED, REFUSED.c.signed.is_(False))
    assert {bytes(row.body) for row in unsigned} == {b"%d" % number for number in range(30, most + 30)}
    for number in range(20):
        await refused(receiving, incoming(b"more %d" % number, "a secret of somebody else"))
    await receiving.flush()
    unsigned = await lab.rows(REFUSED, REFUSED.c.signed.is_(False))
    assert len(unsigned) == most
    assert len([row for row in unsigned if bytes(row.body).startswith(b"more")]) == 20
    assert len(await lab.rows(REFUSED, REFUSED.c.signed)) == 1


async def test_signed_ones_have_a_ring(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    most = RING[True]
    assert (RING[False], most) == (500, 1_000)
    await refused(receiving, incoming(b"the first"))

    async def sent(number: int) -> Refusal:
        """As a store does, again after a 503: which too much work in the writer is answered with."""
        while True:
            try:
                return await refused(receiving, incoming(b"%d" % number))
            except Unavailable:
                await asyncio.sleep(0.01)

    for first in range(0, most, 100):
        await asyncio.gather(*(sent(number) for number in range(first, first + 100)))
    bodies = {bytes(row.body) for row in await lab.rows(REFUSED)}
    assert len(bodies) == most
    assert b"the first" not in bodies


async def test_refusals_are_counted_by_the_hour_also_those_that_fell_out(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    for number in range(5):
        await refused(receiving, incoming(b"%d" % number, "a secret of somebody else"))
        await refused(receiving, incoming(b"{}", store=f"store-{number}"))
    await refused(receiving, incoming(b"[]"))
    await receiving.flush()
    await refused(receiving, incoming(b"[]"))
    await receiving.flush()
    counts = {(row.name, row.label): row._mapping["count"] for row in await lab.rows(STAT)}
    assert counts == {("main", "AUTHENTICATION_ERROR"): 5, ("?", "NOT_FOUND"): 5, ("main", "VALIDATION_ERROR"): 2}


async def test_a_refusals_body_is_kept_up_to_64_kib(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    for size in (65_536, 65_537, 1_000_000):
        await refused(receiving, incoming(b"x" * size))
        await refused(receiving, incoming(b"y" * size, "a secret of somebody else"))
    await receiving.flush()
    found = sorted((len(row.body), row.cut, row.signed) for row in await lab.rows(REFUSED))
    assert found == sorted((65_536, cut, signed) for cut in (False, True, True) for signed in (False, True))


async def test_while_storage_is_away_unsigned_refusals_wait_and_are_written_once(tmp_path: Path) -> None:
    """On SQLite, whose commits run in a thread that a test can hold."""
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as lab:
        await refusals_wait(lab, Receiving(lab.hub))


async def refusals_wait(lab: Lab, receiving: Receiving) -> None:
    for number in range(3):
        await refused(receiving, incoming(b"%d" % number, "a secret of somebody else"))

    begun, go_on = threading.Event(), threading.Event()

    def under_way(connection: Connection, now: datetime, items: Sequence[None]) -> Sequence[None]:
        begun.set()
        assert go_on.wait(PATIENCE)
        return items

    def away(connection: Connection, now: datetime, items: Sequence[None]) -> Sequence[None]:
        raise Unavailable("away")

    lab.hub.writer.submit(under_way, None)
    await eventually(begun.is_set)
    shares_the_next_commit = lab.hub.writer.submit(away, None)
    flushing = asyncio.create_task(receiving.flush())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go_on.set()
    await flushing
    assert isinstance(shares_the_next_commit.exception(), Unavailable)
    assert await lab.rows(REFUSED) == []
    await receiving.flush()
    await receiving.flush()
    assert len(await lab.rows(REFUSED)) == 3
    assert [row._mapping["count"] for row in await lab.rows(STAT)] == [3]


async def refuse_one(folder: Path, url: str, request: Incoming) -> str:
    """The id of a refusal of a hub that knows only the first secret."""
    async with open_lab(folder, url) as lab:
        receiving = Receiving(lab.hub)
        await refused(receiving, request)
        await receiving.flush()
        found: str = (await lab.row(REFUSED)).id
        return found


async def test_one_whose_secret_was_missing_can_be_let_in_later(tmp_path: Path, database_url: str) -> None:
    body = to_bytes(document(orderId="ord_1"))
    refused_id = await refuse_one(tmp_path, database_url, incoming(body, NEW_SECRET))
    async with open_lab(tmp_path, database_url) as lab:
        with pytest.raises(CommandError, match=f"{refused_id}: still refused: the signature is missing or wrong"):
            await accept_refused(lab.hub, refused_id)
    stores = {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET, NEW_SECRET]}}
    async with open_lab(tmp_path, database_url, stores=stores) as lab:
        kept = await accept_refused(lab.hub, refused_id)
        assert not kept.duplicate
        event = await lab.row(EVENT)
        assert (event.id, bytes(event.body), event.secret) == (kept.id, body, lab.hub.keys["main"][1].fingerprint)
        assert (await lab.row(REFUSED)).event_id == kept.id
        assert await accept_refused(lab.hub, refused_id) == type(kept)(kept.id, True)


async def test_one_for_a_store_that_was_not_configured(tmp_path: Path, database_url: str) -> None:
    refused_id = await refuse_one(
        tmp_path, database_url, incoming(to_bytes(document(orderId="ord_1")), NEW_SECRET, store="other")
    )
    stores = {"other": {"url": "http://shop.test", "webhook_secrets": [NEW_SECRET]}}
    async with open_lab(tmp_path, database_url, stores=stores) as lab:
        assert (await accept_refused(lab.hub, refused_id)).id == (await lab.row(EVENT)).id


async def test_accepting_says_what_is_still_wrong(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        receiving = Receiving(lab.hub)
        await refused(receiving, incoming(b'{"event":"order.placed","timestamp":"2026-11-23T12:00:00Z"}'))
        no_event = (await lab.row(REFUSED)).id
        with pytest.raises(CommandError, match="still refused: the JSON is not an event; data: must be an object"):
            await accept_refused(lab.hub, no_event)
        with pytest.raises(CommandError, match="ref_0: there is no such refusal"):
            await accept_refused(lab.hub, "ref_0")


async def test_accepting_a_cut_or_unread_one_says_so(tmp_path: Path, database_url: str) -> None:
    cut = await refuse_one(tmp_path, database_url, incoming(b"x" * 70_000))
    async with open_lab(tmp_path, database_url) as lab:
        with pytest.raises(CommandError, match=f"{cut}: only its first 64 KiB were kept"):
            await accept_refused(lab.hub, cut)
        async with served(lab.hub) as url, store_at(url) as store:
            assert (await store.post(b"{}", headers={"Content-Encoding": "gzip"})).status_code == 415
        unread = await lab.row(REFUSED, REFUSED.c.signed.is_(False))
        with pytest.raises(CommandError, match=f"{unread.id}: its body was not read"):
            await accept_refused(lab.hub, unread.id)


async def test_a_wrong_signature_costs_no_commit(lab: Lab) -> None:
    with pytest.raises(NotAuthenticated):
        await Receiving(lab.hub).receive(incoming(b"{}", "a secret of somebody else"))
    assert (await lab.rows(REFUSED), await lab.rows(STAT)) == ([], [])


async def test_an_event_that_the_database_refuses_is_a_signed_refusal(tmp_path: Path, shared_url: str) -> None:
    """U+FFFF in an entity is no control character, yet no database's text either, as the hub has it."""
    async with open_lab(tmp_path, shared_url) as lab:
        receiving = Receiving(lab.hub)
        bodies = [to_bytes(document(orderId=value)) for value in ("ord_1", "ord_\uffff", "ord_2")]
        results = await asyncio.gather(*(receiving.receive(incoming(body)) for body in bodies), return_exceptions=True)
        assert [isinstance(result, Refusal) for result in results] == [False, True, False]
        assert (await lab.row(REFUSED)).status == 422
        assert len(await lab.rows(EVENT)) == 2


async def test_received_at_is_the_hubs_time(lab: Lab) -> None:
    lab.later(3_600)
    await Receiving(lab.hub).receive(incoming(to_bytes(document(orderId="ord_1"))))
    assert abs((await lab.row(EVENT)).received_at - lab.hub.now()) < timedelta(seconds=30)


async def test_refused_requests_keep_no_header_names_of_any_length_and_no_long_store(
    tmp_path: Path, database_url: str
) -> None:
    """In memory as on disk: unsigned ones wait there by the hundred."""
    names = {b"x-litekart-" + b"a" * (64 - 11): True, b"x-litekart-" + b"a" * (65 - 11): False, b"x-litekart-b": True}
    async with open_lab(tmp_path, database_url) as lab:
        receiving = Receiving(lab.hub)
        headers = [*((name, b"1") for name in names), (b"x-litekart-c" * 100_000, b"1")]
        await refused(receiving, Incoming("s" * 100_000, b"{}", headers, "192.0.2.7"))
        waits = receiving._unsigned[0]
        assert (len(waits.store), sorted(waits.headers)) == (
            200,
            sorted(n.decode() for n, kept in names.items() if kept),
        )
        await receiving.flush()
        row = await lab.row(REFUSED)
        assert (row.store, row.headers) == ("s" * 200, waits.headers)


async def test_listing_refused_requests_loads_neither_bodies_nor_headers(lab: Lab) -> None:
    receiving = Receiving(lab.hub)
    for size in (5, 70_000):
        await refused(receiving, incoming(b"x" * size))
    rows = await lab.hub.database.read(lambda connection: list_refused(connection, 10))
    assert [(row.size, row.cut) for row in rows] == [(65_536, True), (5, False)]
    assert not {"body", "headers"} & set(rows[0]._mapping)
