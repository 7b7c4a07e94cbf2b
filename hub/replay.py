"""Sending again on purpose, and the other things a person does to deliveries and routes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import Connection

from hub.config import Keep
from hub.database import Conflict
from hub.errors import CommandError, Unavailable
from hub.runtime import Hub
from hub.sandbox import near
from hub.store import changes, meant, reading, replays, routes
from hub.store.changes import Step
from hub.store.meant import Filter
from hub.store.reading import blocked_routes, get_delivery
from hub.store.replays import BATCH
from hub.units import duration_text

log = structlog.get_logger()


@dataclass(frozen=True)
class ReplayPreview:
    """What a replay would do: the matching deliveries by status, how many go, were sent already, run out of order.

    `dropped` of them cannot go any more: the body of their event was (`keep` in the config). `held_up` are the routes
    on which they will wait: `paused`, `broken` or `gone`. Along another route it is events that are counted: once
    each, whatever deliveries they have.
    """

    by_status: dict[str, int]
    would_replay: int
    already_sent: int
    out_of_order: int
    held_up: dict[str, str]
    dropped: int


async def preview_replay(
    hub: Hub, found: Filter, most: int | None = None, to_route: str | None = None
) -> ReplayPreview:
    """Count what a replay would take; changes nothing. Raises CommandError for a route that is not there."""
    ordered = [name for name, route in hub.config.routes.items() if route.ordered]
    if to_route is not None:
        _known(hub, to_route)
        terms = hub.terms()
        events, sent, dropped = await hub.database.read(lambda c: meant.count_along(c, found, to_route, terms))
        late = 0
        if to_route in ordered:
            late = await hub.database.read(lambda c: meant.out_of_order_along(c, found, to_route, list(terms)))
        going = min(events, most) if most else events
        gone = found.status == meant.GONE
        by_status = ({meant.GONE: events} if events else {}) if gone else await _by_status(hub, found)
        held_up = await _held_up(hub, found, to_route)
        return ReplayPreview(by_status, going, sent, min(late, going), held_up, dropped)
    sent = await hub.database.read(lambda connection: meant.count_sent(connection, found))
    late = await hub.database.read(lambda connection: meant.out_of_order(connection, found, ordered))
    dropped = await hub.database.read(lambda connection: meant.count_dropped(connection, found))
    by_status = await _by_status(hub, found)
    matching = sum(by_status.get(status, 0) for status in meant.DONE) - dropped
    going = min(matching, most) if most else matching
    return ReplayPreview(by_status, going, sent, late, await _held_up(hub, found, None), dropped)


async def _held_up(hub: Hub, found: Filter, to_route: str | None) -> dict[str, str]:
    def read(connection: Connection) -> dict[str, str]:
        routes = [to_route] if to_route is not None else meant.routes_of(connection, found)
        blocked = blocked_routes(connection, hub.config.routes)
        return {route: blocked[route] for route in routes if route in blocked}

    return await hub.database.read(read)


def without_body(count: int, keep: Keep) -> str:
    """That so many cannot be sent again, and why, for a person."""
    after = f"{duration_text(keep.events)}, or {duration_text(keep.dead)} with something dead (keep.events, keep.dead)"
    return f"{count} cannot be sent again: the body of the event was dropped, as it is after {after}"


async def _by_status(hub: Hub, found: Filter) -> dict[str, int]:
    return await hub.database.read(lambda connection: meant.count(connection, found))


async def start_replay(hub: Hub, who: str, found: Filter, **options: Any) -> str:
    """Begin a replay (`to_route`, `as_new`, `pace` in deliveries a second, `most`, `replay_id`); its id.

    One of that `replay_id` that has begun is not begun again. Raises CommandError where nothing is left to send,
    since the events' bodies were dropped.
    """
    to_route, terms = options.get("to_route"), hub.terms()
    if to_route is not None:
        _known(hub, to_route)
    total, dropped = await hub.database.read(lambda c: meant.count_going(c, found, to_route, terms))
    if dropped and not total:
        raise CommandError(without_body(dropped, hub.config.keep))
    replay_id = await hub.database.write(lambda c: replays.start(c, hub.now(), who, found, total=total, **options))
    await _advance(hub, replay_id)
    return replay_id


async def start_change(
    hub: Hub, action: str, who: str, found: Filter, pace: float | None = None, replay_id: str | None = None
) -> str:
    """Begin to release what is held, or to cancel what is pending or held, of all that match and are there; its id.

    `pace` in deliveries a second; without it, as fast as it goes. One of that `replay_id` that has begun is not begun
    again.
    """
    now = hub.now()
    found = replace(found, until=min(found.until or now, now))

    def start(connection: Connection) -> str:
        total = changes.count_open(connection, action, found, hub.config.routes)
        return replays.start(connection, now, who, found, action=action, total=total, pace=pace, replay_id=replay_id)

    begun = await hub.database.write(start)
    await _advance(hub, begun)
    return begun


async def advance_replays(hub: Hub) -> int:
    """One more batch of each replay, release and cancel that goes on; how many can do more at once."""
    more = 0
    for replay_id in await hub.database.read(replays.running):
        try:
            more += await _advance(hub, replay_id)
        except (Unavailable, Conflict):
            raise
        except Exception:
            # It must not keep the replays after it waiting.
            log.exception("replay.fault", replay=replay_id)
    return more


async def _advance(hub: Hub, replay_id: str) -> bool:
    """Do the next batch; whether more can be done at once. What waits for its pace goes on with the tick."""

    def advance(connection: Connection) -> Step:
        row = replays.lock(connection, replay_id)
        if row.state not in replays.GOING_ON.values():
            return Step(frozenset(), more=False)
        if row.action != "replay":
            return changes.advance(connection, hub.now(), row, hub.config.routes)
        return Step(frozenset(replays.advance(connection, hub.now(), row, hub.terms())), more=True)

    done = await hub.database.write(advance)
    hub.bells.ring(*(["replay"] if done.more else []), *(f"deliver:{route}" for route in done.due))
    return done.more


async def replay_event(
    hub: Hub, who: str, event_id: str, chosen: Sequence[str], *, as_new: bool = False, replay_id: str | None = None
) -> tuple[str, list[str]]:
    """Send one event along these routes, also ones it did not take; the replay's id, and the routes left as they are.

    Raises CommandError: no such event or route, or its body is gone.
    """
    for route in chosen:
        _known(hub, route)
    body = await hub.database.read(lambda connection: reading.has_body(connection, event_id))
    if body is None:
        raise CommandError(f"{event_id}: there is no such event")
    terms = hub.terms()
    if not body and not any(terms[route].reads_state for route in chosen):
        raise CommandError(f"{event_id}: its body was dropped when it was old, so it cannot be sent again")
    begun, untouched = await hub.database.write(
        lambda c: replays.replay_event(c, hub.now(), who, event_id, chosen, terms, as_new=as_new, replay_id=replay_id)
    )
    hub.bells.ring(*(f"deliver:{route}" for route in chosen))
    return begun, untouched


async def stop_replay(hub: Hub, who: str, replay_id: str) -> int:
    """Stop a replay, release or cancel half-way; how many deliveries are as they were before."""
    if await hub.database.read(lambda connection: replays.get(connection, replay_id)) is None:
        raise CommandError(f"{replay_id}: there is no such replay")
    given_back, after = await _give_back(hub, who, replay_id, "", 0)
    while after is not None:
        given_back, after = await _give_back(hub, who, replay_id, after, given_back)
    return given_back


async def _give_back(hub: Hub, who: str, replay_id: str, after: str, given_back: int) -> tuple[int, str | None]:
    return await hub.database.write(lambda c: replays.stop(c, hub.now(), replay_id, who, after, given_back))


async def pause_route(hub: Hub, who: str, route: str, reason: str | None) -> bool:
    """Stop claiming a route's deliveries; they wait. False if it was paused already."""
    _known(hub, route)
    return await hub.database.write(lambda connection: routes.pause(connection, hub.now(), route, who, reason))


async def resume_route(hub: Hub, who: str, route: str, reason: str | None = None) -> bool:
    """Go on with a paused route; an open breaker is probed at once. False if there was nothing to resume."""
    _known(hub, route)
    resumed = await hub.database.write(lambda connection: routes.resume(connection, hub.now(), route, who, reason))
    hub.bells.ring(f"deliver:{route}")
    return resumed


async def release_held(hub: Hub, who: str, delivery_id: str) -> None:
    """Let a held delivery go. Raises CommandError if it is not held."""
    route = await hub.database.write(lambda connection: routes.release(connection, hub.now(), delivery_id, who))
    if route is None:
        raise CommandError(f"{delivery_id}: {await _not_held(hub, delivery_id)}")
    hub.bells.ring(f"deliver:{route}")


async def _not_held(hub: Hub, delivery_id: str) -> str:
    """Why a delivery cannot be released, and what can be done instead."""
    found = await hub.database.read(lambda connection: get_delivery(connection, delivery_id))
    if found is None:
        return "there is no such delivery; `hub deliveries --status held` lists the held ones"
    row = found.delivery
    blocked = await hub.database.read(lambda connection: blocked_routes(connection, hub.config.routes))
    if row.status != "pending" or row.lease_until is not None or row.route not in blocked:
        return f"is not held but {row.status}; `hub show {delivery_id}` tells more"
    if blocked[row.route] == "gone":
        return (
            f"no person holds it; its route {row.route} is gone: put it back, or `hub replay {delivery_id} --to ROUTE`,"
            f" or `hub cancel {delivery_id}`"
        )
    return f"no person holds it; its route is {blocked[row.route]}: `hub resume {row.route}`"


async def cancel_deliveries(hub: Hub, who: str, delivery_ids: Sequence[str]) -> list[str]:
    """Skip pending and held deliveries; the ids of those that were."""
    cancelled: list[str] = []
    for start in range(0, len(delivery_ids), BATCH):
        cancelled += await _cancel(hub, who, delivery_ids[start : start + BATCH])
    return cancelled


async def _cancel(hub: Hub, who: str, delivery_ids: Sequence[str]) -> list[str]:
    return await hub.database.write(lambda connection: routes.cancel(connection, hub.now(), delivery_ids, who))


async def count_open(hub: Hub, action: str, found: Filter) -> int:
    """How many deliveries `start_change` would release or cancel."""
    return await hub.database.read(lambda c: changes.count_open(c, action, found, hub.config.routes))


def _known(hub: Hub, route: str) -> None:
    if route not in hub.config.routes:
        raise CommandError(f"there is no route {route}{near(route, hub.config.routes)}")
