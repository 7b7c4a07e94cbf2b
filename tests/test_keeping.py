"""Retention: what is dropped of old events, what stays, and what a dropped body means for all that comes after it."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, Table, text, update

import hub.keeping
import hub.store.keeping
import hub.store.replays
from hub.clock import EPOCH
from hub.connector import Context, Event, Receipt
from hub.deliver import attempt
from hub.errors import CommandError, Hold, Rejected, Skip, TryAgain
from hub.keeping import Place, drop_old
from hub.replay import advance_replays, preview_replay, start_replay
from hub.store import ATTEMPT, DELIVERY, EFFECT, EVENT, EVENT_KEY, REPEAT, STAT
from hub.store.effects import NewEffect, put_effects
from hub.store.events import Kept
from hub.store.keeping import Bounds
from hub.store.meant import Filter
from hub.store.stats import add_counts, hour_of
from hub.worker import running
from tests import hubdb, hubs
from tests.console import Console, Ran, fails
from tests.hubdb import Lab, Puppet, document, open_lab, route, served, store_at
from tests.hubs import write_config
from tests.operations import ask, explained
from tests.servers import PostgresServer, eventually

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
DAY = 86_400
CHANGED = document("order.updated", orderId="ord_1")
TWO = {"one": route(), "two": route()}


class Watching(Puppet):
    """A puppet that reads the state."""

    reads_state = True


@pytest.fixture(autouse=True)
def no_acts() -> Iterator[None]:
    yield
    Puppet.acts.clear()


async def drop(lab: Lab) -> int:
    """One run of retention by a process that has just started."""
    return await drop_old(lab.hub, Place())


async def ended(lab: Lab, *results: Any) -> list[Any]:
    """Deliveries of fresh orders on route `one` that ended like this; None: still pending."""
    rows = await lab.orders(len(results))
    claims = {one.delivery.id: one for one in (await lab.claim()).claims}
    for row, result in zip(rows, results, strict=True):
        if result is not None:
            await lab.finish(claims[row.id], result)
    return rows


async def whole(lab: Lab) -> set[str]:
    return {row.id for row in await lab.rows(EVENT, EVENT.c.body.is_not(None))}


async def set_to(lab: Lab, table: Table, row_id: str, values: dict[str, Any]) -> None:
    await lab.write(lambda connection: connection.execute(update(table).where(table.c.id == row_id).values(**values)))


def same_but(row: Any, **changed: Any) -> dict[str, Any]:
    return dict(row._mapping) | changed


async def test_what_is_done_is_dropped_after_its_time_and_no_sooner(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, TWO) as lab:
        await lab.deliver_events(document(orderId="ord_1", total=5))
        assert (await lab.keep(document(orderId="ord_1", total=6))).duplicate
        for name, result in (("one", Receipt("done")), ("two", Skip("nothing"))):
            claimed = await lab.claim_one(name)
            effect = NewEffect(claimed.delivery.id, "mail", claimed.delivery.id, "<1@shop>", None)
            await lab.hub.writer.put(put_effects, effect)
            await lab.finish(claimed, result)
        tables = (DELIVERY, EFFECT, EVENT_KEY)
        event, before = await lab.row(EVENT), [await lab.rows(table) for table in tables]
        assert len(await lab.rows(REPEAT)) == 1
        lab.later(90 * DAY - 600)
        assert await drop(lab) == 0
        assert await lab.row(EVENT) == event
        assert len(await lab.rows(ATTEMPT)) == 2
        lab.later(601)
        assert await drop(lab) == 1
        assert dict((await lab.row(EVENT))._mapping) == same_but(event, body=None, headers=None)
        assert await lab.rows(ATTEMPT) == await lab.rows(REPEAT) == []
        assert [await lab.rows(table) for table in tables] == before
        assert await drop(lab) == 0


async def test_what_is_pending_held_or_under_way_is_never_touched(lab: Lab) -> None:
    rows = await ended(lab, Receipt("done"), TryAgain("HTTP 500"), Hold("over limit"), None, Rejected("no"))
    waiting = await lab.keep(document(orderId="not fanned out"))
    attempts = len(await lab.rows(ATTEMPT))
    lab.later(3000 * DAY)
    assert await drop(lab) == 2
    assert await whole(lab) == {*[row.event_id for row in rows[1:4]], waiting.id}
    assert len(await lab.rows(ATTEMPT)) == attempts - 2


@pytest.mark.parametrize(("keep", "first"), [({}, "done"), ({"events": "400d", "dead": "100d"}, "dead")])
async def test_dead_ones_have_a_time_of_their_own(
    tmp_path: Path, database_url: str, keep: dict[str, str], first: str
) -> None:
    async with open_lab(tmp_path, database_url, keep=keep) as lab:
        done, dead = [row.event_id for row in await ended(lab, Receipt("done"), Rejected("no"))]
        lab.later(101 * DAY)
        assert await drop(lab) == 1
        assert await whole(lab) == {dead if first == "done" else done}
        lab.later(300 * DAY)
        assert await drop(lab) == 1
        assert await whole(lab) == set()


async def test_an_event_without_deliveries_is_done(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(events=["inventory.low"])}) as lab:
        await lab.deliver_events(document(orderId="ord_1"))
        lab.later(91 * DAY)
        assert await drop(lab) == 1
        assert (await lab.row(EVENT)).not_taken == {"one": "event: inventory.low"}


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_claim_ever_meets_a_dropped_body(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Events of any age whose deliveries stand anyhow: exactly those of the rule are dropped."""
    monkeypatch.setattr(hub.store.keeping, "STRETCH", 13)
    monkeypatch.setattr(hub.keeping, "BATCH", 5)
    monkeypatch.setattr(hub.keeping, "PAUSE", 0.0)
    chance = random.Random(seed)
    routes = {name: route(concurrency=1000, events=[f"kind.{n}", "kind.3"]) for n, name in enumerate(("one", "two"))}
    async with open_lab(tmp_path, database_url, routes) as lab:
        lab.stand_still()
        # Ids are made now, so that all times of these events must be after it.
        lab.later(1000 * DAY)
        now, expected = lab.hub.now(), set()
        kinds = [f"kind.{chance.randrange(5)}" for _ in range(80)]
        rows = await lab.deliver_events(*(document(kind, id=f"n_{n}") for n, kind in enumerate(kinds)))
        for event in await lab.rows(EVENT):
            age, fanned = timedelta(days=chance.choice([1, 89, 91, 200, 366, 999])), chance.random() < 0.9
            values: dict[str, Any] = {"received_at": now - age} | ({} if fanned else {"fanned_out_at": None})
            await set_to(lab, EVENT, event.id, values)
            standing = []
            for row in (row for row in rows if row.event_id == event.id):
                status = chance.choice(["delivered"] * 4 + ["skipped", "dead", "pending", "held"])
                lease = now + timedelta(hours=1) if chance.random() < 0.1 else None
                await set_to(lab, DELIVERY, row.id, {"status": status, "lease_until": lease})
                standing.append((status, lease))
            still = any(status in {"pending", "held"} or lease for status, lease in standing)
            longest = 365 if any(status == "dead" for status, _ in standing) else 90
            if fanned and not still and age > timedelta(days=longest):
                expected.add(event.id)
        assert await drop(lab) == len(expected) > 5
        assert {row.id for row in await lab.rows(EVENT)} - await whole(lab) == expected
        claimed = [one.delivery for name in routes for one in (await lab.claim(name)).claims]
        assert len(claimed) > 3
        assert [row for row in claimed if row.body is None] == []


async def copies(lab: Lab, count: int) -> None:
    """That many delivered events, each with its attempt, quickly."""
    (row,) = await ended(lab, Receipt("done"))
    event, delivery = await lab.row(EVENT), await lab.delivery(row.id)
    (tried,) = await lab.attempts(row.id)
    numbers = range(1, count)
    events = [same_but(event, id=f"{event.id}{n:05}", seq=event.seq + n, dedupe_key=b"%d" % n) for n in numbers]
    deliveries = [
        same_but(delivery, id=f"{row.id}{n:05}", event_id=f"{event.id}{n:05}", event_seq=event.seq + n) for n in numbers
    ]
    attempts = [same_but(tried, delivery_id=one["id"]) for one in deliveries]

    def insert(connection: Connection) -> None:
        for table, rows in ((EVENT, events), (DELIVERY, deliveries), (ATTEMPT, attempts)):
            connection.execute(table.insert(), rows)
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT setval(pg_get_serial_sequence('event', 'seq'), max(seq)) FROM event"))

    await lab.write(insert)


async def test_many_go_in_small_writes_also_by_several_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.store.keeping, "STRETCH", 100)
    monkeypatch.setattr(hub.keeping, "BATCH", 20)
    monkeypatch.setattr(hub.keeping, "PAUSE", 0.0)
    await copies(lab, 450)
    lab.later(91 * DAY)
    assert sum(await asyncio.gather(*(drop(lab) for _ in range(3)))) == 450
    assert await whole(lab) == set()
    assert await lab.rows(ATTEMPT) == []


async def test_a_webhook_is_answered_between_two_batches_each_of_which_is_bounded(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no pause but what each takes: a webhook waits for the batch that is under way, and for none after it."""
    real = hub.store.keeping.drop
    sizes: list[tuple[int, int]] = []

    def watched(connection: Connection, bounds: Bounds, seqs: Sequence[int]) -> int:
        dropped = real(connection, bounds, seqs)
        sizes.append((len(seqs), dropped))
        return dropped

    monkeypatch.setattr(hub.store.keeping, "drop", watched)
    monkeypatch.setattr(hub.keeping, "BATCH", 5)
    monkeypatch.setattr(hub.keeping, "PAUSE", 0.0)
    await copies(lab, 600)
    lab.later(91 * DAY)
    async with served(lab.hub) as url, store_at(url) as store:
        dropping = asyncio.create_task(drop(lab))
        await eventually(lambda: sizes)
        for number in range(5):
            assert (await store.send("order.placed", orderId=f"ord_meanwhile_{number}")).status_code == 200
        assert len(await whole(lab)) > 5
        assert not dropping.done()
        dropping.cancel()
        await asyncio.gather(dropping, return_exceptions=True)
    assert {size for size, _ in sizes} == {5}
    assert {dropped for _, dropped in sizes} == {5}


async def test_it_remembers_how_far_it_has_come(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.store.keeping, "STRETCH", 10)
    await copies(lab, 35)
    lab.later(91 * DAY)
    place = Place()
    assert await drop_old(lab.hub, place) == 35
    assert await drop_old(lab.hub, place) == 0
    assert place.before == max(row.seq for row in await lab.rows(EVENT))
    (late,) = await ended(lab, Receipt("done"))
    lab.later(91 * DAY)
    assert await drop_old(lab.hub, place) == 1
    assert late.event_id not in await whole(lab)


async def test_a_worker_does_it_by_itself(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        await ended(lab, Receipt("done"))
        lab.later(91 * DAY)
        async with running(lab.hub):

            async def dropped() -> bool:
                return await whole(lab) == set()

            await eventually(dropped)


async def test_what_somebody_is_just_replaying_is_left(tmp_path: Path, shared_url: str) -> None:
    """A replay that has the delivery's lock and is not committed yet."""
    async with open_lab(tmp_path, shared_url) as lab:
        (row,) = await ended(lab, Receipt("done"))
        lab.later(91 * DAY)
        other = await asyncpg.connect(shared_url)
        try:
            async with other.transaction():
                await other.execute("UPDATE delivery SET status = 'pending', next_attempt_at = 0 WHERE id = $1", row.id)
                assert await drop(lab) == 0
        finally:
            await other.close()
        assert await drop(lab) == 0
        assert await whole(lab) == {row.event_id}


@pytest.mark.parametrize("to_route", [None, "two"])
async def test_a_replay_that_waited_for_the_drop_sees_it(
    tmp_path: Path, postgres_server: PostgresServer, shared_url: str, to_route: str | None
) -> None:
    """Its statement began while the body was there."""
    async with open_lab(tmp_path, shared_url, TWO | {"two": route(events=["inventory.low"])}) as lab:
        (row,) = await ended(lab, Receipt("done"))
        other, looking = await asyncpg.connect(shared_url), await asyncpg.connect(shared_url)
        try:
            async with other.transaction():
                await other.execute("SELECT id FROM event FOR UPDATE")
                await other.execute("SELECT id FROM delivery FOR UPDATE")
                await other.execute("UPDATE event SET body = NULL")
                replaying = asyncio.create_task(start_replay(lab.hub, "asha", Filter(ids=(row.id,)), to_route=to_route))

                async def waits() -> bool:
                    return bool(await looking.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

                await eventually(waits)
            await replaying
        finally:
            await other.close()
            await looking.close()
        assert [(one.route, one.status) for one in await lab.rows(DELIVERY)] == [("one", "delivered")]


async def dropped_two(lab: Lab) -> list[Any]:
    """Two that were delivered and dropped, and one that is whole."""
    old = await ended(lab, Receipt("done"), Receipt("done"))
    lab.later(91 * DAY)
    assert await drop(lab) == 2
    return [*old, *await ended(lab, Receipt("done"))]


async def test_a_dropped_body_is_not_sent_again_and_the_reason_is_said(lab: Lab) -> None:
    rows = await dropped_two(lab)
    before = await lab.delivery(rows[0].id)
    for found in (Filter(ids=(rows[0].id,)), Filter(ids=(rows[0].event_id,))):
        with pytest.raises(CommandError, match=r"1 cannot be sent again: the body of the event was dropped, .* 90d"):
            await start_replay(lab.hub, "asha", found)
    assert await lab.delivery(rows[0].id) == before
    preview = await preview_replay(lab.hub, Filter(status="delivered"))
    assert (preview.by_status, preview.would_replay, preview.dropped) == ({"delivered": 3}, 1, 2)
    shown = await ask(lab, "replay.preview", status="delivered")
    assert shown["why_dropped"].startswith("2 cannot be sent again")
    replay = await ask(lab, "replay.start", status="delivered")
    assert (replay["total"], replay["done"], replay["state"]) == (1, 1, "done")
    assert [row.status for row in await lab.rows(DELIVERY)] == ["delivered", "delivered", "pending"]
    assert (await ask(lab, "replay.preview", ids=[rows[2].id]))["why_dropped"] is None


async def test_along_another_route_it_is_the_same(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        rows = await dropped_two(lab)
    routes = {"one": route(), "two": route(), "state": route("Looks")}
    async with open_lab(tmp_path, database_url, routes) as lab:
        lab.later(92 * DAY)
        events = Filter(ids=tuple(row.event_id for row in rows))
        preview = await preview_replay(lab.hub, events, to_route="two")
        assert (preview.would_replay, preview.dropped) == (1, 2)
        with pytest.raises(CommandError, match="2 cannot be sent again"):
            await start_replay(lab.hub, "asha", Filter(ids=events.ids[:2]), to_route="two")
        await start_replay(lab.hub, "asha", events, to_route="two")
        assert [row.event_id for row in await lab.rows(DELIVERY, DELIVERY.c.route == "two")] == [rows[2].event_id]
        assert (await preview_replay(lab.hub, events, to_route="state")).would_replay == 3
        await start_replay(lab.hub, "asha", events, to_route="state")
        assert len(await lab.rows(DELIVERY, DELIVERY.c.route == "state")) == 3


async def test_a_replay_of_many_passes_by_those_without_a_body(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of which none can go is not the end of it, nor is a limit reached by it."""
    monkeypatch.setattr(hub.store.replays, "BATCH", 10)
    await copies(lab, 35)
    lab.later(91 * DAY)
    assert await drop(lab) == 35
    await ended(lab, *[Receipt("done")] * 4)
    replay_id = await start_replay(lab.hub, "asha", Filter(status="delivered"), most=3)
    while await advance_replays(lab.hub):
        pass
    replay = await ask(lab, "replay.get", id=replay_id)
    assert (replay["total"], replay["done"], replay["state"]) == (3, 3, "done")
    assert len(await lab.rows(DELIVERY, DELIVERY.c.status == "pending")) == 3


async def test_a_look_at_the_state_needs_only_the_entity(tmp_path: Path, database_url: str) -> None:
    """By a repeat, and by a replay; what a template would read of the data is not there."""
    seen: list[tuple[str, str | None, Any]] = []

    async def look(event: Event, ctx: Context) -> Receipt:
        seen.append((ctx.key.partition("-")[2], event.entity, event.data))
        return Receipt(f"seen {ctx.render('{{ event.entity }}')}")

    Puppet.acts["watch"] = look
    routes = {"watch": route() | {"connector": f"{__name__}:Watching"}}
    async with open_lab(tmp_path, database_url, routes) as lab:
        (row,) = await lab.deliver_events(CHANGED)
        assert await attempt(lab.hub, lab.line("watch"), await lab.claim_one("watch")) == "delivered"
        lab.later(91 * DAY)
        assert await drop(lab) == 1
        assert (await lab.keep(CHANGED)).duplicate
        assert await attempt(lab.hub, lab.line("watch"), await lab.claim_one("watch")) == "delivered"
        assert (await preview_replay(lab.hub, Filter(ids=(row.id,)))).would_replay == 1
        await start_replay(lab.hub, "asha", Filter(ids=(row.id,)), as_new=True)
        assert await attempt(lab.hub, lab.line("watch"), await lab.claim_one("watch")) == "delivered"
        assert seen[1:] == [("l1", "order:ord_1", {}), ("n1-l1", "order:ord_1", {})]
        assert seen[0][2] == {"orderId": "ord_1"}


async def test_a_repeat_is_known_for_ever_and_one_that_differs_is_kept_for_its_time(lab: Lab) -> None:
    (row,) = await ended(lab, Receipt("done"))
    lab.later(91 * DAY)
    assert await drop(lab) == 1
    assert await lab.keep(document(orderId="ord_0")) == Kept(row.event_id, True)
    assert await lab.rows(REPEAT) == []
    assert (await lab.keep(document(orderId="ord_0", total=7))).duplicate
    assert (await lab.row(EVENT)).repeats == 2
    # Its id tells its age by the machine's time.
    before = (await lab.row(REPEAT)).id
    lab.hub.clock.offset = timedelta(days=89)
    await drop(lab)
    assert (await lab.row(REPEAT)).id == before
    lab.later(2 * DAY)
    await drop(lab)
    assert await lab.rows(REPEAT) == []


async def test_a_pending_one_without_a_body_would_die_with_the_reason_and_harm_no_other(
    tmp_path: Path, database_url: str
) -> None:
    """It cannot be: somebody else must have written to the database."""
    async with open_lab(tmp_path, database_url) as lab:
        broken, good = await lab.orders(2)
        await set_to(lab, EVENT, broken.event_id, {"body": None})
        async with running(lab.hub):

            async def both_done() -> bool:
                return Counter(row.status for row in await lab.rows(DELIVERY)) == {"dead": 1, "delivered": 1}

            await eventually(both_done)
        assert "body was dropped" in (await lab.delivery(broken.id)).last_error
        assert (await lab.delivery(good.id)).status == "delivered"


async def test_a_person_is_told_that_it_was_dropped(lab: Lab) -> None:
    done, dead = await ended(lab, Receipt("done"), Rejected("no such product"))
    assert (await ask(lab, "show", id=done.event_id))["dropped"] is None
    assert (await ask(lab, "explain", id=done.event_id))["dropped"] is None
    lab.later(366 * DAY)
    assert await drop(lab) == 2
    for row, after in ((done, "90d (keep.events)"), (dead, "365d (keep.dead)")):
        says = f"its body, headers and attempts were dropped after {after}"
        shown = await ask(lab, "show", id=row.event_id)
        assert (shown["dropped"], shown["body"], shown["headers"], shown["keys"]) == (says, None, None, [])
        assert shown["deliveries"][0]["attempted"] == []
        assert (await ask(lab, "explain", id=row.event_id))["dropped"] == says
        assert (await ask(lab, "show", id=row.id))["attempted"] == []
    assert await explained(lab, done.event_id) == "delivered"
    assert await explained(lab, dead.event_id) == "dead after 1 attempt: no such product"
    assert [one["id"] for one in (await ask(lab, "events", q="ord_0"))["events"]] == [done.event_id]


async def test_commands_say_so_in_words(tmp_path: Path) -> None:
    config = write_config(tmp_path, hubs.config_of({"one": hubs.route("http://127.0.0.1:9/")}))
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/data/hub.db") as lab:
        done, dead = await ended(lab, Receipt("done"), Rejected("no such product"))
        lab.later(366 * DAY)
        assert await drop(lab) == 2
        (fresh,) = await lab.orders(1)
        await lab.finish(await lab.claim_one(), Rejected("no"))
    console = Console()
    try:

        async def said(*words: str) -> Ran:
            return await asyncio.to_thread(console.hub, tmp_path, *words, "--config", str(config))

        why = "cannot be sent again: the body of the event was dropped, as it is after 90d, or 365d with something dead"
        fails(await said("replay", done.id, "--yes", "--json"), 1, f"nothing to replay; 1 {why}")
        preview = (await said("replay", "--status", "dead", "--dry-run")).out
        assert "found: 2 dead; 1 would be replayed\n" in preview
        assert f"1 {why}" in preview
        told = (await said("explain", dead.event_id)).out
        assert "  its body, headers and attempts were dropped after 365d (keep.dead)\n" in told
        assert "tries it again" not in told
        assert "tries it again" in (await said("explain", fresh.event_id)).out
        assert "were dropped after 90d (keep.events)" in (await said("show", done.event_id)).out
    finally:
        await asyncio.to_thread(console.close)


async def stats(lab: Lab) -> dict[Any, int]:
    return {(row.hour, row.name, row.label): row._mapping["count"] for row in await lab.rows(STAT)}


async def test_old_counts_are_carried_together_and_their_sums_stay(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.store.keeping, "MOST_STATS", 7)
    hour = hour_of(lab.hub.now())
    ages = [*range(34 * 24, 34 * 24 + 60)]
    counts = {(hour - timedelta(hours=age), "event", "main", label): age for age in ages for label in ("a", "b")}
    await lab.write(lambda connection: add_counts(connection, counts))
    await drop(lab)
    left = await stats(lab)
    assert {at for at, _, _ in left} == {EPOCH, *(hour - timedelta(hours=age) for age in ages if age <= 35 * 24)}
    assert [left[EPOCH, "main", label] for label in ("a", "b")] == [sum(age for age in ages if age > 35 * 24)] * 2
    lab.later(DAY)
    await drop(lab)
    assert sum((await stats(lab)).values()) == 2 * sum(ages)


async def test_counts_grow_beyond_what_four_bytes_hold(lab: Lab) -> None:
    """Milliseconds reach that within a month."""
    old = hour_of(lab.hub.now()) - timedelta(days=40)
    counts = {(old - timedelta(hours=n), "attempt_ms", "one", "sum"): 2**31 - 1 - n for n in range(3)}
    await lab.write(lambda connection: add_counts(connection, counts))
    await drop(lab)
    assert {at: count for (at, _, _), count in (await stats(lab)).items()} == {EPOCH: sum(counts.values())}
