"""What a route's connector says of itself: the same for `hub check` and the dashboard's Test."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from hub.client import Guard, connect, open_client
from hub.clock import new_id, system_time
from hub.config import Config, Route
from hub.connector import Context, Effect, Event
from hub.errors import CommandError, HubError, LitekartError
from hub.language import compile_template, names_for
from hub.litekart import MAX_ANSWER
from hub.outcome import is_fault, outcome_of
from hub.reorders import NoReorders
from hub.routing import judged_text
from hub.stores import TIMEOUT, key_missing, made, with_remedy
from hub.testing.samples import event_of, sample


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
    except HubError as error:
        return Finding(name, False, str(error))
    except Exception as error:
        reason = outcome_of(error, system_time()).reason if not is_fault(error) else f"a fault: {type(error).__name__}"
        return Finding(name, False, reason)


async def check_route(config: Config, name: str, route: Route) -> str:
    """What the route's connector says of itself: a sentence. Raises what its `check` raises, TimeoutError too."""
    guard = Guard(config.network.allow)
    timeout: float = route.timeout.total_seconds()
    asked = route.connector_class(route.settings)
    event = event_of(sample("order.placed"), next(iter(route.stores or config.stores)))
    async with (
        open_client(guard, timeout=timeout) as http,
        open_client(guard, timeout=timeout, max_answer=MAX_ANSWER) as asking,
        asyncio.timeout(timeout),
    ):
        context = Context(
            route=name,
            store=event.store,
            key=new_id("chk"),
            attempt=1,
            timeout=timeout,
            http=http,
            connect=partial(connect, guard, timeout=timeout),
            effects=NoEffects(),
            entity_effects=NoEffects(),
            reorders=NoReorders(),
            render=partial(render, config, event),
            log=structlog.get_logger(),
            now=system_time,
            litekart=made(config, event.store, asking, who=f"route:{name}"),
            public_url=config.server.public_url,
        )
        sentences = [await asked.check(context)]
        if route.fetches and not key_missing(config, event.store):
            sentences.append(await store_told(context, needed=route.judged_later))
    if route.condition is not None and route.judged_later:
        sentences.append(judged_text(route.condition))
    return "; ".join(sentences)


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


def render(config: Config, event: Event, template: str, *, html: bool = False, **more: Any) -> str:
    names = names_for(event, public_url=config.server.public_url)
    return compile_template(template, html=html).render({**names, **more})
