"""What surrounds one connector in a test: a counterpart on loopback, a guarded client, a clock, effects in memory.

The kit (hub.testing.conformance) works on a Bench; so can tests of an author's own.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from hub.client import Guard, connect, open_client
from hub.clock import new_id, system_time
from hub.connector import Connector, Context, Effect, EntityEffects, Event, Receipt
from hub.language import names_for, renderers
from hub.litekart import Litekart
from hub.stores import NoClient
from hub.testing.reorders import MemoryReorders

TIMEOUT = 10.0
LOOPBACK = ("127.0.0.1:*", "localhost:*")
LATER = timedelta(days=1, hours=1, minutes=1, seconds=1)


class MemoryEffects(EntityEffects):
    """Effects in memory: what the kit uses where the hub uses rows."""

    def __init__(self) -> None:
        self.kept: dict[str, Effect] = {}

    async def get(self, name: str) -> Effect | None:
        # The database lets others run meanwhile, and so does this.
        await asyncio.sleep(0)
        return self.kept.get(name)

    async def put(self, name: str, value: str, url: str | None = None) -> None:
        if not isinstance(value, str):
            raise TypeError(f"an effect's value is text, not {type(value).__name__}")
        await asyncio.sleep(0)
        self.kept[name] = Effect(value, url)


class MemoryLog:
    """Keeps every line of `ctx.log` as text."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(f"{event} {fields!r}")

    warning = info


@dataclass
class Bench:
    """One connector's surroundings during a test: its counterpart, the client, all texts it has made.

    `key`, `effects` and `entity_effects` are those of one delivery, until `begin` starts another; `reorders` are those
    of all. `litekart`, `fetched` and `admin_url` are for a test to set.
    """

    counterpart: Any
    url: str
    http: httpx.AsyncClient
    guard: Guard
    timeout: float
    log: MemoryLog = field(default_factory=MemoryLog)
    effects: MemoryEffects = field(default_factory=MemoryEffects)
    entity_effects: MemoryEffects = field(default_factory=MemoryEffects)
    reorders: MemoryReorders = field(default_factory=MemoryReorders)
    key: str = field(default_factory=lambda: new_id("dlv"))
    texts: list[str] = field(default_factory=list)
    now: Callable[[], datetime] = system_time
    former: list[MemoryEffects] = field(default_factory=list)
    litekart: Any = field(default_factory=lambda: NoClient("stores.main.api_key is not set: give open_bench a client"))
    fetched: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    admin_url: str | None = None

    def context(self, event: Event, attempt: int = 1) -> Context:
        """A Context as the hub makes it, for one attempt."""
        fetched = self.fetched
        render, evaluate = renderers(lambda: names_for(event, public_url=None, fetched=fetched))
        return Context(
            route="kit",
            store=event.store,
            key=self.key,
            attempt=attempt,
            timeout=self.timeout,
            http=self.http,
            connect=self._connect,
            effects=self.effects,
            entity_effects=self.entity_effects,
            reorders=self.reorders.of(event),
            render=render,
            evaluate=evaluate,
            log=self.log,
            now=self.now,
            litekart=self.litekart,
            fetched=fetched,
            admin_url=self.admin_url,
        )

    async def keep(self, receipt: Receipt) -> Receipt:
        """The receipt, once its effects are kept, as the hub keeps them with the outcome."""
        for name, value in receipt.effects.items():
            await self.effects.put(name, value)
        return receipt

    def begin(self, key: str | None = None) -> None:
        """Another delivery, of an event about something else: its own key (or that one), and nothing done yet."""
        self.former += [self.effects, self.entity_effects]
        self.key = key or new_id("dlv")
        self.effects, self.entity_effects = MemoryEffects(), MemoryEffects()

    async def later(self) -> None:
        """Time goes by: a day and more on the hub's clock, and the second on the machine's, for what reads that one."""
        before = self.now
        self.now = self.reorders.now = lambda: before() + LATER
        await asyncio.sleep(1.01 - time.time() % 1)

    async def _connect(self, host: str, port: int) -> socket.socket:
        return await connect(self.guard, host, port, self.timeout)


@contextlib.asynccontextmanager
async def open_bench(
    counterpart: contextlib.AbstractAsyncContextManager[Any],
    *,
    timeout: float = TIMEOUT,
    listening: bool = True,
    allow: Iterable[str] = LOOPBACK,
    litekart: Litekart | None = None,
    max_answer: int = Connector.max_answer,
) -> AsyncIterator[Bench]:
    """A Bench around `counterpart`, which is started; not `listening`: at the place of one that has gone.

    `allow` is the hub's `network.allow`, `litekart` a client of a store (a double of one, say) that is open,
    `max_answer` the connector's own.
    """
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(counterpart)
        url = running.url
        if not listening:
            await stack.aclose()
        guard = Guard(allow)
        http = await stack.enter_async_context(open_client(guard, timeout=timeout, max_answer=max_answer))
        bench = Bench(running, url, http, guard, timeout)
        bench.litekart = bench.litekart if litekart is None else litekart.acting_for("route:kit")
        yield bench
