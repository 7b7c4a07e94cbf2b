"""Connectors that break the rules of hub.connector in the ways that a worker must survive.

What each does, a test puts into `Faulty.acts` and `Faulty.closes` under its route's name.
"""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from hub.connector import Connector, Context, Event, Receipt


class Faulty(Connector):
    """Returns what its act returns, a Receipt or not; notes that it was closed, then closes as the test says."""

    acts: ClassVar[dict[str, Callable[[Event, Context], Awaitable[Any]]]] = {}
    closes: ClassVar[dict[str, Callable[[], Awaitable[None]]]] = {}
    closed: ClassVar[list[str]] = []
    name = ""

    @classmethod
    def forget(cls) -> None:
        for kept in (cls.acts, cls.closes, cls.closed):
            kept.clear()

    async def open(self, ctx: Context) -> None:
        self.name = ctx.route

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        result: Receipt = await self.acts[ctx.route](event, ctx)
        return result

    async def close(self) -> None:
        self.closed.append(self.name)
        if self.name in self.closes:
            await self.closes[self.name]()
