"""Catching up: how far each store is polled, who polls it now, and which of what it found has no event yet.

Nothing here decides what becomes an event: hub/catch_up.py does.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    case,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)

from hub.clock import MICROSECOND, from_micros
from hub.event import STATE_EVENTS
from hub.models import Moment
from hub.store import ATTEMPT, CATCH_UP, DELIVERY, EVENT, EVENT_KEY, STAT, insert_into
from hub.store.events import POLLED, Kept, NewEvent, keep_events
from hub.store.stats import add_counts, hour_of

COUNTED = "caught_up"
DAY = timedelta(hours=24)
# A webhook's own time counts as long as it is not beyond the hub's by more than clocks are.
AHEAD = timedelta(minutes=5)
# Times at the store may be whole seconds, and its clock another than the hub's.
NEAR = timedelta(seconds=2)


@dataclass(frozen=True)
class Mark:
    """How far one resource of a store is polled: what changed up to `seen_to` is looked at, none before `since`."""

    since: datetime
    seen_to: datetime


@dataclass(frozen=True)
class Latest:
    """The newest event of an entity, if polling found it: its id and content."""

    event_id: str
    content_hash: bytes


def begin(
    connection: Connection, now: datetime, stores: Collection[str], resources: Collection[str], *, alone: bool
) -> None:
    """Remember from when on these stores are caught up on; the others begin anew when it is on for them again.

    `alone`: no other process is there, so whoever polled has ended.
    """
    connection.execute(delete(CATCH_UP).where(CATCH_UP.c.store.not_in(stores)))
    if alone:
        connection.execute(update(CATCH_UP).values(lease_by=None, lease_until=None))
    insert = insert_into(connection, CATCH_UP)
    rows = [
        {"store": store, "resource": resource, "since": now, "seen_to": now}
        for store in sorted(stores)
        for resource in sorted(resources)
    ]
    if rows:
        connection.execute(insert.on_conflict_do_nothing(), rows)


def take(
    connection: Connection, now: datetime, store: str, by: str, until: datetime, polled_before: datetime | None = None
) -> dict[str, Mark]:
    """Poll this store until then, unless somebody does: how far each resource is; empty where somebody does.

    `polled_before`: only what was polled before, or never, or failed.
    """
    conditions = [CATCH_UP.c.store == store, or_(CATCH_UP.c.lease_until.is_(None), CATCH_UP.c.lease_until <= now)]
    if polled_before is not None:
        failing = or_(CATCH_UP.c.polled_at.is_(None), CATCH_UP.c.failing_since.is_not(None))
        conditions.append(or_(failing, CATCH_UP.c.polled_at < polled_before))
    taken = update(CATCH_UP).where(*conditions).values(lease_by=by, lease_until=until)
    rows = connection.execute(taken.returning(CATCH_UP.c.resource, CATCH_UP.c.since, CATCH_UP.c.seen_to)).all()
    return {row.resource: Mark(row.since, row.seen_to) for row in rows}


def renew(connection: Connection, by: str, until: datetime) -> None:
    """Go on polling until then."""
    connection.execute(update(CATCH_UP).where(CATCH_UP.c.lease_by == by).values(lease_until=until))


def give_back(connection: Connection, by: str) -> None:
    """Poll no more."""
    ours = update(CATCH_UP).where(CATCH_UP.c.lease_by == by)
    connection.execute(ours.values(lease_by=None, lease_until=None))


def polled(connection: Connection, now: datetime, store: str, resource: str, seen_to: datetime) -> None:
    """All that changed up to `seen_to` is looked at."""
    values = {"polled_at": now, "seen_to": seen_to, "failing_since": None, "error": None, "alerted_at": None}
    connection.execute(_row(store, resource).values(**values))


def not_polled(connection: Connection, now: datetime, store: str, resource: str, error: str) -> None:
    """It could not be polled, for the reason `error`."""
    since = func.coalesce(CATCH_UP.c.failing_since, literal(now, Moment))
    connection.execute(_row(store, resource).values(failing_since=since, error=error))


def _row(store: str, resource: str) -> Any:
    return update(CATCH_UP).where(CATCH_UP.c.store == store, CATCH_UP.c.resource == resource)


def known_keys(connection: Connection, store: str, keys: Collection[bytes]) -> set[bytes]:
    """Those of these keys under which the store has an event."""
    query = select(EVENT.c.dedupe_key).where(EVENT.c.store == store, EVENT.c.dedupe_key.in_(keys))
    return {bytes(key) for key in connection.execute(query).scalars()}


def keep_found(connection: Connection, now: datetime, items: Sequence[NewEvent]) -> list[Kept]:
    """Keep what polling found, as events; those that are new are counted. A batch for the group commit."""
    kept = keep_events(connection, now, items)
    new = [event for event, one in zip(items, kept, strict=True) if not one.duplicate]
    add_counts(connection, Counter((hour_of(now), COUNTED, event.store, event.type) for event in new))
    return kept


def came_in(connection: Connection, store: str, kind: str, ids: Collection[str]) -> dict[str, datetime]:
    """By the id of each of these entities: the latest moment at which an event of it came in or says to be of.

    A repeat of an event that tells of a state came in too: it made its state-reading deliveries look again.
    """
    received, occurred = (type_coerce(column, BigInteger) for column in (EVENT.c.received_at, EVENT.c.occurred_at))
    repeated = case((EVENT.c.type.in_(sorted(STATE_EVENTS)), type_coerce(EVENT.c.last_repeat_at, BigInteger)))
    ahead = AHEAD // MICROSECOND
    moments = (received, case((occurred <= received + ahead, occurred)), repeated)
    events = _events_of(store, kind, ids).subquery()
    query = select(EVENT.c.entity, *(func.max(one) for one in moments)).where(EVENT.c.seq.in_(select(events.c.seq)))
    found: dict[str, datetime] = {}
    for entity, *latest in connection.execute(query.group_by(EVENT.c.entity)):
        found[entity.partition(":")[2]] = from_micros(max(one for one in latest if one is not None))
    return found


def _events_of(store: str, kind: str, ids: Collection[str]) -> Any:
    """The numbers of these entities' events: found by their search keys, or still to be fanned out."""
    entities = [f"{kind}:{one}" for one in ids]
    keyed = (
        select(EVENT.c.seq)
        .join(EVENT_KEY, EVENT_KEY.c.event_id == EVENT.c.id)
        .where(EVENT_KEY.c.value.in_(ids), EVENT_KEY.c.kind == kind, EVENT_KEY.c.store == store)
        .where(EVENT.c.store == store, EVENT.c.entity.in_(entities))
    )
    waiting = select(EVENT.c.seq).where(
        EVENT.c.fanned_out_at.is_(None), EVENT.c.store == store, EVENT.c.entity.in_(entities)
    )
    return union_all(keyed, waiting)


def latest_if_polled(connection: Connection, store: str, kind: str, entity_id: str) -> Latest | None:
    """The entity's newest event, where that is a change that polling found."""
    events = _events_of(store, kind, [entity_id]).subquery()
    newest = select(EVENT).where(EVENT.c.seq.in_(select(events.c.seq))).order_by(EVENT.c.seq.desc()).limit(1)
    row = connection.execute(newest).first()
    if row is None or row.origin != POLLED or row.type not in STATE_EVENTS:
        return None
    return Latest(row.id, bytes(row.content_hash))


def at_work(connection: Connection, event_id: str, moment: datetime) -> bool:
    """Whether an attempt to deliver this event was under way at that moment, as far as two clocks can tell."""
    ours = select(ATTEMPT).join(DELIVERY, DELIVERY.c.id == ATTEMPT.c.delivery_id).where(DELIVERY.c.event_id == event_id)
    return any(
        row.started_at - NEAR <= moment <= row.started_at + timedelta(milliseconds=row.duration_ms or 0) + NEAR
        for row in connection.execute(ours)
    )


@dataclass(frozen=True)
class Polling:
    """How a store's polling stands: `caught_up` by type of event, how many of the last 24 hours no webhook had brought.

    `polled_at`: all of it was polled then or later; `failing_since` with `error`: something could not be.
    """

    since: datetime
    polled_at: datetime | None
    failing_since: datetime | None
    error: str | None
    caught_up: Mapping[str, int]

    @property
    def missing(self) -> int:
        """How many should have come. A product changes with each sale, and of that no store says that it tells."""
        return sum(count for type, count in self.caught_up.items() if type != "product.updated")


def pollings(connection: Connection, now: datetime) -> dict[str, Polling]:
    """Of each store that is caught up on."""
    caught, rows = caught_up(connection, now), connection.execute(select(CATCH_UP)).all()
    return {
        store: _polling([row for row in rows if row.store == store], caught.get(store, {}))
        for store in sorted({row.store for row in rows})
    }


def _polling(rows: Sequence[Row[Any]], caught: Mapping[str, int]) -> Polling:
    polled = [row.polled_at for row in rows]
    failing = sorted((row.failing_since, row.resource, row.error) for row in rows if row.failing_since is not None)
    since, resource, error = failing[0] if failing else (None, None, None)
    return Polling(
        min(row.since for row in rows),
        None if None in polled else min(polled),
        since,
        f"{resource}: {error}" if failing else None,
        caught,
    )


def caught_up(connection: Connection, now: datetime) -> Mapping[str, Mapping[str, int]]:
    """By store and type: how many events of the last 24 hours no webhook had brought."""
    count = cast(func.sum(STAT.c.count), BigInteger)
    recent = select(STAT.c.name, STAT.c.label, count).where(STAT.c.kind == COUNTED, STAT.c.hour >= now - DAY)
    found: dict[str, dict[str, int]] = {}
    for name, label, number in connection.execute(recent.group_by(STAT.c.name, STAT.c.label)):
        found.setdefault(name, {})[label] = number
    return found
