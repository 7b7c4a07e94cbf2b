"""Receiving: events accepted, verified, committed and rung a second, and how soon each is answered.

Each measurement has a fresh database and a fresh server process, and is checked afterwards: as many events as
answers (but for those that wrk no longer waited for), no repeats.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hub.database import open_database
from tests.bench.load import PATH, BadRun, Load, run_wrk, write_requests
from tests.bench.processes import Process, cpu_seconds, listening
from tests.bench.report import Row, middle
from tests.hubs import config_of, route, write_config
from tests.servers import PostgresServer

ROUNDS = 3
SECONDS = 3
WARM_SECONDS = 1
REQUESTS = 100_000
WARM_REQUESTS = 25_000
EXPECTED_WAIT = 0.003
"""Seconds that an answer takes at half load, for the pauses between requests."""


@dataclass
class Ground:
    """What the rounds share: the null receiver's URL, PostgreSQL, the requests, a folder to work in."""

    folder: Path
    null: Process
    null_url: str
    postgres: PostgresServer
    warm: Path
    requests: Path
    runs: int = 0
    rates: dict[str, list[float]] = field(default_factory=dict)
    p99s: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)
    """Microseconds of the server's processor time for each answer: what a busy machine spoils least."""

    def new_folder(self) -> Path:
        self.runs += 1
        folder = self.folder / str(self.runs)
        folder.mkdir()
        return folder

    def note(self, name: str, load: Load, spent: float) -> None:
        self.rates.setdefault(name, []).append(load.rate)
        self.p99s.setdefault(name, []).append(load.p99)
        self.costs.setdefault(name, []).append(spent / load.answers * 1e6)

    def ratios(self, name: str, baseline: str) -> list[float]:
        return [one / other for one, other in zip(self.rates[name], self.rates[baseline], strict=True)]


@contextmanager
def open_ground() -> Iterator[Ground]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        warm = write_requests(folder / "warm", WARM_REQUESTS)
        requests = write_requests(folder / "requests", REQUESTS)
        config = write_config(folder, config_of({}))
        serving = listening("tests.bench.serving", "null", "--config", str(config), log=folder / "null.log")
        null, null_url = stack.enter_context(serving)
        postgres = PostgresServer()
        stack.callback(postgres.close)
        postgres.start()
        yield Ground(folder, null, null_url, postgres, warm, requests)


def measure(
    ground: Ground, name: str, process: Process, url: str, connections: int, *, pause: int = 0, again: bool = False
) -> int:
    """Note what wrk saw once the server was warm; how many requests were answered in all."""
    warm = run_wrk(url + PATH, ground.warm, connections=connections, seconds=WARM_SECONDS, again=again)
    before = cpu_seconds([process.popen.pid])
    load = run_wrk(url + PATH, ground.requests, connections=connections, seconds=SECONDS, pause=pause, again=again)
    ground.note(name, load, cpu_seconds([process.popen.pid]) - before)
    return warm.answers + load.answers


def null(ground: Ground, connections: int) -> None:
    measure(ground, f"null {connections}", ground.null, ground.null_url, connections, again=True)


def hub(ground: Ground, name: str, connections: int, pause: int = 0, database: str | None = None) -> None:
    """The receiver alone, over a fresh SQLite file or the given PostgreSQL database."""
    folder = ground.new_folder()
    config = write_config(folder, config_of({}, database=database or "sqlite:///data/hub.db"))
    with listening("tests.bench.serving", "hub", "--config", str(config), log=folder / "log") as (process, url):
        answers = measure(ground, name, process, url, connections, pause=pause)
        process.stop()
    check(answers, database or f"sqlite:///{folder}/data/hub.db", 2 * connections)


def on_postgres(ground: Ground) -> None:
    name = f"bench_{ground.runs}"
    asyncio.run(ground.postgres.run(f"CREATE DATABASE {name}"))
    hub(ground, "postgres 128", 128, database=ground.postgres.url(name))
    asyncio.run(ground.postgres.run(f"DROP DATABASE {name} WITH (FORCE)"))


def afternoon(ground: Ground) -> None:
    folder = ground.new_folder()
    config = write_config(folder, config_of({}))
    serving = listening("tests.bench.serving", "afternoon", "--config", str(config), log=folder / "log")
    with serving as (process, url):
        answers = measure(ground, "afternoon 128", process, url, 128)
        process.stop()
    with sqlite3.connect(folder / "data/afternoon.db") as connection:
        kept = connection.execute("SELECT count(*) FROM afternoonevent").fetchone()[0]
    if not answers <= kept <= answers + 256:
        raise BadRun(f"the afternoon version answered {answers} and kept {kept}")


def half_load(ground: Ground) -> None:
    """At half of what it took at full speed: each connection pauses between its requests."""
    full = ground.rates["sqlite 128"][-1]
    period = 128 / (full / 2)
    hub(ground, "half load", 128, pause=round((period - EXPECTED_WAIT) * 1000))


def whole_hub(ground: Ground) -> None:
    """`hub up` with one route, which fans out and delivers meanwhile."""
    folder = ground.new_folder()
    config = write_config(folder, config_of({"sink": route(ground.null_url + PATH)}))
    with listening("hub.cli", "up", "--config", str(config), log=folder / "log") as (process, url):
        answers = measure(ground, "hub up 128", process, url, 128)
        process.stop()
    check(answers, f"sqlite:///{folder}/data/hub.db", 256)


def check(answers: int, database: str, given_up: int) -> None:
    """Raises BadRun unless each answer is an event, no event a repeat. `given_up`: answers nobody waited for."""
    kept, repeats = asyncio.run(count_events(database))
    if repeats:
        raise BadRun(f"{repeats} were taken for repeats")
    if not answers <= kept <= answers + given_up:
        raise BadRun(f"{answers} were answered and {kept} kept")


async def count_events(url: str) -> tuple[int, int]:
    database = open_database(url)
    try:
        row = await database.read(
            lambda connection: connection.exec_driver_sql("SELECT count(*), sum(repeats) FROM event").one()
        )
    finally:
        await database.close()
    return int(row[0]), int(row[1])


def receiving() -> list[Row]:
    """Alternating rounds of everything."""
    with open_ground() as ground:
        for _ in range(ROUNDS):
            null(ground, 128)
            hub(ground, "sqlite 128", 128)
            on_postgres(ground)
            null(ground, 32)
            hub(ground, "sqlite 32", 32)
            afternoon(ground)
            half_load(ground)
            whole_hub(ground)
        return rows_of(ground)


def rows_of(ground: Ground) -> list[Row]:
    def ratio(what: str, name: str, baseline: str, against: str, goal: float | None, unit: str = "") -> Row:
        rates, costs = ground.rates, ground.costs
        detail = (
            f"{middle(rates[name])}/s against {middle(rates[baseline])}/s, p99 {middle(ground.p99s[name])} ms, "
            f"CPU {middle(costs[name])} µs each against {middle(costs[baseline])}"
        )
        absolute = {"events a second": rates[name], "baseline": rates[baseline], "p99 ms": ground.p99s[name]}
        absolute |= {"CPU µs each": costs[name], "baseline's CPU µs each": costs[baseline]}
        return Row(what, against, unit, ground.ratios(name, baseline), goal, detail=detail, absolute=absolute)

    nothing = "the same server doing nothing"
    half = ground.rates["half load"]
    shares = [one / full for one, full in zip(half, ground.rates["sqlite 128"], strict=True)]
    return [
        ratio("receiving, SQLite, 128 connections", "sqlite 128", "null 128", nothing, 0.55),
        ratio("receiving, SQLite, 32 connections", "sqlite 32", "null 32", nothing, 0.40),
        ratio("receiving, PostgreSQL, 128 connections", "postgres 128", "null 128", nothing, 0.50),
        ratio("receiving, SQLite, 128 connections", "sqlite 128", "afternoon 128", "the afternoon version", 25, "×"),
        Row(
            "p99 of the answer at half load", "", " ms", ground.p99s["half load"], 10, at_least=False,
            detail=f"{middle(half)}/s, {min(shares):.2f}-{max(shares):.2f} of full speed",
            absolute={"events a second": half},
        ),
        ratio("receiving by `hub up` with a route, 128 connections", "hub up 128", "null 128", nothing, None),
    ]  # fmt: skip
