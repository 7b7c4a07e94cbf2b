"""The client sends once, as told, and says truly what became of it."""

import asyncio
import io
import logging
import os
import socket
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult

from hub.client import Exchange, Guard, connect, exchange, open_client, tls_context
from hub.errors import AddressRefused, HoldRoute, TryAgain
from hub.outcome import outcome_of
from tests.hostile import (
    CERTIFICATE,
    Asked,
    Behaviour,
    answer,
    client_of,
    drip,
    drop,
    flood,
    hang,
    hostile,
    less_than,
    raw,
    server_tls,
    then_close,
    then_reset,
    until,
)
from tests.servers import free_port

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
SECRET = "T0PS3CRET"
NOW = datetime(2026, 1, 1, tzinfo=UTC)

BROKEN: dict[str, tuple[Behaviour, type[httpx.TransportError]]] = {
    "closed without an answer": (drop, httpx.RemoteProtocolError),
    "reset without an answer": (then_reset(), httpx.ReadError),
    "closed in the head": (then_close(b"HTTP/1.1 200 OK\r\nContent-"), httpx.RemoteProtocolError),
    "closed in the body": (then_close(HEAD + b"12345"), httpx.ReadError),
    "reset in the body": (then_reset(HEAD + b"12345"), httpx.ReadError),
    "closed in a chunk": (
        then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"),
        httpx.ReadError,
    ),
    "no chunk at all": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        httpx.TransportError,
    ),
    "no HTTP": (raw(b"220 mail.example ESMTP\r\n\r\n"), httpx.RemoteProtocolError),
    "two lengths": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        httpx.RemoteProtocolError,
    ),
    "many headers": (
        raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(100_000)) + b"\r\n"),
        httpx.RemoteProtocolError,
    ),
    "an endless header": (flood(b"HTTP/1.1 200 OK\r\nX-Long: "), httpx.RemoteProtocolError),
    "no answer": (hang, httpx.ReadTimeout),
    "a dripping head": (drip(b"X-A: b\r\n", 0.02, b"HTTP/1.1 200 OK\r\n"), httpx.TransportError),
    "a dripping body": (drip(b"x", 0.02, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), httpx.ReadTimeout),
    "endless provisional answers": (flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), httpx.RemoteProtocolError),
}
# What only the deadline ends; it must still leave time to connect and to send. All else has all the time it needs.
ENDLESS = {"no answer", "a dripping head", "a dripping body"}


class Failing(AbstractResolver):
    """A name service that raises, or that never answers."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if self._error is None:
            await asyncio.get_running_loop().create_future()
        elif isinstance(self._error, LookupError):
            return []
        raise self._error or AssertionError

    async def close(self) -> None:
        pass


def chain_of(error: BaseException) -> list[BaseException]:
    found = [error]
    for link in found:
        found += [more for more in (link.__cause__, link.__context__) if more and more not in found]
    return found


# What became of the request


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_answer_is_not_called_unsent_and_ends_by_the_deadline(how: str, method: str) -> None:
    behaviour, expected = BROKEN[how]
    async with hostile(behaviour) as server, client_of(server, timeout=2 if how in ENDLESS else 60) as client:
        began = time.monotonic()
        with less_than(20), pytest.raises(expected) as raised:
            await client.request(method, server.url, content=b"{}")
        assert not isinstance(raised.value, httpx.ConnectError | httpx.ConnectTimeout)
        assert time.monotonic() - began < 30
        assert len(server.asked) == 1
        assert "may have arrived" in str(outcome_of(raised.value, NOW))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "POST"])
async def test_what_meets_a_dropped_keep_alive_connection_is_sent_once(method: str) -> None:
    async with hostile(answer(), drop, answer()) as server, client_of(server) as client:
        await client.get(server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.request(method, server.url)
        assert [asked.method for asked in server.asked] == ["GET", method]
        assert server.connections == 1


async def test_a_connection_refused_is_unsent() -> None:
    port = free_port()
    async with open_client(Guard(["127.0.0.1:*"]), timeout=60) as client:
        with pytest.raises(httpx.ConnectError, match="refused"):
            await client.post(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), LookupError()])
async def test_an_unknown_name_is_unsent(error: Exception) -> None:
    async with open_client(Guard(), timeout=5, resolver=Failing(error)) as client:
        with pytest.raises(httpx.ConnectError, match=r"shop\.example"):
            await client.post("http://shop.example/")


async def test_a_name_service_that_does_not_answer_is_a_connect_timeout() -> None:
    async with open_client(Guard(), timeout=0.3, resolver=Failing(None)) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.post("http://shop.example/")


async def test_a_tls_handshake_that_is_not_answered_is_a_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with open_client(Guard(["127.0.0.1:*"]), timeout=0.3) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.post(f"https://127.0.0.1:{listener.getsockname()[1]}/")


async def test_plain_http_where_tls_is_expected_is_unsent() -> None:
    async with hostile(then_close(b"")) as server, client_of(server, timeout=1) as client:
        with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):
            await client.post(server.url.replace("http:", "https:"))
        assert server.asked == []


async def test_an_untrusted_certificate_is_a_connect_error_that_holds_the_route() -> None:
    async with hostile(answer(), tls=server_tls()) as server, client_of(server) as client:
        with pytest.raises(httpx.ConnectError) as raised:
            await client.post(server.url)
        assert server.asked == []
    outcome = outcome_of(raised.value, NOW)
    assert isinstance(outcome, HoldRoute)
    assert "self-signed certificate" in outcome.reason


async def test_an_authority_that_the_system_trusts_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trusted.pem").write_text(CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    tls_context.cache_clear()
    try:
        async with hostile(answer(), tls=server_tls()) as server, client_of(server) as client:
            assert (await client.get(server.url)).text == "ok"
            assert (await client.get(server.url)).text == "ok"
            assert server.connections == 1
    finally:
        tls_context.cache_clear()


async def test_the_tls_context_is_made_once() -> None:
    assert tls_context() is tls_context()


async def test_a_caller_may_ask_for_less_time_and_not_for_more() -> None:
    async with hostile(answer(), hang) as server, client_of(server, timeout=60) as client:
        # Over the open connection of a first request, so that the little time is not spent on connecting.
        await client.get(server.url)
        began = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            await client.post(server.url, timeout=0.1)
        assert time.monotonic() - began < 30
    async with hostile(hang) as server, client_of(server, timeout=2) as client:
        began = time.monotonic()
        posts = [client.post(server.url, timeout=asked) for asked in (60.0, None)]
        ended = await asyncio.gather(*posts, return_exceptions=True)
        assert [type(error) for error in ended] == [httpx.ReadTimeout] * 2
        assert time.monotonic() - began < 30


async def test_a_mistake_of_the_caller_stays_his() -> None:
    async with hostile(answer()) as server, client_of(server) as client:
        with pytest.raises(ValueError, match="header injection"):
            await client.get(server.url, headers={"X-Name": "a\r\nb"})
        assert (await client.get(server.url)).status_code == 200


@pytest.mark.parametrize("how", BROKEN)
async def test_no_text_holds_the_path_the_query_or_the_password(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with hostile(BROKEN[how][0]) as server, client_of(server, timeout=0.3) as client:
        url = f"http://{SECRET}:{SECRET}@{server.authority}/services/{SECRET}?key={SECRET}"
        with pytest.raises(httpx.TransportError) as raised:
            await client.post(url, content=b"{}")
    for error in chain_of(raised.value):
        assert SECRET not in f"{error} {error!r} {error.args}"
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert SECRET not in caplog.text


async def test_no_text_of_what_was_not_sent_holds_them_either(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    port = free_port()
    async with (
        hostile(answer(), tls=server_tls()) as server,
        open_client(Guard(["127.0.0.1:*"]), timeout=0.3, resolver=Failing(None)) as client,
    ):
        for place in (
            f"http://127.0.0.1:{port}", "http://10.0.0.1", "http://127.1", "http://shop.example", "ftp://x",
            f"https://{server.authority}",
        ):  # fmt: skip
            with pytest.raises((httpx.TransportError, AddressRefused)) as raised:
                await client.post(f"{place}/services/{SECRET}?key={SECRET}")
            for error in chain_of(raised.value):
                assert SECRET not in f"{error} {error!r} {error.args}"
    assert SECRET not in caplog.text


async def test_a_request_that_went_well_does_not_log_its_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with hostile(answer()) as server, client_of(server) as client:
        await client.post(f"{server.url}/{SECRET}")
    assert SECRET not in caplog.text


# What is sent


async def test_a_url_is_sent_as_it_is_written() -> None:
    async with hostile(answer()) as server, client_of(server) as client:
        await client.get(f"http://{server.authority}/a%2Fb/%7Ec/..%2f;x=1?sp=%2Ftriggers%2F&sig=a%2Bb+c&x=%41")
        assert server.asked[0].target == "/a%2Fb/%7Ec/..%2f;x=1?sp=%2Ftriggers%2F&sig=a%2Bb+c&x=%41"


async def test_what_a_request_carries() -> None:
    async with hostile(answer()) as server, client_of(server) as client:
        await client.post(server.url, json={"a": "ü"}, headers=[(b"X-Two", b"1"), (b"X-Three", "ü".encode())])
        headers = server.asked[0].headers
    assert headers.pop("user-agent").startswith("litekart-hub/")
    assert headers == {
        "host": server.authority,
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "content-length": "10",
        "content-type": "application/json",
        "x-two": "1",
        "x-three": "Ã¼",
    }
    assert server.asked[0].body == '{"a":"ü"}'.encode()


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 3 * 2**20])
async def test_a_body_arrives_whole(size: int) -> None:
    async with hostile(answer()) as server, client_of(server) as client:
        await client.post(server.url, content=b"a" * size)
        await client.post(server.url, files={"file": io.BytesIO(b"b" * size)})
        assert server.asked[0].body == b"a" * size
        assert server.asked[1].body.count(b"b") >= size
        assert "content-type" not in server.asked[0].headers


async def test_a_streamed_body_arrives_whole() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abc"

    async with hostile(answer()) as server, client_of(server) as client:
        record = Exchange()
        exchange.set(record)
        await client.post(server.url, content=pieces())
        assert server.asked[0].body == b"abcabcabc"
        assert record.request is not None
        assert record.request.endswith("(sent as a stream)")


async def test_connections_are_reused_and_never_waited_for() -> None:
    async with hostile(answer()) as server, client_of(server) as client:
        for _ in range(20):
            await client.post(server.url)
        assert server.connections == 1
    async with hostile(hang) as server, client_of(server) as client:
        hanging = [asyncio.create_task(client.post(server.url)) for _ in range(150)]
        await until(lambda: len(server.asked) == 150)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_hundreds_of_cancelled_requests_leave_a_client_that_works() -> None:
    async with hostile(*[hang] * 300, answer()) as server, client_of(server) as client:
        for sent in range(50, 301, 50):
            hanging = [asyncio.create_task(client.post(server.url)) for _ in range(50)]
            await until(lambda sent=sent: len(server.asked) == sent)  # type: ignore[misc]
            for task in hanging:
                task.cancel()
            cancelled = await asyncio.gather(*hanging, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in cancelled)
        await until(lambda: server.open == 0)
        open_files = len(os.listdir("/dev/fd"))
        began = time.monotonic()
        answers = await asyncio.gather(*[client.post(server.url) for _ in range(50)])
        assert time.monotonic() - began < 30
        assert all(answered.status_code == 200 for answered in answers)
        await client.aclose()
        await until(lambda: server.open == 0)
        await until(lambda: len(os.listdir("/dev/fd")) <= open_files)


async def test_requests_cancelled_while_the_answer_comes_in_leave_nothing_open() -> None:
    dripped: Counter[asyncio.StreamWriter] = Counter()

    async def counted(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            dripped[writer] += 1
            await asyncio.sleep(0.01)

    async with hostile(counted) as server, client_of(server) as client:
        coming = [asyncio.create_task(client.get(server.url)) for _ in range(30)]
        await until(lambda: len(dripped) == 30 and min(dripped.values()) >= 10)
        for task in coming:
            task.cancel()
        cancelled = await asyncio.gather(*coming, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in cancelled)
        await until(lambda: server.connections == 30 and server.open == 0)


# Sockets


async def test_a_socket_is_connected_and_does_not_block() -> None:
    async with hostile(answer()) as server:
        with closing(await connect(Guard([server.authority]), server.host, server.port, 60)) as sock:
            assert sock.gettimeout() == 0
            assert sock.getpeername()[:2] == (server.host, server.port)
        with closing(await connect(Guard([f"localhost:{server.port}"]), "localhost", server.port, 60)) as sock:
            assert sock.getpeername()[1] == server.port


async def test_a_socket_to_a_private_address_is_refused() -> None:
    async with hostile(answer()) as server:
        with pytest.raises(AddressRefused, match=f'add "localhost:{server.port}"'):
            await connect(Guard(), "localhost", server.port, 60)
        assert server.connections == 0


async def test_a_socket_that_cannot_be_had_says_why() -> None:
    port = free_port()
    with pytest.raises(ConnectionError, match=f"no connection to 127.0.0.1:{port}: .*refused") as raised:
        await connect(Guard(["127.0.0.1:*"]), "127.0.0.1", port, 60)
    assert isinstance(outcome_of(raised.value, NOW), TryAgain)
    with pytest.raises(ConnectionError, match=r"no connection to a\.\.b:25"):
        await connect(Guard(), "a..b", 25, 60)


async def test_a_socket_that_takes_too_long_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: object, sock: socket.socket, address: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", never)
    with pytest.raises(TimeoutError, match=r"no connection to 127\.0\.0\.1:25 within 0\.1 s"):
        await connect(Guard(["127.0.0.1:25"]), "127.0.0.1", 25, 0.1)


def test_it_is_the_same_on_uvloop() -> None:
    async def check() -> None:
        async with hostile(answer(), hang, drop, flood(b"HTTP/1.1 200 OK\r\n\r\n")) as server:
            async with client_of(server) as client:
                assert (await client.get(server.url)).text == "ok"
                # Over the open connection, so that this little time is not spent on connecting.
                with pytest.raises(httpx.ReadTimeout):
                    await client.put(server.url, timeout=0.5)
                await until(lambda: len(server.asked) == 2)
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.put(server.url)
                assert (await client.get(server.url)).extensions["cut"] is True
            async with open_client(Guard(), timeout=60) as client:
                with pytest.raises(AddressRefused):
                    await client.get(f"http://0x7f.1:{server.port}/")
            connections = server.connections
            with pytest.raises(AddressRefused):
                await connect(Guard(), "localhost", server.port, 60)
            (await connect(Guard([server.authority]), server.host, server.port, 60)).close()
            await until(lambda: server.connections == connections + 1)
        async with hostile(answer(), tls=server_tls()) as server, client_of(server) as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get(server.url)
            assert isinstance(outcome_of(raised.value, NOW), HoldRoute)
        async with open_client(Guard(["127.0.0.1:*"]), timeout=60) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{free_port()}/")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check())
