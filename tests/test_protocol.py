"""Connections of strangers: what they may send, how long they may take, and what they may make the hub hold."""

import asyncio
import gc
import http.client
import json
import re
import resource
import selectors
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from hub.store import EVENT
from hub.testing.samples import SIGNATURE_HEADER, sample, sign, to_bytes
from hub.web.protocol import MOST_CONNECTIONS, RESERVED_FILES, Connection, Gate, most_connections
from tests.hubdb import SECRET, Lab, document, open_lab, served
from tests.hubs import SECRET as PROCESS_SECRET
from tests.hubs import HubProcess, config_of, hub_process, write_config
from tests.servers import eventually
from tests.test_webhooks import refusal, where

BODY = to_bytes(document(orderId="ord_1"))
UNSIGNED = b"POST /webhooks/main HTTP/1.1\r\nHost: hub\r\nContent-Length: 2\r\n\r\n{}"
LAST = b"GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"
MIB = 1024 * 1024


@asynccontextmanager
async def receiver(folder: Path, gate: Gate | None = None, keep_alive: int = 5) -> AsyncIterator[tuple[Lab, str]]:
    async with (
        open_lab(folder, f"sqlite:///{folder}/hub.db") as lab,
        served(lab.hub, gate=gate, keep_alive=keep_alive) as url,
    ):
        yield lab, url


async def exchange(url: str, sent: bytes, within: float = 10) -> bytes:
    """All that comes back for these bytes until the other side closes."""
    reader, writer = await asyncio.open_connection(*where(url))
    try:
        writer.write(sent)
        async with asyncio.timeout(within):
            return await reader.read()
    finally:
        writer.close()


def statuses(answered: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered)]


def envelope(answered: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answered.partition(b"\r\n\r\n")[2])
    return found


def post(*fields: bytes, body: bytes = BODY, line: bytes = b"POST /webhooks/main HTTP/1.1") -> bytes:
    """A rightly signed request with these framing fields."""
    signed = [b"Host: hub", f"{SIGNATURE_HEADER}: {sign(BODY, SECRET)}".encode()]
    return b"\r\n".join([line, *signed, *fields]) + b"\r\n\r\n" + body


def chunked(size: bytes = b"%x" % len(BODY), end: bytes = b"\r\n") -> bytes:
    return size + b"\r\n" + BODY + end + b"0\r\n\r\n"


LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
FRAMING: dict[str, tuple[bytes, list[int]]] = {
    "a length": (post(LENGTH), [200, 200]),
    "chunked": (post(CHUNKED, body=chunked()), [200, 200]),
    "length and chunked": (post(LENGTH, CHUNKED, body=chunked()), [400]),
    "chunked and length": (post(CHUNKED, LENGTH, body=chunked()), [400]),
    "two equal lengths": (post(LENGTH, LENGTH), [400]),
    "a list of equal lengths": (post(b"Content-Length: %d, %d" % (len(BODY), len(BODY))), [400]),
    "two lengths": (post(LENGTH, b"Content-Length: 0"), [400]),
    "length with a plus": (post(b"Content-Length: +%d" % len(BODY)), [400]),
    "length in hex": (post(b"Content-Length: 0x%x" % len(BODY)), [400]),
    "length below zero": (post(b"Content-Length: -1"), [400]),
    "length of twenty digits": (post(b"Content-Length: 99999999999999999999"), [400]),
    "empty length": (post(b"Content-Length: "), [400]),
    "bare line feeds": (post(LENGTH).replace(b"\r\n", b"\n"), [400]),
    "folded header": (post(b"X-A: 1\r\n 2", LENGTH), [400]),
    "space before the colon": (post(b"Content-Length : %d" % len(BODY)), [400]),
    "NUL in a value": (post(b"X-A: 1\x002", LENGTH), [400]),
    "CR in a value": (post(b"X-A: 1\r2", LENGTH), [400]),
    "unknown encoding": (post(b"Transfer-Encoding: xchunked", body=chunked()), [400]),
    "encoding after chunked": (post(b"Transfer-Encoding: chunked, identity", body=chunked()), [400]),
    "chunk ends wrongly": (post(CHUNKED, body=chunked(end=b"xx")), [400]),
    "chunk size past 64 bits": (post(CHUNKED, body=chunked(b"10000000000000000")), [400]),
    "chunk size with a sign": (post(CHUNKED, body=chunked(b"+%x" % len(BODY))), [400]),
    "chunk extension of 10 kB": (post(CHUNKED, body=chunked(b"%x;a=%b" % (len(BODY), b"b" * 10_000))), [200, 200]),
    "no host": (post(LENGTH).replace(b"Host: hub\r\n", b""), [200, 200]),
    "two hosts": (post(b"Host: other", LENGTH), [200, 200]),
    "two signatures": (post(f"{SIGNATURE_HEADER}: {'0' * 64}".encode(), LENGTH), [401, 200]),
    "absolute URL": (post(LENGTH, line=b"POST http://hub/webhooks/main HTTP/1.1"), [200, 200]),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", [200]),
}


async def test_framing(tmp_path: Path) -> None:
    """S16: The cases of the desync table, frozen: what is ambiguous gets one refusal, and what follows no answer."""
    async with receiver(tmp_path) as (lab, url):
        answered = {case: await exchange(url, sent + LAST) for case, (sent, _) in FRAMING.items()}
        assert {case: statuses(one) for case, one in answered.items()} == {
            case: expected for case, (_, expected) in FRAMING.items()
        }
        for one in answered.values():
            if statuses(one) == [400]:
                refusal(envelope(one), "VALIDATION_ERROR")
        assert (await lab.row(EVENT)).repeats + 1 == [one for _, one in FRAMING.values()].count([200, 200])


async def test_garbage_after_a_request_leaves_its_answer_alone(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (lab, url):
        assert statuses(await exchange(url, post(LENGTH) + b"\0\0" + LAST)) == [200]
        assert len(await lab.rows(EVENT)) == 1


TOO_LARGE = {
    "URL": (b"POST /webhooks/%b HTTP/1.1\r\n\r\n" % (b"a" * 8_192), 414),
    "URL without end": (b"POST /webhooks/" + b"a" * 300_000, 414),
    "100 headers and one": (post(*[b"X-A: 1"] * 101, LENGTH), 431),
    "large header": (post(b"X-A: " + b"a" * 100_000, LENGTH), 431),
    "name without end": (post(b"X-" + b"a" * 300_000), 431),
    "headers without end": (post(*[b"X-%d: a" % number for number in range(50_000)]), 431),
    "line ends": (b"\r\n" * 100_000, 431),
    "large trailer": (post(CHUNKED, body=chunked()[:-2] + b"X-A: " + b"a" * 100_000), 431),
    "trailers without end": (post(CHUNKED, body=chunked()[:-2] + b"X-A: a\r\n" * 5_000), 431),
    "chunk extension": (post(CHUNKED, body=b"1;" + b"a" * 100_000), 431),
}


async def test_too_large_a_head_is_refused_and_closes(tmp_path: Path) -> None:
    """S15: in each of its parts."""
    async with receiver(tmp_path) as (lab, url):
        for case, (sent, status) in TOO_LARGE.items():
            answered = await exchange(url, sent)
            assert statuses(answered) == [status], case
            assert b"connection: close" in answered
            refusal(envelope(answered), "VALIDATION_ERROR")
        assert await lab.rows(EVENT) == []


async def test_a_head_within_the_bounds_is_taken(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url):
        fields = [b"X-%d: %b" % (number, b"a" * 600) for number in range(90)]
        sent = post(*fields, LENGTH, line=b"POST /webhooks/main?%b HTTP/1.1" % (b"a" * 8_000)) + LAST
        assert statuses(await exchange(url, sent)) == [200, 200]


async def test_five_pipelined_requests_are_answered_and_no_more_taken(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url):
        assert statuses(await exchange(url, UNSIGNED * 4 + LAST)) == [401] * 4 + [200]
        with capture_logs() as lines:
            assert statuses(await exchange(url, UNSIGNED * 10_000)) == [401] * 5
            (line,) = await eventually(lambda: [one for one in lines if one["event"] == "connection.ended"])
            assert line["why"] == {"429": 1}


def connections() -> list[Connection]:
    return [one for one in gc.get_objects() if isinstance(one, Connection) and one.parser is not None]


async def test_the_head_has_a_deadline_and_idle_sockets_too(tmp_path: Path) -> None:
    """S15: also one that drips."""
    async with receiver(tmp_path, Gate(100, head_within=0.4)) as (_, url):
        with capture_logs() as lines:
            silent, half, drips = await asyncio.gather(
                exchange(url, b""), exchange(url, b"POST /webhooks/main HTTP/1.1\r\nHo"), dripped(url)
            )
            assert (silent, half, drips) == (b"", b"", b"")
            told = await eventually(lambda: [line["why"] for line in lines if line["event"] == "connection.ended"])
        assert sum(why["late"] for why in told) == 3


async def dripped(url: str) -> bytes:
    """What comes back for a head of which a byte arrives now and then."""
    reader, writer = await asyncio.open_connection(*where(url))
    closed = asyncio.create_task(rest(reader))
    async with asyncio.timeout(10):
        writer.write(b"POST /webhooks/main HTTP/1.1\r\nX-A: ")
        while not closed.done():
            if not writer.is_closing():
                writer.write(b"a")
            await asyncio.wait({closed}, timeout=0.05)
    writer.close()
    return await closed


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What still comes; a closed connection that is written to may end in a reset."""
    with suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_a_body_that_never_ends_after_its_answer_is_given_up(tmp_path: Path) -> None:
    async with receiver(tmp_path, Gate(100, head_within=0.4)) as (_, url):
        sent = b"GET /healthz HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"
        assert statuses(await exchange(url, sent)) == [200]


async def test_who_does_not_take_its_answers_is_given_up(tmp_path: Path) -> None:
    async with receiver(tmp_path, Gate(100, head_within=0.4)) as (_, url):
        with closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, where(url))

            async def greedy() -> None:
                while True:
                    await loop.sock_sendall(client, b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")
                    await asyncio.sleep(0)

            with pytest.raises(ConnectionError):
                async with asyncio.timeout(30):
                    await greedy()
        assert connections() == []


async def test_a_kept_connection_may_rest_as_long_as_uvicorn_has_it(tmp_path: Path) -> None:
    async with receiver(tmp_path, Gate(100, head_within=0.4), keep_alive=2) as (_, url):
        with closing(http.client.HTTPConnection(*where(url), timeout=5)) as client:
            for _ in range(2):
                await asyncio.to_thread(client.request, "GET", "/healthz")
                answer = await asyncio.to_thread(client.getresponse)
                assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
                await asyncio.sleep(0.8)
            with capture_logs() as lines:
                await eventually(lambda: connections() == [], 20)
                assert lines == []


async def test_when_full_whoever_was_waited_for_longest_makes_room(tmp_path: Path) -> None:
    """S15: so that idle sockets keep nobody out."""
    async with receiver(tmp_path, Gate(20)) as (_, url):
        idle = [await asyncio.open_connection(*where(url)) for _ in range(10)]
        for _, writer in idle[5:]:
            writer.write(post(LENGTH, body=b"{"))
        with capture_logs() as lines:
            more = [await asyncio.open_connection(*where(url)) for _ in range(25)]
            assert statuses(await exchange(url, post(LENGTH) + LAST)) == [200, 200]
            assert [await reader.read() for reader, _ in idle] == [b""] * 10
            assert not more[-1][0].at_eof()
            ended = await eventually(lambda: [one for one in lines if one["event"] == "connection.ended"])
            assert [(line["log_level"], line["why"]) for line in ended] == [("warning", {"full": 16})]
        for _, writer in [*idle, *more]:
            writer.close()


async def test_what_unfinished_heads_hold_together_is_bounded(tmp_path: Path) -> None:
    gate = Gate(100, most_held=100_000)
    async with receiver(tmp_path, gate) as (_, url):
        held = [await asyncio.open_connection(*where(url)) for _ in range(3)]
        for _, writer in held:
            writer.write(post(b"X-A: " + b"a" * 30_000)[:30_000])
        await eventually(lambda: gate.held == 90_000)
        answered = await exchange(url, post(b"X-A: " + b"a" * 30_000)[:30_000])
        assert statuses(answered) == [503]
        assert b"retry-after: 5" in answered
        refusal(envelope(answered), "UNAVAILABLE")
        assert statuses(await exchange(url, post(LENGTH) + LAST)) == [200, 200]
        for _, writer in held:
            writer.close()
        await eventually(lambda: gate.held == 0)


async def test_what_a_closed_connection_held_is_freed_without_the_collector(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url):
        gc.collect()
        gc.disable()
        try:
            for sent in (UNSIGNED * 100, post(LENGTH, body=b"{"), UNSIGNED[:30], UNSIGNED + b"\0"):
                _, writer = await asyncio.open_connection(*where(url))
                writer.write(sent)
                await eventually(connections)
                writer.transport.abort()
                await eventually(lambda: connections() == [])
            await eventually(lambda: not left_over())
        finally:
            gc.enable()


def left_over() -> list[Any]:
    return [one for one in gc.get_objects() if isinstance(one, Connection | RequestResponseCycle)]


async def test_garbage_is_one_line_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with receiver(tmp_path) as (_, url):
        with capture_logs() as lines:
            begun = time.monotonic()
            for _ in range(20):
                assert statuses(await exchange(url, b"\0\0\r\n")) == [400]
                assert statuses(await exchange(url, upgrade)) == [200]
            ended = await eventually(lambda: [one for one in lines if sum(o["count"] for o in lines) == 20])
            assert len(ended) <= 1 + time.monotonic() - begun
    assert caplog.records == []


async def test_hang_ups_of_made_up_stores_are_one_line_a_second_without_their_names(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url):
        with capture_logs() as lines:
            begun = time.monotonic()
            for number in range(20):
                _, writer = await asyncio.open_connection(*where(url))
                writer.write(b"POST /webhooks/%d%b HTTP/1.1\r\nContent-Length: 5\r\n\r\n{" % (number, b"a" * 7_000))
                writer.close()
                await writer.wait_closed()
            told = await eventually(lambda: [one for one in lines if sum(o["count"] for o in lines) == 20])
            assert {one["event"] for one in told} == {"event.hung_up"}
            assert len(told) <= 1 + time.monotonic() - begun
            assert all(set(one["stores"]) == {"?"} for one in told)


def test_a_process_takes_as_many_connections_as_it_has_files_for() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), before[1]))
        most = most_connections()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert soft == min(MOST_CONNECTIONS + RESERVED_FILES, before[1])
        assert most == min(MOST_CONNECTIONS, soft - RESERVED_FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def flood(address: tuple[str, int], sent: bytes, seconds: float = 0.7, connections: int = 1) -> None:
    """Send this over and over on so many connections, reading what comes; a new one for each that was closed."""
    until = time.monotonic() + seconds
    clients: list[socket.socket] = []
    while time.monotonic() < until:
        if len(clients) < connections:
            clients.append(socket.create_connection(address, timeout=0.2))
        client = clients.pop(0)
        try:
            client.send(sent)
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.recv(65_536)
            client.settimeout(0.2)
            clients.append(client)
        except TimeoutError:
            clients.append(client)
        except OSError:
            client.close()
    for client in clients:
        client.close()


def unfinished(address: tuple[str, int]) -> None:
    """Three hundred bodies of 1 MiB, each but for its last byte; those beyond the bound are told to come again."""
    head = b"POST /webhooks/main HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % MIB
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(300):
            client = stack.enter_context(socket.create_connection(address, timeout=5))
            selector.register(client, selectors.EVENT_READ)
            with suppress(OSError):
                client.sendall(head + b"z" * (MIB - 1))
        told = []
        for key, _ in selector.select(8):
            with suppress(ConnectionError):
                told.append(cast(socket.socket, key.fileobj).recv(4096))
    crowded = [one for one in told if statuses(one) == [503]]
    assert crowded, told[:3]
    assert all(b"retry-after: 5" in one for one in crowded)


def unsigned(size: int) -> bytes:
    return b"POST /webhooks/main HTTP/1.1\r\nHost: hub\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size


ATTACKS: dict[str, Callable[[tuple[str, int]], None]] = {
    "pipelined": lambda address: flood(address, unsigned(0) * 4_000),
    "pipelined bodies": lambda address: flood(address, unsigned(20_000) * 12),
    "one by one": lambda address: flood(address, unsigned(70_000), connections=4),
    "header without end": lambda address: flood(address, b"GET /webhooks/main HTTP/1.1\r\nX-A: " + b"a" * 50 * MIB),
    "URL without end": lambda address: flood(address, b"GET /" + b"a" * 50 * MIB),
    "half heads": lambda address: flood(
        address, b"GET /webhooks/main HTTP/1.1\r\nX-A: " + b"a" * 60_000, connections=1_000
    ),
    "long names": lambda address: flood(address, post(*[b"X-Litekart-%d%b: 1" % (n, b"a" * 3_000) for n in range(20)])),
    "unfinished bodies": unfinished,
}


def peak(hub: HubProcess) -> int:
    """The most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{hub.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_no_attack_makes_a_hub_grow_without_bound_nor_keeps_a_webhook_out(tmp_path: Path) -> None:
    async with hub_process(write_config(tmp_path, config_of({})), "up") as hub:
        before, grown, begun = peak(hub), {}, time.monotonic()
        for name, attack in ATTACKS.items():
            running = asyncio.create_task(asyncio.to_thread(attack, where(hub.url)))
            assert (await accepted(hub.url), name) == (200, name)
            await running
            assert (await accepted(hub.url), name) == (200, name)
            grown[name] = (peak(hub) - before) // MIB
        # What the hub's bounds add up to (unfinished bodies, bodies in hand, sockets' buffers) comes near to 290 where
        # the machine is busy; a hub without them has 334 and more.
        assert max(grown.values()) < 300, grown
        told = [line for line in hub.lines if line["event"] in {"connection.ended", "event.crowded", "event.hung_up"}]
        assert len(told) < 3 * (time.monotonic() - begun + 2)


async def accepted(url: str) -> int:
    body = to_bytes(sample("order.placed"))
    with closing(http.client.HTTPConnection(*where(url), timeout=30)) as client:
        signed = {SIGNATURE_HEADER: sign(body, PROCESS_SECRET)}
        await asyncio.to_thread(client.request, "POST", "/webhooks/main", body, signed)
        return (await asyncio.to_thread(client.getresponse)).status
