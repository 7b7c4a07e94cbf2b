"""Replays: one, many, paced, as new, along another route; stopped half-way; and what they leave untouched."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row

from hub.connector import Context, Event, Receipt
from hub.deliver import attempt, context_of, delivery_key, event_of
from hub.errors import CommandError, Hold, NotNow, Rejected, Skip, TryAgain
from hub.replay import advance_replays, pause_route, preview_replay, start_change, start_replay, stop_replay
from hub.store import AUDIT, DELIVERY, EVENT, REPLAY, replays
from hub.store.claims import Claim
from hub.store.meant import Filter
from hub.store.replays import BATCH
from tests import hubdb
from tests.hubdb import Lab, Puppet, document, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
ALONG = {"one": route(), "two": route(when="data.total >= 100", max_age="1m")}


async def settled(lab: Lab, *results: Any) -> list[Row[Any]]:
    """Fresh deliveries that ended like this, in the order of their ids; None: still pending."""
    rows = sorted(await lab.orders(len(results)), key=lambda row: row.id)
    claims = {one.delivery.id: one for one in (await lab.claim()).claims}
    for row, result in zip(rows, results, strict=True):
        await lab.finish(claims[row.id], NotNow("later", 3600) if result is None else result)
    return [await lab.delivery(row.id) for row in rows]


def same_but(row: Row[Any], **changed: Any) -> dict[str, Any]:
    return dict(row._mapping) | changed


def whole(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)


@pytest.mark.parametrize("result", [Receipt("done"), Rejected("no"), Skip("nothing")])
async def test_what_is_done_is_pending_again_under_its_key(lab: Lab, result: Any) -> None:
    (before,) = await settled(lab, result)
    replay_id = await start_replay(lab.hub, "asha", Filter(ids=(before.id,)))
    now = await lab.delivery(before.id)
    assert (now.status, now.attempts, now.budget, now.replay_id) == ("pending", 1, 1 + now.span, replay_id)
    assert (now.error_key, now.last_error) == (None, None)
    assert delivery_key(now) == delivery_key(before)
    assert (await lab.claim_one()).attempt == 2
    assert [(row.who, row.action) for row in await lab.rows(AUDIT)] == [("asha", "replay")]


async def test_an_event_id_stands_for_all_its_deliveries(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(), "two": route()}) as lab:
        rows = await lab.orders(1)
        for row in rows:
            await lab.finish(await lab.claim_one(row.route), Receipt("done"))
        await start_replay(lab.hub, "asha", Filter(ids=(rows[0].event_id,)))
        assert [row.status for row in await lab.rows(DELIVERY)] == ["pending", "pending"]


async def test_by_filter_only_what_matches_and_is_done(lab: Lab) -> None:
    rows = await settled(lab, Receipt("done"), Rejected("no"), None, Hold("wait"), Rejected("other: 7"))
    (under_way,) = await lab.orders(1)
    await lab.claim_one()
    before = {row.id: row for row in await lab.rows(DELIVERY)}
    preview = await preview_replay(lab.hub, Filter())
    assert preview.by_status == {"delivered": 1, "dead": 2, "pending": 2, "held": 1}
    assert (preview.would_replay, preview.already_sent, preview.out_of_order) == (3, 0, 0)
    await start_replay(lab.hub, "asha", Filter(status="dead", error_key="no", since=rows[0].created_at))
    now = {row.id: row for row in await lab.rows(DELIVERY)}
    assert [of for of in now if now[of] != before[of]] == [rows[1].id]
    await start_replay(lab.hub, "asha", Filter())
    now = {row.id: row for row in await lab.rows(DELIVERY)}
    assert {of for of in now if now[of] != before[of]} == {rows[0].id, rows[1].id, rows[4].id}
    assert under_way.id not in {row.id for row in now.values() if row.replay_id}


async def test_a_preview_changes_nothing_and_tells_what_was_sent_and_what_runs_out_of_order(
    tmp_path: Path, database_url: str
) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(ordered=True)}) as lab:
        sent, unsent = await settled(lab, Receipt("done"), Rejected("no"))
        claimed = Claim(sent, 1, sent.created_at, False)
        await effects_of(lab, claimed).put("mail", "<1@shop>")
        before = await lab.rows(DELIVERY)
        preview = await preview_replay(lab.hub, Filter())
        assert (preview.would_replay, preview.already_sent, preview.out_of_order) == (2, 1, 0)
        assert (await preview_replay(lab.hub, Filter(ids=(unsent.id,)))).already_sent == 0
        assert (await preview_replay(lab.hub, Filter(), most=1)).would_replay == 1
        assert await lab.rows(DELIVERY) == before


async def ordered(lab: Lab, *ends: tuple[str, Any]) -> list[Row[Any]]:
    """Deliveries of the ordered route `one` about these orders, one after the other, that ended like this."""
    made = []
    for number, (order, result) in enumerate(ends):
        made += await lab.deliver_events(document("order.updated", orderId=order, number=number))
        if result is not None:
            await lab.finish(await lab.claim_one(), result)
    return made


async def test_out_of_order_is_what_a_later_one_of_its_order_has_overtaken(tmp_path: Path, database_url: str) -> None:
    """Not what has nothing after it, nor what goes again together with what came after it."""
    routes = {"one": route(ordered=True), "two": route(events=["none"], ordered=True)}
    async with open_lab(tmp_path, database_url, routes) as lab:
        first, second, third, *_ = await ordered(
            lab, ("a", Rejected("no")), ("a", Receipt("done")), ("a", Rejected("no")), ("b", Rejected("no")),
            ("c", Rejected("no")), ("c", Rejected("no")), ("d", Rejected("other: 7")), ("d", None),
        )  # fmt: skip

        async def late(to_route: str | None = None, **found: Any) -> int:
            return (await preview_replay(lab.hub, Filter(**found), to_route=to_route)).out_of_order

        assert await late(status="dead") == 1
        assert await late(ids=(first.id, third.id)) == 1
        assert await late(ids=(first.id,)) == 1
        assert await late(ids=(third.id,)) == 0
        assert await late(status="delivered") == 1
        assert await late(status="dead", entity="order:c") == 0
        assert await late(error_key="other") == 0
        assert await late(ids=(second.event_id,), to_route="two") == 0
        await start_replay(lab.hub, "asha", Filter(ids=(second.event_id,)), to_route="two")
        await lab.finish(await lab.claim_one("two"), Receipt("done"))
        assert await late(ids=(first.event_id, second.event_id, third.event_id), to_route="two") == 1


async def test_a_preview_names_the_routes_on_which_they_will_wait(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(), "two": route(events=["none"])}) as lab:
        (row,) = await settled(lab, Rejected("no"))
        await pause_route(lab.hub, "asha", "two", None)
        assert (await preview_replay(lab.hub, Filter(status="dead"))).held_up == {}
        assert (await preview_replay(lab.hub, Filter(ids=(row.event_id,)), to_route="two")).held_up == {"two": "paused"}
        await pause_route(lab.hub, "asha", "one", None)
        assert (await preview_replay(lab.hub, Filter(status="dead"))).held_up == {"one": "paused"}


def effects_of(lab: Lab, claimed: Claim, *, entity: bool = False) -> Any:
    """What the connector gets as `ctx.effects` or `ctx.entity_effects`."""
    row = claimed.delivery
    event = event_of(same_row(row))
    ctx = context_of(lab.hub, lab.line(row.route), row, claimed.attempt, event)
    return ctx.entity_effects if entity else ctx.effects


def same_row(row: Any) -> Any:
    class Joined:
        type, body = "order.placed", b"{}"
        occurred_at = received_at = row.created_at
        event_id, store, entity = row.event_id, row.store, row.entity

    return Joined


async def test_as_new_changes_the_key_and_forgets_this_deliverys_effects_alone(lab: Lab) -> None:
    row = await lab.order()
    first = await lab.claim_one()
    await effects_of(lab, first).put("mail", "<1@shop>")
    await effects_of(lab, first, entity=True).put("order", "S0001")
    await lab.finish(first, Receipt("done"))

    await start_replay(lab.hub, "asha", Filter(ids=(row.id,)))
    same = await lab.claim_one()
    assert (await effects_of(lab, same).get("mail")).value == "<1@shop>"
    await lab.finish(same, Receipt("done"))

    await start_replay(lab.hub, "asha", Filter(ids=(row.id,)), as_new=True)
    anew = await lab.claim_one()
    assert delivery_key(anew.delivery) == f"{row.id}-n1" != delivery_key(same.delivery) == row.id
    assert await effects_of(lab, anew).get("mail") is None
    assert (await effects_of(lab, anew, entity=True).get("order")).value == "S0001"


async def test_its_pace_spreads_the_due_times(lab: Lab) -> None:
    await settled(lab, *[Rejected("no")] * 6)
    await start_replay(lab.hub, "asha", Filter(), pace=0.5)
    started = (await lab.row(REPLAY)).at
    due = [row.next_attempt_at for row in await lab.rows(DELIVERY)]
    assert due[1:] == [started + timedelta(seconds=2 * number) for number in range(1, 6)]
    assert len((await lab.claim()).claims) == 1
    lab.later(4)
    assert len((await lab.claim()).claims) == 2


async def test_a_limit_takes_the_oldest(lab: Lab) -> None:
    rows = await settled(lab, *[Rejected("no")] * 4)
    await start_replay(lab.hub, "asha", Filter(), most=2)
    assert await advance_replays(lab.hub) == 0
    assert [row.status for row in await lab.rows(DELIVERY)] == ["pending", "pending", "dead", "dead"]
    replay = await lab.row(REPLAY)
    assert (replay.total, replay.done, replay.state) == (2, 2, "done")
    assert rows[0].id < rows[2].id


async def thousand(lab: Lab, count: int) -> None:
    """That many dead deliveries, quickly."""
    row = await lab.order()
    await lab.finish(await lab.claim_one(), Rejected("no"))
    (dead,) = await lab.rows(DELIVERY, DELIVERY.c.id == row.id)
    event = await lab.row(EVENT)
    numbers = range(1, count)
    events = [same_but(event, id=f"evt_{n:04}", seq=event.seq + n, dedupe_key=b"%d" % n) for n in numbers]
    copies = [same_but(dead, id=f"{row.id}{n:04}", event_id=f"evt_{n:04}") for n in numbers]
    await lab.write(lambda connection: connection.execute(EVENT.insert(), events))
    await lab.write(lambda connection: connection.execute(DELIVERY.insert(), copies))


async def test_many_go_in_batches_and_one_that_dies_again_is_not_taken_twice(lab: Lab) -> None:
    await thousand(lab, 2 * BATCH + 3)
    await start_replay(lab.hub, "asha", Filter(status="dead"))
    assert len(await lab.rows(DELIVERY, DELIVERY.c.status == "pending")) == BATCH
    for one in (await lab.claim(limit=10)).claims:
        assert await lab.finish(one, Rejected("still no")) == "dead"
    assert await advance_replays(lab.hub) == 1
    assert await advance_replays(lab.hub) == 1
    assert await advance_replays(lab.hub) == 0
    assert len(await lab.rows(DELIVERY, DELIVERY.c.status == "pending")) == 2 * BATCH + 3 - 10
    replay = await lab.row(REPLAY)
    assert (replay.state, replay.done, replay.total) == ("done", 2 * BATCH + 3, 2 * BATCH + 3)


async def test_stopped_half_way_what_had_not_started_is_exactly_as_before(lab: Lab) -> None:
    rows = await settled(lab, Receipt("done"), Rejected("no"), Skip("nothing"), Rejected("other"), Receipt("done"))
    replay_id = await start_replay(lab.hub, "asha", Filter(), as_new=True, pace=1.0)
    lab.later(1)
    started = (await lab.claim()).claims
    assert [one.delivery.id for one in started] == [rows[0].id, rows[1].id]
    await lab.finish(started[0], NotNow("busy", 5))
    assert await stop_replay(lab.hub, "lei", replay_id) == 3
    for row in rows[2:]:
        assert whole(await lab.delivery(row.id)) == same_but(row)
    assert [(await lab.delivery(row.id)).status for row in rows[:2]] == ["pending", "pending"]
    assert await lab.finish(started[1], Rejected("no")) == "dead"
    assert (await lab.row(REPLAY)).state == "stopped"
    assert await advance_replays(lab.hub) == 0
    assert await stop_replay(lab.hub, "lei", replay_id) == 0


async def test_stopped_between_batches_the_rest_is_never_taken(lab: Lab) -> None:
    await thousand(lab, BATCH + 5)
    before = await lab.rows(DELIVERY)
    replay_id = await start_replay(lab.hub, "asha", Filter())
    await stop_replay(lab.hub, "asha", replay_id)
    await advance_replays(lab.hub)
    assert await lab.rows(DELIVERY) == before


async def test_stopped_many_are_given_back_in_batches_and_a_stop_cut_short_is_asked_for_again(lab: Lab) -> None:
    """One transaction over all would keep webhooks waiting, and PostgreSQL ends one that takes 12 s."""
    await thousand(lab, 2 * BATCH)
    before = await lab.rows(DELIVERY)
    replay_id = await start_replay(lab.hub, "asha", Filter(), pace=0.01)
    while await advance_replays(lab.hub):
        pass
    given_back, _ = await lab.write(lambda c: replays.stop(c, lab.hub.now(), replay_id, "asha"))
    assert (given_back, len(await lab.rows(DELIVERY, DELIVERY.c.status == "pending"))) == (BATCH, BATCH)
    row = await lab.row(REPLAY)
    assert (replays.state_of(row), await lab.rows(AUDIT, AUDIT.c.action == "replay.stop")) == ("running", [])
    assert await advance_replays(lab.hub) == 0
    assert await stop_replay(lab.hub, "lei", replay_id) == BATCH
    assert [same_but(row, before=None) for row in await lab.rows(DELIVERY)] == [same_but(row) for row in before]
    line = await lab.row(AUDIT, AUDIT.c.action == "replay.stop")
    assert (line.who, line.detail["given_back"], (await lab.row(REPLAY)).state) == ("lei", BATCH, "stopped")


async def test_stopped_along_another_route_what_moved_away_is_back_whichever_batch_it_is_in(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.store.replays.BATCH", 2)
    async with open_lab(tmp_path, database_url, {"old": route()}) as lab:
        await lab.orders(5)
    async with open_lab(tmp_path, database_url, {"one": route(events=["none"])}) as lab:
        before = await lab.rows(DELIVERY)
        replay_id = await start_replay(lab.hub, "asha", Filter(route="old"), to_route="one", pace=0.001)
        while await advance_replays(lab.hub):
            pass
        assert len(await lab.rows(DELIVERY, DELIVERY.c.error_key == "moved")) == 5
        assert await stop_replay(lab.hub, "asha", replay_id) == 5
        assert await lab.rows(DELIVERY) == before


async def test_stopped_a_second_replay_leaves_the_first_ones_mark(tmp_path: Path, database_url: str) -> None:
    """What a person replayed never falls to max_age, also after a later replay was stopped."""
    async with open_lab(tmp_path, database_url) as lab:
        await settled(lab, Rejected("no"))
        await start_replay(lab.hub, "asha", Filter())
        await lab.finish(await lab.claim_one(), Rejected("no"))
        (before,) = await lab.rows(DELIVERY)
        second = await start_replay(lab.hub, "asha", Filter(), pace=0.001)
        assert await stop_replay(lab.hub, "asha", second) == 1
        (now,) = await lab.rows(DELIVERY)
        assert whole(now) == same_but(before, before=None)


async def test_stopped_a_repeat_that_came_meanwhile_is_still_looked_at(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route("Looks")}) as lab:
        event = document("order.updated", orderId="ord_1")
        (row,) = await lab.deliver_events(event)
        await lab.finish(await lab.claim_one(), Receipt("done"))
        replay_id = await start_replay(lab.hub, "asha", Filter())
        assert (await lab.keep(event)).duplicate
        await stop_replay(lab.hub, "asha", replay_id)
        now = await lab.delivery(row.id)
        assert (now.status, now.look, now.again, now.replay_id) == ("pending", 1, False, None)


async def test_along_another_route_whatever_its_condition_and_age(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ALONG) as lab:
        (row,) = await lab.deliver_events(document(orderId="ord_1", total=5))
        await lab.finish(await lab.claim_one("one"), Rejected("no"))
        before = await lab.delivery(row.id)
        lab.later(3600)
        replay_id = await start_replay(lab.hub, "asha", Filter(ids=(row.id,)), to_route="two")
        assert await lab.delivery(row.id) == before
        claimed = await lab.claim_one("two")
        assert (claimed.delivery.event_id, claimed.delivery.replay_id) == (row.event_id, replay_id)
        await lab.finish(claimed, Receipt("done"))
        await start_replay(lab.hub, "asha", Filter(route="one"), to_route="two")
        assert (await lab.claim_one("two")).attempt == 2


async def test_along_another_route_one_event_goes_once(tmp_path: Path, database_url: str) -> None:
    """An event with deliveries on several routes is sent along the other route once, in whichever batches they are."""
    routes = {"one": route(), "two": route(), "three": route(events=["none"])}
    async with open_lab(tmp_path, database_url, routes) as lab:
        rows = await lab.orders(1)
        for row in rows:
            await lab.finish(await lab.claim_one(row.route), Rejected("no"))
        (first, _) = await lab.rows(DELIVERY)
        more = [same_but(first, id=f"{first.id}{n:04}", route=f"gone-{n}") for n in range(BATCH)]
        await lab.write(lambda connection: connection.execute(DELIVERY.insert(), more))
        await start_replay(lab.hub, "asha", Filter(status="dead"), to_route="three")
        await lab.finish(await lab.claim_one("three"), Receipt("done"))
        await advance_replays(lab.hub)
        await lab.claim_none("three")


async def test_along_another_route_stopped_the_new_rows_are_gone(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ALONG) as lab:
        await lab.deliver_events(document(orderId="ord_1", total=5), document(orderId="ord_2", total=500))
        for name in ("one", "two"):
            for one in (await lab.claim(name)).claims:
                await lab.finish(one, Rejected("no"))
        before = await lab.rows(DELIVERY)
        replay_id = await start_replay(lab.hub, "asha", Filter(route="one"), to_route="two")
        assert len(await lab.rows(DELIVERY)) == len(before) + 1
        assert await stop_replay(lab.hub, "asha", replay_id) == 2
        assert await lab.rows(DELIVERY) == before


async def test_along_another_route_what_waits_for_one_that_is_gone(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"old": route()}) as lab:
        held, pending = await lab.orders(2)
        await lab.finish(await lab.claim_one("old", limit=1), Hold("wait"))
    async with open_lab(tmp_path, database_url, {"one": route(events=["none"])}) as lab:
        before = await lab.rows(DELIVERY)
        replay_id = await start_replay(lab.hub, "asha", Filter(route="old"), to_route="one", pace=0.001)
        assert [row.error_key for row in await lab.rows(DELIVERY, DELIVERY.c.route == "old")] == ["moved", "moved"]
        assert await stop_replay(lab.hub, "asha", replay_id) == 2
        assert await lab.rows(DELIVERY) == before
        replay_id = await start_replay(lab.hub, "asha", Filter(route="old"), to_route="one", pace=0.001)
        assert (await lab.claim_one("one")).delivery.event_id == held.event_id
        assert await stop_replay(lab.hub, "asha", replay_id) == 1
        assert (await lab.delivery(held.id)).error_key == "moved"
        assert await lab.delivery(pending.id) == before[1]
        await start_change(lab.hub, "cancel", "asha", Filter(route="old"))
        assert (await lab.delivery(pending.id)).error_key == "cancelled"


async def test_along_another_route_an_event_that_took_none(tmp_path: Path, database_url: str) -> None:
    """What came in before there was a route, or was refused by every condition, can be sent along one."""
    async with open_lab(tmp_path, database_url, {}) as lab:
        early = [(await lab.keep(document(orderId=f"ord_{n}"))).id for n in range(2)]
        await lab.fan_out()
    async with open_lab(tmp_path, database_url, {"one": route(when="false"), "two": route(when="false")}) as lab:
        refused = (await lab.keep(document(orderId="ord_2"))).id
        await lab.fan_out()
        assert await lab.rows(DELIVERY) == []
        preview = await preview_replay(lab.hub, Filter(ids=(early[0], refused)), to_route="two")
        assert (preview.would_replay, preview.already_sent) == (2, 0)
        await start_replay(lab.hub, "asha", Filter(ids=(early[0], refused)), to_route="two")
        claims = (await lab.claim("two")).claims
        assert [one.delivery.event_id for one in claims] == [early[0], refused]
        since = Filter(since=lab.hub.now() - timedelta(hours=1))
        assert (await preview_replay(lab.hub, since, to_route="two")).would_replay == 1
        await lab.finish(claims[0], Receipt("done"))
        assert (await preview_replay(lab.hub, since, to_route="two")).would_replay == 2
        replay_id = await start_replay(lab.hub, "asha", since, to_route="two")
        assert (await lab.row(REPLAY, REPLAY.c.id == replay_id)).total == 2
        again = (await lab.claim("two")).claims
        assert {(one.delivery.event_id, one.attempt) for one in again} == {(early[0], 2), (early[1], 1)}


async def test_along_another_route_an_event_that_still_waits_on_its_own(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(), "two": route(events=["none"])}) as lab:
        row = await lab.order()
        await start_replay(lab.hub, "asha", Filter(ids=(row.event_id,)), to_route="two")
        assert {(one.route, one.status) for one in await lab.rows(DELIVERY)} == {("one", "pending"), ("two", "pending")}
        # On its way there, it is not sent once more.
        assert (await preview_replay(lab.hub, Filter(ids=(row.event_id,)), to_route="two")).would_replay == 0


async def test_along_another_route_the_preview_counts_events_and_what_was_sent_there(
    tmp_path: Path, database_url: str
) -> None:
    routes = {"one": route(), "two": route(), "three": route("Puppet", ordered=True)}

    async def sent(event: Event, ctx: Context) -> Receipt:
        await ctx.effects.put("number", "1")
        return Receipt("done")

    Puppet.acts["three"] = sent
    async with open_lab(tmp_path, database_url, routes) as lab:
        (row, *_) = await lab.orders(1)
        for name in ("one", "two"):
            await lab.finish(await lab.claim_one(name), Receipt("done"))
        await attempt(lab.hub, lab.line("three"), await lab.claim_one("three"))
        preview = await preview_replay(lab.hub, Filter(ids=(row.event_id,)), to_route="three")
        assert preview.by_status == {"delivered": 3}
        assert (preview.would_replay, preview.already_sent, preview.out_of_order) == (1, 1, 0)


async def test_along_another_route_what_waits_for_one_that_is_gone_and_nothing_of_its_past(
    tmp_path: Path, database_url: str
) -> None:
    async with open_lab(tmp_path, database_url, {"old": route()}) as lab:
        done, waits = await lab.orders(2)
        await lab.finish(await lab.claim_one("old", limit=1), Receipt("done"))
    async with open_lab(tmp_path, database_url, {"one": route(events=["none"])}) as lab:
        found = Filter(route="old", status="gone")
        preview = await preview_replay(lab.hub, found, to_route="one")
        assert (preview.by_status, preview.would_replay) == ({"gone": 1}, 1)
        await start_replay(lab.hub, "asha", found, to_route="one")
        assert (await lab.claim_one("one")).delivery.event_id == waits.event_id
        assert (await lab.delivery(done.id)).status == "delivered"
        assert (await lab.delivery(waits.id)).error_key == "moved"


async def test_along_another_route_only_the_named_delivery_moves_away(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"old": route(), "older": route()}) as lab:
        rows = {row.route: row for row in await lab.orders(1)}
    async with open_lab(tmp_path, database_url, {"one": route(events=["none"])}) as lab:
        await start_replay(lab.hub, "asha", Filter(ids=(rows["old"].id,)), to_route="one")
        assert (await lab.delivery(rows["old"].id)).error_key == "moved"
        assert (await lab.delivery(rows["older"].id)).status == "pending"
        assert (await lab.claim_one("one")).delivery.event_id == rows["old"].event_id


async def test_one_along_a_route_that_is_gone_since_ends_and_keeps_no_other_waiting(
    tmp_path: Path, database_url: str
) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(), "two": route(events=["none"])}) as lab:
        rows = await settled(lab, Rejected("no"), Rejected("no"))
        many = [same_but(rows[0], id=f"{rows[0].id}{n:04}", event_id=f"evt_{n}") for n in range(BATCH)]
        events = [same_but(await lab.row(EVENT, EVENT.c.id == rows[0].event_id), id=f"evt_{n}", seq=10**9 + n,
                           dedupe_key=str(n).encode()) for n in range(BATCH)]  # fmt: skip
        await lab.write(lambda connection: connection.execute(EVENT.insert(), events))
        await lab.write(lambda connection: connection.execute(DELIVERY.insert(), many))
        stuck = await start_replay(lab.hub, "asha", Filter(status="dead"), to_route="two")
        other = await start_replay(lab.hub, "asha", Filter(status="dead"))
    async with open_lab(tmp_path, database_url) as lab:
        assert await advance_replays(lab.hub) == 2
        states = {row.id: row.state for row in await lab.rows(REPLAY)}
        assert states == {stuck: "stopped", other: "done"}
        told = await lab.row(AUDIT, AUDIT.c.action == "replay.stop")
        assert told.detail["reason"] == "route two is gone"


async def test_what_is_replayed_goes_by_its_routes_schedule_of_today(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        (row,) = await settled(lab, Rejected("no"))
    longer = {"one": route(retry={"schedule": ["1s"] + ["1h"] * 8})}
    async with open_lab(tmp_path, database_url, longer) as lab:
        await start_replay(lab.hub, "asha", Filter(ids=(row.id,)))
        await lab.finish(await lab.claim_one(), TryAgain("HTTP 500"))
        now = await lab.delivery(row.id)
        assert (now.next_attempt_at - lab.hub.now()).total_seconds() < 2
        assert now.budget - now.attempts == 9


async def test_what_is_not_there_is_said(lab: Lab) -> None:
    with pytest.raises(CommandError, match="there is no route far; there is one"):
        await start_replay(lab.hub, "asha", Filter(), to_route="far")
    with pytest.raises(CommandError, match="there is no route far; there is one"):
        await preview_replay(lab.hub, Filter(), to_route="far")
    with pytest.raises(CommandError, match="rpl_0: there is no such replay"):
        await stop_replay(lab.hub, "asha", "rpl_0")
    with pytest.raises(CommandError, match="there is no route far"):
        await pause_route(lab.hub, "asha", "far", None)
