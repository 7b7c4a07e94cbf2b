"""A day of ops on a hub in its own process, in a real Chromium: log in, understand, replay, stop, pause; a viewer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from hub.testing import Answer, HttpSink, StoreDouble
from hub.web.passwords import hash_password
from tests.dashboard.test_browser import CHROMIUM, PATIENCE, chromium, tab
from tests.hubs import SECRET, HubProcess, config_of, hub_process, route, write_config
from tests.servers import eventually
from tests.whole import at_length

__all__ = ["chromium"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; CI installs it")
PASSWORD = "a password of some length"
MANY = 500
WAIT = PATIENCE * 3


@asynccontextmanager
async def running_hub(folder: Path, sink: HttpSink) -> AsyncIterator[tuple[str, StoreDouble]]:
    """A hub with an operator and a viewer; the dashboard's URL, and a store that posts to it."""
    users = [{"name": name, "role": role, "password": hash_password(PASSWORD)} for name, role in
             (("asha", "operator"), ("ravi", "viewer"))]  # fmt: skip
    config = write_config(folder, config_of({"erp": route(sink.url)}, dashboard={"port": 0, "users": users}))
    async with hub_process(config, "up") as hub:
        url = await dashboard_of(hub)
        async with StoreDouble(f"{hub.url}/webhooks/main", SECRET) as store:
            yield url, store


async def dashboard_of(hub: HubProcess) -> str:
    return str((await hub.said("dashboard.listening"))["url"])


async def logged_in(chromium: Browser, url: str, name: str) -> tuple[Page, list[str]]:
    page, wrong = await tab(chromium)
    page.set_default_timeout(WAIT)
    await page.goto(url)
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview", timeout=WAIT)
    return page, wrong


async def test_an_order_that_failed_is_understood_replayed_and_seen_delivered(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        HttpSink(default=Answer(422, b"no tax rate for this country")) as sink,
        running_hub(tmp_path, sink) as (url, store),
    ):
        page, wrong = await logged_in(chromium, url, "asha")
        await store.send("order.placed", orderNo=1042)
        await sink.wait(1)
        sink.default = Answer(200, b"sales order S00042")
        await page.get_by_label("Find an event").fill("1042")
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name="order.placed").click()
        await expect(page.get_by_text("no tax rate for this country").first).to_be_visible(timeout=WAIT)
        here = page.url
        await page.get_by_role("link", name="Replay …").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Replay", timeout=WAIT)
        assert len(sink.received) == 1
        await page.get_by_role("button", name="Replay", exact=True).click()
        await expect(page.get_by_text("The replay has begun.")).to_be_visible(timeout=WAIT)
        await page.goto(here)
        await expect(page.locator(".badge", has_text="delivered").first).to_be_visible(timeout=WAIT)
        first, second = await sink.wait(2)
        assert first.key == second.key
        assert wrong == []


@at_length
async def test_five_hundred_dead_ones_are_replayed_and_stopped_half_way(chromium: Browser, tmp_path: Path) -> None:
    async with HttpSink(default=Answer(422, b"no")) as sink, running_hub(tmp_path, sink) as (url, store):
        for number in range(MANY):
            assert (await store.send("order.placed", orderNo=number)).status_code == 200
        await sink.wait(MANY, 120)
        sink.default = Answer()
        page, wrong = await logged_in(chromium, url, "asha")
        await eventually(lambda: dead_are(page, url, MANY), 60)
        await page.goto(f"{url}/deliveries?status=dead&route=erp")
        await page.get_by_role("button", name="Replay all …").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Replay {MANY} deliveries?", timeout=WAIT)
        assert len(sink.received) == MANY
        await page.get_by_label("Pace").fill("20")
        await page.get_by_role("button", name=f"Replay {MANY} deliveries").click()
        await expect(page.get_by_text(f"{MANY} of {MANY} set going")).to_be_visible(timeout=WAIT)
        # It goes on by itself: deliveries arrive, and the page says so.
        await expect(page.locator(".chip.delivered")).to_be_visible(timeout=WAIT)
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator(".flash", has_text="It was stopped.")).to_be_visible(timeout=WAIT)
        sent = len(sink.received) - MANY
        assert 0 < sent < MANY
        await eventually(lambda: settled(page, url, sink), 60)
        await page.goto(f"{url}/audit")
        await expect(page.get_by_text("replay.stop").first).to_be_visible(timeout=WAIT)
        assert wrong == []


async def dead_are(page: Page, url: str, count: int) -> bool:
    await page.goto(f"{url}/routes/erp")
    return f"{count} dead" in " ".join((await page.inner_text("main")).split())


async def settled(page: Page, url: str, sink: HttpSink) -> bool:
    """What was sent is delivered, all else is dead as before, and nothing waits."""
    delivered = len(sink.received) - MANY
    await page.goto(f"{url}/routes/erp")
    told = " ".join((await page.inner_text("main")).split())
    return f"{MANY - delivered} dead" in told and "0 pending" in told


async def test_a_route_is_paused_and_resumed_and_a_viewer_can_do_none_of_it(chromium: Browser, tmp_path: Path) -> None:
    async with HttpSink() as sink, running_hub(tmp_path, sink) as (url, store):
        page, wrong = await logged_in(chromium, url, "asha")
        await page.goto(f"{url}/routes/erp")
        await page.get_by_label("Reason").fill("stocktaking")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_text("by asha: stocktaking")).to_be_visible(timeout=WAIT)
        await store.send("order.placed")
        viewer, wrong_there = await logged_in(chromium, url, "ravi")
        await eventually(lambda: waits(viewer, url), 60)
        for path in ("/", "/routes/erp", "/deliveries?status=paused", "/events", "/refused"):
            await viewer.goto(f"{url}{path}")
            buttons = [await one.inner_text() for one in await viewer.locator("main button").all()]
            assert set(buttons) <= {"Filter", "Find", "Live"}, path
        for path in ("/routes/erp/resume", "/deliveries/cancel", "/replays"):
            answer: dict[str, Any] = await viewer.evaluate(POST, path)
            assert answer["status"] == 403, path
        assert len(sink.received) == 0
        await page.get_by_role("button", name="Resume").click()
        await sink.wait(1, 60)
        assert (wrong, [one for one in wrong_there if "403" not in one]) == ([], [])


async def waits(page: Page, url: str) -> bool:
    await page.goto(f"{url}/deliveries?status=paused")
    return await page.locator("tbody tr").count() == 1


POST = """async (path) => {
  const answer = await fetch(path, {method: "POST", body: new URLSearchParams({who: "ravi"}), redirect: "manual"});
  return {status: answer.status};
}"""
