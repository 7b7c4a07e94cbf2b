"""The pages in a real Chromium: nothing runs that should not, nothing is wider than the window, the script helps.

Where no Chromium is installed there is nothing to look with.
"""

import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from hub.connector import Receipt
from hub.errors import Rejected
from hub.web.pages import live
from tests.dashboard.looks import ENOUGH, FOLDS, Shown, open_tour, pages, too_wide, wear
from tests.dashboard.served import pages_of
from tests.hubdb import Lab, document, open_lab
from tests.whole import WHOLE, at_length

CHROMIUM = shutil.which("chromium")
PATIENCE = 30_000
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(live, "LOOK_EVERY", 0.1)
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        await made.alive()
        yield made


async def tab(chromium: Browser, **options: Any) -> tuple[Page, list[str]]:
    """A window, and what went wrong in it: scripts of others, refusals of the content policy, errors of ours."""
    context = await chromium.new_context(**options)
    page = await context.new_page()
    page.set_default_timeout(PATIENCE)
    return page, watched(page)


def watched(page: Page) -> list[str]:
    """What goes wrong in that window from now on."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    return wrong


@at_length
async def test_every_page_runs_nothing_and_fits(chromium: Browser, tmp_path: Path) -> None:
    """S18: full of strings that mean harm, wide and narrow, folded and unfolded."""
    async with open_tour(chromium, tmp_path) as tour:
        wrong = [watched(tab) for tab in tour.tabs.values()]
        hostile = {f"hostile {number}": Shown(f"/events/{one}") for number, one in enumerate(tour.scene.hostile)}
        wide = []
        for name, shown in (pages(tour.scene) | hostile).items():
            page = await tour.visit(shown)
            for look in ENOUGH if WHOLE else ENOUGH[1:]:
                await wear(page, look)
                for unfolded in (False, True):
                    await page.evaluate(FOLDS, unfolded)
                    wide += [(name, look.name, unfolded)] if await too_wide(page) else []
        assert wide == []
        assert [one for each in wrong for one in each if "the server responded with a status of 4" not in one] == []


async def test_the_list_goes_on_by_itself(chromium: Browser, lab: Lab) -> None:
    """A new event comes on top, its delivery's end shows in its row, and a click makes it stand still."""
    await lab.order()
    async with pages_of(lab.hub) as url:
        page, wrong = await tab(chromium)
        await page.goto(f"{url}/events")
        kept = await lab.keep(document(orderId="new", note="<img src=x onerror=alert(1)>"))
        row = page.locator(f"tr#{kept.id}")
        await expect(row).to_be_visible(timeout=PATIENCE)
        assert await page.locator("tbody tr").first.get_attribute("id") == kept.id
        await expect(page.locator("[data-live-said]")).to_have_text("1 new event")
        await lab.fan_out()
        for claimed in (await lab.claim()).claims:
            await lab.finish(claimed, Receipt("yes"))
        await expect(row.locator(".chip.delivered")).to_be_visible(timeout=PATIENCE)
        await page.get_by_role("button", name="Live").click()
        await expect(page.locator("[data-live-said]")).to_have_text("stands still")
        await lab.keep(document(orderId="unseen"))
        assert await page.locator("tbody tr").count() == 2
        await page.get_by_role("button", name="Live").click()
        await expect(page.locator("tbody tr")).to_have_count(3, timeout=PATIENCE)
        assert wrong == []


async def test_an_empty_list_fills(chromium: Browser, lab: Lab) -> None:
    async with pages_of(lab.hub) as url:
        page, _ = await tab(chromium)
        await page.goto(f"{url}/events")
        await expect(page.get_by_text("Nothing has come in yet")).to_be_visible()
        kept = await lab.keep(document(orderId="first"))
        await expect(page.locator(f"tr#{kept.id}")).to_be_visible(timeout=PATIENCE)
        await expect(page.get_by_text("Nothing has come in yet")).to_have_count(0)


async def test_an_order_is_found_replayed_and_seen_delivered(chromium: Browser, lab: Lab) -> None:
    """From the search to why it failed, the preview, the replay, and the page that goes on by itself."""
    (row,) = await lab.deliver_events(document(orderId="ord_1042", orderNo=1042))
    await lab.finish(await lab.claim_one(), Rejected("HTTP 422: no tax rate", status=422))
    async with pages_of(lab.hub) as url:
        page, wrong = await tab(chromium)
        await page.goto(url)
        await page.get_by_label("Find an event").fill("1042")
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name="order.placed").click()
        await expect(page.locator(f"#{row.id}")).to_contain_text("HTTP 422: no tax rate")
        await page.get_by_role("link", name="Replay …").click()
        await page.get_by_role("button", name="Replay", exact=True).click()
        await expect(page.get_by_text("The replay has begun.")).to_be_visible()
        await page.goto(f"{url}/events/{row.event_id}")
        await expect(page.locator(f"#{row.id} .badge")).to_have_text("pending")
        await lab.finish(await lab.claim_one(), Receipt("sales order S00042"))
        await expect(page.locator(f"#{row.id} .badge")).to_have_text("delivered", timeout=PATIENCE)
        await expect(page.locator(f"#{row.id}")).to_contain_text("sales order S00042")
        await expect(page.locator("[data-live-said]")).to_have_text("This page was brought up to date.")
        assert wrong == []


async def test_ticks_are_counted_and_all_can_be_ticked(chromium: Browser, lab: Lab) -> None:
    await lab.orders(3)
    while claims := (await lab.claim()).claims:
        for claimed in claims:
            await lab.finish(claimed, Rejected("no"))
    async with pages_of(lab.hub) as url:
        page, wrong = await tab(chromium)
        await page.goto(f"{url}/deliveries?status=dead")
        button = page.locator("button[name=action]")
        await expect(button).to_be_disabled()
        await page.get_by_label("Tick all on this page").check()
        await expect(button).to_have_text("Replay 3 …")
        await page.locator("tbody input").first.uncheck()
        await button.click()
        await expect(page.locator("h1")).to_have_text("Replay 2 deliveries?")
        await page.go_back()
        await expect(page.locator("button[name=action]")).to_have_text("Replay 2 …")
        assert wrong == []


async def test_times_are_the_viewers(chromium: Browser, lab: Lab) -> None:
    """In their zone with the script, in UTC and said so without it."""
    kept = await lab.keep(document(orderId="a", timestamp="2026-11-23T12:00:00Z"))
    async with pages_of(lab.hub) as url:
        page, _ = await tab(chromium, timezone_id="Asia/Kolkata", locale="en-GB")
        await page.goto(f"{url}/events/{kept.id}")
        happened = page.locator('time[datetime="2026-11-23T12:00:00Z"]')
        await expect(happened).to_have_text("23 Nov 17:30:00")
        assert await happened.get_attribute("title") == "2026-11-23 12:00:00 UTC"
        plain, _ = await tab(chromium, java_script_enabled=False)
        await plain.goto(f"{url}/events/{kept.id}")
        await expect(plain.locator("time").nth(1)).to_have_text("2026-11-23 12:00:00 UTC")


async def test_filters_take_times_in_the_viewers_zone(chromium: Browser, lab: Lab) -> None:
    """What is typed and shown is local, what is sent is UTC, so that an address means the same everywhere."""
    old = await lab.keep(document(orderId="old"))
    lab.later(7_200)
    new = await lab.keep(document(orderId="new"))
    between = lab.hub.now() - timedelta(hours=1)
    typed = f"{between.astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%d %H:%M}"
    async with pages_of(lab.hub) as url:
        page, wrong = await tab(chromium, timezone_id="Asia/Kolkata", locale="en-GB")
        await page.goto(f"{url}/events")
        assert "UTC" not in await page.locator("label[for=f-since]").inner_text()
        for name, found in (("From (your time)", new), ("To (your time)", old)):
            await page.goto(f"{url}/events?type=order.*")
            await page.get_by_label(name).fill(typed)
            await page.keyboard.press("Enter")
            await expect(page.locator("tbody tr")).to_have_count(1)
            assert await page.locator("tbody tr").get_attribute("id") == found.id
            await expect(page.get_by_label(name)).to_have_value(typed)
            assert parse_qs(urlsplit(page.url).query)["since" if found == new else "until"] == [
                f"{between:%Y-%m-%dT%H:%M}:00Z"
            ]
        address = page.url
        await page.get_by_label("To (").fill("1h")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("To (")).to_have_value("1h")
        plain, _ = await tab(chromium, timezone_id="Asia/Kolkata", java_script_enabled=False)
        await plain.goto(address)
        await expect(plain.get_by_label("To (UTC)")).to_have_value(f"{between:%Y-%m-%dT%H:%M}:00Z")
        await plain.get_by_label("To (UTC)").fill(f"{between:%Y-%m-%d %H:%M}")
        await plain.get_by_role("button", name="Filter").click()
        await expect(plain.locator("tbody tr")).to_have_count(1)
        assert await plain.locator("tbody tr").get_attribute("id") == old.id
        assert wrong == []


# In Berlin, where clocks change: what is in the address, what stands in the field or is typed there, what is sent on.
TIMES = {
    "in summer": ("2026-07-01T10:00:00Z", "2026-07-01 12:00", None),
    "in winter": ("2026-12-01T10:00:00Z", "2026-12-01 11:00", None),
    "to the second": ("2026-12-01T10:00:07.25Z", "2026-12-01 11:00:07", None),
    "the first of an hour that comes twice": ("2026-10-25T00:30:00Z", "2026-10-25 02:30", None),
    "the second of it": ("2026-10-25T01:30:00Z", "2026-10-25 02:30", None),
    "without its zone": ("2026-07-01T10:00", "2026-07-01 12:00", None),
    "a day": ("2026-07-01", "2026-07-01 02:00", None),
    "an age": ("2d", "2d", None),
    "another zone": ("2026-07-01T10:00:00+05:30", "2026-07-01T10:00:00+05:30", None),
    "typed in summer": ("", "2026-07-01 12:00", "2026-07-01T10:00:00Z"),
    "typed in winter": ("", "2026-12-01T11:00:07", "2026-12-01T10:00:07Z"),
    "typed as a day": ("", "2026-12-01", "2026-11-30T23:00:00Z"),
    "typed as an age": ("", "90m", "90m"),
    "typed in UTC": ("", "2026-12-01T11:00Z", "2026-12-01T11:00Z"),
    "no day at all": ("", "2026-02-31 10:00", "2026-02-31 10:00"),
    "no time at all": ("", "yesterday", "yesterday"),
}
SENT = "new FormData(document.querySelector('form.filters')).get('since')"


async def test_times_of_filters_where_clocks_change(chromium: Browser, lab: Lab) -> None:
    """What nobody touched is sent on as it was; what is typed is local, whatever the season."""
    found, wanted = {}, {}
    async with pages_of(lab.hub) as url:
        page, wrong = await tab(chromium, timezone_id="Europe/Berlin", locale="en-GB")
        for name, (given, shown, sent) in TIMES.items():
            await page.goto(f"{url}/events?{urlencode({'since': given})}")
            if sent is not None:
                await page.get_by_label("From (").fill(shown)
            found[name] = (await page.get_by_label("From (").input_value(), await page.evaluate(SENT))
            wanted[name] = (shown, given if sent is None else sent)
        assert wrong == []
    assert found == wanted


async def test_everything_works_without_the_script(chromium: Browser, lab: Lab) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), Rejected("no"))
    async with pages_of(lab.hub) as url:
        page, _ = await tab(chromium, java_script_enabled=False)
        await page.goto(f"{url}/deliveries?status=dead")
        await page.locator("tbody input").check()
        await page.get_by_role("button", name="Replay …", exact=True).click()
        await page.get_by_role("button", name="Replay 1 delivery").click()
        await expect(page.locator(".flash")).to_have_text("The replay has begun.")
        assert (await lab.delivery(row.id)).status == "pending"
        await page.goto(f"{url}/routes/one")
        await page.get_by_label("Reason").fill("lunch")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_text("by asha: lunch")).to_be_visible()
        assert (await lab.state()).paused_reason == "lunch"


async def test_the_keyboard_gets_everywhere(chromium: Browser, lab: Lab) -> None:
    """The skip link first, with a ring that is seen; then the content."""
    async with pages_of(lab.hub) as url:
        page, _ = await tab(chromium)
        await page.goto(f"{url}/events")
        await page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Live")).to_be_focused()
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "2px"
