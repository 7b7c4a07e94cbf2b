"""The hour's budget of requests to a store, shared by every process of a hub through one row of the database.

A process takes requests in blocks, so that ten cost one commit, and that is shared with what else is written just
then. Whatever it holds and does not use it gives back within seconds; one that dies loses at most its block, until
the hour turns. Redis has no part in it.
"""

import asyncio
from collections import Counter, deque
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from hub.clock import Clock
from hub.config import StoreRate
from hub.errors import Unavailable
from hub.hour import SAME, SETTLED_AFTER, Grant, RateLimit, Report, Wanted, merged, sensible
from hub.store.budgets import settle_budgets
from hub.writer import Writer

__all__ = ["Budget", "RateLimit", "SharedBudget"]

GIVE_BACK_AFTER = 5.0
# One without an answer by then gets none, and whatever the store says later has it counted.
ANSWERED_WITHIN = timedelta(minutes=1)
# The limit may be raised, or the row be changed by who knows whom.
LOOK_AGAIN = timedelta(seconds=10)


class Budget(Protocol):
    """Who may ask a store, and when."""

    async def spend(self, who: str, *, background: bool) -> float:
        """Takes one request of the hour: 0.0 when it may go now, else the seconds until it may.

        Nothing is taken then. `who` is what people see: a route's name, `catch-up`, `command`.
        """

    async def correct(self, answer: RateLimit) -> None:
        """What an answer said of the hour."""


class SharedBudget(Budget):
    """A process's part in one store's hour. Close it before the writer.

    `spend` raises Unavailable while the database cannot be written.
    """

    def __init__(self, store: str, rate: StoreRate, writer: Writer, clock: Clock, process: str) -> None:
        self._store = store
        self._rate = rate
        self._writer = writer
        self._clock = clock
        self._process = process
        self._grant: Grant | None = None
        self._until: datetime | None = None
        self._left = 0
        self._above = 0
        self._spent: Counter[str] = Counter()
        self._sent: deque[datetime] = deque()
        self._heard: RateLimit | None = None
        self._denied: dict[Wanted, tuple[datetime, datetime]] = {}
        self._held = 0
        self._reporting: asyncio.Task[None] | None = None
        self._giving_back: asyncio.Task[None] | None = None

    async def spend(self, who: str, *, background: bool) -> float:
        wanted: Wanted = "background" if background else "foreground"
        while True:
            now = self._clock.now()
            if self._taken(who, wanted, now):
                return 0.0
            until, ask_again = self._denied.get(wanted, (now, now))
            if now < ask_again:
                return (until - now).total_seconds()
            await self._report(wanted)

    async def correct(self, answer: RateLimit) -> None:
        if self._sent:
            self._sent.popleft()
        now = self._clock.now()
        said = sensible(answer, now)
        if said is None:
            return
        self._heard = merged(self._heard, said)
        if not self._is_news(said):
            return
        # What is left of the block may not be there any more: it goes back with the report.
        self._until = now
        with suppress(Unavailable):
            while self._heard is not None:
                await self._report(None)

    async def close(self) -> None:
        """Give back what is held."""
        if self._giving_back is not None:
            self._giving_back.cancel()
        self._sent.clear()
        with suppress(Unavailable):
            while self._left or self._spent or self._held:
                await self._report(None)

    def _taken(self, who: str, wanted: Wanted, now: datetime) -> bool:
        mine = self._above if wanted == "background" else self._left
        if mine == 0 or self._until is None or now >= self._until:
            return False
        self._left -= 1
        self._above = max(0, self._above - 1)
        self._spent[who] += 1
        self._sent.append(now)
        if self._giving_back is None or self._giving_back.done():
            self._giving_back = asyncio.create_task(self._give_back_later(), name=f"budget {self._store}")
        return True

    def _is_news(self, said: RateLimit) -> bool:
        """Whether the others should know at once, and not with the next block."""
        if said.refused or (said.remaining is not None and said.remaining < self._left):
            return True
        if said.reset_at is None or self._grant is None:
            return False
        ends = self._grant.ends
        return not self._grant.told or ends is None or said.reset_at + SETTLED_AFTER > ends + SAME

    async def _report(self, wants: Wanted | None) -> None:
        """One report, or the end of one that is under way; a caller that is cancelled takes nothing with it."""
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._exchange(wants), name=f"budget {self._store}")
            # Whoever waits has it raised; nobody may be left to.
            self._reporting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._reporting)

    async def _exchange(self, wants: Wanted | None) -> None:
        while self._sent and self._sent[0] <= self._clock.now() - ANSWERED_WITHIN:
            self._sent.popleft()
        spent, self._spent = self._spent, Counter()
        heard, self._heard = self._heard, None
        unspent, self._left, self._above = self._left, 0, 0
        report = Report(
            self._store, self._process, self._rate.limit, self._rate.reserve,
            None if self._grant is None else self._grant.number, unspent, len(self._sent), spent, heard, wants,
        )  # fmt: skip
        try:
            grant = await self._put(report)
        except Unavailable:
            # Whether it was written is not known: what was held is lost for this hour, rather than sent twice.
            self._spent += spent
            if heard is not None:
                self._heard = heard if self._heard is None else merged(heard, self._heard)
            raise
        self._grant, self._until = grant, grant.quiet_at
        self._left, self._above = grant.count, grant.above
        self._held = grant.count + report.unanswered
        now = self._clock.now()
        if wants is not None and grant.count == 0:
            until = now + timedelta(seconds=grant.wait)
            self._denied[wants] = until, min(until, now + LOOK_AGAIN)

    async def _put(self, report: Report) -> Grant:
        try:
            return await self._writer.put(settle_budgets, report)
        finally:
            # Here, and not once the task is done: whoever joined it by then would find nothing new, over and over.
            self._reporting = None

    async def _give_back_later(self) -> None:
        """Until nothing is held: so others can have the last of the hour, and people see who spent what."""
        while self._left or self._spent or self._held or self._sent:
            await asyncio.sleep(GIVE_BACK_AFTER)
            with suppress(Unavailable):
                await self._report(None)
