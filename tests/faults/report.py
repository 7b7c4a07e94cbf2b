"""The results file: one line for each case, with the machine, the date and the scale; the same as JSON beside it."""

import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.cases import Line
from tests.faults.scale import Scale

RESULTS = Path(__file__).parents[2] / "results"


def heading(scale: Scale) -> str:
    return (
        f"litekart-hub under faults, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n"
        f"machine: {len(os.sched_getaffinity(0))} cores, {platform.platform()}, Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version}, load {os.getloadavg()[0]:.2f}\n"
        f"scale: {scale}"
    )


def write_results(head: str, lines: Sequence[Line], seconds: float) -> Path:
    """results/faults.txt and .json: the last run's."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "faults.txt"
    path.write_text("\n".join([head, "", *map(str, lines), "", f"{seconds:.0f} s"]) + "\n")
    whole = {"heading": head.splitlines(), "seconds": round(seconds, 1), "lines": [line.as_json() for line in lines]}
    path.with_suffix(".json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return path
