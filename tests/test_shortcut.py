"""A webhook in one piece goes past ASGI, one in two pieces does not: nobody sees a difference."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from hub.store import EVENT, REFUSED
from hub.testing.samples import SIGNATURE_HEADER, sign, to_bytes
from hub.web.protocol import Short
from tests import hubdb
from tests.hubdb import SECRET, Lab, document, open_lab, served
from tests.servers import eventually
from tests.test_protocol import LAST, connections, exchange, statuses
from tests.test_webhooks import where

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab

DATE = re.compile(rb"date: [^\r]*\r\n")
LENGTH = re.compile(rb"content-length: \d+\r\n")
EVENT_ID = re.compile(rb"evt_[0-9a-f]{32}")
# What makes the database refuse every event, and what ends it.
REFUSE = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'no'); END",
        "DROP TRIGGER refuse",
    ),
    "postgresql": (
        "ALTER TABLE event ADD CONSTRAINT refuse CHECK (false) NOT VALID",
        "ALTER TABLE event DROP CONSTRAINT refuse",
    ),
}


@pytest.fixture
async def sqlite_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """For what has no SQL of its own."""
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        yield made


def request(number: int, *fields: str, body: bytes | None = None, line: str = "POST /webhooks/main") -> bytes:
    sent = to_bytes(document(orderId=f"ord_{number}")) if body is None else body
    head = [f"{line} HTTP/1.1", "Host: hub", f"{SIGNATURE_HEADER}: {sign(sent, SECRET)}", *fields]
    return "\r\n".join([*head, f"Content-Length: {len(sent)}", "", ""]).encode() + sent


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*where(url))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answered(url: str, *pieces: bytes) -> bytes:
    """One answer, without its date, to a request in these pieces, each of which the hub has seen by itself."""
    async with connected(url) as (reader, writer):
        for piece in pieces[:-1]:
            writer.write(piece)
            await eventually(lambda: any(one.quiet or one.part == "body" for one in connections()))
        writer.write(pieces[-1])
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        return DATE.sub(b"", head) + await reader.readexactly(int(length[1]))


def in_two(sent: bytes) -> tuple[bytes, bytes]:
    return sent[:-3], sent[-3:]


SENT = {
    "accepted": request(1),
    "not ours": request(1, line="POST /webhooks/other"),
    "another address": request(1, line="POST /elsewhere"),
    "with a query": request(1, line="POST /webhooks/main?so=1"),
    "spelled otherwise": request(1, line="POST /webhooks/m%61in"),
    "not posted": request(1, line="PUT /webhooks/main"),
    "unsigned": request(1).replace(SIGNATURE_HEADER.encode(), b"X-Other"),
    "compressed": request(1, "Content-Encoding: gzip"),
    "no event": request(1, body=b'{"event": "order.placed"}'),
    "no JSON": request(1, body=b"order"),
    "closing": request(1, "Connection: close"),
}


@pytest.mark.parametrize("name", SENT)
async def test_whole_or_in_two_the_answer_is_the_same(sqlite_lab: Lab, name: str) -> None:
    async with served(sqlite_lab.hub) as url:
        whole, halves = await answered(url, SENT[name]), await answered(url, *in_two(SENT[name]))
    found = EVENT_ID.findall(whole)
    assert found == EVENT_ID.findall(halves)
    # What is kept is a repeat the second time, and says so; all else is the same to the byte.
    again = whole.replace(b'false},"message":"event accepted"', b'true},"message":"event was accepted before"')
    assert LENGTH.sub(b"", halves) == LENGTH.sub(b"", again)


async def test_only_what_came_whole_goes_the_short_way(sqlite_lab: Lab) -> None:
    async with served(sqlite_lab.hub) as url, connected(url) as (reader, writer):
        ways = []
        for pieces in ([request(1)], in_two(request(2)), [request(3)]):
            for piece in pieces[:-1]:
                writer.write(piece)
                await eventually(lambda: any(one.part == "body" for one in connections()))
            writer.write(pieces[-1])
            await reader.readuntil(b'event accepted"}')
            (connection,) = connections()
            ways.append(isinstance(connection.cycle, Short))
    assert ways == [True, False, True]


async def test_answers_come_in_the_order_of_their_requests(sqlite_lab: Lab) -> None:
    health = b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n"
    async with served(sqlite_lab.hub) as url:
        said = await exchange(url, request(1) + health + request(2) + request(1) + LAST)
    assert statuses(said) == [200] * 5
    told = [json.loads(body) for body in re.findall(rb"\r\n\r\n(\{[^\r]*\})", said)]
    assert [one.get("status") or one["data"]["duplicate"] for one in told] == ["ok" if n in (1, 4) else n == 3
                                                                              for n in range(5)]  # fmt: skip


@pytest.mark.parametrize("split", [False, True])
async def test_what_the_database_refuses_is_remembered_before_its_answer(lab: Lab, *, split: bool) -> None:
    refuse, again = REFUSE[lab.hub.database.dialect]
    await lab.write(partial(Connection.exec_driver_sql, statement=refuse))
    try:
        async with served(lab.hub) as url:
            said = await answered(url, *(in_two(request(1)) if split else [request(1)]))
            assert statuses(said) == [422]
            assert b"the database cannot keep this event" in said
            assert [(row.status, row.signed) for row in await lab.rows(REFUSED)] == [(422, True)]
    finally:
        await lab.write(partial(Connection.exec_driver_sql, statement=again))


@pytest.mark.parametrize("split", [False, True])
async def test_what_cannot_be_kept_now_is_a_503(sqlite_lab: Lab, *, split: bool) -> None:
    await sqlite_lab.write(lambda connection: connection.exec_driver_sql("ALTER TABLE event RENAME TO away"))
    async with served(sqlite_lab.hub) as url:
        said = await answered(url, *(in_two(request(1)) if split else [request(1)]))
    assert statuses(said) == [503]
    assert b"retry-after: 5\r\n" in said


async def test_who_hangs_up_before_the_answer_is_kept_all_the_same(sqlite_lab: Lab) -> None:
    async with served(sqlite_lab.hub) as url:
        for number in range(20):
            async with connected(url) as (_, writer):
                writer.write(request(number))
                await writer.drain()

        async def kept() -> bool:
            return len(await sqlite_lab.rows(EVENT)) == 20

        await eventually(kept)
        await eventually(lambda: not connections())
        assert statuses(await exchange(url, request(1) + LAST)) == [200, 200]
