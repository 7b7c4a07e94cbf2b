"""A destination that misbehaves to order: a raw-socket HTTP server for tests of whatever calls out.

    async with hostile(drop, answer(b"fine")) as server:
        await client.post(server.url)

The first request meets the first behaviour, the next the next, the last one stays. `server.asked` holds what came.
"""

import asyncio
import gzip
import ssl
import struct
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import httpx
from aiohttp.abc import AbstractResolver

from hub.client import Guard, open_client

KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDkblwdeVWLULKI4b
RDAj/tXzGxY9BuhISXMo83plyPShRANCAASQNRoBvY/PtY599RmmHVC0ypybsZgq
HYXZmUF3jvFWHkiBxUqt7TLI3r9EbySdmMa2pKu2iuXwE0mias+cEl+f
-----END PRIVATE KEY-----
"""
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBZzCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJA1GgG9j8+1jn31
GaYdULTKnJuxmCodhdmZQXeO8VYeSIHFSq3tMsjev0RvJJ2Yxrakq7aK5fATSaJq
z5wSX5+jTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBSQiFh/HYIuvqTM40Kk4zvbxPN2oDAKBggqhkjOPQQD
AgNIADBFAiEAqY3LIJR0uqy/k60Au/d6GH9otD1KDPQ9rJe9vxjC2IICIF3iLIml
1cxpLOmeoX4ksvJrDeTHcakc43TBb3jl+lHJ
-----END CERTIFICATE-----
"""
"""For localhost and 127.0.0.1, signed by itself: nobody trusts it who is not told to."""

PIECE = b"0" * 65536


@dataclass(frozen=True)
class Asked:
    """One request as it came: the target as on the wire, header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hostile:
    """The running server. `connections` counts all that were ever accepted, `open` those of now."""

    scheme: str
    host: str
    port: int
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}/hook"


Behaviour = Callable[[Asked, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request on the writer. The connection stays open unless it closes the writer."""


@asynccontextmanager
async def hostile(
    *behaviours: Behaviour,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    read_body: bool = True,
) -> AsyncIterator[Hostile]:
    """Serve `behaviours` on a free port. `read_body=False`: they come once the head is read, and it is closed."""
    running = Hostile("https" if tls else "http", host, port)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        running.connections += 1
        running.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
                await _converse(running, behaviours, reader, writer, read_body)
        finally:
            running.open -= 1
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls, limit=2**20)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _converse(
    running: Hostile,
    behaviours: Sequence[Behaviour],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    read_body: bool,
) -> None:
    while not writer.is_closing():
        asked = await read_request(reader, read_body)
        running.asked.append(asked)
        behaviour = behaviours[min(len(running.asked), len(behaviours)) - 1]
        await behaviour(asked, reader, writer)
        await writer.drain()
        if not read_body:
            return


async def read_request(reader: asyncio.StreamReader, read_body: bool = True) -> Asked:
    """One HTTP/1.1 request. Raises IncompleteReadError when the other side hangs up first."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b""
    if read_body and headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif read_body:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body)


def answer(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> Behaviour:
    """A proper answer; `headers` as `Name: value`."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))
    return raw(head.encode("latin-1") + b"\r\n" + body)


def raw(data: bytes) -> Behaviour:
    """Exactly these bytes; the connection stays open."""

    async def behave(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return behave


def then_close(data: bytes) -> Behaviour:
    """These bytes, and the connection is closed in order."""

    async def behave(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return behave


drop = then_close(b"")
"""Reads the request and hangs up."""


def then_reset(data: bytes = b"") -> Behaviour:
    """These bytes, then a reset (RST) in place of an orderly end."""

    async def behave(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


async def hang(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads the request and never answers; ends when the other side hangs up."""
    await reader.read()
    writer.close()


def drip(piece: bytes, every: float, before: bytes = b"") -> Behaviour:
    """`before` at once, then `piece` again and again, `every` so many seconds, until the other side hangs up."""

    async def behave(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every)

    return behave


def flood(head: bytes, piece: bytes = PIECE, total: int = 10 * 2**30) -> Behaviour:
    """`head` and then `total` bytes, as fast as they are taken."""

    async def behave(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(total // len(piece)):
            writer.write(piece)
            await writer.drain()

    return behave


def gzip_bomb(size: int) -> Behaviour:
    """A small answer that opens to `size` zero bytes."""
    return answer(gzip.compress(bytes(size)), "200 OK", "Content-Encoding: gzip", "Content-Type: text/plain")


def server_tls() -> ssl.SSLContext:
    """The server's side of CERTIFICATE."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder, "both.pem")
        both.write_text(KEY + CERTIFICATE)
        context.load_cert_chain(both)
    return context


async def until(condition: Callable[[], bool], seconds: float = 45.0) -> None:
    """Wait for a condition; AssertionError if it does not come true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def client_of(
    server: Hostile, timeout: float = 60, resolver: AbstractResolver | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may reach this server and nothing else inside."""
    async with open_client(Guard([server.authority]), timeout=timeout, resolver=resolver) as client:
        yield client


@contextmanager
def less_than(mebibytes: int) -> Iterator[None]:
    """What runs inside must not have more than this in memory at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes * 2**20
    finally:
        tracemalloc.stop()
