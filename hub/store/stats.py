"""The hour's counts, as charts read them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from hub.store import STAT

COUNTED = ("event", "delivery")


@dataclass(frozen=True)
class HourCount:
    """How many in the hour that begins at `hour`.

    `kind` event: `name` is the store, `label` the type. `kind` delivery: `name` is the route, `label` the outcome.
    """

    hour: datetime
    kind: str
    name: str
    label: str
    count: int


def hourly(connection: Connection, since: datetime) -> list[HourCount]:
    """The counts of the hours that began at `since` or later, oldest first."""
    found = select(STAT).where(STAT.c.hour >= since, STAT.c.kind.in_(COUNTED))
    rows = connection.execute(found.order_by(STAT.c.hour, STAT.c.kind, STAT.c.name, STAT.c.label))
    return [HourCount(row.hour, row.kind, row.name, row.label, row._mapping["count"]) for row in rows]
