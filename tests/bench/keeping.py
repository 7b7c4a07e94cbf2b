"""Retention beside receiving: how soon webhooks are answered at half load while old bodies are dropped all the time.

Both measurements of a round have a database with the same old events in it; beside one of them retention is at work
from before the first webhook to after the last, which is checked afterwards.
"""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.bench.large import made
from tests.bench.load import BadRun
from tests.bench.processes import listening
from tests.bench.receiving import EXPECTED_WAIT, Ground, measure, open_ground
from tests.bench.report import Row, middle
from tests.hubs import config_of, write_config

# One second of somebody else's work is most of a p99, so that three rounds would tell little.
ROUNDS = 7
FULL_ROUNDS = 2
EVENTS = 60_000
CONNECTIONS = 128
LEFT = "SELECT count(*) FROM event WHERE body IS NOT NULL AND secret = 'old'"
FILL = (
    f"""
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {EVENTS})
    INSERT INTO event (id, store, type, entity, dedupe_key, content_hash, body, headers, occurred_at, received_at,
                       origin, secret, repeats, fanned_out_at)
    SELECT printf('evt_%016x', n) || lower(hex(randomblob(8))), 'main', 'order.updated', 'order:ord_' || n,
           CAST(printf('t%012d', n) || hex(randomblob(12)) AS BLOB), randomblob(16), zeroblob(600), '{{}}', n, n,
           'webhook', 'old', 0, n
    FROM number""",
    """
    INSERT INTO delivery (id, event_id, event_seq, store, route, entity, status, attempts, budget, span, key_no,
                          look, again, reads_state, lost, created_at)
    SELECT replace(id, 'evt', 'dlv'), id, seq, store, 'sink', entity, 'delivered', 1, 10, 10, 0, 0, 0, 0, 0, received_at
    FROM event""",
    """
    INSERT INTO attempt (delivery_id, number, worker, started_at, duration_ms, outcome, status_code, request, response)
    SELECT id, 1, 'wrk_old', created_at, 7, 'delivered', 200, hex(zeroblob(500)), hex(zeroblob(200)) FROM delivery""",
)  # fmt: skip


def filled(ground: Ground) -> Path:
    """A data folder in whose database all is old enough to go."""
    data = ground.new_folder() / "data"
    asyncio.run(made(data / "hub.db"))
    with closing(sqlite3.connect(data / "hub.db")) as connection:
        for statement in FILL:
            connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return data


def old_bodies(config: Path) -> int:
    with closing(sqlite3.connect(config.parent / "data" / "hub.db")) as connection:
        return int(connection.execute(LEFT).fetchone()[0])


def receive(ground: Ground, old: Path, kind: str, name: str, pause: int = 0) -> int:
    """How many old events lost their body meanwhile. `old`: the data folder to begin with."""
    folder = ground.new_folder()
    shutil.copytree(old, folder / "data")
    config = write_config(folder, config_of({}))
    serving = listening("tests.bench.serving", kind, "--config", str(config), log=config.with_name("log"))
    with serving as (process, url):
        measure(ground, name, process, url, CONNECTIONS, pause=pause)
        process.stop()
    return EVENTS - old_bodies(config)


def keeping() -> list[Row]:
    """Alternating rounds at half of full speed, with retention and without, each first in turn."""
    dropped = []
    with open_ground() as ground:
        old = filled(ground)
        for _ in range(FULL_ROUNDS):
            receive(ground, old, "hub", "full")
        # Whatever the machine did meanwhile, all rounds have the same load.
        pause = round((2 * CONNECTIONS / max(ground.rates["full"]) - EXPECTED_WAIT) * 1000)
        for number in range(ROUNDS):
            for kind in ("hub", "dropping") if number % 2 else ("dropping", "hub"):
                gone = receive(ground, old, kind, kind, pause)
                if kind == "dropping":
                    dropped.append(gone)
                if (gone > 0) != (kind == "dropping") or gone == EVENTS:
                    raise BadRun(f"{kind}: {gone} of {EVENTS} bodies were dropped")
    return [row_of(ground, dropped)]


def row_of(ground: Ground, dropped: list[int]) -> Row:
    beside, without = ground.p99s["dropping"], ground.p99s["hub"]
    return Row(
        "p99 of the answer at half load while retention drops bodies", "without retention", "×",
        [one / other for one, other in zip(beside, without, strict=True)], 1.5, at_least=False,
        detail=f"{middle(beside)} ms against {middle(without)} ms at {middle(ground.rates['dropping'])}/s against "
               f"{middle(ground.rates['hub'])}/s; {middle(dropped)} bodies dropped meanwhile",
        absolute={"p99 ms": beside, "p99 ms without": without, "dropped": [float(count) for count in dropped]},
    )  # fmt: skip
