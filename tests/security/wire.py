"""Requests as bytes, and clients that send them as they are: no library in between corrects anything."""

import asyncio
import re
from typing import NamedTuple

from hub.testing.samples import SIGNATURE_HEADER
from tests.test_webhooks import where

NAME = SIGNATURE_HEADER.encode()


class Answer(NamedTuple):
    status: int
    head: bytes
    body: bytes


def request(signatures: list[bytes], body: bytes, path: bytes = b"/webhooks/main", *fields: bytes) -> bytes:
    """A POST with these signatures and further header fields."""
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: hub", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([*lines, *(NAME + b": " + one for one in signatures)]) + b"\r\n\r\n" + body


class Client:
    """One connection that goes on as long as the hub lets it, and another one after that."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: bytes) -> Answer:
        """The answer to these bytes."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*where(self._url))
        reader, writer = self._streams
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\ncontent-length: (\d+)", head)
        assert length is not None
        body = await reader.readexactly(int(length[1]))
        if b"connection: close" in head:
            self.close()
        return Answer(int(head[9:12]), head, body)

    async def status(self, sent: bytes) -> int:
        return (await self.ask(sent)).status

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None
