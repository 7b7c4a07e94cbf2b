"""How the hub stands: ok or degraded, and why, in sentences that say what to do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from hub.alert_texts import BEHIND_AFTER, REFUSAL_CAUSES
from hub.hour import Hour, Left, left_of
from hub.jobs import FAILURES, client, hang_up
from hub.runtime import Hub, storage_reason
from hub.store import replays
from hub.store.budgets import budgets
from hub.store.catch_up import Polling, pollings
from hub.store.claims import ALIVE_WITHIN
from hub.store.reading import Standing, blocked, standing
from hub.store.registrations import all_registered
from hub.store.reordering import count_held
from hub.web.explain import remedy_of
from hub.web.plain import chosen, plain, spoken

MOST_SPENDERS = 5
REPLAY_TOLD = ("id", "action", "who", "at", "done", "total")


@dataclass(frozen=True)
class Findings:
    """What was read at one moment: the database's numbers, Redis, and this process's writer.

    `alone`: who works on SQLite, where no other process does; None on PostgreSQL. `reorders` are the orders to
    suppliers that wait for a person.
    """

    now: datetime
    numbers: Standing
    redis: str | None
    storage: str | None
    configured: frozenset[str]
    replays: list[Row[Any]]
    hours: dict[str, Hour]
    alone: str | None = None
    polling: Mapping[str, Polling] = field(default_factory=dict)
    registrations: Sequence[Row[Any]] = ()
    failing_after: Mapping[str, timedelta] = field(default_factory=dict)
    reorders: int = 0


async def status(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`status` (ok, degraded), `reasons` (`trouble`: the hub's own), `notes`, and the numbers.

    `store_trouble` are the reasons that lie with a store, `store_notes` the notes that may become one, `waits` those
    about what goes on by itself.
    """
    found = await look(hub)
    numbers = found.numbers
    trouble, store_trouble = [*storage_reasons(found), *worker_reasons(found)], list(store_reasons(found))
    store_notes, waits = list(unpolled_notes(hub, found, spent=False)), list(wait_notes(hub, found))
    reasons = [*trouble, *store_trouble, *route_reasons(found), *refusal_reasons(found)]
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "trouble": trouble,
        "store_trouble": store_trouble,
        "store_notes": store_notes,
        "waits": waits,
        "notes": [*store_notes, *waits, *notes(found)],
        "routes": routes_json(hub, found),
        "stores": stores_json(hub, found),
        "waiting_for_fan_out": numbers.waiting,
        "reorders_waiting": found.reorders,
        "workers": [plain(dict(row._mapping)) | {"alive": is_alive(found, row)} for row in numbers.workers],
        "refused_24h": numbers.refused,
        "dead": [plain(dict(row._mapping)) for row in numbers.dead],
        "replays": [replay_told(row) for row in found.replays],
        "catch_up": {store: polling_json(one) for store, one in found.polling.items()},
        "redis": {"away_since": plain(hub.bells.away_since), "answers": found.redis is None},
        "storage": {"ok": found.storage is None, "reason": found.storage},
    }


async def look(hub: Hub) -> Findings:
    """How the hub stands now: what `hub status`, the overview and /metrics say is all from here."""
    now = hub.now()
    ordered = [name for name, route in hub.config.routes.items() if route.ordered]
    numbers = await hub.database.read(lambda connection: standing(connection, now, ordered))
    return Findings(
        now,
        numbers,
        await redis_trouble(hub),
        storage_reason(hub),
        frozenset(hub.config.routes),
        await hub.database.read(lambda connection: replays.list_sending(connection, now)),
        await hub.database.read(budgets),
        hub.worker_id if hub.config.sqlite_path is not None else None,
        await hub.database.read(lambda connection: pollings(connection, now)),
        await hub.database.read(all_registered),
        {name: store.catch_up.failing_after for name, store in hub.config.stores.items() if store.catches_up},
        await hub.database.read(count_held),
    )


async def redis_trouble(hub: Hub) -> str | None:
    """Why Redis cannot be used just now, or None; also where this process has none to use."""
    if hub.bells.away_since is not None:
        return f"does not answer since {spoken(hub.bells.away_since)}"
    if hub.bells.settings is None:
        return None
    redis = client(hub.bells.settings)
    try:
        await redis.ping()
    except FAILURES as error:
        return f"does not answer ({type(error).__name__})"
    finally:
        await hang_up(redis)
    return None


def storage_reasons(found: Findings) -> Iterator[str]:
    if found.storage is not None:
        yield f"{found.storage}; webhooks are answered 503 until that ends"
    if found.redis is not None:
        yield f"Redis {found.redis}: all is delivered, up to a second later; nothing is lost. Start it again"


def is_failing(found: Findings, store: str) -> bool:
    """Whether a store could not be polled for longer than an hour's spent budget may take."""
    since, after = found.polling[store].failing_since, found.failing_after.get(store)
    return since is not None and after is not None and found.now - since >= after


def store_reasons(found: Findings) -> Iterator[str]:
    for store, one in found.polling.items():
        if one.failing_since is not None and is_failing(found, store):
            yield (
                f"store {store} could not be polled since {spoken(one.failing_since)} ({one.error}), so webhooks that"
                f" never came are not found: see whether it is up and its API key right; `hub catch-up {store}` tries"
            )
    for row in found.registrations:
        if row.wrong is not None:
            yield (
                f"store {row.store} does not send all its webhooks here since {spoken(row.wrong_since)} ({row.wrong});"
                f" `hub store connect {row.store}` mends it"
            )


def polling_json(one: Polling) -> dict[str, Any]:
    """`missing_24h`: how many events had to be caught up, and `found_24h` of which types; when, and what is in the way.

    Changes of products are found and not missing. `missing_words` go after the number.
    """
    return {
        "missing_24h": one.missing,
        "missing_words": missing_words(one.missing),
        "found_24h": dict(one.caught_up),
        "since": plain(one.since),
        "polled_at": plain(one.polled_at),
        "failing_since": plain(one.failing_since),
        "error": one.error,
    }


def missing_words(count: int) -> str:
    """What goes after that number: none of them is lost."""
    return "missing in 24 h and found by polling" if count else "missing in 24 h"


def is_alive(found: Findings, worker: Row[Any]) -> bool:
    """Whether its last sign of life is not old."""
    alive: bool = worker.seen_at > found.now - ALIVE_WITHIN
    return alive


def living_workers(found: Findings) -> list[Row[Any]]:
    return [row for row in found.numbers.workers if is_alive(found, row)]


def worker_reasons(found: Findings) -> Iterator[str]:
    if found.alone is not None and found.alone not in {row.id for row in found.numbers.workers}:
        # It is the command itself that has the database: whoever was seen there lately has ended.
        yield "no hub runs on this folder, so nothing is received or delivered: start `hub up`"
        return
    alive = living_workers(found)
    if not alive:
        last = max((row.seen_at for row in found.numbers.workers), default=None)
        since = f" since {spoken(last)}" if last else ""
        yield f"no worker was seen{since}, so nothing is delivered: start `hub up`, or `hub work` on PostgreSQL"
    oldest = found.numbers.oldest_waiting
    if alive and oldest is not None and found.now - oldest > BEHIND_AFTER:
        yield f"{found.numbers.waiting} events wait for fan-out since {spoken(oldest)}: the worker's log says why"


def route_reasons(found: Findings) -> Iterator[str]:
    why = blocked(found.numbers.states.values(), found.configured)
    for route, state in found.numbers.states.items():
        counts = found.numbers.counts.get(route, {})
        waiting = counts.get("pending", 0) + counts.get("held", 0)
        match why.get(route):
            case "gone" if waiting:
                yield (
                    f"{waiting} deliveries wait on route {route}, which is not in the config any more: put it back, or"
                    f" `hub replay --status gone --route {route} --to ROUTE` sends them elsewhere, or"
                    f" `hub cancel --route {route}`"
                )
            case "broken":
                yield (
                    f"the breaker of route {route} is open since {spoken(state.opened_at)}: {state.open_reason}; next"
                    f" probe at {spoken(state.probe_at)}, `hub resume {route}` probes at once"
                )
            case None:
                if is_behind(found, route):
                    waited = (found.now - found.numbers.oldest_due[route]).total_seconds()
                    yield (
                        f"the oldest due delivery of route {route} waits {waited:.0f} s: its destination is slow, or"
                        " its rate or concurrency too small"
                    )


def is_behind(found: Findings, route: str) -> bool:
    """Whether its oldest due delivery waits longer than it should, though the destination did not ask to wait."""
    due, stopped = found.numbers.oldest_due.get(route), found.numbers.states[route].stopped_until
    return due is not None and found.now - due > BEHIND_AFTER and not (stopped is not None and stopped > found.now)


def refusal_reasons(found: Findings) -> Iterator[str]:
    hour = found.now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for refused in found.numbers.refused_now:
        cause = REFUSAL_CAUSES.get(refused["reason"], refused["reason"])
        count = "1 request was" if refused["count"] == 1 else f"{refused['count']} requests were"
        store = "an unknown store" if refused["store"] == "?" else f"store {refused['store']}"
        yield f"{count} refused for {store} since {spoken(hour)}: {cause}; `hub refused` lists them"


def unpolled_notes(hub: Hub, found: Findings, *, spent: bool) -> Iterator[str]:
    """Stores that cannot be polled just now, with their hour `spent`, or not: then what is in the way may stay."""
    for store, one in found.polling.items():
        if one.failing_since is None or is_failing(found, store) or is_spent(hub, found, store) != spent:
            continue
        at_once = "" if spent else f", and at once by `hub catch-up {store}`"
        yield (
            f"store {store} could not be polled since {spoken(one.failing_since)}: {one.error}; it is tried again by"
            f" itself{at_once}"
        )


def wait_notes(hub: Hub, found: Findings) -> Iterator[str]:
    """What goes on by itself: stores' spent hours, what waits for those, and destinations that asked to wait."""
    yield from budget_notes(hub, found)
    yield from unpolled_notes(hub, found, spent=True)
    for route, state in found.numbers.states.items():
        if route in found.configured and state.stopped_until is not None and state.stopped_until > found.now:
            yield f"the destination of route {route} asked to wait until {spoken(state.stopped_until)}"


def notes(found: Findings) -> Iterator[str]:
    """What to know of routes and replays that is no trouble of the hub's own."""
    for route, state in found.numbers.states.items():
        if route in found.configured and state.paused_at is not None:
            counts = found.numbers.counts.get(route, {})
            waiting = counts.get("pending", 0) + counts.get("held", 0)
            why = f" ({state.paused_reason})" if state.paused_reason else ""
            yield (
                f"route {route} is paused since {spoken(state.paused_at)} by {state.paused_by}{why}; {waiting} wait;"
                f" `hub resume {route}` goes on"
            )
    for route, counts in sorted(found.numbers.counts.items()):
        if counts.get("held"):
            yield f"{counts['held']} on route {route} are held for a person: `hub deliveries --status held`"
    if found.reorders:
        wait = "1 order to a supplier waits" if found.reorders == 1 else f"{found.reorders} orders to suppliers wait"
        yield f"{wait} for a person: `hub reorders --state waiting`, then `hub reorders approve` or `drop`"
    for row in found.numbers.dead:
        yield (
            f"{row.count} on route {row.route} are dead, such as: {row.reason};"
            f" `hub replay --status dead --route {row.route}` {remedy_of(row.error_key).replace(' it ', ' them ')}"
        )
    for replay in found.replays:
        yield replay_note(replay)


def replay_told(row: Row[Any]) -> dict[str, Any]:
    """The same as data; `until`: when the last is due of those that are all set going."""
    until = replays.last_due(row) if row.state == "done" else None
    return chosen(row, REPLAY_TOLD) | {"until": plain(until)}


def replay_note(row: Row[Any]) -> str:
    """A replay, release or cancel that is not over: still going on, or spread over time."""
    if row.state == "done":
        far = f"spreads {row.done} until {spoken(replays.last_due(row))}"
    else:
        far = f"has come to {row.done} of {row.total}"
    return f"{row.action} {row.id} of {row.who} {far}; `hub replay --stop {row.id}` stops it"


def routes_json(hub: Hub, found: Findings) -> dict[str, Any]:
    """Each route: counts, oldest due, pause and breaker; routes that are gone only while something is left there."""
    why = blocked(found.numbers.states.values(), found.configured)
    shown: dict[str, Any] = {}
    for name, state in found.numbers.states.items():
        counts = found.numbers.counts.get(name, {})
        if name not in found.configured and not counts:
            continue
        # As lists show it: what a paused, broken or gone route keeps from going is held.
        waits = max(0, counts.get("pending", 0) - found.numbers.under_way.get(name, 0)) if name in why else 0
        shown[name] = {
            "connector": hub.config.routes[name].connector if name in found.configured else None,
            "state": why.get(name, "ok"),
            "pending": counts.get("pending", 0) - waits,
            "held": counts.get("held", 0) + waits,
            "dead": counts.get("dead", 0),
            "oldest_due": plain(found.numbers.oldest_due.get(name)),
            "behind": name not in why and is_behind(found, name),
            "paused_at": plain(state.paused_at),
            "paused_by": state.paused_by,
            "paused_reason": state.paused_reason,
            "open_since": plain(state.opened_at),
            "open_reason": state.open_reason if state.opened_at else None,
            "next_probe": plain(state.probe_at) if state.opened_at else None,
            "stopped_until": plain(state.stopped_until),
        }
    return shown


def left_at(hub: Hub, found: Findings, store: str) -> Left:
    """What is left of a configured store's hour of requests."""
    rate = hub.config.stores[store].rate
    return left_of(found.hours.get(store, Hour()), rate.limit, rate.reserve, found.now)


def is_spent(hub: Hub, found: Findings, store: str) -> bool:
    """Whether so little is left of a store's hour that background work waits."""
    if store not in hub.config.stores:
        return False
    left = left_at(hub, found, store)
    return left.ends is not None and left.left <= left.reserve


def stores_json(hub: Hub, found: Findings) -> dict[str, Any]:
    """Each configured store: where it is, how it is asked, what is `left` of the hour's `limit`, and who `spent` most.

    `reserve` is the part that background work leaves alone; `resets_at` is None before the hour's first request.
    """
    shown: dict[str, Any] = {}
    for name, store in hub.config.stores.items():
        left = left_at(hub, found, name)
        shown[name] = {
            "url": store.url,
            "profile": store.profile,
            "api_key": store.api_key is not None,
            "left": left.left,
            "limit": left.limit,
            "reserve": left.reserve,
            "resets_at": plain(left.ends),
            "spent": [{"who": who, "count": count} for who, count in left.spent[:MOST_SPENDERS]],
        }
    return shown


def budget_notes(hub: Hub, found: Findings) -> Iterator[str]:
    """Stores of whose hour so little is left that something waits."""
    for name in hub.config.stores:
        left = left_at(hub, found, name)
        if left.ends is not None and is_spent(hub, found, name):
            who = "all that asks it waits" if left.left == 0 else "background work waits, deliveries go on"
            yield (
                f"{left.left} of the {left.limit} requests an hour to store {name} are left until {spoken(left.ends)}:"
                f" {who}; `hub stores` says who spent them"
            )
