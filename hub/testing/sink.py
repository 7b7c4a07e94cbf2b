"""An HTTP endpoint to send to: it keeps all it received and answers as it is told, politely or not.

It speaks HTTP through h11 over a plain asyncio server, in the caller's loop: only so can it cut a connection
after it has read a request, or leave one without an answer.
"""

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar, overload

import h11
import httpx

Item = TypeVar("Item")
READ = 65536


class Inbox(Generic[Item]):
    """What a counterpart received, in order, and a way to wait for it."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items))

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        return self._items[place]

    async def add(self, item: Item) -> None:
        async with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    async def wait(self, count: int, timeout: float = 10.0) -> list[Item]:
        """All items, once there are `count`. Raises TimeoutError after `timeout` seconds."""
        return await self.until(lambda items: len(items) >= count, timeout, f"{count} were awaited")

    async def until(
        self, ready: Callable[[list[Item]], bool], timeout: float = 10.0, what: str = "that is not it"
    ) -> list[Item]:
        """All items, once `ready` says yes to them. Raises TimeoutError after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: ready(self._items))
        except TimeoutError:
            raise TimeoutError(f"{len(self)} arrived in {timeout} s; {what}") from None
        return list(self._items)


@dataclass(frozen=True)
class Received:
    """One request, read to its end. `path` holds the query too; header names in any case."""

    method: str
    path: str
    headers: httpx.Headers
    body: bytes
    at: datetime

    @property
    def key(self) -> str | None:
        """What the sender calls this request, the same at each attempt."""
        key: str | None = self.headers.get("idempotency-key") or self.headers.get("webhook-id")
        return key

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """How one request is answered. `wait` seconds first; `drip` seconds between the bytes of the body.

    `hang`: never answered. `drop`: the connection is cut, once the request has been read.
    """

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drip: float = 0.0
    hang: bool = False
    drop: bool = False


Reply = Answer | Callable[[Received], Answer]
Matches = Callable[[Received], bool]


def _any(request: Received) -> bool:
    return True


class HttpSink:
    """`async with HttpSink() as sink:` listens on a free port of 127.0.0.1 (`sink.url`).

    `sink.answer(…)` lines up answers, one for each request to come (`to`: of those that it says yes to; an answer
    may be a function of its request); after them `sink.default` holds. Anything else is a subclass that overrides
    `respond`. `received` is the Inbox; `overlaps` names the keys that were
    being answered twice at one moment.
    """

    def __init__(self, *answers: Answer, default: Answer | None = None, port: int = 0) -> None:
        self.received: Inbox[Received] = Inbox()
        self.default = default or Answer()
        self.overlaps: set[str] = set()
        self.port = port
        self._answers = deque[tuple[Reply, Matches]]((answer, _any) for answer in answers)
        self._open: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, *answers: Reply, to: Matches | None = None) -> None:
        self._answers.extend((answer, to or _any) for answer in answers)

    async def wait(self, count: int, timeout: float = 10.0) -> list[Received]:
        return await self.received.wait(count, timeout)

    async def respond(self, request: Received) -> Answer:
        """What a request is answered when no answer is lined up."""
        return self.default

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: Any) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, h11.RemoteProtocolError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while request := await _next_request(connection, reader):
            key = request.key or ""
            with self._counted(key):
                await self.received.add(request)
                answer = self._lined_up(request) or await self.respond(request)
                if not await _give(answer, request.method, connection, reader, writer):
                    return
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    def _lined_up(self, request: Received) -> Answer | None:
        for place, (answer, matches) in enumerate(self._answers):
            if matches(request):
                del self._answers[place]
                return answer(request) if callable(answer) else answer
        return None

    @contextlib.contextmanager
    def _counted(self, key: str) -> Iterator[None]:
        self._open[key] += 1
        if key and self._open[key] > 1:
            self.overlaps.add(key)
        try:
            yield
        finally:
            self._open[key] -= 1


async def _next_request(connection: h11.Connection, reader: asyncio.StreamReader) -> Received | None:
    """The next request of a connection, or None where the client has gone."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            headers = httpx.Headers(request.headers.raw_items())
            path = request.target.decode("ascii", "replace")
            return Received(request.method.decode(), path, headers, bytes(body), datetime.now(UTC))
        else:
            return None


async def _give(
    answer: Answer,
    method: str,
    connection: h11.Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Answers; False where the connection is over."""
    if answer.drop:
        return False
    if answer.hang:
        await reader.read()
        return False
    await asyncio.sleep(answer.wait)
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(answer.body))}
    headers |= {name.lower(): value for name, value in answer.headers.items()}
    if answer.status == 204:
        del headers["content-length"]
    _write(writer, connection.send(h11.Response(status_code=answer.status, headers=list(headers.items()))))
    for piece in _pieces(answer) if method != "HEAD" else []:
        _write(writer, connection.send(h11.Data(data=piece)))
        await writer.drain()
        await asyncio.sleep(answer.drip)
    _write(writer, connection.send(h11.EndOfMessage()))
    await writer.drain()
    return True


def _write(writer: asyncio.StreamWriter, data: bytes | None) -> None:
    if data:
        writer.write(data)


def _pieces(answer: Answer) -> list[bytes]:
    if not answer.drip:
        return [answer.body] if answer.body else []
    return [answer.body[place : place + 1] for place in range(len(answer.body))]
