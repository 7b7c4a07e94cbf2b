"""What the double does to calls on demand: each kind of fault as its caller sees it, and what the store kept of it."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from hub.testing.store import API_KEY, StoreApi
from tests.servers import eventually
from tests.store_double.callers import V2, calling, got


@pytest.mark.parametrize("kind", ["drop", "lost"])
async def test_a_cut_connection_before_and_after_the_work(kind: Any) -> None:
    """`drop` loses the request, `lost` only the answer: the write has been done."""
    async with StoreApi(orders=1) as store, calling(store) as client:
        order = (await store.rows("orders"))[0]
        path = f"/api/orders/{order['id']}"
        await store.fail("PATCH", "/api/orders/*", kind=kind)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.patch(path, json={"comment": "seen"})
        (call,) = await store.calls_to("PATCH", path)
        assert (call.status, call.fault, call.body) == (None, kind, {"comment": "seen"})
        assert (await store.row("orders", order["id"]))["comment"] == ("seen" if kind == "lost" else None)
        assert (await client.patch(path, json={"comment": "again"})).status_code == 200


async def test_answers_that_are_no_answers() -> None:
    async with StoreApi(orders=1) as store, calling(store) as client:
        await store.fail(kind="html", status=200)
        page = await client.get("/api/orders")
        assert page.headers["content-type"].startswith("text/html")
        await store.fail(kind="error_in_200")
        wrong = await client.get("/api/orders")
        assert (wrong.status_code, wrong.json()["success"]) == (200, False)
        await store.fail(kind="truncated")
        with pytest.raises(json.JSONDecodeError):
            (await client.get("/api/orders")).json()
        await store.fail(kind="cut")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/orders")
        await store.fail(kind="huge", size=3_000_000)
        assert len((await client.get("/api/orders")).content) == 3_000_000
        await store.fail(kind="endless")
        read = 0
        async with client.stream("GET", "/api/orders") as response:
            async for piece in response.aiter_raw():
                read += len(piece)
                if read > 1_000_000:
                    break
        await store.fail(kind="hang")
        with pytest.raises(httpx.TimeoutException):
            await client.get("/api/orders", timeout=0.1)


async def test_answers_with_odd_values() -> None:
    """The same rows, with nulls, numbers as text, statuses that nobody knows."""
    async with StoreApi(orders=1) as store, calling(store) as client:
        right = (await got(client, "/api/orders"))["data"][0]
        await store.fail(kind="nulls")
        nulls = (await got(client, "/api/orders"))["data"][0]
        assert (nulls["id"], nulls["total"], nulls["status"]) == (right["id"], None, None)
        await store.fail(kind="strings")
        strings = (await got(client, "/api/orders"))["data"][0]
        assert strings["total"] == str(right["total"])
        await store.fail(kind="enums")
        enums = (await got(client, "/api/orders"))["data"][0]
        assert enums["status"] not in {right["status"], None}


async def test_rules_name_calls_times_and_answers() -> None:
    """Method and path may hold `*`; after its times a rule is over; `times=None` lasts until `heal`."""
    async with StoreApi(profile="v2", orders=1) as store, calling(store, API_KEY, V2) as client:
        await store.fail(
            "GET", "/api/admin/orders*", times=2, status=503, headers={"Retry-After": "7"}, body={"odd": 1}
        )
        assert (await client.get("/api/admin/products")).status_code == 200
        answers = [await client.get("/api/admin/orders") for _ in range(3)]
        assert [one.status_code for one in answers] == [503, 503, 200]
        assert (answers[0].headers["retry-after"], answers[0].json()) == ("7", {"odd": 1})
        await store.fail(status=429, times=None)
        assert [(await client.get("/api/admin/orders")).status_code for _ in range(3)] == [429] * 3
        assert (await client.get("/api/admin/orders")).json() == {"error": "Too many requests"}
        await store.heal()
        assert (await client.get("/api/admin/orders")).status_code == 200
        await store.fail("GET", "*", kind="slow", wait=0.2)
        with pytest.raises(httpx.TimeoutException):
            await client.get("/api/admin/orders", timeout=0.05)
        with pytest.raises(RuntimeError, match="there is no fault nonsense"):
            await store.ask("fail", kind="nonsense")


async def test_a_double_with_callers_that_hang_stops(caplog: pytest.LogCaptureFixture) -> None:
    """It lets go of them by itself: its server has nobody to cancel."""
    async with AsyncExitStack() as callers:
        async with StoreApi(orders=1) as store:
            client = await callers.enter_async_context(calling(store))
            await store.fail(kind="hang", times=1)
            await store.fail(kind="endless", times=1)
            hanging = asyncio.create_task(client.get("/api/orders"))
            await eventually(store.calls)
            unread = await callers.enter_async_context(client.stream("GET", "/api/orders"))
            assert unread.status_code == 200
        with pytest.raises(httpx.TransportError):
            await hanging
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
