"""The first version's own program and today's on one PostgreSQL and one Valkey, before, during and after an upgrade."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from zipfile import ZipFile

import pytest

from hub.models import SCHEMA
from hub.testing import Answer, StoreDouble, sample
from hub.testing.samples import to_bytes
from tests import first_version
from tests.e2e.ledger import PATIENCE, Destination, Load
from tests.first_version import schema_of
from tests.hubs import ROOT, SECRET, HubProcess, command, config_of, processes, route, write_config
from tests.servers import ValkeyServer, eventually
from tests.whole import at_length

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
        slow = route(self.ill.url, when=late, retry={"schedule": ["1s"] * 10 + ["5s"] * 40})
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


@at_length
async def test_the_first_program_and_todays_side_by_side_do_everything_once(shop: Shop, first: dict[str, str]) -> None:
    old_config, config = shop.config("first"), shop.config("today")
    loaded, made = await asyncio.gather(program(first), command(old_config, "db", "upgrade", env=first))
    assert loaded == [f"{first['PYTHONPATH']}/hub/__init__.py", "0001"]
    assert (made[0], made[2]) == (0, "")
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as posting:
        old = await processes(stack, old_config, ("serve", "work"), env=first)
        # Today's would not have started on it.
        assert await schema_of(shop.postgres) == "0001"
        load = await stack.enter_async_context(Load([old[0].url], "old-"))
        posts = posting.create_task(load.run(posters=2, every=0.04))
        late = await some_late(load)

        code, said, errors = await command(config, "db", "upgrade")
        assert (code, errors) == (0, "")
        assert said.startswith(f"the schema went from 0001 to {SCHEMA}; ")
        await load.more(20)
        await shop.well.took(set(load.acked))

        new = await processes(stack, config, ("serve", "work"))
        fresh = await stack.enter_async_context(Load([new[0].url], "new-"))
        fresh_posts = posting.create_task(fresh.run(posters=2, every=0.04))
        late |= await some_late(fresh)
        both = await to_both(old[0], new[0])
        await asyncio.gather(load.more(20), fresh.more(20))
        load.enough.set()
        await posts

        await shop.ill.wait(len(late), PATIENCE)
        assert [await hub.stop() for hub in old] == [0, 0]
        await goes_on(shop, late)
        await fresh.more(20)
        fresh.enough.set()
        await fresh_posts
        await all_once(shop, (load, fresh), both, late)
        assert not [line for hub in (*old, *new) for line in hub.lines if line.get("level") == "error"]


async def some_late(load: Load) -> set[str]:
    """Post events that will be pending; their markers. More than these have been answered for by then."""
    await load.more(20)
    return {await load.post_one(number, late=True) for number in range(90_000, 90_003)}


async def to_both(old: HubProcess, new: HubProcess) -> set[str]:
    """Each of these events is posted to both receivers at one moment, then again, and is one event; their markers."""
    markers = {f"both-{number}" for number in range(SENT_TO_BOTH)}
    async with AsyncExitStack() as stack:
        urls = [f"{hub.url}/webhooks/main" for hub in (old, new)]
        stores = [await stack.enter_async_context(StoreDouble(url, SECRET)) for url in urls]
        for marker in markers:
            body = to_bytes(sample("order.placed", marker=marker))
            answers = [await asyncio.gather(*(store.post(body) for store in stores)) for _ in range(2)]
            assert {answer.status_code for pair in answers for answer in pair} == {200}
            once, again = ([answer.json()["data"] for answer in pair] for pair in answers)
            assert len({told["id"] for told in (*once, *again)}) == 1
            assert sorted(told["duplicate"] for told in once) == [False, True]
            assert all(told["duplicate"] for told in again)
    return markers


async def goes_on(shop: Shop, late: set[str]) -> None:
    """What was pending when the old ones had stopped arrives under the keys that it was tried with before."""
    before = shop.ill.keys()
    assert before.keys() == late
    shop.ill.decide = None
    await shop.ill.took(late)
    assert shop.ill.keys() == before


async def all_once(shop: Shop, loads: tuple[Load, Load], both: set[str], late: set[str]) -> None:
    """Everything was answered for, and arrived once, each event under one key of its own."""
    acked = {*loads[0].acked, *loads[1].acked, *both}
    await shop.well.took(acked)

    async def settled() -> bool:
        return not await pending(shop.postgres)

    await eventually(settled, PATIENCE)
    assert {status for load in loads for status in load.answers} == {200}
    assert {marker for load in loads for marker in load.sent} <= acked
    for destination, markers in ((shop.well, acked), (shop.ill, late)):
        assert destination.taken_markers == dict.fromkeys(markers, 1)
        keys = destination.keys().values()
        assert len({key for (key,) in keys}) == len(markers), "events share a key"
        assert not destination.overlaps
