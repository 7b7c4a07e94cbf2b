"""Live pages over real HTTP: rows as they come and change, one look for all, bounds, and the end at shutdown."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.connector import Receipt
from hub.errors import Rejected
from hub.replay import start_replay
from hub.store.meant import Filter
from hub.web.pages import live
from tests.dashboard.served import looking, pages_of
from tests.hubdb import Lab, document, open_lab

PATIENCE = 30.0


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """A hub at which streams look ten times as often; its queries are shown on both databases elsewhere."""
    monkeypatch.setattr(live, "LOOK_EVERY", 0.1)
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        yield made


@dataclass
class Watched:
    """What a stream has said so far."""

    said: list[tuple[str, Any]] = field(default_factory=list)
    comments: int = 0
    ended: bool = False
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, answer: httpx.Response) -> None:
        kind = ""
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                self.said.append((kind, json.loads(line.removeprefix("data: "))))
            self.came.set()
        self.ended = True
        self.came.set()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                self.came.clear()
                await self.came.wait()

    def rows(self) -> list[str]:
        """The ids of all rows that came, in their order."""
        return [row["html"].partition('id="')[2].partition('"')[0] for _, rows in self.said for row in rows]


@asynccontextmanager
async def watching(url: str, path: str) -> AsyncIterator[Watched]:
    watched = Watched()
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream("GET", url + path) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        reading = asyncio.create_task(watched.read(answer))
        try:
            await watched.until(lambda one: one.comments)
            yield watched
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def test_rows_come_and_change(lab: Lab) -> None:
    """The newest at first; then each new event, and an old one whenever its deliveries change; nothing else."""
    first = await lab.order()
    async with pages_of(lab.hub) as url, watching(url, "/events/live") as watched:
        await watched.until(lambda one: one.rows() == [first.event_id])
        second = await lab.keep(document(orderId="<b>", note="x"))
        await watched.until(lambda one: one.rows()[1:] == [second.id])
        await lab.finish(await lab.claim_one(), Receipt("yes"))
        await watched.until(lambda one: one.rows()[2:] == [first.event_id])
        assert "delivered" in watched.said[-1][1][0]["html"]
        assert "&lt;b&gt;" in watched.said[1][1][0]["html"]


async def test_only_what_the_filter_takes(lab: Lab) -> None:
    async with pages_of(lab.hub) as url, watching(url, "/events/live?type=product.*&store=main") as watched:
        await lab.keep(document(orderId="a"))
        product = await lab.keep(document("product.created", productId="a"))
        await watched.until(lambda one: one.rows())
        assert watched.rows() == [product.id]


async def test_one_look_for_all_who_watch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten streams share each look at the database, and when the last one goes nobody looks any more."""
    looks = 0
    look = live.Live._look

    async def counted(self: live.Live) -> None:
        nonlocal looks
        looks += 1
        await look(self)

    monkeypatch.setattr(live.Live, "_look", counted)
    await lab.order()
    async with pages_of(lab.hub) as url:
        started = time.monotonic()
        streams = [watching(url, "/events/live") for _ in range(10)]
        watched = [await one.__aenter__() for one in streams]
        for one in watched:
            await one.until(lambda each: each.rows())
        took = time.monotonic() - started
        assert looks <= took / live.LOOK_EVERY + 2
        for stream in streams:
            await stream.__aexit__(None, None, None)
        await quiet(lambda: looks)


async def quiet(count: Any) -> None:
    """Nothing is counted any more for two looks' time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            before = count()
            await asyncio.sleep(2.5 * live.LOOK_EVERY)
            if count() == before:
                return


async def test_so_many_and_no_more(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 1)
    async with pages_of(lab.hub) as url, watching(url, "/events/live"), httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/events/live")).status_code == 503
        assert (await client.get(f"{url}/events")).status_code == 200


async def test_a_quiet_stream_is_kept_alive_and_ends_by_itself(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "QUIET_AFTER", 0.05)
    monkeypatch.setattr(live, "LASTS", 2.0)
    async with pages_of(lab.hub) as url, watching(url, "/events/live") as watched:
        await watched.until(lambda one: one.comments >= 3)
        await watched.until(lambda one: one.ended)


async def test_streams_end_when_the_server_does(lab: Lab) -> None:
    """Well before uvicorn would cut them off: nothing holds the shutdown up."""
    async with asyncio.timeout(PATIENCE):
        async with pages_of(lab.hub) as url:
            streams = [watching(url, path) for path in ("/events/live", "/events/evt_x/live", "/events/live")]
            watched = [await one.__aenter__() for one in streams]
            stopped = time.monotonic()
        took = time.monotonic() - stopped
        for one in watched:
            await one.until(lambda each: each.ended)
        for stream in streams:
            await stream.__aexit__(None, None, None)
    assert took < 8


async def test_an_event_says_that_it_changed(lab: Lab) -> None:
    """Not before it does; and at once where it did since the page was made."""
    row = await lab.order()
    async with pages_of(lab.hub) as url, looking(lab.hub) as browser:
        page = await browser.get(f"/events/{row.event_id}")
        path = next(one["data-live-page"] for one in page.all("div") if "data-live-page" in one)
        async with watching(url, path) as watched:
            await lab.finish(await lab.claim_one(), Receipt("yes"))
            await watched.until(lambda one: one.said)
            assert watched.said == [("changed", row.event_id)]
        async with watching(url, path) as late:
            await late.until(lambda one: one.said)
        fresh = await browser.get(f"/events/{row.event_id}")
        same = next(one["data-live-page"] for one in fresh.all("div") if "data-live-page" in one)
        assert same != path


async def test_a_replay_says_how_far_it_is(lab: Lab) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), Rejected("no"))
    replay_id = await start_replay(lab.hub, "asha", Filter(ids=(row.id,)))
    async with pages_of(lab.hub) as url, looking(lab.hub) as browser:
        page = await browser.get(f"/replays/{replay_id}")
        path = next(one["data-live-page"] for one in page.all("div") if "data-live-page" in one)
        async with watching(url, path) as watched:
            await lab.finish(await lab.claim_one(), Receipt("yes"))
            await watched.until(lambda one: one.said)
        ended = await browser.get(f"/replays/{replay_id}")
        assert "1 delivered now" in ended.text
        assert not [one for one in ended.all("div") if "data-live-page" in one]


async def test_a_stream_outlives_trouble_with_the_database(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that fail are said in the log; when it is back the stream goes on."""
    read, away = lab.hub.database.read, True

    async def unsure(work: Any) -> Any:
        if away:
            raise OSError("away")
        return await read(work)

    async with pages_of(lab.hub) as url, watching(url, "/events/live") as watched:
        monkeypatch.setattr(lab.hub.database, "read", unsure)
        kept = await lab.keep(document(orderId="a"))
        await asyncio.sleep(1.5 * live.LOOK_EVERY)
        away = False
        await watched.until(lambda one: kept.id in one.rows())
