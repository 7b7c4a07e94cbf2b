"""One statement for many rows: an INSERT or UPDATE whatever their number.

`executemany` gives the GIL back for each row, and SQLAlchemy compiles a VALUES of many rows anew each time; these two
made up half of a delivery's cost. So the few statements that every event and delivery passes are made by hand from
the tables' columns: rows of VALUES on SQLite, an array for each column on PostgreSQL.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Float, Integer, LargeBinary, String, Table
from sqlalchemy.types import TypeDecorator, TypeEngine

from hub.models import Json, Moment, Outside
from hub.store import is_postgres

# SQLite takes 32,766 parameters in a statement.
MOST_PARAMETERS = 32_000
ARRAYS = (
    (String, "text"),
    (LargeBinary, "bytea"),
    (BigInteger, "bigint"),
    (Integer, "bigint"),
    (Boolean, "boolean"),
    (Float, "double precision"),
)

Names = tuple[str, ...]
Values = Sequence[tuple[Any, ...]]


def insert_rows(connection: Connection, table: Table, names: Names, rows: Values, conflict: str = "") -> None:
    """Insert rows, their values in the order of `names`. `conflict`: an ON CONFLICT clause."""
    for part in _parts(rows, len(names)):
        statement = f"INSERT INTO {table.name} ({', '.join(names)}) {_source(connection, table, names, len(part))}"
        connection.exec_driver_sql(f"{statement} {conflict}", _parameters(connection, table, names, part))


def update_rows(connection: Connection, table: Table, keys: Names, names: Names, rows: Values) -> None:
    """Set the columns `names` of the rows that `keys` name; each row holds its keys, then its values."""
    both = (*keys, *names)
    for part in _parts(rows, len(both)):
        fresh = f"WITH fresh ({', '.join(both)}) AS ({_source(connection, table, both, len(part))})"
        changes = ", ".join(f"{name} = fresh.{name}" for name in names)
        found = " AND ".join(f"{table.name}.{key} = fresh.{key}" for key in keys)
        connection.exec_driver_sql(
            f"{fresh} UPDATE {table.name} SET {changes} FROM fresh WHERE {found}",  # noqa: S608 - our tables' names
            _parameters(connection, table, both, part),
        )


def _parts(rows: Values, width: int) -> list[Values]:
    most = MOST_PARAMETERS // width
    return [rows[start : start + most] for start in range(0, len(rows), most)]


def _source(connection: Connection, table: Table, names: Names, count: int) -> str:
    if is_postgres(connection):
        return f"SELECT * FROM unnest({_arrays(table, names)})"  # noqa: S608 - as above
    row = f"({', '.join('?' * len(names))})"
    return f"VALUES {', '.join([row] * count)}"


@lru_cache
def _arrays(table: Table, names: Names) -> str:
    return ", ".join(f"${place}::{_array(table.c[name].type)}[]" for place, name in enumerate(names, 1))


def _array(kind: TypeEngine[Any]) -> str:
    plain = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    return next(name for type_, name in ARRAYS if isinstance(plain, type_))


@lru_cache
def _converters(table: Table, names: Names) -> tuple[Callable[[Any, Any], Any] | None, ...]:
    kinds = [table.c[name].type for name in names]
    return tuple(kind.process_bind_param if isinstance(kind, Moment | Outside | Json) else None for kind in kinds)


def _parameters(connection: Connection, table: Table, names: Names, rows: Values) -> tuple[Any, ...]:
    """The values as the database takes them: all in a line for SQLite, a list for each column for PostgreSQL."""
    dialect = connection.dialect
    columns = [
        values if convert is None else [convert(value, dialect) for value in values]
        for convert, values in zip(_converters(table, names), zip(*rows, strict=True), strict=True)
    ]
    if is_postgres(connection):
        return tuple(list(values) for values in columns)
    return tuple([value for row in zip(*columns, strict=True) for value in row])
