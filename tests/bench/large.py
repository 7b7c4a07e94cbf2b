"""The same with a million events and two million deliveries in the database, beside an empty one, on SQLite.

The large database is made once, by SQL and with random ids, and goes on growing by what the rounds add to it.
"""

import asyncio
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from hub.database import open_database
from hub.schema import create
from tests.bench.delivering import COUNT, run
from tests.bench.load import PATH, run_wrk, write_requests
from tests.bench.processes import listening
from tests.bench.report import Row, middle
from tests.hubs import config_of, route, write_config

ROUNDS = 3
EVENTS = 1_000_000
SECONDS = 3
REQUESTS = 75_000
WARM_REQUESTS = 25_000
CONNECTIONS = 128
AT_ONCE = 20
FILL = (
    f"""
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {EVENTS})
    INSERT INTO event (id, store, type, entity, dedupe_key, content_hash, body, headers, occurred_at, received_at,
                       origin, secret, repeats, fanned_out_at)
    SELECT 'evt_' || lower(hex(randomblob(16))), 'main', 'order.updated', 'order:ord_' || lower(hex(randomblob(8))),
           CAST(printf('t%012d', n) || hex(randomblob(12)) AS BLOB), randomblob(16), zeroblob(300), '{{}}', n, n,
           'webhook', '00000000', 0, n
    FROM number""",
    *(
        f"""
        INSERT INTO delivery (id, event_id, event_seq, store, route, entity, status, attempts, budget, span, key_no,
                              look, again, reads_state, lost, created_at)
        SELECT 'dlv_' || lower(hex(randomblob(16))), id, seq, store, '{name}', entity, 'delivered', 1, 10, 10, 0, 0,
               0, 0, 0, received_at
        FROM event"""
        for name in ("sink", "other")
    ),
)  # fmt: skip


@dataclass
class Ground:
    """What the rounds share: a folder to work in, the sink's URL, and rates by name."""

    folder: Path
    sink: str
    runs: int = 0
    rates: dict[str, list[float]] = field(default_factory=dict)

    def new_config(self) -> Path:
        """The config of a hub in a fresh folder, with one route to the sink."""
        self.runs += 1
        folder = self.folder / str(self.runs)
        folder.mkdir()
        routes = {"sink": route(self.sink + PATH, concurrency=AT_ONCE, timeout="15s")}
        return write_config(folder, config_of(routes))

    def note(self, name: str, rate: float) -> None:
        self.rates.setdefault(name, []).append(rate)


def filled(ground: Ground) -> Path:
    """The config of a hub whose database is large."""
    config = ground.new_config()
    path = config.parent / "data" / "hub.db"
    asyncio.run(made(path))
    with closing(sqlite3.connect(path)) as connection:
        for statement in FILL:
            connection.execute(statement)
            connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return config


async def made(path: Path) -> None:
    database = open_database(f"sqlite:///{path}")
    await database.write(create)
    await database.close()


def receive(ground: Ground, name: str, config: Path) -> None:
    """With requests of its own: what came before would be repeats."""
    warm = write_requests(ground.folder / "warm", WARM_REQUESTS)
    requests = write_requests(ground.folder / "requests", REQUESTS)
    serving = listening("tests.bench.serving", "hub", "--config", str(config), log=config.with_name("log"))
    with serving as (process, url):
        run_wrk(url + PATH, warm, connections=CONNECTIONS, seconds=1)
        load = run_wrk(url + PATH, requests, connections=CONNECTIONS, seconds=SECONDS)
        ground.note(f"receiving {name}", load.rate)
        process.stop()


def deliver(ground: Ground, name: str, config: Path) -> None:
    run("seed", config, AT_ONCE, "bench.seeded")
    ground.note(f"delivering {name}", COUNT / run("worker", config, AT_ONCE, "bench.delivered")["seconds"])


def large() -> list[Row]:
    """Alternating rounds: what is received stays in the database, what is delivered too."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        null = write_config(folder, config_of({}))
        serving = listening("tests.bench.serving", "null", "--config", str(null), log=folder / "sink.log")
        _, url = stack.enter_context(serving)
        ground = Ground(folder, url)
        full = filled(ground)
        for _ in range(ROUNDS):
            for name, config in (("empty", ground.new_config()), ("large", full)):
                deliver(ground, name, config)
                receive(ground, name, config)
                drop_waiting(config)
        return [row_of(ground, "receiving"), row_of(ground, "delivering")]


def drop_waiting(config: Path) -> None:
    """What was received and not fanned out is no part of the next round's work."""
    with closing(sqlite3.connect(config.parent / "data" / "hub.db")) as connection:
        connection.execute("UPDATE event SET fanned_out_at = 1 WHERE fanned_out_at IS NULL")
        connection.commit()


def row_of(ground: Ground, what: str) -> Row:
    full, empty = ground.rates[f"{what} large"], ground.rates[f"{what} empty"]
    return Row(
        f"{what} with a million events and two million deliveries", "an empty database", "",
        [one / other for one, other in zip(full, empty, strict=True)], 0.9,
        detail=f"{middle(full)}/s against {middle(empty)}/s",
        absolute={"with a million": full, "empty": empty},
    )  # fmt: skip
