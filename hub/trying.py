"""What a route's connector says of itself: the same for `hub check` and the dashboard's Test; and what it plans."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from hub.client import Guard, connect, open_client
from hub.clock import new_id, system_time
from hub.config import Config, Route
from hub.connector import Connector, Context, Effect, Reorder, ReorderLine
from hub.errors import CommandError, HubError, LitekartError
from hub.language import names_for, renderers
from hub.litekart import MAX_ANSWER
from hub.outcome import is_fault, outcome_of
from hub.reorders import NoReorders
from hub.routing import judged_text
from hub.runtime import Hub
from hub.store import reorders
from hub.stores import TIMEOUT, client_of, key_missing, made, with_remedy
from hub.testing.samples import event_of, sample

# It reads all of a store's stock.
PLANNED_WITHIN = 600.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its name, whether it is well, and a sentence."""

    name: str
    ok: bool
    text: str


class NoEffects:
    """Effects for a check: there are none, and none are kept."""

    async def get(self, name: str) -> Effect | None:
        return None

    async def put(self, name: str, value: str, url: str | None = None) -> None:
        return None

    async def once(self, name: str, make: Callable[[], Awaitable[Effect]]) -> Effect:
        return await make()


async def told(name: str, sentence: Awaitable[str]) -> Finding:
    """The sentence, or why there is none."""
    try:
        return Finding(name, True, await sentence)
    except Exception as error:
        return Finding(name, False, reason_of(error))


def reason_of(error: Exception) -> str:
    """Why a connector could not say it."""
    if isinstance(error, HubError):
        return str(error)
    return f"a fault: {type(error).__name__}" if is_fault(error) else outcome_of(error, system_time()).reason


async def check_route(config: Config, name: str, route: Route) -> str:
    """What the route's connector says of itself: a sentence. Raises what its `check` raises, TimeoutError too."""
    store = next(iter(route.stores or config.stores))
    guard = Guard(config.network.allow)
    async with (
        open_client(guard, timeout=route.timeout.total_seconds(), max_answer=MAX_ANSWER) as asking,
        trial(config, name, route, store, made(config, store, asking, who=f"route:{name}")) as (connector, context),
    ):
        sentences = [await connector.check(context)]
        if route.fetches and not key_missing(config, store):
            sentences.append(await store_told(context, needed=route.judged_later))
    if route.condition is not None and route.judged_later:
        sentences.append(judged_text(route.condition))
    return "; ".join(sentences)


@asynccontextmanager
async def trial(
    config: Config, name: str, route: Route, store: str, litekart: Any, within: float | None = None
) -> AsyncIterator[tuple[Connector, Context]]:
    """The route's connector, and a Context with which it does nothing for good; `within` seconds, or its timeout."""
    guard = Guard(config.network.allow)
    timeout: float = route.timeout.total_seconds()
    event = event_of(sample("order.placed"), store)
    connector = route.connector_class(route.settings)
    render, evaluate = renderers(lambda: names_for(event, public_url=config.server.public_url))
    async with (
        open_client(guard, timeout=timeout, max_answer=connector.max_answer) as http,
        asyncio.timeout(within or timeout),
    ):
        yield (
            connector,
            Context(
                route=name,
                store=store,
                key=new_id("chk"),
                attempt=1,
                timeout=within or timeout,
                http=http,
                connect=partial(connect, guard, timeout=timeout),
                effects=NoEffects(),
                entity_effects=NoEffects(),
                reorders=NoReorders(),
                render=render,
                evaluate=evaluate,
                log=structlog.get_logger(),
                now=system_time,
                litekart=litekart,
                public_url=config.server.public_url,
            ),
        )


def plans(route: Route) -> bool:
    """Whether the route's connector orders anything."""
    return route.connector_class.plan is not Connector.plan


async def planned(hub: Hub, name: str, store: str) -> list[dict[str, Any]]:
    """What the route would order now for the store, without ordering; `there`: what keeps it from that, if anything.

    Raises CommandError with the reason where it cannot tell.
    """
    try:
        return await _planned(hub, name, store)
    except Exception as error:
        raise CommandError(reason_of(error)) from error


async def _planned(hub: Hub, name: str, store: str) -> list[dict[str, Any]]:
    client = client_of(hub, store, who=f"route:{name}")
    async with trial(hub.config, name, hub.config.routes[name], store, client, PLANNED_WITHIN) as (connector, context):
        try:
            await connector.open(context)
            lines = await connector.plan(context) or ()
        finally:
            await connector.close()

    def there(connection: Connection) -> list[dict[str, Any]]:
        return [line_json(line, reorders.current(connection, store, line.sku, line.location)) for line in lines]

    return await hub.database.read(there)


def line_json(line: ReorderLine, current: Reorder | None) -> dict[str, Any]:
    """A line that would be opened, its price as text."""
    shown = {each.name: getattr(line, each.name) for each in fields(ReorderLine) if each.name != "more"}
    price = None if line.unit_price is None else str(line.unit_price)
    return shown | {"unit_price": price, "there": None if current is None else there_text(current)}


def there_text(current: Reorder) -> str:
    """What a reorder that is not closed keeps from being opened anew."""
    number = f" as {current.number}" if current.number else ""
    return f"{current.state}{number} since {current.opened_at:%Y-%m-%d %H:%M} UTC"


async def store_told(ctx: Context, *, needed: bool) -> str:
    """Whether the store answers to its key. Raises CommandError if it does not and the route cannot do without."""
    why = await why_not(ctx.litekart, ctx.store)
    if why is None:
        return f"the store {ctx.store} answers"
    asked = f"the store {ctx.store} cannot be asked, and"
    if needed:
        raise CommandError(f"{asked} the route's condition needs it: {why}")
    return f"{asked} messages go out without what it knows: {why}"


async def check_store(config: Config, name: str) -> str:
    """Whether a store that has a key answers to it: a sentence. Raises CommandError, or TimeoutError."""
    guard = Guard(config.network.allow)
    async with open_client(guard, timeout=TIMEOUT, max_answer=MAX_ANSWER) as http, asyncio.timeout(TIMEOUT):
        why = await why_not(made(config, name, http), name)
    if why is not None:
        raise CommandError(f"cannot be asked: {why}")
    return "answers to its key"


async def why_not(client: Any, store: str) -> str | None:
    """Asks for an order, of a list: a path that the store does not have would look like an order that it has not."""
    try:
        await client.orders.list(page_size=1)
    except LitekartError as error:
        return with_remedy(error, store)
    return None
