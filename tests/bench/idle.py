"""An idle `hub up`: how soon it listens, what it takes of memory and processor, how soon an event goes out again."""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from hub.clock import to_micros
from hub.event import EVENT_TYPES
from hub.testing.samples import StoreDouble
from hub.testing.sink import HttpSink
from tests.bench.load import PATH, BadRun
from tests.bench.processes import cpu_seconds, family, listening, memory_mb
from tests.bench.report import Row, middle
from tests.hubs import SECRET, config_of, route, write_config

ROUNDS = 3
SETTLE = 2.0
WATCHED = 4.0
POSTS = 16
PAUSE = 0.15


@dataclass
class Figures:
    """One value for each round: seconds to listening, MB, share of a core in %, milliseconds from receipt."""

    start: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    proportional: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    middle_wait: list[float] = field(default_factory=list)
    longest_wait: list[float] = field(default_factory=list)


async def one_round(figures: Figures, folder: Path) -> None:
    """A fresh hub with one route, from its start to its end."""
    async with HttpSink() as sink:
        config = write_config(folder, config_of({"sink": route(sink.url)}))
        begun = time.perf_counter()
        with listening("hub.cli", "up", "--config", str(config), log=folder / "log") as (process, url):
            figures.start.append(time.perf_counter() - begun)
            await asyncio.sleep(SETTLE)
            pids = family(process.popen.pid)
            proportional, resident = memory_mb(pids)
            figures.resident.append(resident)
            figures.proportional.append(proportional)
            figures.cpu.append(await busy(pids))
            await post(url + PATH, sink)
            process.stop()
        waits = waits_of(folder / "data/hub.db", sink)
    figures.middle_wait.append(statistics.median(waits))
    figures.longest_wait.append(max(waits))


async def busy(pids: list[int]) -> float:
    """The share of a core that these processes take while nothing comes in, in %."""
    before, begun = cpu_seconds(pids), time.perf_counter()
    await asyncio.sleep(WATCHED)
    return 100 * (cpu_seconds(pids) - before) / (time.perf_counter() - begun)


async def post(url: str, sink: HttpSink) -> None:
    """Webhooks one by one, so far apart that the hub is idle before each."""
    async with StoreDouble(url, SECRET) as store:
        for number in range(POSTS):
            answer = await store.send(EVENT_TYPES[number % len(EVENT_TYPES)])
            if answer.status_code != 200:
                raise BadRun(f"an answer was {answer.status_code}: {answer.text}")
            await sink.wait(number + 1)
            await asyncio.sleep(PAUSE)


def waits_of(database: Path, sink: HttpSink) -> list[float]:
    """Milliseconds from the receipt of each event to the arrival of its first attempt, leaving out the very first.

    That one finds connections and statements cold, and is not what an idle hub does day by day.
    """
    with sqlite3.connect(database) as connection:
        query = "SELECT delivery.id, received_at FROM delivery JOIN event ON event.id = delivery.event_id"
        received: dict[str, int] = dict(connection.execute(query).fetchall())
    return [(to_micros(one.at) - received[one.key or ""]) / 1000 for one in list(sink.received)[1:]]


def idle() -> list[Row]:
    """Rounds of one hub each."""
    figures = Figures()
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
            asyncio.run(one_round(figures, Path(folder)))
    waits = f"longest {middle(figures.longest_wait)} ms, idle CPU {statistics.median(figures.cpu):.1f} %"
    memory = f"{middle(figures.proportional)} MB with shared pages counted by their share"
    return [
        Row("receipt to first attempt, idle hub", "", " ms", figures.middle_wait, 15, at_least=False, detail=waits),
        Row("CPU of an idle `hub up`, Valkey included", "", " %", figures.cpu, 1, at_least=False),
        Row(
            "memory of an idle `hub up`, Valkey included",
            "",
            " MB",
            figures.resident,
            120,
            at_least=False,
            detail=memory,
        ),
        Row("start of `hub up` to listening", "", " s", figures.start, 1.5, at_least=False),
    ]
