"""A hub over a database of its own, for tests close to the database: its clock moved, its rows read, its HTTP served.

Every such test runs on SQLite and on PostgreSQL through `database_url`. The connectors here stand in configs as
`tests.hubdb:Still`; what `Puppet` does in a test, the test says.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest
import uvicorn
from sqlalchemy import Connection, Row, Table, select
from sqlmodel import SQLModel

from hub.client import Exchange
from hub.config import Config
from hub.connector import Connector, Context, Event, Receipt
from hub.database import Database, open_database
from hub.deliver import Line, finish, open_line
from hub.errors import Outcome
from hub.event import parse
from hub.fan_out import fan_out_waiting
from hub.jobs import open_bells
from hub.process import bound, listening
from hub.receive import Incoming, new_event
from hub.runtime import Hub, open_hub
from hub.schema import create
from hub.store import ATTEMPT, DELIVERY, ROUTE_STATE, SCHEMA_VERSION
from hub.store.claims import Claim, Claimed, ClaimRequest, claim
from hub.store.events import Kept, keep_events
from hub.store.records import record
from hub.store.workers import seen
from hub.testing.samples import StoreDouble, to_bytes
from hub.web.app import create_app
from hub.web.protocol import Gate, guarded, most_connections
from hub.web.webhooks import BODY_WITHIN
from tests.servers import PostgresServer

SECRET = "the webhook secret of these tests"
NOON = "2026-11-23T12:00:00Z"
MORNING = datetime(2026, 11, 23, 8, tzinfo=UTC)
SCHEDULE = ["10s", "20s", "40s"]
Work = Callable[[Connection], Any]


class Still(Connector):
    """Delivers without doing anything."""

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        return Receipt("done")


class Looks(Still):
    """Reads the present state before it acts."""

    reads_state = True


class Puppet(Connector):
    """Does what the test put into `acts` under its route's name."""

    acts: ClassVar[dict[str, Callable[[Event, Context], Awaitable[Receipt]]]] = {}

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        return await self.acts[ctx.route](event, ctx)


def route(connector: str = "Still", **more: Any) -> dict[str, Any]:
    """A route of one of the connectors above, with a schedule of 10, 20 and 40 s."""
    return {"connector": f"{__name__}:{connector}", "retry": {"schedule": SCHEDULE}} | more


def config_of(folder: Path, url: str, routes: dict[str, Any], **more: Any) -> Config:
    """A config for the store `main` over the database at `url`."""
    base: dict[str, Any] = {
        "server": {"port": 0},
        "database": url,
        "data_dir": "data",
        "disk": {"min_free": "0B", "min_free_percent": 0},
        "stores": {"main": {"url": "http://shop.test", "webhook_secrets": [SECRET]}},
        "routes": routes,
    }
    return Config.model_validate(base | more, context={"folder": folder, "stores": list((base | more)["stores"])})


def document(type: str = "order.placed", timestamp: str = NOON, **data: Any) -> dict[str, Any]:
    return {"event": type, "data": data, "timestamp": timestamp}


@dataclass
class Lab:
    """A hub and its lines, with what tests ask of them. Time moves by `later`."""

    hub: Hub
    lines: dict[str, Line] = field(default_factory=dict)
    made: int = 0

    def later(self, seconds: float) -> None:
        """The hub's clock goes forward."""
        self.hub.clock.offset += timedelta(seconds=seconds)

    def stand_still(self) -> None:
        """From now on the clock goes forward by `later` alone: no machine is too slow for what a test says of times."""
        clock = self.hub.clock
        moment, before = clock.now(), clock.offset
        vars(clock)["now"] = lambda: moment + (clock.offset - before)

    async def write(self, work: Work) -> Any:
        return await self.hub.database.write(work)

    async def rows(self, table: Table, *where: Any) -> list[Row[Any]]:
        """All rows of a table under these conditions, in the order of its first column."""
        query = select(table).where(*where).order_by(*table.primary_key.columns)
        return await self.hub.database.read(lambda connection: list(connection.execute(query)))

    async def row(self, table: Table, *where: Any) -> Row[Any]:
        (found,) = await self.rows(table, *where)
        return found

    async def delivery(self, delivery_id: str) -> Row[Any]:
        return await self.row(DELIVERY, DELIVERY.c.id == delivery_id)

    async def attempts(self, delivery_id: str) -> list[Row[Any]]:
        return await self.rows(ATTEMPT, ATTEMPT.c.delivery_id == delivery_id)

    async def state(self, route: str = "one") -> Row[Any]:
        return await self.row(ROUTE_STATE, ROUTE_STATE.c.route == route)

    async def keep(self, event: dict[str, Any], store: str = "main") -> Kept:
        """Keep an event as receiving does, signature apart."""
        body = to_bytes(event)
        return await self.hub.writer.put(
            keep_events, new_event(self.hub, Incoming(store, body, [], None), parse(body), "00000000")
        )

    async def fan_out(self) -> None:
        while await fan_out_waiting(self.hub):
            pass

    async def deliver_events(self, *events: dict[str, Any]) -> list[Row[Any]]:
        """Keep and fan out these events, one after the other; their deliveries in that order."""
        ids = [(await self.keep(event)).id for event in events]
        await self.fan_out()
        found = await self.rows(DELIVERY, DELIVERY.c.event_id.in_(ids))
        return sorted(found, key=lambda row: (row.event_seq, row.route))

    async def orders(self, count: int) -> list[Row[Any]]:
        """Deliveries of that many fresh orders."""
        first, self.made = self.made, self.made + count
        return await self.deliver_events(*(document(orderId=f"ord_{n}") for n in range(first, self.made)))

    async def order(self) -> Row[Any]:
        (row,) = await self.orders(1)
        return row

    def request(self, route: str = "one", worker: str | None = None, **more: Any) -> ClaimRequest:
        """What a worker's loop asks for on this route, with all its slots free."""
        terms = self.hub.config.routes[route]
        asked: dict[str, Any] = {
            "route": route,
            "worker": worker or self.hub.worker_id,
            "limit": terms.concurrency,
            "concurrency": terms.concurrency,
            "lease": terms.timeout + self.hub.config.worker.lease_margin,
            "interval": timedelta(seconds=terms.rate.interval) if terms.rate else None,
            "ordered": terms.ordered,
            "max_age": terms.max_age,
        }
        return ClaimRequest(**asked | more)

    async def claim(self, route: str = "one", worker: str | None = None, **more: Any) -> Claimed:
        """As a worker claims: one that has just given its sign of life."""
        await self.alive(worker or self.hub.worker_id)
        return await self.hub.writer.put(claim, self.request(route, worker, **more))

    async def claim_one(self, route: str = "one", worker: str | None = None, **more: Any) -> Claim:
        (one,) = (await self.claim(route, worker, **more)).claims
        return one

    async def claim_none(self, route: str = "one", **more: Any) -> Claimed:
        claimed = await self.claim(route, **more)
        assert claimed.claims == []
        return claimed

    def line(self, route: str) -> Line:
        if route not in self.lines:
            self.lines[route] = open_line(self.hub, route)
        return self.lines[route]

    async def finish(self, claimed: Claim, result: Receipt | Outcome) -> str:
        """Record how an attempt ended; the delivery's status then, or `late`."""
        line = self.line(claimed.delivery.route)
        finished = finish(self.hub, line, claimed, result, Exchange(), timedelta(milliseconds=7))
        return await self.hub.writer.put(record, finished)

    async def alive(self, worker: str | None = None) -> None:
        """That worker's heartbeat."""
        await self.write(lambda connection: seen(connection, self.hub.now(), worker or self.hub.worker_id))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = open_database(url)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_lab(folder: Path, url: str, routes: dict[str, Any] | None = None, **config: Any) -> AsyncIterator[Lab]:
    """A lab over the database at `url`, whose tables are made if there are none; route `one` if none is named."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(url))
        await database.write(create)
        bells = await stack.enter_async_context(open_bells(None, in_process=True))
        settings = config_of(folder, url, {"one": route()} if routes is None else routes, **config)
        lab = Lab(await stack.enter_async_context(open_hub(settings, database, bells)))
        try:
            yield lab
        finally:
            await asyncio.gather(*(line.close() for line in lab.lines.values()))


async def emptied(url: str) -> None:
    """All tables of the database at `url`, made if need be, without a row."""

    def empty(connection: Connection) -> None:
        create(connection)
        for table in SQLModel.metadata.tables.values():
            if table is not SCHEMA_VERSION:
                connection.execute(table.delete())

    async with opened(url) as database:
        await database.write(empty)


@pytest.fixture
async def shared_url(postgres_server: PostgresServer) -> str:
    """The PostgreSQL database that these tests take in turn, emptied: ten times as fast as one for each."""
    connection = await asyncpg.connect(postgres_server.url())
    try:
        with suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute("CREATE DATABASE hubdb")
    finally:
        await connection.close()
    await emptied(postgres_server.url("hubdb"))
    return postgres_server.url("hubdb")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hub.db"
    url: str = request.getfixturevalue("shared_url")
    return url


@pytest.fixture
async def lab(tmp_path: Path, database_url: str) -> AsyncIterator[Lab]:
    """A lab with the one route `one`, whose clock stands still."""
    async with open_lab(tmp_path, database_url) as made:
        made.stand_still()
        yield made


@asynccontextmanager
async def served(
    hub: Hub, body_within: float = BODY_WITHIN, gate: Gate | None = None, keep_alive: int = 5
) -> AsyncIterator[str]:
    """The URL at which `hub` receives, on uvicorn as the hub runs it."""
    sock = bound("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    app = create_app(hub, body_within)
    config = uvicorn.Config(
        app,
        http=guarded(gate or Gate(most_connections()), app.state.shortcut),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=keep_alive,
    )
    async with listening(config, [sock], url) as listens:
        yield listens.url


@asynccontextmanager
async def store_at(url: str, store: str = "main") -> AsyncIterator[StoreDouble]:
    """A store that posts to the hub at `url`."""
    async with StoreDouble(f"{url}/webhooks/{store}", SECRET) as double:
        yield double
