"""The first version's own program and today's on one PostgreSQL and one Valkey, before, during and after an upgrade."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import asyncpg
import pytest

from hub.models import SCHEMA
from hub.testing import Answer, StoreDouble, sample
from hub.testing.samples import to_bytes
from tests import first_version
from tests.e2e.ledger import PATIENCE, Destination, Load, balance
from tests.hubs import ROOT, SECRET, HubProcess, command, config_of, processes, route, write_config
from tests.servers import ValkeyServer, eventually

ARCHIVE = ROOT / "tests" / "data" / "litekart_hub_first.whl"
PROGRAM = "import hub, hub.models; print(hub.__file__, hub.models.SCHEMA)"
SECTIONS_OF_TODAY = ("dashboard", "disk", "keep")
SENT_TO_BOTH = 8


@pytest.fixture
def first(tmp_path: Path) -> dict[str, str]:
    """The environment in which `hub` is the first version's program, and its connectors those beside it."""
    folder = tmp_path / "first"
    with ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


async def program(env: dict[str, str]) -> list[str]:
    """The file that a hub of this environment is loaded from, and the schema that it knows."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, **env}
    )
    out, _ = await process.communicate()
    return out.decode().split()


async def schema_of(url: str) -> str:
    ((found,),) = await first_version.query(url, "SELECT version_num FROM alembic_version")
    return str(found)


async def pending(url: str) -> int:
    ((found,),) = await first_version.query(url, "SELECT count(*) FROM delivery WHERE status = 'pending'")
    return int(found)


class Shop:
    """Two destinations, and the configs of both versions for them: `ill` takes only events with `late`, and not yet."""

    def __init__(self, folder: Path, postgres: str, valkey: str) -> None:
        self.folder, self.postgres, self.valkey = folder, postgres, valkey
        self.well = Destination()
        # A 404 opens no breaker, so what waits for its next attempt is pending.
        self.ill = Destination(lambda request: Answer(404))

    def config(self, version: str) -> Path:
        late = "data.late | default(false)"
        slow = route(self.ill.url, when=late, retry={"schedule": ["3s"] * 50})
        routes = {"well": route(self.well.url), "ill": slow}
        settings = config_of(routes, database=self.postgres, redis=self.valkey)
        if version == "first":
            settings = {name: value for name, value in settings.items() if name not in SECTIONS_OF_TODAY}
        (self.folder / f"of-{version}").mkdir()
        return write_config(self.folder / f"of-{version}", settings)


@pytest.fixture
async def shop(tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer) -> AsyncIterator[Shop]:
    made = Shop(tmp_path, postgres_url, valkey_server.url)
    async with made.well, made.ill:
        yield made


async def test_the_first_program_and_todays_side_by_side_do_everything_once(shop: Shop, first: dict[str, str]) -> None:
    where, schema = await program(first)
    assert (where, schema) == (f"{first['PYTHONPATH']}/hub/__init__.py", "0001")
    old_config, config = shop.config("first"), shop.config("today")
    code, said, errors = await command(old_config, "db", "upgrade", env=first)
    assert (code, errors) == (0, "")
    async with AsyncExitStack() as stack:
        old = await processes(stack, old_config, ("serve", "work"), env=first)
        # Today's would not have started on it.
        assert await schema_of(shop.postgres) == "0001"
        load, running = await under_load(stack, old[:1], "old-")
        late = {await load.post_one(number, late=True) for number in range(90_000, 90_003)}

        code, said, errors = await command(config, "db", "upgrade")
        assert (code, errors) == (0, "")
        assert said.startswith(f"the schema went from 0001 to {SCHEMA}; ")
        await load.more(20)
        await shop.well.took(set(load.acked))

        new = await processes(stack, config, ("serve", "work"))
        fresh, running_too = await under_load(stack, new[:1], "new-")
        late |= {await fresh.post_one(number, late=True) for number in range(90_000, 90_003)}
        both = await to_both(old[0], new[0])
        await asyncio.gather(load.more(20), fresh.more(20))
        load.enough.set()
        await running

        assert [await hub.stop() for hub in old] == [0, 0]
        await fresh.more(20)
        fresh.enough.set()
        await running_too
        await all_once(shop, load, fresh, both, late)


async def under_load(stack: AsyncExitStack, receivers: list[HubProcess], name: str) -> tuple[Load, asyncio.Task[None]]:
    """A store that posts to these until it is enough; returns once some of it was answered for."""
    load = await stack.enter_async_context(Load([receiver.url for receiver in receivers], name))
    running = asyncio.create_task(load.run(every=0.02))
    await load.acknowledged(20)
    return load, running


async def to_both(old: HubProcess, new: HubProcess) -> dict[str, bytes]:
    """Each of these events is posted to both receivers at one moment, and is one event; its bodies by their markers."""
    sent = {f"both-{number}": to_bytes(sample("order.placed", marker=f"both-{number}")) for number in range(SENT_TO_BOTH)}
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(StoreDouble(f"{hub.url}/webhooks/main", SECRET)) for hub in (old, new)
        ]
        for body in sent.values():
            answers = await asyncio.gather(*(store.post(body) for store in stores))
            assert [answer.status_code for answer in answers] == [200, 200]
            one, other = (answer.json()["data"] for answer in answers)
            assert one["id"] == other["id"]
            assert {one["duplicate"], other["duplicate"]} == {True, False}
    return sent


async def all_once(shop: Shop, load: Load, fresh: Load, both: dict[str, bytes], late: set[str]) -> None:
    """Everything answered for arrived, once, under one key; and what the old worker left goes on under its key."""
    await shop.well.took({*load.acked, *fresh.acked, *both})
    keys = shop.ill.keys()
    assert keys.keys() == late
    shop.ill.decide = None
    await shop.ill.took(late)

    async def settled() -> bool:
        return not await pending(shop.postgres)

    await eventually(settled, PATIENCE)
    assert load.answers.keys() | fresh.answers.keys() == {200}
    assert set(shop.well.taken_markers.values()) | set(shop.ill.taken_markers.values()) == {1}
    for destination, count in ((shop.well, len(load.sent) + len(fresh.sent) + len(both)), (shop.ill, len(late))):
        found = destination.keys()
        assert len(found) == count
        assert len({key for (key,) in found.values()}) == count, "events share a key"
        assert not destination.overlaps
    assert {marker: shop.ill.keys()[marker] for marker in late} == keys
