"""Delivering: deliveries a second by one worker, each outcome recorded, beside a loop that makes the same calls."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.load import PATH, BadRun
from tests.bench.processes import listening, python
from tests.bench.report import Row, middle
from tests.hubs import config_of, route, write_config

ROUNDS = 3
COUNT = 5_000
AT_ONCE = (20, 50)
WITHIN = 60.0


@dataclass
class Ground:
    """What the rounds share: a seeded database, the sink's URL, and figures: a second, and CPU µs for each."""

    folder: Path
    sink: str
    seeded: Path = Path()
    runs: int = 0
    rates: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)

    def new_folder(self, at_once: int) -> tuple[Path, Path]:
        """A fresh folder and its config, with one route to the sink."""
        self.runs += 1
        folder = self.folder / str(self.runs)
        folder.mkdir()
        sink = route(self.sink + PATH, concurrency=at_once, timeout="15s")
        return folder, write_config(folder, config_of({"sink": sink}))

    def note(self, name: str, line: dict[str, float]) -> None:
        self.rates.setdefault(name, []).append(COUNT / line["seconds"])
        self.costs.setdefault(name, []).append(line["cpu_seconds"] / COUNT * 1e6)


@contextmanager
def open_ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
        folder = Path(name)
        config = write_config(folder, config_of({}))
        serving = listening("tests.bench.serving", "null", "--config", str(config), log=folder / "sink.log")
        with serving as (_, url):
            ground = Ground(folder, url)
            ground.seeded = seeded(ground)
            yield ground


def run(task: str, config: Path, at_once: int, says: str) -> dict[str, float]:
    """What the process said that it did."""
    arguments = ("--config", str(config), "--count", str(COUNT), "--at-once", str(at_once))
    with python("tests.bench.working", task, *arguments, log=config.with_name("log")) as process:
        line = process.said(says, WITHIN)
        process.wait()
    return line


def seeded(ground: Ground) -> Path:
    """The data folder of a hub with COUNT deliveries due."""
    folder, config = ground.new_folder(1)
    ground.note("fan-out", run("seed", config, 1, "bench.seeded"))
    return folder / "data"


def worker(ground: Ground, at_once: int) -> None:
    folder, config = ground.new_folder(at_once)
    shutil.copytree(ground.seeded, folder / "data")
    line = run("worker", config, at_once, "bench.delivered")
    with sqlite3.connect(folder / "data/hub.db") as connection:
        delivered, attempts = connection.execute(
            "SELECT count(*), sum(attempts) FROM delivery WHERE status = 'delivered'"
        ).fetchone()
        recorded = connection.execute("SELECT count(*) FROM attempt WHERE outcome = 'delivered'").fetchone()[0]
    if (delivered, attempts, recorded) != (COUNT, COUNT, COUNT):
        raise BadRun(f"of {COUNT}, {delivered} are delivered in {attempts} attempts, {recorded} of them recorded")
    ground.note(f"worker {at_once}", line)


def bare(ground: Ground, at_once: int) -> None:
    _, config = ground.new_folder(at_once)
    ground.note(f"bare {at_once}", run("bare", config, at_once, "bench.called"))


def delivering() -> list[Row]:
    """Alternating rounds at each number at a time."""
    with open_ground() as ground:
        for _ in range(ROUNDS):
            for at_once in AT_ONCE:
                bare(ground, at_once)
                worker(ground, at_once)
        return [row_of(ground, at_once) for at_once in AT_ONCE] + [fan_out_row(ground)]


def row_of(ground: Ground, at_once: int) -> Row:
    hub, loop = f"worker {at_once}", f"bare {at_once}"
    rates, bare_rates, costs, bare_costs = ground.rates[hub], ground.rates[loop], ground.costs[hub], ground.costs[loop]
    return Row(
        f"delivering by one worker, {at_once} at a time", "a bare loop of the same calls", "",
        [one / other for one, other in zip(rates, bare_rates, strict=True)], 0.70,
        detail=f"{middle(rates)}/s against {middle(bare_rates)}/s, "
        f"CPU {middle(costs)} µs each against {middle(bare_costs)}",
        absolute={
            "deliveries a second": rates, "baseline": bare_rates,
            "CPU µs each": costs, "baseline's CPU µs each": bare_costs,
        },
    )  # fmt: skip


def fan_out_row(ground: Ground) -> Row:
    return Row("fan-out, one route", "", " events/s", ground.rates["fan-out"])
