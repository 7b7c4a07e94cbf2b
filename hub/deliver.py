"""One attempt of one delivery: give the connector what it needs, read what became of it, write it down."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx
import structlog
from sqlalchemy import Row

from hub.client import Exchange, Guard, connect, exchange, open_client
from hub.config import RESERVED_STORE, Route
from hub.connector import REORDER_DUE, Connector, Context, Effect, EntityEffects, Event, Receipt, Released
from hub.errors import NotNow, Outcome, Rejected, TryAgain, Unavailable
from hub.fetching import SHARE, Fetched, admin_link, fetch, ids_of, judge
from hub.language import names_for, renderers
from hub.models import harmless
from hub.outcome import FAULT, is_fault
from hub.reorders import KeptReorders
from hub.runtime import Hub, patiently
from hub.schedule import after_result, settle, stopped_until
from hub.store.claims import Claim
from hub.store.effects import NewEffect, entity_scope, get_effect, put_effects
from hub.store.records import Finished, record
from hub.stores import client_of, outcome_at

LONGEST_REASON = 2_000
NOTHING = Fetched()
log = structlog.get_logger()


def delivery_key(delivery: Row[Any] | Any) -> str:
    """The key of all attempts and replays: the id, plus what was sent anew or looked at again on purpose."""
    anew = f"-n{delivery.key_no}" if delivery.key_no else ""
    look = f"-l{delivery.look}" if delivery.look else ""
    return f"{delivery.id}{anew}{look}"


@dataclass
class KeptEffects(EntityEffects):
    """Effects in the database under one scope. `fresh`: nothing can be there yet, so the first look is saved."""

    hub: Hub
    scope: str
    delivery_id: str
    fresh: bool = False

    async def get(self, name: str) -> Effect | None:
        if self.fresh:
            return None
        return await patiently(
            "effect", lambda: self.hub.database.read(lambda connection: get_effect(connection, self.scope, name))
        )

    async def put(self, name: str, value: str, url: str | None = None) -> None:
        if not isinstance(value, str):
            raise TypeError(f"an effect's value is text, not {type(value).__name__}")
        self.fresh = False
        # Both are shown to people; a connector that needs a secret has it in its settings.
        shown = None if url is None else self.hub.redact(url)
        effect = NewEffect(self.scope, name, self.delivery_id, self.hub.redact(value), shown)
        # What was done out there is done: given up here, it would be done again.
        await patiently("effect", lambda: self.hub.writer.put(put_effects, effect))


@dataclass
class Line:
    """A route as a worker runs it: its connector, open from the first attempt on, and its guarded client.

    `trying`: the attempts whose outcome is not known yet; `recording`: the deliveries of which it is known here and
    not written yet.
    """

    name: str
    route: Route
    connector: Connector
    guard: Guard
    http: httpx.AsyncClient
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    opened: bool = False
    trying: int = 0
    recording: set[str] = field(default_factory=set)

    @property
    def timeout(self) -> float:
        seconds: float = self.route.timeout.total_seconds()
        return seconds

    async def ready(self, ctx: Context) -> None:
        """Open the connector, once."""
        if self.opened:
            return
        async with self.opening:
            if not self.opened:
                await self.connector.open(ctx)
                self.opened = True

    async def close(self) -> None:
        try:
            if self.opened:
                await self.connector.close()
        finally:
            await self.http.aclose()


def open_line(hub: Hub, name: str) -> Line:
    """The route of that name, ready to deliver."""
    route = hub.config.routes[name]
    guard = Guard(hub.config.network.allow)
    most = route.connector_class.max_answer
    client = open_client(guard, timeout=route.timeout.total_seconds(), max_answer=most)
    return Line(name, route, route.connector_class(route.settings), guard, client)


def event_of(row: Row[Any] | Any) -> Event:
    """The event as a connector sees it, from a claimed delivery's row; without a body where that was dropped."""
    return Event(
        id=row.event_id,
        store=row.store,
        type=row.type,
        entity=row.entity,
        occurred_at=row.occurred_at,
        received_at=row.received_at,
        body=bytes(row.body or b""),
    )


def context_of(
    hub: Hub,
    line: Line,
    delivery: Row[Any] | Any,
    attempt: int,
    event: Event,
    fetched: Fetched = NOTHING,
    newer_than: datetime | None = None,
) -> Context:
    """What the connector gets for this attempt. `newer_than`: when what it reads of the store was asked, at least."""
    key = delivery_key(delivery)
    released = None
    if delivery.released_at is not None:
        released = Released(delivery.released_by, delivery.released_at)
    scope = entity_scope(delivery.store, line.name, delivery.entity, delivery.id)
    public_url = hub.config.server.public_url
    render, evaluate = renderers(
        lambda: names_for(event, public_url=public_url, fetched=fetched.objects, missing=fetched.missing)
    )
    return Context(
        route=line.name,
        store=delivery.store,
        key=key,
        attempt=attempt,
        timeout=line.timeout,
        http=line.http,
        connect=partial(connect, line.guard, timeout=line.timeout),
        effects=KeptEffects(hub, key, delivery.id, fresh=attempt == 1),
        entity_effects=KeptEffects(hub, scope, delivery.id),
        reorders=KeptReorders(hub, delivery.store, line.name, delivery.event_id),
        render=render,
        evaluate=evaluate,
        # Bound at its first use: few connectors have something to say.
        log=structlog.get_logger(route=line.name, delivery=delivery.id),
        now=hub.now,
        litekart=client_of(hub, delivery.store, who=f"route:{line.name}", newer_than=newer_than),
        fetched=fetched.objects,
        admin_url=admin_link(hub.config.stores.get(delivery.store), event),
        public_url=public_url,
        released=released,
    )


async def attempt(hub: Hub, line: Line, claim: Claim, tried: Callable[[], None] = lambda: None) -> str:
    """Try a claimed delivery once and record it; its status afterwards, or `late`. `tried` is called in between."""
    spent = Exchange()
    started = time.monotonic()
    try:
        result = await _try(hub, line, claim, spent)
    except asyncio.CancelledError:
        tried()
        await _record(hub, line, claim, NotNow("the hub was stopped during this attempt", 0), spent, started)
        raise
    tried()
    return await _record(hub, line, claim, result, spent, started)


async def _try(hub: Hub, line: Line, claim: Claim, spent: Exchange) -> Receipt | Outcome:
    needed = line.route.timeout + hub.config.worker.lease_margin / 4
    if claim.lease_until - hub.now() < needed:
        return NotNow("too little of the lease was left to begin", 0)
    if claim.delivery.body is None and not line.connector.reads_state:
        return Rejected("the event's body was dropped, so there is nothing to send")
    event = event_of(claim.delivery)
    try:
        async with asyncio.timeout(line.timeout):
            since = asked_after(event, claim.delivery)
            fetched = await fetched_for(hub, line, claim.delivery, event, since)
            ctx = context_of(hub, line, claim.delivery, claim.attempt, event, fetched, since)
            exchange.set(spent)
            await line.ready(ctx)
            result = await line.connector.deliver(event, ctx)
        if not isinstance(result, Receipt):
            raise TypeError(f"deliver returned {type(result).__name__} in place of a Receipt")
        return replace(result, text=f"{result.text}; {fetched.notes}") if fetched.notes else result
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Not the hub's: something that the connector awaited was cancelled.
        return fault(line, claim, "CancelledError")
    except Exception as error:
        if is_fault(error):
            return fault(line, claim, type(error).__name__)
        return outcome_at(error, event.store, hub.now())


def asked_after(event: Event, delivery: Row[Any] | Any) -> datetime:
    """When the event or its last repeat came in: what the store said before may be what it was before."""
    return max(event.received_at, delivery.last_repeat_at or event.received_at)


async def fetched_for(hub: Hub, line: Line, delivery: Row[Any] | Any, event: Event, since: datetime) -> Fetched:
    """What the route fetches for the event. Raises the outcome that a condition on it has, or a TemplateError.

    What a person sent or released is not judged, as nowhere; nor is an order, which names no object of the store.
    """
    route = line.route
    if not route.fetches or event.store == RESERVED_STORE or event.type == REORDER_DUE:
        return NOTHING
    client = client_of(hub, event.store, who=f"route:{line.name}")
    # No part of the attempt's record, which shows what was said to the destination.
    exchange.set(Exchange())
    fetched = await fetch(client, route.fetches, ids_of(event), since, line.timeout * SHARE)
    if route.judged_later and delivery.replay_id is None and delivery.released_at is None:
        judge(route, event, fetched, public_url=hub.config.server.public_url, now=hub.now())
    return fetched


def fault(line: Line, claim: Claim, name: str) -> TryAgain:
    """The connector's own mistake: tried again like others, the traceback in the log."""
    log.exception("connector.fault", route=line.name, delivery=claim.delivery.id)
    return TryAgain(f"{FAULT}: {name}")


async def _record(
    hub: Hub, line: Line, claim: Claim, result: Receipt | Outcome, spent: Exchange, started: float
) -> str:
    duration = timedelta(seconds=time.monotonic() - started)
    try:
        finished = finish(hub, line, claim, result, spent, duration)
    except Exception as error:
        # An outcome that makes no sense (no number of seconds, say) is the connector's mistake too.
        finished = finish(hub, line, claim, fault(line, claim, type(error).__name__), spent, duration)
    line.recording.add(claim.delivery.id)
    try:
        status = await _written(hub, line, claim, finished)
    finally:
        line.recording.discard(claim.delivery.id)
    log.info(
        "delivery.attempted",
        delivery=finished.delivery_id,
        event_id=claim.delivery.event_id,
        route=line.name,
        attempt=claim.attempt,
        outcome=finished.settlement.outcome,
        status=status,
        reason=finished.settlement.reason,
        ms=round(finished.duration.total_seconds() * 1000),
    )
    return status


def finish(
    hub: Hub, line: Line, claim: Claim, result: Receipt | Outcome, spent: Exchange, duration: timedelta
) -> Finished:
    """The attempt's record: settlement, excerpts without secrets, and its part in the route's breaker."""
    now = hub.now()
    delivery = claim.delivery
    result = without_secrets(hub, result)
    # A probe of an open breaker that fails again uses up no attempt.
    spare = int(claim.probe and isinstance(result, TryAgain) and result.destination)
    settlement = settle(
        result,
        now=now,
        attempts=claim.attempt,
        budget=delivery.budget + spare,
        schedule=line.route.retry.schedule,
        chance=random.random(),  # noqa: S311 - jitter is no secret
    )
    receipt = result if isinstance(result, Receipt) else Receipt("")
    return Finished(
        delivery_id=delivery.id,
        route=line.name,
        attempt=claim.attempt,
        settlement=replace(settlement, more_budget=settlement.more_budget + spare) if spare else settlement,
        duration=duration,
        step=lambda breaker, at: after_result(breaker, result, at),
        key_no=delivery.key_no,
        look=delivery.look,
        stop_until=stopped_until(result, now),
        status_code=spent.status_code,
        request=None if spent.request is None else hub.redact(spent.request),
        response=receipt.answer or (None if spent.response is None else hub.redact(spent.response)),
        url=receipt.url,
        effects=[
            NewEffect(delivery_key(delivery), harmless(name), delivery.id, hub.redact(value), None)
            for name, value in receipt.effects.items()
        ],
    )


def without_secrets(hub: Hub, result: Receipt | Outcome) -> Receipt | Outcome:
    """The same outcome, its texts without secrets and cut to a bound, before anything is derived from them."""
    if isinstance(result, Receipt):
        for text in (result.text, result.answer or "", result.url or "", *result.effects, *result.effects.values()):
            if not isinstance(text, str):
                raise TypeError(f"a Receipt holds text, not {type(text).__name__}")
        answer = None if result.answer is None else hub.redact(result.answer)
        url = None if result.url is None else hub.redact(result.url)
        return Receipt(hub.redact(result.text)[:LONGEST_REASON], url, answer, result.effects)
    return result.with_reason(hub.redact(str(result.reason))[:LONGEST_REASON])


async def _written(hub: Hub, line: Line, claim: Claim, finished: Finished) -> str:
    """Record the outcome; one that the database refuses is told in its place, or it would be tried for ever."""
    try:
        return await written(hub, finished)
    except Unavailable:
        raise
    except Exception as error:
        unwritable = fault(line, claim, f"{type(error).__name__} at the record")
        told = finish(hub, line, claim, unwritable, Exchange(), finished.duration)
        # What was done out there is done: forgotten here, it would be done again.
        return await written(hub, replace(told, effects=finished.effects))


async def written(hub: Hub, finished: Finished) -> str:
    """Record until it is written, however long storage is away: the lease bounds what others may do meanwhile."""
    return await patiently("record", lambda: hub.writer.put(record, finished))
