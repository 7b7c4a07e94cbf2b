"""A burst of orders: none missing, none twice, at what rate and in how much memory, within the store's hour."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from hub.testing.store import API_KEY
from tests.bench.processes import family, memory_mb
from tests.erp.merchant import ORDERS, Json, erp_route, open_merchant
from tests.erp.odoo import Odoo
from tests.hubs import hub_process
from tests.whole import WHOLE

COUNT = 1000 if WHOLE else 60
# The store's hour, which is a shorter one here. Somebody else has used up most of the first by the same key.
LIMIT, WINDOW = COUNT * 6 // 10, 60.0 if WHOLE else 20.0
OTHERS = COUNT // 2
SPENT = "the store's requests for this hour are used up"
LONG = 1800.0
# A longer pause between two orders is the store's hour that was spent.
PAUSE = timedelta(seconds=3)


async def test_orders_by_the_thousand_arrive_once_each_within_the_stores_budget(
    tmp_path: Path, odoo: Odoo, capsys: pytest.CaptureFixture[str]
) -> None:
    await odoo.fresh()
    async with open_merchant(tmp_path, odoo, seed=15, limit=LIMIT, window=WINDOW) as merchant:
        everything = [*ORDERS, "product.*", "customer.*"]
        config = merchant.configure({"erp": erp_route(odoo.url, odoo.key, events=everything)})
        async with hub_process(config, "up") as hub:
            await merchant.tells()
            await use_up(merchant.store.url)
            idle, began = memory_mb(family(hub.pid)), time.monotonic()
            await merchant.store.burst(COUNT)
            received = time.monotonic() - began
            await merchant.done(LONG)
            seconds, busy = time.monotonic() - began, memory_mb(family(hub.pid))
            sales, calls = await merchant.sales(), await merchant.store.calls()
            await merchant.assert_once()
            assert len(sales) == COUNT
            assert {one.status for one in calls} == {200}
            assert any(SPENT in one["reason"] for one in hub.lines if one.get("outcome") == "not_now")
        working = seconds - waited(sales)
        with capsys.disabled():
            print(
                f"\n{COUNT} orders received in {received:.1f} s and in Odoo after {seconds:.0f} s, {working:.0f} "
                f"of them at work: {COUNT / working:.1f} orders/s; {len(calls)} requests to the store ({OTHERS} of "
                f"others), {LIMIT} in {WINDOW:.0f} s allowed; "
                f"hub's memory (PSS, RSS) {told(idle)} idle, {told(busy)} afterwards"
            )


async def use_up(url: str) -> None:
    """What others take of the store's hour."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, headers={"Authorization": f"Bearer {API_KEY}"}) as http:
        for _ in range(OTHERS):
            (await http.get("/api/orders", params={"page_size": 1})).raise_for_status()


def waited(sales: Sequence[Json]) -> float:
    """For how many seconds nothing was made because the store's hour was spent."""
    moments: list[datetime] = [one["made"] for one in sales]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    return sum((gap for gap in gaps if gap > PAUSE), timedelta()).total_seconds()


def told(megabytes: tuple[float, float]) -> str:
    return " and ".join(f"{one:.0f} MB" for one in megabytes)
