"""The hub's processes: `up`, all in one; `serve`, `work`, `dashboard` on PostgreSQL; commands beside a running hub.

SQLite serves one process at a time: whoever works on it holds `<data>/hub.lock`. A running `hub up` answers commands
on a unix socket, whose path stands in `<data>/hub.json`.
"""

import asyncio
import errno
import fcntl
import gc
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import structlog
import uvicorn
from arq.connections import RedisSettings
from starlette.types import ASGIApp

from hub.config import Config
from hub.database import Database, open_database
from hub.errors import CommandError, ConfigError
from hub.guard import place_of
from hub.jobs import Bells, open_bells, settings_of
from hub.logs import configure_logs
from hub.redaction import redactor
from hub.runtime import Hub, open_hub
from hub.schema import require_current, upgrade
from hub.store import routes
from hub.store.workers import end_leases
from hub.valkey import open_valkey, private_folder, remove_folder
from hub.web.api import OPERATIONS, WrongUsage, create_local_api
from hub.web.app import create_app
from hub.web.auth import LINK_AT_START, dashboard_off, make_link
from hub.web.dashboard import create_dashboard
from hub.web.protocol import Gate, guarded, most_connections
from hub.worker import running

LOCK_WAIT = 5.0
LOCK_POLL = 0.05
GRACEFUL = 10
# Connections to the dashboard, a few for each viewer.
MOST_VIEWERS = 200
BACKLOG = 2048
ASK_TIMEOUT = 60.0
# Operations that take as long as the database, or the store, is large.
UNHURRIED = {"backup", "replay.stop", "catch_up.now", "catch_up.preview", "catch_up.start", "reorders.plan"}
SQLITE_BEGINS = b"SQLite format 3\0"

Caller = Callable[[str, dict[str, Any]], Awaitable[Any]]
log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn that tells when it listens, and leaves signals alone: the process decides when to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Every request finds it in its state, so that an answer without end ends when the server does.
        self.lifespan.state["stopping"] = self.stopping
        await super().startup(sockets)
        self.listens.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stopping.set()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Listening:
    """A server at work, and the address that it really has."""

    server: Server
    url: str
    task: "asyncio.Task[None]"


async def up(config: Config, ready: Callable[[str], None] = lambda url: None) -> None:
    """The whole hub in one process, until SIGTERM or SIGINT. `ready` is told the URL once it listens."""
    stop = _begin(config)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(exclusive(config))
        database = await stack.enter_async_context(opened_database(config))
        state = await upgraded(config, database)
        # Before 3.51.3 SQLite needs that one connection alone writes and checkpoints, as hub.database has it.
        log.info("schema.ready", state=state, sqlite=sqlite3.sqlite_version)
        redis = await stack.enter_async_context(redis_settings(config))
        bells = await stack.enter_async_context(open_bells(redis, in_process=True))
        hub = await stack.enter_async_context(open_hub(config, database, bells))
        if config.sqlite_path is not None:
            await database.write(lambda connection: end_leases(connection, hub.now()))
        await tell_of_gone_routes(hub)
        await stack.enter_async_context(running(hub))
        await stack.enter_async_context(serving_dashboard(hub))
        await stack.enter_async_context(local_socket(hub))
        listening = await stack.enter_async_context(serving(hub))
        ready(listening.url)
        await _until(stop, listening)


async def serve(config: Config, ready: Callable[[str], None] = lambda url: None) -> None:
    """A receiver, beside others, on PostgreSQL."""
    stop = _begin(config)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(shared_hub(config))
        listening = await stack.enter_async_context(serving(hub))
        ready(listening.url)
        await _until(stop, listening)


async def work(config: Config) -> None:
    """A worker, beside others, on PostgreSQL."""
    stop = _begin(config)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(shared_hub(config))
        await tell_of_gone_routes(hub)
        await stack.enter_async_context(running(hub))
        log.info("hub.working", worker=hub.worker_id)
        await stop.wait()


async def dashboard(config: Config, ready: Callable[[str], None] = lambda url: None) -> None:
    """The dashboard, beside receivers and workers, on PostgreSQL."""
    stop = _begin(config)
    if (off := dashboard_off(config)) is not None:
        raise ConfigError(off)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(shared_hub(config))
        listening = await stack.enter_async_context(serving_dashboard(hub))
        assert listening is not None
        ready(listening.url)
        await _until(stop, listening)


async def tell_of_gone_routes(hub: Hub) -> None:
    """Deliveries wait for routes that the config no longer has: said at start, so that nobody waits in vain."""
    counts = await hub.database.read(routes.counts)
    for name in sorted(counts.keys() - hub.config.routes.keys()):
        waiting = counts[name].get("pending", 0) + counts[name].get("held", 0)
        if waiting:
            remedy = (
                f"put it back, or `hub replay --status gone --route {name} --to OTHER`, or `hub cancel --route {name}`"
            )
            log.warning("route.gone", route=name, waiting=waiting, remedy=remedy)


@asynccontextmanager
async def shared_hub(config: Config) -> AsyncIterator[Hub]:
    """The hub of one process among several. Needs PostgreSQL and a Redis of its own."""
    if config.sqlite_path is not None:
        raise ConfigError("database: SQLite serves one process, `hub up`; for several give a postgresql:// URL")
    if config.redis_url is None:
        raise ConfigError("redis: several processes need one they share; give a redis:// URL")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_database(config))
        await require_current(database)
        redis = await stack.enter_async_context(redis_settings(config))
        bells = await stack.enter_async_context(open_bells(redis, in_process=False))
        yield await stack.enter_async_context(open_hub(config, database, bells))


@asynccontextmanager
async def opened_database(config: Config) -> AsyncIterator[Database]:
    if config.sqlite_path is not None:
        require_sqlite(config.sqlite_path)
    try:
        database = open_database(config.database.reveal())
    except OSError as error:
        raise unwritable("the database's folder", (config.sqlite_path or config.data_dir).parent, error) from None
    try:
        yield database
    finally:
        await database.close()


async def upgraded(config: Config, database: Database) -> str:
    """Bring the schema up to date, after a backup in the data folder; what was done, as a sentence."""
    return await upgrade(database, config.database.reveal(), config.data_dir / "backups")


@asynccontextmanager
async def redis_settings(config: Config) -> AsyncIterator[RedisSettings]:
    """How to reach Redis; the embedded one is started for as long."""
    if config.redis_url is not None:
        yield settings_of(config.redis_url)
        return
    async with open_valkey(config.data_dir) as valkey:
        yield valkey.settings


def _begin(config: Config) -> asyncio.Event:
    """Make files for our own user alone, send the log where the config says; the event that a signal to stop sets."""
    os.umask(0o077)
    configure_logs(config.log.level, config.log.format, redactor(config.secrets()))
    for warning in config.warnings:
        log.warning("config.doubtful", about=warning)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _until(stop: asyncio.Event, listening: Listening) -> None:
    """Returns on a signal; a server that ends by itself is an error."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, listening.task}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if listening.task.done():
        listening.task.result()
        raise CommandError("the web server ended by itself")


@asynccontextmanager
async def serving(hub: Hub) -> AsyncIterator[Listening]:
    """The receiver listens; at the end it stops taking, and requests under way get their answers."""
    settings = hub.config.server
    sock = bound(settings.host, settings.port)
    # The collector's pauses are what a webhook notices at full load; what start-up made lives for ever anyway.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    app = create_app(hub)
    server = web_server(app, hub.config, http=guarded(Gate(most_connections()), app.state.shortcut))
    async with listening(server, [sock], url_of(settings.host, sock)) as listens:
        log.info("hub.listening", url=listens.url)
        yield listens


@asynccontextmanager
async def serving_dashboard(hub: Hub) -> AsyncIterator[Listening | None]:
    """The dashboard listens, on a server of its own: where that ends by a fault, all else goes on.

    None where nobody could log in and everybody could come: then it is off, and the log says what to do.
    """
    settings = hub.config.dashboard
    if (off := dashboard_off(hub.config)) is not None:
        log.warning("dashboard.off", reason=off)
        yield None
        return
    sock = bound(settings.host, settings.port, "dashboard")
    server = web_server(create_dashboard(hub), hub.config, http=guarded(Gate(MOST_VIEWERS)))
    async with listening(server, [sock], url_of(settings.host, sock)) as listens:
        hub.dashboard_url = listens.url
        log.info("dashboard.listening", url=listens.url)
        if not settings.users:
            await show_link(hub, listens.url)
        watching = asyncio.create_task(_tell_of_end(hub, listens), name="dashboard")
        try:
            yield listens
        finally:
            watching.cancel()
            hub.dashboard_url = None


async def show_link(hub: Hub, url: str) -> None:
    """Print the link that logs in once, also where the log keeps to what is wrong."""
    link = await make_link(hub, url, LINK_AT_START)
    if hub.config.log.level in {"debug", "info"}:
        log.info("dashboard.link", url=link)
    else:
        print(f"hub: log in to the dashboard, once, at {link}", file=sys.stderr, flush=True)


async def _tell_of_end(hub: Hub, listens: Listening) -> None:
    """A dashboard that ends by itself is missed by people, and by nothing else."""
    await asyncio.wait({listens.task})
    hub.dashboard_url = None
    log.error(
        "dashboard.ended", url=listens.url, remedy="what the log says before; start the hub again to have it back"
    )


def web_server(app: ASGIApp, config: Config, http: Any) -> uvicorn.Config:
    """How the hub serves HTTP. `http`: the class of its connections."""
    proxies = config.server.trusted_proxies
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=GRACEFUL,
    )


def url_of(host: str, sock: socket.socket) -> str:
    """The address of a listening socket, as it is typed."""
    return f"http://{place_of(host, sock.getsockname()[1])}"


@asynccontextmanager
async def listening(config: uvicorn.Config, sockets: list[socket.socket], url: str) -> AsyncIterator[Listening]:
    """A uvicorn server on given sockets, from listening to its orderly end."""
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets), name=f"server {url}")
    listens = asyncio.create_task(server.listens.wait())
    await asyncio.wait({task, listens}, return_when=asyncio.FIRST_COMPLETED)
    listens.cancel()
    try:
        if task.done():
            task.result()
            raise ConfigError(f"{url}: the server did not start")
        yield Listening(server, url, task)
    finally:
        server.should_exit = True
        (fault,) = await asyncio.gather(task, return_exceptions=True)
        if fault is not None:
            log.error("server.fault", url=url, exc_info=fault)


def bound(host: str, port: int, section: str = "server") -> socket.socket:
    """A listening address taken, or a ConfigError that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's algorithm on, which holds answers back for 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # Here, where it can be told: two may bind one port as long as none listens, and uvloop says nothing then.
        sock.listen(BACKLOG)
    except socket.gaierror as error:
        sock.close()
        raise ConfigError(
            f"{section}: {host} cannot be resolved ({error.strerror}); set {section}.host to an address of this"
            " machine, such as 127.0.0.1, or 0.0.0.0 for all"
        ) from None
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"{section}: {host} is no address of this machine; correct {section}.host") from None
        raise ConfigError(
            f"{section}: cannot listen on {host}:{port} ({error.strerror}); end what uses it, or set {section}.port"
        ) from None
    return sock


@asynccontextmanager
async def local_socket(hub: Hub) -> AsyncIterator[None]:
    """Commands may ask this hub: a unix socket in a private folder, its path in `<data>/hub.json`."""
    note = hub.config.data_dir / "hub.json"
    remove_leftover(note)
    folder = private_folder()
    try:
        path = str(folder / "local")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        config = uvicorn.Config(
            create_local_api(hub),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACEFUL,
        )
        async with listening(config, [sock], path):
            write_private(note, json.dumps({"pid": os.getpid(), "socket": path}))
            try:
                yield
            finally:
                note.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftover(note: Path) -> None:
    """Remove the socket's folder of a hub that was killed. Only for who holds the data folder's lock."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        remove_folder(Path(json.loads(note.read_text())["socket"]).parent)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


@asynccontextmanager
async def exclusive(config: Config, wait: float = LOCK_WAIT) -> AsyncIterator[None]:
    """Hold the data folder's lock. Waits a little for a command; a running hub is named in the CommandError."""
    with _lock_file(config.data_dir) as lock:
        deadline = asyncio.get_running_loop().time() + wait
        while not _locked(lock.fileno()):
            if asyncio.get_running_loop().time() > deadline:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise CommandError(f"another hub works in {config.data_dir} (process {holder}); stop it first")
            await asyncio.sleep(LOCK_POLL)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "hub.lock"
        path.touch(mode=0o600)
        return path.open("a+")
    except OSError as error:
        raise unwritable("data folder", folder, error) from None


def unwritable(what: str, folder: Path, error: OSError) -> ConfigError:
    """What to say of a folder in which nothing can be written."""
    setting = "data_dir" if what == "data folder" else "database"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return ConfigError(
            f"{what} {folder} cannot be written (a file is in its place): move it away, or set `{setting}`"
        )
    return ConfigError(
        f"{what} {folder} cannot be written ({error.strerror}): let the user who runs the hub write there, or set"
        f" `{setting}`"
    )


def require_writable(what: str, folder: Path) -> None:
    """Raises ConfigError where nothing can be written in this folder, or where it cannot be made; leaves no trace."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise unwritable(what, folder, error) from None


def require_sqlite(path: Path) -> None:
    """Raises ConfigError unless SQLite can take the file at `path`, or make it."""
    try:
        with path.open("r+b") as file:
            begins = file.read(len(SQLITE_BEGINS))
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise ConfigError(f"database: {path} is a folder: move it away, or set `database`") from None
    except OSError as error:
        raise ConfigError(
            f"database: {path} cannot be written ({error.strerror}): let the user who runs the hub write it"
        ) from None
    if begins and begins != SQLITE_BEGINS:
        raise ConfigError(
            f"database: {path} is no SQLite database: move it away, and `hub up` makes a new one; or put a backup there"
        )


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def local_hub(config: Config) -> AsyncIterator[Caller]:
    """Whom a command asks: the running hub over its socket, else the database itself.

    On SQLite the command holds the lock meanwhile; on PostgreSQL it opens the database beside the others.
    """
    async with AsyncExitStack() as stack:
        path = await socket_or_lock(config, stack)
        if path is not None:
            yield await stack.enter_async_context(asking(path))
            return
        database = await stack.enter_async_context(opened_database(config))
        if config.sqlite_path is not None:
            await upgraded(config, database)
        else:
            await require_current(database)
        bells = await stack.enter_async_context(command_bells(config))
        hub = await stack.enter_async_context(open_hub(config, database, bells))

        async def call(operation: str, arguments: dict[str, Any]) -> Any:
            return await OPERATIONS[operation](hub, arguments)

        yield call


async def socket_or_lock(config: Config, stack: AsyncExitStack) -> str | None:
    """The running hub's socket, or None: then SQLite's lock is held until `stack` ends.

    A hub that is just starting holds the lock before it answers, so both are tried until LOCK_WAIT is over.
    """
    deadline = asyncio.get_running_loop().time() + LOCK_WAIT
    while True:
        path = running_socket(config)
        if path is not None or config.sqlite_path is None:
            return path
        try:
            await stack.enter_async_context(exclusive(config, wait=0))
        except CommandError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        else:
            return None


def running_socket(config: Config) -> str | None:
    """The socket of the hub that runs on this data folder, if one does."""
    try:
        noted = json.loads((config.data_dir / "hub.json").read_text())
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(noted["socket"])
    except (OSError, ValueError, KeyError):
        return None
    return str(noted["socket"])


@asynccontextmanager
async def asking(path: str) -> AsyncIterator[Caller]:
    """Ask the running hub."""
    # A connection that was kept might be closed by the hub at the very moment it is used again.
    transport = httpx.AsyncHTTPTransport(uds=path, limits=httpx.Limits(max_keepalive_connections=0))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:

        async def call(operation: str, arguments: dict[str, Any]) -> Any:
            timeout = None if operation in UNHURRIED else ASK_TIMEOUT
            answer = (await client.post(f"/{operation}", json=arguments, timeout=timeout)).json()
            if not answer["ok"]:
                raise WrongUsage(answer["error"]) if answer["kind"] == "usage" else CommandError(answer["error"])
            return answer["result"]

        yield call


@asynccontextmanager
async def command_bells(config: Config) -> AsyncIterator[Bells]:
    """Bells for a command: rung through a shared Redis, or into the void where there is none but an embedded one."""
    url = config.redis_url
    settings = settings_of(url) if url is not None else None
    async with open_bells(settings, in_process=True) as bells:
        yield bells
