"""What the hub says of itself and of its events: `hub status` and `hub explain`."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Receipt
from hub.errors import CommandError, Hold, HoldRoute, Rejected, Skip, TryAgain
from hub.replay import pause_route, release_held, start_replay
from hub.store import DELIVERY
from hub.store.meant import Filter
from hub.store.refusals import NewRefusal, count_refusals, keep_refusals
from tests import hubdb
from tests.hubdb import Lab, document, open_lab, route
from tests.operations import ask, explained

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
FIVE = {
    "one": route(), "ordered": route(ordered=True), "big": route(when="data.total > 100"),
    "stock": route(events=["inventory.low"]), "slow": route(rate="1/h"),
}  # fmt: skip


@pytest.fixture
async def five(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """A lab with five routes of different kinds."""
    async with open_lab(tmp_path, database_url, FIVE) as made:
        yield made


async def test_explain_names_the_routes_not_taken_and_the_field(five: Lab) -> None:
    kept = await five.keep(document(orderId="ord_1", total=50))
    await five.fan_out()
    found = await ask(five, "explain", id=kept.id)
    assert {one["route"] for one in found["deliveries"]} == {"one", "ordered", "slow"}
    reasons = {one["route"]: one["reason"] for one in found["not_taken"]}
    assert reasons == {
        "big": "when: data.total is 50 (data.total > 100)",
        "stock": "its type is order.placed; the route takes inventory.low",
    }


async def test_what_a_replay_sent_along_a_route_is_not_told_as_not_taken_there(five: Lab) -> None:
    kept = await five.keep(document(orderId="ord_1", total=50))
    await five.fan_out()
    replay_id = await start_replay(five.hub, "asha", Filter(ids=(kept.id,)), to_route="stock")
    found = await ask(five, "explain", id=kept.id)
    assert [one["route"] for one in found["not_taken"]] == ["big"]
    sent = f"; sent there by replay {replay_id} of asha, though its type is order.placed; the route takes inventory.low"
    assert (await explained(five, kept.id, "stock")).endswith(sent)
    assert "sent there by" not in await explained(five, kept.id)
    assert list((await ask(five, "show", id=kept.id))["not_taken"]) == ["big"]


async def test_explain_names_the_store_of_what_another_stores_route_did_not_take(
    tmp_path: Path, database_url: str
) -> None:
    stores = {name: {"url": "http://shop.test", "webhook_secrets": [f"the secret of {name} shop"]} for name in "ab"}
    routes = {"one": route(), "two": route(stores=["b"])}
    async with open_lab(tmp_path, database_url, routes, stores=stores) as lab:
        kept = await lab.keep(document(orderId="ord_1"), "a")
        await lab.fan_out()
        (other,) = (await ask(lab, "explain", id=kept.id))["not_taken"]
    assert other == {"route": "two", "reason": "its store is a; the route takes only b"}


async def test_of_a_broken_condition_it_is_said_that_a_replay_sends_without_it(lab: Lab, tmp_path: Path) -> None:
    url = str(lab.hub.config.database.reveal())
    async with open_lab(tmp_path, url, {"one": route(when="data.total >= 100")}) as made:
        await made.alive()
        kept = await made.keep(document("payment.completed", orderId="ord_1", amount=200))
        await made.fan_out()
        text = await explained(made, kept.id)
        assert text.startswith("dead without an attempt: when: ")
        assert text.endswith(" sends it without asking the condition; correct `when` for those to come")
        (note,) = (await ask(made, "status"))["notes"]
        assert "--route one` sends them without asking the condition" in note


async def test_times_are_told_to_people_to_the_second(five: Lab) -> None:
    kept = await five.keep(document(orderId="ord_1", total=50))
    await five.fan_out()
    await pause_route(five.hub, "asha", "one", None)
    claimed = await five.claim_one("ordered")
    await five.finish(claimed, HoldRoute("the key is wrong"))
    told = [await explained(five, kept.id, name) for name in ("one", "ordered", "slow")]
    status = await ask(five, "status")
    for text in (*told, *status["reasons"], *status["notes"]):
        assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ", text)
        assert not re.search(r"\dT\d|\d\.\d+Z", text)


async def test_explain_tells_of_routes_that_came_later(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        row = await lab.order()
    async with open_lab(tmp_path, database_url, {"one": route(), "new": route()}) as lab:
        (later,) = (await ask(lab, "explain", id=row.event_id))["not_taken"]
        assert (later["route"], "was not in the config" in later["reason"]) == ("new", True)
        assert f"hub replay {row.event_id} --to new" in later["reason"]


async def test_explain_tells_what_a_delivery_waits_for(five: Lab) -> None:
    kept = await five.keep(document(orderId="ord_1", total=5))
    await five.fan_out()
    assert "due since" in await explained(five, kept.id)
    await five.finish(await five.claim_one(), TryAgain("HTTP 500: no", status=500))
    text = await explained(five, kept.id)
    assert text.startswith("next try at ")
    assert "1 attempt of 4 so far, last: HTTP 500: no" in text
    await pause_route(five.hub, "asha", "one", "stock-taking")
    assert "is paused since" in (text := await explained(five, kept.id))
    assert "by asha (stock-taking)" in text
    assert "`hub resume one`" in text


async def test_explain_names_the_delivery_that_goes_first(five: Lab) -> None:
    first = await five.keep(document(orderId="ord_1"))
    second = await five.keep(document("order.updated", orderId="ord_1"))
    await five.fan_out()
    (before,) = await five.rows(DELIVERY, DELIVERY.c.event_id == first.id, DELIVERY.c.route == "ordered")
    assert f"behind {before.id} of order:ord_1, which is pending" in await explained(five, second.id, "ordered")
    await five.finish(await five.claim_one("ordered"), Hold("look at it"))
    assert "which is held" in await explained(five, second.id, "ordered")
    assert f"`hub release {before.id}`" in await explained(five, first.id, "ordered")
    await release_held(five.hub, "test", before.id)
    await five.claim_one("ordered")
    assert "attempt 2 is under way" in await explained(five, first.id, "ordered")


async def test_explain_tells_of_rates_and_breakers(five: Lab) -> None:
    await five.deliver_events(document(orderId="ord_1"))
    last = await five.keep(document(orderId="ord_2"))
    await five.fan_out()
    await five.claim_one("slow")
    assert "the route's rate of 1/h; next at" in await explained(five, last.id, "slow")
    for claimed in (await five.claim("one")).claims:
        await five.finish(claimed, HoldRoute("the key is wrong"))
    text = await explained(five, last.id)
    assert "is open since" in text
    assert "the key is wrong" in text
    assert "next probe at" in text


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (Receipt("sent to #orders"), "delivered by attempt 1 at "),
        (Rejected("no such channel"), "dead after 1 attempt: no such channel; `hub replay dlv_"),
        (Skip("a test order"), "skipped: a test order"),
    ],
)
async def test_explain_tells_how_it_ended(lab: Lab, result: Any, says: str) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), result)
    assert (await explained(lab, row.event_id)).startswith(says)


async def test_explain_asks_which_where_several_are_meant(lab: Lab) -> None:
    await lab.deliver_events(document(orderId="ord_1"), document("order.cancelled", orderId="ord_1"))
    with pytest.raises(CommandError, match=r"name one: evt_\w+ \(order.cancelled\), evt_\w+ \(order.placed\)"):
        await ask(lab, "explain", id="ord_1")
    for operation in ("explain", "show"):
        with pytest.raises(CommandError, match="evt_none: "):
            await ask(lab, operation, id="evt_none")


async def test_status_is_ok_while_all_goes_well(lab: Lab) -> None:
    await lab.alive()
    row = await lab.order()
    await pause_route(lab.hub, "asha", "one", None)
    lab.later(5)
    found = await ask(lab, "status")
    assert (found["status"], found["reasons"]) == ("ok", [])
    shown = found["routes"]["one"]
    assert (shown["state"], shown["pending"], shown["held"], shown["paused_by"]) == ("paused", 0, 1, "asha")
    assert datetime.fromisoformat(found["routes"]["one"]["oldest_due"]) == row.created_at
    assert any("paused" in note and "1 wait" in note for note in found["notes"])


async def reason(lab: Lab) -> str:
    """The one reason why the hub is degraded."""
    await lab.alive()
    found = await ask(lab, "status")
    assert found["status"] == "degraded"
    (only,) = found["reasons"]
    return str(only)


async def test_status_misses_a_worker(lab: Lab) -> None:
    await lab.alive()
    lab.later(60)
    (only,) = (await ask(lab, "status"))["reasons"]
    assert "no worker was seen since" in only


async def test_status_tells_of_deliveries_that_nobody_takes(lab: Lab) -> None:
    await lab.order()
    lab.later(90)
    assert "the oldest due delivery of route one waits 90 s" in await reason(lab)
    await lab.claim_one()
    assert (await ask(lab, "status"))["status"] == "ok"


async def test_status_knows_that_ordered_deliveries_wait_for_those_before(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(ordered=True, timeout="5m")}) as lab:
        await lab.deliver_events(document(orderId="ord_1"), document("order.updated", orderId="ord_1"))
        await lab.claim_one()
        lab.later(90)
        await lab.alive()
        assert (await ask(lab, "status"))["status"] == "ok"


async def test_status_tells_of_events_that_nobody_fans_out(lab: Lab) -> None:
    await lab.keep(document(orderId="ord_1"))
    lab.later(90)
    assert "1 events wait for fan-out since" in await reason(lab)


async def test_status_tells_of_open_breakers(lab: Lab) -> None:
    await lab.order()
    await lab.finish(await lab.claim_one(), HoldRoute("the key is wrong"))
    lab.later(1_000)
    text = await reason(lab)
    assert "breaker of route one is open" in text
    assert "the key is wrong" in text
    assert "`hub resume one`" in text


async def test_status_tells_of_routes_that_are_gone(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"old": route()}) as lab:
        await lab.orders(2)
    async with open_lab(tmp_path, database_url, {"new": route()}) as lab:
        assert "2 deliveries wait on route old, which is not in the config any more" in await reason(lab)
        assert (await ask(lab, "open.start", action="cancel", route="old"))["done"] == 2
        assert (await ask(lab, "status"))["status"] == "ok"


async def test_status_tells_of_refusals_and_their_cause(lab: Lab) -> None:
    refusal = NewRefusal(
        signed=False, store="main", status=401, reason="the signature is missing or wrong", remote=None, headers={},
        body=b"{}", at=lab.hub.now(),
    )  # fmt: skip
    await lab.hub.writer.put(keep_refusals, refusal)
    await lab.hub.writer.put(count_refusals, Counter({("main", "AUTHENTICATION_ERROR"): 3}))
    text = await reason(lab)
    assert "3 requests were refused for store main" in text
    assert "webhook_secrets" in text
    (one,) = (await ask(lab, "refused"))["refused"]
    assert (one["status"], one["store"], (await ask(lab, "show", id=one["id"]))["body"]) == (401, "main", "{}")
    lab.later(3 * 3600)
    await lab.alive()
    assert (await ask(lab, "status"))["status"] == "ok"


async def test_the_dead_are_told_but_are_no_trouble_of_the_hubs(lab: Lab) -> None:
    await lab.alive()
    await lab.orders(2)
    for claimed in (await lab.claim()).claims:
        await lab.finish(claimed, Rejected("HTTP 410: gone", status=410))
    found = await ask(lab, "status")
    (cause,) = found["dead"]
    assert found["status"] == "ok"
    assert cause == {"route": "one", "error_key": "status_410", "count": 2, "reason": "HTTP 410: gone"}
    assert any(
        "2 on route one are dead" in note and "hub replay --status dead --route one" in note for note in found["notes"]
    )
