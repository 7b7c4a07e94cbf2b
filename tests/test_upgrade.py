"""From the first version's database to today's: nothing is lost, all goes on, and half a migration is none."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hub.config import load_config
from hub.database import open_database
from hub.errors import ConfigError, Unavailable
from hub.migrations.tables import take
from hub.models import SCHEMA
from hub.process import Caller, local_hub
from hub.schema import create, upgrade
from hub.testing import StoreDouble
from tests import first_version, hubdb
from tests.e2e.ledger import PATIENCE, Destination
from tests.first_version import BODIES, LOOKS_AGAIN, ON_ROUTE_BROKEN, ON_ROUTE_ONE, schema_of
from tests.hubdb import opened
from tests.hubs import ROOT, SECRET, command, config_of, hub_process, make_schema, route, write_config
from tests.servers import eventually
from tests.whole import at_length

shared_url = hubdb.shared_url
ROUTES = ("one", "two", "paused", "broken")
FOR_EVER = {"events": "3650d", "dead": "3650d"}
SECOND = 1_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The URLs of two empty databases of each kind in turn."""
    if request.param == "sqlite":
        (tmp_path / "data").mkdir()
        return f"sqlite:///{tmp_path}/data/hub.db", f"sqlite:///{tmp_path}/fresh.db"
    return request.getfixturevalue("postgres_url"), request.getfixturevalue("shared_url")


@pytest.fixture
async def old_url(urls: tuple[str, str]) -> str:
    """The URL of a database as the first version left it."""
    await first_version.make(urls[0])
    return urls[0]


@pytest.fixture
async def fresh_url(urls: tuple[str, str]) -> str:
    """The URL of a database of the same kind that never was of an older version."""
    async with opened(urls[1]) as database:
        await database.write(create)
    return urls[1]


def config_at(folder: Path, url: str, destination: str) -> Path:
    routes = {name: route(destination) for name in ROUTES}
    return write_config(folder, config_of(routes, database=url, keep=FOR_EVER))


async def definitions(url: str) -> list[tuple[Any, ...]]:
    """Every column and every index; columns in one order, since what is added comes last."""
    if url.startswith("sqlite"):
        columns = (
            'SELECT m.name, c.name, c.type, c."notnull", c.pk FROM sqlite_master m, pragma_table_info(m.name) c'
            " WHERE m.type = 'table' ORDER BY 1, 2"
        )
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY 1"
    else:
        columns = (
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        indexes = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            " ORDER BY 1"
        )
    return [*await first_version.query(url, columns), *await first_version.query(url, indexes)]


@at_length
async def test_an_upgrade_keeps_every_row_and_the_hub_goes_on(tmp_path: Path, old_url: str, fresh_url: str) -> None:
    before = await first_version.rows(old_url)
    assert all(before.values()), "a table has no row"
    async with Destination() as destination:
        config = config_at(tmp_path, old_url, destination.url)
        code, said, errors = await command(config, "db", "upgrade")
        assert (code, errors) == (0, "")
        assert said.startswith(f"the schema went from 0001 to {SCHEMA}; ")

        assert await first_version.rows(old_url) == before
        assert await definitions(old_url) == await definitions(fresh_url)
        await backup_is_there(tmp_path, old_url, said, before)
        async with hub_process(config, "up") as hub, local_hub(load_config(config)) as ask:
            await goes_on(destination, ask)
            await knows_repeats(hub.url)
            await destination.received.until(lambda found: any(one.key == LOOKS_AGAIN for one in found), PATIENCE)
        sent = {str(request.key) for request in destination.received}
        expected = {*ON_ROUTE_ONE.values(), *ON_ROUTE_BROKEN.values(), LOOKS_AGAIN}
        assert expected <= sent
        assert len(sent - expected) == len(ROUTES) - 1, "more was sent than waited"


async def backup_is_there(folder: Path, url: str, said: str, before: Any) -> None:
    if not url.startswith("sqlite"):
        assert "`hub backup FILE` says how" in said
        return
    (backup,) = (folder / "data" / "backups").iterdir()
    assert backup.name.startswith("hub-0001-")
    assert str(backup) in said.replace("\n", "")
    assert await first_version.rows(f"sqlite:///{backup}") == before
    assert await schema_of(f"sqlite:///{backup}") == "0001"


async def goes_on(destination: Destination, ask: Caller) -> None:
    """What was pending arrives under its old key; what waits for a person, or is done, stays."""
    waiting = {f"m{number}" for number in (*ON_ROUTE_ONE, *ON_ROUTE_BROKEN, 6)}
    await destination.took(waiting)
    for number, key in (*ON_ROUTE_ONE.items(), *ON_ROUTE_BROKEN.items()):

        async def arrived(key: str = key) -> bool:
            return any(request.key == key for request in destination.received)

        await eventually(arrived, PATIENCE, f"event {number}")

    async def settled() -> bool:
        found = (await ask("deliveries", {"status": "delivered"}))["deliveries"]
        return len(found) == 1 + len(ON_ROUTE_ONE) + len(ON_ROUTE_BROKEN) + len(ROUTES) - 1

    await eventually(settled, PATIENCE)
    for one, status in ((first_version.PAUSED, "held"), (first_version.HELD, "held"), (first_version.DEAD, "dead")):
        assert (await ask("show", {"id": one}))["status"] == status
    lost = await ask("show", {"id": ON_ROUTE_ONE[5]})
    assert [attempt["outcome"] for attempt in lost["attempted"]] == ["lost", "delivered"]
    assert (await ask("show", {"id": "rpl_1"}))["filter"] == {"status": "dead", "route": "one"}
    assert {one["id"] for one in (await ask("refused", {}))["refused"]} == {"ref_1", "ref_2"}


async def knows_repeats(url: str) -> None:
    async with StoreDouble(f"{url}/webhooks/main", SECRET) as store:
        for number, body in BODIES.items():
            answer = await store.post(body.encode())
            assert (answer.status_code, answer.json()["data"]) == (200, {"id": f"evt_{number}", "duplicate": True})


@at_length
async def test_a_migration_that_is_killed_half_way_leaves_the_old_schema(tmp_path: Path, old_url: str) -> None:
    rows, schema = await first_version.rows(old_url), await definitions(old_url)
    config = config_at(tmp_path, old_url, "http://127.0.0.1:9/")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.hub", "db", "upgrade", "--config", str(config),
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, cwd=ROOT,
        env={**os.environ, "HUB_FAILPOINT": "M1:kill"},
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "could not be brought from 0001 to" in errors.decode()
    assert "ended with -9" in errors.decode()
    assert await definitions(old_url) == schema
    assert await first_version.rows(old_url) == rows
    assert await schema_of(old_url) == "0001"

    await make_schema(config)
    assert await schema_of(old_url) == SCHEMA
    assert await first_version.rows(old_url) == rows


async def test_hub_up_copies_an_old_database_and_brings_it_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    url = f"sqlite:///{tmp_path}/data/hub.db"
    await first_version.make(url)
    before = await first_version.rows(url)
    async with hub_process(config_at(tmp_path, url, "http://127.0.0.1:9/"), "up") as hub:
        said = (await hub.said("schema.ready"))["state"]
    await backup_is_there(tmp_path, url, said, before)
    assert await schema_of(url) == SCHEMA


async def test_without_a_backup_there_is_no_migration(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    await first_version.make(url)
    (tmp_path / "backups").write_text("a file where the folder should be")
    database = open_database(url)
    with pytest.raises(ConfigError, match="no backup could be made"):
        await upgrade(database, url)
    assert await schema_of(url) == "0001"
    await database.close()


async def test_the_newest_three_backups_are_kept(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path}/hub.db", tmp_path / "backups"
    folder.mkdir()
    theirs = [folder / "hub-before-the-fair.db", folder / "notes.txt"]
    old = [folder / f"hub-{schema}-2024010{day}T000000Z.db" for day, schema in enumerate(("0002", "0001", "0000"), 1)]
    for path in (*theirs, *old):
        path.write_text("old")
    await first_version.make(url)
    database = open_database(url)
    await upgrade(database, url)
    await database.close()
    kept = set(folder.iterdir())
    assert {*theirs, *old[1:]} < kept
    assert len(kept) == len(theirs) + 3


async def test_a_schema_from_a_later_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    database = open_database(url)
    await upgrade(database, url)
    await first_version.run(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="install the newer version"):
        await upgrade(database, url)
    await database.close()
    assert not (tmp_path / "backups").exists()


async def test_two_that_upgrade_at_once_do_it_once(postgres_url: str) -> None:
    await first_version.make(postgres_url)

    async def waiting() -> bool:
        return await waiting_for_locks(postgres_url) == 2

    async with opened(postgres_url) as one, opened(postgres_url) as two:
        reader = await asyncpg.connect(postgres_url)
        async with reader.transaction(), asyncio.TaskGroup() as upgrades:
            # What is read cannot be altered, so the first stands half-way while the second begins.
            await reader.fetch("SELECT id FROM delivery")
            upgrades.create_task(upgrade(one, postgres_url))
            upgrades.create_task(upgrade(two, postgres_url))
            await eventually(waiting, PATIENCE)
            await reader.execute("COMMIT")
        await reader.close()
    assert await schema_of(postgres_url) == SCHEMA


@pytest.mark.parametrize("table", ["route_state", "replay"])
async def test_an_upgrade_and_who_works_do_not_wait_for_each_other(postgres_url: str, table: str) -> None:
    """A claim has its route and then wants its deliveries; an upgrade that had deliveries would want the routes."""
    await first_version.make(postgres_url)
    async with opened(postgres_url) as database:
        connection = await asyncpg.connect(postgres_url)
        async with connection.transaction():
            await connection.fetch(f"SELECT * FROM {table} FOR UPDATE")
            upgrading = asyncio.create_task(upgrade(database, postgres_url))
            await eventually(lambda: waiting_for_locks(postgres_url), PATIENCE)
            await connection.execute("UPDATE delivery SET attempts = attempts WHERE route = 'one'")
        await upgrading
        await connection.close()
    assert await schema_of(postgres_url) == SCHEMA


async def test_an_upgrade_that_waits_for_a_long_reader_holds_up_nobody(postgres_url: str) -> None:
    await first_version.make(postgres_url)
    async with opened(postgres_url) as database, opened(postgres_url) as working:
        reader = await asyncpg.connect(postgres_url)
        async with reader.transaction():
            # As pg_dump does, for as long as it takes.
            await reader.fetch("SELECT id FROM delivery")
            upgrading = asyncio.create_task(upgrade(database, postgres_url))
            for _ in range(3):
                await eventually(lambda: waiting_for_locks(postgres_url), PATIENCE)
                await working.write(lambda connection: connection.exec_driver_sql("UPDATE delivery SET lost = lost"))
            assert await schema_of(postgres_url) == first_version.VERSION
        await upgrading
        await reader.close()
    assert await schema_of(postgres_url) == SCHEMA


async def test_an_upgrade_gives_up_where_a_table_stays_in_use(postgres_url: str) -> None:
    await first_version.make(postgres_url)
    reader = await asyncpg.connect(postgres_url)
    async with opened(postgres_url) as database, reader.transaction():
        await reader.fetch("SELECT id FROM delivery")
        with pytest.raises(Unavailable, match="route_state, delivery: in use by others for 0 s"):
            await database.write(lambda connection: take(connection, "route_state", "delivery", within=0))
    await reader.close()


async def test_a_migration_that_fails_says_why_in_one_line(postgres_url: str) -> None:
    await first_version.make(postgres_url)
    await first_version.run(postgres_url, "CREATE DOMAIN alert AS integer")
    async with opened(postgres_url) as database:
        with pytest.raises(ConfigError, match=r'from 0001 to \d+: [^\n]*type "alert" already exists$'):
            await upgrade(database, postgres_url)
    assert await schema_of(postgres_url) == "0001"


async def waiting_for_locks(url: str) -> int:
    ((count,),) = await first_version.query(
        url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return int(count)
