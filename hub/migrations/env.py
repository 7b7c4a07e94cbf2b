"""Alembic's own entry: one transaction on the database that it was called for, kept whole or not at all."""

import asyncio

from alembic import context
from sqlalchemy import Connection, inspect, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import hub.models
from hub.database import sqlite_engine
from hub.migrations import LOCK
from hub.migrations.tables import take


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
    with context.begin_transaction():
        if names := to_change(connection):
            take(connection, *names)
        context.run_migrations()


def to_change(connection: Connection) -> list[str]:
    """The tables, of those that are there, which the migrations to come name in CHANGES: altered, not made, by them."""
    steps = context.script.iterate_revisions("head", context.get_context().get_current_revision())
    names = {name for step in steps for name in step.module.CHANGES}
    return sorted(names & set(inspect(connection).get_table_names()))


def migrate_sqlite(url: str) -> None:
    # Python's sqlite3 left to itself begins no transaction for DDL: each statement would be kept as it came.
    engine = sqlite_engine(make_url(url).set(drivername="sqlite"), "BEGIN IMMEDIATE")
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()


async def migrate_postgres(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        # Of several that begin at once the others find it done.
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        await connection.run_sync(migrate)
    await engine.dispose()


assert hub.models.SCHEMA, "imported so that the metadata is whole"
target = context.config.attributes["url"]
if make_url(target).get_backend_name() == "sqlite":
    migrate_sqlite(target)
else:
    asyncio.run(migrate_postgres(target))
