"""Alembic's own entry: one transaction on the database that it was called for."""

import asyncio

from alembic import context
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

import hub.models


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_postgres(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


assert hub.models.SCHEMA, "imported so that the metadata is whole"
target = context.config.attributes["url"]
if make_url(target).get_backend_name() == "sqlite":
    with create_engine(target).begin() as sqlite:
        migrate(sqlite)
else:
    asyncio.run(migrate_postgres(target))
