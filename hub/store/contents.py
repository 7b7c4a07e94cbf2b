"""What a database holds, in a few numbers: for whoever copies it, or puts a copy in its place.

These run on every schema since the first, since a copy may be of an older version.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, inspect, select

from hub.store import DELIVERY, EVENT, SCHEMA_VERSION, among, is_postgres


@dataclass(frozen=True, slots=True)
class Contents:
    """The schema's version, events, when the newest was received, deliveries that are pending and held."""

    schema: str
    events: int
    newest: datetime | None
    pending: int
    held: int


def version(connection: Connection) -> str | None:
    """The schema's version, None for a database without tables."""
    if not inspect(connection).has_table(SCHEMA_VERSION.name):
        return None
    found: str | None = connection.execute(select(SCHEMA_VERSION.c.version_num)).scalar()
    return found


def size(connection: Connection) -> int | None:
    """The database's size in bytes, where it can be asked; None on SQLite, whose files tell."""
    if not is_postgres(connection):
        return None
    found: int = connection.execute(select(func.pg_database_size(func.current_database()))).scalar_one()
    return found


def contents(connection: Connection) -> Contents | None:
    """What a hub's database holds; None for any other."""
    schema = version(connection)
    if schema is None:
        return None
    events = connection.execute(select(func.count()).select_from(EVENT)).scalar_one()
    newest = connection.execute(select(EVENT.c.received_at).order_by(EVENT.c.seq.desc()).limit(1)).scalar()
    pending, held = (
        connection.execute(select(func.count()).where(among(DELIVERY.c.status, status))).scalar_one()
        for status in ("pending", "held")
    )
    return Contents(schema, events, newest, pending, held)
