"""Where the database is opened: durability as asserted, transactions, and what its errors mean."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from hub.database import Conflict, Database, assert_durable, open_database
from hub.errors import ConfigError, Unavailable
from hub.schema import create
from hub.store import AUDIT
from tests import hubdb
from tests.hubdb import opened
from tests.servers import PostgresServer

shared_url, database_url = hubdb.shared_url, hubdb.database_url


def pragma(database: Database, name: str, *, reader: bool = False) -> "asyncio.Future[object]":
    run = database.read if reader else database.write
    return asyncio.ensure_future(run(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar()))


async def test_sqlite_flushes_every_commit_before_it_answers(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/new/hub.db") as database:
        assert await pragma(database, "synchronous") == 2
        assert await pragma(database, "journal_mode") == "wal"
        assert await pragma(database, "foreign_keys") == 1
        assert await pragma(database, "query_only", reader=True) == 1
        await database.write(assert_durable)


async def test_sqlite_that_does_not_flush_is_refused(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/hub.db") as database:

        def careless(connection: Connection) -> None:
            connection.connection.driver_connection.execute("COMMIT")  # type: ignore[union-attr]
            connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
            connection.exec_driver_sql("BEGIN")

        await database.write(careless)
        with pytest.raises(ConfigError, match="synchronous=FULL"):
            await database.write(assert_durable)


async def test_postgresql_commits_synchronously_whatever_its_default(shared_url: str) -> None:
    async with opened(shared_url) as database:
        settings = {
            name: await database.read(lambda c, n=name: c.execute(text(f"SHOW {n}")).scalar())  # type: ignore[misc]
            for name in ("synchronous_commit", "lock_timeout", "statement_timeout")
        }
        assert settings == {"synchronous_commit": "on", "lock_timeout": "5s", "statement_timeout": "10s"}
        await database.read(assert_durable)


async def test_postgresql_that_does_not_flush_is_refused(shared_url: str) -> None:
    async with opened(shared_url) as database:

        def careless(connection: Connection) -> None:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            assert_durable(connection)

        with pytest.raises(ConfigError, match="synchronous_commit = off"):
            await database.write(careless)


async def test_a_transaction_is_kept_whole_or_not_at_all(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.write(create)

        def half(connection: Connection) -> None:
            connection.execute(AUDIT.insert().values(id="aud_1", at=None, who="asha", action="x"))

        def broken(connection: Connection) -> None:
            connection.execute(AUDIT.insert().values(id="aud_2", at=hubdb.MORNING, who="asha", action="x"))
            raise KeyError("broken")

        with pytest.raises(Exception, match=r"(?i)null"):
            await database.write(half)
        with pytest.raises(KeyError):
            await database.write(broken)
        assert await database.read(lambda c: c.execute(select(AUDIT.c.id)).all()) == []


async def test_reading_sees_what_was_written_before(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.write(create)
        for number in range(5):
            row = {"id": f"aud_{number}", "at": hubdb.MORNING, "who": "asha", "action": "x"}
            await database.write(lambda c, r=row: c.execute(AUDIT.insert().values(**r)))  # type: ignore[misc]
            assert len(await database.read(lambda c: c.execute(select(AUDIT.c.id)).all())) == number + 1


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("40001", Conflict), ("40P01", Conflict), ("55P03", Conflict),
        ("08006", Unavailable), ("53100", Unavailable), ("53300", Unavailable), ("57014", Unavailable),
        ("57P01", Unavailable), ("58030", Unavailable), ("25006", Unavailable), ("XX000", Unavailable),
    ],
)  # fmt: skip
async def test_what_postgresqls_states_mean(shared_url: str, state: str, error: type[Exception]) -> None:
    async with opened(shared_url) as database:
        raised = text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
        with pytest.raises(error):
            await database.write(lambda connection: connection.execute(raised))
        assert await database.read(lambda c: c.execute(text("SELECT 1")).scalar()) == 1


@pytest.mark.parametrize("statement", ["SELECT 1/0", "SELECT chr(0)", "SELECT CAST('x' AS int)"])
async def test_a_statements_own_fault_is_no_trouble(shared_url: str, statement: str) -> None:
    async with opened(shared_url) as database:
        with pytest.raises(Exception, match=r".") as caught:
            await database.write(lambda connection: connection.execute(text(statement)))
        assert not isinstance(caught.value, Unavailable | Conflict)


async def test_a_connection_that_was_cut_is_replaced(postgres_server: PostgresServer, shared_url: str) -> None:
    async with opened(shared_url) as database:
        pid = await database.read(lambda c: c.execute(text("SELECT pg_backend_pid()")).scalar())
        async with opened(postgres_server.url()) as other:
            # It waits until the connection's process has ended.
            ended = text(f"SELECT pg_terminate_backend({pid}, 9000)")
            assert await other.write(lambda c: c.execute(ended).scalar())
        assert await database.read(lambda c: c.execute(text("SELECT 1")).scalar()) == 1


async def test_cut_in_the_middle_is_trouble(postgres_server: PostgresServer, shared_url: str) -> None:
    async with opened(shared_url) as database:
        with pytest.raises(Unavailable):
            await database.write(lambda c: c.execute(text("SELECT pg_terminate_backend(pg_backend_pid())")))


async def test_a_postgresql_that_is_not_there_is_trouble(tmp_path: Path) -> None:
    async with opened(f"postgresql://hub@/hub?host={tmp_path}") as database:
        with pytest.raises(Unavailable):
            await database.read(lambda c: c.execute(text("SELECT 1")).scalar())


async def test_a_sqlite_file_that_cannot_be_opened_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_text("this is a letter to a friend, not a database" * 100)
    async with opened(f"sqlite:///{tmp_path}/hub.db") as database:
        with pytest.raises(Unavailable):
            await database.read(lambda c: c.exec_driver_sql("SELECT 1 FROM sqlite_master").scalar())


def test_other_databases_are_not_known() -> None:
    with pytest.raises(ConfigError, match="mysql is not known"):
        open_database("mysql://hub@host/hub")
