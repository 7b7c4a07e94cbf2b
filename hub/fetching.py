"""What a route's `with` names: the store's objects that an event is about, fetched before an attempt.

A condition that names one of them is judged here too, and only here: without an answer of the store it is put off.
Without such a condition a message goes out with what the event holds, and says what was not fetched.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from hub.config import RESERVED_STORE, Route, Store
from hub.connector import Event
from hub.errors import HubError, LitekartError, NotFound, NotNow, Outcome, RateLimited, Skip, TryAgain, Unreachable
from hub.event import object_ids
from hub.language import condition_names, not_fetched
from hub.outcome import outcome_of
from hub.routing import unmet
from hub.stores import remedy

RESOURCES = {"order": "orders", "customer": "customers", "product": "products"}
# Of an attempt's time: the rest is for what it is there for.
SHARE = 0.4
WAIT_UNSAID = 60.0
# An hour turns within one; a store that says more is wrong, and must not park a delivery for years.
LONGEST_WAIT = 3600.0
UNNAMED = "the event names none"


@dataclass(frozen=True)
class Fetched:
    """The `objects` by name, as plain values; `missing`: why each of the others is not there.

    `failure` is the first error after which another time may bring more; `notes` tells what was asked for in vain.
    """

    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    failure: HubError | None = None

    @property
    def notes(self) -> str:
        return "; ".join(f"without the {name}: {why}" for name, why in self.missing.items() if why != UNNAMED)


async def fetch(
    client: Any, names: Sequence[str], ids: Mapping[str, str], newer_than: datetime, seconds: float
) -> Fetched:
    """The named objects by their `ids`, side by side, within that time. A customer is found through its order too.

    `newer_than`: what was asked of the store before that serves none of them. Raises nothing of the store's.
    """
    ends = asyncio.get_running_loop().time() + seconds

    async def get(name: str, id: str) -> Any:
        try:
            async with asyncio.timeout_at(ends):
                return await getattr(client, RESOURCES[name]).get(id, newer_than=newer_than)
        except TimeoutError:
            return Unreachable("the store did not answer in time")
        except HubError as error:
            return error

    through = {"order"} if "customer" in names and "customer" not in ids else set()
    asked = [name for name in RESOURCES if name in ids and name in {*names, *through}]
    found = dict(zip(asked, await asyncio.gather(*(get(name, ids[name]) for name in asked)), strict=True))
    if through and not isinstance(found.get("order"), HubError | None) and found["order"].customer_id:
        found["customer"] = await get("customer", found["order"].customer_id)
    return _sorted(names, found)


def _sorted(names: Sequence[str], found: Mapping[str, Any]) -> Fetched:
    """What came of it, of the named ones alone; a customer shares its order's failure."""
    errors = {name: error for name, error in found.items() if isinstance(error, HubError)}
    if "customer" in names and "customer" not in found and "order" in errors:
        errors["customer"] = errors["order"]
    objects = {name: plain_object(found[name]) for name in names if name in found and name not in errors}
    missing = {name: _why(errors.get(name)) for name in names if name not in objects}
    failures = (errors[name] for name in names if name in errors and not isinstance(errors[name], NotFound))
    return Fetched(objects, missing, next(failures, None))


def _why(error: HubError | None) -> str:
    if error is None:
        return UNNAMED
    return "the store has none of that id" if isinstance(error, NotFound) else str(error)


def plain_object(model: Any) -> dict[str, Any]:
    """A fetched object as mappings, lists and values: what the store left out is not there."""
    values: dict[str, Any] = model.model_dump(exclude_unset=True)
    return values


def judge(route: Route, event: Event, fetched: Fetched, *, public_url: str | None, now: datetime) -> None:
    """Raises what the route's condition on fetched objects says: Skip, where it does not hold, with the fields.

    Where it could not be told for want of the store, NotNow or what else its failure means; TemplateError for a
    condition that is broken.
    """
    if fetched.failure is not None:
        raise put_off(fetched.failure, event.store, now)
    data = orjson.loads(event.body)["data"] if event.body else {}
    names = condition_names(event, data, public_url=public_url)
    names |= {name: not_fetched(name, why) for name, why in fetched.missing.items()}
    names |= {name: in_floats(value) for name, value in fetched.objects.items()}
    if (reason := unmet(route.condition, names)) is not None:
        raise Skip(reason)


def put_off(failure: HubError, store: str, now: datetime) -> Outcome:
    """What becomes of a delivery that needs the store's answer and has none. Nothing of it was sent."""
    if isinstance(failure, RateLimited):
        return NotNow(
            f"the store's limit of requests is reached: {failure}", min(failure.after or WAIT_UNSAID, LONGEST_WAIT)
        )
    outcome = outcome_of(failure, now)
    if isinstance(outcome, NotNow):
        return outcome
    if isinstance(outcome, TryAgain):
        # The store's fault and not the destination's, which the route's breaker stands for.
        outcome = TryAgain(outcome.reason, outcome.after)
    if not isinstance(failure, LitekartError):
        return outcome.with_reason(f"`when`: {outcome.reason}")
    return outcome.with_reason(f"the store was asked for what `when` names: {outcome.reason}{remedy(failure, store)}")


def in_floats(value: Any) -> Any:
    """The same with numbers as a condition has them."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {name: in_floats(item) for name, item in value.items()}
    return [in_floats(item) for item in value] if isinstance(value, list | tuple) else value


def ids_of(event: Event) -> dict[str, str]:
    """Of the order, customer and product that the event names, the ids. The hub's own events are about none."""
    return {} if event.store == RESERVED_STORE else object_ids(event.entity, event.data)


def admin_link(store: Store | None, event: Event) -> str | None:
    """Where the store's admin shows what the event is about, if the config says how."""
    if store is None or store.admin_url is None:
        return None
    ids = ids_of(event)
    noun = event.type.partition(".")[0]
    about = {"payment": "order", "inventory": "product"}.get(noun, noun)
    return store.admin_link(about, ids[about]) if about in ids else None
