"""A request that was captured and is sent again has no effect: however often, however late, whatever its time says."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Receipt
from hub.keeping import Place, drop_old
from hub.store import DELIVERY, EVENT, REPEAT
from hub.testing.samples import sample, sign, to_bytes
from tests import hubdb
from tests.dashboard.served import looking
from tests.hubdb import NOON, SECRET, document, open_lab, route, served, store_at
from tests.security.wire import Answer, Client, request
from tests.servers import eventually

shared_url, database_url = hubdb.shared_url, hubdb.database_url

TIMES = 1_000
CONNECTIONS = 32
YEAR = 365 * 86_400.0


async def test_s04_a_thousand_at_once_are_one_event_and_one_delivery_a_route(tmp_path: Path, database_url: str) -> None:
    """S04: one signed body a thousand times on 32 connections: each is answered 200, one of them with a new event."""
    routes = {name: route() for name in ("one", "two", "three")}
    body = to_bytes(sample("order.updated"))
    signed = request([sign(body, SECRET).encode()], body)
    async with open_lab(tmp_path, database_url, routes) as lab, served(lab.hub) as url:

        async def send(times: int) -> list[Answer]:
            client = Client(url)

            async def taken() -> Answer | None:
                # As a store does, again where the hub says so, which a slow disk may bring about.
                answer = await client.ask(signed)
                return answer if answer.status != 503 else None

            answers = [await eventually(taken) for _ in range(times)]
            client.close()
            return [answer for answer in answers if answer is not None]

        shares = [len(range(TIMES)[number::CONNECTIONS]) for number in range(CONNECTIONS)]
        answers = [answer for part in await asyncio.gather(*map(send, shares)) for answer in part]
        assert Counter(answer.status for answer in answers) == {200: TIMES}
        data = [json.loads(answer.body)["data"] for answer in answers]
        event = await lab.row(EVENT)
        assert {one["id"] for one in data} == {event.id}
        assert Counter(one["duplicate"] for one in data) == {False: 1, True: TIMES - 1}
        assert (event.repeats, await lab.rows(REPEAT)) == (TIMES - 1, [])
        await lab.fan_out()
        assert sorted(row.route for row in await lab.rows(DELIVERY)) == ["one", "three", "two"]


# An event of each kind of key: known by its entity, by its time and bytes, by the id that the store gives.
KINDS: dict[str, dict[str, Any]] = {
    "by its entity": document("order.placed", orderId="ord_1"),
    "by its time and bytes": document("inventory.low", sku="KET-1", stock=2),
    "by an id of its own": document("order.updated", orderId="ord_1") | {"id": "whd_1"},
}


@pytest.mark.parametrize("event", KINDS.values(), ids=KINDS)
async def test_s05_after_the_body_was_dropped_it_is_still_known(
    tmp_path: Path, database_url: str, event: dict[str, Any]
) -> None:
    """S05: five years later, its body gone, a captured request is a repeat: no event, no delivery, nothing due."""
    stores = {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET], "event_id_field": "id"}}
    async with (
        open_lab(tmp_path, database_url, stores=stores) as lab,
        served(lab.hub) as url,
        store_at(url) as store,
    ):
        first = (await store.post(to_bytes(event))).json()["data"]
        await lab.fan_out()
        await lab.finish(await lab.claim_one(), Receipt("done"))
        lab.later(5 * YEAR)
        assert await drop_old(lab.hub, Place()) == 1
        assert (await lab.row(EVENT)).body is None
        again = (await store.post(to_bytes(event))).json()["data"]
        assert again == {"id": first["id"], "duplicate": True}
        await lab.fan_out()
        await lab.claim_none()
        assert ((await lab.row(EVENT)).repeats, len(await lab.rows(DELIVERY))) == (1, 1)


MOMENTS: dict[Any, int] = {
    NOON: 200,
    # Signed long ago, or ahead of time: keys are for ever, so there is no age at which a captured one works again.
    "1970-01-01T00:00:00Z": 200, "1969-12-31T23:59:59Z": 200, "0001-01-01T00:00:00Z": 200, "2036-11-23T12:00:00Z": 200,
    "9999-12-31T23:59:59.999999Z": 200, "2026-11-23T12:00:00+23:59": 200, "2026-11-23T12:00:00": 200,
    "2026-11-23": 200, "20261123T120000Z": 200, "2026-W48-1": 200,
    # What no clock of ours can tell in UTC.
    "0001-01-01T00:00:00+14:00": 422, "9999-12-31T23:59:59-14:00": 422,
    # No times.
    "2026-02-30T12:00:00Z": 422, "2026-11-23T25:00:00Z": 422, "2026-11-23T12:00:60Z": 422, "10000-01-01T00:00:00Z": 422,
    "-0001-01-01T00:00:00Z": 422, "0000-01-01T00:00:00Z": 422, "yesterday": 422, "": 422, " ": 422, "NaN": 422,
    "1763899200": 422, "２０２６-11-23T12:00:00Z": 422, "2026-11-23T12:00:00Z\0": 422, "2026-11-23T12:00:00+99:99": 422,
    "9" * 100_000: 422, 1763899200: 422, -1: 422, 1e400: 400, 10**30: 422, True: 422, None: 422, (): 422,
}  # fmt: skip


async def test_s06_any_signed_time_is_kept_or_refused_in_words(tmp_path: Path, database_url: str) -> None:
    """S06: times before the hub, years ahead, and what is no time at all: 200 or 422, and each page can show it."""
    async with open_lab(tmp_path, database_url) as lab, served(lab.hub) as url, store_at(url) as store:
        found = {}
        for number, moment in enumerate(MOMENTS):
            body = to_bytes(document("x.y", id=str(number)) | {"timestamp": moment})
            answer = await store.post(body)
            found[moment] = answer.status_code
            if answer.status_code == 422:
                assert [one["field"] for one in answer.json()["error"]["details"]] == ["timestamp"]
        assert found == MOMENTS
        await lab.fan_out()
        kept = await lab.rows(EVENT)
        assert len(kept) == list(MOMENTS.values()).count(200)
        async with looking(lab.hub) as browser:
            listed = await browser.get("/events")
            for row in kept:
                assert row.id in listed.source
                await browser.get(f"/events/{row.id}")
