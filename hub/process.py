"""The hub's processes: `up`, all in one; `serve` and `work` on PostgreSQL; and commands beside a running hub.

SQLite serves one process at a time: whoever works on it holds `<data>/hub.lock`. A running `hub up` answers commands
on a unix socket, whose path stands in `<data>/hub.json`.
"""

import asyncio
import fcntl
import gc
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog
import uvicorn
from arq.connections import RedisSettings

from hub.config import Config
from hub.database import Database, open_database
from hub.errors import CommandError, ConfigError
from hub.jobs import Bells, open_bells, settings_of
from hub.logs import configure_logs
from hub.runtime import Hub, open_hub, redactor
from hub.schema import require_current, upgrade
from hub.store import routes
from hub.store.workers import end_leases
from hub.valkey import open_valkey, private_folder
from hub.web.api import OPERATIONS, WrongUsage, create_local_api
from hub.web.app import create_app
from hub.worker import running

LOCK_WAIT = 5.0
LOCK_POLL = 0.05
GRACEFUL = 10
BACKLOG = 2048
ASK_TIMEOUT = 60.0

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
        log.info("schema.ready", state=await upgrade(database, config.database.reveal()))
        redis = await stack.enter_async_context(redis_settings(config))
        bells = await stack.enter_async_context(open_bells(redis, in_process=True))
        hub = await stack.enter_async_context(open_hub(config, database, bells))
        if config.sqlite_path is not None:
            await database.write(lambda connection: end_leases(connection, hub.now()))
        await tell_of_gone_routes(hub)
        await stack.enter_async_context(running(hub))
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


async def tell_of_gone_routes(hub: Hub) -> None:
    """Deliveries wait for routes that the config no longer has: said at start, so that nobody waits in vain."""
    counts = await hub.database.read(routes.counts)
    for name in sorted(counts.keys() - hub.config.routes.keys()):
        waiting = counts[name].get("pending", 0) + counts[name].get("held", 0)
        if waiting:
            remedy = f"put it back, or `hub replay --route {name} --to OTHER`, or `hub cancel --route {name}`"
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
    database = open_database(config.database.reveal())
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def redis_settings(config: Config) -> AsyncIterator[RedisSettings]:
    """How to reach Redis; the embedded one is started for as long."""
    if config.redis_url is not None:
        yield settings_of(config.redis_url)
        return
    async with open_valkey(config.data_dir) as valkey:
        yield valkey.settings


def _begin(config: Config) -> asyncio.Event:
    """Send the log where the config says; the event that a signal to stop sets."""
    configure_logs(config.log.level, config.log.format, redactor(config))
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
    config = uvicorn.Config(
        create_app(hub),
        http="httptools",
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACEFUL,
    )
    # The collector's pauses are what a webhook notices at full load; what start-up made lives for ever anyway.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    async with listening(config, [sock], f"http://{host}:{sock.getsockname()[1]}") as listens:
        log.info("hub.listening", url=listens.url)
        yield listens


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
        await task


def bound(host: str, port: int) -> socket.socket:
    """A listening address taken, or a ConfigError that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: else asyncio leaves Nagle's algorithm on, and an answer of two writes takes 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # Here, where it can be told: two may bind one port as long as none listens, and uvloop says nothing then.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"server: cannot listen on {host}:{port} ({error.strerror}); end what uses it, or set server.port"
        ) from None
    return sock


@asynccontextmanager
async def local_socket(hub: Hub) -> AsyncIterator[None]:
    """Commands may ask this hub: a unix socket in a private folder, its path in `<data>/hub.json`."""
    folder = private_folder()
    try:
        path = str(folder / "local")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        config = uvicorn.Config(create_local_api(hub), log_config=None, access_log=False, lifespan="off", ws="none")
        note = hub.config.data_dir / "hub.json"
        async with listening(config, [sock], path):
            write_private(note, json.dumps({"pid": os.getpid(), "socket": path}))
            try:
                yield
            finally:
                note.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


@asynccontextmanager
async def exclusive(config: Config, wait: float = LOCK_WAIT) -> AsyncIterator[None]:
    """Hold the data folder's lock. Waits a little for a command; a running hub is named in the CommandError."""
    config.data_dir.mkdir(parents=True, exist_ok=True)
    path = config.data_dir / "hub.lock"
    with path.open("a+") as lock:
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
    path = running_socket(config)
    if path is not None:
        async with asking(path) as caller:
            yield caller
        return
    async with AsyncExitStack() as stack:
        if config.sqlite_path is not None:
            await stack.enter_async_context(exclusive(config))
        database = await stack.enter_async_context(opened_database(config))
        if config.sqlite_path is not None:
            await upgrade(database, config.database.reveal())
        else:
            await require_current(database)
        bells = await stack.enter_async_context(command_bells(config))
        hub = await stack.enter_async_context(open_hub(config, database, bells))

        async def call(operation: str, arguments: dict[str, Any]) -> Any:
            return await OPERATIONS[operation](hub, arguments)

        yield call


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
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=ASK_TIMEOUT) as client:

        async def call(operation: str, arguments: dict[str, Any]) -> Any:
            answer = (await client.post(f"/{operation}", json=arguments)).json()
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
