"""Where a store sends its webhooks: made and mended through its API, and watched.

The platform has one registration for each type of event. Which of them are ours is remembered by their ids; before
that, those that lead to this hub's address for the store are. Nobody else's is touched.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from hub.errors import BadAnswer, CommandError, HubError, Unavailable
from hub.event import EVENT_TYPES, SigningKey, is_id
from hub.jobs import Periodic
from hub.runtime import Hub
from hub.store.registrations import looked_at, registered
from hub.stores import client_of, with_remedy

WATCH_EVERY = timedelta(days=1)
# Eight are ours; each page costs one request of the hour, without a reserve.
MOST_LISTED = 1_000
WHO = "registrations"
log = structlog.get_logger()


AS_IT_SHOULD_BE = "as it should be"
MADE = "made"
MENDED = "mended: "
NEVER = "there never was one"


@dataclass(frozen=True)
class Registered:
    """One type of event: the registration's id, and what was done or found, `as it should be` where nothing."""

    event: str
    id: str | None
    state: str

    @property
    def is_wrong(self) -> bool:
        return self.state not in {AS_IT_SHOULD_BE, MADE, NEVER} and not self.state.startswith(MENDED)


def offered(hub: Hub, store: str) -> bool:
    """Whether the store's API can be asked for its registrations."""
    profile: str = hub.config.stores[store].profile
    return profile == "v2"


def address(hub: Hub, store: str) -> str:
    """Where the store's webhooks are to go. Raises CommandError where the hub does not know its own address."""
    base = hub.config.server.public_url
    if base is None:
        raise CommandError("server.public_url is not set: the store must be told where the hub is reached from outside")
    return f"{base}/webhooks/{store}"


def by_hand(hub: Hub, store: str) -> dict[str, Any]:
    """What to enter in the store's admin: `url`, `events`, and where the secret stands, never the secret."""
    first = hub.keys[store][0].fingerprint
    return {
        "url": address(hub, store),
        "events": list(EVENT_TYPES),
        "secret": f"the first of stores.{store}.webhook_secrets in the config (its fingerprint is {first})",
    }


async def connect(hub: Hub, store: str) -> list[Registered]:
    """Make or mend the store's eight registrations; what was done with each. Raises CommandError."""
    url, secret = address(hub, store), hub.config.stores[store].webhook_secrets[0].reveal()
    client = client_of(hub, store, who=WHO, newer_than=hub.now())
    try:
        ours = await _ours(hub, store, url, client)
        done = [await _put_right(client, event, ours.get(event), url, secret) for event in EVENT_TYPES]
    except Unavailable:
        raise
    except HubError as error:
        why = hub.redact(with_remedy(error, store))
        raise CommandError(f"the registrations of store {store} could not be put right: {why}") from None
    ids = {one.event: one.id for one in done if one.id is not None}
    await hub.database.write(lambda connection: looked_at(connection, hub.now(), store, ids, None))
    return done


async def _put_right(client: Any, event: str, found: Any, url: str, secret: str) -> Registered:
    wanted = {"url": url, "active": True, "password": secret}
    if found is None:
        made = await client.webhooks.create(event=event, name=f"litekart-hub {event}", **wanted)
        return Registered(event, made.id, MADE)
    faults = list(_faults(found, url, {SigningKey.of(secret).fingerprint}))
    if not faults:
        return Registered(event, found.id, AS_IT_SHOULD_BE)
    await client.webhooks.update(found.id, **wanted)
    return Registered(event, found.id, f"{MENDED}{', '.join(faults)}")


async def _ours(hub: Hub, store: str, url: str, client: Any) -> dict[str, Any]:
    """By type of event, the store's registration that is ours."""
    known = await hub.database.read(lambda connection: registered(connection, store))
    there = [one async for one in _registrations(client)]
    ids = {one.id: one for one in there}
    ours: dict[str, Any] = {}
    for one in there:
        if one.event in EVENT_TYPES and _same(one.url, url):
            ours.setdefault(one.event, one)
    # One that was ours and now leads elsewhere is still ours, unless there is another that leads here.
    remembered = {event: ids[one] for event, one in known.items() if one in ids and ids[one].event == event}
    return remembered | ours


async def _registrations(client: Any) -> AsyncIterator[Any]:
    """Those of the store that can be meant by their id."""
    listed = 0
    async for one in client.webhooks.iter():
        listed += 1
        if listed > MOST_LISTED:
            raise BadAnswer(f"a list without an end: {MOST_LISTED:,} registrations read, and more follow", status=200)
        if is_id(one.id):
            yield one


def _same(one: str | None, url: str) -> bool:
    return one is not None and one.rstrip("/") == url


def _faults(found: Any, url: str, fingerprints: Collection[str]) -> Iterator[str]:
    if not _same(found.url, url):
        yield "another address"
    if found.active is False:
        yield "switched off"
    # Not every store shows it.
    if found.password is not None and SigningKey.of(found.password).fingerprint not in fingerprints:
        yield "another secret"


async def watch(hub: Hub, store: str) -> list[Registered]:
    """Look whether the registrations that lead here still do; what is wrong is told as an alert. Raises CommandError.

    Nothing is wrong with a type of event that never had one.
    """
    url = address(hub, store)
    fingerprints = {key.fingerprint for key in hub.keys[store]}
    known = await hub.database.read(lambda connection: registered(connection, store))
    try:
        ours = await _ours(hub, store, url, client_of(hub, store, who=WHO, newer_than=hub.now()))
    except Unavailable:
        raise
    except HubError as error:
        why = hub.redact(with_remedy(error, store))
        raise CommandError(f"the registrations of store {store} could not be read: {why}") from None
    found = [
        Registered(
            event, ours[event].id if event in ours else known.get(event), _state(event, known, ours, url, fingerprints)
        )
        for event in EVENT_TYPES
    ]
    wrong = "; ".join(f"{one.event}: {one.state}" for one in found if one.is_wrong)
    ids = known | {event: one.id for event, one in ours.items()}
    await hub.database.write(lambda connection: looked_at(connection, hub.now(), store, ids, wrong or None))
    return found


def _state(
    event: str, known: Mapping[str, str], ours: Mapping[str, Any], url: str, fingerprints: Collection[str]
) -> str:
    if event in ours:
        return ", ".join(_faults(ours[event], url, fingerprints)) or AS_IT_SHOULD_BE
    return "gone" if event in known else NEVER


def periodic(hub: Hub) -> list[Periodic]:
    """The daily look at each store whose registrations can be read."""

    def work(store: str) -> Periodic:
        async def run() -> None:
            await watch(hub, store)

        return Periodic(f"registrations:{store}", WATCH_EVERY, run)

    ready = hub.config.server.public_url is not None
    return [work(name) for name, store in hub.config.stores.items() if ready and store.api_key and offered(hub, name)]
