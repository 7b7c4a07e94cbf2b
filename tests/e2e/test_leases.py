"""A worker that was stopped for longer than its lease comes back, and changes nothing that is newer."""

import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from hub.config import load_config
from hub.database import open_database
from hub.errors import Unavailable
from hub.process import opened_database
from hub.store import ATTEMPT, DELIVERY, EFFECT
from tests.e2e.ledger import PATIENCE, Destination, Load
from tests.hubs import cluster, config_of, hub_process, write_config
from tests.servers import ValkeyServer
from tests.whole import at_length


@at_length
async def test_a_late_outcome_overwrites_nothing_and_its_effect_is_kept(
    tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer
) -> None:
    async with AsyncExitStack() as stack:
        destination = await stack.enter_async_context(Destination())
        # Its time must not be over before it is stopped here.
        noting = {"connector": "tests.e2e.connectors:Noting", "settings": {"url": destination.url}, "timeout": "8s"}
        servers = {"database": postgres_url, "redis": valkey_server.url}
        config = write_config(tmp_path, config_of({"noting": noting}, worker={"lease_margin": "4s"}, **servers))
        hubs = await stack.enter_async_context(cluster(config, receivers=1, workers=1))
        load = await stack.enter_async_context(Load(hubs.urls))
        slow = hubs.workers[0]

        destination.hanging = True
        marker = await load.post_one(1)
        await destination.hung.wait(1, PATIENCE)
        os.kill(slow.pid, signal.SIGSTOP)
        destination.hanging = False
        other = await stack.enter_async_context(hub_process(config, "work"))
        await destination.took({marker})
        await other.said("delivery.attempted", status="delivered")
        os.kill(slow.pid, signal.SIGCONT)
        late = await slow.said("delivery.attempted")

        assert late["status"] == "late"
        assert [len(keys) for keys in destination.keys().values()] == [1]
        assert destination.taken_markers == {marker: 1}
        async with opened_database(load_config(config)) as database:
            delivery = (await database.read(lambda c: c.execute(select(DELIVERY)).all()))[0]
            attempts = await database.read(lambda c: c.execute(select(ATTEMPT).order_by(ATTEMPT.c.number)).all())
            effects = await database.read(lambda c: c.execute(select(EFFECT.c.name)).scalars().all())
        first, *between, last = [attempt.outcome for attempt in attempts]
        assert (delivery.status, delivery.last_error) == ("delivered", None)
        assert (first, last) == ("late", "delivered")
        # One that waited long for a lock of the stopped worker's had too little of its lease left.
        assert set(between) <= {"not_now"}
        assert sorted(effects) == ["attempt-1", f"attempt-{delivery.attempts}"]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_frozen_inside_a_transaction_loses_its_locks(postgres_url: str) -> None:
    def freeze(connection: Connection) -> None:
        assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "10s"
        backend = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
        # The whole process stands still here, as a stopped one does, until PostgreSQL has ended the session.
        deadline = time.monotonic() + PATIENCE
        while running(backend) and time.monotonic() < deadline:
            time.sleep(0.02)
        connection.execute(text("SELECT 1"))

    database = open_database(postgres_url)
    try:
        with pytest.raises(Unavailable):
            await database.write(freeze)
        assert await database.read(lambda connection: connection.scalar(text("SELECT 1"))) == 1
    finally:
        await database.close()
