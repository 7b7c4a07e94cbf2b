"""Storage that is away, silent or refuses: what was acknowledged and what was sent stays so. Each test is named for a
fault that was found.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

import hub.database
from hub.client import exchange
from hub.connector import Context, Effect, Event, Receipt
from hub.deliver import attempt
from hub.errors import TryAgain, Unavailable
from hub.store import EFFECT, EVENT
from hub.testing.samples import to_bytes
from tests import hubdb
from tests.faulty import Faulty
from tests.hubdb import Lab, document, open_lab, opened, route, served, store_at
from tests.servers import PostgresServer, eventually

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
FAULTY = route() | {"connector": "tests.faulty:Faulty"}
LEASE = 35.0


@pytest.fixture(autouse=True)
def no_acts() -> Iterator[None]:
    yield
    Faulty.forget()


@asynccontextmanager
async def proxied(target: Path, folder: Path) -> AsyncIterator[asyncio.Event]:
    """A way to PostgreSQL's socket whose open connections say nothing more once the event is set; new ones work."""
    silent = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if until.is_set():
                return
            writer.write(data)
            await writer.drain()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Those that come while it is silent already are the new ones.
        until = asyncio.Event() if silent.is_set() else silent
        there, back = await asyncio.open_unix_connection(str(target))
        both = asyncio.gather(pump(reader, back, until), pump(there, writer, until))
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            await both
            if until is silent and silent.is_set():
                await asyncio.Event().wait()
        back.close()
        writer.close()

    server = await asyncio.start_unix_server(connect, str(folder / target.name))
    try:
        yield silent
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_connections_that_fall_silent_are_given_up(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, shared_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A host that is gone sends no word of it: one request waited for ever, and with it every later one."""
    monkeypatch.setattr(hub.database, "ANSWER_WITHIN", 1.0)
    folder = tmp_path_factory.mktemp("p")
    socket = Path(postgres_server.folder) / ".s.PGSQL.5432"
    through = shared_url.replace(str(postgres_server.folder), str(folder))
    async with (
        proxied(socket, folder) as silent,
        open_lab(folder, through) as lab,
        served(lab.hub) as url,
        store_at(url) as store,
    ):
        assert (await store.send("order.placed")).status_code == 200
        silent.set()

        async def works_again() -> bool:
            return (await store.send("order.placed")).status_code == 200

        await eventually(works_again)


@pytest.mark.parametrize(
    "statement",
    ["REVOKE INSERT ON event FROM hub_test", "ALTER TABLE event RENAME TO away", "ALTER ROLE hub_test NOLOGIN"],
)
async def test_storage_that_refuses_everybody_is_no_fault_of_the_event(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str, statement: str
) -> None:
    """Answered 422, a good event is lost: its sender may not send it again."""
    async with open_lab(tmp_path, postgres_url) as owner:
        await owner.write(lambda c: c.exec_driver_sql("DROP ROLE IF EXISTS hub_test"))
        await owner.write(lambda c: c.exec_driver_sql("CREATE ROLE hub_test LOGIN PASSWORD 'x'"))
        await owner.write(lambda c: c.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO hub_test"))
        await owner.write(lambda c: c.exec_driver_sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO hub_test"))
        try:
            async with (
                open_lab(tmp_path, as_role(postgres_url)) as lab,
                served(lab.hub) as url,
                store_at(url) as store,
                httpx.AsyncClient(trust_env=False) as client,
            ):
                assert (await store.send("order.placed")).status_code == 200
                await owner.write(lambda c: c.exec_driver_sql(statement))
                await owner.write(
                    lambda c: c.exec_driver_sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hub_test'"
                    )
                )
                for answer in (await store.send("order.placed"), await store.send("order.placed")):
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert (await client.get(f"{url}/healthz")).status_code == 200
        finally:
            await owner.write(lambda c: c.exec_driver_sql("DROP OWNED BY hub_test"))
            await owner.write(lambda c: c.exec_driver_sql("DROP ROLE hub_test"))


def as_role(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://hub_test:x@{rest.partition('@')[2]}"


@asynccontextmanager
async def locked(folder: Path) -> AsyncIterator[None]:
    """SQLite's write lock is somebody else's."""
    with closing(sqlite3.connect(folder / "hub.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def impatient(lab: Lab) -> None:
    await lab.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=20"))


async def test_an_effect_waits_for_storage_so_that_what_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    sent = []

    async def send(event: Event, ctx: Context) -> Receipt:
        assert await ctx.effects.get("number") is None
        sent.append(ctx.attempt)
        async with locked(tmp_path):
            putting = asyncio.create_task(ctx.effects.put("number", "S00042"))
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(putting), 0.3)
            assert not putting.done()
        await putting
        return Receipt("sent")

    Faulty.acts["one"] = send
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", {"one": FAULTY}) as lab:
        await impatient(lab)
        row = await lab.order()
        with capture_logs() as lines:
            assert await attempt(lab.hub, lab.line("one"), await lab.claim_one()) == "delivered"
        assert "effect.waiting" in {line["event"] for line in lines}
        assert sent == [1]
        assert (await lab.row(EFFECT)).value == "S00042"
        assert [one.outcome for one in await lab.attempts(row.id)] == ["delivered"]


async def test_storage_that_fails_a_connector_is_not_the_connectors_fault(lab: Lab) -> None:
    row = await lab.order()
    Faulty.acts["one"] = raising(Unavailable("the disk is full"))
    line = lab.line("one")
    line.connector = Faulty(Faulty.Settings())
    assert await attempt(lab.hub, line, await lab.claim_one()) == "pending"
    now = await lab.delivery(row.id)
    assert (now.budget - now.attempts, now.error_key) == (row.budget, "not_now")


def raising(error: BaseException) -> Any:
    async def act(event: Event, ctx: Context) -> Receipt:
        raise error

    return act


@pytest.mark.parametrize("parts", [{"answer": {"a": 1}}, {"url": 7}, {"text": None}])
async def test_a_receipt_that_holds_no_text_is_the_connectors_fault(
    tmp_path: Path, database_url: str, parts: dict[str, Any]
) -> None:
    """It could not be recorded, so that its lease ran out and it was sent again, for ever."""

    async def act(event: Event, ctx: Context) -> Receipt:
        return Receipt(**{"text": "sent"} | parts)

    Faulty.acts["one"] = act
    async with open_lab(tmp_path, database_url, {"one": FAULTY}) as lab:
        row = await lab.order()
        assert await attempt(lab.hub, lab.line("one"), await lab.claim_one()) == "pending"
        (tried,) = await lab.attempts(row.id)
        assert (tried.outcome, tried.note) == ("try_again", "a fault in the connector: TypeError")


async def test_an_outcome_that_the_database_refuses_is_told_in_its_place(tmp_path: Path, database_url: str) -> None:
    async def act(event: Event, ctx: Context) -> Receipt:
        spent = exchange.get()
        assert spent is not None
        spent.status_code = 2**70
        raise TryAgain("no", destination=True)

    Faulty.acts["one"] = act
    async with open_lab(tmp_path, database_url, {"one": FAULTY}) as lab:
        row = await lab.order()
        assert await attempt(lab.hub, lab.line("one"), await lab.claim_one()) == "pending"
        (tried,) = await lab.attempts(row.id)
        assert tried.outcome == "try_again"
        assert tried.note.startswith("a fault in the connector: ")


async def test_outcomes_that_wait_for_storage_are_not_lost_with_their_lease(tmp_path: Path) -> None:
    """After an outage longer than a lease, the claim that came first took what had been sent for lost."""
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", {"one": FAULTY}) as lab:
        await impatient(lab)
        row = await lab.order()
        claimed = await lab.claim_one()
        Faulty.acts["one"] = returning(Receipt("sent"))
        line = lab.line("one")
        async with locked(tmp_path):
            trying = asyncio.create_task(attempt(lab.hub, line, claimed))
            await eventually(lambda: row.id in line.recording)
            lab.later(LEASE + 1)
        await lab.claim_none(recording=line.recording)
        assert await trying == "delivered"
        assert line.recording == set()
        await lab.claim_none(recording=line.recording)


def returning(result: Any) -> Any:
    async def act(event: Event, ctx: Context) -> Any:
        return result

    return act


async def test_a_process_frozen_between_the_parts_of_a_statement_loses_its_locks(shared_url: str) -> None:
    """After Parse and before Bind neither the limit of a statement nor that of an idle transaction applies."""
    async with opened(shared_url) as database:
        limit = await database.read(lambda connection: connection.scalar(text("SHOW transaction_timeout")))
    assert limit == hub.database.TRANSACTION_TIMEOUT


async def test_the_log_beside_sqlites_file_shrinks_when_a_long_reader_has_gone(tmp_path: Path) -> None:
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as lab:
        assert await lab.write(lambda c: c.exec_driver_sql("PRAGMA journal_size_limit").scalar()) == 64 * 2**20


async def test_once_makes_an_entitys_effect_once_also_as_new(lab: Lab) -> None:
    made: list[int] = []

    async def make() -> Effect:
        made.append(len(made))
        return Effect(f"S0000{len(made)}")

    async def act(event: Event, ctx: Context) -> Receipt:
        first = await ctx.entity_effects.once("number", make)
        return Receipt(first.value)

    Faulty.acts["one"] = act
    line = lab.line("one")
    line.connector = Faulty(Faulty.Settings())
    for number in range(3):
        await lab.deliver_events(document("order.updated", orderId="ord_1", step=number))
        claimed = await lab.claim_one()
        assert await attempt(lab.hub, line, claimed) == "delivered"
        assert (await lab.attempts(claimed.delivery.id))[0].note == "S00001"
    assert made == [0]


async def test_a_number_that_no_decimal_holds_is_still_delivered(lab: Lab) -> None:
    async with served(lab.hub) as url, store_at(url) as store:
        numbers = b'"ord_1","total":1e-99999999999999999999,"tax":1e-999999999'
        body = to_bytes(document(orderId="ord_1")).replace(b'"ord_1"', numbers)
        assert (await store.post(body)).status_code == 200
    await lab.fan_out()
    seen: list[Any] = []

    async def act(event: Event, ctx: Context) -> Receipt:
        seen.extend([event.data["total"], event.data["tax"]])
        return Receipt("done")

    Faulty.acts["one"] = act
    line = lab.line("one")
    line.connector = Faulty(Faulty.Settings())
    assert await attempt(lab.hub, line, await lab.claim_one()) == "delivered"
    assert seen == [0, 0]
    assert len(await lab.rows(EVENT)) == 1
