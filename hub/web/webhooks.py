"""`POST /webhooks/{store}`: the bytes in, the vendor's envelope out.

A bare ASGI endpoint: on the way of every webhook, so no Request, no Response, no model is built for it.
"""

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import orjson
import structlog
from starlette.types import Message, Receive, Scope, Send

from hub.errors import NotAnEvent, Refusal, Unavailable
from hub.event import LARGEST_BODY
from hub.logs import Tally
from hub.receive import UNREAD, Incoming, Receiving
from hub.store.events import Kept

BODY_WITHIN = 10.0
MOST_UNFINISHED = 64 * 1024 * 1024
LINGER = 2.0
AGAIN = (b"retry-after", b"5")

ACCEPTED = b'{"success":true,"data":{"id":"%b","duplicate":false},"message":"event accepted"}'
REPEATED = b'{"success":true,"data":{"id":"%b","duplicate":true},"message":"event was accepted before"}'
UNAVAILABLE = b'{"success":false,"error":{"code":"UNAVAILABLE","message":"not kept; send it again"}}'
JSON = (b"content-type", b"application/json")

Body = TypeVar("Body", bytes, bytearray)
log = structlog.get_logger()


class HungUp(Exception):
    """The client went away while it was sending."""


class Crowded(Unavailable):
    """The unfinished bodies together hold as much as they may; this one is not read on."""


class Webhooks:
    """The endpoint. Every answer is JSON; no input gives a 500. `body_within`: seconds for a body to arrive.

    `most_unfinished`: bytes of all bodies together that have not come to their end.
    """

    def __init__(
        self, receiving: Receiving, body_within: float = BODY_WITHIN, most_unfinished: int = MOST_UNFINISHED
    ) -> None:
        self._receiving = receiving
        self._bodies = Bodies(body_within, most_unfinished)
        self._hung_up = Tally(lambda count, stores: log.info("event.hung_up", count=count, stores=stores))
        self._crowded = Tally(lambda count, stores: log.warning("event.crowded", count=count, stores=stores))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            kept = await self._take(scope, receive)
        except Refusal as refusal:
            await send_refusal(receive, send, refusal)
        except Crowded:
            self._crowded.add(self._store(scope))
            await send_unavailable(send, [(b"connection", b"close")], more_body=True)
            await discard_rest(receive, send)
        except Unavailable as trouble:
            log.warning("event.unavailable", reason=str(trouble))
            await send_unavailable(send)
        except HungUp:
            self._hung_up.add(self._store(scope))
        else:
            await send_json(send, 200, answer_to(kept))

    def _store(self, scope: Scope) -> str:
        """The store's name; `?` for all that nobody configured: anyone can make them up."""
        name: str = scope["path_params"]["store"]
        return name if name in self._receiving.hub.keys else "?"

    async def _take(self, scope: Scope, receive: Receive) -> Kept:
        store: str = scope["path_params"]["store"]
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        client = scope.get("client")
        remote = client[0] if client else None
        try:
            refuse_early(scope["method"], headers)
            body = await self._bodies.read(receive)
        except Refusal as refusal:
            self._receiving.remember(refusal, Incoming(store, b"", headers, remote))
            raise
        return await self._receiving.receive(Incoming(store, body, headers, remote))


def answer_to(kept: Kept) -> bytes:
    """The body of the answer to an event that is kept."""
    return (REPEATED if kept.duplicate else ACCEPTED) % kept.id.encode()


def refuse_early(method: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse what can be refused before its body is read."""
    if method != "POST":
        raise NotAnEvent("webhooks are posted", status=405)
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise NotAnEvent("the body is compressed; send it as it is", status=415)
        if name == b"content-length" and value.isdigit() and int(value[:20]) > LARGEST_BODY:
            raise too_large()


def too_large() -> NotAnEvent:
    return NotAnEvent("the body is larger than 1 MiB", status=413)


class Bodies:
    """Reads bodies, each bounded in size, and in time by `within` seconds and at most a tenth more.

    One timer looks after all of them: one for each webhook costs a tenth of receiving it. Together those that have
    not come to their end hold at most `most` bytes.
    """

    def __init__(self, within: float, most: int = MOST_UNFINISHED) -> None:
        self._within = within
        self._most = most
        self._held = 0
        self._begun: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive) -> bytes:
        """The body's raw bytes. Raises NotAnEvent (408, 413), Crowded or HungUp."""
        task = self._begin()
        try:
            message = await _next(receive)
            body: bytes = message.get("body", b"")
            return await self._rest(body, receive) if message.get("more_body", False) else _bounded(body)
        except asyncio.CancelledError:
            if task in self._late and not task.uncancel():
                reason = f"the body did not arrive within {self._within:g} s"
                raise NotAnEvent(reason, status=408) from None
            raise
        finally:
            del self._begun[task]
            self._late.discard(task)

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        # Grown in one piece: each of a list of single bytes would hold forty.
        body, more = bytearray(first), True
        self._held += len(body)
        try:
            while more:
                if self._held > self._most:
                    raise Crowded("too many bodies are under way")
                message = await _next(receive)
                chunk = message.get("body", b"")
                body += chunk
                self._held += len(chunk)
                more = message.get("more_body", False)
                _bounded(body)
            return bytes(body)
        finally:
            self._held -= len(body)

    def _begin(self) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        self._begun[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._within / 10, self._look)
        return task

    def _look(self) -> None:
        """Cancel what is late; the oldest stand first."""
        loop = asyncio.get_running_loop()
        for task, since in self._begun.items():
            if since + self._within > loop.time():
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        self._timer = loop.call_later(self._within / 10, self._look) if self._begun else None


def _bounded(body: Body) -> Body:
    if len(body) > LARGEST_BODY:
        raise too_large()
    return body


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise HungUp
    return message


async def send_refusal(receive: Receive, send: Send, refusal: Refusal) -> None:
    """The vendor's error envelope; where the body was not read to its end, the connection closes."""
    unread = refusal.status in UNREAD
    headers = [(b"connection", b"close")] if unread else []
    if refusal.status == 405:
        headers.append((b"allow", b"POST"))
    await send_json(send, refusal.status, error_of(refusal), headers, more_body=unread)
    if unread:
        await discard_rest(receive, send)


async def send_unavailable(
    send: Send, headers: list[tuple[bytes, bytes]] | None = None, *, more_body: bool = False
) -> None:
    """503: nothing was kept, and the store should send it again."""
    await send_json(send, 503, UNAVAILABLE, [AGAIN, *(headers or ())], more_body=more_body)


async def discard_rest(receive: Receive, send: Send) -> None:
    """End an answer to a body that was not read, a moment later.

    Closing with bytes unread would take the answer back from a client that still sends.
    """
    with suppress(TimeoutError, HungUp):
        async with asyncio.timeout(LINGER):
            while (await _next(receive)).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


def error_of(refusal: Refusal) -> bytes:
    """The body of the answer to what is refused."""
    error: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    if refusal.details:
        error["details"] = [{"field": problem.field, "message": problem.message} for problem in refusal.details]
    return orjson.dumps({"success": False, "error": error})


async def send_json(
    send: Send,
    status: int,
    body: bytes,
    headers: list[tuple[bytes, bytes]] | None = None,
    *,
    more_body: bool = False,
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [JSON, length, *(headers or ())]})
    await send({"type": "http.response.body", "body": body, "more_body": more_body})
