"""The disk floor: below it webhooks are answered 503 before anything is written, and all goes on when space is back."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from hub.connector import Receipt
from hub.store import DELIVERY, EVENT, REFUSED
from hub.testing.samples import StoreDouble, to_bytes
from hub.worker import running
from tests import hubdb, hubs
from tests.hubdb import config_of, document, open_lab, route, served, store_at
from tests.hubs import command, hub_process, write_config
from tests.servers import eventually

shared_url, database_url = hubdb.shared_url, hubdb.database_url
TOO_MUCH = {"disk": {"min_free": "9999999TiB"}}
FLOOR = 8 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounting.returncode:
        pytest.skip(f"no file system can be mounted here: {mounting.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("disk", [{"min_free": "9999999TiB", "min_free_percent": 0}, {"min_free_percent": 99.999}])
async def test_below_the_floor_nothing_is_kept_and_all_else_goes_on(tmp_path: Path, disk: dict[str, Any]) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    async with open_lab(tmp_path, url) as before:
        (row,) = await before.deliver_events(document(orderId="ord_0"))
    async with (
        open_lab(tmp_path, url, disk={"min_free": "0B"} | disk) as lab,
        served(lab.hub) as at,
        store_at(at) as store,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        answer = await store.send("order.placed")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "UNAVAILABLE"
        ready = await client.get(f"{at}/readyz")
        assert ready.status_code == 503
        assert "nearly full" in ready.json()["reason"]
        assert (await client.get(f"{at}/healthz")).status_code == 200
        assert len(await lab.rows(EVENT)) == 1
        # What is no event is refused as ever, and what was kept before is delivered.
        unsigned = await client.post(f"{at}/webhooks/main", content=to_bytes(document(orderId="ord_1")))
        assert unsigned.status_code == 401
        await eventually(lambda: lab.rows(REFUSED))
        assert await lab.finish(await lab.claim_one(), Receipt("done")) == "delivered"
        assert (await lab.row(DELIVERY)).id == row.id


async def test_below_the_floor_somebody_is_told_while_webhooks_are_refused(tmp_path: Path) -> None:
    """Before the disk is full: the alert itself still finds room, and is delivered."""
    routes = {"one": route(), "chat": route(events=["none"])}
    url = f"sqlite:///{tmp_path}/hub.db"
    async with (
        open_lab(tmp_path, url, routes, alerts=["chat"], **TOO_MUCH) as lab,
        served(lab.hub) as at,
        store_at(at) as store,
        running(lab.hub),
    ):
        assert (await store.send("order.placed")).status_code == 503
        await eventually(lambda: lab.rows(DELIVERY, DELIVERY.c.route == "chat", DELIVERY.c.status == "delivered"))
        alert = await lab.row(EVENT)
        assert alert.type == "hub.disk.low"
        assert orjson.loads(alert.body)["data"]["text"].startswith(f"The disk of {tmp_path}/hub.db is nearly full: ")


async def test_on_postgresql_this_machines_disk_is_not_asked(tmp_path: Path, shared_url: str) -> None:
    async with (
        open_lab(tmp_path, shared_url, **TOO_MUCH) as lab,
        served(lab.hub) as at,
        store_at(at) as store,
    ):
        assert (await store.send("order.placed")).status_code == 200
        assert lab.hub.disk_low is None


async def test_status_says_how_much_is_free_and_what_to_do(tmp_path: Path) -> None:
    config = write_config(tmp_path, hubs.config_of({}, disk={"min_free": "9999999TiB"}))
    code, found, _ = await command(config, "status", "--json")
    assert (code, found["status"]) == (1, "degraded")
    (reason,) = [one for one in found["reasons"] if "nearly full" in one]
    assert "MiB" in reason
    assert "make room there, or lower these" in reason
    assert reason.endswith("webhooks are answered 503 until that ends")


async def test_on_a_full_disk_receiving_ends_and_begins_again_by_itself(small_disk: Path) -> None:
    """A hub as a process on a file system of its own, which something else fills and empties again."""
    ballast = small_disk / "ballast"
    config = write_config(small_disk, hubs.config_of({}, disk={"min_free": "8MiB", "min_free_percent": 0}))
    async with (
        hub_process(config, "up") as hub,
        StoreDouble(f"{hub.url}/webhooks/main", hubs.SECRET) as store,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        assert (await store.send("order.placed")).status_code == 200
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - FLOOR + 2**20))
        await hub.said("disk.low")
        refused = await store.send("order.placed")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        ballast.unlink()
        await hub.said("disk.enough")
        assert (await store.send("order.placed")).status_code == 200
        assert (await client.get(f"{hub.url}/readyz")).status_code == 200


async def test_with_room_again_receiving_begins_by_itself(tmp_path: Path) -> None:
    """The same where no file system can be mounted: it is the floor that falls."""
    url = f"sqlite:///{tmp_path}/hub.db"
    async with open_lab(tmp_path, url, **TOO_MUCH) as lab, served(lab.hub) as at, store_at(at) as store:
        assert (await store.send("order.placed")).status_code == 503
        lab.hub.config = config_of(tmp_path, url, {"one": route()})
        await eventually(lambda: lab.hub.disk_low is None)
        assert (await store.send("order.placed")).status_code == 200
