"""No answer can hurt the client, nor cost more than it may; what is recorded of it holds no secret."""

import asyncio

import httpx
import pytest

from hub.client import Exchange, exchange
from tests.hostile import answer, client_of, drop, flood, gzip_bomb, hostile, less_than, raw, then_close, until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
SECRET = "T0PS3CRET"

# What an answer may do


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"],
    ids=["until closed", "of 10 GB"],
)
async def test_an_endless_answer_is_cut_and_its_connection_closed(head: bytes) -> None:
    async with hostile(flood(head), answer()) as server, client_of(server) as client:
        with less_than(20):
            answered = await client.get(server.url)
        assert (answered.status_code, len(answered.content)) == (200, 65536)
        assert answered.extensions["cut"] is True
        await until(lambda: server.open == 0)
        again = await client.get(server.url)
        assert (again.text, again.extensions["cut"]) == ("ok", False)


@pytest.mark.parametrize(("size", "cut"), [(65535, False), (65536, False), (65537, True)])
async def test_an_answer_is_cut_beyond_its_bound_and_not_before(size: int, cut: bool) -> None:
    async with hostile(answer(b"a" * size)) as server, client_of(server) as client:
        answered = await client.get(server.url)
        assert len(answered.content) == min(size, 65536)
        assert answered.extensions["cut"] is cut


async def test_a_gzip_bomb_does_not_go_off() -> None:
    """S32: it is opened as far as it may be."""
    async with hostile(gzip_bomb(200 * 2**20)) as server, client_of(server) as client:
        with less_than(20):
            answered = await client.get(server.url)
        assert server.asked[0].headers["accept-encoding"] == "identity"
        assert answered.extensions["cut"] is True
        assert answered.content == bytes(65536)


async def test_a_small_compressed_answer_is_opened() -> None:
    async with hostile(gzip_bomb(1000)) as server, client_of(server) as client:
        answered = await client.get(server.url)
        assert (answered.content, answered.extensions["cut"]) == (bytes(1000), False)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip", "x-unheard-of"])
async def test_an_answer_that_cannot_be_opened_stays_as_it_came(encoding: str) -> None:
    odd = answer(b"not compressed", "200 OK", f"Content-Encoding: {encoding}")
    async with hostile(odd) as server, client_of(server) as client:
        answered = await client.get(server.url)
        assert (answered.status_code, answered.content) == (200, b"not compressed")


async def test_invalid_utf8_in_body_headers_and_status_line_is_only_text() -> None:
    odd = raw(b"HTTP/1.1 400 caf\xe9\r\nContent-Type: text/plain; charset=no-such\r\nX-Name: \xff\r\n"
              b"Content-Length: 3\r\n\r\na\xffb")  # fmt: skip
    async with hostile(odd) as server, client_of(server) as client:
        record = Exchange()
        exchange.set(record)
        answered = await client.get(server.url)
        assert answered.status_code == 400
        assert answered.text.startswith("a")
        assert record.response is not None
        assert record.response.endswith("a\ufffdb")
        record.response.encode()


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://host:port/", "http://a b/", "//", "", "mailto:a@b", "http:x", "http:///x"]
)
async def test_a_redirect_to_nonsense_keeps_its_status(location: str) -> None:
    odd = answer(b"", "302 Found", f"Location: {location}")
    async with hostile(odd) as server, client_of(server) as client:
        assert (await client.get(server.url)).status_code == 302


async def test_a_redirect_loop_is_one_request() -> None:
    async with hostile(answer(b"", "302 Found", "Location: /hook")) as server, client_of(server) as client:
        assert (await client.get(server.url)).status_code == 302
        assert len(server.asked) == 1


async def test_cookies_are_not_kept() -> None:
    baking = answer(b"ok", "200 OK", "Set-Cookie: session=1; Path=/", "Set-Cookie: other=2")
    async with hostile(baking) as server, client_of(server) as client:
        for _ in range(3):
            await client.get(server.url)
        client.cookies.set("mine", "3")
        await client.get(server.url)
        assert all("cookie" not in asked.headers for asked in server.asked)
        assert not client.cookies


async def test_a_switch_of_protocols_ends_the_connection() -> None:
    switch = raw(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
    async with hostile(switch) as server, client_of(server) as client:
        assert (await client.get(server.url)).status_code == 101
        await until(lambda: server.open == 0)


async def test_an_answer_before_the_body_was_read_is_an_answer() -> None:
    early = answer(b"too large", "413 Content Too Large", "Connection: close")
    async with hostile(early, read_body=False) as server, client_of(server) as client:
        try:
            answered = await client.post(server.url, content=b"a" * 5_000_000)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            return  # the reset overtook the answer
        assert answered.status_code == 413


# What is recorded


async def test_an_exchange_shows_what_was_sent_and_answered_without_its_secrets() -> None:
    created = answer(b'{"id": 7}', "201 Created", "Set-Cookie: a=b", "X-Request-Id: r1")
    async with hostile(created) as server, client_of(server) as client:
        record = Exchange()
        exchange.set(record)
        await client.post(
            f"{server.url}/{SECRET}?key={SECRET}",
            json={"total": 5},
            headers={"X-Api-Key": SECRET, "Idempotency-Key": "dlv_1"},
            auth=(SECRET, SECRET),
        )
    assert record.status_code == 201
    assert record.request is not None
    lines = record.request.splitlines()
    assert lines[0] == f"POST http://{server.authority}/…"
    assert lines[-2:] == ["", '{"total":5}']
    assert {"authorization: ****", "x-api-key: ****", "idempotency-key: dlv_1"} < set(lines)
    assert SECRET not in record.request
    assert record.response == 'HTTP 201 Created\ncontent-length: 9\nx-request-id: r1\n\n{"id": 7}'


async def test_an_exchange_keeps_the_beginning_of_long_bodies_and_of_broken_answers() -> None:
    async with hostile(answer(b"b" * 9000), then_close(HEAD + b"half")) as server, client_of(server) as client:
        record = Exchange()
        exchange.set(record)
        await client.post(server.url, content=b"a" * 9000)
        assert record.request is not None
        assert record.response is not None
        assert record.request.endswith("a" * 4096 + "…")
        assert record.response.endswith("b" * 4096 + "…")
        with pytest.raises(httpx.ReadError):
            await client.post(server.url)
        assert record.status_code == 200
        assert record.response.endswith("half")


async def test_a_request_without_an_answer_clears_the_former_answer() -> None:
    async with hostile(answer(), drop) as server, client_of(server) as client:
        record = Exchange()
        exchange.set(record)
        await client.get(server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(server.url)
    assert record.request is not None
    assert record.request.startswith("POST ")
    assert (record.response, record.status_code) == (None, None)


async def test_exchanges_of_requests_at_the_same_time_stay_apart() -> None:
    async with hostile(answer()) as server, client_of(server) as client:

        async def one(number: int) -> Exchange:
            record = Exchange()
            exchange.set(record)
            await client.post(server.url, content=f"number {number}")
            return record

        records = await asyncio.gather(*[one(number) for number in range(20)])
    assert all(f"number {number}" in (record.request or "") for number, record in enumerate(records))
