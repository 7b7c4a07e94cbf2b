"""Retention: what is dropped of old events, and hourly counts carried together. Each write is short.

A delivery's row lock stands between this and a replay of it: who holds it decides first, and the other sees it. So
nothing that is due ever meets an event whose body is gone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from hub.clock import id_at
from hub.store import ATTEMPT, DELIVERY, EVENT, REPEAT, STAT
from hub.store.reading import SAMPLED, SLACK
from hub.store.stats import CARRIED, add_counts, hour_of, kind_of

# Rows looked at in one read.
STRETCH = 1_000
STATS_KEPT = timedelta(days=35)
MOST_STATS = 500


@dataclass(frozen=True)
class Bounds:
    """Events received before `done` lose their body where all is done; before `dead`, where something is dead."""

    done: datetime
    dead: datetime


@dataclass(frozen=True)
class Stretch:
    """Events looked at up to `until`; `first` is the first whole one among them; `seqs` those that may be dropped."""

    until: int
    first: int | None
    seqs: list[int]


def last_old(connection: Connection, bounds: Bounds) -> int:
    """No event with a greater `seq` is old enough. By ids, which begin with their time and are indexed."""
    newest = id_at("evt", max(bounds.done, bounds.dead) + SLACK)
    near = select(EVENT.c.seq).where(EVENT.c.id <= newest).order_by(EVENT.c.id.desc()).limit(SAMPLED)
    return connection.execute(select(func.max(near.subquery().c.seq))).scalar() or 0


def stretch(connection: Connection, bounds: Bounds, after: int, last: int) -> Stretch:
    """Look at the next events after `after`, at most up to `last`."""
    near = select(EVENT.c.seq).where(EVENT.c.seq > after, EVENT.c.seq <= last).order_by(EVENT.c.seq).limit(STRETCH)
    until = connection.execute(select(func.max(near.subquery().c.seq))).scalar()
    if until is None:
        return Stretch(last, None, [])
    within = and_(EVENT.c.seq > after, EVENT.c.seq <= until, EVENT.c.body.is_not(None))
    first = connection.execute(select(func.min(EVENT.c.seq)).where(within)).scalar()
    found = select(EVENT.c.seq).where(within, _may_go(bounds)).order_by(EVENT.c.seq)
    return Stretch(until, first, list(connection.execute(found).scalars()))


def _may_go(bounds: Bounds) -> ColumnElement[bool]:
    """Old enough, fanned out, and nothing of it is pending, held or under way; where something is dead, old enough."""

    def has(*conditions: Any) -> ColumnElement[bool]:
        return select(DELIVERY.c.id).where(DELIVERY.c.event_id == EVENT.c.id, *conditions).exists()

    open_one = or_(DELIVERY.c.status.in_(("pending", "held")), DELIVERY.c.lease_until.is_not(None))
    dead = has(DELIVERY.c.status == "dead")
    old = or_(and_(EVENT.c.received_at < bounds.done, ~dead), and_(EVENT.c.received_at < bounds.dead, dead))
    return and_(EVENT.c.fanned_out_at.is_not(None), old, ~has(open_one))


def drop(connection: Connection, bounds: Bounds, seqs: Sequence[int]) -> int:
    """Drop bodies, headers, repeats and attempts of those of these events that still may go; how many they were.

    What somebody else is just changing is left for the next time: this waits for nobody, and so keeps nobody waiting.
    """
    whole = select(EVENT.c.id).where(EVENT.c.seq.in_(seqs), EVENT.c.body.is_not(None))
    ids = connection.execute(whole.order_by(EVENT.c.seq).with_for_update(skip_locked=True)).scalars().all()
    ours = select(DELIVERY.c.id).where(DELIVERY.c.event_id.in_(ids)).with_for_update(skip_locked=True)
    locked = connection.execute(ours).scalars().all()
    # In a statement of its own, which sees what was committed before the locks were had.
    others = select(DELIVERY.c.id).where(DELIVERY.c.event_id == EVENT.c.id, DELIVERY.c.id.not_in(locked)).exists()
    going = connection.execute(select(EVENT.c.id).where(EVENT.c.id.in_(ids), ~others, _may_go(bounds))).scalars().all()
    gone = select(DELIVERY.c.id).where(DELIVERY.c.event_id.in_(going))
    connection.execute(delete(ATTEMPT).where(ATTEMPT.c.delivery_id.in_(connection.execute(gone).scalars().all())))
    connection.execute(delete(REPEAT).where(REPEAT.c.event_id.in_(going)))
    connection.execute(update(EVENT).where(EVENT.c.id.in_(going)).values(body=None, headers=None))
    return len(going)


def late_repeats(connection: Connection, before: datetime, after: str, most: int) -> list[str]:
    """Repeats older than `before` that came to events whose body is gone: the next ids after `after`."""
    event_gone = select(EVENT.c.id).where(EVENT.c.id == REPEAT.c.event_id, EVENT.c.body.is_(None)).exists()
    old = select(REPEAT.c.id).where(REPEAT.c.id > after, REPEAT.c.id < id_at("rpt", before), event_gone)
    return list(connection.execute(old.order_by(REPEAT.c.id).limit(most)).scalars())


def drop_repeats(connection: Connection, ids: Sequence[str]) -> None:
    """Drop these repeats."""
    connection.execute(delete(REPEAT).where(REPEAT.c.id.in_(ids)))


def carry_stats(connection: Connection, now: datetime) -> int:
    """Carry hourly counts older than 35 days into one of 1970 for each kind, name and label; how many there were.

    So sums over all hours stay true. Some at a time: call it until it returns 0.
    """
    old = select(STAT.c.hour).where(STAT.c.hour > CARRIED, STAT.c.hour < hour_of(now - STATS_KEPT))
    hours = connection.execute(old.order_by(STAT.c.hour).limit(MOST_STATS)).scalars().all()
    if not hours:
        return 0
    # What another worker has taken meanwhile is not returned.
    taken = delete(STAT).where(STAT.c.hour > CARRIED, STAT.c.hour <= hours[-1])
    rows = connection.execute(taken.returning(STAT.c.kind, STAT.c.name, STAT.c.label, STAT.c.count)).all()
    added: Counter[tuple[datetime, str, str, str]] = Counter()
    for kind, name, label, number in rows:
        added[CARRIED, kind_of(kind), name, label] += number
    add_counts(connection, added)
    return len(rows)
