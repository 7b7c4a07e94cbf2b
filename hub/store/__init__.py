"""Every query of the hub, as functions over a SQLAlchemy Connection, the same for SQLite and PostgreSQL.

Functions that take `(connection, now, items)` are batches for the group commit (hub.writer): they return one
result for each item. Those that take `(connection, …)` are one read or one transaction of their own.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, literal_column
from sqlalchemy.dialects import postgresql, sqlite

from hub import models


def table(model: Any) -> Table:
    """The SQLAlchemy table of a SQLModel class."""
    found: Table = model.__table__
    return found


EVENT = table(models.Event)
REPEAT = table(models.Repeat)
DELIVERY = table(models.Delivery)
ATTEMPT = table(models.Attempt)
EFFECT = table(models.Effect)
ROUTE_STATE = table(models.RouteState)
EVENT_KEY = table(models.EventKey)
REFUSED = table(models.Refused)
REPLAY = table(models.Replay)
AUDIT = table(models.Audit)
STAT = table(models.Stat)
WORKER = table(models.Worker)
CATCH_UP = table(models.CatchUp)
REGISTRATIONS = table(models.Registrations)
ALERT = table(models.Alert)
SESSION = table(models.Session)
REORDER = table(models.Reorder)
REORDER_ORDER = table(models.ReorderOrder)
STOCK_SEEN = table(models.StockSeen)
STORE_BUDGET = table(models.StoreBudget)
SCHEMA_VERSION = table(models.SchemaVersion)


def is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def insert_into(connection: Connection, into: Table) -> Any:
    """An INSERT to which an ON CONFLICT can be added: each dialect has one of its own."""
    return postgresql.insert(into) if is_postgres(connection) else sqlite.insert(into)


def among(status: ColumnElement[Any], *names: str) -> ColumnElement[bool]:
    """`status` is one of `names`, written into the statement: no partial index is found by a parameter."""
    literals: list[ColumnElement[str]] = [literal_column(f"'{name}'") for name in names]
    return status == literals[0] if len(literals) == 1 else status.in_(literals)
