"""The order of system calls, seen by strace: the log is written, then flushed, and only then the answer leaves.

And the commits that events share: one that the database refuses takes no neighbour with it.
"""

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.faults.cases import Case
from tests.faults.stage import SQLITE, Stage

STRACE = shutil.which("strace")
CALLS = "pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync"
LINE = re.compile(r"(?P<pid>\d+)\s+(?P<text>.*)")
RESUMED = re.compile(r"<\.\.\. (?P<call>\w+) resumed>")
EVENTS = 5
BURSTS = 10
NEIGHBOURS = 10


@dataclass(frozen=True)
class Call:
    """A system call: its text, and the places in the trace where it began and was done."""

    text: str
    began: int
    done: int


def calls(trace: str) -> list[Call]:
    """The trace's calls, those that another thread's interrupted put together again."""
    found: list[Call] = []
    under_way: dict[tuple[str, str], tuple[str, int]] = {}
    for place, line in enumerate(trace.splitlines()):
        match = LINE.match(line)
        if match is None:
            continue
        pid, text = match["pid"], match["text"]
        if text.endswith("<unfinished ...>"):
            under_way[pid, text.partition("(")[0]] = text, place
        elif (resumed := RESUMED.match(text)) is not None:
            start, began = under_way.pop((pid, resumed["call"]), ("", place))
            found.append(Call(start, began, place))
        else:
            found.append(Call(text, place, place))
    return found


def in_order(trace: str, marker: str, event_id: str) -> str | None:
    """What is not as it must be between the log's write of that event and its answer; None where all is."""
    made = calls(trace)
    written = [one for one in made if marker in one.text and "-wal>" in one.text]
    answered = [one for one in made if event_id in one.text and "event accepted" in one.text]
    if not written or not answered:
        return f"seen: {len(written)} writes of the event, {len(answered)} answers"
    first = min(one.began for one in answered)
    # The row is written again when it is fanned out; the first time counts.
    if written[0].done > first:
        return "it was answered before it was written"
    flushed = [
        one
        for one in made
        if "-wal>" in one.text and one.text.startswith(("fdatasync", "fsync")) and one.began > written[0].done
    ]
    if not any(one.done < first for one in flushed):
        return "it was answered before it was flushed"
    return None


async def flushed_before_answered(stage: Stage) -> None:
    """One event after the other, in a quiet hub, under strace."""
    await stage.start_all()
    trace = stage.folder / "trace"
    command = [str(STRACE), "-f", "-y", "-s", "70000", "-e", f"trace={CALLS}", "-o", str(trace)]
    process = await asyncio.create_subprocess_exec(
        *command, "-p", str(stage.hubs["hub"].pid), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    attached = (await process.stderr.readline()).decode()
    assert "attached" in attached, attached
    markers = [await stage.store.send("order.placed") for _ in range(EVENTS)]
    await stage.plain.took(set(markers), 60)
    process.terminate()
    await process.wait()
    text = read(trace)
    found = [in_order(text, marker, stage.store.acked[marker]) for marker in markers]
    wrong = [one for one in found if one is not None]
    stage.require(
        not wrong, wrong[0] if wrong else f"{EVENTS} of {EVENTS}: log written, then fdatasync, only then the answer"
    )


def read(path: Path) -> str:
    return path.read_text(errors="replace")


async def bad_among_good(stage: Stage) -> None:
    """The database refuses some events, by a trigger; those that share their commits are kept."""
    await refuse_some(stage)
    await stage.start_all()
    bad = 0
    for _ in range(BURSTS):
        good = [stage.store.send() for _ in range(NEIGHBOURS)]
        await asyncio.gather(*good, stage.store.send(final=True, unwanted=True))
        bad += 1
    refused = stage.store.answers[422]
    stage.require(
        refused == bad and stage.store.answers[200] == bad * NEIGHBOURS,
        f"{bad} events that the database refuses among {bad * NEIGHBOURS}: {dict(stage.store.answers)}",
    )


async def refuse_some(stage: Stage) -> None:
    """From now on the database takes no event that says of itself that it is unwanted."""
    if stage.kind == SQLITE:
        await stage.start("hub")
        await stage.hubs["hub"].stop()
        with closing(sqlite3.connect(stage.database_url.removeprefix("sqlite:///"))) as connection:
            connection.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON event WHEN instr(CAST(NEW.body AS TEXT), '\"unwanted\":true')"
                " BEGIN SELECT RAISE(ABORT, 'unwanted'); END"
            )
        return
    session = await asyncpg.connect(stage.database_url)
    try:
        await session.execute(
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'unwanted'; END $$ LANGUAGE plpgsql;"
            " CREATE TRIGGER refuse BEFORE INSERT ON event FOR EACH ROW"
            " WHEN (position('\"unwanted\":true'::bytea IN NEW.body) > 0) EXECUTE FUNCTION refuse()"
        )
    finally:
        await session.close()


ORDER: Sequence[Case] = [
    *([Case("strace", "", "system calls in order", flushed_before_answered, [SQLITE])] if STRACE else []),
    Case("shared", "", "events that the database refuses, in shared commits", bad_among_good),
]
