"""The hour's counts say what really happened: they are written with what they count."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, NotNow, Rejected, Skip, TryAgain
from hub.replay import cancel_deliveries, start_replay
from hub.store import STAT
from hub.store.claims import settle_gone
from hub.store.meant import Filter
from hub.store.stats import CARRIED, Total, add_counts, hour_of, hourly, totals
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
    counts: Counter[tuple[str, str]] = Counter()
    for one in found:
        counts[one.name, one.label] += one.count if one.kind == kind else 0
    # A test may go past the hour.
    return dict(+counts)


async def test_attempts_are_counted_by_what_became_of_them(lab: Lab) -> None:
    await lab.orders(len(RESULTS))
    claims = (await lab.claim()).claims
    for one, result in zip(claims, RESULTS, strict=True):
        await lab.finish(one, result)
    # One whose commit's answer was lost is told twice and counted once; one that comes late is late.
    await lab.finish(claims[0], RESULTS[0])
    names = {"delivered": 2, "try_again": 1, "dead": 1, "skipped": 1, "held": 1, "not_now": 1}
    assert await counted(lab, "delivery") == {("one", name): count for name, count in names.items()}
    spent = {row.label: row._mapping["count"] for row in await lab.rows(STAT, STAT.c.kind == "attempt_ms")}
    assert spent == {"sum": 7 * len(RESULTS), "count": len(RESULTS)}


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


async def test_attempts_without_an_end_are_counted_as_lost_until_they_are_dead(lab: Lab) -> None:
    await lab.order()
    await lab.claim(worker="first")
    for worker in ("second", "third"):
        lab.later(60)
        await lab.claim_one(worker=worker, alone=worker == "third")
    assert await counted(lab, "delivery") == {("one", "lost"): 2}
    lab.later(60)
    await lab.claim_none(worker="fourth")
    assert await counted(lab, "delivery") == {("one", "lost"): 2, ("one", "dead"): 1}


async def test_an_attempt_lost_on_a_route_that_is_gone_is_counted(lab: Lab) -> None:
    await lab.order()
    await lab.claim(worker="first")
    lab.later(60)
    await lab.alive()
    await lab.write(lambda connection: settle_gone(connection, lab.hub.now(), lab.hub.worker_id, []))
    assert await counted(lab, "delivery") == {("one", "lost"): 1}


async def test_what_is_too_old_is_counted_as_skipped(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(max_age="1m")}) as lab:
        await lab.orders(2)
        lab.later(61)
        await lab.claim_none()
        assert await counted(lab, "delivery") == {("one", "skipped"): 2}


async def test_what_is_cancelled_is_counted_once_also_while_it_is_under_way(lab: Lab) -> None:
    rows = await lab.orders(4)
    claims = {one.delivery.id: one for one in (await lab.claim(limit=3)).claims}
    under_way = [row for row in rows if row.id in claims]
    (waiting,) = (row for row in rows if row.id not in claims)
    assert len(await cancel_deliveries(lab.hub, "asha", [row.id for row in rows])) == 4
    assert await counted(lab, "delivery") == {("one", "skipped"): 1}
    await lab.finish(claims[under_way[0].id], Receipt("done"))
    await lab.finish(claims[under_way[1].id], TryAgain("HTTP 500"))
    lab.later(60)
    await lab.claim_none(worker="other")
    assert await cancel_deliveries(lab.hub, "asha", [waiting.id]) == []
    assert await counted(lab, "delivery") == {("one", "delivered"): 1, ("one", "skipped"): 3}


async def test_what_goes_another_way_since_its_route_is_gone_is_counted(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"old": route()}) as lab:
        await lab.orders(3)
        await lab.claim("old", limit=1)
    async with open_lab(tmp_path, database_url) as lab:
        await start_replay(lab.hub, "asha", Filter(route="old", status="gone"), to_route="one")
        assert await counted(lab, "delivery") == {("old", "skipped"): 2}


async def test_totals_hold_what_was_carried_and_the_hours_do_not(lab: Lab) -> None:
    hour = hour_of(lab.hub.now())
    counts = {
        (CARRIED, "event", "main", "order.placed"): 40,
        (hour - timedelta(days=400), "event", "main", "order.placed"): 1,
        (hour, "event", "main", "order.placed"): 1,
        (hour, "refused", "main", "NOT_FOUND"): 5,
    }
    await lab.write(lambda connection: add_counts(connection, counts))
    found = await lab.hub.database.read(totals)
    assert found == [Total("event", "main", "order.placed", 42), Total("refused", "main", "NOT_FOUND", 5)]
    told = await lab.hub.database.read(lambda connection: hourly(connection, CARRIED))
    assert [(one.hour, one.count) for one in told] == [(hour - timedelta(days=400), 1), (hour, 1)]
