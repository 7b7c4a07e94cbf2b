"""Catching up: webhooks that never came, found by asking the store what is new and what has changed.

What is new and has no event becomes one under the key that its webhook would have, so that the two are one whichever
comes first. A change that no event came in for becomes one for the routes alone that read the present state, where
once too often does no harm. One process polls a store at a time; whatever ends it, the next poll finds the rest.
"""

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog

from hub.clock import new_id
from hub.errors import BadAnswer, CommandError, HubError, NotAnEvent, Unavailable
from hub.event import LARGEST_BODY, LONGEST_ID, ONCE_BY_NATURE, Parsed, change_key, content_hash, is_id, parse
from hub.jobs import Periodic
from hub.litekart.profiles import camel
from hub.litekart.resources import told_apart_by
from hub.models import harmless
from hub.receive import Incoming, new_event
from hub.routing import takes_type
from hub.runtime import Hub
from hub.store import catch_up
from hub.store.catch_up import Mark
from hub.store.events import POLLED, Kept, NewEvent, keep_events
from hub.stores import client_of, with_remedy

# What is polled, what each thing of it is called, and the events that its making and its changing are.
RESOURCES = {"orders": "order", "products": "product", "customers": "customer"}
CREATED = {"order": "order.placed", "product": "product.created", "customer": "customer.registered"}
CHANGED = {"order": "order.updated", "product": "product.updated"}
WHO = "catch-up"
LEASE = timedelta(seconds=60)
CHUNK = 100
# As many of the usual size are far below. Of what is megabytes each, a hundred would fill the memory.
CHUNK_BYTES = 4 * 1024 * 1024
# A list that goes on for ever must not fill the memory. What is new since the last poll is far below.
MOST_LISTED = 200_000
CREDENTIALS = {"otp", "password", "passwd", "passcode", "secret", "token", "salt", "hash"}
WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
LAST = datetime.max.replace(tzinfo=UTC, microsecond=0)
# So many older ones, in order, before a list counts as read: a store that does not sort is read to its end.
PROOF = 10
RETRIES = 2
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
log = structlog.get_logger()


@dataclass
class Found:
    """What polling found: how many events by type; of what was new, the ids; what no event can be made of.

    `failed`: why a resource could not be polled.
    """

    events: Counter[str] = field(default_factory=Counter)
    made: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Found") -> None:
        self.events += other.events
        self.unreadable += other.unreadable
        self.failed |= other.failed


def stores_on(hub: Hub) -> list[str]:
    """The stores that are caught up on."""
    return [name for name, store in hub.config.stores.items() if store.catches_up]


async def begin(hub: Hub, *, first: bool = True) -> None:
    """Remember when each store was first caught up on. `first`: this process has just started."""
    alone = first and hub.config.sqlite_path is not None
    await hub.database.write(
        lambda connection: catch_up.begin(connection, hub.now(), stores_on(hub), list(RESOURCES), alone=alone)
    )


def periodic(hub: Hub) -> list[Periodic]:
    """The work of each store that is caught up on; at once when a process starts, since it may have been down."""

    def work(name: str, every: timedelta) -> Periodic:
        started = False

        async def run() -> None:
            nonlocal started
            await poll(hub, name, unless_within=every / 2 if started else None)
            started = True

        return Periodic(f"catch_up:{name}", every, run)

    stores = ((name, store.catch_up.every) for name, store in hub.config.stores.items() if store.catches_up)
    return [work(name, every) for name, every in stores if every is not None]


async def poll(hub: Hub, store: str, *, unless_within: timedelta | None = None) -> Found | None:
    """Look at what is new and changed at a store since the last time, and keep what no event came in for.

    None: another does just now, or did within the last `unless_within`.
    """
    found = Found()
    async with leased(hub, store, unless_within) as marks:
        if not marks:
            return None
        for resource in RESOURCES:
            if resource in marks:
                found.add(await _poll_resource(hub, store, resource, marks[resource]))
    _tell(hub, store, found)
    return found


async def look_back(hub: Hub, store: str, since: datetime, *, write: bool) -> Found:
    """What was made at a store since then and has no event; written only if told so. A person asks and waits.

    Raises CommandError with what could not be asked.
    """
    found = Found()
    for resource, kind in RESOURCES.items():
        try:
            async for chunk in _chunks(hub, store, resource, since, "command"):
                found.add(await keep_new(hub, store, kind, chunk, since, write=write, counted=False))
        except Unavailable:
            raise
        except HubError as error:
            why = hub.redact(with_remedy(error, store))
            raise CommandError(f"the {resource} of store {store} could not be read: {why}") from None
    if write:
        _tell(hub, store, found)
    return found


def _tell(hub: Hub, store: str, found: Found) -> None:
    hub.bells.ring("fan_out")
    if found.events:
        log.info("catch_up.found", store=store, events=dict(found.events))
    if found.unreadable:
        log.warning("catch_up.unreadable", store=store, ids=found.unreadable[:10], count=len(found.unreadable))


@asynccontextmanager
async def leased(hub: Hub, store: str, unless_within: timedelta | None) -> AsyncIterator[dict[str, Mark]]:
    """How far the store is polled, for whom may poll it until the end; empty for who may not."""
    me = new_id("poll")

    async def take() -> dict[str, Mark]:
        now = hub.now()
        before = None if unless_within is None else now - unless_within
        return await hub.database.write(
            lambda connection: catch_up.take(connection, now, store, me, now + LEASE, before)
        )

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 4)
            with suppress(Unavailable):
                await hub.database.write(partial(catch_up.renew, by=me, until=hub.now() + LEASE))

    marks = await take()
    renewing = asyncio.create_task(renew(), name=f"catch-up {store}")
    try:
        yield marks
    finally:
        renewing.cancel()
        if marks:
            with suppress(Unavailable):
                await hub.database.write(partial(catch_up.give_back, by=me))


async def _poll_resource(hub: Hub, store: str, resource: str, mark: Mark) -> Found:
    """One resource; what keeps it from being polled is remembered, and the others go on."""
    began, found = hub.now(), Found()
    since = max(mark.since, mark.seen_to - hub.config.stores[store].catch_up.overlap)
    try:
        async for chunk in _chunks(hub, store, resource, since, WHO):
            new = await keep_new(hub, store, RESOURCES[resource], chunk, mark.since)
            found.add(new)
            # What is new is as it was just read.
            rest = [one for one in chunk if one.id not in new.made]
            found.add(await keep_changed(hub, store, RESOURCES[resource], rest, since))
    except Unavailable:
        raise
    except Exception as error:
        # Also what nobody thought of: a poll that fails in silence misses what it is there for.
        if isinstance(error, HubError):
            reason = with_remedy(error, store)
        else:
            log.exception("catch_up.fault", store=store, resource=resource)
            reason = f"a fault in the hub: {type(error).__name__}"
        found.failed[resource] = hub.redact(reason)
        log.warning("catch_up.failed", store=store, resource=resource, reason=found.failed[resource])
        await hub.database.write(
            partial(catch_up.not_polled, now=hub.now(), store=store, resource=resource, error=found.failed[resource])
        )
    else:
        await hub.database.write(partial(catch_up.polled, now=hub.now(), store=store, resource=resource, seen_to=began))
    return found


async def _chunks(hub: Hub, store: str, resource: str, since: datetime, who: str) -> AsyncIterator[list[Any]]:
    """What was made or changed at the store at `since` or later, some at a time, each once.

    How many is bounded in number and in bytes, whatever the store sends.
    """
    background, now = who == WHO, hub.now()
    client = client_of(hub, store, who=who, background=background)
    client = client.acting_for(who, background=background, retries=RETRIES, newer_than=now)
    listing = getattr(client, resource)
    seen: set[tuple[str, datetime | None]] = set()
    chunk: list[Any] = []
    held = 0
    for order in ("created_at", "updated_at") if RESOURCES[resource] in CHANGED else ("created_at",):
        async for one in newest_first(listing, order, since):
            key = told_apart_by(one.id), one.updated_at
            if key in seen:
                continue
            seen.add(key)
            chunk.append(one)
            held += memory_of(one.model_dump(exclude_unset=True))
            if len(chunk) == CHUNK or held >= CHUNK_BYTES:
                yield chunk
                chunk, held = [], 0
    if chunk:
        yield chunk


def memory_of(value: Any) -> int:
    """The bytes that a value of an answer takes, near enough."""
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple):
        parts = [*value]
    return sys.getsizeof(value) + sum(map(memory_of, parts))


async def newest_first(listing: Any, order: str, since: datetime) -> AsyncIterator[Any]:
    """What a store lists whose time in the field `order` is `since` or later."""
    last, in_order, older, listed = None, True, 0, 0
    async for one in listing.iter(sort=[f"-{order}"]):
        listed += 1
        if listed > MOST_LISTED:
            raise BadAnswer(f"a list without an end: {MOST_LISTED:,} read, and more follows", status=200)
        moment = created_at(one) if order == "created_at" else one.updated_at
        if moment is None:
            continue
        in_order, last = in_order and (last is None or moment <= last), moment
        if surely_past(moment) > since:
            older = 0
            yield one
            continue
        older += 1
        if in_order and older >= PROOF:
            return


def created_at(one: Any) -> datetime | None:
    """When it was made: its own word, else what its id says, where that ends in a ULID as the platform's do."""
    moment: datetime | None = one.created_at
    ulid = one.id.rpartition("_")[2]
    if moment is not None or len(ulid) != 26 or not set(ulid) <= set(CROCKFORD):
        return moment
    milliseconds = 0
    for letter in ulid[:10]:
        milliseconds = milliseconds * 32 + CROCKFORD.index(letter)
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError):
        return None


def told(kind: str, id: str) -> str:
    """What no event can be made of, as people are told of it."""
    return f"{kind}:{harmless(id, LONGEST_ID)}"


async def keep_new(
    hub: Hub, store: str, kind: str, things: Sequence[Any], since: datetime, *, write: bool = True, counted: bool = True
) -> Found:
    """Keep those made at `since` or later that have no event, under the key that their webhook would have.

    `counted`: as what webhooks should have brought.
    """
    found, events = Found(), []
    for one in things:
        made = created_at(one)
        if made is None or surely_past(made) <= since:
            continue
        event = _event(hub, store, CREATED[kind], kind, one, made)
        if event is None:
            found.unreadable.append(told(kind, one.id))
        else:
            events.append(event)
    keys = [event.dedupe_key for event in events]
    known = await hub.database.read(lambda connection: catch_up.known_keys(connection, store, keys))
    missing = [event for event in events if event.dedupe_key not in known]
    kept = await _keep(hub, missing, counted=counted) if write else [Kept(event.id, False) for event in missing]
    new = [event for event, one in zip(missing, kept, strict=True) if not one.duplicate]
    found.events.update(event.type for event in new)
    found.made |= {(event.entity or "").partition(":")[2] for event in new}
    return found


async def keep_changed(hub: Hub, store: str, kind: str, things: Sequence[Any], since: datetime) -> Found:
    """Keep the changes at `since` or later of which no event came in, for the routes that read the state.

    Where the store tells whole seconds, an event that came in during that second may be of an earlier change in it:
    then it is looked at once more, to be sure, and counts as nothing missing.
    """
    found, to_be_sure = Found(), _state_is_read(hub, CHANGED.get(kind, ""))
    changed = [
        one
        for one in things
        if kind in CHANGED and one.updated_at is not None and surely_past(one.updated_at) > since and not _as_made(one)
    ]
    # What no event can be about is in no event, and in no query either.
    ids = [one.id for one in changed if is_id(one.id)]
    came = await hub.database.read(lambda connection: catch_up.came_in(connection, store, kind, ids)) if ids else {}
    missing: list[NewEvent] = []
    unsure: list[NewEvent] = []
    for one in changed:
        latest = came.get(one.id)
        if latest is not None and latest >= surely_past(one.updated_at):
            continue
        event = _event(hub, store, CHANGED[kind], kind, one, one.updated_at)
        if event is None:
            found.unreadable.append(told(kind, one.id))
        elif not await _is_echo(hub, kind, one, event):
            sure = (latest is None or latest < one.updated_at) and one.updated_at != one.created_at
            (missing if sure else unsure).append(event)
    kept = await _keep(hub, missing)
    found.events.update(event.type for event, one in zip(missing, kept, strict=True) if not one.duplicate)
    await asyncio.gather(*(hub.writer.put(keep_events, event) for event in unsure if to_be_sure))
    return found


def _as_made(one: Any) -> bool:
    """Whether it surely is as it was made: a change in the same whole second does not show."""
    return bool(one.updated_at == one.created_at and one.updated_at.microsecond)


def _state_is_read(hub: Hub, type: str) -> bool:
    """Whether a route takes such events that reads the present state."""
    routes = hub.config.routes.values()
    return any(route.connector_class.reads_state and takes_type(route.events, type) for route in routes)


def surely_past(moment: datetime) -> datetime:
    """When a moment that a store tells is over: at the end of its second, where it tells whole ones."""
    return moment if moment.microsecond or moment >= LAST else moment + timedelta(seconds=1)


async def _is_echo(hub: Hub, kind: str, one: Any, event: NewEvent) -> bool:
    """Whether it is as polling found it last, and the store's moment is that of the hub's own work on it.

    A connector that writes what it finds to the store changes nothing there but the time; else it would be looked at
    again at every poll.
    """

    def look(connection: Any) -> bool:
        last = catch_up.latest_if_polled(connection, event.store, kind, one.id)
        same = last is not None and last.content_hash == event.content_hash
        return same and last is not None and catch_up.at_work(connection, last.event_id, one.updated_at)

    return await hub.database.read(look)


async def _keep(hub: Hub, events: Sequence[NewEvent], *, counted: bool = True) -> list[Kept]:
    keep = catch_up.keep_found if counted else keep_events
    return list(await asyncio.gather(*(hub.writer.put(keep, event) for event in events)))


def _event(hub: Hub, store: str, type: str, kind: str, one: Any, at: datetime) -> NewEvent | None:
    """What was found as an event; None where it cannot be one."""
    if not is_id(one.id):
        return None
    data = in_camels(without_credentials(one.model_dump(exclude_unset=True))) | {f"{kind}Id": one.id}
    document = {"event": type, "data": data, "timestamp": _time(at)}
    body = json.dumps(document, default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > LARGEST_BODY:
        return None
    try:
        parsed = parse(body)
    except NotAnEvent:
        return None
    event = new_event(hub, Incoming(store, body, [], None), parsed, "")._replace(origin=POLLED, secret=None)
    if type in ONCE_BY_NATURE:
        return event
    return event._replace(dedupe_key=change_key(parsed), content_hash=content_hash(_without_time(parsed)))


def _without_time(parsed: Parsed) -> Parsed:
    data = {name: value for name, value in parsed.document["data"].items() if name != "updatedAt"}
    return parsed._replace(document=parsed.document | {"data": data})


def without_credentials(value: Any) -> Any:
    """The same without what opens something: an event is kept, shown and sent on as it is.

    What the API tells an administrator is more than a webhook does: live orders have the `otp` of their handing over.
    """
    if isinstance(value, dict):
        return {name: without_credentials(item) for name, item in value.items() if not _opens(name)}
    return [without_credentials(item) for item in value] if isinstance(value, list | tuple) else value


def _opens(name: str) -> bool:
    return not CREDENTIALS.isdisjoint(word.lower() for word in WORD.findall(name))


def in_camels(value: Any) -> Any:
    """The same with names as webhooks have them: `order_no` is `orderNo`."""
    if isinstance(value, dict):
        return {camel(name): in_camels(item) for name, item in value.items()}
    return [in_camels(item) for item in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
