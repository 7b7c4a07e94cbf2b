"""`python -m tests.faults [NAME …]`: plays the faults, prints a line for each, writes them into results/.

NAME is the beginning of a case's name (F03, "F03 W4"), or a database (sqlite, postgresql), or `safeguards` for the
runs in which a safeguard is taken out, or `faults` for all others; left out, everything. FULL=1 takes the durations of
the table of faults, LANES=n plays so many at a time (2). Exit code 1 if a line is not as it must be.
"""

import asyncio
import os
import sys
import time
from collections import deque
from contextlib import AsyncExitStack
from functools import partial

from tests.faults.cases import Line, played, run_case
from tests.faults.catalogue import CASES, TAKEN_OUT, Run
from tests.faults.report import heading, write_results
from tests.faults.scale import chosen
from tests.faults.stage import KINDS, Servers

LANES = int(os.environ.get("LANES", "2"))


def wanted(words: list[str]) -> list[Run]:
    """The runs that these words ask for."""
    runs = [Run(case, kind) for case in CASES for kind in case.kinds] + TAKEN_OUT
    kinds = [word for word in words if word in KINDS]
    sets = [word for word in words if word in {"safeguards", "faults"}]
    names = [word for word in words if word not in {*kinds, *sets}]
    return [
        run
        for run in runs
        if (not kinds or run.kind in kinds)
        and (not sets or ("safeguards" if run.without else "faults") in sets)
        and (not names or any(run.name.startswith(name) for name in names))
    ]


async def play(runs: list[Run]) -> list[list[Line]]:
    """All of them, LANES at a time: most of a case is waiting. Each lane has servers of its own to be cruel to.

    The lines of each: two where it was only too slow at first.
    """
    waiting, lines = deque(enumerate(runs)), {}

    async def lane() -> None:
        async with AsyncExitStack() as stack:
            servers = Servers(stack)
            while waiting:
                number, run = waiting.popleft()
                lines[number] = await played(partial(once, run, servers))

    async with asyncio.TaskGroup() as group:
        for _ in range(LANES):
            group.create_task(lane())
    return [lines[number] for number in sorted(lines)]


async def once(run: Run, servers: Servers) -> Line:
    line = await run_case(run.case, run.kind, chosen(), servers, run.without)
    print(f"{line} [{line.seconds:.0f} s]", flush=True)
    return line


def main() -> int:
    runs = wanted(sys.argv[1:])
    if not runs:
        print("there is no such case; there are:", *sorted({run.name for run in wanted([])}), sep="\n  ")
        return 2
    head, began = heading(chosen()), time.monotonic()
    print(head, flush=True)
    found = asyncio.run(play(runs))
    seconds = time.monotonic() - began
    path = write_results(head, [line for lines in found for line in lines], seconds)
    # A safeguard that nothing misses proves nothing.
    bad = [lines[-1] for run, lines in zip(runs, found, strict=True) if not run.as_it_must_be(lines[-1])]
    twice = sum(len(lines) > 1 for lines in found)
    again = f", {twice} played twice" if twice else ""
    print(f"{len(found) - len(bad)} of {len(found)} as they must be{again}, in {seconds:.0f} s; {path}")
    for line in bad:
        print(f"  {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
