"""Alerts: what has not been told yet, and what was told of each matter. One process tells at a time.

Nothing here decides what is told: hub/alerts.py does.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, func, select, text, update

from hub.config import RESERVED_STORE
from hub.store import (
    ALERT,
    CATCH_UP,
    DELIVERY,
    EVENT,
    REGISTRATIONS,
    ROUTE_STATE,
    STAT,
    insert_into,
    is_postgres,
    reordering,
)
from hub.store.reading import PENDING, blocked, oldest_due
from hub.store.stats import hour_of

# In the words of the partial index delivery_untold.
UNTOLD = text("delivery.status = 'dead' AND delivery.alerted <> delivery.attempts")
MOST_DEAD = 500
MOST_COUNTED = 10_000
HOUR = timedelta(hours=1)
# The name of PostgreSQL's lock that lets one process tell at a time: any number, the same in all of them.
TELLING = 7_241_100_326

# Not the hub's own events: an alert about an alert is never sent.
WAITING = (PENDING, DELIVERY.c.lease_until.is_(None), DELIVERY.c.store != RESERVED_STORE)
# One cheap look at all routes; which of them are really late is asked of these few.
LATE_ROUTES = select(ROUTE_STATE).where(
    exists().where(*WAITING, DELIVERY.c.route == ROUTE_STATE.c.route, DELIVERY.c.next_attempt_at < bindparam("latest"))
)

Key = tuple[str, str, str]
"""A matter: the kind of event, a route or store, the reason's key."""


@dataclass(frozen=True, slots=True)
class Late:
    """What waits for longer than it should: on `route`, or, where that is None, for fan-out. `count` has a bound."""

    route: str | None
    since: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Found:
    """What the database has to tell. `refused`: by store and code, how many in each of the last hours.

    `unpolled` are stores' resources that cannot be polled, `unregistered` stores whose registrations are wrong,
    `orders` those that wait for a person, `expired` reorders that were open for as long as they may be, or whose route
    is gone.
    """

    dead: Sequence[Any]
    held: Sequence[Any]
    refused: Mapping[tuple[str, str], Mapping[datetime, int]]
    late: Sequence[Late]
    unpolled: Sequence[Row[Any]]
    unregistered: Sequence[Row[Any]]
    orders: Sequence[Row[Any]]
    expired: Sequence[Row[Any]]
    known: Mapping[Key, Row[Any]]

    @property
    def once(self) -> bool:
        """Whether there is something that is marked once it is told."""
        return bool(self.dead or self.held or self.unpolled or self.unregistered or self.orders or self.expired)


@dataclass(frozen=True, slots=True)
class Watched:
    """Of what is looked whether it is late: routes, each with whether it is ordered, and what waits for fan-out.

    `late_after` is how long something may wait, `failing_after` by store how long polling it may fail. `configured`
    are all routes of the config.
    """

    routes: Mapping[str, bool]
    fan_out: bool
    late_after: timedelta
    failing_after: Mapping[str, timedelta]
    configured: Collection[str]


def alone(connection: Connection) -> bool:
    """Whether this transaction is the only one that tells; SQLite has one writer anyway."""
    if not is_postgres(connection):
        return True
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(TELLING))).scalar())


def known_alerts(connection: Connection) -> dict[Key, Row[Any]]:
    """What was told of each matter."""
    return {(row.kind, row.name, row.label): row for row in connection.execute(select(ALERT))}


def find(connection: Connection, now: datetime, known: Mapping[Key, Row[Any]], watched: Watched) -> Found:
    """All that may have to be told. What is dead or held is locked, unless somebody else has it just now."""
    untold = select(
        DELIVERY.c.id, DELIVERY.c.store, DELIVERY.c.route, DELIVERY.c.entity, DELIVERY.c.error_key,
        DELIVERY.c.last_error,
    ).where(UNTOLD).order_by(DELIVERY.c.route).limit(MOST_DEAD)  # fmt: skip
    opened = select(ROUTE_STATE).where(
        ROUTE_STATE.c.opened_at.is_not(None), ROUTE_STATE.c.alerted_at.is_distinct_from(ROUTE_STATE.c.opened_at)
    )
    return Found(
        dead=connection.execute(untold.with_for_update(skip_locked=True)).all(),
        held=connection.execute(opened.order_by(ROUTE_STATE.c.route).with_for_update(skip_locked=True)).all(),
        refused=_refused(connection, _refused_from(now, known)),
        late=_late(connection, now, watched),
        unpolled=_unpolled(connection, now, watched.failing_after),
        unregistered=_unregistered(connection),
        orders=reordering.untold_orders(connection, now),
        expired=reordering.expired(connection, now, watched.configured),
        known=known,
    )


def _unpolled(connection: Connection, now: datetime, after: Mapping[str, timedelta]) -> list[Row[Any]]:
    failing = select(CATCH_UP).where(
        CATCH_UP.c.failing_since.is_not(None), CATCH_UP.c.alerted_at.is_distinct_from(CATCH_UP.c.failing_since)
    )
    rows = connection.execute(failing.order_by(CATCH_UP.c.store, CATCH_UP.c.resource))
    return [row for row in rows if row.store in after and row.failing_since <= now - after[row.store]]


def _unregistered(connection: Connection) -> Sequence[Row[Any]]:
    wrong = select(REGISTRATIONS).where(
        REGISTRATIONS.c.wrong_since.is_not(None),
        REGISTRATIONS.c.alerted_at.is_distinct_from(REGISTRATIONS.c.wrong_since),
    )
    return connection.execute(wrong.order_by(REGISTRATIONS.c.store)).all()


def _refused_from(now: datetime, known: Mapping[Key, Row[Any]]) -> datetime:
    first = min((row.first_at for row in known.values()), default=now)
    return min(hour_of(first), hour_of(now) - HOUR)


def _refused(connection: Connection, since: datetime) -> dict[tuple[str, str], dict[datetime, int]]:
    counts: defaultdict[tuple[str, str], dict[datetime, int]] = defaultdict(dict)
    for row in connection.execute(select(STAT).where(STAT.c.hour >= since, STAT.c.kind == "refused")):
        counts[row.name, row.label][row.hour] = row._mapping["count"]
    return counts


def _late(connection: Connection, now: datetime, watched: Watched) -> list[Late]:
    latest = now - watched.late_after
    states = connection.execute(LATE_ROUTES, {"latest": latest}).all()
    held_up = blocked(states, watched.routes).keys()
    found = [
        _late_route(connection, now, latest, state.route, watched.routes[state.route])
        for state in states
        if state.route not in held_up and (state.stopped_until is None or state.stopped_until <= now)
    ]
    return [late for late in (*found, _late_fan_out(connection, latest) if watched.fan_out else None) if late]


def _late_route(connection: Connection, now: datetime, latest: datetime, route: str, ordered: bool) -> Late | None:
    since = oldest_due(connection, now, route, ordered, besides=RESERVED_STORE)
    if since is None or since >= latest:
        return None
    due = select(DELIVERY.c.id).where(*WAITING, DELIVERY.c.route == route, DELIVERY.c.next_attempt_at <= now)
    some = due.limit(MOST_COUNTED).subquery()
    return Late(route, since, connection.execute(select(func.count()).select_from(some)).scalar_one())


def _late_fan_out(connection: Connection, latest: datetime) -> Late | None:
    waiting = select(EVENT.c.received_at).where(EVENT.c.fanned_out_at.is_(None), EVENT.c.store != RESERVED_STORE)
    waiting = waiting.order_by(EVENT.c.seq)
    since = connection.execute(waiting.limit(1)).scalar()
    if since is None or since >= latest:
        return None
    some = waiting.limit(MOST_COUNTED).subquery()
    return Late(None, since, connection.execute(select(func.count()).select_from(some)).scalar_one())


def mark_told(connection: Connection, now: datetime, found: Found) -> None:
    """Each death, opening of a breaker, beginning of trouble and held order counts as told; what expired is closed."""
    if found.dead:
        told = update(DELIVERY).where(DELIVERY.c.id.in_([row.id for row in found.dead]))
        connection.execute(told.values(alerted=DELIVERY.c.attempts))
    for row in found.held:
        connection.execute(
            update(ROUTE_STATE).where(ROUTE_STATE.c.route == row.route).values(alerted_at=ROUTE_STATE.c.opened_at)
        )
    for row in found.unpolled:
        ours = update(CATCH_UP).where(CATCH_UP.c.store == row.store, CATCH_UP.c.resource == row.resource)
        connection.execute(ours.values(alerted_at=CATCH_UP.c.failing_since))
    for row in found.unregistered:
        ours = update(REGISTRATIONS).where(REGISTRATIONS.c.store == row.store)
        connection.execute(ours.values(alerted_at=REGISTRATIONS.c.wrong_since))
    for row in found.orders:
        reordering.order_told(connection, now, row)
    if found.expired:
        reordering.expire(connection, now, found.expired)


def remember(connection: Connection, key: Key, values: Mapping[str, Any]) -> None:
    """Write what was told of a matter."""
    kind, name, label = key
    insert = insert_into(connection, ALERT)
    row = insert.values(kind=kind, name=name, label=label, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["kind", "name", "label"], set_=dict(values)))


def forget_alert(connection: Connection, key: Key) -> None:
    """The matter is closed, and nothing that counts is remembered of it."""
    kind, name, label = key
    connection.execute(delete(ALERT).where(ALERT.c.kind == kind, ALERT.c.name == name, ALERT.c.label == label))
