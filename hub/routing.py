"""Which routes an event takes, and why not the others. Pure: no clock, no database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hub.config import RESERVED_STORE, Config, Route
from hub.connector import Event
from hub.errors import TemplateError
from hub.language import Condition, condition_names
from hub.sandbox import shortened

OWN_EVENTS = f"{RESERVED_STORE}."
SOURCE_SHOWN = 200
FOUND_BY_POLLING = "polling found this change, not a webhook: it goes only along routes that read the present state"


@dataclass(frozen=True)
class Routing:
    """The routes taken; those not taken, with the reason and field; those whose condition failed, with its text.

    A broken route gets a dead delivery with that text, so that nothing is dropped in silence.
    """

    taken: list[str] = field(default_factory=list)
    not_taken: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def route_event(
    routes: Mapping[str, Route], event: Event, data: Mapping[str, Any], *, public_url: str | None = None
) -> Routing:
    """Look at every route. `data` is the body's, parsed, numbers as floats. The hub's own events match none here."""
    routing = Routing()
    names = condition_names(event, data, public_url=public_url)
    for name, route in routes.items():
        try:
            reason = _why_not(route, event, names)
        except TemplateError as error:
            routing.broken[name] = str(error)
            continue
        if reason is None:
            routing.taken.append(name)
        else:
            routing.not_taken[name] = reason
    return routing


def route_change(routes: Mapping[str, Route], event: Event, data: Mapping[str, Any]) -> Routing:
    """Where a change goes that polling found: it stands for any number of webhooks, so only where the state is read."""
    reading = {name: route for name, route in routes.items() if route.connector_class.reads_state}
    routing = route_event(reading, event, data)
    routing.not_taken.update({name: FOUND_BY_POLLING for name in routes if name not in reading})
    return routing


def alert_routes(config: Config, route: str | None) -> list[str]:
    """The routes that are told of a matter of `route`, or of the hub itself: never the one that it is about."""
    own = config.routes[route].alerts if route in config.routes else None
    return [name for name in dict.fromkeys(config.alerts if own is None else own) if name != route]


def route_alert(config: Config, data: Mapping[str, Any]) -> Routing:
    """Where one of the hub's own events goes: `events`, `stores` and `when` are for those of the stores."""
    told = alert_routes(config, data.get("route"))
    return Routing(told, {name: "not named in alerts" for name in config.routes if name not in told})


def _why_not(route: Route, event: Event, names: Mapping[str, Any]) -> str | None:
    if route.stores is not None and event.store not in route.stores:
        return f"store: only {', '.join(route.stores)}"
    if event.type.startswith(OWN_EVENTS):
        return "event: the hub's own events go only to the routes named for them"
    if not takes_type(route.events, event.type):
        return f"event: {', '.join(route.events)}"
    # What names objects of the store is judged in the delivery, when they are fetched.
    return None if route.judged_later else unmet(route.condition, names)


def unmet(condition: Condition | None, names: Mapping[str, Any]) -> str | None:
    """Why the condition does not let it through, with the fields' values, or None. Raises TemplateError."""
    if condition is None or condition.holds(names):
        return None
    values, source = condition.explain(names), shortened(condition.source, SOURCE_SHOWN)
    return f"when: {values} ({source})" if values else f"when: {source}"


def judged_text(condition: Condition) -> str:
    """Of a condition on fetched objects, when it is judged."""
    return f"its condition names the store's {' and '.join(sorted(condition.fetched))}, so it is judged at delivery"


@lru_cache(maxsize=4096)
def takes_type(patterns: tuple[str, ...], event_type: str) -> bool:
    """Whether one of the patterns matches the type."""
    return any(_matches(pattern, event_type) for pattern in patterns)


def _matches(pattern: str, text: str) -> bool:
    """`*` stands for any characters. In one pass over the text, where a regular expression would go back and forth."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
