"""Reorders: of a SKU at a location one is open; one supplier's become one order; a person has the last word.

Everything on SQLite and PostgreSQL; where two processes matter, two hubs share one database.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Row

from hub.alerts import raise_alerts
from hub.connector import REORDER_DUE, Rejected, Reorders
from hub.deliver import attempt, context_of, event_of
from hub.errors import CommandError, NotAnEvent
from hub.keeping import Place, drop_old
from hub.reorders import KeptReorders, make_orders
from hub.replay import cancel_deliveries, start_replay
from hub.store import DELIVERY, EVENT, EVENT_KEY, REORDER, REORDER_ORDER, STOCK_SEEN
from hub.store.meant import Filter
from hub.testing.reorders import MemoryReorders
from hub.testing.samples import event_of as event_of_sample
from hub.testing.samples import sample
from hub.worker import running
from tests import hubdb
from tests.buyer import Buyer, line_of
from tests.hubdb import MORNING, SECRET, Lab, document, open_lab, route
from tests.operations import ask
from tests.servers import eventually

shared_url, database_url = hubdb.shared_url, hubdb.database_url
WINDOW = 600
ROUTES = {"buy": route(events=["inventory.*"]) | {"connector": "tests.buyer:Buyer"}, "all": route()}


@pytest.fixture(autouse=True)
def nothing_bought() -> Iterator[None]:
    yield
    Buyer.bought.clear()


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """A hub whose route `buy` buys; its clock stands still."""
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["all"]) as made:
        made.stand_still()
        yield made


async def low(lab: Lab, *skus: str, route: str = "buy", **more: Any) -> None:
    """An event of each SKU, delivered along that route one after the other; then a second goes by."""
    for sku in skus:
        number = lab.made = lab.made + 1
        await lab.keep(document("inventory.low", sku=sku, productId=f"prod_{sku}", number=number, **more))
        await lab.fan_out()
        await deliver(lab, route)
    lab.later(1)


async def deliver(lab: Lab, name: str = "buy") -> list[str]:
    """All that is due on a route, tried once at the same time; the statuses."""
    statuses: list[str] = []
    while claims := (await lab.claim(name)).claims:
        statuses += await asyncio.gather(*(attempt(lab.hub, lab.line(name), one) for one in claims))
    return statuses


async def due(lab: Lab) -> list[Row[Any]]:
    """The windows end: the deliveries of `hub.reorder.due`."""
    lab.later(WINDOW)
    while await make_orders(lab.hub):
        pass
    ids = [row.id for row in await lab.rows(EVENT, EVENT.c.type == REORDER_DUE)]
    return await lab.rows(DELIVERY, DELIVERY.c.event_id.in_(ids))


async def states(lab: Lab) -> list[tuple[str, str | None]]:
    """Of each reorder its SKU, and why it was closed, if it was."""
    return [(row.sku, row.why) for row in await lab.rows(REORDER)]


def bought() -> list[list[str]]:
    return sorted(sorted(one) for orders in Buyer.bought.values() for one in orders)


async def test_a_burst_opens_one_line_of_each_and_one_order_of_each_supplier(tmp_path: Path, database_url: str) -> None:
    events = [
        document("inventory.low", sku=f"S{n}", supplier=f"Supplier {n % 3}", number=number)
        for number in range(5)
        for n in range(9)
    ]
    random.Random(7).shuffle(events)
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        lab.stand_still()
        await asyncio.gather(*(lab.keep(event) for event in events + events))
        await lab.fan_out()
        assert await deliver(lab) == ["delivered"] * 45
        assert sorted(await states(lab)) == [(f"S{n}", None) for n in range(9)]
        lab.later(WINDOW)
        # As two workers do, and one that looks twice.
        await asyncio.gather(*(make_orders(lab.hub) for _ in range(4)))
        assert await deliver(lab) == ["delivered"] * 3
        assert bought() == [[f"12 S{n}" for n in (first, first + 3, first + 6)] for first in range(3)]
        assert len(await lab.rows(EVENT, EVENT.c.type == REORDER_DUE)) == len(await lab.rows(REORDER_ORDER)) == 3


async def test_a_worker_makes_the_orders_by_itself(tmp_path: Path, database_url: str) -> None:
    soon = {"buy": ROUTES["buy"] | {"settings": {"window": "PT0.2S"}}}
    async with open_lab(tmp_path, database_url, soon) as lab:
        await lab.keep(document("inventory.low", sku="KET-1"))
        async with running(lab.hub):

            async def is_sent() -> bool:
                return [row.number is not None for row in await lab.rows(REORDER_ORDER)] == [True]

            await eventually(is_sent)
        assert bought() == [["12 KET-1"]]


async def test_an_order_is_an_event_of_its_store_along_the_route_that_opened_it_alone(lab: Lab) -> None:
    await low(lab, "KET-1")
    lab.later(WINDOW / 2)
    await low(lab, "KET-2")
    assert len({line.due_at for line in await lab.rows(REORDER)}) == 1
    (row,) = await due(lab)
    event = await lab.row(EVENT, EVENT.c.id == row.event_id)
    (order,) = await lab.rows(REORDER_ORDER)
    assert (event.store, event.origin, event.entity) == ("main", "hub", f"reorder:{order.id}")
    assert event.fanned_out_at is not None
    assert list(event.not_taken) == ["all"]
    assert (row.store, row.route, row.status, row.id) == ("main", "buy", "pending", order.delivery_id)
    data = orjson.loads(event.body)["data"]
    assert (data["supplier"], [one["sku"] for one in data["items"]]) == ("Acme", ["KET-1", "KET-2"])
    found = await lab.rows(EVENT_KEY, EVENT_KEY.c.event_id == event.id, EVENT_KEY.c.kind == "sku")
    assert {one.value for one in found} == {"KET-1", "KET-2"}
    (other,) = (await ask(lab, "explain", id=event.id))["not_taken"]
    assert other == {"route": "all", "reason": "an order goes only along the route that opened its lines"}
    assert await deliver(lab) == ["delivered"]
    assert bought() == [["12 KET-1", "12 KET-2"]]


async def told(lab: Lab) -> list[str]:
    """The alerts about reorders since this was last asked: what each says to do."""
    while await raise_alerts(lab.hub):
        pass
    before = vars(lab).setdefault("told", set())
    rows = [row for row in await lab.rows(EVENT, EVENT.c.store == "hub") if row.id not in before]
    before |= {row.id for row in rows}
    texts = [orjson.loads(row.body)["data"] for row in rows if row.type.startswith("hub.reorder.")]
    return sorted(f"{one['text']} {one['remedy']}" for one in texts)


async def test_stock_that_wobbles_is_one_and_low_again_after_it_rose_another(lab: Lab) -> None:
    for stock in (5, 4, 5, 4):
        await low(lab, "KET-1", stock=stock, threshold=10)
    assert await states(lab) == [("KET-1", None)]
    await due(lab)
    await deliver(lab)
    for stock in (4, 40, 4):
        await low(lab, "KET-1", stock=stock, threshold=10)
    assert await states(lab) == [("KET-1", "stock 40 > 10"), ("KET-1", None)]
    first, second = await lab.rows(REORDER)
    assert (first.closed_by, second.location) == ("route:buy", "")
    assert [row.stock for row in await lab.rows(STOCK_SEEN, STOCK_SEEN.c.location == "")] == [5, 4, 5, 4, 40, 4]
    lab.later(90 * 24 * 3600)
    await low(lab, "KET-1", stock=4, threshold=10)
    await drop_old(lab.hub, Place())
    assert len(await lab.rows(STOCK_SEEN)) == 1


async def test_places_are_ordered_for_by_themselves_and_the_only_place_is_all_of_them(lab: Lab) -> None:
    # A store whose inventory cannot be read for a while has one place, and the goods are the same.
    for location in ("wh_1", "wh_2", "", "wh_1"):
        await low(lab, "KET-1", location=location)
    assert [row.location for row in await lab.rows(REORDER)] == ["wh_1", "wh_2"]
    await low(lab, "KET-1", stock=40, threshold=10)
    assert await states(lab) == [("KET-1", None)] * 2
    for location in ("", "wh_1"):
        await low(lab, "CUP-1", location=location)
    assert [row.location for row in await lab.rows(REORDER, REORDER.c.sku == "CUP-1")] == [""]


async def test_what_is_just_being_sent_cannot_be_closed(lab: Lab) -> None:
    await low(lab, "KET-1")
    await due(lab)
    (claim,) = (await lab.claim("buy")).claims
    line = await lab.row(REORDER)
    with pytest.raises(CommandError, match="is being sent just now"):
        await ask(lab, "reorder.close", id=line.id, why="bought in town")
    assert await attempt(lab.hub, lab.line("buy"), claim) == "delivered"
    await ask(lab, "reorder.close", id=line.id, why="lost on the way")
    assert await states(lab) == [("KET-1", "lost on the way")]


async def test_what_waits_for_a_route_that_is_gone_is_closed_and_told(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await low(lab, "KET-1", "KET-2")
    async with open_lab(tmp_path, database_url, {"all": route(), "other": ROUTES["buy"]}, alerts=["all"]) as lab:
        lab.stand_still()
        lab.later(WINDOW + 3000)
        assert (await make_orders(lab.hub), await told(lab)) == (0, [])
        lab.later(700)
        (text,) = await told(lab)
        assert "2 reorders of route buy were closed: never sent, as that route is not in the config any more." in text
        assert {why for _, why in await states(lab)} == {"it was never sent: its route is not in the config any more"}
        lab.made = 2
        await low(lab, "KET-1", route="other")
        assert (await states(lab))[-1] == ("KET-1", None)


async def test_what_ended_half_way_is_gone_on_with(lab: Lab) -> None:
    await low(lab, "KET-1")
    (row,) = await due(lab)
    # The order is sent, and the process dies before it has said so: the connector is asked again, under the same key.
    one = await lab.claim_one("buy")
    lab.later(3600)
    await low(lab, "KET-1", "KET-2")
    assert await states(lab) == [("KET-1", None), ("KET-2", None)]
    assert one.delivery.id == row.id
    assert bought() == [["12 KET-1"]]
    # A replay finds that it was sent.
    await start_replay(lab.hub, "ana", Filter(ids=(row.id,)), as_new=True)
    assert await deliver(lab) == ["delivered"]
    assert bought() == [["12 KET-1"]]
    assert [one.note for one in await lab.attempts(row.id)][-1] == f"already sent: PO-{row.entity[-6:]}"
    # Restored from before its order was made, the lines become the same order, in the same delivery.
    await lab.write(lambda c: c.execute(REORDER.update().values(order_id=None, sent_at=None)))
    await lab.write(lambda c: c.execute(REORDER_ORDER.delete()))
    await lab.write(lambda c: c.execute(DELIVERY.delete().where(DELIVERY.c.id == row.id)))
    await lab.write(lambda c: c.execute(EVENT.delete().where(EVENT.c.id == row.event_id)))
    assert [(again.id, again.event_id) for again in await due(lab)] == [(row.id, row.event_id)]


async def test_another_route_finds_no_order_and_no_store_makes_one_up(lab: Lab) -> None:
    await low(lab, "KET-1")
    (row,) = await due(lab)
    buyer = context_of(lab.hub, lab.line("all"), row, 1, event_of((await lab.claim_one("buy")).delivery))
    with pytest.raises(Rejected, match="no order of this route"):
        await buyer.reorders.order()
    with pytest.raises(NotAnEvent):
        await lab.keep(document(REORDER_DUE, reorderId=row.entity))


async def test_an_order_is_judged_by_no_condition_of_its_route(tmp_path: Path, database_url: str) -> None:
    picky = {"buy": ROUTES["buy"] | {"with": ["product"], "when": "product.stock < 5 and data.sku == 'KET-1'"}}
    main = {"url": "http://shop.test", "webhook_secrets": [SECRET], "api_key": "a-key"}
    async with open_lab(tmp_path, database_url, picky, stores={"main": main}) as lab:
        lab.stand_still()
        reorders = KeptReorders(lab.hub, "main", "buy", "")
        with pytest.raises(ValueError, match="it must be 1 at least"):
            await reorders.open(line_of({"sku": "KET-1", "quantity": 0}))
        await reorders.open(line_of({"sku": "KET-1"}))
        await due(lab)
        assert await deliver(lab) == ["delivered"]


async def told_by(of: Callable[[str], Reorders], ended: Callable[[], Awaitable[list[str]]]) -> list[Any]:
    """What reorders say of the same happenings. `of` an event's id; `ended`: windows end, the due events' ids."""
    none = of("evt_other")
    facts: list[Any] = []
    ket = line_of({"sku": "KET-1", "price": "2.50", "stock": 4, "threshold": 10, "location": "wh_1"})
    for line in (ket, replace(ket, quantity=99), replace(ket, location="wh_2"), replace(ket, location="")):
        opened = await none.open(line)
        facts.append((opened.new, opened.quantity, opened.supplier, opened.location, opened.state, opened.more))
    await none.seen("KET-1", "", 4, 10)
    with pytest.raises(Rejected, match="no order"):
        await none.order()
    (event_id,) = await ended()
    mine = of(event_id)
    order = await mine.order()
    facts.append((order.supplier, order.currency, [line.location for line in order.lines], order.number))
    await mine.dropped_from([order.lines[1].id, "reo_none"], "stock has come")
    facts += [await mine.spend(Decimal("29.99")), await mine.spend(Decimal(30)), await mine.spend(Decimal(1))]
    facts += [dict(await mine.spent_today()), len((await mine.order()).lines)]
    await mine.sent("PO-1", "https://erp.test/1")
    order, current = await mine.order(), await none.current("KET-1", "wh_1")
    assert current is not None
    facts += [order.number, len(order.lines), current.state, current.number, current.url]
    assert await none.close("KET-1", "", "of another place") is None
    closed = await none.close("KET-1", "wh_1", "stock 40 > 10")
    assert closed is not None
    facts += [closed.state, closed.why, await none.close("KET-1", "wh_1", "again"), await none.current("KET-1", "wh_2")]
    return [*facts, (await none.open(ket)).new, (await mine.order()).number, len(await ended())]


async def test_reorders_in_memory_say_what_those_in_the_database_say(lab: Lab) -> None:
    memory = MemoryReorders()
    event = event_of_sample(sample("inventory.low"), "main")

    async def in_memory() -> list[str]:
        return [one.id for one in memory.due()]

    async def in_database() -> list[str]:
        before = {row.id for row in await lab.rows(EVENT)}
        await due(lab)
        return [row.id for row in await lab.rows(EVENT) if row.id not in before]

    kept = await told_by(lambda event_id: KeptReorders(lab.hub, "main", "buy", event_id), in_database)
    assert await told_by(lambda event_id: memory.of(replace(event, id=event_id)), in_memory) == kept
    assert kept[2][0] is True


APPROVAL = {"buy": ROUTES["buy"] | {"settings": {"approval": True}}, "all": route()}


@pytest.fixture
async def careful(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """The same, where a person approves each order; alerts go to `all`."""
    async with open_lab(tmp_path, database_url, APPROVAL, alerts=["all"]) as made:
        made.stand_still()
        yield made


async def test_a_held_order_is_told_once_and_once_more_after_a_week(careful: Lab) -> None:
    await low(careful, "KET-1")
    await due(careful)
    assert await told(careful) == []
    assert await deliver(careful) == ["held"]
    (text,) = await told(careful)
    order = await careful.row(REORDER_ORDER)
    assert "order to Acme: approval: an order of 20. Reorder: " in text
    assert f"`hub reorders approve {order.id}` sends it" in text
    for _ in range(6 * 24):
        careful.later(3600)
        assert await told(careful) == []
    careful.later(24 * 3600)
    assert len(await told(careful)) == 1
    careful.later(20 * 24 * 3600)
    assert await told(careful) == []


async def test_approved_it_goes_and_who_let_it_go_is_known(careful: Lab) -> None:
    await low(careful, "KET-1")
    (row,) = await due(careful)
    await deliver(careful)
    (line,) = (await ask(careful, "reorders", state="waiting"))["reorders"]
    assert (line["state"], line["held"]) == ("waiting", "approval: an order of 20")
    assert (await ask(careful, "status"))["reorders_waiting"] == 1
    answer = await ask(careful, "reorder.approve", id=line["id"], who="ana")
    assert answer == {"order": line["order_id"]}
    assert await deliver(careful) == ["delivered"]
    (line,) = (await ask(careful, "reorders", sku="KET-1", state="sent"))["reorders"]
    assert (line["number"], line["url"]) == (f"PO-{line['order_id'][-6:]}", "https://erp.test/po")
    assert (await careful.delivery(row.id)).released_by == "ana"
    assert [one["action"] for one in (await ask(careful, "audit"))["audit"]] == ["reorder.approve", "release"]
    with pytest.raises(CommandError, match="was sent as PO-"):
        await ask(careful, "reorder.drop", id=line["order_id"], why="no")
    with pytest.raises(CommandError, match="waits for nobody; it was sent as"):
        await ask(careful, "reorder.approve", id=line["order_id"])


async def test_dropped_it_never_goes_and_the_next_low_stock_opens_another(careful: Lab) -> None:
    await low(careful, "KET-1", "KET-2")
    (row,) = await due(careful)
    await deliver(careful)
    answer = await ask(careful, "reorder.drop", id=row.id, who="ana", why="too dear")
    assert (await careful.delivery(row.id)).last_error == "dropped by ana: too dear"
    assert await states(careful) == [(sku, "dropped by ana: too dear") for sku in ("KET-1", "KET-2")]
    await low(careful, "KET-1")
    assert len(await states(careful)) == 3
    assert [one["detail"]["order"] for one in (await ask(careful, "audit"))["audit"]] == [answer["order"]]
    # Sent again all the same, it finds nothing to order.
    await start_replay(careful.hub, "ana", Filter(ids=(row.id,)))
    assert (await deliver(careful), Buyer.bought) == (["skipped"], {})


async def test_an_order_of_which_nothing_is_left_waits_for_nobody(careful: Lab) -> None:
    await low(careful, "KET-1", "KET-2", "KET-3")
    (row,) = await due(careful)
    await deliver(careful)
    lines = await careful.rows(REORDER)
    await ask(careful, "reorder.close", id=lines[0].id, who="ana", why="bought in town")
    await low(careful, "KET-2", stock=40, threshold=10)
    await make_orders(careful.hub)
    assert (await careful.delivery(row.id)).status == "held"
    await ask(careful, "reorder.close", id=lines[2].id, who="ana", why="bought in town")
    await make_orders(careful.hub)
    assert (await careful.delivery(row.id)).last_error == "nothing of it is left to order"
    # A plain cancel of its delivery closes the lines too.
    await low(careful, "KET-1")
    (_, row) = await due(careful)
    await cancel_deliveries(careful.hub, "ana", [row.id])
    await make_orders(careful.hub)
    assert (await states(careful))[-1] == ("KET-1", "its order was not sent: cancelled by ana")
    with pytest.raises(CommandError, match="there is no open reorder"):
        await ask(careful, "reorder.close", id=lines[0].id, why="again")


async def test_what_stays_open_is_closed_in_the_end_and_told_once(lab: Lab) -> None:
    await low(lab, "KET-1", "KET-2")
    await due(lab)
    await deliver(lab)
    await low(lab, "KET-3")
    lab.later(30 * 24 * 3600 - WINDOW - 60)
    assert await told(lab) == []
    lab.later(WINDOW + 120)
    unsent, sent = await told(lab)
    assert "2 reorders of route buy were closed for their age: sent, and never closed since. Skus: KET-1, KET-2" in sent
    assert "1 reorder of route buy was closed for its age: never sent. Sku: KET-3." in unsent
    assert {why for _, why in await states(lab)} == {"it was not closed for as long as one may stay open"}
    lab.later(3600)
    assert await told(lab) == []


async def test_the_day_has_a_limit_for_all_orders_together(tmp_path: Path, database_url: str) -> None:
    routes = {"buy": ROUTES["buy"] | {"settings": {"day_limit": "300"}}}
    async with open_lab(tmp_path, database_url, routes) as lab:
        lab.stand_still()
        # Half past midnight, so that the day is long.
        lab.later((MORNING.replace(hour=0, minute=30) - lab.hub.now()).total_seconds())
        for n in range(4):
            await low(lab, f"S{n}", supplier=f"Supplier {n}", price=10)
        await due(lab)
        # All at once: 120 each, of which two are within 300.
        assert sorted(await deliver(lab)) == ["delivered", "delivered", "held", "held"]
        lab.later(24 * 3600)
        held = await lab.rows(DELIVERY, DELIVERY.c.status == "held")
        await ask(lab, "reorder.approve", id=held[0].id)
        assert await deliver(lab) == ["delivered"]
        await low(lab, "S8", supplier="Eight", price=20)
        await due(lab)
        # Let go by a person, 120 count all the same: 240 more are too much.
        assert await deliver(lab) == ["held"]
        assert len(bought()) == 3


async def test_planned_is_what_would_be_ordered_and_nothing_is(lab: Lab) -> None:
    plan = await ask(lab, "reorders.plan")
    (line,) = plan["lines"]
    assert (line["route"], line["store"], line["sku"], line["there"]) == ("buy", "main", "PLAN-1", None)
    await low(lab, "PLAN-1")
    (line,) = (await ask(lab, "reorders.plan", route="buy"))["lines"]
    assert line["there"].startswith("open since ")
    assert len(await states(lab)) == 1
    with pytest.raises(CommandError, match="route all orders nothing"):
        await ask(lab, "reorders.plan", route="all")
