"""Reading the record: filters, pages, what is shown as held, records whole, and the local API over it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event

from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, Outcome, Rejected, Skip, TryAgain
from hub.replay import pause_route, start_change, start_replay
from hub.store import DELIVERY, EVENT, REPLAY
from hub.store.meant import Filter
from hub.store.reading import DeliveryFilter, EventFilter, list_deliveries, list_events, standing
from hub.web.api import WrongUsage, create_local_api
from tests import hubdb
from tests.hubdb import Lab, document, open_lab, route
from tests.operations import ask, delivered, explained, listed

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab


async def test_events_come_newest_first_page_by_page(lab: Lab) -> None:
    made = [row.event_id for row in await lab.orders(5)]
    pages, before = [], None
    while True:
        found = await ask(lab, "events", limit=2, **({"before": before} if before else {}))
        pages.append([one["id"] for one in found["events"]])
        before = found["before"]
        if before is None:
            break
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in page] == made[::-1]


async def test_events_are_found_by_what_a_person_knows(lab: Lab) -> None:
    customer = {"email": "Asha@Example.test"}
    order = await lab.keep(document(orderId="ord_1", orderNo=1042, customer=customer, items=[{"sku": "KET-1"}]))
    update = await lab.keep(document("order.updated", orderId="ord_1"))
    product = await lab.keep(document("product.created", productId="prd_1"))
    await lab.fan_out()
    (delivery,) = await lab.rows(DELIVERY, DELIVERY.c.event_id == order.id)
    for q in ("1042", "asha@example.test", "Asha@Example.test", "KET-1", order.id, delivery.id):
        assert await listed(lab, q=q) == [order.id]
    for found in ({"q": "ord_1"}, {"q": "order:ord_1"}, {"entity": "order:ord_1"}, {"type": "order.*"}):
        assert await listed(lab, **found) == [update.id, order.id]
    assert await listed(lab, type="product.created") == [product.id]
    assert await listed(lab, type="order_*", store="main") == []
    assert await listed(lab, entity="product:ord_1") == await listed(lab, q="nothing") == await listed(lab, q="%") == []
    assert await listed(lab, store="main") == [product.id, update.id, order.id]
    assert await listed(lab, store="other") == []


async def test_an_event_is_found_before_it_is_fanned_out(lab: Lab) -> None:
    kept = await lab.keep(document(orderId="ord_9"))
    for found in ({"q": "ord_9"}, {"q": "order:ord_9"}, {"entity": "order:ord_9"}):
        assert await listed(lab, **found) == [kept.id]
    assert "not fanned out yet" in (await ask(lab, "explain", id=kept.id))["waiting"]


async def test_since_and_until_go_by_the_hubs_clock(lab: Lab) -> None:
    first = await lab.order()
    middle = lab.hub.now() + timedelta(hours=5)
    lab.later(10 * 3600)
    second = await lab.order()
    for wanted, event_id, delivery_id in (
        ({"since": "5h"}, second.event_id, second.id),
        ({"since": middle.isoformat()}, second.event_id, second.id),
        ({"until": "5h"}, first.event_id, first.id),
        ({"until": middle.replace(tzinfo=None).isoformat()}, first.event_id, first.id),
    ):
        assert await listed(lab, **wanted) == [event_id]
        assert await delivered(lab, **wanted) == [delivery_id]
    assert await listed(lab, since="11h", until="1h") == [first.event_id]


async def test_deliveries_are_listed_by_what_they_are_shown_as(tmp_path: Path, database_url: str) -> None:
    names = ("one", "paused", "broken", "gone")
    async with open_lab(tmp_path, database_url, {name: route() for name in names}) as lab:
        made = {}
        results: list[Receipt | Outcome] = [
            Receipt("done"), Rejected("no"), Skip("nothing to do"), Hold("too much"),
        ]  # fmt: skip
        for number, result in enumerate(results):
            await lab.deliver_events(document(orderId=f"o{number}"))
            claimed = await lab.claim_one()
            made[await lab.finish(claimed, result)] = claimed.delivery.id
        for name in names[1:]:
            await start_change(lab.hub, "cancel", "test", Filter(route=name))
        last = {row.route: row.id for row in await lab.deliver_events(document(orderId="last"))}
        await pause_route(lab.hub, "test", "paused", "because")
        await lab.finish(await lab.claim_one("broken"), HoldRoute("a wrong key"))
    async with open_lab(tmp_path, database_url, {name: route() for name in names[:3]}) as lab:
        for status in ("delivered", "dead"):
            assert await delivered(lab, status=status) == [made[status]]
        assert await delivered(lab, status="skipped", route="one") == [made["skipped"]]
        assert len(await delivered(lab, status="skipped")) == 1 + 3 * 4
        assert await delivered(lab, status="pending") == [last["one"]]
        for name in names[1:]:
            (one,) = (await ask(lab, "deliveries", status=name))["deliveries"]
            assert (one["id"], one["status"], one["held_by"]) == (last[name], "held", name)
        held = {last["paused"], last["broken"], last["gone"], made["held"]}
        assert set(await delivered(lab, status="held")) == held
        assert await delivered(lab, status="held", route="paused") == [last["paused"]]
        assert set(await delivered(lab, entity="order:last")) == set(last.values())
        assert await delivered(lab, status="dead", error_key="no", store="main") == [made["dead"]]
        assert await delivered(lab, status="dead", error_key="other") == []


async def test_a_held_list_has_its_pages_too(lab: Lab) -> None:
    rows = await lab.orders(5)
    await lab.finish(await lab.claim_one(limit=1), Hold("look at this"))
    await pause_route(lab.hub, "test", "one", None)
    first = await ask(lab, "deliveries", status="held", limit=3)
    second = await ask(lab, "deliveries", status="held", limit=3, before=first["before"])
    ids = [one["id"] for page in (first, second) for one in page["deliveries"]]
    assert (len(first["deliveries"]), second["before"]) == (3, None)
    assert ids == sorted((row.id for row in rows), reverse=True)


async def test_what_is_under_way_on_a_paused_route_is_not_held(lab: Lab) -> None:
    row = await lab.order()
    await lab.claim_one()
    await pause_route(lab.hub, "test", "one", None)
    assert await delivered(lab, status="held") == []
    assert await delivered(lab, status="pending") == [row.id]
    assert "attempt 1 is under way" in await explained(lab, row.event_id)


async def test_show_tells_an_event_whole(lab: Lab) -> None:
    first = document("order.updated", orderId="ord_1", orderNo=7)
    kept = await lab.keep(first)
    await lab.keep(first)
    await lab.fan_out()
    await lab.finish(await lab.claim_one(), TryAgain("HTTP 500: no", status=500))
    shown = await ask(lab, "show", id=kept.id)
    assert (shown["kind"], shown["repeats"], shown["body"]) == ("event", 1, (await body_of(lab, kept.id)))
    assert {"kind": "number", "value": "7"} in shown["keys"]
    (delivery,) = shown["deliveries"]
    (attempt,) = delivery["attempted"]
    assert (attempt["number"], attempt["outcome"], attempt["note"]) == (1, "try_again", "HTTP 500: no")
    same = await ask(lab, "show", id=delivery["id"])
    assert same == {"kind": "delivery", "type": "order.updated"} | delivery
    assert "the store sent it once more" in (await ask(lab, "explain", id=kept.id))["repeats"]


async def body_of(lab: Lab, event_id: str) -> str:
    return bytes((await lab.row(EVENT, EVENT.c.id == event_id)).body).decode()


async def test_a_repeat_with_other_content_is_shown_and_leads_to_its_event(lab: Lab) -> None:
    kept = await lab.keep(document(orderId="ord_1", total=10))
    await lab.keep(document(orderId="ord_1", total=20))
    (repeat,) = (await ask(lab, "show", id=kept.id))["differing_repeats"]
    assert '"total":20' in repeat["body"]
    assert await listed(lab, q=repeat["id"]) == [kept.id]
    assert repeat["id"] in (await ask(lab, "explain", id=repeat["id"]))["repeats"]


async def test_a_replay_takes_what_its_preview_said(lab: Lab) -> None:
    rows = await lab.orders(3)
    for claimed in (await lab.claim()).claims:
        await lab.finish(claimed, Rejected("no"))
    preview = await ask(lab, "replay.preview", status="dead", since="1h")
    assert (preview["would_replay"], preview["by_status"], preview["unknown"]) == (3, {"dead": 3}, [])
    await lab.deliver_events(document(orderId="later"))
    started = await ask(lab, "replay.start", **preview["filter"], pace=0.1, who="asha")
    assert (started["total"], started["done"], started["who"]) == (3, 3, "asha")
    stopped = await ask(lab, "replay.stop", id=started["id"])
    assert stopped["given_back"] == 3
    assert set(await delivered(lab, status="dead")) == {row.id for row in rows}
    assert (await ask(lab, "replay.get", id=started["id"]))["state"] == "stopped"
    assert (await ask(lab, "show", id=started["id"]))["kind"] == "replay"


async def test_a_replay_names_ids_that_do_not_exist(lab: Lab) -> None:
    row = await lab.order()
    preview = await ask(lab, "replay.preview", ids=[row.id, row.event_id, "dlv_none"])
    assert (preview["unknown"], preview["by_status"], preview["would_replay"]) == (["dlv_none"], {"pending": 1}, 0)


async def test_a_batch_of_a_long_replay_is_done_at_each_asking(lab: Lab) -> None:
    await lab.orders(501)
    await start_change(lab.hub, "cancel", "test", Filter(route="one"))
    await ask(lab, "replay.advance", id=(await lab.row(REPLAY)).id)
    replay_id = await start_replay(lab.hub, "test", Filter(status="skipped"))
    done = await ask(lab, "replay.get", id=replay_id)
    assert (done["done"], done["state"]) == (500, "running")
    done = await ask(lab, "replay.advance", id=replay_id)
    assert (done["done"], done["state"]) == (501, "done")


async def test_cancel_says_what_it_left_alone(lab: Lab) -> None:
    first, second = await lab.orders(2)
    await lab.finish(await lab.claim_one(limit=1), Receipt("done"))
    found = await ask(lab, "cancel", ids=[first.id, second.id, "dlv_none"])
    assert found == {"cancelled": [second.id], "untouched": [first.id], "unknown": ["dlv_none"]}


@pytest.mark.parametrize(
    ("operation", "arguments", "says"),
    [
        ("events", {"limit": 0}, "limit"),
        ("events", {"sinec": "2d"}, "sinec: is not known here"),
        ("events", {"since": "yesterday"}, "'yesterday' is neither an age"),
        ("deliveries", {"status": "lost"}, "status: must be 'pending'"),
        ("replay.preview", {}, "say which"),
        ("replay.preview", {"status": "pending"}, "status: must be 'delivered', 'dead', 'skipped' or 'gone'"),
        ("cancel", {}, "ids: Field required"),
        ("cancel", {"ids": []}, "ids: Tuple should have at least 1 item"),
        ("open.preview", {"action": "cancel", "store": "main"}, "say which"),
        ("open.start", {"action": "explode", "route": "one"}, "action: must be 'release' or 'cancel'"),
        ("open.start", {"action": "cancel", "route": "one", "pace": 0}, "pace: must be greater"),
    ],
)
async def test_arguments_that_make_no_sense(
    tmp_path: Path, operation: str, arguments: dict[str, Any], says: str
) -> None:
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as lab:
        with pytest.raises(WrongUsage, match=says):
            await ask(lab, operation, **arguments)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[tuple[Lab, httpx.AsyncClient]]:
    """A lab, and a client of its local API."""
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as lab:
        transport = httpx.ASGITransport(create_local_api(lab.hub), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            yield lab, client


async def test_the_local_api_answers(local: tuple[Lab, httpx.AsyncClient]) -> None:
    lab, client = local
    row = await lab.order()
    answer = (await client.post("/show", json={"id": row.id})).json()
    assert (answer["ok"], answer["result"]["id"], answer["result"]["status"]) == (True, row.id, "pending")


@pytest.mark.parametrize(
    ("path", "body", "kind", "says"),
    [
        ("/show", b'{"id": "dlv_none"}', "failed", "dlv_none: there is nothing of that id"),
        ("/pause", b'{"route": "none"}', "failed", "there is no route none"),
        ("/show", b"{}", "usage", "id: Field required"),
        ("/events", b'{"limit": "many"}', "usage", "limit: "),
        ("/events", b"[]", "usage", "must be a JSON object"),
        ("/events", b"{", "usage", "must be a JSON object"),
        ("/shutdown", b"{}", "usage", "no such operation"),
    ],
)
async def test_the_local_api_says_what_is_wrong(
    local: tuple[Lab, httpx.AsyncClient], path: str, body: bytes, kind: str, says: str
) -> None:
    _, client = local
    answer = (await client.post(path, content=body)).json()
    assert (answer["ok"], answer["kind"]) == (False, kind)
    assert says in answer["error"]


async def test_the_local_api_tells_of_storage_in_trouble(local: tuple[Lab, httpx.AsyncClient]) -> None:
    lab, client = local

    def breaks(connection: Connection) -> None:
        connection.exec_driver_sql("DROP TABLE replay")

    await lab.write(breaks)
    answer = (await client.post("/replay.get", json={"id": "rpl_1"})).json()
    assert answer == {
        "ok": False, "kind": "failed", "error": "the database cannot be used just now: no such table: replay",
    }  # fmt: skip


async def test_the_local_api_tells_of_its_own_faults_without_detail(local: tuple[Lab, httpx.AsyncClient]) -> None:
    lab, client = local
    odd = {"id": "rpl_1", "who": "asha", "at": lab.hub.now(), "filter": 7, "state": "done"}
    await lab.write(lambda connection: connection.execute(REPLAY.insert().values(**odd)))
    answer = (await client.post("/replay.get", json={"id": "rpl_1"})).json()
    assert answer["error"].startswith("a fault in the hub (AttributeError)")
    assert "asha" not in answer["error"]


SEARCHES = {
    "pending": DeliveryFilter(status="pending"),
    "held": DeliveryFilter(status="held"),
    "dead": DeliveryFilter(status="dead", route="one", error_key="no"),
    "gone": DeliveryFilter(status="gone"),
    "entity": DeliveryFilter(entity="order:ord_1"),
}


@pytest.mark.parametrize("name", [*SEARCHES, "event entity", "q", "standing"])
async def test_no_search_reads_a_table_from_end_to_end(tmp_path: Path, name: str) -> None:
    """What stands in an index is found by it, so that a million events do not matter."""
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as lab:
        await lab.order()
        now = lab.hub.now()

        def look(connection: Connection) -> list[str]:
            asked: list[tuple[str, Any]] = []
            event.listen(connection, "before_cursor_execute", lambda *about: asked.append((about[2], about[3])))
            if name in SEARCHES:
                list_deliveries(connection, SEARCHES[name], ["one"])
            elif name == "standing":
                standing(connection, now, ["one"])
            else:
                list_events(connection, EventFilter(q="ord_1") if name == "q" else EventFilter(entity="order:ord_1"))
            plans = [
                connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}", given).all() for said, given in list(asked)
            ]
            assert plans
            return [str(step[3]) for plan in plans for step in plan]

        steps = await lab.hub.database.read(look)
    partial = ("event_waiting", "delivery_due", "delivery_stuck", "delivery_order", "delivery_leased")
    whole = [step for step in steps if step.startswith(("SCAN event", "SCAN delivery", "SCAN waiting"))]
    assert [step for step in whole if not any(name in step for name in partial)] == []
