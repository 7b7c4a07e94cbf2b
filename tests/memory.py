"""The store's functions on SQLite in memory, for property tests: thousands of steps a second, time that stands still.

The same functions as everywhere, without event loop, threads or group commit.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Row, Table, make_url, select
from sqlmodel import SQLModel

from hub.client import Exchange
from hub.clock import Clock
from hub.config import Config, route_fingerprint
from hub.connector import Receipt
from hub.database import sqlite_engine
from hub.deliver import Line, finish
from hub.errors import Outcome
from hub.event import parse
from hub.fan_out import planner
from hub.receive import Incoming, new_event
from hub.redaction import redactor
from hub.runtime import Hub
from hub.schema import create
from hub.store import DELIVERY, SCHEMA_VERSION
from hub.store.claims import Claim, Claimed, ClaimRequest, claim, ensure_routes
from hub.store.events import Kept, keep_events
from hub.store.fan_out import waiting_events, write_plans
from hub.store.records import record
from hub.testing.samples import to_bytes
from tests.hubdb import config_of

T = TypeVar("T")
START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class StandingClock(Clock):
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = START

    def now(self) -> datetime:
        return self.moment


class Memory:
    """One database for many examples; `clear` makes it empty and the clock young."""

    def __init__(self, routes: dict[str, Any]) -> None:
        self.config: Config = config_of(Path(), "sqlite:///unused.db", routes)
        self.clock = StandingClock()
        self._engine = sqlite_engine(make_url("sqlite://"), "BEGIN IMMEDIATE")
        nothing = cast(Any, None)
        self.hub = Hub(
            self.config, self.clock, nothing, nothing, nothing, {}, redactor(self.config.secrets()), "worker"
        )
        self.write(create)
        self.clear()

    def clear(self) -> None:
        self.clock.moment = START
        tables = [table for table in SQLModel.metadata.tables.values() if table is not SCHEMA_VERSION]
        self.write(lambda connection: [connection.execute(table.delete()) for table in tables])
        fingerprints = {name: route_fingerprint(route) for name, route in self.config.routes.items()}
        self.write(lambda connection: ensure_routes(connection, self.clock.now(), fingerprints))

    def close(self) -> None:
        self._engine.dispose()

    @property
    def now(self) -> datetime:
        return self.clock.moment

    def later(self, seconds: float) -> None:
        self.clock.moment += timedelta(seconds=seconds)

    def write(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def rows(self, table: Table = DELIVERY) -> list[Row[Any]]:
        query = select(table).order_by(*table.primary_key.columns)
        return self.write(lambda connection: list(connection.execute(query)))

    def keep(self, event: dict[str, Any]) -> Kept:
        """Keep an event as receiving does, signature apart."""
        body = to_bytes(event)
        new = new_event(self.hub, Incoming("main", body, [], None), parse(body), "00000000")
        return self.write(lambda connection: keep_events(connection, self.now, [new]))[0]

    def fan_out(self, most: int = 1000) -> None:
        rows = self.write(lambda connection: waiting_events(connection, most))
        planned = [(row, plan(row)) for plan in [planner(self.hub)] for row in rows]
        self.write(lambda connection: write_plans(connection, self.now, planned, self.hub.terms()))

    def claim(self, route: str = "one", limit: int = 1000, worker: str = "worker", *, alone: bool = False) -> Claimed:
        terms = self.config.routes[route]
        request = ClaimRequest(
            route=route,
            worker=worker,
            limit=limit,
            concurrency=terms.concurrency,
            lease=terms.timeout + self.config.worker.lease_margin,
            ordered=terms.ordered,
            alone=alone,
        )
        return self.write(lambda connection: claim(connection, self.now, [request]))[0]

    def finish(self, claimed: Claim, result: Receipt | Outcome) -> str:
        """Record how an attempt ended; the delivery's status then, or `late`."""
        name = claimed.delivery.route
        nothing = cast(Any, None)
        line = Line(name, self.config.routes[name], nothing, nothing, nothing)
        finished = finish(self.hub, line, claimed, result, Exchange(), timedelta())
        return self.write(lambda connection: record(connection, self.now, [finished]))[0]
