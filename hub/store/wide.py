"""One statement for many rows: an INSERT, UPDATE or SELECT whatever their number.

`executemany` gives the GIL back for each row, and SQLAlchemy compiles a VALUES of many rows anew each time; these two
made up half of a delivery's cost. So the few statements that every event and delivery passes are made by hand from
the tables' columns: rows of VALUES on SQLite, an array for each column on PostgreSQL.

Reading has the same trouble: SQLite's driver gives the GIL back for each row, and takes it again from an event loop
that is busy, up to 5 ms later. So the rows that every delivery passes come as one, a JSON array of them all.
"""

import re
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Float,
    Integer,
    LargeBinary,
    Select,
    String,
    Table,
    Update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
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

SQLITE = sqlite.dialect(paramstyle="named")
LIST = re.compile(r"\(__\[POSTCOMPILE_(\w+)\]\)")

Names = tuple[str, ...]
Values = Sequence[tuple[Any, ...]]


def insert_rows(connection: Connection, table: Table, names: Names, rows: Values, conflict: str = "") -> None:
    """Insert rows, their values in the order of `names`. `conflict`: an ON CONFLICT clause."""
    for part in _parts(rows, len(names)):
        statement = f"INSERT INTO {table.name} ({', '.join(names)}) {_source(connection, table, names, len(part))}"
        run_statement(connection, f"{statement} {conflict}", _parameters(connection, table, names, part))


def update_rows(connection: Connection, table: Table, keys: Names, names: Names, rows: Values) -> None:
    """Set the columns `names` of the rows that `keys` name; each row holds its keys, then its values."""
    both = (*keys, *names)
    for part in _parts(rows, len(both)):
        fresh = f"WITH fresh ({', '.join(both)}) AS ({_source(connection, table, both, len(part))})"
        changes = ", ".join(f"{name} = fresh.{name}" for name in names)
        found = " AND ".join(f"{table.name}.{key} = fresh.{key}" for key in keys)
        run_statement(
            connection,
            f"{fresh} UPDATE {table.name} SET {changes} FROM fresh WHERE {found}",  # noqa: S608 - our tables' names
            _parameters(connection, table, both, part),
        )


def select_rows(
    connection: Connection, query: Select[*tuple[Any, ...]], parameters: Mapping[str, Any]
) -> Sequence[Any]:
    """The rows of a query that is made once. Their order is the query's where it has a LIMIT."""
    if is_postgres(connection):
        return connection.execute(query, parameters).all()
    plan = _selecting(query)
    (text,) = run_statement(connection, plan.sql, plan.bound(parameters)).fetchone()
    return [plan.row(*row) for row in plan.converted(orjson.loads(text))]


def execute_once_made(connection: Connection, change: Update, parameters: Mapping[str, Any]) -> int:
    """Run an UPDATE that is made once; how many rows it changed."""
    if is_postgres(connection):
        return connection.execute(change, parameters).rowcount
    plan = _running(change)
    rowcount: int = run_statement(connection, plan.sql, plan.bound(parameters)).rowcount
    return rowcount


def run_statement(connection: Connection, statement: str, parameters: Any) -> Any:
    """The result of a statement in the driver's own words: a cursor of SQLite's driver, SQLAlchemy's for PostgreSQL.

    Raises the errors of SQLAlchemy.
    """
    if is_postgres(connection):
        return connection.exec_driver_sql(statement, parameters)
    # What SQLAlchemy does around a statement takes as long as the statement, and all of it under the GIL.
    driver: Any = connection.connection.driver_connection
    try:
        return driver.execute(statement, parameters)
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, parameters, error, sqlite3.Error, dialect=connection.dialect) from error


class _Plan:
    """A statement as SQLite's driver takes it: its text, its parameters, and how values are read and written."""

    def __init__(self, statement: Select[*tuple[Any, ...]] | Update) -> None:
        compiled = statement.compile(dialect=SQLITE)
        # One parameter for a list of whatever length.
        self.sql = LIST.sub(r"(SELECT value FROM json_each(:\1))", str(compiled))
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._lists = set(LIST.findall(str(compiled)))
        self._writing = {
            bind.key: bind.type.process_bind_param
            for bind in compiled.binds.values()
            if isinstance(bind.type, Moment | Outside | Json)
        }

    def bound(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        values = {**self._fixed, **parameters}
        for name, convert in self._writing.items():
            values[name] = convert(values[name], SQLITE)
        for name in self._lists:
            values[name] = orjson.dumps(values[name]).decode()
        return values


class _Selecting(_Plan):
    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        super().__init__(statement)
        columns = list(statement.selected_columns)
        shown = [f"iif({one.name} IS NULL, NULL, hex({one.name}))" if _is_binary(one) else one.name for one in columns]
        self.sql = f"SELECT json_group_array(json_array({', '.join(shown)})) FROM ({self.sql})"  # noqa: S608 - as above
        self.row = namedtuple("Row", [one.name for one in columns])  # type: ignore[misc]  # its names are the query's
        self._reading = [(place, reader) for place, one in enumerate(columns) if (reader := _reader(one)) is not None]

    def converted(self, rows: list[list[Any]]) -> list[list[Any]]:
        for place, convert in self._reading:
            for row in rows:
                if row[place] is not None:
                    row[place] = convert(row[place])
        return rows


def _is_binary(column: Any) -> bool:
    return isinstance(column.type, LargeBinary)


def _reader(column: Any) -> Any:
    return bytes.fromhex if _is_binary(column) else column.type.dialect_impl(SQLITE).result_processor(SQLITE, None)


_selecting = cache(_Selecting)
_running = cache(_Plan)


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
