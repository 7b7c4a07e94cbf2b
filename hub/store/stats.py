"""The hour's counts, written in the transactions that they count, so that every process's part is in them.

Kinds: `event` (name: store, label: type), `delivery` (name: route, label: what became of an attempt, or of a delivery
without one), `attempt_ms` (name: route, labels `sum`: milliseconds, `count`: the attempts that took them), `refused`
(name: store, label: code). Where processes would wait for each other's rows, each has its own: `event#PROCESS`. Hours
that are dropped one day leave their sums in rows of the hour 1970-01-01T00:00Z.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Connection, cast, func, select

from hub.store import STAT
from hub.store.wide import insert_rows

COUNTED = ("event", "delivery")
CARRIED = datetime(1970, 1, 1, tzinfo=UTC)
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


@dataclass(frozen=True)
class Total:
    """How many in all hours, those that were dropped included."""

    kind: str
    name: str
    label: str
    count: int


def hour_of(moment: datetime) -> datetime:
    """When the hour of `moment` began."""
    return moment.replace(minute=0, second=0, microsecond=0)


def add_counts(connection: Connection, counts: Counts, by: str | None = None) -> None:
    """Add to the counts of (hour, kind, name, label), in one order in every process, or two wait for each other.

    `by`: the process, where nothing else keeps it from meeting another at a row; each then has rows of its own.
    """
    own = "" if by is None else f"#{by}"
    rows = [(hour, f"{kind}{own}", name, label, counts[hour, kind, name, label])
            for hour, kind, name, label in sorted(counts)]  # fmt: skip
    if rows:
        insert_rows(connection, STAT, COLUMNS, rows, ADDED)


def kind_of(kind: str) -> str:
    """A row's kind, whichever process it is of."""
    return kind.partition("#")[0]


def add_endings(connection: Connection, now: datetime, endings: Iterable[tuple[str, str]]) -> None:
    """Add what became of deliveries without a record of an attempt: (route, label) for each."""
    hour = hour_of(now)
    add_counts(connection, Counter((hour, "delivery", route, label) for route, label in endings))


def hourly(connection: Connection, since: datetime) -> list[HourCount]:
    """The events and deliveries of the hours that began at `since` or later, oldest first."""
    rows = connection.execute(select(STAT).where(STAT.c.hour >= since, STAT.c.hour > CARRIED))
    counts: Counter[tuple[datetime, str, str, str]] = Counter()
    for row in rows:
        counts[row.hour, kind_of(row.kind), row.name, row.label] += row._mapping["count"]
    return [HourCount(*key, counts[key]) for key in sorted(counts) if key[1] in COUNTED]


def totals(connection: Connection) -> list[Total]:
    """The sums over all hours, by kind, name and label."""
    # PostgreSQL's sum of integers is a numeric.
    count = cast(func.sum(STAT.c.count), BigInteger).label("total")
    keys = (STAT.c.kind, STAT.c.name, STAT.c.label)
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in connection.execute(select(*keys, count).group_by(*keys)):
        counts[kind_of(row.kind), row.name, row.label] += row.total
    return [Total(*key, counts[key]) for key in sorted(counts)]
