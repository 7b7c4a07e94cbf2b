"""Alerts: the first of a matter at once, the rest of its hour in one summary, to the routes named and to no others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from sqlalchemy import Row, text, update

from hub.alerts import raise_alerts
from hub.connector import Receipt
from hub.errors import HoldRoute, Rejected, TryAgain
from hub.replay import pause_route, start_replay
from hub.store import ALERT, DELIVERY, EVENT, ROUTE_STATE
from hub.store.alerts import TELLING, UNTOLD
from hub.store.meant import Filter
from hub.store.refusals import count_refusals
from tests import hubdb
from tests.hubdb import Lab, document, open_lab, route
from tests.operations import ask

shared_url, database_url = hubdb.shared_url, hubdb.database_url
GONE = Rejected("HTTP 410: gone")
HOUR = 3600
TEN_PAST = datetime(2026, 11, 23, 12, 10, tzinfo=UTC)
ROUTES = {"one": route(), "two": route(), "chat": route(events=["none"]), "mail": route(events=["none"])}


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """Routes `one` and `two`, whose alerts go to `chat`; ten past noon, and the clock stands still."""
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["chat"]) as made:
        at(made, TEN_PAST)
        yield made


def at(lab: Lab, moment: datetime) -> None:
    """The clock stands still there."""
    lab.stand_still()
    lab.later((moment - lab.hub.now()).total_seconds())


async def told(lab: Lab) -> list[dict[str, Any]]:
    """The data of the alerts since this was last asked, and their kinds; each was fanned out."""
    while await raise_alerts(lab.hub):
        pass
    before = vars(lab).setdefault("told", set())
    rows = [row for row in await lab.rows(EVENT, EVENT.c.store == "hub") if row.id not in before]
    before |= {row.id for row in rows}
    await lab.fan_out()
    return [orjson.loads(row.body)["data"] | {"kind": row.type, "id": row.id, "entity": row.entity} for row in rows]


async def kill(lab: Lab, count: int = 1, result: Any = GONE, name: str = "one") -> list[Row[Any]]:
    """That many fresh deliveries die on a route; those on the others are delivered."""
    rows = await lab.orders(count)
    for each in ("one", "two"):
        for claim in (await lab.claim(each, limit=count)).claims:
            await lab.finish(claim, result if each == name else Receipt("done"))
    return [row for row in rows if row.route == name]


async def along(lab: Lab, event_id: str) -> dict[str, str]:
    return {row.route: row.status for row in await lab.rows(DELIVERY, DELIVERY.c.event_id == event_id)}


async def test_the_first_is_told_at_once_to_the_routes_named_and_to_no_others(lab: Lab) -> None:
    (dead,) = await kill(lab)
    (alert,) = await told(lab)
    since = lab.hub.now()
    assert {name: alert[name] for name in ("kind", "route", "store", "count", "more", "entities", "deliveries")} == {
        "kind": "hub.delivery.dead", "route": "one", "store": "main", "count": 1, "more": 0,
        "entities": [dead.entity], "deliveries": [dead.id],
    }  # fmt: skip
    assert (alert["reason"], alert["error_key"], alert["entity"]) == ("HTTP 410: gone", "HTTP 410", "route:one")
    assert alert["text"] == (
        f"1 delivery on route one is dead since {since:%H:%M} UTC: HTTP 410: gone. It is not tried again unless someone"
        " replays it. Order: ord_0."
        " `hub deliveries --status dead --route one` tells more."
    )
    assert "hub replay --status dead --route one" in alert["remedy"]
    assert await along(lab, alert["id"]) == {"chat": "pending"}
    event = await lab.row(EVENT, EVENT.c.id == alert["id"])
    assert (event.store, event.origin, event.secret) == ("hub", "hub", None)
    assert event.not_taken == dict.fromkeys(("one", "two", "mail"), "not named in alerts")
    assert await told(lab) == []


async def test_an_alert_is_listed_and_explained_as_any_event_is(lab: Lab) -> None:
    await kill(lab)
    (alert,) = await told(lab)
    (listed,) = (await ask(lab, "events", store="hub"))["events"]
    assert (listed["id"], listed["type"], listed["entity"]) == (alert["id"], "hub.delivery.dead", "route:one")
    found = await ask(lab, "explain", id=alert["id"])
    assert [one["route"] for one in found["deliveries"]] == ["chat"]
    assert {one["reason"] for one in found["not_taken"]} == {"not named in alerts"}


async def test_the_rest_of_the_hour_is_one_summary_at_its_end(lab: Lab) -> None:
    await kill(lab)
    assert len(await told(lab)) == 1
    lab.later(600)
    since = lab.hub.now()
    rows = await kill(lab, 7)
    assert await told(lab) == []
    lab.later(600)
    rows += await kill(lab, 5)
    assert await told(lab) == []
    lab.later(HOUR - 1201)
    assert await told(lab) == []
    lab.later(1)
    (summary,) = await told(lab)
    assert (summary["count"], summary["more"], len(summary["entities"])) == (12, 2, 10)
    assert set(summary["entities"]) <= {row.entity for row in rows}
    assert set(summary["deliveries"]) <= {row.id for row in rows}
    assert summary["since"] == f"{since:%Y-%m-%dT%H:%M:%SZ}"
    assert summary["until"] == f"{lab.hub.now():%Y-%m-%dT%H:%M:%SZ}"
    assert summary["text"].startswith(f"12 more deliveries on route one died since {since:%H:%M} UTC: HTTP 410: gone.")
    assert " and 2 more." in summary["text"]


async def test_a_quiet_hour_closes_the_matter_and_the_next_is_told_at_once(lab: Lab) -> None:
    await kill(lab)
    assert len(await told(lab)) == 1
    lab.later(HOUR)
    assert await told(lab) == []
    lab.later(60)
    await kill(lab)
    assert [alert["count"] for alert in await told(lab)] == [1]


async def test_after_a_summary_another_hour_begins(lab: Lab) -> None:
    await kill(lab)
    await told(lab)
    await kill(lab)
    lab.later(HOUR)
    assert len(await told(lab)) == 1
    await kill(lab)
    assert await told(lab) == []
    lab.later(HOUR)
    assert [alert["count"] for alert in await told(lab)] == [1]
    lab.later(HOUR)
    assert await told(lab) == []
    lab.later(2 * HOUR)
    assert await told(lab) == []
    assert await lab.rows(ALERT) == []


async def test_another_route_and_another_reason_are_matters_of_their_own(lab: Lab) -> None:
    await kill(lab, 3)
    assert [alert["count"] for alert in await told(lab)] == [3]
    await kill(lab, result=Rejected("no such customer"))
    await kill(lab, name="two")
    found = {(alert["route"], alert["error_key"]) for alert in await told(lab)}
    assert found == {("one", "no such customer"), ("two", "HTTP 410")}


async def test_reasons_that_never_repeat_are_told_together(lab: Lab) -> None:
    for number in range(12):
        await kill(lab, result=Rejected(f"order {number} is not there"))
    alerts = await told(lab)
    assert sorted(alert["count"] for alert in alerts) == [1, 1, 1, 1, 1, 7]
    (rest,) = [alert for alert in alerts if alert["count"] == 7]
    assert (rest["error_key"], "several reasons, such as order " in rest["text"]) == (None, True)
    await kill(lab, result=Rejected("order 12 is not there"))
    assert await told(lab) == []
    lab.later(HOUR)
    assert [alert["count"] for alert in await told(lab)] == [1]


async def test_an_alert_that_cannot_be_fanned_out_bothers_no_other_route(lab: Lab) -> None:
    await kill(lab)
    await raise_alerts(lab.hub)
    alert = await lab.row(EVENT, EVENT.c.store == "hub")
    await lab.write(lambda c: c.execute(update(EVENT).where(EVENT.c.id == alert.id).values(body=b"{")))
    await lab.fan_out()
    assert await along(lab, alert.id) == {"chat": "dead"}


async def test_two_workers_tell_once(tmp_path: Path, shared_url: str) -> None:
    """Both find the same; on SQLite there is one process."""
    async with (
        open_lab(tmp_path, shared_url, ROUTES, alerts=["chat"]) as first,
        open_lab(tmp_path, shared_url, ROUTES, alerts=["chat"]) as second,
    ):
        for each in (first, second):
            each.stand_still()
        await kill(first, 3)
        await fail(first, 1, HoldRoute("wrong key"))
        await asyncio.gather(*(raise_alerts(lab.hub) for lab in (first, second) * 5))
        # Whoever finds another one telling leaves it to the next tick.
        await raise_alerts(second.hub)
        kinds = sorted(row.type for row in await first.rows(EVENT, EVENT.c.store == "hub"))
        assert kinds == ["hub.delivery.dead", "hub.route.held"]


async def test_while_one_process_tells_no_other_does(tmp_path: Path, shared_url: str) -> None:
    async with open_lab(tmp_path, shared_url, ROUTES, alerts=["chat"]) as lab:
        await refuse(lab, "main", "AUTHENTICATION_ERROR", 2)
        async with another(shared_url, f"SELECT pg_advisory_xact_lock({TELLING})"):
            assert await told(lab) == []
        assert [alert["count"] for alert in await told(lab)] == [2]


async def test_a_delivery_that_another_process_has_is_told_when_it_lets_go(tmp_path: Path, shared_url: str) -> None:
    async with open_lab(tmp_path, shared_url, ROUTES, alerts=["chat"]) as lab:
        (dead,) = await kill(lab)
        async with another(shared_url, f"SELECT 1 FROM delivery WHERE id = '{dead.id}' FOR UPDATE"):
            assert await told(lab) == []
        assert len(await told(lab)) == 1


@asynccontextmanager
async def another(url: str, statement: str) -> AsyncIterator[None]:
    """Somebody else's transaction, in the middle of which is this statement."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


async def test_nobody_named_means_no_event_and_no_flood_later(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        at(lab, TEN_PAST)
        await kill(lab, 3)
        await refuse(lab, "main", "AUTHENTICATION_ERROR", 1)
        assert await told(lab) == []
        lab.later(HOUR)
        assert await told(lab) == []
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["chat"]) as lab:
        at(lab, TEN_PAST + timedelta(seconds=HOUR))
        lab.made = 3
        assert await told(lab) == []
        await kill(lab)
        assert [alert["count"] for alert in await told(lab)] == [1]


async def test_a_routes_own_alerts_stand_for_those_of_all(tmp_path: Path, database_url: str) -> None:
    routes = ROUTES | {"one": route(alerts=["mail"]), "two": route(alerts=[])}
    async with open_lab(tmp_path, database_url, routes, alerts=["chat"]) as lab:
        await kill(lab, name="two")
        assert await told(lab) == []
        await kill(lab)
        (alert,) = await told(lab)
        assert await along(lab, alert["id"]) == {"mail": "pending"}


async def test_conditions_stores_and_events_of_a_route_are_for_the_stores_events(
    tmp_path: Path, database_url: str
) -> None:
    routes = ROUTES | {"chat": route(events=["order.*"], when="data.totl > 5", stores=["main"])}
    async with open_lab(tmp_path, database_url, routes, alerts=["chat"]) as lab:
        await lab.keep(document("product.created", productId="p"))
        await kill(lab)
        found = [alert for alert in await told(lab) if alert["route"] == "one"]
        assert await along(lab, found[0]["id"]) == {"chat": "pending"}


async def all_alerts_end(lab: Lab, result: Any, seconds: float) -> list[Row[Any]]:
    """Something dies, and every alert of it ends like this, twenty times so far apart; the hub's own events then."""
    at(lab, TEN_PAST)
    await kill(lab)
    for _ in range(20):
        await told(lab)
        for name in ("chat", "mail"):
            for claim in (await lab.claim(name)).claims if result else ():
                await lab.finish(claim, result)
        lab.later(seconds)
    return await lab.rows(EVENT, EVENT.c.store == "hub")


# Ways that are slow made two more alerts each hour, for as long as they were.
@pytest.mark.parametrize(("result", "seconds", "status"), [(GONE, HOUR / 4, "dead"), (None, HOUR, "pending")])
async def test_an_alert_about_an_alert_is_never_told(
    tmp_path: Path, database_url: str, result: Any, seconds: float, status: str
) -> None:
    """Both ways of the alerts are broken for good, or hang: whatever becomes of them makes no more of them."""
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["chat", "mail"]) as lab:
        rows = await all_alerts_end(lab, result, seconds)
        assert [row.type for row in rows] == ["hub.delivery.dead"]
        assert await along(lab, rows[0].id) == {"chat": status, "mail": status}
        assert await lab.rows(DELIVERY, UNTOLD) == []


async def test_held_ways_of_the_alerts_are_told_along_the_other_one_once(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["chat", "mail"]) as lab:
        rows = await all_alerts_end(lab, HoldRoute("wrong key"), 60)
        assert Counter((row.type, row.entity) for row in rows) == {
            ("hub.delivery.dead", "route:one"): 1, ("hub.route.held", "route:chat"): 1,
            ("hub.route.held", "route:mail"): 1,
        }  # fmt: skip


async def test_a_route_is_not_told_of_itself(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["one", "chat"]) as lab:
        lab.stand_still()
        await kill(lab)
        (alert,) = await told(lab)
        assert await along(lab, alert["id"]) == {"chat": "pending"}
        await kill(lab, name="two")
        (alert,) = await told(lab)
        assert await along(lab, alert["id"]) == {"chat": "pending", "one": "pending"}


async def fail(lab: Lab, count: int, result: Any) -> None:
    """Attempts on route one that fail, and change nothing for the other."""
    await lab.orders(count)
    for _ in range(count):
        await lab.finish(await lab.claim_one("one", limit=1), result)


async def test_a_breaker_is_told_once_for_each_opening(lab: Lab) -> None:
    await fail(lab, 1, HoldRoute("HTTP 401: wrong key"))
    opened = (await lab.state("one")).opened_at
    (alert,) = await told(lab)
    assert (alert["kind"], alert["route"], alert["entity"]) == ("hub.route.held", "one", "route:one")
    assert alert["text"].startswith(f"Route one is held since {opened:%H:%M} UTC: HTTP 401: wrong key.")
    assert "hub resume one" in alert["remedy"]
    lab.later(30)
    await lab.finish(await lab.claim_one("one", limit=1), HoldRoute("HTTP 401: wrong key"))
    assert await told(lab) == []
    lab.later(60)
    await lab.finish(await lab.claim_one("one", limit=1), Receipt("done"))
    assert (await lab.state("one")).opened_at is None
    lab.later(5 * HOUR)
    await told(lab)
    await fail(lab, 1, HoldRoute("HTTP 401: wrong key"))
    assert [alert["kind"] for alert in await told(lab) if alert["route"] == "one"] == ["hub.route.held"]


async def refuse(lab: Lab, store: str, code: str, count: int) -> None:
    """That many requests were refused."""
    await lab.hub.writer.put(count_refusals, Counter({(store, code): count}))


async def test_refusals_are_told_by_store_and_reason(lab: Lab) -> None:
    await refuse(lab, "main", "AUTHENTICATION_ERROR", 2)
    await refuse(lab, "?", "NOT_FOUND", 1)
    found = {alert["store"]: alert for alert in await told(lab)}
    assert {store: alert["count"] for store, alert in found.items()} == {"main": 2, None: 1}
    assert found["main"]["kind"] == "hub.refused"
    assert found["main"]["text"].startswith("2 requests for store main were refused since ")
    assert "compare the store's secret with webhook_secrets" in found["main"]["text"]
    assert found[None]["text"].startswith("1 request for an unknown store was refused since ")
    assert await told(lab) == []


async def test_each_refusal_is_told_once_however_the_hours_turn(lab: Lab) -> None:
    """Thirty hours of refusals now and then: what all alerts tell together is what was refused."""
    refused, total = 0, 0
    for step in range(90):
        if step % 9 < 3 or step in {40, 41, 60}:
            await refuse(lab, "main", "AUTHENTICATION_ERROR", 3)
            refused += 3
        total += sum(alert["count"] for alert in await told(lab))
        lab.later(HOUR / 3)
    lab.later(2 * HOUR)
    total += sum(alert["count"] for alert in await told(lab))
    assert total == refused
    lab.later(3 * HOUR)
    await told(lab)
    assert await lab.rows(ALERT) == []


async def test_what_waits_too_long_is_told_while_it_lasts(lab: Lab) -> None:
    await lab.orders(2)
    since = lab.hub.now()
    lab.later(60)
    assert await told(lab) == []
    lab.later(1)
    found = {alert["route"]: alert for alert in await told(lab)}
    assert found.keys() == {"one", "two"}
    assert (found["one"]["kind"], found["one"]["count"]) == ("hub.behind", 2)
    assert found["one"]["text"].startswith(f"2 deliveries on route one wait, the oldest since {since:%H:%M} UTC: ")
    for claim in (await lab.claim("two")).claims:
        await lab.finish(claim, Receipt("done"))
    lab.later(HOUR)
    again = [alert for alert in await told(lab) if alert["route"] != "chat"]
    assert [(alert["route"], " still wait, " in alert["text"]) for alert in again] == [("one", True)]


async def test_paused_and_held_routes_are_not_behind(lab: Lab) -> None:
    await pause_route(lab.hub, "asha", "one", None)
    await lab.orders(1)
    await lab.finish(await lab.claim_one("two"), TryAgain("HTTP 503", 7200, status=503, destination=True))
    lab.later(300)
    assert await told(lab) == []


async def test_events_that_wait_for_fan_out_are_told(lab: Lab) -> None:
    await lab.keep(document(orderId="ord_x"))
    lab.later(61)
    (alert,) = await told(lab)
    assert (alert["kind"], alert["route"], alert["entity"]) == ("hub.behind", None, None)
    assert alert["text"].startswith("1 event waits for fan-out, since ")


async def test_a_disk_that_gets_full_is_told(lab: Lab) -> None:
    lab.hub.disk_low = "the disk is nearly full: 300 MiB are free"
    (alert,) = await told(lab)
    assert alert["kind"] == "hub.disk.low"
    assert alert["text"].startswith("The disk is nearly full: 300 MiB are free. Webhooks are answered 503 until ")
    assert await told(lab) == []
    lab.hub.disk_low = None
    lab.later(HOUR)
    assert [one for one in await told(lab) if one["kind"] == "hub.disk.low"] == []
    lab.hub.disk_low = "200 MiB of 100 GiB are free"
    assert [one["reason"] for one in await told(lab) if one["kind"] == "hub.disk.low"] == [lab.hub.disk_low]


async def test_what_is_replayed_and_dies_again_is_told_again(lab: Lab) -> None:
    (dead,) = await kill(lab)
    await told(lab)
    lab.later(3 * HOUR)
    await told(lab)
    await start_replay(lab.hub, "asha", Filter(ids=(dead.id,)))
    await lab.finish(await lab.claim_one("one"), GONE)
    assert [alert["deliveries"] for alert in await told(lab) if alert["route"] == "one"] == [[dead.id]]


async def test_broken_conditions_and_poison_are_told(tmp_path: Path, database_url: str) -> None:
    routes = {"broken": route(when="data.totl > 1"), "one": route(), "chat": route(events=["none"])}
    async with open_lab(tmp_path, database_url, routes, alerts=["chat"]) as lab:
        rows = {row.route: row for row in await lab.orders(1) for row in await lab.rows(DELIVERY)}
        poison = {"status": "dead", "attempts": 3, "error_key": "poison", "last_error": "the hub ended 3 times"}
        await lab.write(lambda c: c.execute(update(DELIVERY).where(DELIVERY.c.id == rows["one"].id).values(**poison)))
        found = {alert["route"]: alert["error_key"] for alert in await told(lab)}
        assert found == {"broken": "when", "one": "poison"}


async def test_many_dead_ones_are_told_in_parts(lab: Lab) -> None:
    (dead,) = await kill(lab)
    row = await lab.delivery(dead.id)
    await lab.write(lambda c: c.execute(DELIVERY.insert(), copies(row, 1200)))
    assert [alert["count"] for alert in await told(lab)] == [500]
    assert await lab.rows(DELIVERY, UNTOLD) == []
    lab.later(HOUR)
    assert [alert["count"] for alert in await told(lab)] == [701]


def copies(row: Row[Any], count: int) -> Sequence[dict[str, Any]]:
    base = dict(row._mapping) | {
        "status": "dead",
        "attempts": 1,
        "error_key": "HTTP 410",
        "last_error": "HTTP 410: gone",
    }
    return [base | {"id": f"dlv_{number}", "event_id": f"evt_{number}"} for number in range(count)]


async def test_a_link_leads_to_the_very_list(tmp_path: Path, database_url: str) -> None:
    dashboard = {"public_url": "https://hub.example"}
    async with open_lab(tmp_path, database_url, ROUTES, alerts=["chat"], dashboard=dashboard) as lab:
        await kill(lab)
        (alert,) = await told(lab)
        assert alert["url"] == "https://hub.example/deliveries?status=dead&route=one&error_key=HTTP+410"
        assert alert["text"].endswith(f"Open {alert['url']}.")


async def test_untold_deaths_are_found_by_their_own_index(tmp_path: Path) -> None:
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as lab:
        query = text("EXPLAIN QUERY PLAN SELECT id FROM delivery WHERE " + UNTOLD.text + " ORDER BY delivery.route")
        plan = await lab.hub.database.read(lambda connection: connection.execute(query).all())
        assert "delivery_untold" in str(plan)


async def held_again(lab: Lab) -> None:
    if await lab.rows(ROUTE_STATE, ROUTE_STATE.c.opened_at.is_not(None)):
        lab.later(60)
        await lab.finish(await lab.claim_one("one", limit=1), Receipt("done"))
    await fail(lab, 1, HoldRoute("HTTP 401: wrong key"))


async def refused_again(lab: Lab) -> None:
    await refuse(lab, "main", "AUTHENTICATION_ERROR", 1)


async def low_again(lab: Lab) -> None:
    lab.hub.disk_low = "the disk is nearly full"


async def late_again(lab: Lab) -> None:
    await lab.orders(1)
    lab.later(61)


CAUSES: dict[str, Callable[[Lab], Awaitable[Any]]] = {
    "hub.delivery.dead": kill, "hub.route.held": held_again, "hub.refused": refused_again, "hub.disk.low": low_again,
    "hub.behind": late_again,
}  # fmt: skip
ABOUT_ROUTES = {"hub.delivery.dead", "hub.route.held", "hub.behind"}


@pytest.mark.parametrize("kind", CAUSES)
@pytest.mark.parametrize("own", [["mail"], []])
async def test_each_kind_goes_to_the_routes_named_for_it_and_to_no_others(
    tmp_path: Path, database_url: str, kind: str, own: list[str]
) -> None:
    """What is about route `one` to those that it names, be it nobody; what is about the hub to those for all."""
    routes = ROUTES | {"one": route(alerts=own), "two": route(events=["none"]), "all": route(events=["none", "*"])}
    async with open_lab(tmp_path, database_url, routes, alerts=["chat"]) as lab:
        at(lab, TEN_PAST)
        await CAUSES[kind](lab)
        alerts = [one for one in await told(lab) if one["kind"] == kind and one["route"] in {"one", None}]
        expected = own if kind in ABOUT_ROUTES else ["chat"]
        assert [await along(lab, one["id"]) for one in alerts] == ([{expected[0]: "pending"}] if expected else [])


@pytest.mark.parametrize(
    ("kind", "count", "says", "link"),
    [
        (
            "hub.delivery.dead", 2,
            "2 more deliveries on route one died since 12:20 UTC: HTTP 410: gone. Orders: ord_1, ord_2.",
            "/deliveries?status=dead&route=one&error_key=HTTP+410",
        ),
        (
            "hub.route.held", 2, "Route one was held 2 more times since 12:21 UTC: HTTP 401: wrong key.",
            "/deliveries?status=broken&route=one",
        ),
        (
            "hub.refused", 2, "2 more requests for store main were refused since 12:20 UTC: the signature was",
            "/refused",
        ),
        ("hub.disk.low", 1, "Still so: the disk is nearly full. Webhooks are answered 503", "/"),
        (
            "hub.behind", 3, "3 deliveries on route one still wait, the oldest since 12:10 UTC: its destination",
            "/deliveries?status=pending&route=one",
        ),
    ],
    ids=CAUSES,
)  # fmt: skip
async def test_the_rest_of_each_kinds_hour_is_told_once_how_many_since_when_and_where(
    tmp_path: Path, database_url: str, kind: str, count: int, says: str, link: str
) -> None:
    routes = ROUTES | {"two": route(events=["none"])}
    dashboard = {"public_url": "https://hub.example"}
    async with open_lab(tmp_path, database_url, routes, alerts=["chat"], dashboard=dashboard) as lab:
        at(lab, TEN_PAST)
        await CAUSES[kind](lab)
        assert [alert["kind"] for alert in await told(lab)] == [kind]
        end = lab.hub.now() + timedelta(seconds=HOUR)
        lab.later((TEN_PAST - lab.hub.now()).total_seconds() + 600)
        for _ in range(2):
            await CAUSES[kind](lab)
            assert await told(lab) == []
        lab.later((end - lab.hub.now()).total_seconds() - 1)
        assert [alert for alert in await told(lab) if alert["kind"] == kind] == []
        lab.later(1)
        (summary,) = [alert for alert in await told(lab) if alert["kind"] == kind]
        assert summary["count"] == count
        assert summary["text"].startswith(says)
        assert summary["text"].endswith(f" Open https://hub.example{link}.")
