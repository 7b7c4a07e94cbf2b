"""The dashboard as a part of running hubs, and the commands about who may use it."""

import asyncio
import json
import os
import pty
import re
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hub.config import User
from hub.connector import Secret
from hub.testing import StoreDouble, sample
from hub.testing.samples import to_bytes
from hub.web.auth import dashboard_off, is_loopback
from hub.web.passwords import matches
from tests import hubs
from tests.browsers import OPERATOR, PASSWORD, USERS, browser, dashboard_of, log_in, token_in, who_is
from tests.console import Console, Ran, fails
from tests.hubdb import config_of as lab_config
from tests.hubdb import open_lab
from tests.hubs import ROOT, SECRET, HubProcess, config_of, hub_process, make_schema, write_config
from tests.operations import ask
from tests.servers import ValkeyServer, eventually


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    made = Console()
    yield made
    made.close()


async def command(console: Console, config: Path, *words: str) -> Ran:
    """A command beside a running hub."""
    return await asyncio.to_thread(console.hub, config.parent, *words)


async def receives(hub: HubProcess) -> bool:
    async with StoreDouble(f"{hub.url}/webhooks/main", SECRET) as store:
        return (await store.post(to_bytes(sample("order.placed")))).status_code == 200


def told(hub: HubProcess, event: str) -> list[dict[str, Any]]:
    return [line for line in hub.lines if line.get("event") == event]


# ---- part of `hub up`


async def test_a_hub_without_users_prints_a_link_and_makes_another_when_asked(console: Console, tmp_path: Path) -> None:
    config = write_config(tmp_path, config_of({}))
    async with hub_process(config, "up") as hub:
        url = (await hub.said("dashboard.listening"))["url"]
        link = (await hub.said("dashboard.link"))["url"]
        assert link.startswith(f"{url}/login?token=")
        async with browser(url) as client, browser(url) as other:
            await client.post("/login", data={"token": token_in(link)})
            assert await who_is(client) == 200
            made = (await command(console, config, "login", "--json")).json
            assert made["url"].startswith(f"{url}/login?token=")
            await other.post("/login", data={"token": token_in(made["url"])})
            assert await who_is(other) == 200
            ended = await command(console, config, "sessions", "end", "local", "--json")
            assert (ended.code, ended.json) == (0, {"user": "local", "ended": 2})
            assert [await who_is(one) for one in (client, other)] == [303, 303]
            secret = client.cookies.get("hub") or "none"
        await hub.stop()
        assert await hub.process.wait() == 0
        rest = json.dumps([line for line in hub.lines if line.get("event") != "dashboard.link"])
        assert [part in rest for part in (token_in(link), token_in(made["url"]), secret)] == [False] * 3


async def test_a_hub_with_users_prints_no_link(console: Console, tmp_path: Path) -> None:
    users = {"port": 0, "host": "0.0.0.0", "users": USERS}
    config = write_config(tmp_path, config_of({}, dashboard=users))
    async with hub_process(config, "up") as hub:
        url = (await hub.said("dashboard.listening"))["url"].replace("0.0.0.0", "127.0.0.1")
        async with browser(url) as client:
            assert (await log_in(client, OPERATOR)).status_code == 303
            assert await who_is(client) == 200
        assert told(hub, "dashboard.link") == []
        fails(await command(console, config, "login"), 1, "by name and password")
        assert PASSWORD not in json.dumps(hub.lines)


async def test_on_an_open_address_without_users_the_dashboard_is_off_and_receiving_goes_on(
    console: Console, tmp_path: Path
) -> None:
    config = write_config(tmp_path, config_of({}, dashboard={"port": 0, "host": "0.0.0.0"}))
    async with hub_process(config, "up") as hub:
        off = await hub.said("dashboard.off")
        assert (off["level"], "`hub passwd`" in off["reason"]) == ("warning", True)
        assert await receives(hub)
        assert told(hub, "dashboard.listening") == []
        fails(await command(console, config, "login"), 1, "`hub passwd`")


async def test_a_port_in_use_is_named_and_the_hub_does_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = write_config(tmp_path, config_of({}, dashboard={"port": port}))
        code, out, said = await hubs.command(config, "up")
    assert (code, out) == (1, "")
    assert f"dashboard: cannot listen on 127.0.0.1:{port}" in said
    assert "set dashboard.port" in said


async def test_a_dashboard_that_breaks_does_not_stop_receiving(console: Console, tmp_path: Path) -> None:
    config = write_config(tmp_path, config_of({}))
    breaks = tmp_path / "breaks"
    async with hub_process(config, "up", module=("tests.broken_dashboard",), env={"HUB_BREAKS": str(breaks)}) as hub:
        assert await receives(hub)
        breaks.touch()
        assert (await hub.said("dashboard.ended"))["level"] == "error"
        assert await receives(hub)
        fails(await command(console, config, "login"), 1, "no dashboard runs here")
        assert await hub.stop() == 0
        assert told(hub, "server.fault")


# ---- beside others on PostgreSQL


async def test_on_postgresql_it_is_a_process_of_its_own(
    console: Console, tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"database": postgres_url, "redis": valkey_server.url}
    config = write_config(tmp_path, config_of({}, dashboard={"port": port}, **shared))
    await make_schema(config)
    async with hub_process(config, "dashboard") as hub:
        url = (await hub.said("dashboard.listening"))["url"]
        assert url == f"http://127.0.0.1:{port}"
        made = (await command(console, config, "login", "--json")).json
        async with browser(url) as client:
            await client.post("/login", data={"token": token_in(made["url"])})
            assert await who_is(client) == 200
            assert (await command(console, config, "sessions", "end", "local")).out == "1 of local ended\n"
            assert (await command(console, config, "sessions", "end", "local")).out == "local was not logged in\n"
            assert await who_is(client) == 303
        assert await hub.stop() == 0
    write_config(tmp_path, config_of({}, dashboard={"port": 0}, **shared))
    fails(await command(console, config, "login"), 1, "dashboard.port is 0")


async def test_on_sqlite_it_is_none(console: Console, tmp_path: Path) -> None:
    config = write_config(tmp_path, config_of({}))
    fails(await command(console, config, "dashboard"), 1, "SQLite serves one process")
    fails(await command(console, config, "login"), 1, "`hub up` starts it")


async def test_a_process_that_could_serve_nobody_does_not_start(console: Console, tmp_path: Path) -> None:
    config = write_config(tmp_path, config_of({}, dashboard={"port": 0, "host": "0.0.0.0"}))
    fails(await command(console, config, "dashboard"), 1, "`hub passwd`")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("hub.test", False), ("", False), ("127.0.0.1.evil.test", False), ("127.1", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(tmp_path: Path, host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    for users in ([], USERS):
        config = lab_config(tmp_path, "sqlite:///hub.db", {}, dashboard={"host": host, "users": users})
        assert (dashboard_off(config) is None) == bool(loopback or users)


# ---- hub passwd


def made_user(text: str) -> User:
    """The lines as they stand in a config."""
    assert text.startswith("# Under dashboard.users in config.yaml")
    (found,) = yaml.safe_load(text)
    return User.model_validate(found | {"password": Secret(found["password"])})


def test_passwd_prints_what_the_config_takes(console: Console, tmp_path: Path) -> None:
    ran = console.hub(tmp_path, "passwd", "asha@shop.test", "--role", "viewer", typed=f"{PASSWORD}\n")
    user = made_user(ran.out)
    assert (ran.code, user.name, user.role) == (0, "asha@shop.test", "viewer")
    assert matches(user.password.reveal(), PASSWORD)
    assert PASSWORD not in ran.out + ran.err
    again = console.hub(tmp_path, "passwd", "--json", typed=PASSWORD).json
    assert (again["name"], again["role"]) == ("admin", "operator")
    assert matches(again["password"], PASSWORD)
    assert again["password"] != user.password.reveal()
    dashboard = yaml.safe_dump({"users": yaml.safe_load(ran.out)})
    (tmp_path / "config.yaml").write_text(
        f"stores: {{main: {{url: 'https://shop.test', webhook_secrets: ['{SECRET}']}}}}\ndashboard:\n"
        + "".join(f"  {line}\n" for line in dashboard.splitlines())
    )
    assert console.hub(tmp_path, "check", "--offline").code == 0


@pytest.mark.parametrize(
    ("words", "typed", "code", "says"),
    [
        ((), "eleven char\n", 1, "12 to 1000 characters"),
        ((), "", 1, "12 to 1000 characters"),
        ((), "x" * 1001, 1, "12 to 1000 characters"),
        ((), "a lone surrogate \udcff", 1, "not UTF-8"),
        (("a b",), PASSWORD, 2, "name: "),
        (("--role", "root"), PASSWORD, 2, "role: must be 'viewer' or 'operator'"),
    ],
)
def test_passwd_makes_no_bad_user(
    console: Console, tmp_path: Path, words: tuple[str, ...], typed: str, code: int, says: str
) -> None:
    fails(console.hub(tmp_path, "passwd", *words, typed=typed), code, says)


AT_A_TERMINAL = """\
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from hub.cli import run
sys.exit(run(["passwd", "--json"]))
"""


@pytest.mark.parametrize("second", [PASSWORD, "something else"])
async def test_at_a_terminal_passwd_asks_twice_and_shows_nothing(second: str) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AT_A_TERMINAL, stdin=theirs, stderr=theirs, stdout=asyncio.subprocess.PIPE,
        start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    shown = b""
    for words, answer in ((b"Password: ", PASSWORD), (b"Once more: ", second)):
        while words not in shown:
            async with asyncio.timeout(60):
                shown += await asyncio.to_thread(os.read, ours, 1024)
        await eventually(lambda: not termios.tcgetattr(ours)[3] & termios.ECHO)
        os.write(ours, f"{answer}\n".encode())
    out, _ = await process.communicate()
    os.set_blocking(ours, False)
    with suppress(BlockingIOError):
        while more := os.read(ours, 1024):
            shown += more
    os.close(ours)
    os.close(theirs)
    assert PASSWORD.encode() not in shown
    if second == PASSWORD:
        assert matches(json.loads(out)["password"], PASSWORD)
    else:
        assert (process.returncode, out) == (1, b"")
        assert b"the two are not the same" in shown


@pytest.mark.parametrize(
    "hashed",
    [
        "$argon2id$",
        "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$",
        f"$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0${'A' * 43}",
        f"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0${'A' * 43}\n",
    ],
)
def test_a_hash_that_is_none_is_a_mistake_of_the_config(tmp_path: Path, hashed: str) -> None:
    with pytest.raises(ValueError, match="must be a hash"):
        User(name="asha", password=Secret(hashed))


async def test_its_address_is_one_that_can_be_opened(tmp_path: Path) -> None:
    dashboard = {"port": 0, "host": "::1"}
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", dashboard=dashboard) as lab, dashboard_of(lab) as url:
        link = (await ask(lab, "login.link"))["url"]
        assert re.fullmatch(r"http://\[::1\]:\d+/login\?token=[\w-]{43}", link)
        assert link.startswith(url)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(link)).status_code == 200
