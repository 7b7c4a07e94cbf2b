"""What a case plays on: a hub (one process on SQLite; two receivers and two workers on PostgreSQL and Valkey), a store
that posts to it, and a counterpart for each of its four routes.

A process is known by its name: `hub`, or `receiver1`, `receiver2`, `worker1`, `worker2`. Each keeps its port over its
restarts. Everything listens on loopback, in folders of its own.
"""

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import yaml
from sqlalchemy import Connection, func, select

from hub.config import load_config
from hub.database import Database, looking_at, open_database
from hub.errors import CommandError, Unavailable
from hub.process import local_hub
from hub.store import ATTEMPT, DELIVERY, EVENT
from hub.testing import HttpSink
from tests.faults.disks import mounted
from tests.faults.ledger import Balance, Channel, Counterpart, Erp, Journal, Mailbox, Plain, Store, compare
from tests.faults.scale import Scale
from tests.faults.slowness import Slowness
from tests.faults.wire import Wire, to_port, to_socket
from tests.hubs import HubProcess, config_of, hub_process, make_schema, route, write_config
from tests.servers import PostgresServer, ValkeyServer, eventually, free_port

T = TypeVar("T")
LATER = ATTEMPT.alias("later")
SQLITE, POSTGRESQL = "sqlite", "postgresql"
KINDS = (SQLITE, POSTGRESQL)
SENDER = "shop@example.test"
IN_FLIGHT = 5
# For what never comes; what a case asks of the hub itself is far less.
PATIENCE = 120.0
STILL_FOR = 60.0
LOOK_EVERY = 0.25
DISK = "disk"
NAMES = {SQLITE: ["hub"], POSTGRESQL: ["receiver1", "receiver2", "worker1", "worker2"]}
ENTRY = ("tests.faults.hub",)
COMMANDS = {"hub": "up", "receiver": "serve", "worker": "work"}


@dataclass
class Servers:
    """The PostgreSQL and Valkey that cases take in turn, started when first asked for."""

    stack: AsyncExitStack
    postgres: PostgresServer | None = None
    valkey: ValkeyServer | None = None

    def get_postgres(self) -> PostgresServer:
        if self.postgres is None:
            self.postgres = PostgresServer()
            self.stack.callback(self.postgres.close)
        if not self.postgres.running():
            self.postgres.start()
        return self.postgres

    def get_valkey(self) -> ValkeyServer:
        if self.valkey is None:
            self.valkey = ValkeyServer()
            self.stack.callback(self.valkey.close)
        self.valkey.restore()
        return self.valkey

    def get_running_valkey(self) -> ValkeyServer:
        """As it is: a case is about to do something to it."""
        assert self.valkey is not None
        return self.valkey


@dataclass(frozen=True)
class Figure:
    """One measured thing of a case, and whether it is as it must be; `time`: it is a bound on a time that says so."""

    text: str
    sound: bool = True
    time: bool = False


@dataclass
class Stage:
    """A hub under load, and what a case does to it. `kills` bounds the doubles that plain counterparts may see."""

    kind: str
    scale: Scale
    folder: Path
    servers: Servers
    stack: AsyncExitStack
    database_url: str
    store: Store
    erp: Erp
    plain: Plain
    slack: Channel
    mail: Mailbox
    slowness: Slowness
    configs: dict[str, Path] = field(default_factory=dict)
    hubs: dict[str, HubProcess] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    wire: Wire | None = None
    # What may make doubles at counterparts that look at no keys: processes that ended, times in which nothing could be
    # recorded, attempts that had no answer in time (all counted), and what a case itself allows, with its reason.
    kills: int = 0
    outages: int = 0
    unanswered: int = 0
    more_doubles: dict[str, int] = field(default_factory=dict)
    # How many deliveries must be dead at the end; None: any number.
    dead: int | None = 0
    # The events that must be there at the end, where not all that were acknowledged can be.
    meant: set[str] | None = None
    database: Database | None = None
    loading: "asyncio.Task[None] | None" = None

    # ---- processes

    @property
    def receiver(self) -> str:
        return "hub" if self.kind == SQLITE else "receiver1"

    @property
    def worker(self) -> str:
        return "hub" if self.kind == SQLITE else "worker1"

    @property
    def names(self) -> list[str]:
        return NAMES[self.kind]

    async def start(self, name: str, failpoint: str | None = None) -> HubProcess:
        """Start that process, again if it ended; with a failpoint in it, if one is given."""
        env = self.env | ({"HUB_FAILPOINT": failpoint} if failpoint else {})
        command = COMMANDS[name.rstrip("12")]
        hub = await self.stack.enter_async_context(hub_process(self.configs[name], command, module=ENTRY, env=env))
        self.hubs[name] = hub
        return hub

    async def start_all(self, failpoints: dict[str, str] | None = None) -> None:
        starting = [asyncio.create_task(self.start(name, (failpoints or {}).get(name))) for name in self.names]
        await asyncio.wait(starting)
        for task in starting:
            task.result()

    async def kill(self, name: str) -> None:
        """kill -9; what it had in flight may come twice where nobody looks at keys."""
        self._count_kill(name)
        await self.hubs[name].kill()

    async def died(self, name: str, within: float = PATIENCE) -> None:
        """Returns once a process has ended by its failpoint."""
        async with asyncio.timeout(within):
            await self.hubs[name].process.wait()
        self._count_kill(name)

    def _count_kill(self, name: str) -> None:
        """A receiver has no deliveries in flight."""
        self.kills += not name.startswith("receiver")

    # ---- figures

    @property
    def allowed(self) -> dict[str, int]:
        """How many doubles the three counterparts that look at no keys may see, and what for."""
        found = {
            f"{self.kills} killed × {IN_FLIGHT} in flight × 3": self.kills * IN_FLIGHT * 3,
            f"{self.outages} outage × {IN_FLIGHT} in flight × 3": self.outages * IN_FLIGHT * 3,
            f"{self.unanswered} without an answer in time": self.unanswered,
            **{f"{count} {why}": count for why, count in self.more_doubles.items()},
        }
        return {why: count for why, count in found.items() if count}

    def doubles(self, count: int, why: str) -> None:
        """So many more doubles may be seen."""
        self.more_doubles[why] = count

    def note(self, text: str) -> None:
        self.figures.append(Figure(text))

    def require(self, sound: bool, text: str) -> None:
        """Something that must be so; `text` tells it with its number."""
        self.figures.append(Figure(text, bool(sound)))

    def at_most(self, what: str, seconds: float, bound: float, *, digits: int = 1, times: float | None = None) -> None:
        """A bound on a time, in seconds, which has ended just now; or when the machine was so many `times` as slow."""
        slow = self.slowness.times(seconds) if times is None else times
        self.timely(seconds, bound, f"{what} {seconds:.{digits}f} s", f"{bound:.3g}", slow)

    def timely(self, seconds: float, bound: float, told: str, told_bound: str, times: float) -> None:
        """A time and its bound. One that is missed is forgiven as many `times` as the machine was slow, and the line
        says so."""
        times = times if seconds > bound else 1.0
        forgiven = f" × {times:.1f}: the machine was busy" if times > 1 else ""
        self.figures.append(Figure(f"{told} (allowed ≤ {told_bound}{forgiven})", seconds <= bound * times, time=True))

    # ---- load

    def begin_load(self) -> None:
        self.loading = asyncio.create_task(self.store.load())

    async def end_load(self) -> None:
        """Post nothing more; returns once all that is under way has its end."""
        self.store.enough.set()
        if self.loading is not None:
            await self.loading

    async def resend_all(self) -> None:
        """What the store has no answer for is posted again until it is acknowledged."""
        for marker in self.store.sent.keys() - self.store.acked.keys():
            await self.store.resend(marker)

    async def under_load(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def first_ack(self, since: float) -> float:
        """Seconds from `since` (since 1970) to the first acknowledgement of an event posted after it."""
        found = await eventually(
            lambda: [one for one in self.store.answered if one.at >= since and one.result == "acked"], PATIENCE
        )
        return min(one.at + one.seconds for one in found) - since

    # ---- looking

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What stands in the database, read beside the hub."""
        if self.kind == SQLITE:
            path = Path(self.database_url.removeprefix("sqlite:///"))

            def look() -> T:
                with looking_at(path) as connection:
                    return work(connection)

            return await asyncio.to_thread(look)
        if self.database is None:
            self.database = open_database(self.database_url)
            self.stack.push_async_callback(self.database.close)
        return await self.database.read(work)

    async def ask(self, operation: str, **arguments: Any) -> Any:
        """What a command asks of the hub."""
        async with local_hub(load_config(self.configs[self.receiver])) as call:
            return await call(operation, arguments)

    async def status(self) -> Any:
        return await self.ask("status")

    async def ready(self, name: str | None = None) -> bool:
        """Whether that receiver says that it takes webhooks."""
        url = self.hubs[name or self.receiver].url
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            with suppress(httpx.TransportError):
                return (await client.get(f"{url}/readyz")).status_code == 200
        return False

    async def comes(self, look: Callable[[], Awaitable[object]], within: float) -> bool:
        """Whether that becomes true in time. Looks less often than `eventually`: under load each look costs."""
        began = time.monotonic()
        while not await look():
            if time.monotonic() - began > within:
                return False
            await asyncio.sleep(LOOK_EVERY)
        return True

    async def degraded(self, word: str, within: float = 30.0) -> Any:
        """Wait until the status is degraded, for a reason with that word in it."""

        reasons: list[str] = []
        began = time.monotonic()
        while time.monotonic() - began < within:
            with suppress(CommandError, Unavailable, httpx.HTTPError):
                reasons = (await self.status())["reasons"]
            if any(word in why for why in reasons):
                return self.require(True, "degraded during")
            await asyncio.sleep(LOOK_EVERY)
        return self.require(False, f"never degraded for {word}: {reasons}")

    async def sound_again(self, within: float = 30.0, about: str = "") -> None:
        """Wait until the status is ok, or until nothing is wrong any more about what is named."""
        began, reasons = time.monotonic(), ["no answer"]
        while reasons and time.monotonic() - began < within * self.slowness.times(within):
            with suppress(CommandError, Unavailable, httpx.HTTPError):
                reasons = [why for why in (await self.status())["reasons"] if about in why]
            if reasons:
                await asyncio.sleep(LOOK_EVERY)
        seconds = time.monotonic() - began
        self.require(not reasons, f"still degraded: {reasons}" if reasons else f"ok {seconds:.1f} s after")

    def keep_logs(self) -> None:
        """What the processes said, in the case's folder, which is kept where it fails."""
        for name, hub in self.hubs.items():
            (self.folder / f"{name}.log").write_text("\n".join(map(json.dumps, hub.lines)))

    # ---- the end

    async def drained(self) -> float:
        """Seconds until nothing is waiting or under way; a line of the report if that does not come."""
        began = moved = time.monotonic()
        before: dict[str, int] = {}
        while time.monotonic() - moved < STILL_FOR:
            now = await self.read(open_work)
            if not any(now.values()):
                return time.monotonic() - began
            if now != before:
                before, moved = now, time.monotonic()
            await asyncio.sleep(LOOK_EVERY)
        self.require(False, f"{before} and nothing moves")
        return time.monotonic() - began

    async def close_database(self) -> None:
        """Read from another one the next time."""
        if self.database is not None:
            await self.database.close()
            self.database = None

    def move_to(self, url: str) -> None:
        """The hub's processes work on another database, in data folders of their own, from their next start on."""
        self.database_url = url
        for name, path in self.configs.items():
            config = yaml.safe_load(path.read_text())
            folder = path.parent / "found"
            folder.mkdir()
            moved = config | {"database": url, "data_dir": str(folder / "data")}
            self.configs[name] = write_config(folder, moved)

    async def settle(self) -> Balance:
        """The books of all counterparts, and whether the database agrees with them."""
        self.unanswered = await self.read(unanswered)
        dead = await self.dead_visible()
        counterparts: dict[str, Counterpart] = {
            "erp": self.erp, "plain": self.plain, "slack": self.slack, "mail": self.mail
        }  # fmt: skip
        balance = compare(self.store, counterparts, dead, self.meant)
        balance.wrong += await self.read(lambda connection: invariants(connection, self, balance))
        return balance

    async def dead_visible(self) -> dict[str, set[str]]:
        """For each route the markers of the deliveries that the dashboard shows as dead."""
        ids = {event_id: marker for marker, event_id in self.store.acked.items()}
        ids |= await self.read(markers_by_id)
        found: dict[str, set[str]] = {}
        async with local_hub(load_config(self.configs[self.receiver])) as call:
            before = None
            while True:
                page = await call("deliveries", {"status": "dead", "limit": 500, "before": before})
                for delivery in page["deliveries"]:
                    found.setdefault(delivery["route"], set()).add(ids[delivery["event_id"]])
                before = page["before"]
                if before is None:
                    return found


def open_work(connection: Connection) -> dict[str, int]:
    """What is still to come, by kind; all 0 where the hub has nothing more to do."""
    waiting = select(func.count()).select_from(EVENT).where(EVENT.c.fanned_out_at.is_(None))
    pending = select(func.count()).select_from(DELIVERY).where(DELIVERY.c.status == "pending")
    leased = select(func.count()).select_from(DELIVERY).where(DELIVERY.c.lease_until.is_not(None))
    return {
        "waiting": connection.execute(waiting).scalar_one(),
        "pending": connection.execute(pending).scalar_one(),
        "leased": connection.execute(leased).scalar_one(),
    }


def unanswered(connection: Connection) -> int:
    """Attempts at counterparts that look at no keys which may have arrived, and of which no answer came in time."""
    query = select(func.count()).select_from(ATTEMPT).join(DELIVERY, DELIVERY.c.id == ATTEMPT.c.delivery_id)
    told = ATTEMPT.c.note.like("%may have arrived%")
    return connection.execute(query.where(told, DELIVERY.c.route.in_(["plain", "slack", "mail"]))).scalar_one()


def markers_by_id(connection: Connection) -> dict[str, str]:
    """The marker of each event that is kept, from its own bytes."""
    found = connection.execute(select(EVENT.c.id, EVENT.c.body).where(EVENT.c.store == "main"))
    return {row.id: marker_of_body(bytes(row.body)) for row in found}


def marker_of_body(body: bytes) -> str:
    return body.partition(b'"marker":"')[2].partition(b'"')[0].decode()


def invariants(connection: Connection, stage: Stage, balance: Balance) -> list[str]:
    """What the database must say once all is quiet; a sentence for each thing that is not so."""
    store = stage.store
    kept = markers_by_id(connection)
    stored = Counter(kept.values())
    wrong = []
    must = store.acked.keys() if stage.meant is None else store.acked.keys() & stage.meant
    if missing := must - stored.keys():
        wrong.append(f"{len(missing)} acknowledged and not stored")
    if strange := stored.keys() - store.acked.keys() - store.unsure:
        wrong.append(f"{len(strange)} stored and never acknowledged, {sorted(strange)[:3]}")
    if double := [marker for marker, count in stored.items() if count > 1]:
        wrong.append(f"{len(double)} stored twice, {double[:3]}")
    if other := [
        marker for marker, event_id in store.acked.items() if marker in stored and kept.get(event_id) != marker
    ]:
        wrong.append(f"{len(other)} acknowledged under an id that is not theirs")
    routes: dict[str, int] = dict(
        connection.execute(select(DELIVERY.c.event_id, func.count()).group_by(DELIVERY.c.event_id)).all()
    )
    if alone := [event_id for event_id in kept if event_id not in routes]:
        wrong.append(f"{len(alone)} events without deliveries")
    if left := {name: count for name, count in open_work(connection).items() if count}:
        wrong.append(f"still open: {left}")
    return wrong + _attempts_wrong(connection, stage)


def _attempts_wrong(connection: Connection, stage: Stage) -> list[str]:
    """Each delivery has as many attempts as it counts, each with its outcome; what is recorded as delivered arrived."""
    wrong = []
    counted = select(ATTEMPT.c.delivery_id, func.count().label("count")).group_by(ATTEMPT.c.delivery_id).subquery()
    uneven = connection.execute(
        select(func.count())
        .select_from(DELIVERY)
        .outerjoin(counted, counted.c.delivery_id == DELIVERY.c.id)
        .where(DELIVERY.c.attempts != func.coalesce(counted.c.count, 0))
    ).scalar_one()
    if uneven:
        wrong.append(f"{uneven} deliveries whose attempts are not their rows")
    if open_ends := connection.execute(
        select(func.count()).select_from(ATTEMPT).where(ATTEMPT.c.outcome.is_(None))
    ).scalar_one():
        wrong.append(f"{open_ends} attempts without an outcome")
    # What reads the present state looks again on purpose.
    acting = select(DELIVERY.c.id).where(~DELIVERY.c.reads_state)
    again = (
        select(func.count())
        .select_from(ATTEMPT)
        .where(ATTEMPT.c.delivery_id.in_(acting))
        .join(LATER, (LATER.c.delivery_id == ATTEMPT.c.delivery_id) & (LATER.c.number > ATTEMPT.c.number))
    )
    if repeated := connection.execute(again.where(ATTEMPT.c.outcome == "delivered")).scalar_one():
        wrong.append(f"{repeated} tried again after they were recorded as delivered")
    done: dict[str, int] = dict(
        connection.execute(
            select(DELIVERY.c.route, func.count()).where(DELIVERY.c.status == "delivered").group_by(DELIVERY.c.route)
        ).all()
    )
    for name, counterpart in (("erp", stage.erp), ("plain", stage.plain), ("slack", stage.slack), ("mail", stage.mail)):
        got = len(counterpart.receipts)
        if done.get(name, 0) > got:
            wrong.append(f"{name}: {done.get(name, 0)} recorded as delivered, {got} arrived")
    return wrong


@dataclass(frozen=True)
class Setting:
    """What a case wants other than usual.

    `routes`: by route, its other terms. `extra`: routes beside the four; addresses may name `{erp}`, `{desk}`, and
    `{tls}`, an https address where nobody speaks TLS.
    `wired`: between the hub and whom (erp, database, redis) there is a wire that can be cut. `disk_size`: the
    database stands on a file system of its own of that size (PostgreSQL's log does not). `given_redis`: `hub up` has a
    Redis from outside, not its own. `config`: by section, the config's other parts.
    """

    routes: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    wired: str | None = None
    disk_size: str | None = None
    given_redis: bool = False
    config: dict[str, Any] = field(default_factory=dict)


USUAL = Setting()


@dataclass(frozen=True)
class Counterparts:
    """Who gets the events; and the desk, which is told of trouble where a case wants that."""

    erp: Erp
    plain: Plain
    slack: Channel
    mail: Mailbox
    desk: HttpSink

    def routes(self, scale: Scale, erp_port: int) -> dict[str, Any]:
        """The four routes. The schedule outlasts every outage of these cases."""
        common = {
            "timeout": f"{scale.timeout}s",
            "concurrency": IN_FLIGHT,
            "retry": {"schedule": ["500ms", "1s", *["2s"] * 40]},
        }
        mail = {
            "host": "127.0.0.1", "port": self.mail.port, "security": "none", "from": SENDER, "to": [SENDER],
            "subject": "{{ data.marker }}", "text": "{{ data.marker }}", "html": "{{ data.marker }}",
        }  # fmt: skip
        slack = {"webhook_url": self.slack.webhook_url, "text": "{{ data.marker }}"}
        return {
            "erp": route(f"http://127.0.0.1:{erp_port}", **common),
            "plain": route(self.plain.url, **common),
            "slack": common | {"connector": "slack", "settings": slack},
            "mail": common | {"connector": "email", "settings": mail},
        }

    def named(self, text: str) -> str:
        tls = self.erp.url.replace("http:", "https:")
        return text.replace("{erp}", self.erp.url).replace("{tls}", tls).replace("{desk}", self.desk.url)


async def open_counterparts(stack: AsyncExitStack) -> Counterparts:
    return Counterparts(
        await stack.enter_async_context(Erp()),
        await stack.enter_async_context(Plain()),
        await stack.enter_async_context(Channel()),
        await stack.enter_async_context(Mailbox()),
        await stack.enter_async_context(HttpSink()),
    )


@asynccontextmanager
async def open_stage(
    kind: str, scale: Scale, folder: Path, servers: Servers, setting: Setting = USUAL, without: str | None = None
) -> AsyncIterator[Stage]:
    """A stage whose hub is not started yet; `without` a safeguard, if one is named."""
    async with AsyncExitStack() as stack:
        others = await open_counterparts(stack)
        journal = Journal(folder / "store.jsonl")
        stack.callback(journal.close)
        slowness = await stack.enter_async_context(Slowness())
        database, redis = await open_servers(kind, folder / DISK, servers, stack, setting)
        wire = await open_wire(setting.wired, others, servers, stack)
        base = config_at(setting, scale, others, wire, database, redis)
        configs = {name: written(folder, name, base) for name in NAMES[kind]}
        ports = [load_config(path).server.port for name, path in configs.items() if not name.startswith("worker")]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        store = await stack.enter_async_context(Store(urls, journal, scale.rate))
        if kind == POSTGRESQL:
            await make_schema(configs["receiver1"])
        env = {"HUB_WITHOUT": without} if without else {}
        yield Stage(
            kind, scale, folder, servers, stack, database, store, others.erp, others.plain, others.slack, others.mail,
            slowness, configs=configs, env=env, wire=wire,
        )  # fmt: skip


async def open_servers(
    kind: str, disk: Path, servers: Servers, stack: AsyncExitStack, setting: Setting
) -> tuple[str, str | None]:
    """The URLs of an empty database, and of a Redis where it is not the embedded one."""
    if setting.disk_size is not None:
        stack.enter_context(mounted(disk, setting.disk_size))
    if kind == SQLITE:
        given = setting.given_redis or setting.wired == "redis"
        return f"sqlite:///{disk}/hub.db", servers.get_valkey().url if given else None
    postgres, valkey = servers.get_postgres(), servers.get_valkey()
    name = f"fault_{uuid4().hex}"
    where = ""
    if setting.disk_size is not None:
        place = await tablespace(postgres, name, disk, stack)
        where = f" TABLESPACE {place}"
    await postgres.run(f"CREATE DATABASE {name}{where}")
    stack.push_async_callback(postgres.run, f"DROP DATABASE {name} WITH (FORCE)")
    return postgres.url(name), valkey.url


async def tablespace(postgres: PostgresServer, name: str, disk: Path, stack: AsyncExitStack) -> str:
    """A place for databases on that disk, its name; gone with the case."""
    folder = disk / "tables"
    folder.mkdir()
    owner = postgres.data.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    for parent in (disk, disk.parent):
        parent.chmod(0o755)
    await postgres.run(f"CREATE TABLESPACE place_{name} LOCATION '{folder}'")
    stack.push_async_callback(postgres.run, f"DROP TABLESPACE place_{name}")
    return f"place_{name}"


async def open_wire(wired: str | None, others: Counterparts, servers: Servers, stack: AsyncExitStack) -> Wire | None:
    """The wire to whom the case wants to cut off, if it does."""
    if wired is None:
        return None
    if wired == "erp":
        connect = to_port(others.erp.port)
    elif wired == "redis":
        connect = to_port(servers.get_running_valkey().port)
    else:
        assert servers.postgres is not None
        connect = to_socket(str(servers.postgres.folder / ".s.PGSQL.5432"))
    return await stack.enter_async_context(Wire(connect))


def config_at(
    setting: Setting, scale: Scale, others: Counterparts, wire: Wire | None, database: str, redis: str | None
) -> dict[str, Any]:
    """The config that all processes of a case share."""
    port = wire.port if wire is not None else 0
    if setting.wired == "database":
        database = f"postgresql://postgres@127.0.0.1:{port}/{database_name(database)}"
    if setting.wired == "redis":
        redis = re.sub(r":\d+/", f":{port}/", str(redis))
    erp_port = port if setting.wired == "erp" else others.erp.port
    routes = {name: usual | setting.routes.get(name, {}) for name, usual in others.routes(scale, erp_port).items()}
    routes |= json.loads(others.named(json.dumps(setting.extra)))
    base = {"worker": {"lease_margin": f"{scale.margin}s"}, "database": database, **setting.config}
    return config_of(routes, **base, **({"redis": redis} if redis else {}))


def database_name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def written(folder: Path, name: str, base: dict[str, Any]) -> Path:
    """The config of one process, in a folder of its own, with a port that it keeps."""
    own = folder / name
    own.mkdir()
    port = {} if name.startswith("worker") else {"server": {"port": free_port()}}
    return write_config(own, base | {"data_dir": str(own / "data")} | port)


Play = Callable[[Stage], Awaitable[None]]
