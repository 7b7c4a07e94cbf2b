"""Reads that are the same are sent once, and kept for a few seconds.

What is shared are answers, not their meaning: each caller reads the answer for itself, so that nobody gets another's
object to change, nor another's error to raise. A caller that gives up leaves the others their answer; the request
ends when the last one does.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

KEPT_FOR = 5.0
MOST_KEPT = 500

T = TypeVar("T")


@dataclass(eq=False)
class _Read(Generic[T]):
    """One request under way, when it was begun, and how many wait for it."""

    started: datetime
    about: str
    task: asyncio.Task[T]
    waiting: int = 0


@dataclass(frozen=True)
class _Kept(Generic[T]):
    started: datetime
    about: str
    result: T
    until: float


class Reads(Generic[T]):
    """The reads of one store in this process. `now` is the hub's clock; `worth_keeping` says which results are kept.

    `about` names the resource that a read is of, so that a write can drop what it makes untrue.
    """

    def __init__(self, now: Callable[[], datetime], worth_keeping: Callable[[T], bool]) -> None:
        self._now = now
        self._worth_keeping = worth_keeping
        self._under_way: dict[tuple[str, ...], _Read[T]] = {}
        self._kept: OrderedDict[tuple[str, ...], _Kept[T]] = OrderedDict()

    async def read(
        self, key: tuple[str, ...], about: str, newer_than: datetime | None, send: Callable[[], Awaitable[T]]
    ) -> T:
        """The result of `send`, or of a read of the same key that was begun after `newer_than`."""
        kept = self._kept.get(key)
        if kept is not None and kept.until > asyncio.get_running_loop().time() and _is_newer(kept.started, newer_than):
            return kept.result
        read = self._under_way.get(key)
        if read is None or not _is_newer(read.started, newer_than):
            read = self._begin(key, about, send)
        read.waiting += 1
        try:
            return await asyncio.shield(read.task)
        finally:
            read.waiting -= 1
            if not read.waiting:
                read.task.cancel()

    def _begin(self, key: tuple[str, ...], about: str, send: Callable[[], Awaitable[T]]) -> _Read[T]:
        async def run() -> T:
            return await send()

        read = _Read(self._now(), about, asyncio.get_running_loop().create_task(run()))
        self._under_way[key] = read
        read.task.add_done_callback(lambda _: self._finish(key, read))
        return read

    def _finish(self, key: tuple[str, ...], read: _Read[T]) -> None:
        # Another stands in its place if a write came in between, or somebody wanted a newer one: it is not kept then.
        if self._under_way.get(key) is not read:
            return
        del self._under_way[key]
        if read.task.cancelled() or read.task.exception() is not None or not self._worth_keeping(read.task.result()):
            return
        until = asyncio.get_running_loop().time() + KEPT_FOR
        self._kept[key] = _Kept(read.started, read.about, read.task.result(), until)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def drop(self, about: Collection[str] | None) -> None:
        """Forget the reads of these resources (None: all); those under way serve who waits and nobody later."""
        for reads in (self._kept, self._under_way):
            for key in [key for key, read in reads.items() if about is None or read.about in about]:
                del reads[key]

    async def close(self) -> None:
        """End what is under way."""
        tasks = [read.task for read in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.drop(None)


def _is_newer(started: datetime, newer_than: datetime | None) -> bool:
    return newer_than is None or started > newer_than
