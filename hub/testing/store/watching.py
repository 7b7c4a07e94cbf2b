"""The outermost layer of the double's API: it records every call, and carries out the faults."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.clock import system_time
from hub.testing.store.access import identify
from hub.testing.store.errors import ApiError
from hub.testing.store.faults import AFTERWARDS, PAGE, Fault, spoilt
from hub.testing.store.profiles import encoded
from hub.testing.store.records import Call
from hub.testing.store.shop import Shop

OWN = "/_double"
DROP = "double.drop"
PIECE = b" " * 16384
HIDDEN = frozenset({"authorization", "cookie"})


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which a fault can cut: the way to do so stands in the request's extensions."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {DROP: {"now": self.transport.abort}}


class Watched:
    """`app` with its calls recorded and its faults carried out. What is below `/_double` passes untouched."""

    def __init__(self, app: ASGIApp, shop: Shop) -> None:
        self.app = app
        self.shop = shop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(OWN):
            await self.app(scope, receive, send)
            return
        body = await read_body(receive)
        call = self._recorded(scope, body)
        fault = self.shop.faults.take(call.method, call.path)
        exchange = Exchange(scope, receive, send, body, call)
        if fault is None:
            await self.app(scope, exchange.receive, exchange.send)
        else:
            call.fault = fault.kind
            await asyncio.sleep(fault.wait)
            await (self._after if fault.kind in AFTERWARDS else self._instead)(fault, exchange)

    def _recorded(self, scope: Scope, body: bytes) -> Call:
        headers = Headers(scope=scope)
        who = identify(self.shop.settings, headers.get("authorization", ""))
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        call = Call(
            self.shop.records.next_number(), scope["method"], scope["path"], query, _readable(body),
            who.name if who else "unknown", {name: value for name, value in headers.items() if name not in HIDDEN},
            system_time(),
        )  # fmt: skip
        self.shop.records.calls.append(call)
        return call

    async def _instead(self, fault: Fault, exchange: "Exchange") -> None:
        match fault.kind:
            case "drop":
                await exchange.drop()
            case "hang":
                await exchange.gone()
            case "endless":
                await exchange.endless()
            case "huge":
                await exchange.answer(200, b'{"data":"' + b"x" * (fault.size - 11) + b'"}')
            case "html":
                await exchange.answer(fault.status, PAGE, {"content-type": "text/html; charset=utf-8"})
            case _:
                status = 200 if fault.kind == "error_in_200" else fault.status
                await exchange.answer(status, self._refusal(fault), dict(fault.headers))

    def _refusal(self, fault: Fault) -> bytes:
        if isinstance(fault.body, str):
            return fault.body.encode()
        profile = self.shop.profile
        body = fault.body
        if body is None and fault.status == 429:
            body = profile.limited(0, in_body=False)
        elif body is None:
            body = profile.error(ApiError(fault.status), self.shop.settings)
        return b"" if fault.status == 204 else encoded(body, "seconds")

    async def _after(self, fault: Fault, exchange: "Exchange") -> None:
        if fault.kind == "slow":
            await self.app(exchange.scope, exchange.receive, exchange.send)
            return
        status, headers, body = await exchange.collect(self.app)
        if fault.kind == "lost":
            await exchange.drop()
        elif fault.kind == "cut":
            await exchange.answer(status, body, headers, sent=len(body) // 2)
        else:
            await exchange.answer(status, spoilt(fault.kind, body), headers)


class Exchange:
    """One request, whose body was read, and the ways to answer it. The call's status is that of what is answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body: bytes, call: Call) -> None:
        self.scope = scope
        self._body: bytes | None = body
        self._receive = receive
        self._send = send
        self._call = call

    async def receive(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._call.status = message["status"]
        await self._send(message)

    async def collect(self, app: ASGIApp) -> tuple[int, dict[str, str], bytes]:
        """What `app` answers, uncompressed, kept from the caller."""
        status, headers, body = 0, {}, bytearray()

        async def keep(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
            body.extend(message.get("body", b""))

        plain = [(name, value) for name, value in self.scope["headers"] if name != b"accept-encoding"]
        await app({**self.scope, "headers": plain}, self.receive, keep)
        headers.pop("content-length", None)
        return status, headers, bytes(body)

    async def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, sent: int | None = None
    ) -> None:
        """The whole answer; with `sent` only so many bytes of it, then the connection is cut."""
        named = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
        if status == 204:
            del named["content-length"]
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in named.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        if sent is None:
            await self.send({"type": "http.response.body", "body": body})
            return
        await self.send({"type": "http.response.body", "body": body[:sent], "more_body": True})
        # Time for the bytes to leave: what is cut off at once takes them with it.
        await asyncio.sleep(0.05)
        await self.drop(answered=True)

    async def drop(self, answered: bool = False) -> None:
        """Cut the connection."""
        if not answered:
            self._call.status = None
        await self._abort()

    async def gone(self) -> None:
        """Until the caller is gone, or the server stops."""
        stopping: asyncio.Event = self.scope["state"]["stopping"]
        waits = [asyncio.ensure_future(self._until_disconnected()), asyncio.ensure_future(stopping.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if stopping.is_set():
            await self._abort()

    async def _abort(self) -> None:
        self.scope["extensions"][DROP]["now"]()
        # uvicorn asks for an answer until it has heard of it.
        await self._until_disconnected()

    async def _until_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def endless(self) -> None:
        """A body that never ends, for as long as the caller reads it."""
        raw = [(b"content-type", b"application/json")]
        await self.send({"type": "http.response.start", "status": 200, "headers": raw})
        leaving = asyncio.ensure_future(self.gone())
        await self.send({"type": "http.response.body", "body": b'{"data":[', "more_body": True})
        while not leaving.done():
            await self.send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0)
        await leaving


async def read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _readable(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
