"""Servers that tests share: one Valkey and one PostgreSQL for each test process, clean for each test."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from tests.servers import PostgresServer, ValkeyServer, eventually

# How long an example takes, and its making, is the machine's affair.
settings.register_profile("hub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hub")


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def valkey_server(shared_valkey: ValkeyServer) -> ValkeyServer:
    """A Valkey at `url` and `settings`, running and empty; a test may pause, kill and start it."""
    shared_valkey.restore()
    return shared_valkey


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL; a test that kills it starts it again."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of an empty database, which is dropped afterwards whoever still holds it."""
    name = f"test_{uuid4().hex}"
    await postgres_server.run(f"CREATE DATABASE {name}")
    yield postgres_server.url(name)

    async def dropped() -> bool:
        # PostgreSQL itself waits five seconds for those whom it sends away.
        try:
            await postgres_server.run(f"DROP DATABASE {name} WITH (FORCE)")
        except asyncpg.ObjectInUseError:
            return False
        return True

    await eventually(dropped)
