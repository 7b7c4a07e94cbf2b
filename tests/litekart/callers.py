"""A process of a hub that calls stores until their hours are spent, for routes and in the background at once.

`python -m tests.litekart.callers PLAN`, a JSON object: the `folder`, `database` and `redis` of the hub, and `stores`
by their profile's name, each with its `url` and the id of an `order`. It says `waiting` when background work has to
wait everywhere, goes on at a line of input, and prints as JSON what it did at each store.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from hub.catch_up import RETRIES
from hub.errors import NotNow
from hub.jobs import open_bells, settings_of
from hub.litekart import Litekart
from hub.runtime import Hub, open_hub
from hub.stores import client_of
from hub.testing.store import API_KEY, STORE_ID
from tests import hubdb

AT_ONCE = 3
FIRST = 2
# A wait longer than this is for the hour to turn.
SPENT = 60.0


@dataclass
class Part:
    """What a process did at one store. `first`: foreground calls before background work had to wait.

    `denied` and `let_through`: what became of background work that asked while the foreground went on.
    """

    order: str
    background: int = 0
    first: int = 0
    foreground: int = 0
    denied: int = 0
    let_through: int = 0
    # Each read is another one, so that none is joined to one under way or answered by one that is kept.
    pages: "count[int]" = field(default_factory=lambda: count(1))

    def said(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "pages"}


def polling(hub: Hub, store: str) -> Litekart:
    """A client as catching up has it: what can be waited for in a call is waited for."""
    client = client_of(hub, store, who="catch-up", background=True)
    assert isinstance(client, Litekart)
    return client.acting_for("catch-up", background=True, retries=RETRIES)


async def poll(hub: Hub, store: str, part: Part) -> None:
    """Read in the background until there is nothing left for that."""
    while True:
        try:
            await polling(hub, store).orders.list(page=next(part.pages), page_size=1)
        except NotNow as put_off:
            assert put_off.after > SPENT
            return
        part.background += 1
        hub.bells.ring("fan_out")


async def deliver(hub: Hub, store: str, part: Part, most: int) -> int:
    """Write as a route does, put off and tried again, `most` times or until the hour is spent; how many were done."""
    for done in range(most):
        while (wait := await written(hub, store, part)) > 0:
            if wait > SPENT:
                return done
            await asyncio.sleep(wait)
    return most


async def written(hub: Hub, store: str, part: Part) -> float:
    """One write, 0.0 when it was done, else the seconds that it is put off."""
    try:
        await client_of(hub, store, who="route:erp").orders.update(part.order, comment="packed")
    except NotNow as put_off:
        return put_off.after
    return 0.0


async def ask_on(hub: Hub, store: str, part: Part, over: asyncio.Event) -> None:
    """Go on asking in the background until the foreground is done."""
    while not over.is_set():
        try:
            await polling(hub, store).orders.list(page=next(part.pages), page_size=1)
        except NotNow:
            part.denied += 1
            await asyncio.sleep(0.01)
        else:
            part.let_through += 1


async def begin(hub: Hub, store: str, part: Part) -> None:
    """Both kinds at once, until background work has to wait."""
    delivering = asyncio.gather(*(deliver(hub, store, part, FIRST) for _ in range(AT_ONCE)))
    await asyncio.gather(*(poll(hub, store, part) for _ in range(AT_ONCE)))
    part.first = sum(await delivering)


async def go_on(hub: Hub, store: str, part: Part) -> None:
    """The foreground to the end of the hour, while background work asks in vain."""
    over = asyncio.Event()
    asking = asyncio.create_task(ask_on(hub, store, part, over))
    part.foreground = sum(await asyncio.gather(*(deliver(hub, store, part, sys.maxsize) for _ in range(AT_ONCE))))
    over.set()
    await asking


@asynccontextmanager
async def opened(plan: dict[str, Any]) -> AsyncIterator[Hub]:
    same = {"api_key": API_KEY, "store_id": STORE_ID} | plan["terms"]
    stores = {
        name: {"url": one["url"], "profile": name, "webhook_secrets": [f"{hubdb.SECRET}: {name}"]} | same
        for name, one in plan["stores"].items()
    }
    network = {"allow": ["127.0.0.1:*"]}
    config = hubdb.config_of(Path(plan["folder"]), plan["database"], {}, stores=stores, network=network)
    async with (
        hubdb.opened(plan["database"]) as database,
        open_bells(settings_of(plan["redis"]), in_process=False) as bells,
        open_hub(config, database, bells) as hub,
    ):
        yield hub


async def main(plan: dict[str, Any]) -> None:
    parts = {name: Part(one["order"]) for name, one in plan["stores"].items()}
    async with opened(plan) as hub:
        await asyncio.gather(*(begin(hub, name, part) for name, part in parts.items()))
        print("waiting", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(go_on(hub, name, part) for name, part in parts.items()))
    print(json.dumps({name: part.said() for name, part in parts.items()}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
