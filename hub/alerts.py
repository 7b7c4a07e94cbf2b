"""The hub's own events: who must be told of what, and when.

The first of a matter (a route or store, and a reason) is told at once, the rest of that hour in one summary at its
end. An hour without anything new closes the matter: the next is told at once again. Where nobody is named for a
matter no event is made, and it counts as told: naming a route later releases no flood of old ones. What became of the
hub's own events is never told.

All that was told stands in the database, and changes in the transaction that keeps the events: a process that ends
anywhere tells nothing twice and leaves nothing out.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from hub.alert_texts import (
    BEHIND,
    BEHIND_AFTER,
    DEAD,
    DISK,
    HELD,
    OF_ROUTES,
    REFUSAL_CAUSES,
    REFUSED,
    REORDER_EXPIRED,
    REORDER_HELD,
    UNKNOWN_STORE,
    UNPOLLED,
    UNREGISTERED,
    News,
    alert_data,
    together,
)
from hub.clock import from_micros, to_micros
from hub.config import RESERVED_STORE
from hub.receive import own_event
from hub.routing import alert_routes
from hub.runtime import Hub
from hub.store.alerts import (
    HOUR,
    MOST_DEAD,
    Found,
    Key,
    Watched,
    alone,
    find,
    forget_alert,
    known_alerts,
    mark_told,
    remember,
)
from hub.store.events import NewEvent, keep_events
from hub.store.stats import hour_of

# A reason may name its order, and every one then is another; nobody wants to be told of each.
MOST_REASONS = 5
NO_REASON = "no reason was recorded"
HOW_IT_EXPIRED = {
    "sent": "sent, and never closed since", "unsent": "never sent",
    "gone": "never sent, as that route is not in the config any more",
}  # fmt: skip
TOO_SLOW = "its destination is slow, or its rate or concurrency too small"
# Some worker runs, or this would not be told.
TOO_FEW = "the workers are too few for what comes in, or fail at it"
log = structlog.get_logger()


@dataclass(frozen=True)
class Step:
    """What happens to one matter: `tell` becomes an event, `row` is remembered; without a row it is forgotten."""

    key: Key
    row: Mapping[str, Any] | None
    tell: News | None = None
    summary: bool = False


async def raise_alerts(hub: Hub) -> int:
    """Tell what is new and what is due. 1 if there is more to come at once, else 0."""
    now = hub.now()
    found = await hub.database.read(lambda connection: _look(hub, connection, now))
    if not (found.once or list(_steps(hub, now, found))):
        return 0
    more, told = await hub.database.write(lambda connection: _tell(hub, connection, now))
    if told:
        hub.bells.ring("fan_out")
    for step in told:
        log.info("alert.raised", kind=step.key[0], name=step.key[1], label=step.key[2], summary=step.summary)
    return int(more)


def _look(hub: Hub, connection: Connection, now: datetime) -> Found:
    known = known_alerts(connection)
    return find(connection, now, known, _watched(hub, now, known))


def _tell(hub: Hub, connection: Connection, now: datetime) -> tuple[bool, list[Step]]:
    """Everything in one transaction; whether there is more, and the steps that became events."""
    if not alone(connection):
        return False, []
    found = _look(hub, connection, now)
    steps = list(_steps(hub, now, found))
    for step in steps:
        if step.row is None:
            forget_alert(connection, step.key)
        else:
            remember(connection, step.key, step.row)
    mark_told(connection, now, found)
    told = [step for step in steps if step.tell is not None]
    if told:
        keep_events(connection, now, [_event(hub, now, step) for step in told])
    return len(found.dead) == MOST_DEAD, told


def _watched(hub: Hub, now: datetime, known: Mapping[Key, Row[Any]]) -> Watched:
    """Nothing of which somebody knows already, or which nobody wants to know."""

    def wanted(route: str | None) -> bool:
        row = known.get((BEHIND, route or "", ""))
        told = row is not None and row.summary_at is not None and now < row.summary_at
        return not told and bool(alert_routes(hub.config, route))

    routes = {name: route.ordered for name, route in hub.config.routes.items() if wanted(name)}
    failing = {name: store.catch_up.failing_after for name, store in hub.config.stores.items() if store.catches_up}
    return Watched(routes, wanted(None), BEHIND_AFTER, failing, tuple(hub.config.routes))


def _steps(hub: Hub, now: datetime, found: Found) -> Iterator[Step]:
    """What there is to do about each matter that has news, or of which something is remembered."""
    news = _by_matter(_news(hub, now, found), {key for key, row in found.known.items() if row.summary_at is not None})
    for key in sorted(news.keys() | found.known.keys()):
        row, read = found.known.get(key), _this_hour(found, now, key)
        step = next_step(key, now, row, news.get(key), heard=_heard(hub, key), read=read)
        if step is not None:
            yield step


def _by_matter(found: Iterable[News], told: Collection[Key]) -> dict[Key, News]:
    """Each matter's news together. Of a route's dead that have ever new reasons the rest is one matter."""
    news: dict[Key, News] = {}
    reasons = Counter(key[:2] for key in told)
    for one in found:
        key = (one.kind, one.name, one.label)
        fresh = key not in news and key not in told
        if fresh and one.kind == DEAD and reasons[key[:2]] >= MOST_REASONS:
            key = (one.kind, one.name, "")
            rest = replace(one, label="", reason=f"several reasons, such as {one.reason}")
            news[key] = together(news.get(key), rest)
            continue
        reasons[key[:2]] += fresh
        news[key] = together(news.get(key), one)
    return news


def _heard(hub: Hub, key: Key) -> bool:
    kind, name, _ = key
    return bool(alert_routes(hub.config, name if kind in OF_ROUTES and name else None))


def next_step(
    key: Key, now: datetime, row: Row[Any] | None, news: News | None, *, heard: bool, read: int
) -> Step | None:
    """The rule. `row`: what is remembered of the matter; `heard`: somebody is named for it.

    `read`: of a running count, how much the hour of `now` has, all of which is in `news` or was told before.
    """
    if row is not None and row.summary_at is not None:
        if now < row.summary_at:
            return _gathered(key, row, news) if news is not None and not news.lasts else None
        kept = _kept(key, row)
        rest = kept if news is None else together(kept, news)
        if rest is not None and heard:
            return Step(key, _hour(now, read), rest, summary=True)
        return Step(key, _hour(now, read) | {"summary_at": None})
    if news is not None and heard:
        return Step(key, _hour(now, read), news)
    if news is not None and news.kind == REFUSED:
        return Step(key, _hour(now, read) | {"summary_at": None})
    # The hours that were read are looked at no more.
    over = row is not None and news is None and hour_of(row.first_at) < hour_of(now) - HOUR
    return Step(key, None) if over else None


def _hour(now: datetime, read: int) -> dict[str, Any]:
    """A matter's row at the beginning of an hour of which a summary will tell."""
    return {"first_at": now, "summary_at": now + HOUR, "count": 0, "seen": read, "reason": None, "entities": None}


def _gathered(key: Key, row: Row[Any], news: News) -> Step:
    """Put by for the summary."""
    rest = together(_kept(key, row), news)
    kept = {
        "since": to_micros(rest.since),
        "entities": rest.entities,
        "more": rest.more,
        "deliveries": rest.deliveries,
        "store": rest.store,
    }
    values = {"first_at": row.first_at, "summary_at": row.summary_at, "seen": row.seen + news.count}
    return Step(key, values | {"count": rest.count, "reason": rest.reason, "entities": kept})


def _kept(key: Key, row: Row[Any]) -> News | None:
    """What was put by since the matter was last told."""
    kept, count = row.entities, row._mapping["count"]
    if not count:
        return None
    since, entities, deliveries = from_micros(kept["since"]), tuple(kept["entities"]), tuple(kept["deliveries"])
    return News(*key, row.reason or NO_REASON, count, since, entities, kept["more"], deliveries, kept["store"])


def _news(hub: Hub, now: datetime, found: Found) -> Iterator[News]:
    for row in found.dead:
        if row.store != RESERVED_STORE:
            about = (row.entity,) if row.entity else ()
            reason = row.last_error or NO_REASON
            yield News(DEAD, row.route, row.error_key or "", reason, 1, now, about, 0, (row.id,), row.store)
    for row in found.held:
        reason = row.open_reason or NO_REASON
        yield News(HELD, row.route, reason.partition(":")[0][:60], reason, 1, row.opened_at)
    yield from _refusals(now, found)
    for late in found.late:
        yield News(BEHIND, late.route or "", "", TOO_SLOW if late.route else TOO_FEW, late.count, late.since)
    for row in found.unpolled:
        yield News(UNPOLLED, row.store, "", row.error or NO_REASON, 1, row.failing_since, store=row.store)
    for row in found.unregistered:
        yield News(UNREGISTERED, row.store, "", row.wrong or NO_REASON, 1, row.wrong_since, store=row.store)
    yield from _reorders(now, found)
    if hub.disk_low is not None:
        yield News(DISK, "", "", hub.disk_low, 1, now)


def _reorders(now: datetime, found: Found) -> Iterator[News]:
    """Orders that wait for a person, each by itself; and what was open for too long."""
    for row in found.orders:
        reason = f"order to {row.supplier}: {row.last_error or NO_REASON}"
        about, since = (f"reorder:{row.id}",), row.told_at or now
        yield News(REORDER_HELD, row.route, row.id, reason, 1, since, about, 0, (row.delivery_id,), row.store)
    for row in found.expired:
        label = "sent" if row.number else "unsent" if row.closes_at <= now else "gone"
        how = HOW_IT_EXPIRED[label]
        yield News(REORDER_EXPIRED, row.route, label, how, 1, now, (f"sku:{row.sku}",), store=row.store)


def _refusals(now: datetime, found: Found) -> Iterator[News]:
    """By how much the counts have grown since they were last read."""
    for (store, code), hours in sorted(found.refused.items()):
        row = found.known.get((REFUSED, store, code))
        since = hour_of(now) - HOUR if row is None else hour_of(row.first_at)
        grown = sum(count for hour, count in hours.items() if hour >= since) - (0 if row is None else row.seen)
        if grown > 0:
            named = None if store == UNKNOWN_STORE else store
            yield News(REFUSED, store, code, REFUSAL_CAUSES.get(code, code), grown, now, store=named)


def _this_hour(found: Found, now: datetime, key: Key) -> int:
    kind, name, label = key
    return found.refused.get((name, label), {}).get(hour_of(now), 0) if kind == REFUSED else 0


def _event(hub: Hub, now: datetime, step: Step) -> NewEvent:
    """The hub's own event; its key says which hour of which matter it tells of."""
    kind, name, label = step.key
    assert step.tell is not None
    data = alert_data(step.tell, now, hub.config.dashboard.public_url, summary=step.summary)
    once = b"a" + hashlib.sha256("\0".join((kind, name, label, str(to_micros(now)))).encode()).digest()
    return own_event(kind, _entity(step.tell), data, now, once)


def _entity(news: News) -> str | None:
    """What it is about: `route:big-orders`, `store:main`; the hub itself has no name."""
    if news.route is not None:
        return f"route:{news.route}"
    return f"store:{news.name}" if news.name else None
