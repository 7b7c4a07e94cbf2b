"""The group commit: shared commits, bad items alone, trouble for all, conflicts once more, nothing lost at the end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, exc, select
from sqlalchemy.util import await_only

from hub.clock import Clock, new_id
from hub.database import Database
from hub.errors import Unavailable
from hub.event import parse
from hub.receive import Incoming, new_event
from hub.schema import create
from hub.store import AUDIT, EFFECT, EVENT, REFUSED, WORKER
from hub.store.effects import NewEffect, put_effects
from hub.store.events import NewEvent, keep_events
from hub.store.refusals import NewRefusal, keep_refusals
from hub.testing.samples import to_bytes
from hub.writer import Batch, Writer
from tests import hubdb
from tests.hubdb import document, open_lab, opened
from tests.servers import PostgresServer, eventually

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab


@asynccontextmanager
async def written(url: str) -> AsyncIterator[tuple[Writer, Database]]:
    async with opened(url) as database:
        await database.write(create)
        writer = Writer(database, Clock())
        try:
            yield writer, database
        finally:
            await writer.close()


class Noted:
    """A batch that writes an audit row for each item, and remembers what it was given in which transaction."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, connection: Connection, now: datetime, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        for item in items:
            connection.execute(AUDIT.insert().values(id=new_id("aud"), at=now, who="asha", action=item))
        return [f"{item} done" for item in items]


async def actions(database: Database) -> list[str]:
    return await database.read(lambda c: list(c.execute(select(AUDIT.c.action).order_by(AUDIT.c.id)).scalars()))


async def test_what_arrives_during_a_commit_shares_the_next(database_url: str) -> None:
    async with written(database_url) as (writer, database):
        first, second = Noted(), Noted()
        begun = [asyncio.create_task(writer.put(first, f"a{n}")) for n in range(3)]
        await asyncio.sleep(0)
        await eventually(lambda: first.batches)
        rest = [writer.put(first, f"b{n}") for n in range(20)] + [writer.put(second, f"c{n}") for n in range(20)]
        answers = await asyncio.gather(*begun, *rest)
        assert answers == [f"{kind}{n} done" for kind, most in (("a", 3), ("b", 20), ("c", 20)) for n in range(most)]
        assert [len(batch) for batch in first.batches] == [3, 20]
        assert [len(batch) for batch in second.batches] == [20]
        assert len(await actions(database)) == 43


async def test_items_of_one_kind_keep_their_order_and_a_commit_has_a_bound(database_url: str) -> None:
    async with written(database_url) as (writer, _):
        noted = Noted()
        await asyncio.gather(*(writer.put(noted, f"{n:04}") for n in range(1_001)))
        assert [len(batch) for batch in noted.batches] == [500, 500, 1]
        assert [item for batch in noted.batches for item in batch] == [f"{n:04}" for n in range(1_001)]


async def test_kinds_share_a_commit_by_name_but_for_the_last_which_stand_in_their_order(database_url: str) -> None:
    went: list[str] = []

    def kind(name: str) -> Batch[str, str]:
        def batch(connection: Connection, now: datetime, items: Sequence[str]) -> Sequence[str]:
            went.append(name)
            return items

        batch.__qualname__ = name
        return batch

    kinds = [kind(name) for name in ("zeal", "claim", "record", "adopt")]
    async with opened(database_url) as database:
        await database.write(create)
        writer = Writer(database, Clock(), last=(kinds[2], kinds[1]))
        told: list[str] = []
        for batch in kinds:
            name = batch.__qualname__
            writer.submit(batch, name).add_done_callback(lambda done: told.append(done.result()))
        await writer.close()
    assert went == ["adopt", "zeal", "record", "claim"]
    assert told == ["claim", "adopt", "zeal", "record"]


async def test_a_batch_that_forgets_an_item_fails_and_stops_nothing(database_url: str) -> None:
    """The writer ended with it, and whoever put something later waited for ever."""

    def forgets(connection: Connection, now: datetime, items: Sequence[str]) -> Sequence[str]:
        return items[1:]

    async with written(database_url) as (writer, _):
        with pytest.raises(ValueError, match="zip"):
            await writer.put(forgets, "one")
        assert await writer.put(Noted(), "two") == "two done"


def event(number: int, **changed: Any) -> NewEvent:
    body = to_bytes(document(orderId=f"ord_{number}"))
    parsed = parse(body)
    row = {
        "id": new_id("evt"), "store": "main", "type": parsed.type, "entity": parsed.entity,
        "dedupe_key": b"%d" % number, "content_hash": b"0", "body": body, "headers": "{}",
        "occurred_at": parsed.occurred_at, "received_at": parsed.occurred_at, "origin": "webhook", "secret": None,
    }  # fmt: skip
    return NewEvent(**(row | changed))


async def test_one_bad_event_fails_alone(database_url: str) -> None:
    """A NUL, which PostgreSQL refuses, and a type that neither database takes, in one commit with good ones."""
    async with written(database_url) as (writer, database):
        sqlite = database.dialect == "sqlite"
        bad = event(5, type=object()) if sqlite else event(5, entity="order:nul \x00 in it")
        items = [event(n) for n in range(5)] + [bad] + [event(n) for n in range(6, 9)]
        answers = await asyncio.gather(*(writer.put(keep_events, item) for item in items), return_exceptions=True)
        refused = [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)]
        assert refused == [5]
        assert not isinstance(answers[5], Unavailable)
        kept = await database.read(lambda c: list(c.execute(select(EVENT.c.id)).scalars()))
        assert sorted(kept) == sorted(item.id for item in items if item is not bad)
        assert writer.trouble is None


async def test_one_bad_item_does_not_stop_items_of_other_kinds(database_url: str) -> None:
    async with written(database_url) as (writer, database):
        noted = Noted()
        nothing: Any = None
        good = NewEffect("dlv_1", "mail", "dlv_1", "<1@shop>", None)
        long = NewRefusal(True, "main\x00", 422, "no \ud800 such", None, {}, b"x" * 70_000, Clock().now())
        answers = await asyncio.gather(
            writer.put(put_effects, good),
            writer.put(put_effects, NewEffect("dlv_2", "mail", "dlv_2", nothing, None)),
            writer.put(noted, "noted"),
            writer.put(keep_refusals, long),
            return_exceptions=True,
        )
        assert isinstance(answers[1], exc.DBAPIError)
        assert [answers[0], *answers[2:]] == [None, "noted done", None]
        assert await database.read(lambda c: c.execute(select(EFFECT.c.value)).scalar()) == "<1@shop>"
        assert await database.read(lambda c: c.execute(select(REFUSED.c.store, REFUSED.c.cut)).one()) == (
            "main\ufffd",
            True,
        )


async def test_a_caller_that_went_away_does_not_undo_the_commit(database_url: str) -> None:
    async with written(database_url) as (writer, database):
        noted = Noted()
        calls = [asyncio.create_task(writer.put(noted, f"{n}")) for n in range(5)]
        await asyncio.sleep(0)
        for call in calls[:4]:
            call.cancel()
        assert await calls[4] == "4 done"
        assert all(call.cancelled() for call in calls[:4])
        assert sorted(await actions(database)) == ["0", "1", "2", "3", "4"]


async def test_closing_writes_what_was_put_before_and_refuses_what_comes_after(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.write(create)
        writer, noted = Writer(database, Clock()), Noted()
        calls = [asyncio.create_task(writer.put(noted, f"{n}")) for n in range(600)]
        await asyncio.sleep(0)
        await writer.close()
        with pytest.raises(Unavailable, match="stopping"):
            await writer.put(noted, "late")
        assert len(await actions(database)) == len(await asyncio.gather(*calls)) == 600


async def test_trouble_reaches_all_that_wait_and_ends_with_the_next_commit(tmp_path: Path) -> None:
    """Another process holds SQLite's write lock for longer than the busy timeout."""
    async with written(f"sqlite:///{tmp_path}/hub.db") as (writer, database):
        await database.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=100"))
        noted = Noted()
        with closing(sqlite3.connect(tmp_path / "hub.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            calls = (writer.put(noted, f"{n}") for n in range(5))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(answer) for answer in answers] == [Unavailable] * 5
            assert writer.trouble is not None
            assert "locked" in writer.trouble
        assert await writer.put(noted, "after") == "after done"
        assert writer.trouble is None
        assert await actions(database) == ["after"]


async def test_a_full_disk_is_trouble_and_keeps_nothing_of_the_commit(tmp_path: Path) -> None:
    async with written(f"sqlite:///{tmp_path}/hub.db") as (writer, database):
        pages = await database.read(lambda c: int(c.exec_driver_sql("PRAGMA page_count").scalar_one()))
        await database.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}"))
        calls = [writer.put(keep_events, event(n, body=b"x" * 9_000)) for n in range(5)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 5
        assert "full" in str(writer.trouble)
        await database.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=10000"))
        assert not (await writer.put(keep_events, event(1))).duplicate
        assert len(await database.read(lambda c: c.execute(select(EVENT.c.id)).all())) == 1


async def test_a_stopped_postgresql_is_trouble_until_it_is_back(
    postgres_server: PostgresServer, shared_url: str
) -> None:
    async with written(shared_url) as (writer, database):
        noted = Noted()
        await writer.put(noted, "before")
        postgres_server.kill()
        try:
            answers = await asyncio.gather(*(writer.put(noted, f"{n}") for n in range(5)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [Unavailable] * 5
            assert writer.trouble is not None
        finally:
            postgres_server.start()
        await eventually(lambda: passes(writer, noted))
        assert (await actions(database))[0] == "before"


async def passes(writer: Writer, noted: Noted) -> bool:
    try:
        return bool(await writer.put(noted, "after"))
    except Unavailable:
        return False


async def test_a_deadlock_is_tried_once_more(shared_url: str) -> None:
    """Two transactions take the same two rows in opposite order; PostgreSQL ends one of them, which then passes."""
    async with written(shared_url) as (first, database), written(shared_url) as (second, _):
        rows = [{"id": name, "started_at": Clock().now(), "seen_at": Clock().now()} for name in ("a", "b")]
        await database.write(lambda connection: connection.execute(WORKER.insert(), rows))
        begun: list[str] = []
        # What makes it a deadlock: each has its first row before either asks for its second.
        first_rows = asyncio.Barrier(2)

        def both(connection: Connection, now: datetime, items: Sequence[Sequence[str]]) -> list[str]:
            (names,) = items
            begun.append("".join(names))
            first_time = len(begun) <= 2
            for name in names:
                connection.execute(WORKER.update().where(WORKER.c.id == name).values(seen_at=now))
                if name == names[0] and first_time:
                    await_only(first_rows.wait())
            return ["done"]

        answers = await asyncio.gather(first.put(both, "ab"), second.put(both, "ba"))
        assert list(answers) == ["done", "done"]
        assert len(begun) == 3


async def test_a_connection_that_broke_while_it_rested_is_replaced_unseen(
    postgres_server: PostgresServer, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with written(shared_url) as (_, database):

        def backend(connection: Connection) -> int:
            return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

        first = await database.write(backend)
        assert await database.write(backend) == first
        await postgres_server.run(f"SELECT pg_terminate_backend({first}, 10000)")
        monkeypatch.setattr("hub.database.RESTED", 0.0)
        assert await database.write(backend) != first


async def test_one_that_conflicts_again_and_again_is_trouble_for_now(shared_url: str) -> None:
    async with written(shared_url) as (writer, database):
        tries: list[int] = []

        def never(connection: Connection, now: datetime, items: Sequence[int]) -> list[None]:
            tries.append(len(items))
            connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$")
            return [None] * len(items)

        noted = Noted()
        answers = await asyncio.gather(
            writer.put(never, 1), writer.put(noted, "good"), writer.put(never, 2), return_exceptions=True
        )
        assert isinstance(answers[0], Unavailable)
        assert isinstance(answers[2], Unavailable)
        assert answers[1] == "good done"
        assert tries == [2, 2, 1, 1, 1, 1]
        assert await actions(database) == ["good"]


async def test_an_event_is_one_insert_for_all_and_repeats_in_one_batch_are_told_apart(
    tmp_path: Path, database_url: str
) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        body = to_bytes(document(orderId="ord_1"))
        same = [new_event(lab.hub, Incoming("main", body, [], None), parse(body), "0" * 8) for _ in range(50)]
        kept = await asyncio.gather(*(lab.hub.writer.put(keep_events, one) for one in same))
        assert len({one.id for one in kept}) == 1
        assert [one.duplicate for one in kept].count(False) == 1
        row = await lab.row(EVENT)
        assert (row.id, row.repeats) == (kept[0].id, 49)
