"""What happened to an event, in sentences: routes taken and how far, routes not taken and why, waiting for what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from hub.config import Config, Route
from hub.keeping import dropped_text
from hub.routing import SOURCE_SHOWN, judged_text
from hub.sandbox import shortened
from hub.store.reading import WholeDelivery, WholeEvent, blocked, blocking, first_waiting
from hub.store.replays import get_all
from hub.store.routes import states
from hub.web.plain import delivery_json, event_json, spoken, taken

# The key of deliveries that are dead because their route's condition failed.
BROKEN = "when"


@dataclass(frozen=True)
class Surroundings:
    """What decides when open deliveries go: their routes' states, what they wait behind, the oldest waiting event.

    `replays` are those that sent any of the event's deliveries, by id; `dropped`: that the event's body is gone, why.
    """

    now: datetime
    routes: Mapping[str, Route]
    states: Mapping[str, Row[Any]]
    behind: Mapping[str, Row[Any]] = field(default_factory=dict)
    first_waiting: int | None = None
    replays: Mapping[str, Row[Any]] = field(default_factory=dict)
    dropped: str | None = None


def surroundings(connection: Connection, now: datetime, config: Config, whole: WholeEvent) -> Surroundings:
    """Read them for the deliveries of one event."""
    open_ones = [one.delivery for one in whole.deliveries if one.delivery.status in {"pending", "held"}]
    ordered = [
        row for row in open_ones if row.entity and row.route in config.routes and config.routes[row.route].ordered
    ]
    found = {row.id: blocking(connection, row) for row in ordered}
    behind = {delivery_id: row for delivery_id, row in found.items() if row is not None}
    replays = get_all(connection, {one.delivery.replay_id for one in whole.deliveries} - {None})
    dropped = dropped_text(config.keep, whole.event, [one.delivery.status for one in whole.deliveries])
    return Surroundings(now, config.routes, states(connection), behind, first_waiting(connection), replays, dropped)


def explained(whole: WholeEvent, around: Surroundings) -> dict[str, Any]:
    """The story as JSON: `event`, `waiting`, `repeats`, `dropped`, `deliveries` (each with `text`), `not_taken`."""
    held = blocked(around.states.values(), around.routes)
    return {
        "event": event_json(whole.event),
        "waiting": waiting_text(whole.event),
        "repeats": repeats_text(whole),
        "dropped": around.dropped,
        "deliveries": [
            delivery_json(one.delivery, held) | {"text": delivery_text(one, around) + sent_by(whole, one, around)}
            for one in whole.deliveries
        ],
        "not_taken": [
            {"route": route, "reason": reason} for route, reason in sorted(not_taken(whole, around.routes).items())
        ],
    }


def waiting_text(event: Row[Any]) -> str | None:
    if event.fanned_out_at is not None:
        return None
    return "not fanned out yet: a worker decides which routes it takes as soon as one is there"


def repeats_text(whole: WholeEvent) -> str | None:
    event = whole.event
    if not event.repeats:
        return None
    times = "once" if event.repeats == 1 else f"{event.repeats} times"
    text = f"the store sent it {times} more, last at {spoken(event.last_repeat_at)}; none of these made a new event"
    if whole.repeats:
        text += f"; with other content: {', '.join(row.id for row in whole.repeats)}"
    return text


def not_taken(whole: WholeEvent, routes: Mapping[str, Route]) -> dict[str, str]:
    """Routes not taken with the reason and field, as decided then; and routes that came later."""
    gone_there = taken(whole)
    decided = {route: why for route, why in (whole.event.not_taken or {}).items() if route not in gone_there}
    reasons = {route: reason_text(whole.event, why) for route, why in decided.items()}
    if whole.event.fanned_out_at is None:
        return reasons
    known = reasons.keys() | gone_there
    later = f"was not in the config at that time; `hub replay {whole.event.id} --to ROUTE` sends it there"
    return reasons | {name: later.replace("ROUTE", name) for name in routes if name not in known}


def reason_text(event: Row[Any], reason: str) -> str:
    """Why a route did not take an event, beginning with what the event is."""
    field_name, _, told = reason.partition(": ")
    if field_name == "event" and not told.startswith("the hub's own"):
        return f"its type is {event.type}; the route takes {told}"
    if field_name == "store":
        return f"its store is {event.store}; the route takes {told}"
    return reason


def sent_by(whole: WholeEvent, one: WholeDelivery, around: Surroundings) -> str:
    """Who sent it along a route that did not take it by itself; empty where the route did."""
    row = one.delivery
    reason = (whole.event.not_taken or {}).get(row.route)
    replay = around.replays.get(row.replay_id)
    made = bool(row.before) and row.before["status"] is None
    if replay is None or not (made or reason):
        return ""
    why = f", though {reason_text(whole.event, reason)}" if reason else ""
    return f"; sent there by replay {replay.id} of {replay.who}{why}"


def delivery_text(whole: WholeDelivery, around: Surroundings) -> str:
    """One delivery's state in words, with what a person can do about it."""
    row = whole.delivery
    match row.status:
        case "delivered":
            done = [attempt for attempt in whole.attempts if attempt.outcome == "delivered"]
            when = f" by attempt {done[-1].number} at {spoken(done[-1].started_at)}: {done[-1].note}" if done else ""
            return f"delivered{when}"
        case "dead":
            tried = f"after {attempts_text(row)}" if row.attempts else "without an attempt"
            can_go = row.reads_state or not around.dropped
            remedy = f"; `hub replay {row.id}` {remedy_of(row.error_key)}" if can_go else ""
            return f"dead {tried}: {row.last_error}{remedy}"
        case "skipped":
            return f"skipped: {row.last_error}"
        case "held":
            return f"held for a person: {row.last_error}; `hub release {row.id}` or `hub cancel {row.id}`"
    return f"{pending_text(row, around)}{_so_far(row)}{_judged(row, around)}"


def remedy_of(error_key: str | None) -> str:
    """What a replay does for what died of that."""
    if error_key == BROKEN:
        return "sends it without asking the condition; correct `when` for those to come"
    return "tries it again"


def attempts_text(row: Row[Any]) -> str:
    return "1 attempt" if row.attempts == 1 else f"{row.attempts} attempts"


def _so_far(row: Row[Any]) -> str:
    if not row.attempts or row.lease_until is not None:
        return ""
    reason = f", last: {row.last_error}" if row.last_error else ""
    return f" ({attempts_text(row)} of {row.budget} so far{reason})"


def _judged(row: Row[Any], around: Surroundings) -> str:
    route = around.routes.get(row.route)
    asked = row.replay_id is None and row.released_at is None
    if route is None or route.condition is None or not (route.judged_later and asked):
        return ""
    return f"; {judged_text(route.condition)}: {shortened(route.condition.source, SOURCE_SHOWN)}"


def pending_text(row: Row[Any], around: Surroundings) -> str:
    """What a pending delivery waits for."""
    now = around.now
    if row.lease_until is not None and row.lease_until > now:
        return f"attempt {row.attempts} is under way; its lease runs until {spoken(row.lease_until)}"
    by_route = route_text(row, around)
    if by_route is not None:
        return by_route
    if row.next_attempt_at > now:
        return f"next try at {spoken(row.next_attempt_at)}"
    before = around.behind.get(row.id)
    if before is not None:
        return f"waits for its turn behind {before.id} of {before.entity}, which is {before.status}"
    route = around.routes[row.route]
    if route.ordered and row.entity and around.first_waiting is not None and around.first_waiting < row.event_seq:
        return "waits for its turn: earlier events are not fanned out yet"
    state = around.states.get(row.route)
    if route.rate and state is not None and state.next_free_at is not None and state.next_free_at > now:
        return f"waits for its turn under the route's rate of {route.rate}; next at {spoken(state.next_free_at)}"
    return f"due since {spoken(row.next_attempt_at)}: goes as soon as a worker has a free slot for this route"


def route_text(row: Row[Any], around: Surroundings) -> str | None:
    """How its route holds a delivery up, or None."""
    state = around.states.get(row.route)
    if row.route not in around.routes:
        return (
            f"held: route {row.route} is not in the config any more; put it back, or `hub replay {row.id} --to ROUTE`"
            f" sends it elsewhere, or `hub cancel {row.id}`"
        )
    if state is None:
        return None
    if state.paused_at is not None:
        reason = f" ({state.paused_reason})" if state.paused_reason else ""
        since = f"since {spoken(state.paused_at)} by {state.paused_by}{reason}"
        return f"held: route {row.route} is paused {since}; `hub resume {row.route}`"
    if state.opened_at is not None:
        return (
            f"held: the breaker of route {row.route} is open since {spoken(state.opened_at)}: {state.open_reason};"
            f" next probe at {spoken(state.probe_at)}, `hub resume {row.route}` probes at once"
        )
    if state.stopped_until is not None and state.stopped_until > around.now:
        return f"route {row.route} was asked by its destination to wait until {spoken(state.stopped_until)}"
    return None
