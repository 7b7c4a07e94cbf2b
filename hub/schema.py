"""The database's schema: made at once where there is none, brought up to date by Alembic where it is old.

Alembic runs in a process of its own (`python -m hub.migrations`), since loading it costs the hub 10 MB for good.
"""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, text, update
from sqlmodel import SQLModel

from hub.backup import before_migration
from hub.clock import system_time
from hub.database import Database, Sqlite
from hub.errors import CommandError, ConfigError
from hub.migrations import LOCK
from hub.models import SCHEMA
from hub.store import SCHEMA_VERSION
from hub.store.contents import version

# What brings the schema up to date, as Python's arguments; it reads the database's URL from standard input.
MIGRATION = ("-m", "hub.migrations")


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


async def upgrade(database: Database, url: str, backups: Path | None = None) -> str:
    """Bring the schema up to date, making it if there is none; what was done, as a sentence.

    SQLite is copied first, into `backups` (by default the folder of that name beside it). Raises ConfigError, with
    the schema as it was.
    """
    found = await database.write(create)
    if found == SCHEMA:
        return f"the schema is {SCHEMA}"
    refuse_newer(found, "the database")
    kept = await backed_up(database, found, backups)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *MIGRATION, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate(url.encode())
    if process.returncode != 0:
        why = reason_in(errors.decode(errors="replace")) or f"the migration ended with {process.returncode}"
        raise ConfigError(f"database: the schema could not be brought from {found} to {SCHEMA}: {why}")
    return f"the schema went from {found} to {SCHEMA}; {kept}"


def reason_in(traceback: str) -> str:
    """The error at a traceback's end, without what SQLAlchemy says after it of the statement and its own pages."""
    said = traceback.partition("\n[SQL: ")[0]
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith(("[", "(", " "))]
    return lines[-1] if lines else ""


def refuse_newer(found: str, what: str) -> None:
    """Raises ConfigError for the schema of a version after this one."""
    if found > SCHEMA:
        raise ConfigError(
            f"{what} has schema {found}, and this version of the hub knows {SCHEMA}: install the newer version, or"
            " `hub restore` a backup from before its upgrade"
        )


async def backed_up(database: Database, found: str, backups: Path | None) -> str:
    """Copy what is about to be migrated, where the hub can; what was done, as half a sentence."""
    if not isinstance(database, Sqlite):
        return "PostgreSQL is not backed up by the hub: `hub backup FILE` says how"
    folder = backups or database.path.parent / "backups"
    try:
        copy = await before_migration(database.path, folder, found, system_time())
    except (CommandError, OSError) as error:
        raise ConfigError(
            f"database: it was not brought from schema {found} to {SCHEMA}, since no backup could be made: {error}"
        ) from None
    return f"as it was before, it is kept in {copy.file}"
