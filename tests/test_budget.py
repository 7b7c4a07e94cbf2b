"""A store's hour as processes share it: to the last request, and never one more. No Redis has a part in it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row

from hub.config import Store, StoreRate
from hub.errors import Stopping
from hub.litekart import budget
from hub.litekart.budget import RateLimit, SharedBudget
from hub.store import STORE_BUDGET
from hub.web.api import OPERATIONS
from tests import hubdb
from tests.hubdb import Lab
from tests.servers import eventually
from tests.spender import counting_store, spend_everywhere

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
ROOT = Path(__file__).parents[1]
PROCESSES = 3
LIMIT = 90
OTHERS = 25


@asynccontextmanager
async def opened(lab: Lab, process: str = "a", **rate: Any) -> AsyncIterator[SharedBudget]:
    made = SharedBudget("main", StoreRate(**rate), lab.hub.writer, lab.hub.clock, process)
    try:
        yield made
    finally:
        await made.close()


async def row_of(lab: Lab) -> Row[Any]:
    return await lab.row(STORE_BUDGET)


async def spent_until_it_waits(spender: SharedBudget, who: str, *, background: bool = False) -> tuple[int, float]:
    """How many requests could go, and how long the next is to wait."""
    count = 0
    while not (wait := await spender.spend(who, background=background)):
        count += 1
    return count, wait


async def spend_in_processes(url: str, stores: list[str]) -> list[list[int]]:
    """What three processes sent to each of the stores, all at once."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.spender", url, *stores, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        for _ in range(PROCESSES)
    ]
    said = await asyncio.gather(*(process.communicate() for process in processes))
    return [[int(number) for number in out.split()] for out, _ in said]


async def spend_in_one(lab: Lab, stores: list[str]) -> list[list[int]]:
    """The same by three that share the one process which has the database."""
    parts = (spend_everywhere(lab.hub.writer, lab.hub.clock, f"part {number}", stores) for number in range(PROCESSES))
    return await asyncio.gather(*parts)


async def test_three_spend_to_the_last_request_and_none_is_refused(tmp_path: Path, database_url: str) -> None:
    """By the config there are a thousand: that there are fewer, and that others use the key too, the answers say."""
    async with (
        counting_store(LIMIT, PROCESSES) as alone,
        counting_store(LIMIT, PROCESSES, LIMIT // 3, OTHERS) as shared,
        hubdb.open_lab(tmp_path, database_url) as lab,
    ):
        urls = [alone.url, shared.url]
        in_processes = database_url.startswith("postgresql")
        sent = await (spend_in_processes(database_url, urls) if in_processes else spend_in_one(lab, urls))
        assert [sum(one) for one in zip(*sent, strict=True)] == [LIMIT, LIMIT - OTHERS]
        assert all(count for one in sent for count in one)
        for store, taken in ((alone, LIMIT), (shared, LIMIT - OTHERS)):
            assert (store.taken, store.refused) == (taken, 0)
            row = await lab.row(STORE_BUDGET, STORE_BUDGET.c.store == store.url)
            assert (row.allowed, row.remaining, row.held, row.told) == (LIMIT, 0, {}, True)
            assert (row.spent, row.ends_at) == ({"erp": taken}, store.resets_at + timedelta(seconds=1))


async def test_ten_cost_one_commit_and_what_is_not_used_comes_back(lab: Lab) -> None:
    async with opened(lab) as spender:
        for count in range(1, 12):
            assert await spender.spend("erp" if count % 2 else "slack", background=False) == 0
            row = await row_of(lab)
            assert (row.given, row.held["a"][0]) == ((10, 10) if count <= 10 else (20, 20))
        await spender.correct(RateLimit(1000, 950, lab.hub.now() + timedelta(minutes=9)))
        row = await row_of(lab)
        assert (row.given, row.remaining, row.spent) == (11, 950, {"erp": 6, "slack": 5})
    assert (await row_of(lab)).held == {}


async def test_what_a_process_leaves_unused_others_have_within_seconds(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "GIVE_BACK_AFTER", 0.02)
    async with opened(lab) as spender:
        await spender.spend("erp", background=False)

        async def given_back() -> bool:
            return bool((await row_of(lab)).given == 1)

        await eventually(given_back)
        assert (await row_of(lab)).spent == {"erp": 1}


async def test_deliveries_are_served_while_background_work_waits(lab: Lab) -> None:
    async with opened(lab, limit=50, reserve=20) as one, opened(lab, "b", limit=50, reserve=20) as two:
        counts = [await spent_until_it_waits(spender, "catch-up", background=True) for spender in (one, two)]
        assert sum(count for count, _ in counts) == 40
        assert [await two.spend("erp", background=False), await one.spend("erp", background=False)] == [0, 0]
        assert await one.spend("catch-up", background=True) > 0


async def test_the_hour_turns_and_who_waited_goes_on(lab: Lab) -> None:
    async with opened(lab, limit=5) as spender:
        reset = lab.hub.now() + timedelta(minutes=10)
        assert await spender.spend("erp", background=False) == 0
        await spender.correct(RateLimit(5, 4, reset))
        assert (await spent_until_it_waits(spender, "erp"))[0] == 4
        assert await spender.spend("erp", background=False) == 601
        lab.later(600)
        assert await spender.spend("erp", background=False) == 1
        lab.later(1)
        assert (await spent_until_it_waits(spender, "erp"))[0] == 5


async def test_a_refusal_stops_all_processes_until_the_reset(lab: Lab) -> None:
    async with opened(lab) as one, opened(lab, "b") as two:
        assert [await spender.spend("erp", background=False) for spender in (one, two)] == [0, 0]
        await one.correct(RateLimit(None, None, lab.hub.now() + timedelta(seconds=90), refused=True))
        assert await one.spend("erp", background=False) == 91
        # The other sends what it holds, and finds out.
        assert (await spent_until_it_waits(two, "erp"))[0] == 9
        lab.later(91)
        assert [await spender.spend("erp", background=False) for spender in (one, two)] == [0, 0]


async def test_a_process_that_dies_loses_its_block_and_no_more(lab: Lab) -> None:
    dead = SharedBudget("main", StoreRate(limit=100), lab.hub.writer, lab.hub.clock, "dead")
    await dead.spend("erp", background=False)
    assert dead._giving_back is not None
    dead._giving_back.cancel()
    async with opened(lab, limit=100) as spender:
        count, wait = await spent_until_it_waits(spender, "erp")
        assert (count, wait) == (90, 0.25)
        # By then it would have said something.
        lab.later(60)
        assert await spender.spend("erp", background=False) == pytest.approx(3600 + 1 - 60)


async def test_a_caller_that_is_cancelled_takes_nothing_with_it(lab: Lab) -> None:
    async with opened(lab) as spender:
        impatient = asyncio.create_task(spender.spend("erp", background=False))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        assert await spender.spend("erp", background=False) == 0
        assert (await row_of(lab)).given == 10
    row = await row_of(lab)
    assert (row.given, row.held, row.spent) == (1, {}, {"erp": 1})


async def test_who_asks_in_the_moment_a_report_ends_is_answered(lab: Lab) -> None:
    """The report asked for nothing, and was there still while it was over: whoever joined it asked on and on."""
    async with opened(lab) as spender:
        await spender.spend("erp", background=False)
        news = asyncio.create_task(spender.correct(RateLimit(1000, 900, lab.hub.now() + timedelta(minutes=9))))
        for _ in range(1_000_000):
            await asyncio.sleep(0)
            if spender._reporting is None or spender._reporting.done():
                break
        assert await spender.spend("erp", background=False) == 0
        await news


async def test_without_storage_nothing_is_sent_and_an_answer_harms_nobody(lab: Lab) -> None:
    async with opened(lab) as spender:
        await lab.hub.writer.close()
        with pytest.raises(Stopping):
            await spender.spend("erp", background=False)
        await spender.correct(RateLimit(None, None, None, refused=True))


async def test_what_is_left_and_who_spent_it_is_shown(lab: Lab) -> None:
    store = {
        "url": "http://shop.test",
        "webhook_secrets": [hubdb.SECRET],
        "api_key": "canary-key",
        "rate": {"limit": 20},
    }
    lab.hub.config.stores["main"] = Store.model_validate(store)
    assert (await OPERATIONS["stores"](lab.hub, {}))["stores"]["main"] == {
        "url": "http://shop.test", "profile": "seed", "api_key": True, "left": 20, "limit": 20, "reserve": 2,
        "resets_at": None, "spent": [],
    }  # fmt: skip
    async with opened(lab, limit=20) as spender:
        for who in ("erp", "catch-up", "erp"):
            await spender.spend(who, background=False)
    status = await OPERATIONS["status"](lab.hub, {})
    shown = status["stores"]["main"]
    assert (shown["left"], shown["spent"]) == (17, [{"who": "erp", "count": 2}, {"who": "catch-up", "count": 1}])
    assert (status["notes"], "canary-key" in str(status)) == ([], False)
    async with opened(lab, limit=20) as spender:
        await spent_until_it_waits(spender, "erp", background=True)
    (note,) = (await OPERATIONS["status"](lab.hub, {}))["notes"]
    assert note.startswith("2 of the 20 requests an hour to store main are left until ")
    lab.later(2 * 3600)
    assert (await OPERATIONS["status"](lab.hub, {}))["stores"]["main"]["left"] == 20
