"""How much slower than usual this machine is just now, for bounds on times: measured while a case plays.

The load average would not do: it tells of the minute before, and a case must not be forgiven what others did then.
"""

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

RUNNABLE = Path("/proc/loadavg")
EVERY = 0.2
KEPT = 3000
AT_LEAST = 5.0


def runnable() -> int:
    """How many threads want a processor at this moment, besides the one that asks; 0 where nobody can say."""
    with suppress(OSError):
        return int(RUNNABLE.read_text().split()[3].partition("/")[0]) - 1
    return 0


class Slowness:
    """`async with Slowness() as slowness:` looks five times a second; `slowness.times(seconds)` says what it saw."""

    def __init__(self) -> None:
        self.cores = len(os.sched_getaffinity(0))
        self.seen: deque[tuple[float, int]] = deque(maxlen=KEPT)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Slowness":
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while True:
            self.seen.append((time.monotonic(), runnable()))
            await asyncio.sleep(EVERY)

    def times(self, seconds: float) -> float:
        """How many times as long things took in the last `seconds` (five at least): threads for each core, ≥ 1."""
        since = time.monotonic() - max(seconds, AT_LEAST)
        found = [count for at, count in self.seen if at >= since]
        return max(1.0, sum(found) / len(found) / self.cores) if found else 1.0
