"""The demo from its first line to its last: start everything, play the first scene, prove it, go on or end."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from hub.clock import system_time
from hub.demo.child import RunningHub, running_hub
from hub.demo.counterparts import Arrival, Counterparts, open_counterparts
from hub.demo.folder import Secrets, free_port, fresh_secrets, is_free, throwaway_folder, usual_port, write_config
from hub.demo.ledger import Ledger
from hub.demo.screen import Answered, Screen
from hub.demo.shop import DemoShop
from hub.demo.story import first_scene, later
from hub.errors import CommandError
from hub.event import entity_of
from hub.testing.samples import StoreDouble, to_bytes
from hub.testing.store import serving

DEADLINE = 60.0
PACE = 0.3
LATER_PACE = 4.0
ASK_EVERY = 0.2
LOOK_EVERY = 0.05
DEATH_WITHIN = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Stage:
    """Everything that a running demo consists of. `posting` is held from a webhook's post until it is shown."""

    screen: Screen
    hub: RunningHub
    shop: DemoShop
    store: StoreDouble
    arrived: "asyncio.Queue[Arrival]"
    ledger: Ledger
    posting: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


async def demo(once: bool, screen: Screen) -> int:
    """Run until all is done or a signal comes; the exit code. Whatever happens, nothing is left behind."""
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    playing = asyncio.create_task(play(once, screen))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopped = not playing.done()
    if stopped:
        screen.note("", "Stopping")
        playing.cancel()
    stopping.cancel()
    result, _ = await asyncio.gather(playing, stopping, return_exceptions=True)
    if isinstance(result, Exception):
        screen.failure(str(result) if isinstance(result, CommandError) else f"{type(result).__name__}: {result}")
        return 1
    if stopped and once:
        screen.failure("it was stopped before all was delivered")
        return 1
    screen.note("Everything is stopped and removed.")
    return 0


async def play(once: bool, screen: Screen) -> None:
    """The whole demo. Raises CommandError with the reason where something is not as it should be."""
    ledger = Ledger()
    # Nobody will paste anything for a demo that ends by itself: the usual port is left to a hub in use.
    port = free_port() if once else usual_port()
    try:
        async with asyncio.timeout(DEADLINE) as limit, staged(screen, ledger, port) as stage:
            await first_to_end(act(stage, once, limit), show_arrivals(stage), watch_calls(stage), stage.hub.death())
    except TimeoutError:
        raise CommandError("\n".join([f"not all was done within {DEADLINE:.0f} s", *ledger.missing()])) from None


@asynccontextmanager
async def staged(screen: Screen, ledger: Ledger, port: int) -> AsyncIterator[Stage]:
    """The folder, the counterparts, the store and the hub, each gone at the end."""
    known, began = fresh_secrets(), time.monotonic()
    arrived: asyncio.Queue[Arrival] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(throwaway_folder())
        counterparts = await stack.enter_async_context(open_counterparts(arrived.put_nowait, known.slack))
        shop = DemoShop(known.api_key)
        store_url = await stack.enter_async_context(serving(shop))
        hub = await stack.enter_async_context(started_hub(folder, counterparts, store_url, known, port))
        store = await stack.enter_async_context(StoreDouble(hub.webhook_url, known.webhook))
        screen.introduce(hub.webhook_url, store_url, hub.dashboard, folder, time.monotonic() - began)
        yield Stage(screen, hub, shop, store, arrived, ledger)


@asynccontextmanager
async def started_hub(
    folder: Path, counterparts: Counterparts, store_url: str, known: Secrets, port: int
) -> AsyncIterator[RunningHub]:
    """The hub, listening. Where somebody took its port meanwhile, it is started once more on another."""
    async with AsyncExitStack() as stack:
        try:
            config = write_config(folder, counterparts, store_url, known, port)
            hub = await stack.enter_async_context(running_hub(config))
        except CommandError:
            if is_free(port):
                raise
            config = write_config(folder, counterparts, store_url, known, free_port())
            hub = await stack.enter_async_context(running_hub(config))
        yield hub


async def first_to_end(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them side by side until one ends, with its error if it has one; the others are cancelled."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def act(stage: Stage, once: bool, limit: asyncio.Timeout) -> None:
    """The first scene and its proof; then, unless `once`, an event now and then for as long as one likes."""
    await play_first_scene(stage)
    listed = await all_delivered(stage)
    if mistakes := stage.ledger.mistakes(listed):
        raise CommandError("\n".join(["not everything went as it should", *mistakes]))
    stage.screen.summary(stage.ledger.rows(), len(stage.ledger.expected), len(stage.ledger.asked))
    if once:
        return
    limit.reschedule(None)
    stage.screen.invite(stage.hub.config, stage.hub.webhook_url, stage.store.secret)
    for document in later(stage.shop):
        await asyncio.sleep(LATER_PACE)
        await post(stage, document)


async def play_first_scene(stage: Stage) -> None:
    """Posts the scene, then its large order again, as a store does that saw no answer. Raises CommandError."""
    for step in first_scene(stage.shop):
        answer = await post(stage, step.document)
        if answer.status != 200:
            raise CommandError(f"the hub answered {answer.status} to {step.type}")
        stage.ledger.expected[answer.event_id] = step
        stage.changed.set()
        await asyncio.sleep(PACE)
    first = next(answer for answer in stage.ledger.answers.values() if answer.type == "order.placed")
    again = await post(stage, stage.ledger.expected[first.event_id].document)
    if not again.duplicate or again.event_id != first.event_id:
        raise CommandError(f"#{first.number} was posted twice, and the second one was not told from the first")


async def post(stage: Stage, document: dict[str, Any]) -> Answered:
    """Sends one webhook and shows the answer. One that the hub knew keeps its number."""
    async with stage.posting:
        at = time.monotonic()
        try:
            response = await stage.store.post(to_bytes(document))
        except httpx.HTTPError as error:
            # A hub that died says why, and that is the better reason: `death` ends us before we raise.
            await asyncio.sleep(DEATH_WITHIN)
            raise CommandError(f"the hub did not answer a webhook: {error or type(error).__name__}") from None
        data = response.json().get("data") or {}
        event_id, duplicate = str(data.get("id", "")), bool(data.get("duplicate"))
        number = stage.ledger.number_of(event_id) if duplicate else len(stage.ledger.answers) + 1
        entity = entity_of(document["event"], document["data"]) or ""
        answer = Answered(number, document["event"], entity, response.status_code, event_id, duplicate, at)
        if response.status_code == 200 and not duplicate:
            stage.ledger.answers[event_id] = answer
            ids = (value for name, value in document["data"].items() if name.endswith("Id"))
            stage.ledger.about |= dict.fromkeys(ids, event_id)
        stage.screen.event(answer)
        return answer


async def show_arrivals(stage: Stage) -> None:
    """Shows what arrives, each after the webhook that it came from, though it may well have overtaken the answer."""
    while True:
        arrival = await stage.arrived.get()
        async with stage.posting:
            show_calls(stage)
            stage.ledger.arrivals.append(arrival)
            stage.screen.arrival(arrival, stage.ledger.number_of(arrival.event_id))
            stage.changed.set()


async def watch_calls(stage: Stage) -> None:
    """Shows the hub's calls into the store as they come, also where no message follows."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        async with stage.posting:
            show_calls(stage)


def show_calls(stage: Stage) -> None:
    """Shows what the store was asked since the last time, each beside the last event that named it."""
    for call in stage.shop.fresh_calls():
        stage.ledger.asked.append(call.path)
        about = stage.ledger.about.get(call.path.rpartition("/")[2], "")
        at = time.monotonic() - (system_time() - call.at).total_seconds()
        stage.screen.call(call, at, stage.ledger.number_of(about))


async def all_delivered(stage: Stage) -> int:
    """Waits until every message has arrived and the hub has recorded it; how many deliveries the hub lists.

    Raises CommandError with the reason for one that the hub gave up.
    """
    while True:
        stage.changed.clear()
        listed = [one for one in await stage.hub.deliveries() if one["event_id"] in stage.ledger.expected]
        lost = [one for one in listed if one["status"] not in {"pending", "delivered"}]
        if lost:
            reasons = [f"{one['id']} on route {one['route']} is {one['status']}: {one['last_error']}" for one in lost]
            raise CommandError("\n".join(["the hub gave up", *reasons]))
        if not stage.ledger.missing() and all(one["status"] == "delivered" for one in listed):
            return len(listed)
        try:
            async with asyncio.timeout(ASK_EVERY):
                await stage.changed.wait()
        except TimeoutError:
            continue
