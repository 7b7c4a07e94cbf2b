"""What was measured beside what is asked for: a table for people, JSON for comparisons."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[2] / "results"


@dataclass(frozen=True)
class Row:
    """One line of the table: `values` holds a number for each round, of which the median counts.

    `goal` is what the median should reach (`at_least`) or not pass; None where there is no goal. `detail` tells
    the absolute figures behind it.
    """

    name: str
    against: str
    unit: str
    values: Sequence[float]
    goal: float | None = None
    at_least: bool = True
    detail: str = ""
    absolute: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.median >= self.goal if self.at_least else self.median <= self.goal


def middle(values: Sequence[float]) -> str:
    """The median, as it stands in a table."""
    return f"{statistics.median(values):,.0f}"


def print_table(rows: Sequence[Row], seconds: float, load_before: str) -> None:
    """The table, how long it took to fill it, and how busy the machine was, since that spoils figures."""
    table = Table(title="litekart-hub: medians of alternating rounds, each beside its baseline")
    for heading in ("what", "against", "measured", "goal", "", "rounds", "in figures"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        goal = "" if row.goal is None else f"{'≥' if row.at_least else '≤'} {row.goal:g}{row.unit}"
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[row.met]
        rounds = " ".join(f"{value:.3g}" for value in row.values)
        table.add_row(row.name, row.against, f"{row.median:.3g}{row.unit}", goal, verdict, rounds, row.detail)
    console = Console(width=max(Console().width, 150))
    console.print(table)
    cores = len(os.sched_getaffinity(0))
    console.print(f"{cores} cores, {seconds:.0f} s; the machine's load before: {load_before}, now: {load_text()}")


def load_text() -> str:
    return ", ".join(f"{value:.2f}" for value in os.getloadavg())


def write_results(rows: Sequence[Row], seconds: float) -> Path:
    """The same as JSON in results/, a file for each run."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    whole = {
        "at": now.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "rows": [asdict(row) | {"median": row.median, "met": row.met} for row in rows],
    }
    path = RESULTS / f"bench-{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return path
