"""Asking a double: in this process and in one of its own, by the same handle; its records, its data, its reset."""

import asyncio
import signal
import sys
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.testing import HttpSink
from hub.testing.store import API_KEY, STORE_ID, StoreApi, StoreHandle, StoreSettings, Travel
from hub.testing.store.faults import KINDS
from hub.testing.store.happenings import HAPPENINGS
from hub.valkey import bound_to_parent
from tests.check.test_imports import ROOT, imported, modules
from tests.servers import free_port
from tests.store_double.callers import V2, calling, got


async def test_every_call_is_recorded() -> None:
    """Method, path, query, body, who, status, when; the control surface leaves no trace and needs no key."""
    async with StoreApi(orders=2, customers=1) as store, calling(store) as client, calling(store, None) as nobody:
        before = datetime.now(UTC) - timedelta(seconds=1)
        first, second = await store.rows("orders")
        await client.get("/api/orders?limit=1&sort=created_at:desc")
        await client.patch(f"/api/orders/{first['id']}", json={"status": "shipped"})
        await client.patch(f"/api/orders/{second['id']}", content=b"not JSON")
        await nobody.get("/api/orders")
        read, written, broken, refused = await store.calls()
        assert (read.method, read.path, read.query) == ("GET", "/api/orders", {"limit": "1", "sort": "created_at:desc"})
        assert (written.body, written.who, written.status) == ({"status": "shipped"}, "key main", 200)
        assert (broken.body, broken.status) == ("not JSON", 400)
        assert (refused.who, refused.status) == ("nobody", 401)
        assert before <= read.at <= written.at <= datetime.now(UTC)
        assert API_KEY not in repr(await store.calls())
        assert await store.calls_to("PATCH", f"/api/orders/{first['id']}") == [written]
        assert await store.calls_to("PATCH", "/api/orders/*") == [written, broken]
        assert await store.calls(since=broken.number) == [refused]


async def test_the_seed_gives_the_data() -> None:
    """The same for the same number, another for another, in both profiles."""

    async def names(**settings: Any) -> list[object]:
        async with StoreApi(**settings) as store:
            people = [(row["first_name"], row["last_name"]) for row in await store.rows("customers")]
            orders = [(row["order_no"], row["total"], row["status"]) for row in await store.rows("orders")]
            return [people, orders]

    assert await names(seed=7) == await names(seed=7) == await names(seed=7, profile="v2")
    assert await names(seed=7) != await names(seed=8)


async def test_reset_and_configure() -> None:
    async with StoreApi(orders=3, seed=4) as store, calling(store) as client:
        before = await store.rows("orders")
        await store.cancel(before[0]["id"])
        await store.fail(times=None)
        await store.configure(limit=1)
        await client.get("/api/orders")
        await store.reset()
        assert await store.calls() == []
        after = await store.rows("orders")
        assert [row["status"] for row in after] == [row["status"] for row in before]
        assert (await client.get("/api/orders")).headers["x-ratelimit-limit"] == "1000"
        for wrong in ({"nonsense": 1}, {"profile": "v2"}):
            with pytest.raises(RuntimeError):
                await store.configure(**wrong)
        with pytest.raises(RuntimeError, match="there is no explode"):
            await store.happen("explode")
        with pytest.raises(RuntimeError, match="no such verb"):
            await store.ask("_shop")


def test_it_shares_no_code_with_what_is_tested_against_it() -> None:
    """Of the hub it uses the clock, the names of the events and the signature of its samples, and nothing else."""
    reached = {
        target.rpartition(".")[0]
        for name, tree in modules("hub/testing/store")
        for target in imported(tree)
        if target.startswith("hub.") and not target.startswith("hub.testing.store")
    }
    assert reached == {"hub.clock", "hub.event", "hub.testing.samples"}


def test_the_docs_name_what_there_is() -> None:
    """Every setting, fault and happening stands in docs/store-double.md."""
    guide = (ROOT / "docs" / "store-double.md").read_text()
    names = [one.name for kind in (StoreSettings, Travel) for one in fields(kind)]
    assert [name for name in (*names, *KINDS, *HAPPENINGS) if f"`{name}`" not in guide] == []


async def started(*options: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-P", "-m", "hub.cli", "store-double", *options]
    return await asyncio.create_subprocess_exec(
        *bound_to_parent(command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )  # fmt: skip


async def test_the_command_runs_one_alone() -> None:
    """`hub store-double`: it says where it listens, is asked by the handle, and ends on SIGTERM with 0.

    Where its port is taken it says so.
    """
    async with HttpSink() as sink:
        taken = await started("--port", str(sink.port))
        process = await started(
            "--port", str(free_port()), "--profile", "v2", "--webhooks", f"{sink.url}/webhooks/main", "--secret", "s"
        )
        assert process.stdout is not None
        said = (await asyncio.wait_for(process.stdout.readuntil(b"Ctrl-C"), 60)).decode()
        assert {API_KEY, STORE_ID} <= set(said.split())
        assert "signed with the secret: s\n" in said
        async with StoreHandle(said.split("/api/")[0].split()[-1]) as store, calling(store, API_KEY, V2) as client:
            order = await store.place_order()
            assert sink.received[0].json()["data"]["orderId"] == order["id"]
            assert (await got(client, f"/api/orders/{order['id']}"))["orderNo"] == order["order_no"]
            assert [call.status for call in await store.calls_to("GET", "/api/orders/*")] == [200]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        _, complaint = await asyncio.wait_for(taken.communicate(), 60)
        assert taken.returncode == 1
        assert f"port {sink.port} cannot be used" in complaint.decode()
