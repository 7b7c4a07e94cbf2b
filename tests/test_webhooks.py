"""The endpoint over real HTTP: every refusal with its status, code and envelope; and no input that gives a 500."""

import asyncio
import http.client
import json
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hub.runtime import MOST_BEHIND
from hub.store import EVENT, REFUSED
from hub.testing.samples import SIGNATURE_HEADER, sample, sign, to_bytes
from tests import hubdb
from tests.hubdb import SECRET, Lab, document, open_lab, served, store_at
from tests.servers import PATIENCE, PostgresServer, eventually

shared_url, database_url = hubdb.shared_url, hubdb.database_url
MIB = 1024 * 1024
BODY = to_bytes(document(orderId="ord_1"))
RIGHT = sign(BODY, SECRET)


@asynccontextmanager
async def receiver(folder: Path, body_within: float = PATIENCE) -> AsyncIterator[tuple[Lab, str]]:
    async with (
        open_lab(folder, f"sqlite:///{folder}/hub.db") as lab,
        served(lab.hub, body_within) as url,
    ):
        yield lab, url


def patient() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=PATIENCE)


async def raw(url: str, *parts: bytes, pause: float = 0.0) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Send these bytes and read the answer: status, headers, JSON. Sending stops where the other side does."""
    reader, writer = await asyncio.open_connection(*where(url))
    answer = asyncio.create_task(read_answer(reader, has_body=not parts[0].startswith(b"HEAD")))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
    except ConnectionError:
        pass
    async with asyncio.timeout(PATIENCE):
        found = await answer
    writer.close()
    return found


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool) -> tuple[int, dict[str, str], dict[str, Any]]:
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in rest)
    body = await reader.readexactly(int(headers["content-length"])) if has_body else b"{}"
    return int(first.split()[1]), headers, json.loads(body)


def where(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def head(length: int | None = len(BODY), method: str = "POST", path: str = "/webhooks/main", **more: str) -> bytes:
    """A request's head, rightly signed; chunked without a length. The connection closes after the answer."""
    fields = {"Host": "hub", "Connection": "close", SIGNATURE_HEADER: RIGHT}
    fields |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def refusal(body: dict[str, Any], code: str) -> None:
    """The vendor's error envelope."""
    assert body["success"] is False
    assert body["error"]["code"] == code
    assert set(body["error"]) <= {"code", "message", "details"}
    assert body["error"]["message"]


async def test_a_new_event_and_its_repeat(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab, served(lab.hub) as url, store_at(url) as store:
        answer = await store.send("order.placed")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        event = await lab.row(EVENT)
        assert body == {
            "success": True, "data": {"id": event.id, "duplicate": False}, "message": "event accepted",
        }  # fmt: skip
        again = (await store.resend()).json()
        assert again["data"] == {"id": event.id, "duplicate": True}
        assert (bytes(event.body), event.type, event.origin) == (store.posted[0].body, "order.placed", "webhook")


WRONG = {
    "missing": [], "empty": [b""], "short": [RIGHT[:63].encode()], "long": [RIGHT.encode() + b"0"],
    "upper case": [RIGHT.upper().encode()], "not hex": [b"g" * 64], "not ascii": ["é".encode() * 32],
    "latin": [b"\xe9" * 64], "prefixed": [b"sha256=" + RIGHT.encode()],
    "wrong": [sign(BODY, "another secret").encode()],
    "of another body": [sign(BODY + b" ", SECRET).encode()], "twice": [RIGHT.encode(), RIGHT.encode()],
    "right and wrong": [RIGHT.encode(), b"0" * 64], "with a comma": [f"{RIGHT}, {RIGHT}".encode()],
}  # fmt: skip


async def test_every_bad_signature_gets_the_same_answer(tmp_path: Path) -> None:
    """S01: and it says nothing of why."""
    async with receiver(tmp_path) as (lab, url), patient() as client:
        answers = {}
        for name, given_signatures in WRONG.items():
            headers = [(SIGNATURE_HEADER.encode(), value) for value in given_signatures]
            answer = await client.post(f"{url}/webhooks/main", content=BODY, headers=headers)
            answers[name] = (answer.status_code, answer.content, sorted(answer.headers.keys()))
        assert len(set(map(str, answers.values()))) == 1, answers
        status, content, _ = answers["missing"]
        assert status == 401
        refusal(json.loads(content), "AUTHENTICATION_ERROR")
        assert "details" not in json.loads(content)["error"]
        assert await lab.rows(EVENT) == []


@pytest.mark.parametrize(
    "path", ["/webhooks/other", "/webhooks/main%00", "/webhooks/main/", "/webhooks/", "/webhooks", "/", "/webhooks/a/b"]
)
async def test_what_is_not_there(tmp_path: Path, path: str) -> None:
    async with receiver(tmp_path) as (_, url):
        status, _, body = await raw(url, head(path=path) + BODY)
        assert status == 404
        refusal(body, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *((method, "/webhooks/main", "POST") for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")),
        ("POST", "/healthz", "GET, HEAD"), ("DELETE", "/readyz", "GET, HEAD"),
    ],
)  # fmt: skip
async def test_the_wrong_method(tmp_path: Path, method: str, path: str, allowed: str) -> None:
    async with receiver(tmp_path) as (_, url):
        status, headers, body = await raw(url, head(method=method, path=path) + BODY)
        assert status == 405
        assert ", ".join(sorted(headers["allow"].upper().split(", "))) == allowed
        if method != "HEAD":
            refusal(body, "VALIDATION_ERROR")


NOT_JSON = [b"", b"{", b"not json", b"[1,]", b'{"event": NaN}', b'{"a": Infinity}', b"\xff\xfe{}", b'{"a": "\xc3"}',
            b"\xef\xbb\xbf{}", b'{"a": "\\ud800"}', b'"\x00"', b"[" * 20_000]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:16]))
async def test_what_is_not_json(tmp_path: Path, body: bytes) -> None:
    async with receiver(tmp_path) as (lab, url), store_at(url) as store:
        answer = await store.post(body)
        assert answer.status_code == 400
        refusal(answer.json(), "VALIDATION_ERROR")
        row = await lab.row(REFUSED)
        assert (row.signed, row.status, bytes(row.body)) == (True, 400, body[:65536])


GOOD: dict[str, Any] = {"event": "order.placed", "data": {"orderId": "ord_1"}, "timestamp": hubdb.NOON}
NO_EVENTS: list[tuple[Any, list[str]]] = [
    ([], [""]), ("order.placed", [""]), (None, [""]), ({}, ["data", "event", "timestamp"]),
    (GOOD | {"event": 7}, ["event"]), (GOOD | {"event": ""}, ["event"]), (GOOD | {"event": "x" * 201}, ["event"]),
    (GOOD | {"event": "a\nb"}, ["event"]), (GOOD | {"event": "a\x00"}, ["event"]),
    (GOOD | {"event": "hub.x"}, ["event"]),
    (GOOD | {"data": []}, ["data"]), (GOOD | {"timestamp": "yesterday"}, ["timestamp"]),
    (GOOD | {"timestamp": 5}, ["timestamp"]), (GOOD | {"data": {"orderId": "x" * 257}}, ["data.orderId"]),
    (GOOD | {"data": {"orderId": "a\x00b"}}, ["data.orderId"]), (GOOD | {"data": {"id": "a\u2028b"}}, ["data.id"]),
    (GOOD | {"event": None, "timestamp": None}, ["event", "timestamp"]),
]  # fmt: skip


@pytest.mark.parametrize(("event", "fields"), NO_EVENTS, ids=lambda value: repr(value)[:40])
async def test_json_that_is_no_event(tmp_path: Path, event: Any, fields: list[str]) -> None:
    async with receiver(tmp_path) as (lab, url), store_at(url) as store:
        answer = await store.post(json.dumps(event).encode())
        assert answer.status_code == 422
        body = answer.json()
        refusal(body, "VALIDATION_ERROR")
        assert sorted(problem["field"] for problem in body["error"]["details"]) == fields
        assert all(set(problem) == {"field", "message"} and problem["message"] for problem in body["error"]["details"])
        row = await lab.row(REFUSED)
        assert (row.signed, row.details) == (True, body["error"]["details"])


async def test_unknown_types_and_times_without_a_zone_are_kept(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab, served(lab.hub) as url, store_at(url) as store:
        event = GOOD | {"event": "refund.üñí", "timestamp": "2026-11-23T12:00:00"}
        assert (await store.post(json.dumps(event).encode())).status_code == 200
        row = await lab.row(EVENT)
        assert (row.type, row.occurred_at.isoformat()) == ("refund.üñí", "2026-11-23T12:00:00+00:00")


async def test_too_large_by_its_length_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url):
        for length in (MIB + 1, 10**15):
            status, headers, body = await raw(url, head(length))
            assert (status, headers["connection"]) == (413, "close")
            refusal(body, "VALIDATION_ERROR")


async def test_too_large_in_chunks_is_refused_while_it_is_read(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url):
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        status, _, body = await raw(url, head(None), *[chunk] * 40)
        assert status == 413
        refusal(body, "VALIDATION_ERROR")


async def test_one_mib_fits(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url), store_at(url) as store:
        event = to_bytes(document(orderId="ord_1", note=""))
        full = event.replace(b'"note":""', b'"note":"%b"' % (b"x" * (MIB - len(event))))
        assert len(full) == MIB
        assert (await store.post(full)).status_code == 200
        assert (await store.post(full + b" ")).status_code == 413


async def test_compressed_is_refused(tmp_path: Path) -> None:
    """S12: whatever it is called."""
    async with receiver(tmp_path) as (_, url), store_at(url) as store:
        for encoding in ("gzip", "br", "deflate, gzip", "GZIP"):
            answer = await store.post(BODY, headers={"Content-Encoding": encoding})
            assert answer.status_code == 415
            refusal(answer.json(), "VALIDATION_ERROR")
        assert (await store.post(BODY, headers={"Content-Encoding": "identity"})).status_code == 200


async def test_a_body_that_dribbles_in_is_refused(tmp_path: Path) -> None:
    async with receiver(tmp_path, body_within=0.3) as (lab, url):
        status, headers, body = await raw(url, head(1000), *[b"x"] * 8, pause=0.1)
        assert (status, headers["connection"]) == (408, "close")
        refusal(body, "VALIDATION_ERROR")
        assert await lab.rows(EVENT) == []


async def test_a_client_that_hangs_up_is_counted_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as lines:
        async with receiver(tmp_path) as (lab, url):
            for part in (head(1000) + b"x" * 500, head(None) + b"5\r\nhello\r\n"):
                _, writer = await asyncio.open_connection(*where(url))
                writer.write(part)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
            await eventually(lambda: sum(line["count"] for line in lines if line["event"] == "event.hung_up") == 2)
            assert (await raw(url, head() + BODY))[0] == 200
        async with open_lab(tmp_path, lab.hub.config.database.reveal()) as after:
            assert await after.rows(REFUSED) == []
    assert {line["event"] for line in lines} == {"event.hung_up", "event.kept", "event.received"}
    assert {str(line["stores"]) for line in lines if line["event"] == "event.hung_up"} <= {"{'main': 1}", "{'main': 2}"}
    assert (caplog.records, capsys.readouterr().err) == ([], "")


async def test_a_client_that_hangs_up_before_its_answer_has_its_event_kept(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with receiver(tmp_path) as (lab, url):
            _, writer = await asyncio.open_connection(*where(url))
            writer.write(head() + BODY)
            await writer.drain()
            writer.transport.abort()
            await eventually(lambda: kept(lab))
    assert {line["log_level"] for line in lines} <= {"debug", "info"}


async def kept(lab: Lab) -> bool:
    return len(await lab.rows(EVENT)) == 1


async def test_a_locked_database_is_503_and_so_is_what_waits_behind_it(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (lab, url), store_at(url) as store, patient() as client:
        # Long enough for all that must happen before the first one gives up.
        await lab.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=8000"))
        with closing(sqlite3.connect(tmp_path / "hub.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            first = asyncio.create_task(store.send("order.placed"))
            await eventually(lambda: lab.hub.writer.behind() > MOST_BEHIND)
            behind = await store.send("order.placed")
            assert not first.done()
            assert (await client.get(f"{url}/readyz")).status_code == 503
            for answer in (behind, await first):
                assert answer.status_code == 503
                assert answer.headers["retry-after"].isdigit()
                refusal(answer.json(), "UNAVAILABLE")
            assert (await client.get(f"{url}/healthz")).status_code == 200
        assert await lab.rows(EVENT) == []

        async def ready() -> httpx.Response | None:
            answer = await client.get(f"{url}/readyz")
            return answer if answer.status_code == 200 else None

        answered = await eventually(ready)
        assert answered is not None
        assert answered.json() == {"status": "ok"}
        assert (await store.send("order.placed")).status_code == 200


async def test_a_slow_reader_keeps_no_webhook_and_so_does_not_change_readyz(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (lab, url), store_at(url) as store, httpx.AsyncClient(trust_env=False) as client:
        may_end = threading.Event()
        reading = asyncio.create_task(lab.hub.database.read(lambda connection: may_end.wait()))
        try:
            assert (await store.send("order.placed")).status_code == 200
            assert (await client.get(f"{url}/readyz")).status_code == 200
            assert not reading.done()
        finally:
            may_end.set()
            await reading


async def test_a_stopped_postgresql_is_503_until_it_is_back(
    tmp_path: Path, postgres_server: PostgresServer, shared_url: str
) -> None:
    async with (
        open_lab(tmp_path, shared_url) as lab,
        served(lab.hub) as url,
        store_at(url) as store,
        patient() as client,
    ):
        assert (await store.send("order.placed")).status_code == 200
        postgres_server.kill()
        try:
            for answer in (
                await store.send("order.placed"),
                await store.post(b"{}"),
                await client.get(f"{url}/readyz"),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert (await store.post(BODY, signature="0" * 64)).status_code == 401
        finally:
            postgres_server.start()

        async def ready() -> bool:
            return (await client.get(f"{url}/readyz")).status_code == 200

        await eventually(ready)
        assert (await store.send("order.placed")).status_code == 200
        assert len(await lab.rows(EVENT)) == 2


async def test_who_expects_to_be_told_to_go_on_is_told(tmp_path: Path) -> None:
    async with receiver(tmp_path) as (_, url):
        reader, writer = await asyncio.open_connection(*where(url))
        writer.write(head(Expect="100-continue"))
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(BODY)
        assert await reader.readline() == b"\r\n"
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_an_upgrade_is_not_taken_up(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "x",
    }
    async with receiver(tmp_path) as (_, url):
        for method, status in (("GET", b"405"), ("POST", b"401")):
            reader, writer = await asyncio.open_connection(*where(url))
            writer.write(head(method=method, **more) + BODY)
            assert (await reader.readline()).split()[1] == status
            writer.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A receiver in a thread of its own, for tests that generate their requests."""
    folder, listens, ports = tmp_path_factory.mktemp("hub"), threading.Event(), []

    async def run() -> None:
        async with receiver(folder) as (_, url):
            stop = asyncio.Event()
            ports.append((where(url)[1], asyncio.get_running_loop(), stop))
            listens.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert listens.wait(PATIENCE)
    number, loop, stop = ports[0]
    yield number
    loop.call_soon_threadsafe(stop.set)
    thread.join(PATIENCE)


tokens = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)
values = st.binary(max_size=80).filter(lambda value: not set(value) & set(b"\r\n\0"))
framing = {"content-length", "transfer-encoding", "connection", "host", "upgrade", "expect"}
headers = st.lists(
    st.tuples(
        tokens.filter(lambda name: name.lower() not in framing) | st.sampled_from(["X-Litekart-Signature"]), values
    ),
    max_size=6,
)
paths = st.sampled_from(["/webhooks/main", "/webhooks/%00%ff", "/healthz", "/readyz", "*", "//", "/webhooks/main?x=%"])


@given(
    method=st.sampled_from(["POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]) | tokens,
    path=paths | tokens.map(lambda token: f"/webhooks/{token}"),
    fields=headers,
    body=st.binary(max_size=200),
    signed=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_no_request_gives_a_500(
    port: int, method: str, path: str, fields: list[tuple[str, bytes]], body: bytes, signed: bool
) -> None:
    """S09: nor one that makes no sense."""
    lines = [
        f"{method} {path} HTTP/1.1".encode(),
        b"Host: hub",
        b"Connection: close",
        b"Content-Length: %d" % len(body),
    ]
    lines += [name.encode() + b": " + value for name, value in fields]
    lines += [f"{SIGNATURE_HEADER}: {sign(body, SECRET)}".encode()] if signed else []
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        with closing(http.client.HTTPResponse(connection, method=method)) as answer:
            answer.begin()
            assert 200 <= answer.status < 500


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
names = st.sampled_from(["order.placed", "order.updated", "payment.completed", "inventory.low", "x"])
ids = st.sampled_from(["orderId", "id", "variantId", "order", "customer", "items", "email", "sku"])
documents = st.fixed_dictionaries(
    {
        "event": names | scalars,
        "data": st.dictionaries(ids | st.text(), anything) | anything,
        "timestamp": st.sampled_from([hubdb.NOON, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]) | scalars,
    }
)


@given(documents | anything)
@example({"event": "order.placed", "data": {"orderId": 10**300}, "timestamp": hubdb.NOON})
@example({"event": "order.updated", "data": {"orderId": "\uffff\ufffe"}, "timestamp": hubdb.NOON})
@settings(max_examples=100, deadline=None)
def test_no_signed_json_gives_a_500(port: int, content: Any) -> None:
    status, answer = posted(port, json.dumps(content).encode())
    assert status in {200, 400, 422}
    assert answer["success"] is (status == 200)


def posted(port: int, body: bytes) -> tuple[int, Any]:
    """Status and JSON of the answer to this signed body; posted again where a slow disk brings about a 503."""
    deadline = time.monotonic() + 10
    while True:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
            connection.request("POST", "/webhooks/main", body, {SIGNATURE_HEADER: sign(body, SECRET)})
            answer = connection.getresponse()
            if answer.status != 503 or time.monotonic() > deadline:
                return answer.status, json.loads(answer.read())
        time.sleep(0.05)


def test_samples_of_all_types_are_taken(port: int) -> None:
    for kind in ("order.placed", "order.cancelled", "customer.registered", "of.tomorrow"):
        status, answer = posted(port, to_bytes(sample(kind)))
        assert (status, answer["data"]["duplicate"]) == (200, False)
