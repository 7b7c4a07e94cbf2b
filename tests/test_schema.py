"""The schema: made at once or by migrations, it is the same; and nobody works on an old one."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlmodel import SQLModel

import hub.migrations
from hub.database import open_database
from hub.errors import ConfigError
from hub.models import SCHEMA
from hub.schema import require_current, upgrade
from hub.store import SCHEMA_VERSION
from hub.store.contents import version


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hub.db"
    return str(request.getfixturevalue("postgres_url"))


async def migrate(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.migrations", stdin=asyncio.subprocess.PIPE
    )
    await process.communicate(url.encode())
    assert process.returncode == 0


def differences(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), SQLModel.metadata))


def indexes(connection: Connection) -> dict[str, Any]:
    found = inspect(connection)
    return {
        table: sorted(
            (str(index["name"]), index["column_names"], index["unique"]) for index in found.get_indexes(table)
        )
        for table in found.get_table_names()
    }


def test_the_version_in_the_models_is_the_newest_migration() -> None:
    (folder,) = hub.migrations.__path__
    assert ScriptDirectory(folder).get_current_head() == SCHEMA


async def test_migrations_lead_to_what_the_models_say(url: str) -> None:
    await migrate(url)
    database = open_database(url)
    assert await database.read(version) == SCHEMA
    assert await database.read(differences) == []
    migrated = await database.read(indexes)
    await database.close()
    assert any(name == "delivery_due" for name, _, _ in migrated["delivery"])


async def test_an_empty_database_is_made_at_once_and_once(url: str) -> None:
    one, two = open_database(url), open_database(url)
    await asyncio.gather(upgrade(one, url), upgrade(two, url)) if one.dialect == "postgresql" else await upgrade(
        one, url
    )
    assert await two.read(differences) == []
    await require_current(two)
    await one.close()
    await two.close()


async def test_an_empty_or_old_schema_is_refused_with_the_remedy(url: str) -> None:
    database = open_database(url)
    with pytest.raises(ConfigError, match="hub db upgrade"):
        await require_current(database)
    await upgrade(database, url)
    await database.write(lambda connection: connection.execute(SCHEMA_VERSION.update().values(version_num="0000")))
    with pytest.raises(ConfigError, match="has schema 0000"):
        await require_current(database)
    await database.close()
