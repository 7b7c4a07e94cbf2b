"""The double on uvicorn: within a test's own process and loop, or alone in one of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import uvicorn

from hub.testing.store.app import create_app
from hub.testing.store.handle import StoreHandle
from hub.testing.store.settings import StoreSettings
from hub.testing.store.shop import Shop
from hub.testing.store.watching import Connection

STOP_WITHIN = 5
BACKLOG = 512


class Server(uvicorn.Server):
    """uvicorn that tells when it listens, leaves signals alone, and lets answers without end know of its end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state["stopping"] = self.stopping
        await super().startup(sockets)
        self.listens.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stopping.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(shop: Shop, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The URL at which the shop listens, port 0 being any free one. OSError where the port is taken."""
    with socket.create_server((host, port), backlog=BACKLOG) as listener:
        config = uvicorn.Config(
            create_app(shop), http=Connection, ws="none", log_config=None, access_log=False, server_header=False,
            lifespan="on", timeout_graceful_shutdown=STOP_WITHIN,
        )  # fmt: skip
        server = Server(config)
        task = asyncio.create_task(server.serve([listener]))
        listens = asyncio.create_task(server.listens.wait())
        await asyncio.wait({task, listens}, return_when=asyncio.FIRST_COMPLETED)
        listens.cancel()
        try:
            if not task.done():
                yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class StoreApi(StoreHandle):
    """`async with StoreApi(profile="v2", orders=10) as store`: a double in this process; `store.url` is its address.

    Takes the fields of `StoreSettings` by name. `store.shop` is what it consists of.
    """

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        super().__init__()
        self.shop = Shop(StoreSettings().changed(settings))
        self._port = port
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.url = await self._running.enter_async_context(serving(self.shop, port=self._port))
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._running.aclose()
