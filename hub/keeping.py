"""Retention: events are kept whole for a time (`keep`), and after it as what they were and what became of them.

What is done loses its body, headers, repeats and attempts; its row, keys, effects and deliveries stay, so that a
repeat is known for ever. In small writes with pauses, so that no webhook notices. Several may do it at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog

from hub.config import Keep
from hub.runtime import Hub
from hub.store import keeping, reordering
from hub.store.keeping import Bounds
from hub.units import duration_text

T = TypeVar("T")
BATCH = 50
# Receiving shares the writer with this: it has it for at most a tenth of the time.
PAUSE = 0.02
SHARE = 9
LONGEST_PAUSE = 5.0
log = structlog.get_logger()


@dataclass
class Place:
    """How far a process has come: no event up to `before` is whole. A new one walks there again, by reads alone."""

    before: int = 0


async def drop_old(hub: Hub, place: Place) -> int:
    """Drop what is older than `keep` says, and the stock seen long ago; carry old counts together.

    How many events lost their body.
    """
    bounds = Bounds(hub.now() - hub.config.keep.events, hub.now() - hub.config.keep.dead)
    dropped = await _drop_events(hub, bounds, place)
    await _drop_repeats(hub, bounds)
    while await _paced(hub.database.write(partial(keeping.carry_stats, now=hub.now()))):
        pass
    while await _paced(hub.database.write(partial(reordering.drop_seen, now=hub.now()))):
        pass
    if dropped:
        log.info("events.dropped", count=dropped)
    return dropped


async def _drop_events(hub: Hub, bounds: Bounds, place: Place) -> int:
    last = await hub.database.read(partial(keeping.last_old, bounds=bounds))
    after, dropped, all_gone = place.before, 0, True
    while after < last:
        found = await _paced(hub.database.read(partial(keeping.stretch, bounds=bounds, after=after, last=last)))
        for start in range(0, len(found.seqs), BATCH):
            some = found.seqs[start : start + BATCH]
            dropped += await _paced(hub.database.write(partial(keeping.drop, bounds=bounds, seqs=some)))
        all_gone = all_gone and found.first is None
        if all_gone:
            place.before = found.until
        after = found.until
    return dropped


async def _drop_repeats(hub: Hub, bounds: Bounds) -> None:
    """Those that came to an event after its body was dropped."""
    after = ""
    while True:
        late = partial(keeping.late_repeats, before=bounds.done, after=after, most=BATCH)
        ids = await _paced(hub.database.read(late))
        if not ids:
            return
        await _paced(hub.database.write(partial(keeping.drop_repeats, ids=ids)))
        after = ids[-1]


async def _paced(work: Awaitable[T]) -> T:
    """Do one piece of work, then leave the database to others for a while."""
    started = time.monotonic()
    result = await work
    await asyncio.sleep(min(max(PAUSE, SHARE * (time.monotonic() - started)), LONGEST_PAUSE))
    return result


def dropped_text(keep: Keep, event: Any, statuses: Iterable[str]) -> str | None:
    """That an event's body was dropped, and why, for a person; None while it is there.

    `statuses` are those of its deliveries.
    """
    if event.body is not None:
        return None
    name = "dead" if "dead" in statuses else "events"
    after = duration_text(getattr(keep, name))
    return f"its body, headers and attempts were dropped after {after} (keep.{name})"
