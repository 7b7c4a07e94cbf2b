"""The Hub: everything a running process shares, opened and closed in one place."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, text

from hub.clock import Clock, from_micros, new_id, system_time
from hub.config import Config, route_fingerprint
from hub.database import Database, assert_durable
from hub.disk import disk_low
from hub.errors import Stopping, Unavailable
from hub.event import SigningKey
from hub.jobs import Bells
from hub.redaction import redactor
from hub.schema import touch
from hub.store.claims import claim, ensure_routes
from hub.store.fan_out import RouteTerms
from hub.store.records import lock_routes, record
from hub.writer import Writer

T = TypeVar("T")
WRITE_AGAIN_AFTER = 0.5
MOST_SKEW = timedelta(seconds=2)
MEASURE_EVERY = 60.0
LOOK_AT_DISK_EVERY = 2.0
# A webhook waits as long for the commits before it: less than the database waits for a lock (5 s), and more than a
# backup or a shell beside the hub holds one. Refused, it might never come again: not every sender tries twice.
MOST_BEHIND = 4.0
log = structlog.get_logger()


@dataclass
class Hub:
    """A process's share of the hub. `worker_id` names it where it delivers; `dashboard_url` while it listens there.

    `disk_low` says why webhooks are refused while too little of the disk is free. `clients` are hub.stores'; what is
    opened on the way and ends with the hub stands in `closing`.
    """

    config: Config
    clock: Clock
    database: Database
    writer: Writer
    bells: Bells
    keys: Mapping[str, tuple[SigningKey, ...]]
    redact: Callable[[str], str]
    worker_id: str
    dashboard_url: str | None = None
    disk_low: str | None = None
    clients: dict[str, Any] = field(default_factory=dict)
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    def now(self) -> datetime:
        return self.clock.now()

    def terms(self) -> dict[str, RouteTerms]:
        """What each configured route gives to its new deliveries."""
        return {
            name: RouteTerms(len(route.retry.schedule) + 1, route.connector_class.reads_state)
            for name, route in self.config.routes.items()
        }


@asynccontextmanager
async def open_hub(config: Config, database: Database, bells: Bells) -> AsyncIterator[Hub]:
    """A Hub over an open database of the current schema. Asserts what an acknowledged event relies on."""
    clock = Clock()
    await database.write(assert_durable)
    await set_clock(database, clock)
    hub = Hub(
        config=config,
        clock=clock,
        database=database,
        writer=Writer(database, clock, lock_routes, last=(record, claim)),
        bells=bells,
        keys={
            name: tuple(SigningKey.of(secret.reveal()) for secret in store.webhook_secrets)
            for name, store in config.stores.items()
        },
        redact=redactor(config.secrets()),
        worker_id=f"{new_id('wrk')}@{socket.gethostname()}:{os.getpid()}",
    )
    # Before the first webhook, not a moment after it.
    await look_at_disk(hub)
    watching = [
        asyncio.create_task(keep_time(database, clock), name="clock"),
        asyncio.create_task(watch_disk(hub), name="disk"),
    ]
    fingerprints = {name: route_fingerprint(route) for name, route in config.routes.items()}
    try:
        await database.write(lambda connection: ensure_routes(connection, hub.now(), fingerprints))
        yield hub
    finally:
        for task in watching:
            task.cancel()
        await hub.closing.aclose()
        await hub.writer.close()


async def set_clock(database: Database, clock: Clock) -> None:
    """Measure the database's clock against this machine's, and go by the database's."""
    if database.dialect != "postgresql":
        return
    clock.offset = await database.read(offset_of_database)
    if abs(clock.offset) > MOST_SKEW:
        log.warning("clock.apart", seconds=round(clock.offset.total_seconds(), 3), remedy="set this machine's clock")


async def keep_time(database: Database, clock: Clock) -> None:
    """Measure again every minute: clocks drift."""
    while database.dialect == "postgresql":
        await asyncio.sleep(MEASURE_EVERY)
        with suppress(Unavailable):
            await set_clock(database, clock)


def offset_of_database(connection: Connection) -> timedelta:
    """How far PostgreSQL's clock is ahead of this machine's; the wait for a connection is no part of it."""
    before = system_time()
    micros = connection.execute(text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"))
    theirs = from_micros(micros.scalar_one())
    return theirs - (before + (system_time() - before) / 2)


async def look_at_disk(hub: Hub) -> None:
    """Set `disk_low` by what is free now; a change is told in the log."""
    before = hub.disk_low
    # In a thread: a disk that hangs answers no such question.
    hub.disk_low = await asyncio.to_thread(disk_low, hub.config)
    if hub.disk_low is not None and before is None:
        log.error("disk.low", reason=hub.disk_low)
    elif hub.disk_low is None and before is not None:
        log.info("disk.enough")


async def watch_disk(hub: Hub) -> None:
    """Look again every two seconds."""
    while hub.config.sqlite_path is not None:
        await asyncio.sleep(LOOK_AT_DISK_EVERY)
        await look_at_disk(hub)


def storage_reason(hub: Hub) -> str | None:
    """Why a webhook would be refused just now, or None."""
    if hub.writer.trouble is not None:
        return f"the database cannot be written: {hub.writer.trouble}"
    if hub.writer.behind() > MOST_BEHIND:
        return f"the writer is more than {MOST_BEHIND:g} seconds behind"
    return hub.disk_low


async def reachable(hub: Hub) -> None:
    """Raises Unavailable unless the database answers where webhooks are written: a slow reader keeps none of them."""
    try:
        async with asyncio.timeout(2):
            await hub.writer.put(ping, None)
    except TimeoutError:
        raise Unavailable("the database does not answer") from None


def ping(connection: Connection, now: datetime, items: Sequence[None]) -> Sequence[None]:
    """A batch for the group commit that writes nothing."""
    connection.exec_driver_sql("SELECT 1").scalar()
    return items


async def written_again(hub: Hub) -> None:
    """After trouble one small write: else a receiver that nobody sends anything would never learn that it is over.

    Raises Unavailable while it is not.
    """
    if hub.writer.trouble is None:
        return
    try:
        async with asyncio.timeout(2):
            await hub.writer.put(touch, None)
    except TimeoutError:
        raise Unavailable("the database does not write") from None


async def patiently(what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do `work` until storage is there for it. Ends with the hub, or with the attempt that waits for it."""
    while True:
        try:
            return await work()
        except Stopping:
            raise
        except Unavailable as trouble:
            log.warning(f"{what}.waiting", reason=str(trouble))
            await asyncio.sleep(WRITE_AGAIN_AFTER)
