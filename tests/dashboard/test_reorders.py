"""`/reorders`: an order is approved, another dropped, a line closed, by who may; and the chart of stock."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub.connector import ReorderLine
from hub.reorders import KeptReorders, make_orders
from hub.store import REORDER_ORDER
from hub.web.pages import charts
from tests import hubdb
from tests.buyer import Buyer
from tests.dashboard.served import VIEWER, looking
from tests.hubdb import Lab, open_lab, route
from tests.test_reorders import deliver

shared_url, database_url = hubdb.shared_url, hubdb.database_url
ROUTES = {"buy": route(events=["none"]) | {"connector": "tests.buyer:Buyer", "settings": {"approval": True}}}
START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_bought() -> Iterator[None]:
    yield
    Buyer.bought.clear()


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """Two orders that wait for approval, of two lines and of one."""
    async with open_lab(tmp_path, database_url, ROUTES) as made:
        made.stand_still()
        reorders = KeptReorders(made.hub, "main", "buy", "")
        for sku, supplier in (("KET-1", "Acme"), ("KET-2", "Acme"), ("POT-1", "Verma")):
            await reorders.seen(sku, "", 4, 10)
            await reorders.open(ReorderLine(sku, "", f"The {sku}", supplier, 12, "stock 4 ≤ 10"))
        made.later(600)
        await make_orders(made.hub)
        assert await deliver(made) == ["held", "held"]
        yield made


async def test_one_is_approved_another_dropped_and_what_was_sent_is_closed(lab: Lab) -> None:
    acme, verma = sorted(await lab.rows(REORDER_ORDER), key=lambda row: row.supplier)
    async with looking(lab.hub) as browser:
        assert "2 orders wait for approval" in (await browser.get("/")).text
        page = await browser.get("/reorders")
        assert "Acme waiting" in page.text
        assert "approval: an order of 20" in page.text
        page = await browser.submit(page, f"/reorders/{acme.id}/approve")
        assert "Approved: the order goes now." in page.text
        page = await browser.submit(page, f"/reorders/{verma.id}/drop", why="too <b>dear</b>")
        assert "The order was dropped, and its lines are closed." in page.text
        assert "dropped by asha: too <b>dear</b>" in page.text
        assert "Waiting for approval" not in page.text
        assert await deliver(lab) == ["delivered"]
        assert list(Buyer.bought) == [acme.id]
        page = await browser.get("/reorders?sku=KET-1&state=sent")
        (line,) = [one for one in page.links() if one.startswith("/reorders/reo_")]
        page = await browser.get(line)
        assert f"as PO-{acme.id[-6:]}" in page.text
        assert "12 × KET-2 sent" in page.text
        assert "seen once" in page.text
        page = await browser.submit(page, f"{line}/close", why="received")
        assert "by asha: received" in page.text
        assert page.all("form", action=f"{line}/close") == []
        assert "waits for nobody; it was sent as PO-" in (await browser.post(f"/reorders/{acme.id}/approve", 409)).text


async def test_who_only_looks_changes_nothing(lab: Lab) -> None:
    acme, _ = sorted(await lab.rows(REORDER_ORDER), key=lambda row: row.supplier)
    async with looking(lab.hub, VIEWER) as browser:
        page = await browser.get("/reorders")
        assert [one for one in page.all("form") if one.get("method") == "post" and "reorders" in one["action"]] == []
        for verb in ("approve", "drop", "close"):
            await browser.post(f"/reorders/{acme.id}/{verb}", 403)
        await browser.get("/reorders/reo_none", 404)
        assert "must be" in (await browser.get("/reorders?state=lost", 422)).text
    assert await deliver(lab) == []


def test_a_chart_holds_each_number_until_the_next() -> None:
    def seen(hours: int, stock: int | None, threshold: int | None = None) -> SimpleNamespace:
        return SimpleNamespace(at=START + timedelta(hours=hours), stock=stock, threshold=threshold)

    chart = charts.stock_chart(
        [seen(0, 10), seen(5, 4, 5), seen(7, None), seen(10, -2, 5)], START + timedelta(hours=20)
    )
    assert chart is not None
    assert [point.stock for point in chart.points] == [10, 4, -2]
    # From x 36 to 716: a quarter of the time, a half, and the end; from 10 at the top (8) to 0 at the ground (126).
    assert chart.stock == "M36.0 8.0H206.0V78.8H376.0V126.0H716"
    assert chart.threshold == "M206.0 67.0H376.0V67.0H716"
    assert (chart.labels[0], chart.newest[0].stock) == ("11-01 00:00", -2)
    assert charts.stock_chart([seen(0, None)], START) is None
