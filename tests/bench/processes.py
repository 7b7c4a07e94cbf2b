"""The processes that are measured: started with their log in a file, ended for certain, looked at through /proc."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.valkey import bound_to_parent

READY_WITHIN = 20.0
STOP_WITHIN = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A running process of ours and the file that holds its log, one JSON line each."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    def said(self, event: str, within: float = READY_WITHIN) -> dict[str, Any]:
        """The first log line of that event. Raises RuntimeError with the log's end if it does not come."""
        deadline = time.monotonic() + within
        while True:
            ended = self.popen.poll() is not None
            for line in self.lines():
                if line.get("event") == event:
                    return line
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"no {event}:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)

    def lines(self) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                yield json.loads(line)

    def stop(self) -> None:
        """SIGTERM and its orderly end. Raises RuntimeError where it does not end well."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        """Its end by itself. Raises RuntimeError where it does not end well."""
        if self.popen.wait(STOP_WITHIN) != 0:
            raise RuntimeError(f"it ended badly:\n{self.log.read_text(errors='replace')[-2000:]}")


@contextmanager
def python(module: str, *arguments: str, log: Path) -> Iterator[Process]:
    """`python -m MODULE ARGUMENTS` until the context ends; killed where it is still there then."""
    with log.open("wb") as output:
        popen = subprocess.Popen(
            bound_to_parent([sys.executable, "-m", module, *arguments]), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield Process(popen, log)
    finally:
        popen.kill()
        popen.wait()


@contextmanager
def listening(module: str, *arguments: str, log: Path) -> Iterator[tuple[Process, str]]:
    """The same for a server, with the URL that it says it listens on."""
    with python(module, *arguments, log=log) as process:
        yield process, str(process.said("hub.listening")["url"])


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """The processor time that these processes have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mb(pids: Sequence[int]) -> tuple[float, float]:
    """Resident memory of these processes in MB: shared pages counted by their share (PSS), and in full (RSS)."""
    sums = {"Pss:": 0, "Rss:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if name in sums:
                sums[name] += int(rest.split()[0])
    return sums["Pss:"] * 1024 / 1e6, sums["Rss:"] * 1024 / 1e6
