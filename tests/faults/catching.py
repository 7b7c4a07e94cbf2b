"""F25, F26: a second store beside the load, whose webhooks are lost, or come several times and in any order."""

import asyncio
import time
from collections import Counter
from typing import Any

import yaml

from hub.config import load_config
from hub.testing.store import Travel
from tests.e2e.lossy import Books, Keeper, come_after_all, differences
from tests.faults.cases import Case
from tests.faults.stage import PATIENCE, Stage
from tests.hubs import write_config

SECRET = "the webhook secret of the shop beside the load"
EVERY = 5.0
DAYS = 3


async def beside(stage: Stage, catch_up: Any, **settings: Any) -> tuple[Keeper, Books]:
    """The second store, with two routes of its own; the four routes take the load's events alone."""
    port = load_config(stage.configs[stage.receiver]).server.port
    keeper = Keeper(webhooks=f"http://127.0.0.1:{port}/webhooks/shop", secret=SECRET, **settings)
    await stage.stack.enter_async_context(keeper)
    books = await stage.stack.enter_async_context(Books())
    for path in stage.configs.values():
        config = yaml.safe_load(path.read_text())
        config["stores"]["shop"] = keeper.settings(catch_up=catch_up)
        routes = {name: terms | {"stores": ["main"]} for name, terms in config["routes"].items()}
        config["routes"] = routes | books.routes(stores=["shop"])
        write_config(path.parent, config)
    return keeper, books


async def lost(stage: Stage) -> None:
    """The receiver is down, and the store tries once: all is found by the next poll, and done once."""
    keeper, books = await beside(stage, {"every": f"{EVERY:.0f}s"})
    await stage.start_all()
    stage.begin_load()
    await keeper.day()
    await stage.under_load(1)
    await stage.hubs[stage.receiver].stop()
    for _ in range(DAYS):
        await keeper.day()
    await asyncio.sleep(stage.scale.outage)
    await stage.start(stage.receiver)
    began = time.monotonic()
    await stage.comes(lambda: agree(keeper, books), PATIENCE)
    # The poll may just have begun, and what it finds is delivered after it.
    stage.at_most("all found", time.monotonic() - began, 2 * EVERY + 5)
    gone = [one for one in await keeper.sent() if one.lost]
    stage.note(f"{len(gone)} webhooks lost, of {len(keeper.made)} new and {len(keeper.touched)} changed")
    answers = Counter(await come_after_all(keeper))
    stage.require(set(answers) == {200}, f"sent after all: {dict(answers)}")
    await settled(stage, keeper, books)


async def shuffled(stage: Stage) -> None:
    """Each webhook one to five times, in any order, some with another timestamp; changes and back within a second."""
    travel = Travel(repeats=(1, 5), shuffle=40, restamped=0.1, reserialised=0.1)
    keeper, books = await beside(stage, "off", travel=travel)
    await stage.start_all()
    stage.begin_load()
    for _ in range(DAYS):
        await keeper.day()
        await keeper.there_and_back()
    await keeper.release()
    await keeper.settle()
    kinds = Counter(one.kind for one in await keeper.sent())
    stage.note(f"{sum(kinds.values())} webhooks of {kinds['first']} events, {kinds['restamped']} of them re-stamped")
    await settled(stage, keeper, books)


async def agree(keeper: Keeper, books: Books) -> bool:
    return not await differences(keeper, books) and books.acted() == Counter(keeper.made)


async def settled(stage: Stage, keeper: Keeper, books: Books) -> None:
    """Nothing is under way any more: the last state seen of each entity is the store's, and all was done once."""
    await stage.end_load()
    await stage.drained()
    other = await differences(keeper, books)
    stage.require(not other, f"final state as the store's {len(keeper.touched) - len(other)} of {len(keeper.touched)}")
    acted, made = books.acted(), Counter(keeper.made)
    stage.require(
        acted == made, f"done once {len(made & acted)} of {len(made)}, more than once {(acted - made).total()}"
    )
    stage.require(books.same_key_twice() == 0, f"the same key twice {books.same_key_twice()}")


CATCHING = [
    Case("F25", "", "the receiver down, and webhooks lost", lost),
    Case("F26", "", "webhooks repeated, shuffled and re-stamped; A, B and A in a second", shuffled),
]
