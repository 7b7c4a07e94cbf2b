"""A TCP wire between the hub and someone else, which can be cut in every way that a network or a bad peer knows.

`pass` carries; `hang` takes what comes and answers nothing; `one-way` carries there and nothing back; `reset` answers
each connection with RST; `cut` closes in the midst of the answer's headers; `drip` brings one byte of the answer every
two seconds; `closed` takes no connection. What is connected already suffers the same.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]
MODES = ("pass", "hang", "one-way", "reset", "cut", "drip", "closed")
BEFORE_THE_CUT = 24
DRIP_EVERY = 2.0
READ = 65536


class Wire:
    """`async with Wire(connect) as wire:` listens on a free port (`wire.port`); `connect` reaches the peer."""

    def __init__(self, connect: Connect, host: str = "127.0.0.1") -> None:
        self.connect = connect
        self.host = host
        self.port = 0
        self.mode = "pass"
        self.accepted = 0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def become(self, mode: str) -> None:
        assert mode in MODES
        if self.mode == "closed" and mode != "closed":
            await self._listen()
        self.mode = mode
        if mode == "closed" and self._server is not None:
            self._server.close()
        if mode in {"reset", "closed"}:
            for writer in list(self._open):
                reset(writer)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer)
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "reset":
            await reader.read(1)
            return reset(writer)
        theirs, peer = await self.connect()
        try:
            ways = [asyncio.create_task(self._there(reader, peer)), asyncio.create_task(self._back(theirs, writer))]
            self._tasks.update(ways)
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
                self._tasks.discard(way)
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            peer.transport.abort()

    async def _until(self, *modes: str) -> None:
        while self.mode not in modes:
            await self._changed.wait()

    async def _there(self, reader: asyncio.StreamReader, peer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ):
            await self._until("pass", "one-way", "cut", "drip")
            peer.write(data)
            await peer.drain()

    async def _back(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await theirs.read(READ):
            # What was lost on the way does not come when the wire is whole again.
            await self._until("pass", "cut", "drip")
            if self.mode == "cut":
                writer.write(data[:BEFORE_THE_CUT])
                return await writer.drain()
            for piece in [data] if self.mode == "pass" else [data[at : at + 1] for at in range(len(data))]:
                writer.write(piece)
                await writer.drain()
                if self.mode == "drip":
                    await asyncio.sleep(DRIP_EVERY)
        return None


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets RST."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def to_port(port: int) -> Connect:
    return lambda: asyncio.open_connection("127.0.0.1", port)


def to_socket(path: str) -> Connect:
    return lambda: asyncio.open_unix_connection(path)
