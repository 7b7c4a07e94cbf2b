"""Where the database is opened, and its transactions run, each as a function over a SQLAlchemy Connection.

SQLite has one write connection on a thread of its own, which also checkpoints, and a reader on another. PostgreSQL
has a small asyncpg pool; the same functions run there through SQLAlchemy's bridge. Every failure comes out as
Unavailable (storage is in trouble), Conflict (once more), or as it is (the statement's own fault).
"""

import asyncio
import math
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InvalidatePoolError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from hub.errors import ConfigError, HubError, Unavailable

T = TypeVar("T")
Work = Callable[[Connection], T]

# What is an item's own fault is listed, and all else is trouble: a refusal may be final for its sender, a 503 is not.
# PostgreSQL's classes for values that do not fit, broken constraints, limits, and what a trigger says no to; then "try
# that once more".
OWN_FAULT = ("22", "23", "54", "P0")
CONFLICTS = {"40001", "40P01", "55P03"}
# Not the item's: numbers that PostgreSQL gives are behind, as after a restore.
OUR_KEYS = "event_pkey"
SQLITE_OWN_FAULT = {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
# The log that a long reader made grow is cut back once it has gone.
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"journal_size_limit={64 * 1024 * 1024}")
# A statement for many rows is another one for each number of rows, and to read one anew takes as long as to run it.
STATEMENTS = 1000
POOL = 5
# More than the server allows a statement, for a server that is not there any more to say so.
ANSWER_WITHIN = 15.0
# A connection that was in use so few seconds ago is taken for one that is there.
RESTED = 1.0
AGAIN_AFTER = 0.02
TRANSACTION_TIMEOUT = "12s"
CLOSED_WITHIN = 5.0


class Conflict(HubError):
    """A deadlock or a serialisation failure: the same transaction may pass when run again."""


class Database(ABC):
    """`write` and `read` run a function in one transaction, committed and flushed when they return.

    A transaction that met a Conflict is run once more, so `work` changes nothing but the database.
    """

    dialect: str

    @abstractmethod
    async def write(self, work: Work[T]) -> T: ...

    @abstractmethod
    async def read(self, work: Work[T]) -> T: ...

    @abstractmethod
    async def close(self) -> None: ...


class Sqlite(Database):
    dialect = "sqlite"

    def __init__(self, url: URL) -> None:
        self.path = Path(str(url.database))
        self._writer = sqlite_engine(url, "BEGIN IMMEDIATE")
        self._reader = sqlite_engine(url, "BEGIN", query_only=True)
        self._writing = ThreadPoolExecutor(1, "hub-database")
        self._reading = ThreadPoolExecutor(1, "hub-reader")

    async def write(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, _transact, self._writer, work)

    async def read(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, _transact, self._reader, work)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reading, self._reader.dispose)
        await loop.run_in_executor(self._writing, self._writer.dispose)
        self._reading.shutdown()
        self._writing.shutdown()


def sqlite_engine(url: URL, begin: str, *, query_only: bool = False) -> Engine:
    """An engine with one connection; `synchronous=FULL`, or a power cut loses what was answered."""
    engine = create_engine(
        url,
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": 5, "cached_statements": STATEMENTS},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None
        for pragma in (*PRAGMAS, f"query_only={int(query_only)}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_now(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextmanager
def looking_at(path: Path) -> Iterator[Connection]:
    """A read transaction on a SQLite file, beside whoever writes it: it changes nothing and never checkpoints."""
    address = f"{path.resolve().as_uri()}?mode=ro"
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, creator=lambda: sqlite3.connect(address, uri=True, isolation_level=None)
    )

    @event.listens_for(engine, "begin")
    def begin_now(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _transact(engine: Engine, work: Work[T]) -> T:
    try:
        with engine.begin() as connection:
            return work(connection)
    except Exception as error:
        raise translated(error) from error


class Postgres(Database):
    dialect = "postgresql"

    def __init__(self, url: URL) -> None:
        settings = {
            "synchronous_commit": "on",
            "lock_timeout": "5s",
            "statement_timeout": "10s",
            # A process that was stopped in the middle of a transaction must not keep a route's lock from others.
            "idle_in_transaction_session_timeout": "10s",
        }
        self._engine: AsyncEngine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=POOL,
            pool_timeout=5,
            connect_args={"timeout": 5, "server_settings": settings},
        )
        event.listen(self._engine.sync_engine, "connect", _end_long_transactions)
        event.listen(self._engine.sync_engine, "checkin", _note_its_use)
        event.listen(self._engine.sync_engine, "checkout", _refuse_broken)

    async def write(self, work: Work[T]) -> T:
        try:
            return await self._transact(work)
        except Conflict:
            # Whoever waited for it goes first: taken again at once, its rows would be missing in the same circle.
            await asyncio.sleep(AGAIN_AFTER)
            return await self._transact(work)

    async def _transact(self, work: Work[T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_WITHIN), self._engine.begin() as connection:
                return await connection.run_sync(work)
        except Exception as error:
            raise translated(error) from error

    async def read(self, work: Work[T]) -> T:
        return await self.write(work)

    async def close(self) -> None:
        # A connection whose other end is gone without a word never says goodbye.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN):
                await self._engine.dispose()


def _note_its_use(connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _refuse_broken(connection: Any, record: Any, fairy: Any) -> None:
    """Look whether a connection that has rested is still there; where it is not, the pool makes new ones.

    Raises InvalidatePoolError, which the pool takes for that. SQLAlchemy's own look before each use is three of the
    six journeys to PostgreSQL that a commit makes. What the other side has closed shows without one.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError
    if time.monotonic() - record.info.get("used", math.inf) < RESTED:
        return
    try:
        connection.ping()
    except Exception as error:
        raise InvalidatePoolError from error


def _end_long_transactions(connection: Any, record: Any) -> None:
    """Between the parts of one statement a stopped process keeps its locks from all other time limits.

    The limit that meets it is there from PostgreSQL 17 on.
    """
    connection.run_async(_limit_transactions)


async def _limit_transactions(connection: Any) -> None:
    if connection.get_server_version().major >= 17:
        await connection.execute(f"SET transaction_timeout = '{TRANSACTION_TIMEOUT}'")


def translated(error: Exception) -> Exception:
    """The hub's reading of a database error: Conflict, Unavailable, or as it is where the item itself is at fault."""
    if isinstance(error, DBAPIError):
        return _translated(error)
    if isinstance(error, OSError | TimeoutError | PoolTimeout):
        return Unavailable(f"{type(error).__name__}: {error}")
    return error


def _translated(error: DBAPIError) -> Exception:
    said = str(error.orig)
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    if state in CONFLICTS:
        return Conflict(said)
    if error.connection_invalidated:
        return Unavailable(said)
    if isinstance(state, str):
        own = state.startswith(OWN_FAULT) and OUR_KEYS not in said
    else:
        code = getattr(error.orig, "sqlite_errorcode", None)
        # Without a code it is the driver that cannot send a value: it is of no type that the database knows.
        own = "closed" not in said and (
            isinstance(error, IntegrityError | DataError | ProgrammingError) or _unfit(error)
        )
        own = own if code is None else code & 0xFF in SQLITE_OWN_FAULT
    return error if own else Unavailable(said)


def _unfit(error: DBAPIError) -> bool:
    cause = error.orig and error.orig.__cause__
    return isinstance(cause, ValueError | TypeError | OverflowError)


def open_database(url: str) -> Database:
    """The database at `url`. Raises ConfigError for kinds the hub does not know."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "hub.db")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What customers wrote is for the hub's user alone; SQLite gives the files beside it the same mode.
        if not path.exists():
            path.touch(mode=0o600)
        return Sqlite(parsed.set(drivername="sqlite", database=str(path)))
    if parsed.get_backend_name() in {"postgresql", "postgres"}:
        return Postgres(parsed)
    raise ConfigError(f"database: {parsed.drivername} is not known; use sqlite:///… or postgresql://…")


def assert_durable(connection: Connection) -> None:
    """What an answered webhook relies on, asked of the database itself. Raises ConfigError."""
    if connection.dialect.name == "sqlite":
        if connection.exec_driver_sql("PRAGMA synchronous").scalar() != 2:
            raise ConfigError("database: SQLite does not keep synchronous=FULL")
        return
    for setting in ("synchronous_commit", "fsync", "full_page_writes"):
        value = connection.execute(text("SELECT current_setting(:setting)"), {"setting": setting}).scalar()
        if value in {"off", "local"}:
            raise ConfigError(f"database: PostgreSQL has {setting} = {value}; a crash would lose events.")
