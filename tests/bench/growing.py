"""Growing: one and two receivers, one and two workers, on one PostgreSQL and the same machine.

The load stays the same: 128 connections, or one route's slots, shared by as many processes. On two cores, which
PostgreSQL, wrk and the sink use too, a second process brings what the first one leaves of them.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from hub.database import open_database
from tests.bench.delivering import COUNT, WITHIN
from tests.bench.delivering import run as run_alone
from tests.bench.load import PATH, BadRun, Load, run_wrk, write_requests
from tests.bench.processes import Process, cpu_seconds, listening, python
from tests.bench.receiving import SECONDS, WARM_REQUESTS, WARM_SECONDS, check
from tests.bench.report import Row, middle
from tests.hubs import config_of, route, write_config
from tests.servers import PostgresServer

ROUNDS = 3
CONNECTIONS = 128
AT_ONCE = 50
SENDERS = 2
REQUESTS = 60_000
# For two processes to start in and be ready together.
BEGIN_AFTER = 10.0
DELIVERED = (
    "SELECT count(*), sum(attempts), (SELECT count(*) FROM attempt WHERE outcome = 'delivered')"
    " FROM delivery WHERE status = 'delivered'"
)


@dataclass
class Ground:
    """What the rounds share: PostgreSQL, a sink, requests for each sender, figures: a second, and CPU µs for each."""

    folder: Path
    sink: str
    postgres: PostgresServer
    requests: list[tuple[Path, Path]]
    runs: int = 0
    rates: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)

    def config(self, database: str) -> Path:
        """The config of one process, in a folder of its own."""
        self.runs += 1
        folder = self.folder / str(self.runs)
        folder.mkdir()
        sink = route(self.sink + PATH, concurrency=AT_ONCE, timeout="15s")
        return write_config(folder, config_of({"sink": sink}, database=database))

    def note(self, name: str, rate: float, cost: float) -> None:
        self.rates.setdefault(name, []).append(rate)
        self.costs.setdefault(name, []).append(cost * 1e6)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a fresh database, gone at the end."""
        self.runs += 1
        name = f"growing_{self.runs}"
        asyncio.run(self.postgres.run(f"CREATE DATABASE {name} TEMPLATE {template}"))
        yield self.postgres.url(name)
        asyncio.run(self.postgres.run(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def open_ground() -> Iterator[Ground]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        requests = [
            (write_requests(folder / f"warm{one}", WARM_REQUESTS), write_requests(folder / f"requests{one}", REQUESTS))
            for one in range(SENDERS)
        ]
        config = write_config(folder, config_of({}))
        serving = listening("tests.bench.serving", "null", "--config", str(config), log=folder / "sink.log")
        _, sink = stack.enter_context(serving)
        postgres = PostgresServer()
        stack.callback(postgres.close)
        postgres.start()
        yield Ground(folder, sink, postgres, requests)


def receivers(ground: Ground, count: int) -> None:
    """As many receivers, the same connections in all."""
    with ground.database() as database, ExitStack() as stack:
        served: list[tuple[Process, str]] = []
        for _ in range(count):
            config = ground.config(database)
            serving = listening("tests.bench.serving", "hub", "--config", str(config), log=config.with_name("log"))
            served.append(stack.enter_context(serving))
        pids = [process.popen.pid for process, _ in served]
        urls = [url + PATH for _, url in served]
        warm = send(urls, [warm for warm, _ in ground.requests], WARM_SECONDS)
        before = cpu_seconds(pids)
        loads = send(urls, [requests for _, requests in ground.requests], SECONDS)
        answers = sum(load.answers for load in loads)
        ground.note(f"receivers {count}", sum(load.rate for load in loads), (cpu_seconds(pids) - before) / answers)
        for process, _ in served:
            process.stop()
        check(answers + sum(load.answers for load in warm), database, 2 * CONNECTIONS)


def send(urls: Sequence[str], files: Sequence[Path], seconds: int) -> list[Load]:
    """All senders at once, each to the receiver whose turn it is."""

    def one(number: int) -> Load:
        url = urls[number % len(urls)]
        return run_wrk(url, files[number], connections=CONNECTIONS // SENDERS, seconds=seconds)

    with ThreadPoolExecutor(SENDERS) as pool:
        return list(pool.map(one, range(SENDERS)))


def workers(ground: Ground, seeded: str, count: int) -> None:
    """As many workers, beginning together, one route's slots in all."""
    with ground.database(seeded) as database, ExitStack() as stack:
        begin_at = time.time() + BEGIN_AFTER
        processes = []
        for _ in range(count):
            config = ground.config(database)
            arguments = ("--config", str(config), "--count", str(COUNT), "--begin-at", str(begin_at))
            started = python("tests.bench.working", "worker", *arguments, log=config.with_name("log"))
            processes.append(stack.enter_context(started))
        if late := [line for line in (process.said("bench.ready") for process in processes) if line["early"] < 0]:
            raise BadRun(f"{len(late)} of {count} workers were ready too late to begin together")
        lines = [process.said("bench.delivered", BEGIN_AFTER + WITHIN) for process in processes]
        for process in processes:
            process.wait()
        if found := asyncio.run(not_delivered(database)):
            raise BadRun(found)
        spent = sum(line["cpu_seconds"] for line in lines)
        ground.note(f"workers {count}", COUNT / max(line["seconds"] for line in lines), spent / COUNT)


async def not_delivered(url: str) -> str | None:
    """What is wrong where not each is delivered in one attempt of which the outcome is recorded."""
    database = open_database(url)
    try:
        found = await database.read(figures)
    finally:
        await database.close()
    return None if found == (COUNT,) * 3 else f"of {COUNT}, delivered, attempts and recorded are {found}"


def figures(connection: Connection) -> tuple[int, ...]:
    return tuple(int(one or 0) for one in connection.exec_driver_sql(DELIVERED).one())


def growing() -> list[Row]:
    """Alternating rounds of one and of two."""
    with open_ground() as ground, ground.database() as seeded:
        run_alone("seed", ground.config(seeded), 1, "bench.seeded")
        name = seeded.partition("?")[0].rpartition("/")[2]
        for _ in range(ROUNDS):
            for count in (1, 2):
                receivers(ground, count)
                workers(ground, name, count)
        return [
            row_of(ground, "receivers", "receiving, PostgreSQL, two receivers, 128 connections", "one receiver"),
            row_of(ground, "workers", "delivering, PostgreSQL, two workers, 50 at a time", "one worker"),
        ]


def row_of(ground: Ground, kind: str, what: str, against: str) -> Row:
    one, two = f"{kind} 1", f"{kind} 2"
    rates, costs = ground.rates, ground.costs
    return Row(
        what, against, "×", [more / less for more, less in zip(rates[two], rates[one], strict=True)],
        detail=f"{middle(rates[two])}/s against {middle(rates[one])}/s, "
        f"CPU {middle(costs[two])} µs each against {middle(costs[one])}",
        absolute={"two, a second": rates[two], "one, a second": rates[one], "CPU µs each, two": costs[two]},
    )  # fmt: skip
