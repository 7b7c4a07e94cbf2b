"""Processes that start: at the same time on one database, and with files that nobody else may read."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import select

from hub.database import open_database
from hub.schema import create
from hub.store import ROUTE_STATE
from hub.store.claims import ensure_routes
from tests.hubdb import MORNING
from tests.hubs import command, config_of, hub_process, write_config
from tests.servers import eventually

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def test_two_that_meet_a_new_route_at_once_both_start(postgres_url: str) -> None:
    database = open_database(postgres_url)
    other = await asyncpg.connect(postgres_url)
    try:
        await database.write(create)
        async with other.transaction():
            await other.execute(
                "INSERT INTO route_state (route, fingerprint, failures, probe_wait) VALUES ('r', 'f', 0, 0)"
            )
            starting = asyncio.create_task(database.write(lambda c: ensure_routes(c, MORNING, {"r": "f", "s": "f"})))
            await eventually(lambda: other.fetchval(WAITING))
        await starting
        assert set(await database.read(lambda c: c.execute(select(ROUTE_STATE.c.route)).scalars().all())) == {"r", "s"}
    finally:
        await other.close()
        await database.close()


def modes(folder: Path) -> dict[str, int]:
    """The permissions of a folder and of all the files in it."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What a careless shell gives to its children."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_what_a_hub_writes_is_for_its_own_user_alone(tmp_path: Path) -> None:
    config = write_config(tmp_path, config_of({}))
    async with hub_process(config, "up"):
        found = modes(tmp_path / "data")
    assert {"hub.db", "hub.db-wal", "hub.db-shm", "hub.lock", "hub.json", "valkey.json"} <= set(found)
    assert found.pop("data") == 0o700
    assert set(found.values()) == {0o600}, found


@pytest.mark.usefixtures("open_umask")
async def test_what_a_command_makes_is_for_its_own_user_alone(tmp_path: Path) -> None:
    code, _, said = await command(write_config(tmp_path, config_of({})), "db", "upgrade")
    assert code == 0, said
    found = modes(tmp_path / "data")
    assert found.pop("data") == 0o700
    assert set(found.values()) == {0o600}, found


@pytest.mark.usefixtures("open_umask")
async def test_a_data_folder_that_is_there_stays_as_open_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o750)
    async with hub_process(write_config(tmp_path, config_of({})), "up"):
        assert modes(tmp_path / "data")["data"] == 0o750
