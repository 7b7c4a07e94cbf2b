"""What a destination answers costs no more than the attempt's own bounds, from the wire to the page (S32)."""

import asyncio
import gc
import gzip
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from hub.client import Guard, open_client
from hub.store import ATTEMPT
from hub.worker import running
from tests.dashboard.served import harmless, looking
from tests.hostile import (
    Behaviour,
    answer,
    client_of,
    drip,
    drop,
    hang,
    hostile,
    raw,
    then_close,
    then_reset,
)
from tests.hubdb import document, open_lab
from tests.security import flooding
from tests.servers import eventually

MIB = 1024 * 1024
TIMEOUT = 1.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BOMB = gzip.compress(b"0" * 50 * MIB)


def endless(piece: bytes, head: bytes = HEAD + b"\r\n") -> Behaviour:
    """This head and then the same over and over until the other side hangs up."""

    async def behave(asked: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return behave


ANSWERS: dict[str, Behaviour] = {
    "a stream without end": endless(b"x" * 65_536),
    "chunks without end": endless(b"1000\r\n" + b"x" * 4096 + b"\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "10 GB announced": endless(b"x" * 65_536, HEAD + b"Content-Length: 10000000000\r\n\r\n"),
    "a byte now and then": drip(b"x", 0.2, HEAD + b"Content-Length: 1000\r\n\r\n"),
    "a header now and then": drip(b"X-A: b\r\n", 0.2, b"HTTP/1.1 200 OK\r\n"),
    "a gzip bomb": answer(BOMB, "200 OK", "Content-Encoding: gzip"),
    "bombs in a row": answer(gzip.compress(BOMB), "200 OK", "Content-Encoding: gzip, gzip"),
    "100,000 headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000 + b"\r\n"),
    "headers without end": endless(b"X-A: b\r\n" * 1_000, b"HTTP/1.1 200 OK\r\n"),
    "a header without end": endless(b"a" * 65_536, b"HTTP/1.1 200 OK\r\nX-A: "),
    "a status line without end": endless(b"a" * 65_536, b"HTTP/1.1 200 "),
    "a redirect to itself": answer(b"", "302 Found", "Location: /hook"),
    "no UTF-8": answer(b"\xff\xfe\x00\x80" * 5_000, "500 \xff\xfe"),
    "HTML": answer(b"<script>alert(1)</script><img src=x onerror=alert(1)>" * 200, "400 <b>Bad</b>"),
    "controls": answer(b"\x1b[2J\x00\r\n\x07" * 2_000, "503 Away", "Retry-After: 99999999999999999999"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "nothing": drop,
    "silence": hang,
    "cut in the head": then_close(b"HTTP/1.1 200 OK\r\nX-"),
    "a reset": then_reset(HEAD + b"Content-Length: 9\r\n\r\nabc"),
    "interim answers without end": endless(CONTINUE * 4_000, b""),
    "answers without end": endless(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2_000, b""),
}


@asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """By how many seconds each of many short sleeps was late: what a busy machine adds to any time."""
    late: list[float] = []

    async def sleep_on() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - begun - 0.01)

    sleeping = asyncio.create_task(sleep_on())
    try:
        yield late
    finally:
        sleeping.cancel()


@pytest.mark.parametrize("name", ANSWERS)
async def test_s32_whatever_is_answered_the_attempt_ends(tmp_path: Path, name: str) -> None:
    """S32: within its timeout and a second, with less than 20 MB, at most 4 KiB kept, harmless to look at."""
    async with hostile(ANSWERS[name]) as server:
        settings = {"connector": "webhook", "settings": {"url": server.url}, "timeout": "1s"}
        routes = {"one": settings | {"retry": {"schedule": ["1h"]}}}
        allowed = {"allow": [server.authority]}
        async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", routes, network=allowed) as lab:
            kept = await lab.keep(document(orderId="ord_1"))
            tracemalloc.start()
            async with running(lab.hub), lateness() as late:

                async def ended() -> Any:
                    rows = await lab.rows(ATTEMPT)
                    return rows[0] if rows and rows[0].outcome is not None else None

                attempt = await eventually(ended)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert attempt.duration_ms < (TIMEOUT + 1 + sum(late)) * 1000
            assert most < 20 * MIB
            assert len(attempt.response or "") <= 4_096
            assert len(attempt.request or "") <= 4_096
            async with looking(lab.hub) as browser:
                harmless(await browser.get(f"/events/{kept.id}"))


@asynccontextmanager
async def turns() -> AsyncIterator[list[float]]:
    """The processor's time, in seconds, that this thread spent from one turn of another task to its next.

    Not the clock's: on a busy machine that tells what others do.
    """
    spent: list[float] = []

    async def take_turns() -> None:
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0.005)
            spent.append(time.thread_time() - begun)

    gc.collect()
    gc.disable()
    taking = asyncio.create_task(take_turns())
    try:
        yield spent
        await asyncio.sleep(0.01)
    finally:
        taking.cancel()
        gc.enable()


@pytest.mark.parametrize("name", flooding.FLOODS)
def test_s32_no_answer_holds_up_what_else_is_to_be_done(name: str) -> None:
    """S32: a flood of answers, or of pieces of one, takes less than 0.1 s at a time, and is soon given up.

    On the loop that the hub has: it takes in more at a time than Python's own.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        spent = runner.run(flooded(name))
    assert max(spent) < 0.1
    assert sum(spent) < 0.5


async def flooded(name: str) -> list[float]:
    """What passed between the turns of another task while a flood was answered."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-I", flooding.__file__, name, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    place = f"127.0.0.1:{int(await server.stdout.readline())}"
    async with open_client(Guard([place]), timeout=60) as client, turns() as spent:
        with suppress(httpx.RemoteProtocolError):
            await client.post(f"http://{place}/hook", content=b"{}")
    await server.wait()
    return spent


async def test_a_few_interim_answers_may_go_before_one() -> None:
    said = raw(CONTINUE * 19 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    async with hostile(said) as server, client_of(server) as client:
        for _ in range(3):
            assert (await client.post(server.url, content=b"{}")).text == "ok"
    assert server.connections == 1
