"""Stores on the overview: it says of them what `hub status` says, and as soon."""

import re
from pathlib import Path
from typing import Any

from tests import hubdb
from tests.dashboard.served import Page, looking
from tests.hubdb import Lab
from tests.operations import ask
from tests.test_catch_up import caught_up, found

shared_url, database_url = hubdb.shared_url, hubdb.database_url
CALM = "Nothing. What comes in is delivered"
NOT_POLLED = "store main could not be polled since"


async def overview(lab: Lab) -> tuple[Page, dict[str, Any]]:
    """The page, on which every note and every reason of a store stands, and what `hub status` has."""
    status = await ask(lab, "status")
    async with looking(lab.hub) as asha:
        page = await asha.get("/")
    for sentence in (*status["notes"], *status["store_trouble"]):
        shown = re.sub(r"(\d\d:\d\d:\d\d)Z", r"\1 UTC", sentence.replace("`", ""))
        assert shown.casefold() in page.text.casefold()
    return page, status


def part(page: Page, heading: str, until: str) -> str:
    return page.text.partition(f" {heading} ")[2].partition(f" {until} ")[0]


async def test_the_overview_says_of_a_store_what_status_says(tmp_path: Path, database_url: str) -> None:
    async with caught_up(tmp_path, database_url) as (lab, store):
        await lab.alive()
        assert await found(lab) == {}
        page, status = await overview(lab)
        assert (status["notes"], CALM in page.text) == ([], True)
        assert page.text.count("0 missing in 24 h") == 2
        await store.place_order()
        assert await found(lab) == {"order.placed": 1}
        page, _ = await overview(lab)
        assert page.text.count("1 missing in 24 h and found by polling") == 2

        await store.configure(api_key="another-key")
        await ask(lab, "catch_up.now")
        page, status = await overview(lab)
        (note,) = status["notes"]
        assert note.startswith(NOT_POLLED)
        assert note.endswith(
            "api_key is the right one; it is tried again by itself, and at once by `hub catch-up main`"
        )
        assert (status["status"], CALM in page.text) == ("ok", False)
        assert NOT_POLLED in part(page, "Needs someone", "dead")
        lab.later(91 * 60)
        page, status = await overview(lab)
        assert (status["notes"], [one[:36] for one in status["store_trouble"]]) == ([], [NOT_POLLED])


async def test_what_waits_for_the_next_hour_needs_nobody(tmp_path: Path, database_url: str) -> None:
    async with caught_up(tmp_path, database_url) as (lab, store):
        await lab.alive()
        # A poll takes five, and the last one is the reserve.
        await store.configure(limit=7)
        assert await found(lab) == {}
        await ask(lab, "catch_up.now")
        page, status = await overview(lab)
        hour, unpolled = status["notes"]
        assert re.match(r"\d of the 7 requests an hour to store main are left until ", hour)
        assert unpolled.startswith(NOT_POLLED)
        assert unpolled.endswith("requests for this hour are used up; it is tried again by itself")
        assert CALM in page.text
        assert NOT_POLLED in part(page, "Goes on by itself", "dead").casefold()
