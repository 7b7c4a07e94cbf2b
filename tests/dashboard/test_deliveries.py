"""`/deliveries`, previews of what is done to many, and replays: what is shown is what is done, and written down."""

import re
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, Rejected, TryAgain
from hub.replay import advance_replays, pause_route, start_change
from hub.store import AUDIT, DELIVERY, REPLAY
from hub.store.effects import NewEffect, put_effects
from hub.store.meant import Filter
from tests import hubdb
from tests.dashboard.served import Browser, Page, looking
from tests.hubdb import Lab, document, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
ROUTES = {"one": route(), "paused": route(), "broken": route(), "gone": route(events=["product.*"])}


def ids(page: Page) -> list[str]:
    """The deliveries that the page lists, by the anchors of their links."""
    found = [link.rpartition("#")[2] for link in page.links() if "#dlv_" in link]
    return list(dict.fromkeys(found))


async def test_each_filter(tmp_path: Path, database_url: str) -> None:
    """By status as shown (held also by a paused, broken or gone route), route, store, reason, time, entity."""
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        lab.later(-7200)
        rows = {row.route: row for row in await lab.orders(1)}
        product = await lab.deliver_events(document("product.created", productId="p"))
        (gone,) = [row for row in product if row.route == "gone"]
        lab.later(7200)
        (dead, held, delivered) = [row for row in await lab.orders(3) if row.route == "one"]
        await pause_route(lab.hub, "asha", "paused", None)
        claims = {one.delivery.id: one for one in (await lab.claim()).claims}
        await lab.finish(claims[dead.id], Rejected("HTTP 422: no", status=422))
        await lab.finish(claims[held.id], Hold("ask"))
        await lab.finish(claims[delivered.id], Receipt("yes"))
        await lab.finish(await lab.claim_one("broken", limit=1), HoldRoute("HTTP 401", status=401))
        ends = [one for one in claims.values() if one.delivery.id not in {dead.id, held.id, delivered.id}]
        for one in ends:
            await lab.finish(one, TryAgain("HTTP 500: oh", status=500))
    left = {name: terms for name, terms in ROUTES.items() if name != "gone"}
    async with open_lab(tmp_path, database_url, left) as lab, looking(lab.hub) as browser:

        async def listed(query: str) -> set[str]:
            return set(ids(await browser.get(f"/deliveries?{query}")))

        assert await listed("status=dead") == {dead.id}
        assert await listed("status=delivered") == {delivered.id}
        assert await listed("status=gone") == {gone.id}
        assert held.id in await listed("status=held&route=one")
        assert rows["paused"].id in await listed("status=paused")
        by_route = await listed("status=paused") | await listed("status=broken") | await listed("status=gone")
        assert await listed("status=held") == by_route | {held.id}
        assert await listed("status=pending") == {one.delivery.id for one in ends}
        assert await listed("error_key=status_422") == {dead.id}
        assert await listed("route=one&until=1h") == {one.delivery.id for one in ends}
        assert dead.id in await listed("since=1h")
        assert await listed(f"entity={dead.entity}&route=one") == {dead.id}
        assert await listed("store=none") == set()
        assert "route gone" in (await browser.get("/deliveries?status=gone")).text


async def test_pages_of_fifty(lab: Lab) -> None:
    rows = await lab.orders(70)
    async with looking(lab.hub) as browser:
        first = await browser.get("/deliveries?route=one")
        second = await browser.get(first.all("a", rel="next")[0]["href"])
        assert ids(first) + ids(second) == sorted((row.id for row in rows), reverse=True)
        assert second.all("a", rel="next") == []


async def died(lab: Lab, count: int) -> list[str]:
    """The ids of so many dead deliveries."""
    rows = await lab.orders(count)
    while claims := (await lab.claim()).claims:
        for one in claims:
            await lab.finish(one, Rejected("HTTP 422: no", status=422))
    return [row.id for row in rows]


async def test_replay_of_all_that_match(lab: Lab) -> None:
    """The filter in words with its time fixed, counts; what dies after the preview is not taken; pace and audit."""
    meant = await died(lab, 3)
    done = (await lab.order()).id
    await lab.finish(await lab.claim_one(), Receipt("yes"))
    await lab.hub.writer.put(put_effects, NewEffect(meant[0], "mail", meant[0], "m1", None))
    async with looking(lab.hub) as browser:
        page = await browser.get("/deliveries/preview?all=replay&status=dead&route=one&error_key=status_422")
        assert "Replay 3 deliveries?" in page.text
        for words in ("that are dead", "on route one", "with the reason status_422", "made until", "Sent already 1"):
            assert words in page.text
        lab.later(10)
        (late,) = await died(lab, 1)
        shown = await browser.submit(page, "/replays", pace="0.5")
        assert "The replay has begun." in shown.text
        assert "3 of 3 set going, 0 ended" in shown.text
        assert "0.5 a second" in shown.text
        assert "by asha" in shown.text
    assert {row.id for row in await lab.rows(DELIVERY, DELIVERY.c.status == "pending")} == set(meant)
    assert [(await lab.delivery(one)).status for one in (late, done)] == ["dead", "delivered"]
    due = sorted(row.next_attempt_at for row in await lab.rows(DELIVERY, DELIVERY.c.status == "pending"))
    assert [round((one - due[0]).total_seconds()) for one in due] == [0, 2, 4]
    assert [(line.who, line.action) for line in await lab.rows(AUDIT)] == [("asha", "replay")]


async def test_replay_of_those_ticked(lab: Lab) -> None:
    first, second, third = await died(lab, 3)
    async with looking(lab.hub) as browser:
        page = await browser.get(f"/deliveries/preview?action=replay&id={first}&id={third}&status=dead")
        assert "2 chosen by id" in page.text
        await browser.submit(page, "/replays")
    statuses = [(await lab.delivery(one)).status for one in (first, second, third)]
    assert statuses == ["pending", "dead", "pending"]


async def test_out_of_order_is_counted(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(ordered=True)}) as lab, looking(lab.hub) as browser:
        await lab.deliver_events(*(document("order.updated", orderId="ord_1", step=number) for number in range(3)))
        for number in range(3):
            result = Receipt("done") if number == 2 else Rejected("HTTP 422: no", status=422)
            await lab.finish(await lab.claim_one(), result)
        page = await browser.get("/deliveries/preview?all=replay&status=dead")
        assert "Out of order 2 on routes that keep the order" in page.text


async def test_as_new_is_asked_twice(lab: Lab) -> None:
    (row,) = await died(lab, 1)
    async with looking(lab.hub) as browser:
        first = await browser.get("/deliveries/preview?all=replay&status=dead")
        page = await browser.get(next(link for link in first.links() if "as_new" in link))
        assert "again as new?" in page.text
        assert "say that you are sure" in (await browser.submit(page, "/replays", 422)).text
        assert (await lab.rows(REPLAY)) == []
        await browser.submit(page, "/replays", sure="1")
    assert (await lab.delivery(row)).key_no == 1


async def test_a_form_that_is_posted_twice_begins_once(lab: Lab) -> None:
    """Also when the first was delivered meanwhile: as new, the other side would get it a third time."""
    (row,) = await died(lab, 1)
    event = (await lab.delivery(row)).event_id
    async with looking(lab.hub) as browser:
        for path, action in (
            (f"/deliveries/preview?action=replay&id={row}&as_new=1", "/replays"),
            (f"/events/{event}/replay?routes=one&as_new=1", f"/events/{event}/replay"),
        ):
            page = await browser.get(path)
            first = await browser.submit(page, action, sure="1")
            await lab.finish(await lab.claim_one(), Receipt("sent"))
            assert (await browser.submit(page, action, sure="1")).url == first.url
            assert (await lab.delivery(row)).status == "delivered"
        await browser.submit(page, action, 422, sure="1", replay_id="rpl_1")
    assert (await lab.delivery(row)).key_no == 2
    assert len(await lab.rows(REPLAY)) == len(await lab.rows(AUDIT)) == 2


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("action=replay", "None was ticked"),
        ("all=replay", "Say which"),
        ("all=replay&store=main", "Say which"),
        ("all=replay&status=pending", "is not done yet"),
        ("all=explode&status=dead", "must be replay, release or cancel"),
        ("all=cancel", "Say which"),
        ("all=replay&status=dead&since=soon", "is neither an age"),
    ],
)
async def test_a_preview_of_nothing_or_of_everything_is_refused(lab: Lab, query: str, said: str) -> None:
    async with looking(lab.hub) as browser:
        assert said in (await browser.get(f"/deliveries/preview?{query}", 422)).text


async def test_a_wrong_pace(lab: Lab) -> None:
    await died(lab, 1)
    async with looking(lab.hub) as browser:
        for pace in ("fast", "-1", "0", "nan", "1e9"):
            await browser.post("/replays", 422, status="dead", pace=pace)
    assert await lab.rows(REPLAY) == []


async def test_a_replay_stopped_half_way(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some went; the rest is as it was before: dead, with the reason it had."""
    monkeypatch.setattr("hub.store.replays.BATCH", 4)
    rows = await died(lab, 10)
    async with looking(lab.hub) as browser:
        page = await browser.get("/deliveries/preview?all=replay&status=dead")
        running = await browser.submit(page, "/replays")
        assert "4 of 10 set going" in running.text
        claimed = await lab.claim_one(limit=1)
        await lab.finish(claimed, Receipt("yes"))
        await advance_replays(lab.hub)
        shown = await browser.get(str(running.url.path))
        assert "8 of 10 set going" in shown.text
        assert "1 delivered now" in shown.text
        assert "7 pending now" in shown.text
        stopped = await browser.submit(shown, f"{running.url.path}/stop")
        assert "Given back as they were before: 7." in stopped.text
        assert not [one for one in stopped.all("form") if one.get("action", "").endswith("/stop")]
        assert "7 given back" in stopped.text
        assert "stopped" in (await browser.get("/replays")).text
    after = [await lab.delivery(one) for one in rows]
    assert sorted(one.status for one in after) == ["dead"] * 9 + ["delivered"]
    assert {one.error_key for one in after if one.status == "dead"} == {"status_422"}


async def held_ones(lab: Lab, count: int) -> list[str]:
    rows = await lab.orders(count)
    while claims := (await lab.claim()).claims:
        for one in claims:
            await lab.finish(one, Hold("ask"))
    return [row.id for row in rows]


async def preview_and_do(browser: Browser, verb: str, query: str) -> Page:
    page = await browser.get(f"/deliveries/preview?all={verb}&{query}")
    return await browser.submit(page, f"/deliveries/{verb}")


async def test_release_of_all_that_match_in_batches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in the audit with the filter and the whole count; others stay; nothing is released twice."""
    monkeypatch.setattr("hub.store.changes.BATCH", 3)
    held = await held_ones(lab, 8)
    (dead,) = await died(lab, 1)
    async with looking(lab.hub) as browser:
        page = await browser.get("/deliveries/preview?all=release&status=held&route=one")
        assert "Release 8 deliveries?" in page.text
        lab.later(10)
        (late,) = await held_ones(lab, 1)
        shown = await browser.submit(page, "/deliveries/release")
        assert "The release has begun." in shown.text
        assert "3 of 8 released, 0 ended" in shown.text
        assert await advance_replays(lab.hub) == 1
        assert await advance_replays(lab.hub) == 0
        assert "8 of 8 released" in (await browser.get(str(shown.url.path))).text
        again = await browser.submit(page, "/deliveries/release")
        assert (again.url.path, "8 released." in again.text) == (shown.url.path, True)
    rows = [await lab.delivery(one) for one in held]
    assert {(row.status, row.released_by) for row in rows} == {("pending", "asha")}
    assert [(await lab.delivery(one)).status for one in (dead, late)] == ["dead", "held"]
    (line,) = await lab.rows(AUDIT)
    assert (line.who, line.action, line.detail["count"]) == ("asha", "release", 8)
    assert line.detail["filter"]["status"] == "held"
    assert line.detail["filter"]["route"] == "one"


async def test_cancel_of_all_that_match(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a paused route what waits; of any status pending and held; dead and delivered stay."""
    monkeypatch.setattr("hub.store.changes.BATCH", 2)
    async with open_lab(tmp_path, database_url, {"one": route(), "two": route()}) as lab, looking(lab.hub) as browser:
        await held_ones(lab, 3)
        await lab.orders(2)
        await pause_route(lab.hub, "ravi", "two", None)
        assert "The cancelling has begun." in (await preview_and_do(browser, "cancel", "status=paused")).text
        while await advance_replays(lab.hub):
            pass
        assert {row.route for row in await lab.rows(DELIVERY, DELIVERY.c.status == "skipped")} == {"two"}
        begun = await preview_and_do(browser, "cancel", "route=one")
        assert "2 of 5 cancelled" in begun.text
        while await advance_replays(lab.hub):
            pass
        assert "5 of 5 cancelled" in (await browser.get(str(begun.url.path))).text
        reasons = {row.last_error for row in await lab.rows(DELIVERY)}
        assert reasons == {"cancelled by asha"}
        assert "Nothing would be cancelled" in (await browser.get("/deliveries/preview?all=cancel&route=one")).text
        lines = [line.detail["count"] for line in await lab.rows(AUDIT, AUDIT.c.action == "cancel")]
        assert lines == [5, 5]


async def test_a_release_at_a_pace_is_stopped_half_way(lab: Lab) -> None:
    """So many a second, one line in the audit each; stopped, what has not started is held as before, by nobody."""
    held = await held_ones(lab, 6)
    before = {row.id: row for row in await lab.rows(DELIVERY)}
    async with looking(lab.hub) as browser:
        page = await browser.get("/deliveries/preview?all=release&status=held")
        begun = await browser.submit(page, "/deliveries/release", pace="0.5")
        assert "1 of 6 released, 0 ended" in begun.text
        assert "0.5 a second" in begun.text
        assert re.search(
            r"Goes on by itself Release of 6 by asha since [^:]+:\d\d:\d\d UTC: 1 so far", (await browser.get("/")).text
        )
        await lab.finish(await lab.claim_one("one", limit=1), Receipt("yes"))
        lab.later(2)
        assert await advance_replays(lab.hub) == 1
        assert await advance_replays(lab.hub) == 0
        lab.later(2)
        await advance_replays(lab.hub)
        shown = await browser.get(str(begun.url.path))
        assert "3 of 6 released, 1 ended" in shown.text
        stopped = await browser.submit(shown, f"{begun.url.path}/stop")
        assert "It was stopped. Given back as they were before: 2." in stopped.text
        lab.later(100)
        assert await advance_replays(lab.hub) == 0
    after = {row.id: row for row in await lab.rows(DELIVERY)}
    assert after[held[0]].status == "delivered"
    assert [after[one] for one in held[1:]] == [before[one] for one in held[1:]]
    lines = [(line.action, line.detail.get("count"), line.detail.get("given_back")) for line in await lab.rows(AUDIT)]
    assert lines == [("release", 6, None), ("release.stop", None, 2)]


async def test_a_cancel_at_a_pace_is_stopped_half_way(lab: Lab) -> None:
    """What is cancelled stays so, the rest goes on as if nothing had been."""
    rows = await lab.orders(5)
    async with looking(lab.hub) as browser:
        page = await browser.get("/deliveries/preview?all=cancel&status=pending&route=one")
        begun = await browser.submit(page, "/deliveries/cancel", pace="1")
        lab.later(1)
        await advance_replays(lab.hub)
        shown = await browser.get(str(begun.url.path))
        assert "2 of 5 cancelled" in shown.text
        assert "Pace 1 a second" in shown.text
        stopped = await browser.submit(shown, f"{begun.url.path}/stop")
        assert "What is not cancelled yet stays as it is." in stopped.text
        assert not [one for one in stopped.all("form") if one.get("action", "").endswith("/stop")]
        assert "cancel.stop" in stopped.text
        listed = (await browser.get("/replays")).text
        assert "Cancel" in listed
        assert "2 of 5" in listed
    assert [(await lab.delivery(row.id)).status for row in rows] == ["skipped"] * 2 + ["pending"] * 3


async def test_what_a_pace_missed_while_nobody_worked_is_not_made_up_for(lab: Lab) -> None:
    """An hour without a worker: it goes on at its pace, not with all of that hour at once."""
    await lab.orders(9)
    change = await start_change(lab.hub, "cancel", "asha", Filter(route="one"), 1.0)
    done = []
    for seconds in (1, 3600, 0, 1, 1):
        lab.later(seconds)
        await advance_replays(lab.hub)
        done.append((await lab.row(REPLAY, REPLAY.c.id == change)).done)
    assert done == [2, 5, 5, 6, 7]


async def test_a_release_takes_no_more_than_were_shown(lab: Lab) -> None:
    """What comes to be held while it goes on was in no count."""
    held = await held_ones(lab, 2)
    (late,) = await lab.orders(1)
    async with looking(lab.hub) as browser:
        page = await browser.get("/deliveries/preview?all=release&route=one")
        begun = await browser.submit(page, "/deliveries/release", pace="1")
        claims = {one.delivery.id: one for one in (await lab.claim()).claims}
        await lab.finish(claims[held[0]], Receipt("yes"))
        await lab.finish(claims[late.id], Hold("ask"))
        lab.later(100)
        await advance_replays(lab.hub)
        assert "2 of 2 released" in (await browser.get(str(begun.url.path))).text
    assert [(await lab.delivery(one)).status for one in (*held, late.id)] == ["delivered", "pending", "held"]


async def test_a_cancel_of_what_is_held_takes_nothing_of_a_route_that_is_paused_since(
    tmp_path: Path, database_url: str
) -> None:
    async with open_lab(tmp_path, database_url, {name: route() for name in ("one", "two", "three")}) as lab:
        lab.stand_still()
        await lab.orders(3)
        await pause_route(lab.hub, "asha", "one", None)
        change = await start_change(lab.hub, "cancel", "asha", Filter(status="held"), pace=1)
        lab.later(1)
        await pause_route(lab.hub, "asha", "two", "stocktaking")
        other = await start_change(lab.hub, "cancel", "asha", Filter(status="pending", route="three"), pace=1)
        lab.later(1)
        await pause_route(lab.hub, "asha", "three", None)
        lab.later(9)
        await advance_replays(lab.hub)
        found = {(row.route, row.status) for row in await lab.rows(DELIVERY)}
        rows = {row.id: (row.done, row.total) for row in await lab.rows(REPLAY)}
    assert found == {("one", "skipped"), ("two", "pending"), ("three", "skipped")}
    assert rows == {change: (3, 3), other: (3, 3)}


async def test_one_is_released_and_cancelled_from_its_event(lab: Lab) -> None:
    first, second = await held_ones(lab, 2)
    event = (await lab.delivery(first)).event_id
    async with looking(lab.hub) as browser:
        page = await browser.get(f"/events/{event}")
        preview = await browser.get(next(link for link in page.links() if "action=release" in link))
        done = await browser.submit(preview, "/deliveries/release")
        assert (done.url.path, "1 released." in done.text) == (f"/events/{event}", True)
        preview = await browser.get(f"/deliveries/preview?action=cancel&id={second}&event=//evil.example")
        done = await browser.submit(preview, "/deliveries/cancel")
        assert done.url.path.startswith("/replays/rpl_")
        preview = await browser.get(f"/deliveries/preview?action=cancel&id={first}&event={event}")
        assert "1 cancelled." in (await browser.submit(preview, "/deliveries/cancel")).text
        assert "is not pending or held any more" in (await browser.submit(preview, "/deliveries/cancel", 409)).text
    lines = {(line.action, line.detail.get("delivery")) for line in await lab.rows(AUDIT)}
    assert {("release", first), ("cancel", first)} < lines
    assert [(await lab.delivery(one)).status for one in (first, second)] == ["skipped", "skipped"]


async def test_one_under_way_ends_as_it_ends(lab: Lab) -> None:
    """Cancelled while it is under way: what was delivered stays delivered."""
    row = await lab.order()
    claimed = await lab.claim_one()
    async with looking(lab.hub) as browser:
        assert "1 cancelled." in (await preview_and_do(browser, "cancel", "route=one&status=pending")).text
    await lab.finish(claimed, Receipt("yes"))
    assert (await lab.delivery(row.id)).status == "delivered"


async def test_reasons_link_to_all_with_that_reason(lab: Lab) -> None:
    """Also one that no address was made for."""
    rows = await died(lab, 2)
    odd = "a&b=c #\u202e"

    def rename(connection: Connection) -> None:
        connection.execute(update(DELIVERY).where(DELIVERY.c.id == rows[0]).values(error_key=odd))

    await lab.write(rename)
    async with looking(lab.hub) as browser:
        page = await browser.get("/deliveries?status=dead")
        links = [link for link in page.links() if "error_key=" in link]
        assert sorted([ids(await browser.get(link)) for link in links]) == sorted([[one] for one in rows])
