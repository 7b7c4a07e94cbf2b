"""Outgoing HTTP and sockets, guarded: everything that a connector sends leaves through here.

httpx is the face, aiohttp's session the engine. They are joined here and not by httpx-aiohttp, whose transport
calls a POST that was read and then dropped a ConnectTimeout, lets some of aiohttp's errors out as they are and
rewrites the percent signs of a URL. Three promises are kept:

* only what was surely not sent is a ConnectError or a ConnectTimeout, and nothing is sent twice;
* no private address is reached that `network.allow` does not name: the check is made on the very address that
  the socket is then connected to, so that no spelling, redirect or rebinding gets around it;
* a destination costs no more than its deadline and `max_answer` bytes, and no text made here holds the path or
  the query of a URL, which may be secrets.
"""

import asyncio
import functools
import io
import logging
import math
import os
import socket
import ssl
import zlib
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace
from yarl import URL

from hub.errors import AddressRefused
from hub.guard import Guard, place_of

__all__ = ["Exchange", "Guard", "connect", "exchange", "open_client", "tls_context"]

KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept. Node and uvicorn close theirs after 5, and a POST that meets that is lost."""

# Twice what the record keeps: secrets are replaced before the rest is cut off, so none is cut in two.
RECORDED = 8192
LARGE = 1024 * 1024

MOST_MESSAGES = 20
"""To one request: its answer, and those that may go before it, such as `100 Continue`."""
# What is parsed between two looks at their number.
PIECE = 4096

SAFE_REQUEST_HEADERS = {
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "date",
    "host", "idempotency-key", "transfer-encoding", "user-agent", "webhook-id", "webhook-timestamp", "x-request-id",
}  # fmt: skip
SHOWN_ANSWER_HEADERS = {
    "content-encoding", "content-length", "content-type", "date", "retry-after", "server", "x-request-id",
    "x-slack-req-id",
}  # fmt: skip


@dataclass
class Exchange:
    """The last request made and its answer, as text for a person; `status_code` once the answer's head is there.

    The URL's path, its query and every header not known to be harmless are masked; bodies end after 8 KiB.
    """

    request: str | None = None
    response: str | None = None
    status_code: int | None = None


exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""Set it to an Exchange, and requests made in that context are written there."""


def _request_text(request: httpx.Request, headers: list[tuple[str, str]]) -> str:
    lines = [f"{request.method} {request.url.scheme}://{request.url.netloc.decode('ascii')}/…"]
    lines += [f"{name}: {value if name in SAFE_REQUEST_HEADERS else '****'}" for name, value in headers]
    try:
        body = _recorded(request.content)
    except httpx.RequestNotRead:
        body = "(sent as a stream)"
    return "\n".join([*lines, "", body])


def _answer_text(answer: aiohttp.ClientResponse, body: bytes) -> str:
    lines = [f"HTTP {answer.status} {answer.reason or ''}".rstrip()]
    headers = [(name.lower(), value) for name, value in answer.headers.items()]
    lines += [f"{name}: {value}" for name, value in headers if name in SHOWN_ANSWER_HEADERS]
    return "\n".join([*lines, "", _recorded(body)]).encode("utf-8", "replace").decode("utf-8")


def _recorded(body: bytes) -> str:
    text = body[:RECORDED].decode("utf-8", "replace")
    return f"{text}…" if len(body) > RECORDED else text


@dataclass
class _Call:
    """How far one request has come: decides whether a failure means "not sent"."""

    place: str
    host: str = ""
    port: int = 0
    connected: bool = False
    refused: AddressRefused | None = None


_call: ContextVar[_Call] = ContextVar("call")


class _Answers(ResponseHandler):
    """A connection's incoming side, which takes few messages to one request.

    aiohttp parses all that has come, and passes over informational answers, without letting anybody else have a turn:
    a destination that sends them without end would hold up the whole process for as long as it likes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._messages = 0

    def set_response_params(self, **given: Any) -> None:
        self._messages = 0
        super().set_response_params(**given)

    def feed_data(self, data: Any, size: int = 0) -> None:
        self._messages += 1
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        # Without data it is told to go on with what it has.
        for start in range(0, len(data) or 1, PIECE):
            super().data_received(data[start : start + PIECE])
            if self.transport is None or self.transport.is_closing():
                return
            if self._messages > MOST_MESSAGES:
                self.transport.close()
                self.set_exception(HttpProcessingError(message="it answers without end"))
                return


class _GuardedConnector(aiohttp.TCPConnector):
    """Makes sockets only to addresses that the guard lets through for the host of the request under way.

    A connection is made within the task of its request, or in tasks that inherit its context, so `_call` is the
    right one; outside a request there is none and nothing is connected. A pooled connection was made for the same
    host and port under the same guard.
    """

    def __init__(self, guard: Guard, resolver: AbstractResolver) -> None:
        self._guard = guard
        super().__init__(
            resolver=resolver,
            socket_factory=self._socket,
            ssl=tls_context(),
            keepalive_timeout=KEEP_ALIVE,
            limit=0,
        )
        self._factory = cast("functools.partial[ResponseHandler]", functools.partial(_Answers, self._loop))

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        call = _call.get()
        call.host, call.port = req.url.raw_host or "", req.port or 0
        connection = await super().connect(req, traces, timeout)
        call.connected = True
        return connection

    def _socket(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        call = _call.get()
        try:
            self._guard.check(call.host, call.port, [str(address[0])])
        except AddressRefused as refused:
            call.refused = refused
            raise
        return socket.socket(family, kind, protocol)


class _GuardedResolver(AbstractResolver):
    """Refuses a name of which any address is forbidden, before the first is tried."""

    def __init__(self, guard: Guard, resolver: AbstractResolver) -> None:
        self._guard = guard
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not found:
            raise OSError(f"{host} has no address")
        self._guard.check(host, port, [result["host"] for result in found])
        return found

    async def close(self) -> None:
        await self._resolver.close()


class _Broken(aiohttp.ClientError):
    """Holds an error (its cause) at which aiohttp would send a GET, PUT or DELETE again."""


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken from error


class _Transport(httpx.AsyncBaseTransport):
    """One request over aiohttp's session, its answer read whole, all under one deadline."""

    def __init__(self, guard: Guard, timeout: float, max_answer: int, resolver: AbstractResolver) -> None:
        self._timeout = timeout
        self._max_answer = max_answer
        self._resolver = resolver
        self._session = aiohttp.ClientSession(
            connector=_GuardedConnector(guard, resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=["Content-Type"],
            auto_decompress=False,
            trust_env=False,
            middlewares=[_send_once],
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme not in {"http", "https"} or not request.url.host:
            raise httpx.UnsupportedProtocol("the address must begin with http:// or https:// and name a host")
        call = _Call(request.url.netloc.decode("ascii"))
        asked = request.extensions.get("timeout", {})
        outer = _call.set(call)
        try:
            async with asyncio.timeout(min(self._timeout, asked.get("read") or math.inf)):
                return await self._carry(request, asked.get("connect"))
        except Exception as error:
            failure = call.refused or _failure(error, call)
            if failure is None:
                raise
        finally:
            _call.reset(outer)
        # Out here, so that the original, whose text may hold the whole URL, is not its context.
        raise failure

    async def _carry(self, request: httpx.Request, connect: float | None) -> httpx.Response:
        # How the body is framed is aiohttp's to say.
        headers = [header for header in request.headers.multi_items() if header[0] != "transfer-encoding"]
        record = exchange.get()
        if record is not None:
            record.request, record.response, record.status_code = _request_text(request, headers), None, None
        answer = await self._session.request(
            request.method,
            _exact(request.url),
            headers=headers,
            data=_body_of(request),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(connect=connect),
        )
        kept = bytearray()
        try:
            cut = await self._read(answer, kept)
        finally:
            # Gives the connection back, or closes it if the answer was not read to its end.
            answer.release()
            plain, cut_open = _unpacked(kept, answer.headers.get("content-encoding", ""), self._max_answer)
            if record is not None:
                record.response, record.status_code = _answer_text(answer, plain), answer.status
        return _response(request, answer, plain, cut or cut_open)

    async def _read(self, answer: aiohttp.ClientResponse, kept: bytearray) -> bool:
        async for chunk in answer.content.iter_any():
            kept += chunk
            if len(kept) > self._max_answer:
                del kept[self._max_answer :]
                return True
        return False

    async def aclose(self) -> None:
        await self._session.close()
        await self._resolver.close()


def _body_of(request: httpx.Request) -> Any:
    try:
        content = request.content
    except httpx.RequestNotRead:
        return request.stream
    # aiohttp warns of large bytes; out of a file it sends them piece by piece.
    return io.BytesIO(content) if len(content) > LARGE else content or None


def _exact(url: httpx.URL) -> URL:
    """The same URL as aiohttp takes it, its escapes as they are: some destinations sign or compare them."""
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return URL.build(
        scheme=url.scheme, authority=url.netloc.decode("ascii"), path=path, query_string=query, encoded=True
    )


def _unpacked(body: bytes | bytearray, encoding: str, limit: int) -> tuple[bytes, bool]:
    """An answer compressed against our wish, opened up to `limit` bytes, and whether something was left out."""
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return bytes(body), False
    opener = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = opener.decompress(body, limit + 1)
    except zlib.error:
        return bytes(body), False
    return plain[:limit], len(plain) > limit or not opener.eof


def _response(request: httpx.Request, answer: aiohttp.ClientResponse, body: bytes, cut: bool) -> httpx.Response:
    # httpx must not open the body again, nor anything that was not opened here.
    dropped = {b"content-encoding", b"content-length"} if "content-encoding" in answer.headers else set()
    response = httpx.Response(
        answer.status,
        headers=[header for header in answer.raw_headers if header[0].lower() not in dropped],
        stream=httpx.ByteStream(body),
        request=request,
        extensions={
            "http_version": b"HTTP/1.0" if answer.version == aiohttp.HttpVersion10 else b"HTTP/1.1",
            "reason_phrase": (answer.reason or "").encode("utf-8", "surrogateescape"),
            "cut": cut,
        },
    )
    if response.has_redirect_location and not _is_usable(request.url, response.headers["location"]):
        # httpx would raise over it although it does not follow, and the status would be lost.
        del response.headers["location"]
    return response


def _is_usable(base: httpx.URL, location: str) -> bool:
    try:
        url = httpx.URL(location)
        base.join(location)
    except (httpx.InvalidURL, ValueError):
        return False
    return bool(url.host) or not url.scheme


def _failure(error: BaseException, call: _Call) -> Exception | None:
    """The httpx error that says what happened; None if it is no matter of the network."""
    if isinstance(error, _Broken) and error.__cause__ is not None:
        error = error.__cause__
    if not call.connected:
        return _not_sent(error, call.place)
    match error:
        case TimeoutError():
            return httpx.ReadTimeout(f"no complete answer from {call.place} in time")
        case aiohttp.ServerDisconnectedError():
            return httpx.RemoteProtocolError(f"{call.place} closed the connection without an answer")
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(f"{call.place} did not answer in proper HTTP")
        case OSError():
            return httpx.ReadError(f"the connection to {call.place} broke: {_why(error)}")
        case aiohttp.ClientError():
            return httpx.ReadError(f"the answer of {call.place} broke off")
    return None


def _not_sent(error: BaseException, place: str) -> Exception | None:
    match error:
        case AddressRefused():
            return error
        case TimeoutError():
            return httpx.ConnectTimeout(f"no connection to {place} in time")
        case aiohttp.ClientConnectorCertificateError():
            failure = httpx.ConnectError(f"{place}: the certificate is not trusted")
            failure.__cause__ = error.certificate_error
            return failure
        case aiohttp.InvalidURL() | UnicodeError():
            return httpx.UnsupportedProtocol(f"{place} is not an address that can be connected to")
        case OSError() | aiohttp.ClientError():
            return httpx.ConnectError(f"{place}: {_why(error)}")
    return None


def _why(error: BaseException) -> str:
    """What the operating system says, without addresses and numbers."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {(cause.reason or 'failed').replace('_', ' ').lower()}"
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The one TLS context: trusts certifi's authorities and the system's, so that a merchant's own one counts."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _NoCookies(httpx.Cookies):
    """Stays empty: what one answer sets must not reach the next request, which may be another delivery's."""

    def extract_cookies(self, response: httpx.Response) -> None:
        pass

    def set(self, name: str, value: str, domain: str = "", path: str = "/") -> None:
        pass


class _Client(httpx.AsyncClient):
    _none = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._none

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        pass


def open_client(
    guard: Guard, *, timeout: float, max_answer: int = 65536, resolver: AbstractResolver | None = None
) -> httpx.AsyncClient:
    """An HTTP client that sends once, to addresses that `guard` lets through. Needs a running event loop.

    `timeout`: seconds for a whole request, connection to last byte; a request may ask for less. Answers end after
    `max_answer` bytes, which `response.extensions["cut"]` tells. It raises AddressRefused, ConnectError or
    ConnectTimeout (nothing was sent), or another httpx.TransportError (it may have arrived).
    """
    # httpx logs the whole URL of each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    guarded = _GuardedResolver(guard, resolver or aiohttp.DefaultResolver())
    return _Client(
        transport=_Transport(guard, timeout, max_answer, guarded),
        timeout=timeout,
        headers={"User-Agent": f"litekart-hub/{version('litekart-hub')}", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


async def connect(guard: Guard, host: str, port: int, timeout: float) -> socket.socket:
    """A connected, non-blocking socket to `host`, whose addresses are tried in turn within `timeout` seconds.

    Raises AddressRefused, TimeoutError or ConnectionError, each with a sentence for a person.
    """
    place = place_of(host, port)
    try:
        async with asyncio.timeout(timeout):
            return await _first_socket(guard, host, port, timeout)
    except TimeoutError:
        raise TimeoutError(f"no connection to {place} within {timeout:g} s") from None
    except (OSError, UnicodeError) as error:
        raise ConnectionError(f"no connection to {place}: {_why(error)}") from None


async def _first_socket(guard: Guard, host: str, port: int, timeout: float) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    guard.check(host, port, [str(address[0]) for *_, address in found])
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        try:
            # A share for each, so that one that swallows packets leaves time for the next.
            async with asyncio.timeout(timeout / len(found)):
                return await _connected(socket.socket(family, kind, protocol), address)
        except OSError as error:
            failure = error
    raise failure


async def _connected(sock: socket.socket, address: Any) -> socket.socket:
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
