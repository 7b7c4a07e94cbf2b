"""The one place that opens the client of a store's REST API for the hub.

One for each store and process: whoever asks through it shares its connections, the reads that are under way or just
made, and the hour's budget. It is closed with the hub.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx

from hub.client import Guard, open_client
from hub.clock import system_time
from hub.config import RESERVED_STORE, Config
from hub.errors import (
    AuthenticationFailed,
    BadAnswer,
    HubError,
    LitekartError,
    NotAllowed,
    NotFound,
    Outcome,
    Rejected,
    Unreachable,
    ValidationFailed,
)
from hub.litekart import MAX_ANSWER, Budget, Litekart
from hub.litekart.budget import SharedBudget
from hub.outcome import is_about_store_id, outcome_of
from hub.runtime import Hub

TIMEOUT = 30.0


class NoClient:
    """In the place of a client that cannot be: whatever is used of it raises Rejected with the remedy."""

    def __init__(self, remedy: str) -> None:
        self._remedy = remedy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Rejected(self._remedy)


def client_of(
    hub: Hub, store: str, *, who: str, background: bool = False, newer_than: datetime | None = None
) -> Litekart | NoClient:
    """The client of a store, for `who` (`route:erp`, `catch-up`); a call through it is sent once.

    `background` leaves the others their reserve of the budget; `newer_than`: reads are from requests begun after it.
    """
    if store not in hub.clients:
        hub.clients[store] = _opened(hub, store)
    client: Litekart | NoClient = hub.clients[store]
    if isinstance(client, NoClient):
        return client
    return client.acting_for(who, background=background, newer_than=newer_than)


def with_remedy(error: HubError, store: str) -> str:
    """What a store's answer says, and where its cause most likely stands."""
    return f"{error}{remedy(error, store)}"


def remedy(error: HubError, store: str) -> str:
    """Where the cause of a store's answer most likely stands, to be added to it; empty where nobody can tell."""
    settings = f"stores.{store}"
    match error:
        case AuthenticationFailed():
            return f"; see whether {settings}.api_key is the right one"
        case NotAllowed():
            return f"; see whether the store's admin lets {settings}.api_key do this"
        case Unreachable():
            return f"; see whether the store is up and {settings}.url right"
        case NotFound() | BadAnswer():
            return f"; see whether {settings}.url and {settings}.profile are right"
        case ValidationFailed() if is_about_store_id(error):
            return f"; see whether {settings}.profile and {settings}.store_id are right"
    return ""


def outcome_at(error: BaseException, store: str, now: datetime) -> Outcome:
    """The outcome of what flew out of a connector; where it is an answer of that store, with the store's remedy."""
    outcome = outcome_of(error, now)
    # That there is no such object tells of the object, and seldom of the config.
    if not isinstance(error, LitekartError) or isinstance(error, NotFound):
        return outcome
    return outcome.with_reason(f"{outcome.reason}{remedy(error, store)}")


def _opened(hub: Hub, store: str) -> Litekart | NoClient:
    """A client over connections and a budget of its own; all are closed with the hub, the budget last."""
    if key_missing(hub.config, store):
        return made(hub.config, store, None)
    budget = SharedBudget(store, hub.config.stores[store].rate, hub.writer, hub.clock, hub.worker_id)
    hub.closing.push_async_callback(budget.close)
    http = open_client(Guard(hub.config.network.allow), timeout=TIMEOUT, max_answer=MAX_ANSWER)
    hub.closing.push_async_callback(http.aclose)
    client = made(hub.config, store, http, budget=budget, clock=hub.now)
    assert isinstance(client, Litekart)
    hub.closing.push_async_callback(client.aclose)
    return client


def key_missing(config: Config, store: str) -> bool:
    return store not in config.stores or config.stores[store].api_key is None


def made(
    config: Config,
    store: str,
    http: httpx.AsyncClient | None,
    *,
    budget: Budget | None = None,
    clock: Callable[[], datetime] = system_time,
    who: str = "check",
) -> Litekart | NoClient:
    """A client over these connections that is no part of a hub; what stands for it where there is no key."""
    if store == RESERVED_STORE:
        return NoClient("an event of the hub's own is of no store that could be asked")
    if key_missing(config, store):
        return NoClient(f"stores.{store}.api_key is not set, and without it the store cannot be asked")
    settings = config.stores[store]
    assert settings.api_key is not None
    return Litekart(
        settings.api_key,
        settings.url,
        profile=settings.profile,
        store_id=settings.store_id,
        http=http,
        budget=budget,
        retries=0,
        who=who,
        clock=clock,
    )
