"""A process that calls a store as fast as its budget lets it, and a store that counts: for tests of the budget.

`python -m tests.spender DATABASE STORE…` prints how many it sent to each, once their hours are spent.
"""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx

from hub.clock import Clock, system_time
from hub.config import StoreRate
from hub.database import open_database
from hub.litekart.budget import RateLimit, SharedBudget
from hub.writer import Writer

AT_ONCE = 4
# A wait longer than this is for the hour to turn.
SPENT = 60.0
ANSWERED_WITHIN = 300.0


@dataclass
class CountingStore:
    """A store that answers 429 past its limit. After `others_after` requests somebody else sends `others`.

    It answers nobody before `spenders` of them have called, so that each has its part.
    """

    limit: int
    spenders: int
    others_after: int = 0
    others: int = 0
    resets_at: datetime = field(default_factory=lambda: (system_time() + timedelta(hours=1)).replace(microsecond=0))
    counted: int = 0
    taken: int = 0
    refused: int = 0
    url: str = ""
    callers: set[bytes] = field(default_factory=set)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self) -> tuple[int, int]:
        """The status of a request, and how many remain after it."""
        if self.others and self.taken == self.others_after:
            self.counted, self.others = self.counted + self.others, 0
        if self.counted >= self.limit:
            self.refused += 1
            return 429, 0
        self.counted += 1
        self.taken += 1
        return 200, self.limit - self.counted

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.callers.update(line for line in head.lower().splitlines() if line.startswith(b"user-agent"))
        if len(self.callers) == self.spenders:
            self.complete.set()
        await self.complete.wait()
        status, remaining = self.answer()
        # Answers overtake each other.
        await asyncio.sleep(random.random() / 100)
        writer.write(
            b"HTTP/1.1 %d X\r\nX-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
            % (status, self.limit, remaining, self.resets_at.timestamp())
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def counting_store(
    limit: int, spenders: int, others_after: int = 0, others: int = 0
) -> AsyncIterator[CountingStore]:
    store = CountingStore(limit, spenders, others_after, others)
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    async with server:
        store.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield store


def rate_limit(answer: httpx.Response) -> RateLimit:
    limit, remaining, reset = (int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
    return RateLimit(limit, remaining, datetime.fromtimestamp(reset, UTC), answer.status_code == 429)


async def spend_all(budget: SharedBudget, url: str, process: str) -> int:
    """Call the store until the hour is spent; how many calls it took."""
    sent = 0
    async with httpx.AsyncClient(trust_env=False, timeout=ANSWERED_WITHIN, headers={"user-agent": process}) as client:

        async def caller() -> None:
            nonlocal sent
            while (wait := await budget.spend("erp", background=False)) < SPENT:
                if wait:
                    await asyncio.sleep(wait)
                    continue
                sent += 1
                await budget.correct(rate_limit(await client.get(url)))

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return sent


async def spend_everywhere(writer: Writer, clock: Clock, process: str, urls: Sequence[str]) -> list[int]:
    """Spend the hours of all these stores at once; the budget of each is known by its URL."""
    budgets = [SharedBudget(url, StoreRate(), writer, clock, process) for url in urls]
    sent = await asyncio.gather(*(spend_all(one, url, process) for one, url in zip(budgets, urls, strict=True)))
    await asyncio.gather(*(one.close() for one in budgets))
    return list(sent)


async def main(arguments: Sequence[str]) -> None:
    url, *stores = arguments
    database, clock = open_database(url), Clock()
    writer = Writer(database, clock)
    print(*await spend_everywhere(writer, clock, f"process {os.getpid()}", stores))
    await writer.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
