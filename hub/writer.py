"""The group commit: what arrives while a commit is under way shares the next one.

Receiving, claiming, recording and effects all pass here. A batch function takes the items of one kind and returns
a result for each; one bad item fails alone, since a batch that fails is done again item by item.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from hub.clock import Clock
from hub.database import Conflict, Database
from hub.errors import Stopping, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
Prepare = Callable[[Connection, Sequence[Any]], None]
Batch = Callable[[Connection, datetime, Sequence[Item]], Sequence[Result]]

MOST = 500
# Rounds of the event loop before a commit: one wakes whom the last commit served, one reads what has come in meanwhile,
# one works it off. What they put then shares this commit, which halves the number of commits under load.
ROUNDS = 3


class Waiting(Generic[Item, Result]):
    """One item on its way into a commit."""

    __slots__ = ("batch", "done", "item", "since")

    def __init__(self, batch: Batch[Item, Result], item: Item, done: "asyncio.Future[Result]") -> None:
        self.batch = batch
        self.item = item
        self.done = done
        self.since = time.monotonic()


class Writer:
    """`await writer.put(batch, item)` returns that item's result once its transaction is committed and flushed.

    Raises Unavailable when storage is in trouble (nothing kept), else what the database said of that very item.
    `prepare` is called first in each transaction, with all its items: for locks that must be taken in one order.
    Items of one kind are handed over in the order they came; kinds by their names, after them those of `last` as they
    stand there: so a `claim` finds the slots that the `record` in the same commit has freed.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        prepare: Prepare = lambda connection, items: None,
        last: Sequence[Batch[Any, Any]] = (),
    ) -> None:
        self._database = database
        self._prepare = prepare
        self._last = {name_of(batch): place for place, batch in enumerate(last)}
        self._clock = clock
        self._waiting: list[Waiting[Any, Any]] = []
        self._running: list[Waiting[Any, Any]] = []
        self._awake = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="writer")
        self.trouble: str | None = None

    async def put(self, batch: Batch[Item, Result], item: Item) -> Result:
        # Whoever is cancelled here cancels this future alone: the item is written all the same.
        return await self.submit(batch, item)

    def submit(self, batch: Batch[Item, Result], item: Item) -> "asyncio.Future[Result]":
        """The same without waiting: the future of the item's result."""
        if self._closing:
            raise Stopping("the hub is stopping")
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(batch, item, done))
        self._awake.set()
        return done

    def behind(self) -> float:
        """Seconds that the oldest item has been waiting."""
        oldest = self._running or self._waiting
        return time.monotonic() - oldest[0].since if oldest else 0.0

    async def close(self) -> None:
        """Returns when all that was put before is written or refused."""
        self._closing = True
        self._awake.set()
        await self._task

    async def _run(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            while self._waiting:
                for _ in range(ROUNDS):
                    await asyncio.sleep(0)
                self._running, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                try:
                    await self._commit(self._running)
                except Exception as error:
                    # A batch that does not answer for each item is a fault of ours; it must not stop all that follow.
                    _fail(self._running, error)
                self._running = []
            if self._closing:
                return

    async def _commit(self, items: list[Waiting[Any, Any]]) -> None:
        by_batch: dict[Batch[Any, Any], list[Waiting[Any, Any]]] = {}
        for waiting in items:
            by_batch.setdefault(waiting.batch, []).append(waiting)
        # In one order in every process, or two of them wait for each other's rows.
        groups = sorted(by_batch.items(), key=lambda group: self._place(group[0]))
        now = self._clock.now()

        def transaction(connection: Connection) -> list[Sequence[Any]]:
            self._prepare(connection, [waiting.item for waiting in items])
            return [batch(connection, now, [w.item for w in group]) for batch, group in groups]

        try:
            results = await self._database.write(transaction)
        except Unavailable as error:
            self.trouble = str(error)
            _fail(items, error)
        except Exception as error:
            await self._one_by_one(items, error)
        else:
            self.trouble = None
            told = list(zip(groups, results, strict=True))
            # The last kind first, which are the claims: what they begin is out there while the rest is told.
            for (_, group), answers in (told[-1], *told[:-1]):
                for waiting, answer in zip(group, answers, strict=True):
                    if not waiting.done.done():
                        waiting.done.set_result(answer)

    def _place(self, batch: Batch[Any, Any]) -> tuple[int, str]:
        name = name_of(batch)
        return self._last.get(name, -1), name

    async def _one_by_one(self, items: list[Waiting[Any, Any]], error: Exception) -> None:
        """Each item in a transaction of its own, so that a bad one refuses only itself."""
        if len(items) == 1:
            _fail(items, Unavailable(str(error)) if isinstance(error, Conflict) else error)
            return
        for waiting in items:
            await self._commit([waiting])


def name_of(batch: Batch[Any, Any]) -> str:
    """What a batch function, or an object called like one, is known by."""
    return str(getattr(batch, "__qualname__", type(batch).__qualname__))


def _fail(items: Sequence[Waiting[Any, Any]], error: Exception) -> None:
    for waiting in items:
        if not waiting.done.done():
            waiting.done.set_exception(error)
            # A caller that went away never looks; that is no warning's worth.
            waiting.done.exception()
