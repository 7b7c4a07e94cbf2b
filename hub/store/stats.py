"""The hour's counts, written in the transactions that they count, so that every process's part is in them.

Kinds: `event` (name: store, label: type), `delivery` (name: route, label: what became of an attempt, or of a delivery
without one), `attempt_ms` (name: route, label `sum`: milliseconds), `refused` (name: store, label: code).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from hub.store import STAT
from hub.store.wide import insert_rows

COUNTED = ("event", "delivery")
COLUMNS = ("hour", "kind", "name", "label", "count")
ADDED = "ON CONFLICT (hour, kind, name, label) DO UPDATE SET count = stat.count + excluded.count"

Counts = Mapping[tuple[datetime, str, str, str], int]


@dataclass(frozen=True)
class HourCount:
    """How many in the hour that begins at `hour`."""

    hour: datetime
    kind: str
    name: str
    label: str
    count: int


def hour_of(moment: datetime) -> datetime:
    """When the hour of `moment` began."""
    return moment.replace(minute=0, second=0, microsecond=0)


def add_counts(connection: Connection, counts: Counts) -> None:
    """Add to the counts of (hour, kind, name, label), in one order in every process, or two wait for each other."""
    if counts:
        insert_rows(connection, STAT, COLUMNS, [(*key, counts[key]) for key in sorted(counts)], ADDED)


def hourly(connection: Connection, since: datetime) -> list[HourCount]:
    """The events and deliveries of the hours that began at `since` or later, oldest first."""
    found = select(STAT).where(STAT.c.hour >= since, STAT.c.kind.in_(COUNTED))
    rows = connection.execute(found.order_by(STAT.c.hour, STAT.c.kind, STAT.c.name, STAT.c.label))
    return [HourCount(row.hour, row.kind, row.name, row.label, row._mapping["count"]) for row in rows]
