"""`/events` and one event: filters, pages, search, replay along any routes, repeats, payload."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Row, update

from hub.connector import Receipt
from hub.errors import Hold, Outcome, Rejected, TryAgain
from hub.event import SigningKey
from hub.receive import Incoming, Receiving
from hub.replay import pause_route
from hub.store import AUDIT, DELIVERY, EVENT
from hub.store.effects import NewEffect, put_effects
from hub.store.reading import WholeEvent
from hub.testing.samples import sign, to_bytes
from hub.web.pages.event import command
from tests import hubdb
from tests.dashboard.served import Browser, harmless, looking
from tests.hubdb import SECRET, Lab, document, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
ROUTES = {"one": route(events=["order.*"]), "two": route(events=["product.*"])}


async def came_to(lab: Lab, result: Receipt | Outcome) -> Row[Any]:
    """The delivery of a fresh order, tried with that result."""
    row = await lab.order()
    await lab.finish(await lab.claim_one(), result)
    return await lab.delivery(row.id)


async def said(browser: Browser, path: str) -> list[str]:
    return (await browser.get(path)).events()


async def test_by_outcome(tmp_path: Path, database_url: str) -> None:
    """Each outcome finds its own events; what a paused route holds is held and not pending."""
    async with open_lab(tmp_path, database_url, ROUTES) as lab, looking(lab.hub) as browser:
        dead, held, delivered = [await came_to(lab, end) for end in (Rejected("no"), Hold("ask"), Receipt("yes"))]
        pending = await lab.order()
        untaken = (await lab.keep(document("refund.made", id=1))).id
        (product,) = await lab.deliver_events(document("product.created", productId="p1"))
        await pause_route(lab.hub, "asha", "two", None)
        wanted = {
            "dead": dead.event_id, "held": held.event_id, "pending": pending.event_id, "delivered": delivered.event_id,
            "not_taken": untaken,
        }  # fmt: skip
        found = {name: await said(browser, f"/events?outcome={name}") for name in wanted}
        assert found.pop("held") == [product.event_id, wanted.pop("held")]
        assert found == {name: [event_id] for name, event_id in wanted.items()}


async def test_by_outcome_none_taken(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(events=["order.*"])}) as lab, looking(lab.hub) as browser:
        await lab.order()
        kept = await lab.keep(document("refund.made", id=1))
        assert await said(browser, "/events?outcome=not_taken") == []
        await lab.fan_out()
        assert await said(browser, "/events?outcome=not_taken") == [kept.id]
        assert await said(browser, "/events?outcome=not_taken&type=order.*") == []


async def test_by_outcome_looks_through_a_bounded_number(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what many have, a page looks at so many events and says where to go on: none is left out, none comes twice."""
    monkeypatch.setattr("hub.store.reading.FEW", 1)
    monkeypatch.setattr("hub.store.reading.LOOKED_THROUGH", 4)
    wanted = []
    for number in range(12):
        row = await came_to(lab, Rejected("no") if number % 5 == 0 else Receipt("yes"))
        if number % 5 == 0:
            wanted.append(row.event_id)
    async with looking(lab.hub) as browser:
        for outcome, found in (("dead", sorted(wanted, reverse=True)), ("held", [])):
            seen: list[str] = []
            path: str | None = f"/events?outcome={outcome}"
            while path:
                page = await browser.get(path)
                seen += page.events()
                path = next((one["href"] for one in page.all("a", rel="next")), None)
            assert seen == found


async def test_by_store_type_time_and_entity(tmp_path: Path, database_url: str) -> None:
    stores = {name: {"url": "http://shop.test", "webhook_secrets": [f"{SECRET} {name}"]} for name in ("main", "outlet")}
    async with open_lab(tmp_path, database_url, stores=stores) as lab, looking(lab.hub) as browser:
        old = (await lab.keep(document(orderId="a"))).id
        lab.later(7200)
        other = (await lab.keep(document(orderId="b"), "outlet")).id
        new = (await lab.keep(document("product.created", productId="a"))).id
        assert await said(browser, "/events?store=outlet") == [other]
        assert await said(browser, "/events?type=product.created") == [new]
        assert await said(browser, "/events?type=order.*") == [other, old]
        assert await said(browser, "/events?since=1h") == [new, other]
        assert await said(browser, "/events?until=1h") == [old]
        assert await said(browser, "/events?entity=order%3Aa") == [old]
        assert await said(browser, "/events?store=main&since=1h&type=order.*") == []
        assert "No event is like that" in (await browser.get("/events?store=none")).text


async def test_the_search_finds_what_an_order_is_known_by(lab: Lab) -> None:
    mail = "asha@example.test"
    (row,) = await lab.deliver_events(document(orderId="ord_7", orderNo=1042, email=mail, items=[{"sku": "KET-1"}]))
    await lab.order()
    async with looking(lab.hub) as browser:
        for q in ("1042", "ord_7", "order:ord_7", mail.upper(), "KET-1", row.event_id, row.id):
            assert await said(browser, f"/events?q={q.replace('@', '%40')}") == [row.event_id], q


async def test_pages_of_fifty(lab: Lab) -> None:
    """Each event is on one page; what comes meanwhile moves nothing."""
    ids = [(await lab.keep(document(orderId=f"o{number}"))).id for number in range(120)]
    async with looking(lab.hub) as browser:
        page = await browser.get("/events?type=order.*")
        seen = page.events()
        await lab.keep(document(orderId="late"))
        while older := page.all("a", rel="next"):
            page = await browser.get(older[0]["href"])
            seen += page.events()
            assert "Newest" in page.text
        assert seen == sorted(ids, reverse=True)


async def test_a_wrong_filter_is_said_beside_it(lab: Lab) -> None:
    async with looking(lab.hub) as browser:
        page = await browser.get("/events?since=yesterday&store=main", 422)
        assert "is neither an age such as 2d" in page.text
        assert page.all("input", name="since")[0]["value"] == "yesterday"


async def test_one_event_tells_its_story(tmp_path: Path, database_url: str) -> None:
    """Attempts newest first, the next try, effects with links of the web alone, routes not taken and their field."""
    routes = {"one": route(ordered=True), "big": route(when="data.total >= 100"), "off": route(events=["product.*"])}
    async with open_lab(tmp_path, database_url, routes) as lab, looking(lab.hub) as browser:
        first, second = await lab.deliver_events(
            document("order.updated", orderId="a", total=5),
            document("order.updated", "2026-11-23T13:00:00Z", orderId="a", total=6),
        )
        claimed = await lab.claim_one()
        effects = [
            NewEffect(first.id, "good", first.id, "S00042", "https://erp.example/so/42"),
            NewEffect(first.id, "bad", first.id, "S666", "javascript:alert(1)"),
        ]
        for effect in effects:
            await lab.hub.writer.put(put_effects, effect)
        page = await browser.get(f"/events/{first.event_id}")
        assert "attempt 1 is under way" in page.text
        await lab.finish(claimed, TryAgain("HTTP 500: oh no"))
        page = await browser.get(f"/events/{first.event_id}")
        harmless(page)
        assert "Attempt 1 failed" in page.text
        assert "Next try" in page.text
        assert "https://erp.example/so/42" in page.links()
        assert "S666" in page.text
        assert "(data.total >= 100)" in page.text
        assert "the route takes product.*" in page.text
        assert "still configured" not in page.text
        assert "not configured any more" in page.text
        behind = await browser.get(f"/events/{second.event_id}")
        assert f"waits for its turn behind {first.id}" in behind.text


async def test_the_payload_raw_pretty_and_as_a_command(lab: Lab) -> None:
    """The command, run up to the request, signs the body as the store does; the file is the very bytes."""
    body = document(orderId="a", note='it\'s \u202e "quoted" $HOME `x`')
    kept = await lab.keep(body)
    (event,) = await lab.rows(EVENT)
    async with looking(lab.hub) as browser:
        page = await browser.get(f"/events/{kept.id}")
        answer = await browser.client.get(f"/events/{kept.id}/raw")
    assert answer.content == bytes(event.body)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "U+202E" in page.text
    whole = WholeEvent(event, [], [])
    script = str(command(lab.hub, whole)).partition("curl ")[0] + 'echo "$SIGNATURE"'
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", "WEBHOOK_SECRET": SECRET}
    )
    printed, _ = await shell.communicate()
    assert printed.decode().split() == [sign(bytes(event.body), SECRET)]


async def test_without_its_body_only_what_reads_the_state_goes_again(tmp_path: Path, database_url: str) -> None:
    """The preview says so before anything is sent, and the same holds where the event was not taken."""
    routes = {"one": route(), "looks": route("Looks"), "later": route("Looks", events=["none"])}
    async with open_lab(tmp_path, database_url, routes) as lab, looking(lab.hub) as browser:
        rows = {row.route: row for row in await lab.orders(1)}
        for name in ("one", "looks"):
            await lab.finish(await lab.claim_one(name), Rejected("no"))
        await lab.write(lambda connection: connection.execute(EVENT.update().values(body=None, headers=None)))
        address = f"/events/{rows['one'].event_id}/replay"
        page = await browser.get(f"{address}?routes=one")
        assert "cannot be sent again: its body was dropped when it was old" in page.text
        assert page.all("button", form="") == []
        page = await browser.get(f"{address}?routes=one&routes=looks&routes=later")
        await browser.submit(page, address)
        now = {row.route: row.status for row in await lab.rows(DELIVERY)}
        assert now == {"one": "dead", "looks": "pending", "later": "pending"}


async def test_a_preview_says_on_which_routes_it_will_wait(lab: Lab) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), Rejected("no"))
    await pause_route(lab.hub, "asha", "one", None)
    async with looking(lab.hub) as browser:
        page = await browser.get(f"/events/{row.event_id}/replay?routes=one")
        assert "it waits while the route is paused" in page.text


async def test_the_secret_that_matched_is_named_by_its_fingerprint(tmp_path: Path, database_url: str) -> None:
    stores = {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET, "the second secret of this shop"]}}
    async with open_lab(tmp_path, database_url, stores=stores) as lab, looking(lab.hub) as browser:
        key = SigningKey.of("the second secret of this shop")
        body = to_bytes(document(orderId="ord_1"))
        headers = [(b"x-litekart-signature", key.signature(body))]
        kept = await Receiving(lab.hub).receive(Incoming("main", body, headers, "203.0.113.9"))
        page = await browser.get(f"/events/{kept.id}")
        assert key.fingerprint in page.text
        assert "still configured" in page.text


async def test_a_body_that_was_dropped(lab: Lab) -> None:
    row = await came_to(lab, Receipt("yes"))
    await lab.write(lambda connection: connection.execute(update(EVENT).values(body=None, headers=None)))
    async with looking(lab.hub) as browser:
        page = await browser.get(f"/events/{row.event_id}")
        assert "The body was dropped" in page.text
        await browser.get(f"/events/{row.event_id}/raw", 404)
        refused = await browser.post(f"/events/{row.event_id}/replay", 409, routes="one")
        assert "cannot be sent again" in refused.text
    assert (await lab.delivery(row.id)).status == "delivered"


async def test_replay_along_some_routes_previewed(tmp_path: Path, database_url: str) -> None:
    """Again on one, for the first time on another that it did not take; the pending one stays; stop gives both back."""
    async with open_lab(tmp_path, database_url, ROUTES | {"three": route()}) as lab, looking(lab.hub) as browser:
        (row, _) = await lab.orders(1)
        await lab.finish(await lab.claim_one(), Rejected("no"))
        path = f"/events/{row.event_id}/replay"
        page = await browser.get(f"{path}?routes=one&routes=two&routes=three")
        assert "It goes there although it was not taken" in page.text
        assert "stays as it is" in page.text
        assert page.form(path)["routes"] == ["one", "two"]
        done = await browser.submit(page, path)
        assert "The replay has begun." in done.text
        rows = {one.route: one for one in await lab.rows(DELIVERY)}
        assert {name: one.status for name, one in rows.items()} == dict.fromkeys(("one", "two", "three"), "pending")
        assert rows["one"].id == row.id
        (line,) = await lab.rows(AUDIT)
        assert (line.who, line.action, line.detail["routes"]) == ("asha", "replay", ["one", "two"])
        stopped = await browser.submit(done, f"{done.url.path}/stop")
        assert "Given back as they were before: 2." in stopped.text
        assert {one.route: one.status for one in await lab.rows(DELIVERY)} == {"one": "dead", "three": "pending"}


async def test_replay_along_all_routes_that_it_took_previewed(tmp_path: Path, database_url: str) -> None:
    """Of those in the config; what waits stays; one that did not take it goes along when it is ticked too."""
    routes = {name: route() for name in ("one", "two", "waits", "old")} | {"other": route(events=["product.*"])}
    async with open_lab(tmp_path, database_url, routes) as lab:
        row = (await lab.orders(1))[0]
        for name, end in (("one", Rejected("no")), ("two", Receipt("yes")), ("old", Rejected("no"))):
            await lab.finish(await lab.claim_one(name), end)
    del routes["old"]
    async with open_lab(tmp_path, database_url, routes) as lab, looking(lab.hub) as browser:
        path = f"/events/{row.event_id}/replay"
        page = await browser.get(f"/events/{row.event_id}")
        assert len(page.all("button", name="all", value="1")) == 1
        assert "on which it has a delivery" in page.text
        page = await browser.get(f"{path}?all=1&routes=other")
        assert page.form(path)["routes"] == ["one", "other", "two"]
        page = await browser.get(f"{path}?routes=one&all=1")
        assert page.form(path)["routes"] == ["one", "two"]
        assert "waits pending It is under way or waits, and stays as it is" in page.text
        await browser.submit(page, path)
        now = {one.route: one.status for one in await lab.rows(DELIVERY)}
        assert now == {"one": "pending", "two": "pending", "waits": "pending", "old": "dead"}
        kept = await lab.keep(document("refund.made", id=1))
        assert (await browser.get(f"/events/{kept.id}")).all("button", name="all") == []
        assert "None was chosen" in (await browser.get(f"/events/{kept.id}/replay?all=1")).text


async def test_no_replay_is_offered_along_a_route_that_is_gone(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(), "old": route()}) as lab:
        (row, _) = await lab.orders(1)
        for name in ("one", "old"):
            await lab.finish(await lab.claim_one(name), Rejected("no"))
    async with open_lab(tmp_path, database_url) as lab, looking(lab.hub) as browser:
        page = await browser.get(f"/events/{row.event_id}")
        assert [link for link in page.links() if "/replay?" in link] == [f"/events/{row.event_id}/replay?routes=one"]


async def test_an_event_that_no_route_took_is_sent_all_the_same(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"two": route(events=["product.*"])}) as lab:
        kept = await lab.keep(document(orderId="a"))
        await lab.fan_out()
        async with looking(lab.hub) as browser:
            assert "No route took this event" in (await browser.get(f"/events/{kept.id}")).text
            await browser.post(f"/events/{kept.id}/replay", routes="two")
            assert (await lab.claim_one("two")).delivery.event_id == kept.id


async def test_as_new_is_asked_twice(lab: Lab) -> None:
    """The page says what was sent; without the tick nothing happens; with it the key is another."""
    row = await came_to(lab, Receipt("sent"))
    await lab.hub.writer.put(put_effects, NewEffect(row.id, "message", row.id, "m1", None))
    path = f"/events/{row.event_id}/replay"
    async with looking(lab.hub) as browser:
        assert "sends nothing again" in (await browser.get(f"{path}?routes=one")).text
        page = await browser.get(f"{path}?routes=one&as_new=1")
        assert "goes out a second time" in page.text
        assert "say that you are sure" in (await browser.submit(page, path, 422)).text
        assert (await lab.delivery(row.id)).key_no == 0
        await browser.submit(page, path, sure="1")
    assert (await lab.delivery(row.id)).key_no == 1
    assert [line.detail["as_new"] for line in await lab.rows(AUDIT)] == [True]


async def test_a_repeat_with_other_content_is_let_in(lab: Lab) -> None:
    first = await lab.keep(document(orderId="a", total=1))
    await lab.keep(document(orderId="a", total=2))
    async with looking(lab.hub) as browser:
        page = await browser.get(f"/events/{first.id}")
        assert "The store sent it 1 more time" in page.text
        done = await browser.submit(page, f"/events/{first.id}/let-in")
        assert "Let in as an event of its own." in done.text
        again = await browser.submit(page, f"/events/{first.id}/let-in")
        assert "It had been let in before" in again.text
    assert len(await lab.rows(EVENT)) == 2
    assert [line.who for line in await lab.rows(AUDIT)] == ["asha", "asha"]


async def test_hostile_answers_and_effects(lab: Lab) -> None:
    """S18: What a destination wrote is text too, and what is longer than a line is folded."""
    row = await came_to(lab, Rejected("<script>alert(1)</script> \u202e" + "w" * 1_900))
    evil = "javascript:alert(1)//<b onclick=x>"

    def scribble(connection: Connection) -> None:
        connection.execute(update(DELIVERY).values(released_by=evil, released_at=lab.hub.now(), error_key=evil))

    await lab.write(scribble)
    await lab.hub.writer.put(put_effects, NewEffect(row.id, evil, row.id, evil, evil))
    async with looking(lab.hub) as browser:
        for path in (f"/events/{row.event_id}", "/deliveries", "/", "/deliveries?status=dead"):
            page = await browser.get(path)
            harmless(page)
            assert "<script>alert(1)</script> U+202E" in page.text
            assert "wwww" in page.text
        assert "javascript:alert(1)//<b onclick=x>" in (await browser.get(f"/events/{row.event_id}")).text


async def test_a_delivery_has_an_address(lab: Lab) -> None:
    row = await lab.order()
    async with looking(lab.hub) as browser:
        page = await browser.get(f"/deliveries/{row.id}")
        assert (page.url.path, page.url.fragment) == (f"/events/{row.event_id}", row.id)
