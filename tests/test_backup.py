"""Copies of the database: made under load, checked, put back; and what is refused, with everything as it was."""

import asyncio
import os
import re
import shlex
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hub.backup import back_up, copy_database
from hub.commands.keeping import tell_progress
from hub.config import load_config
from hub.database import open_database
from hub.errors import CommandError
from hub.models import SCHEMA
from hub.process import exclusive, local_hub
from hub.schema import create
from tests import first_version
from tests.console import Console
from tests.e2e.ledger import PATIENCE, Destination, Load
from tests.first_version import ON_ROUTE_ONE
from tests.hubs import config_of, hub_process, make_schema, route, write_config
from tests.servers import PostgresServer, eventually

NOWHERE = "http://127.0.0.1:9/"
# 24 MiB of events that were fanned out long ago.
FAT = """
WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 96)
INSERT INTO event (id, store, type, dedupe_key, content_hash, body, occurred_at, received_at, origin, repeats,
 fanned_out_at) SELECT 'evt_fat_' || n, 'main', 'fat', randomblob(16), randomblob(16), randomblob(262144), 1, 1,
 'webhook', 0, 1 FROM n
"""


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    made = Console()
    yield made
    made.close()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a config of one route whose destination is not there."""
    folder = tmp_path / "shop"
    folder.mkdir()
    write_config(folder, config_of({"one": route(NOWHERE)}))
    return folder


async def filled(folder: Path, sql: str = FAT) -> Path:
    """The shop's database, with rows."""
    path = folder / "data" / "hub.db"
    path.parent.mkdir(exist_ok=True)
    database = open_database(f"sqlite:///{path}")
    await database.write(create)
    await database.close()
    await first_version.run(f"sqlite:///{path}", sql)
    return path


def ids(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as database:
        return {row[0] for row in database.execute("SELECT id FROM event")}


def inside(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def left_over(folder: Path) -> set[str]:
    return {name for name in inside(folder) if name.endswith(".partial") or name.startswith(".")}


async def test_a_backup_under_load_holds_all_that_was_answered_before_and_hinders_no_webhook(
    console: Console, shop: Path, tmp_path: Path
) -> None:
    await filled(shop)
    target = tmp_path / "copy.db"
    async with hub_process(shop / "config.yaml", "up") as hub, Load([hub.url]) as load:
        async with local_hub(load_config(shop / "config.yaml")) as ask:
            running = asyncio.create_task(load.run(every=0.001))
            await load.more(20)
            before = set(load.acked.values())
            made = await ask("backup", {"file": str(target)})
            after = set(load.acked.values())
        load.enough.set()
        await running
        ran = await asyncio.to_thread(console.hub, shop, "backup", "by-hand.db")
    assert after - before, "nothing came in while the copy was made"
    assert load.answers == {200: len(load.sent)}
    assert before <= ids(target)
    assert (made["file"], made["bytes"], made["events"]) == (str(target), target.stat().st_size, len(ids(target)))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert inside(tmp_path) == {"copy.db", "shop"}
    assert re.fullmatch(
        rf".*/by-hand\.db is written and checked: [\d.]+ MB, {len(load.sent) + 96} events, .*\n", ran.out
    )
    assert ids(shop / "by-hand.db") >= set(load.acked.values())


async def test_without_a_hub_a_backup_leaves_an_old_schema_as_it_is(console: Console, shop: Path) -> None:
    (shop / "data").mkdir()
    url = f"sqlite:///{shop}/data/hub.db"
    await first_version.make(url)
    made = console.hub(shop, "backup", "copy.db", "--json").json
    assert made == {
        "file": str(shop / "copy.db"), "bytes": (shop / "copy.db").stat().st_size, "schema": "0001", "events": 6,
        "newest": "2024-01-15T10:35:00.500000Z", "pending": 5, "held": 1,
    }  # fmt: skip
    for one in (url, f"sqlite:///{shop}/copy.db"):
        assert await first_version.schema_of(one) == "0001"


async def test_a_backup_overwrites_nothing_unasked(console: Console, shop: Path) -> None:
    assert "there is no database yet" in console.hub(shop, "backup", "copy.db").err
    database = await filled(shop, "SELECT 1")
    (shop / "copy.db").write_text("a letter")
    refused = {
        "copy.db": "is there already; name another file, or say --force",
        "data --force": "is there already; name a file",
        "data/hub.db --force": "is the database itself",
        "data/../data/hub.db-wal --force": "is the database itself",
        "nowhere/copy.db": "there is no folder",
    }
    for words, why in refused.items():
        ran = console.hub(shop, "backup", *words.split())
        assert (ran.code, ran.out) == (1, "")
        assert why in ran.err
    assert (shop / "copy.db").read_text() == "a letter"
    assert console.hub(shop, "backup", "copy.db", "--force").code == 0
    assert ids(shop / "copy.db") == ids(database) == set()
    assert left_over(shop) == set()


async def test_a_backup_leaves_room_for_the_webhooks(shop: Path, tmp_path: Path) -> None:
    config = write_config(shop, config_of({"one": route(NOWHERE)}, disk={"min_free": "999999TiB"}))
    await filled(shop, "SELECT 1")
    with pytest.raises(CommandError, match=r"must stay free \(disk.min_free\); use another disk"):
        await back_up(load_config(config), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


async def test_a_damaged_database_is_no_backup(shop: Path, tmp_path: Path) -> None:
    database = await filled(shop)
    with database.open("r+b") as file:
        # In the middle of the tree that finds events by their keys.
        with closing(sqlite3.connect(database)) as found:
            (page,) = found.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event'").fetchone()
            (size,) = found.execute("PRAGMA page_size").fetchone()
        file.seek((page - 1) * size + size // 2)
        file.write(os.urandom(size // 2))
    with pytest.raises(CommandError, match=r"damaged|malformed"):
        await copy_database(database, tmp_path / "copy.db")
    assert inside(tmp_path) == {"shop"}


async def test_a_copy_tells_how_far_it_is_and_leaves_nothing_when_given_up(shop: Path, tmp_path: Path) -> None:
    database = await filled(shop)
    said: list[str] = []
    copying = asyncio.create_task(copy_database(database, tmp_path / "copy.db", rest=0.2))
    watching = asyncio.create_task(tell_progress(database, tmp_path / "copy.db", said.append, 0.01))
    await eventually(lambda: len(set(said)) > 1, PATIENCE)
    watching.cancel()
    assert re.fullmatch(r"\d+\.\d MB of 2\d\.\d MB are copied", said[-1])
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert inside(tmp_path) == {"shop"}


async def test_a_restore_asks_keeps_what_was_there_and_says_what_goes_on(console: Console, shop: Path) -> None:
    await first_version.make(f"sqlite:///{shop}/first.db")
    database = await filled(shop)
    assert "nobody answered" in console.hub(shop, "restore", "first.db", "--json").err
    refused = console.hub(shop, "restore", "first.db", typed="n\n")
    assert (refused.code, refused.err.endswith("hub: nothing was done\n")) == (1, True)
    assert "first.db holds 6 events, the newest of 2024-01-15 10:35:00Z; 5 deliveries pending, 1 held." in refused.err
    assert "The present database holds 96 events" in refused.err
    assert len(ids(database)) == 96

    ran = console.hub(shop, "restore", "first.db", typed="y\n")
    assert (ran.code, "with 5 pending deliveries under their keys" in ran.out) == (0, True)
    assert f"the schema went from 0001 to {SCHEMA}" in ran.out
    (aside,) = [path for path in database.parent.iterdir() if path.name.startswith("hub.db.before-restore-")]
    assert str(aside) in ran.out
    assert len(ids(aside)) == 96
    assert ids(database) == {f"evt_{number}" for number in range(1, 7)}
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    audits = await first_version.query(f"sqlite:///{database}", "SELECT action, detail FROM audit ORDER BY at DESC")
    assert ("restore", str(aside) in audits[0][1]) == (audits[0][0], True)
    assert left_over(database.parent) == set()


async def test_what_cannot_be_restored_changes_nothing(console: Console, shop: Path) -> None:
    database = await filled(shop, "SELECT 1")
    (shop / "letter.db").write_text("this is a letter to a friend, not a database" * 100)
    with closing(sqlite3.connect(shop / "other.db")) as other:
        other.execute("CREATE TABLE cats (name TEXT)")
    console.hub(shop, "backup", "later.db")
    await first_version.run(f"sqlite:///{shop}/later.db", "UPDATE alembic_version SET version_num = '9999'")
    refused = {
        "none.db": "there is no such file",
        "data/hub.db": "is the present database itself",
        "letter.db": "is not a hub's database",
        "other.db": "is not a hub's database",
        "later.db": "later.db has schema 9999, and this version of the hub knows",
    }
    before = database.read_bytes()
    for file, why in refused.items():
        ran = console.hub(shop, "restore", file, "--yes")
        assert (ran.code, ran.out) == (1, "")
        assert why in ran.err
    console.hub(shop, "backup", "copy.db")
    async with exclusive(load_config(shop / "config.yaml")):
        ran = await asyncio.to_thread(console.hub, shop, "restore", "copy.db", "--yes")
        assert (ran.code, f"(process {os.getpid()}); stop it first" in ran.err) == (1, True)
    assert database.read_bytes() == before
    assert not list(database.parent.glob("*before-restore*"))


async def test_a_damaged_database_is_set_aside_with_its_log(console: Console, shop: Path) -> None:
    database = await filled(shop)
    console.hub(shop, "backup", "copy.db")
    database.write_text("burnt" * 1000)
    database.with_name("hub.db-wal").write_text("burnt too")
    result = console.hub(shop, "restore", "copy.db", "--yes", "--json").json
    assert (result["events"], len(ids(database))) == (96, 96)
    aside = database.with_name(result["aside"].rpartition("/")[2])
    assert aside.read_text() == "burnt" * 1000
    assert aside.with_name(aside.name + "-wal").read_text() == "burnt too"


async def test_what_a_killed_hub_left_is_restored_with_its_log(console: Console, shop: Path, tmp_path: Path) -> None:
    """Copied by hand, with the -wal file beside it, in which the newest commits stand."""
    database, found = await filled(shop), tmp_path / "found"
    found.mkdir()
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("UPDATE event SET id = 'evt_newest' WHERE id = 'evt_fat_1'")
        for name in ("hub.db", "hub.db-wal"):
            shutil.copy(database.with_name(name), found / name)
    for path in database.parent.iterdir():
        path.unlink()
    result = console.hub(shop, "restore", str(found / "hub.db"), "--yes", "--json").json
    assert (result["aside"], result["events"]) == (None, 96)
    assert "evt_newest" in ids(database)


def told(text: str) -> list[str]:
    """The command line that an error tells to run."""
    return shlex.split(re.findall(r"[Rr]un: (.*?) \(the password", text)[0])


async def run(server: PostgresServer, words: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(server.tool(words[0]), *words[1:])
    assert await process.wait() == 0


async def test_for_postgresql_it_says_how_and_that_works(
    console: Console, shop: Path, postgres_url: str, postgres_server: PostgresServer
) -> None:
    config = write_config(shop, config_of({"one": route(NOWHERE)}, database=postgres_url))
    await make_schema(config)
    await first_version.run(postgres_url, "INSERT INTO worker (id, started_at, seen_at) VALUES ('before', 1, 1)")
    dump = console.hub(shop, "backup", "it's a copy")
    assert (dump.code, dump.out) == (1, "")
    await run(postgres_server, told(dump.err))
    await first_version.run(postgres_url, "INSERT INTO worker (id, started_at, seen_at) VALUES ('after', 1, 1)")
    back = console.hub(shop, "restore", "it's a copy", "--yes")
    assert (back.code, back.out) == (1, "")
    await run(postgres_server, told(back.err))
    assert await first_version.query(postgres_url, "SELECT id FROM worker") == [("before",)]


async def test_a_dump_of_the_version_before_goes_back_over_todays_schema(
    console: Console, shop: Path, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """As after an upgrade that somebody wants undone, and then done once more."""
    config = write_config(shop, config_of({"one": route(NOWHERE)}, database=postgres_url))
    await first_version.make(postgres_url)
    before = await first_version.rows(postgres_url)
    await run(postgres_server, told(console.hub(shop, "backup", "copy").err))
    await make_schema(config)
    await run(postgres_server, told(console.hub(shop, "restore", "copy", "--yes").err))
    assert await first_version.schema_of(postgres_url) == "0001"
    await make_schema(config)
    assert await first_version.rows(postgres_url) == before


async def test_a_dump_restored_in_another_postgresql_goes_on_under_its_keys(
    console: Console, shop: Path, postgres_url: str, postgres_server: PostgresServer
) -> None:
    await first_version.run(postgres_url, "CREATE DATABASE another_machine")
    async with Destination() as destination:
        settings = config_of({"one": route(destination.url)}, keep={"events": "3650d", "dead": "3650d"})
        write_config(shop, settings | {"database": postgres_url})
        await first_version.make(postgres_url)
        await run(postgres_server, told(console.hub(shop, "backup", "copy").err))
        config = write_config(shop, settings | {"database": postgres_server.url("another_machine")})
        await run(postgres_server, told(console.hub(shop, "restore", "copy", "--yes").err))
        await make_schema(config)
        async with hub_process(config, "up"):
            await destination.took({f"m{number}" for number in ON_ROUTE_ONE})
    assert {f"m{number}": {key} for number, key in ON_ROUTE_ONE.items()}.items() <= destination.keys().items()


def test_what_it_says_for_postgresql_names_no_password(console: Console, shop: Path) -> None:
    url = "postgresql://hub:s3cret-canary@db.test:5433/hub"
    write_config(shop, config_of({"one": route(NOWHERE)}, database=url))
    for words in (("backup", "copy"), ("restore", "copy")):
        ran = console.hub(shop, *words)
        assert "--host=db.test --port=5433 --username=hub --dbname=hub" in ran.err
        assert "PGPASSWORD" in ran.err
        assert "canary" not in ran.err
