"""What commands say of the record while no hub runs: replays, what is held, filters, and one thing whole."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.client import Exchange
from hub.connector import Receipt
from hub.deliver import finish
from hub.errors import Hold, HoldRoute, Rejected, TryAgain
from hub.hour import Report
from hub.process import local_socket, running_socket
from hub.reorders import KeptReorders, make_orders
from hub.replay import advance_replays, pause_route, start_change, start_replay
from hub.store import AUDIT, DELIVERY, REPLAY
from hub.store.budgets import settle_budgets
from hub.store.meant import Filter
from hub.store.records import record
from hub.valkey import private_folder
from tests.buyer import line_of
from tests.console import Console
from tests.dashboard.served import looking
from tests.hubdb import SECRET, Lab, document, open_lab, route
from tests.hubs import write_config
from tests.servers import eventually

ROOT = Path(__file__).parents[1]
ROUTES = {"one": route(), "two": route(events=["product.*"])}


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    made = Console()
    yield made
    made.close()


@asynccontextmanager
async def record_in(
    folder: Path, routes: dict[str, Any] = ROUTES, store: dict[str, Any] | None = None
) -> AsyncIterator[Lab]:
    """A lab whose record commands find in that folder afterwards."""
    main = {"url": "http://shop.test", "webhook_secrets": [SECRET]} | (store or {})
    write_config(folder, {"server": {"port": 0}, "stores": {"main": main}, "routes": routes})
    async with open_lab(folder, f"sqlite:///{folder}/data/hub.db", routes, stores={"main": main}) as lab:
        yield lab


async def dead(lab: Lab, count: int) -> list[str]:
    """That many dead deliveries."""
    rows = await lab.orders(count)
    for claimed in (await lab.claim()).claims:
        await lab.finish(claimed, Rejected("no"))
    return [row.id for row in rows]


def all_of(descriptor: int) -> str:
    with open(descriptor) as file:
        return file.read()


async def test_a_replay_that_is_interrupted_is_stopped_and_leaves_all_as_before(tmp_path: Path) -> None:
    """Ctrl-C comes at a known moment: when the replay is written, and nobody has read yet that it has begun."""
    async with record_in(tmp_path) as lab:
        await dead(lab, 3)
        before = await lab.rows(DELIVERY)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    filling = os.write(theirs, b"\n" * 1_000_000)
    os.set_blocking(theirs, True)
    words = ["replay", "--status", "dead", "--yes", "--json", "--config", str(tmp_path / "config.yaml")]
    # Whoever runs the tests in the background may have them ignore Ctrl-C, and what they start would ignore it too.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.cli", *words, stderr=theirs, stdout=subprocess.DEVNULL, cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(theirs)
    with closing(sqlite3.connect(f"file:{tmp_path}/data/hub.db?mode=ro", uri=True)) as reader:
        await eventually(lambda: reader.execute("SELECT 1 FROM replay").fetchone())
    process.send_signal(signal.SIGINT)
    said = await asyncio.to_thread(all_of, ours)
    assert await process.wait() == 1
    *begun, stopped = said[filling:].splitlines()
    assert all(re.fullmatch(r"hub: rpl_\w+ begins", line) for line in begun)
    assert re.fullmatch(r"hub: rpl_\w+: stopped; 3 are as before", stopped)
    async with record_in(tmp_path) as lab:
        assert [dict(row._mapping) for row in await lab.rows(DELIVERY)] == [dict(row._mapping) for row in before]
        assert (await lab.row(REPLAY)).state == "stopped"


async def test_replays_are_listed_and_shown_with_what_became_of_them(console: Console, tmp_path: Path) -> None:
    async with record_in(tmp_path) as lab:
        ids = await dead(lab, 3)
        paced = await start_replay(lab.hub, "asha", Filter(status="dead"), pace=1 / 3600)
        assert await lab.finish(await lab.claim_one(limit=1), Receipt("done")) == "delivered"
        other = await start_replay(lab.hub, "ben", Filter(ids=(ids[0],)), as_new=True, to_route="two")
    found = console.hub(tmp_path, "replays", "--json").json
    assert ([one["id"] for one in found["replays"]], found["before"]) == ([other, paced], None)
    page = console.hub(tmp_path, "replays", "--json", "--limit", "1").json
    assert (page["before"], len(page["replays"])) == (other, 1)
    text = console.hub(tmp_path, "replays").out
    assert re.search(
        rf"{paced} +replay +asha +done, spread until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ +3 of 3 +status dead$", text, re.M
    )
    assert re.search(rf"{other} +replay +ben +done +1 of 1 +ids {ids[0]}, to two, as new$", text, re.M)
    shown = console.hub(tmp_path, "show", paced)
    assert re.search(r"^became +1 sent, 2 waiting$", shown.out, re.M)
    notes = console.hub(tmp_path, "status", "--json").json["notes"]
    assert any(f"replay {paced} of asha spreads 3 until 20" in note for note in notes)
    assert not any(other in note for note in notes)


async def test_a_paced_replay_says_how_long_it_is_spread_and_one_on_a_paused_route_that_it_waits(
    console: Console, tmp_path: Path
) -> None:
    async with record_in(tmp_path) as lab:
        await dead(lab, 2)
        await pause_route(lab.hub, "asha", "one", "stock-taking")
    ran = console.hub(tmp_path, "replay", "--status", "dead", "--pace", "1/h", "--yes")
    assert "route one is paused: along it they wait until `hub resume one`" in ran.out
    assert re.search(r"^rpl_\w+ begins$", ran.out, re.M)
    assert re.search(r"2 of 2 are set going \(done, spread until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ\)", ran.out)


async def test_the_record_of_a_hub_that_was_killed_does_not_read_as_a_hub_at_work(
    console: Console, tmp_path: Path
) -> None:
    async with record_in(tmp_path) as lab:
        await lab.alive("wrk_of_the_killed_one")
    ran = console.hub(tmp_path, "status")
    assert ran.code == 1
    assert "no hub runs on this folder, so nothing is received or delivered: start `hub up`" in ran.out


async def test_status_tells_why_a_route_is_paused_and_counts_what_waits_there_as_held(
    console: Console, tmp_path: Path
) -> None:
    async with record_in(tmp_path) as lab:
        await lab.orders(2)
        await lab.claim(limit=1)
        await pause_route(lab.hub, "asha", "one", "stock-taking")
    found = console.hub(tmp_path, "status", "--json").json
    one = found["routes"]["one"]
    assert (one["state"], one["pending"], one["held"]) == ("paused", 1, 1)
    assert (one["paused_by"], one["paused_reason"]) == ("asha", "stock-taking")
    (note,) = [note for note in found["notes"] if "paused" in note]
    assert re.search(r"since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ by asha \(stock-taking\)", note)
    assert "`hub resume one`" in note


async def test_release_tells_which_went_and_why_the_others_did_not(console: Console, tmp_path: Path) -> None:
    routes = {name: route() for name in ("paused", "broken", "gone", "open")}
    async with record_in(tmp_path, routes) as lab:
        by_route = {row.route: row for row in await lab.orders(1)}
        claimed = await lab.claim_one("open", limit=1)
        await lab.finish(claimed, Hold("over the limit"))
        await lab.finish(await lab.claim_one("broken", limit=1), HoldRoute("the key is wrong"))
        await pause_route(lab.hub, "asha", "paused", None)
    async with record_in(tmp_path, {name: one for name, one in routes.items() if name != "gone"}):
        pass
    ids = [claimed.delivery.id, *(by_route[name].id for name in ("paused", "broken", "gone"))]
    ran = console.hub(tmp_path, "release", *ids, "dlv_none")
    assert (ran.code, ran.out) == (1, f"released: {ids[0]}\n")
    paused, broken, gone, unknown = ran.err.splitlines()
    assert paused == f"hub: {ids[1]}: no person holds it; its route is paused: `hub resume paused`"
    assert broken == f"hub: {ids[2]}: no person holds it; its route is broken: `hub resume broken`"
    assert f"its route gone is gone: put it back, or `hub replay {ids[3]} --to ROUTE`" in gone
    assert "dlv_none: there is no such delivery" in unknown


async def test_a_pause_and_its_end_are_written_down_with_their_reasons(tmp_path: Path, console: Console) -> None:
    async with record_in(tmp_path):
        pass
    for words in (("pause", "one", "--reason", "stocktaking"), ("resume", "one", "--reason", "counted")):
        assert console.hub(tmp_path, *words).code == 0
    async with record_in(tmp_path) as lab:
        lines = [(line.action, line.detail["route"], line.detail["reason"]) for line in await lab.rows(AUDIT)]
    assert lines == [("pause", "one", "stocktaking"), ("resume", "one", "counted")]


async def test_all_that_is_held_on_a_route_is_released_at_a_pace_and_stopped(console: Console, tmp_path: Path) -> None:
    """Asked first; what keeps a pace is left to the hub; a stop takes back what has not started."""
    async with record_in(tmp_path) as lab:
        await lab.orders(3)
        for claimed in (await lab.claim()).claims:
            await lab.finish(claimed, Hold("over the limit"))
    asked = console.hub(tmp_path, "release", "--route", "one")
    assert (asked.code, "Release all 3 held deliveries of one?" in asked.err) == (1, True)
    begun = console.hub(tmp_path, "release", "--route", "one", "--pace", "1/h", "--yes", "--json").json
    assert (begun["action"], begun["state"], begun["done"], begun["total"]) == ("release", "running", 1, 3)
    assert re.search(rf"{begun['id']} +release .* 1 of 3 +route one", console.hub(tmp_path, "replays").out)
    assert f"release {begun['id']}" in console.hub(tmp_path, "status").out
    stopped = console.hub(tmp_path, "replay", "--stop", begun["id"])
    assert stopped.out == f"{begun['id']} is stopped; 1 that had not started are as before\n"
    async with record_in(tmp_path) as lab:
        assert {(row.status, row.released_by) for row in await lab.rows(DELIVERY)} == {("held", None)}
        paced = await start_change(lab.hub, "release", "asha", Filter(route="one"), pace=1)
        lab.later(10)
        await advance_replays(lab.hub)
    assert re.search(rf"{paced} +release +asha +done +3 of 3", console.hub(tmp_path, "replays").out)
    assert "cancelled (done)" in console.hub(tmp_path, "cancel", "--route", "one", "--yes").out
    nothing = console.hub(tmp_path, "release", "--route", "one", "--yes")
    assert (nothing.code, nothing.err) == (1, "hub: nothing to release: nothing is held for a person on route one\n")
    unknown = console.hub(tmp_path, "cancel", "--route", "on", "--yes")
    assert (unknown.code, unknown.err) == (1, "hub: there is no route on; there is one\n")


async def test_cancel_tells_the_unknown_from_the_done(console: Console, tmp_path: Path) -> None:
    async with record_in(tmp_path) as lab:
        (done,) = await dead(lab, 1)
        (waits,) = await lab.orders(1)
    ran = console.hub(tmp_path, "cancel", waits.id, done, "dlv_none")
    assert (ran.code, ran.out) == (1, "1 cancelled\n")
    assert ran.err.splitlines() == [
        "hub: dlv_none: there is no such delivery",
        f"hub: not pending or held, so not cancelled: {done}",
    ]


async def test_names_that_are_only_in_the_record_are_known_to_filters(console: Console, tmp_path: Path) -> None:
    async with record_in(tmp_path, {"old": route()}) as lab:
        await lab.orders(1)
        await lab.finish(await lab.claim_one("old"), Rejected("HTTP 410: gone", status=410))
    async with record_in(tmp_path):
        pass
    assert len(console.hub(tmp_path, "deliveries", "--route", "old", "--json").json["deliveries"]) == 1
    assert console.hub(tmp_path, "deliveries", "--route", "old", "--status", "pending").out == "no deliveries\n"
    assert console.hub(tmp_path, "deliveries", "--error", "status_410", "--status", "held").code == 0
    ran = console.hub(tmp_path, "deliveries", "--error", "status_41", "--json")
    assert (ran.code, ran.out, ran.err) == (1, "", "hub: there is no error status_41; there is status_410\n")
    assert "there is no route od; there is old" in console.hub(tmp_path, "replay", "--route", "od", "--dry-run").err


async def test_more_is_said_only_where_there_is_more(console: Console, tmp_path: Path) -> None:
    async with record_in(tmp_path) as lab:
        await lab.orders(2)
    for words in (("events",), ("deliveries",)):
        assert "more with" not in console.hub(tmp_path, *words, "--limit", "2").out
        page = console.hub(tmp_path, *words, "--limit", "1")
        (before,) = re.findall(r"^more with --before (\S+)$", page.out, re.M)
        last = console.hub(tmp_path, *words, "--limit", "1", "--before", before)
        assert last.out != page.out
        assert "more with" not in last.out


async def test_a_pending_delivery_says_when_it_is_tried_next(console: Console, tmp_path: Path) -> None:
    async with record_in(tmp_path) as lab:
        row = await lab.order()
        await lab.finish(await lab.claim_one(), TryAgain("HTTP 500", status=500))
        due = (await lab.delivery(row.id)).next_attempt_at
        await lab.orders(1)
        await lab.claim()
    text = console.hub(tmp_path, "deliveries").out
    assert f"next try {due:%Y-%m-%d %H:%M:%S}Z; 1 of 4; HTTP 500" in text
    assert "attempt 1 is under way; 1 of 4" in text


async def test_a_delivery_is_shown_with_its_events_type_and_every_line_of_what_was_said(
    console: Console, tmp_path: Path
) -> None:
    async with record_in(tmp_path) as lab:
        row = await lab.order()
        said = Exchange("POST /x\nKey: 1\n\n{}", "HTTP 400\n\nno\x1b[31m", 400)
        ended = Rejected("HTTP 400: no", status=400)
        claimed = await lab.claim_one()
        finished = finish(lab.hub, lab.line("one"), claimed, ended, said, timedelta(milliseconds=7))
        await lab.hub.writer.put(record, finished)
    text = console.hub(tmp_path, "show", row.id).out
    assert re.search(r"^type +order.placed$", text, re.M)
    assert "attempt 1, request:\n  POST /x\n  Key: 1\n  \n  {}\nattempt 1, response:\n  HTTP 400\n" in text
    assert re.search(r"^created_at +20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ$", text, re.M)
    assert "\x1b" not in text


async def test_a_repeat_with_other_content_is_shown_by_its_id(console: Console, tmp_path: Path) -> None:
    async with record_in(tmp_path) as lab:
        event = await lab.keep(document(orderId="ord_1", total=1))
        assert (await lab.keep(document(orderId="ord_1", total=2))).duplicate
    (repeat,) = console.hub(tmp_path, "show", event.id, "--json").json["differing_repeats"]
    shown = console.hub(tmp_path, "show", repeat["id"])
    assert re.search(rf"^kind +repeat\n(.*\n)*event_id +{event.id}$", shown.out, re.M)
    accepted = [console.hub(tmp_path, "refused", "accept", repeat["id"], "--json").json for _ in range(2)]
    assert accepted == [{"id": accepted[0]["id"], "duplicate": False}, {"id": accepted[0]["id"], "duplicate": True}]
    assert console.hub(tmp_path, "explain", accepted[0]["id"], "--json").json["repeats"] is None


async def test_a_stores_hour_and_who_spent_it_are_the_same_in_both_commands_and_on_the_overview(
    console: Console, tmp_path: Path
) -> None:
    keys = {"api_key": "canary-of-the-store", "profile": "v2", "rate": {"limit": 300}}
    async with record_in(tmp_path, store=keys) as lab:
        report = Report("main", "a", 300, 10, wants="foreground")
        grant = await lab.hub.writer.put(settle_budgets, report)
        spent = replace(report, number=grant.number, unspent=3, spent={"erp": 6, "catch-up": 1}, wants=None)
        await lab.hub.writer.put(settle_budgets, spent)
        async with looking(lab.hub) as asha:
            page = await asha.get("/")
    assert re.search(r" main 293 of 300 in \d+ min erp 6, catch-up 1 ", page.text)
    shown = console.hub(tmp_path, "stores")
    resets = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ"
    assert re.search(rf"^main +http://shop.test +v2 +yes +293 of 300 +{resets} +erp 6, catch-up 1$", shown.out, re.M)
    assert re.search(rf"^main +293 of 300 +{resets} +erp 6, catch-up 1$", console.hub(tmp_path, "status").out, re.M)
    assert console.hub(tmp_path, "stores", "--json").json["stores"]["main"]["left"] == 293
    assert "canary" not in shown.out


async def test_what_a_killed_hub_left_in_the_temporary_folder_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """Only what is named, and only where it is of the kind that a hub makes."""
    left, other = private_folder(), private_folder()
    foreign = tmp_path / "of-somebody-else"
    foreign.mkdir()
    note = tmp_path / "data" / "hub.json"
    async with record_in(tmp_path) as lab:
        for folder in (left, foreign):
            note.write_text(json.dumps({"pid": 1, "socket": str(folder / "local")}))
            async with local_socket(lab.hub):
                assert running_socket(lab.hub.config) not in {None, str(folder / "local")}
    assert [folder.exists() for folder in (left, other, foreign)] == [False, True, True]
    other.rmdir()


async def test_reorders_are_listed_planned_approved_dropped_and_closed(tmp_path: Path, console: Console) -> None:
    buy = route(events=["none"]) | {"connector": "tests.buyer:Buyer", "settings": {"approval": True}}
    async with record_in(tmp_path, {"buy": buy}) as lab:
        reorders = KeptReorders(lab.hub, "main", "buy", "")
        for sku, supplier in (("KET-1", "Acme"), ("POT-1", "Verma"), ("MUG-1", "Later")):
            window = timedelta(minutes=10 if supplier == "Later" else 0)
            await reorders.open(line_of({"sku": sku, "supplier": supplier}), window=window)
        await make_orders(lab.hub)
        for claimed in (await lab.claim("buy")).claims:
            await lab.finish(claimed, Hold("approval: 12 pieces"))
    listed = console.hub(tmp_path, "reorders")
    assert re.search(r"reo_\w+ +MUG-1 +12 +Later +open +stock 4 ≤ 10; ordered 12; goes out ", listed.out)
    waiting = console.hub(tmp_path, "reorders", "--state", "waiting", "--json").json["reorders"]
    verma, acme = waiting
    assert [one["sku"] for one in waiting] == ["POT-1", "KET-1"]
    assert "2 orders to suppliers wait for a person" in console.hub(tmp_path, "status").out
    assert "PLAN-1            12        Acme      would be ordered" in console.hub(tmp_path, "reorders", "plan").out
    approved = console.hub(tmp_path, "reorders", "approve", acme["order_id"], "pur_none")
    assert (approved.code, approved.out) == (1, f"approved: {acme['order_id']}\n")
    assert "pur_none: there is no such order" in approved.err
    assert console.hub(tmp_path, "reorders", "drop", verma["id"]).code == 2
    dropped = console.hub(tmp_path, "reorders", "drop", verma["id"], "--why", "too dear", "--json").json
    assert dropped == {"dropped": [verma["order_id"]], "failed": []}
    assert console.hub(tmp_path, "reorders", "close", acme["id"], "--why", "bought in town").code == 0
    closed = console.hub(tmp_path, "reorders", "--state", "closed", "--sku", "KET-1")
    assert re.search(r"closed +pur_\w+ +bought in town", closed.out)
    assert console.hub(tmp_path, "reorders", "--state", "lost").code == 2
