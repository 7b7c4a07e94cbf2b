"""A burst of orders: none missing, none twice, at what rate and in how much memory, within the store's hour."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bench.processes import family, memory_mb
from tests.erp.merchant import ORDERS, Json, erp_route, open_merchant
from tests.erp.odoo import Odoo
from tests.hubs import hub_process
from tests.whole import WHOLE

COUNT = 1000 if WHOLE else 100
# One order costs a request or more: with these the store's hour, which is a shorter one here, is spent and comes again.
LIMIT, WINDOW = COUNT * 6 // 10, 60.0 if WHOLE else 15.0
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
            idle, began = memory_mb(family(hub.pid)), time.monotonic()
            await merchant.store.burst(COUNT)
            received = time.monotonic() - began
            await merchant.done(LONG)
            seconds, busy = time.monotonic() - began, memory_mb(family(hub.pid))
            sales, calls = await merchant.sales(), await merchant.store.calls()
            await merchant.assert_once()
            assert len(sales) == COUNT
            assert {one.status for one in calls} == {200}
            assert len(calls) > LIMIT, "the store's limit was not met"
        working = seconds - waited(sales)
        with capsys.disabled():
            print(
                f"\n{COUNT} orders received in {received:.1f} s and in Odoo after {seconds:.0f} s, {working:.0f} of these "
                f"at work: {COUNT / working:.1f} orders/s; {len(calls)} requests to the store, {LIMIT} in {WINDOW:.0f} "
                f"s allowed; hub's memory (PSS, RSS) {told(idle)} idle, {told(busy)} afterwards"
            )


def waited(sales: Sequence[Json]) -> float:
    """For how many seconds nothing was made because the store's hour was spent."""
    moments: list[datetime] = [one["made"] for one in sales]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    return sum((gap for gap in gaps if gap > PAUSE), timedelta()).total_seconds()


def told(megabytes: tuple[float, float]) -> str:
    return " and ".join(f"{one:.0f} MB" for one in megabytes)
