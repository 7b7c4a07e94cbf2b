"""Processes that start at the same time on one database."""

import asyncio

import asyncpg
from sqlalchemy import select

from hub.database import open_database
from hub.schema import create
from hub.store import ROUTE_STATE
from hub.store.claims import ensure_routes
from tests.hubdb import MORNING
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
