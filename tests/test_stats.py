"""The hour's counts say what really happened: they are written with what they count."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, NotNow, Rejected, Skip, TryAgain
from hub.store import STAT
from hub.store.stats import hour_of, hourly
from tests import hubdb
from tests.hubdb import Lab, document, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
RESULTS: list[Any] = [
    Receipt("done"), Receipt("done"), TryAgain("HTTP 500"), Rejected("no"), Skip("nothing"), Hold("wait"),
    NotNow("later", 9),
]  # fmt: skip


async def counted(lab: Lab, kind: str) -> dict[tuple[str, str], int]:
    since = hour_of(lab.hub.now()) - timedelta(hours=1)
    found = await lab.hub.database.read(lambda connection: hourly(connection, since))
    return {(one.name, one.label): one.count for one in found if one.kind == kind}


async def test_attempts_are_counted_by_what_became_of_them(lab: Lab) -> None:
    await lab.orders(len(RESULTS))
    claims = (await lab.claim()).claims
    for one, result in zip(claims, RESULTS, strict=True):
        await lab.finish(one, result)
    # One whose commit's answer was lost is told twice and counted once; one that comes late is late.
    await lab.finish(claims[0], RESULTS[0])
    names = {"delivered": 2, "try_again": 1, "dead": 1, "skipped": 1, "held": 1, "not_now": 1}
    assert await counted(lab, "delivery") == {("one", name): count for name, count in names.items()}
    spent = await lab.row(STAT, STAT.c.kind == "attempt_ms")
    assert spent._mapping["count"] == 7 * len(RESULTS)


async def test_a_route_that_is_stopped_counts_its_attempt(lab: Lab) -> None:
    await lab.order()
    await lab.finish(await lab.claim_one(), HoldRoute("wrong key"))
    assert sum((await counted(lab, "delivery")).values()) == 1


async def test_events_are_counted_once_by_store_and_type(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(when="data.total > 1")}) as lab:
        types = ["order.placed", "order.placed", "inventory.low"]
        for number, kind in enumerate(types):
            await lab.keep(document(kind, orderId=f"ord_{number}", total=0 if number else "no number"))
        await lab.keep(document(types[0], orderId="ord_0", total="no number"))
        await lab.fan_out()
        await lab.fan_out()
        assert await counted(lab, "event") == {("main", kind): count for kind, count in Counter(types).items()}
        # Dead without an attempt, since its condition is broken.
        assert await counted(lab, "delivery") == {("one", "dead"): 1}
