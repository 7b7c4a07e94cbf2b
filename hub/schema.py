"""The database's schema: made at once where there is none, brought up to date by Alembic where it is old.

Alembic runs in a process of its own (`python -m hub.migrations`), since loading it costs the hub 10 MB for good.
"""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, inspect, select, text, update
from sqlmodel import SQLModel

from hub.database import Database
from hub.errors import ConfigError
from hub.models import SCHEMA
from hub.store import SCHEMA_VERSION

# Any number does, as long as it is the same in all processes: only one of them makes or changes the schema.
LOCK = 7_265_012


def version(connection: Connection) -> str | None:
    """The schema's version, None for a database without tables."""
    if not inspect(connection).has_table(SCHEMA_VERSION.name):
        return None
    found: str | None = connection.execute(select(SCHEMA_VERSION.c.version_num)).scalar()
    return found


def create(connection: Connection) -> str:
    """Make all tables in an empty database; does nothing where there are some. The version found or made."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    found = version(connection)
    if found is None:
        SQLModel.metadata.create_all(connection)
        connection.execute(SCHEMA_VERSION.insert().values(version_num=SCHEMA))
    return found or SCHEMA


def touch(connection: Connection, now: datetime, items: Sequence[None]) -> Sequence[None]:
    """Write what stands there already: a batch for the group commit that shows whether it can write."""
    connection.execute(update(SCHEMA_VERSION).values(version_num=SCHEMA_VERSION.c.version_num))
    return items


async def require_current(database: Database) -> None:
    """Raises ConfigError unless the schema is of this version."""
    found = await database.read(version)
    if found != SCHEMA:
        state = "is empty" if found is None else f"has schema {found}, this version needs {SCHEMA}"
        raise ConfigError(f"database: it {state}. Run: hub db upgrade")


async def upgrade(database: Database, url: str) -> str:
    """Bring the schema up to date, making it if there is none; what was done, as a sentence."""
    found = await database.write(create)
    if found == SCHEMA:
        return f"the schema is {SCHEMA}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.migrations", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate(url.encode())
    if process.returncode != 0:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise ConfigError(f"database: the schema could not be brought from {found} to {SCHEMA}: {last}")
    return f"the schema went from {found} to {SCHEMA}"
