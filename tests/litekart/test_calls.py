"""How requests are made: retried or not, waited for or not, shared, kept and dropped; and that nothing leaks."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest

from hub.client import open_client
from hub.connector import Secret
from hub.errors import (
    AddressRefused,
    AuthenticationFailed,
    BadAnswer,
    ConfigError,
    HoldRoute,
    LitekartError,
    NotFound,
    NotNow,
    NotOffered,
    Outcome,
    RateLimited,
    Rejected,
    ServerError,
    TryAgain,
    Unreachable,
    ValidationFailed,
)
from hub.guard import Guard
from hub.litekart import MAX_ANSWER, Litekart, RateLimit
from hub.litekart import reads as reads_module
from hub.litekart.budget import Budget
from hub.models import harmless
from hub.outcome import of_status, outcome_of
from tests.hostile import (
    Asked,
    Behaviour,
    Hostile,
    answer,
    drip,
    drop,
    flood,
    gzip_bomb,
    hang,
    hostile,
    less_than,
    raw,
    then_close,
    until,
)
from tests.servers import free_port

KEY = "lk_T0PS3CRET-key/with+signs"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
JSON_TYPE = "Content-Type: application/json"


def says(document: Any, status: str = "200 OK", *headers: str) -> Behaviour:
    return answer(json.dumps(document).encode(), status, JSON_TYPE, *headers)


ORDER = says({"success": True, "data": {"id": "ord_1", "total": 29.99}})


async def whatever_is_asked_for(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await says({"id": unquote(asked.target.rpartition("/")[2])})(asked, reader, writer)


LIMITED = says({"success": False, "error": {"code": "RATE_LIMITED", "message": "slow"}}, "429 Too Many Requests")


def limited(*headers: str, **body: Any) -> Behaviour:
    return says({"error": "slow", **body}, "429 Too Many Requests", *headers)


@asynccontextmanager
async def client_of(server: Hostile, **options: Any) -> AsyncIterator[Litekart]:
    given: dict[str, Any] = {"retries": 0, "backoff": 0.001, "allow": [server.authority]} | options
    async with Litekart(KEY, f"http://{server.authority}", **given) as client:
        yield client


class Spent:
    """A budget that lets so many go, and then says how long it takes."""

    def __init__(self, left: int, wait: float) -> None:
        self.left, self.wait = left, wait
        self.spent: list[tuple[str, bool]] = []
        self.told: list[RateLimit] = []

    async def spend(self, who: str, *, background: bool) -> float:
        if self.left == 0:
            self.left = 1
            return self.wait
        self.left -= 1
        self.spent.append((who, background))
        return 0.0

    async def correct(self, answer: RateLimit) -> None:
        self.told.append(answer)


# ---- bad input from the store

BAD: dict[str, tuple[Behaviour, type[LitekartError], str]] = {
    "HTML": (answer(b"<html><body>Maintenance</body></html>"), BadAnswer, "HTML"),
    "text": (answer(b"OK"), BadAnswer, "no JSON"),
    "half a JSON": (answer(b'{"success": true, "data": {"id": "o'), BadAnswer, "half"),
    "no UTF-8": (answer(b'{"id": "\xff"}'), BadAnswer, "no JSON"),
    "nested too deep": (answer(b"[" * 100_000), BadAnswer, "nested more than 100"),
    "nested deeper than it is walked through": (
        answer(b'{"id": "ord_1", "x": ' + b"[" * 400 + b"]" * 400 + b"}"), BadAnswer, "nested more than 100",
    ),
    "half a gigabyte of small arrays": (
        answer(b'{"id": "ord_1", "x": [' + b"[]," * 300_000 + b"[]]}"), BadAnswer, "more than 200,000 arrays",
    ),
    "a number too long": (answer(b'{"id": ' + b"9" * 10_000 + b"}"), BadAnswer, "no JSON"),
    "10 MB": (answer(b'{"id": "' + b"x" * 10_000_000 + b'"}'), BadAnswer, "longer than"),
    "a bomb": (gzip_bomb(50_000_000), BadAnswer, "longer than"),
    "endless": (flood(b"HTTP/1.1 200 OK\r\n\r\n"), BadAnswer, "longer than"),
    "an error inside": (
        says({"success": False, "error": {"code": "NOT_FOUND", "message": "gone"}}), BadAnswer, "gone",
    ),
    "an error inside, without success": (says({"error": "database is away"}), BadAnswer, "database is away"),
    "a list for one": (says([{"id": "ord_1"}]), BadAnswer, "without the object"),
    "nothing": (answer(b""), BadAnswer, "without the object"),
    "null": (answer(b"null"), BadAnswer, "without the object"),
    "another one's": (says({"data": {"id": f"ord_2 {KEY}"}, "success": True}), BadAnswer, "asked for ord_1, answered"),
    "without an id": (says({"data": {"total": 3}, "success": True}), BadAnswer, "id"),
    "a redirect": (answer(b"", "302 Found", "Location: https://evil.example/"), BadAnswer, "302"),
    "HTML with 502": (answer(b"<html>bad gateway</html>", "502 Bad Gateway"), ServerError, "HTML"),
    "10 MB with 500": (answer(b"x" * 10_000_000, "500 Oops"), ServerError, "HTTP 500"),
    "a broken connection": (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), Unreachable, "broke"),
    "hung up": (drop, Unreachable, "closed the connection"),
    "no HTTP": (raw(b"220 mail.example ESMTP\r\n\r\n"), Unreachable, "proper HTTP"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
async def test_bad_input_from_the_store_is_a_clear_error(what: str) -> None:
    behaviour, kind, text = BAD[what]
    async with hostile(behaviour) as server, client_of(server) as client:
        with pytest.raises(kind, match=text) as caught:
            await client.orders.get("ord_1")
        assert type(caught.value) is kind
        assert isinstance(outcome_of(caught.value, NOW), TryAgain)
        assert len(str(caught.value)) < 700
        assert KEY not in str(caught.value)


async def test_an_answer_that_never_ends_or_never_comes_meets_the_deadline() -> None:
    for behaviour in (hang, drip(b"x", 0.01, b"HTTP/1.1 200 OK\r\n\r\n")):
        async with hostile(behaviour) as server, client_of(server, timeout=0.3) as client:
            with pytest.raises(Unreachable, match="in time") as caught:
                await client.orders.get("ord_1")
            assert caught.value.sent


async def test_an_answer_costs_no_more_than_its_bound() -> None:
    async with hostile(flood(b"HTTP/1.1 200 OK\r\n\r\n")) as server, client_of(server) as client:
        with less_than(4 * MAX_ANSWER // 2**20), pytest.raises(BadAnswer):
            await client.orders.get("ord_1")


async def test_answers_come_compressed() -> None:
    body = gzip.compress(json.dumps({"data": [{"id": f"p{n}"} for n in range(50)], "count": 50}).encode())
    async with hostile(answer(body, "200 OK", "Content-Encoding: gzip", JSON_TYPE)) as server:
        async with client_of(server, profile="v2") as client:
            assert len(await client.products.list()) == 50
        assert server.asked[0].headers["accept-encoding"] == "gzip"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own time is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
async def test_numbers_are_read_as_written_and_rounded_to_their_currency() -> None:
    body = b"""{"id": 7, "currencyCode": "EUR", "total": 29.989999771118164, "tax": "4.790", "paid": "true",
        "shippingCharges": 1e1, "orderNo": "1042", "createdAt": "2026-01-02T03:04:05", "updatedAt": 1767323045000,
        "status": "\xe0\xa4\x9c\xe0\xa4\xbe\xe0\xa4\x81\xe0\xa4\x9a", "subtotal": NaN, "discount": "none",
        "weird": 1.10,
        "lineItems": [{"title": "Tea", "qty": "3", "price": 9.999999046325684}, "x", null]}"""
    async with hostile(answer(body)) as server, client_of(server, profile="v2") as client:
        order = await client.orders.get("7")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (order.id, order.order_no, order.total, order.tax) == ("7", "1042", Decimal("29.99"), Decimal("4.79"))
    assert (order.paid, order.shipping, order.created_at, order.updated_at) == (True, Decimal(10), moment, moment)
    assert (order.subtotal, order.discount, order.unread) == (None, None, ("discount",))
    assert [(line.name, line.quantity, line.price) for line in order.items or []] == [("Tea", 3, Decimal("10.00"))]
    assert order.model_extra == {"weird": Decimal("1.10")}


async def test_what_only_python_reads_is_not_taken_over() -> None:
    # Made a whole number, 1e999999999 is a gigabyte and minutes in which nothing else runs.
    body = (
        '{"id": "ord_1", "total": 1e999999999, "tiny": 1e-999999999, "long": ' + "9" * 400 + ', "nan": NaN,'
        ' "half": "a\\ud800b", "\\udc00": [{"\\ud83d\\ude00": "\\udfff"}]}'
    )
    async with hostile(answer(body.encode())) as server, client_of(server) as client:
        order = await client.orders.get("ord_1")
    assert order.total is None
    assert order.model_extra == {
        "tiny": None, "long": None, "nan": None, "half": "a\ufffdb", "\ufffd": [{"\U0001f600": "\ufffd"}],
    }  # fmt: skip


async def test_a_page_is_as_long_as_pages_are() -> None:
    async with hostile(says([{"id": "a"}] * 10_001)) as server, client_of(server) as client:
        with pytest.raises(BadAnswer, match="a page of more than 10,000 items"):
            await client.orders.list()


async def test_a_store_s_words_are_bounded_and_obeyed_by_no_terminal_or_database() -> None:
    issues = [{"path": ["x" * 1000] * 30, "message": "\0\x1b[2J\ud800" + "y" * 1000}] * 100
    behaviour = says({"error": {"message": "no\0\x1b[2J", "issues": issues}}, "422 X")
    async with hostile(behaviour) as server, client_of(server) as client:
        with pytest.raises(ValidationFailed) as caught:
            await client.orders.list()
    text = str(caught.value)
    assert text.startswith("HTTP 422: GET /api/orders: no\ufffd\ufffd[2J: ")
    assert (text == harmless(text, len(text)), len(text) < 400_000) == (True, True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"success": False, "error": {"code": "VALIDATION_ERROR", "message": "Invalid", "details": {
            "field": "email", "issue": "is invalid"}}}, "VALIDATION_ERROR: Invalid: email: is invalid"),
        ({"error": {"code": "INVALID_REQUEST", "message": "No", "details": [
            {"field": "a", "message": "b"}, {"field": "c", "message": "d"}]}}, "INVALID_REQUEST: No: a: b; c: d"),
        ({"success": False, "error": {"name": "ZodError", "issues": [
            {"code": "custom", "path": ["items", 0, "qty"], "message": "bad"}]}}, "ZodError: items.0.qty: bad"),
        ({"message": "Not Found"}, "Not Found"),
        ({"error": "In use", "count": 3}, "In use: count: 3"),
        ({"error": "Taken", "field": "sku"}, "Taken: sku"),
        ({"error": "In use", "dependencies": ["orders", "carts"]}, "In use"),
        ({"error": {"message": "No", "details": ["first", "second"]}}, "No: first; second"),
        ([1, 2], "no reason given"),
        ({"error": None, "message": {"x": 1}}, "no reason given"),
        ({"error": {"details": {"a": {"b": []}}}}, "a"),
    ],
)  # fmt: skip
async def test_every_known_shape_of_error_is_told(body: Any, told: str) -> None:
    async with hostile(says(body, "422 X")) as server, client_of(server) as client:
        with pytest.raises(ValidationFailed) as caught:
            await client.orders.list()
    assert str(caught.value).startswith(f"HTTP 422: GET /api/orders: {told}")


# ---- outcomes


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 408, 409, 410, 418, 422, 423, 425, 429, 500, 502, 503])
async def test_the_hub_reads_an_error_as_it_would_the_bare_status(status: int) -> None:
    behaviour = says({"message": "no"}, f"{status} X", "Retry-After: 9")
    async with hostile(behaviour) as server, client_of(server) as client:
        with pytest.raises(LitekartError) as caught:
            await client.orders.get("ord_1")
    found, bare = outcome_of(caught.value, NOW), of_status(status, "", 9.0)
    assert type(found) is type(bare)
    assert found.__dict__ | {"reason": ""} == bare.__dict__ | {"reason": ""}
    assert f"HTTP {status}" in found.reason
    assert "no" in found.reason


async def test_the_hub_reads_what_never_arrived_as_it_does_elsewhere() -> None:
    port = free_port()
    async with Litekart(KEY, f"http://127.0.0.1:{port}", retries=0, allow=[f"127.0.0.1:{port}"]) as client:
        with pytest.raises(Unreachable) as caught:
            await client.orders.get("ord_1")
    found = outcome_of(caught.value, NOW)
    assert (type(found), caught.value.sent) == (TryAgain, False)
    assert isinstance(found, TryAgain)
    assert found.destination
    expected: list[tuple[LitekartError, type[Outcome]]] = [
        (NotOffered("no"), Rejected),
        (ValidationFailed("an id"), Rejected),
        (AuthenticationFailed("no", status=401), HoldRoute),
        (RateLimited("no", status=429, after=5), TryAgain),
        (NotFound("no", status=404), TryAgain),
        (Unreachable("no"), TryAgain),
    ]
    assert [type(outcome_of(error, NOW)) for error, _ in expected] == [outcome for _, outcome in expected]


async def test_private_addresses_are_refused_unless_named() -> None:
    async with hostile(ORDER) as server, client_of(server, allow=[]) as client:
        with pytest.raises(AddressRefused):
            await client.orders.get("ord_1")
        assert server.connections == 0


# ---- trying again


async def test_a_connector_s_call_is_made_once() -> None:
    for behaviour in (drop, LIMITED, answer(b"", "503 Away")):
        async with hostile(behaviour) as server, client_of(server) as client:
            with pytest.raises(LitekartError):
                await client.orders.get("ord_1")
            assert len(server.asked) == 1


async def test_a_label_is_on_the_order_also_where_the_store_does_not_say_under_which_id() -> None:
    async with hostile(says({"success": True}, "201 Created")) as server, client_of(server, profile="v2") as client:
        assert (await client.order_tags.add("ord_1", "fragile")).id is None
        assert len(server.asked) == 1


async def test_a_read_is_tried_again_and_a_write_only_if_it_was_not_sent() -> None:
    away = answer(b"", "503 Away")
    async with hostile(away, drop, LIMITED, ORDER) as server, client_of(server, retries=3) as client:
        assert (await client.orders.get("ord_1")).total == Decimal("29.99")
        assert len(server.asked) == 4
    for behaviour, kind in ((away, ServerError), (drop, Unreachable), (LIMITED, RateLimited)):
        async with hostile(behaviour, ORDER) as server, client_of(server, retries=3) as client:
            with pytest.raises(kind):
                await client.orders.update("ord_1", status="shipped")
            assert len(server.asked) == 1
    async with hostile(says({"message": "no"}, "422 X")) as server, client_of(server, retries=3) as client:
        with pytest.raises(ValidationFailed):
            await client.orders.get("ord_1")
        assert len(server.asked) == 1


async def test_a_write_that_nobody_took_is_tried_until_somebody_does() -> None:
    port = free_port()
    place = f"127.0.0.1:{port}"
    async with Litekart(KEY, f"http://{place}", retries=1000, backoff=0.01, allow=[place], deadline=60) as client:
        writing = asyncio.create_task(client.orders.update("ord_1", status="shipped"))
        async with hostile(ORDER, port=port) as server:
            assert (await writing).id == "ord_1"
            assert [asked.method for asked in server.asked] == ["PATCH"]
            assert json.loads(server.asked[0].body) == {"status": "shipped"}


@pytest.mark.parametrize(
    ("behaviour", "after"),
    [
        (limited("Retry-After: 70", "X-RateLimit-Reset: 1767225700", retryAfter=80), 70),
        (limited("Retry-After: Thu, 01 Jan 2026 00:01:30 GMT", retryAfter=80), 90),
        (limited("X-RateLimit-Reset: 1767225700", retryAfter=80), 80),
        (limited("X-RateLimit-Reset: 1767225700", retryAfter="soon"), 100),
        (limited("X-RateLimit-Reset: 99999999999999"), None),
        (limited("X-RateLimit-Reset: 12"), 0),
        (limited("Retry-After: later", retryAfter=-4), None),
        (limited("Retry-After: 1e99", retryAfter=10**300), 1e300),
        (limited(retryAfter=10**400), None),
        # Every answer says when the hour turns; only a 429 means that one should wait for it.
        (says({}, "500 Oops", "X-RateLimit-Reset: 1767225700"), None),
        (says({}, "503 Away", "Retry-After: 7"), 7),
    ],
)
async def test_how_long_to_wait_is_read_in_this_order(behaviour: Behaviour, after: float | None) -> None:
    async with hostile(behaviour) as server, client_of(server, clock=lambda: NOW) as client:
        with pytest.raises((RateLimited, ServerError)) as caught:
            await client.orders.list()
        assert caught.value.after == after


async def test_a_wait_within_the_deadline_is_waited_and_a_longer_one_raised() -> None:
    async with hostile(limited("Retry-After: 1"), ORDER) as server, client_of(server, retries=1) as client:
        began = time.monotonic()
        await client.orders.get("ord_1")
        assert time.monotonic() - began >= 1
    async with hostile(limited("Retry-After: 60"), ORDER) as server, client_of(server, retries=9, deadline=5) as client:
        with pytest.raises(RateLimited) as caught:
            await client.orders.get("ord_1")
        assert (caught.value.after, len(server.asked)) == (60, 1)


# ---- budget


async def test_every_request_spends_and_every_answer_corrects() -> None:
    budget = Spent(99, 1)
    checked: Budget = budget
    headers = ("X-RateLimit-Limit: 1000", "X-RateLimit-Remaining: 7", "X-RateLimit-Reset: 1640995200")
    async with (
        hostile(says({"id": "a"}, "200 OK", *headers), limited("Retry-After: 9"), says({"id": "b"})) as server,
        client_of(server, budget=checked, who="route:erp", clock=lambda: NOW) as client,
    ):
        await client.orders.get("a")
        with pytest.raises(RateLimited):
            await client.acting_for("catch-up", background=True).orders.get("b")
        await client.orders.get("b")
    assert budget.spent == [("route:erp", False), ("catch-up", True), ("route:erp", False)]
    reset = datetime(2022, 1, 1, tzinfo=UTC)
    refused = RateLimit(None, None, NOW + timedelta(seconds=9), refused=True)
    assert budget.told == [RateLimit(1000, 7, reset), refused, RateLimit(None, None, None)]


async def test_what_an_unknown_key_is_told_of_the_hour_is_not_the_keys_hour() -> None:
    """A store counts it as a stranger's, whose hour is a tenth and ends at another time."""
    budget = Spent(99, 1)
    checked: Budget = budget
    headers = ("X-RateLimit-Limit: 100", "X-RateLimit-Remaining: 7", "X-RateLimit-Reset: 1640995200")
    async with (
        hostile(says({"error": "who?"}, "401 Unauthorized", *headers)) as server,
        client_of(server, budget=checked) as client,
    ):
        with pytest.raises(AuthenticationFailed):
            await client.orders.get("a")
    assert budget.told == [RateLimit(None, None, None)]


async def test_a_spent_budget_is_waited_for_or_puts_off() -> None:
    async with hostile(ORDER) as server:
        async with client_of(server, budget=Spent(0, 30.0)) as client:
            with pytest.raises(NotNow) as caught:
                await client.orders.get("ord_1")
            assert caught.value.after == 30.0
        async with client_of(server, budget=Spent(0, 30.0), retries=3, deadline=5) as client:
            with pytest.raises(NotNow):
                await client.orders.update("ord_1", status="x")
        assert server.asked == []
        async with client_of(server, budget=Spent(0, 0.05), retries=1) as client:
            assert (await client.orders.get("ord_1")).id == "ord_1"


# ---- the same read


class Gate:
    """Answers each request when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.open.wait()
        await whatever_is_asked_for(asked, reader, writer)


async def test_identical_reads_are_one_request_and_one_who_leaves_leaves_the_others() -> None:
    gate, budget = Gate(), Spent(99, 1)
    async with hostile(gate) as server, client_of(server, budget=budget) as client:
        readers = [asyncio.create_task(client.acting_for(f"route:{n}").orders.get("ord_1")) for n in range(5)]
        other = asyncio.create_task(client.orders.get("ord_2"))
        await until(lambda: len(server.asked) == 2)
        readers[0].cancel()
        with suppress(asyncio.CancelledError):
            await readers[0]
        gate.open.set()
        orders = await asyncio.gather(*readers[1:], other)
        assert [order.id for order in orders] == ["ord_1"] * 4 + ["ord_2"]
        assert len({id(order) for order in orders}) == 5
        assert (len(server.asked), len(budget.spent)) == (2, 2)


async def test_a_request_that_nobody_waits_for_any_more_is_ended() -> None:
    async with hostile(hang) as server, client_of(server) as client:
        both = [asyncio.create_task(client.orders.get("ord_1")) for _ in range(2)]
        await until(lambda: len(server.asked) == 1)
        for reader in both:
            reader.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        await until(lambda: server.open == 0)


async def test_a_failure_is_told_to_all_who_wait_and_kept_for_nobody() -> None:
    async with hostile(answer(b"", "500 Oops")) as server, client_of(server) as client:
        both = [client.orders.get("ord_1") for _ in range(2)]
        errors = await asyncio.gather(*both, return_exceptions=True)
        assert [type(error) for error in errors] == [ServerError, ServerError]
        assert errors[0] is not errors[1]
        assert len(server.asked) == 1
        with pytest.raises(ServerError):
            await client.orders.get("ord_1")
        assert len(server.asked) == 2


async def test_a_kept_read_serves_only_who_asks_for_no_newer_one() -> None:
    now = NOW
    async with hostile(ORDER) as server, client_of(server, clock=lambda: now) as client:
        await client.orders.get("ord_1")
        await client.orders.get("ord_1")
        await client.orders.get("ord_1", newer_than=NOW - timedelta(seconds=1))
        assert len(server.asked) == 1
        # An event that came in at the very moment, or after it, may say what the kept one does not know yet.
        await client.orders.get("ord_1", newer_than=NOW)
        assert len(server.asked) == 2
        now += timedelta(seconds=2)
        view = client.acting_for("route:erp", newer_than=NOW + timedelta(seconds=1))
        await view.orders.get("ord_1")
        await view.orders.get("ord_1")
        assert len(server.asked) == 3


async def test_a_read_under_way_does_not_serve_a_later_event() -> None:
    now, gate = NOW, Gate()
    async with hostile(gate, ORDER) as server, client_of(server, clock=lambda: now) as client:
        early = asyncio.create_task(client.orders.get("ord_1"))
        await until(lambda: len(server.asked) == 1)
        now += timedelta(seconds=2)
        await client.orders.get("ord_1", newer_than=NOW + timedelta(seconds=1))
        assert len(server.asked) == 2
        gate.open.set()
        await early
        # What came later, though begun earlier, has not taken the newer one's place.
        await client.orders.get("ord_1", newer_than=NOW + timedelta(seconds=1))
        assert len(server.asked) == 2


async def test_a_write_drops_what_was_read_of_it() -> None:
    async with hostile(whatever_is_asked_for) as server, client_of(server) as client:
        await client.orders.get("ord_1")
        await client.products.get("prd_1")
        await client.orders.update("ord_1", status="shipped")
        await client.products.get("prd_1")
        assert len(server.asked) == 3
        await client.orders.get("ord_1")
        assert len(server.asked) == 4
        await client.request("POST", "/api/anything", json={})
        await client.products.get("prd_1")
        assert len(server.asked) == 6


async def test_a_read_that_a_write_overtook_is_not_kept() -> None:
    gate = Gate()
    async with hostile(gate, ORDER) as server, client_of(server) as client:
        early = asyncio.create_task(client.orders.get("ord_1"))
        await until(lambda: len(server.asked) == 1)
        await client.orders.update("ord_1", status="shipped")
        gate.open.set()
        await early
        await client.orders.get("ord_1")
        assert len(server.asked) == 3


async def test_a_read_made_while_a_write_is_under_way_is_not_kept() -> None:
    gate = Gate()
    async with hostile(gate, ORDER) as server, client_of(server) as client:
        writing = asyncio.create_task(client.orders.update("ord_1", status="shipped"))
        await until(lambda: len(server.asked) == 1)
        await client.orders.get("ord_1")
        gate.open.set()
        await writing
        await client.orders.get("ord_1")
        assert len(server.asked) == 3


async def test_what_is_kept_is_bounded_in_number_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads_module, "MOST_KEPT", 2)
    async with hostile(whatever_is_asked_for) as server, client_of(server) as client:
        for identity in ("a", "b", "c", "a"):
            await client.orders.get(identity)
        assert len(server.asked) == 4
    async with hostile(says({"id": "a", "comment": "x" * 40_000})) as server, client_of(server) as client:
        for _ in range(2):
            await client.orders.get("a")
        assert len(server.asked) == 2
    monkeypatch.setattr(reads_module, "KEPT_FOR", 0.0)
    async with hostile(whatever_is_asked_for) as server, client_of(server) as client:
        for _ in range(2):
            await client.orders.get("a")
        assert len(server.asked) == 2


# ---- what comes from a webhook, and secrets


@pytest.mark.parametrize(
    "identity", ["", ".", "..", "../users/1", "a/b", "a\\b", "a..b", "a\r\nX: y", "a\x00", "\x85", "x" * 257, None, 7]
)
async def test_an_id_that_could_lead_elsewhere_is_refused(identity: Any) -> None:
    async with hostile(ORDER) as server, client_of(server) as client:
        for ask in (client.orders.get(identity), client.orders.update(identity, status="x")):
            with pytest.raises(ValidationFailed) as caught:
                await ask
            assert isinstance(outcome_of(caught.value, NOW), Rejected)
        assert server.asked == []


async def test_any_other_id_stays_one_step_of_the_path() -> None:
    async with hostile(whatever_is_asked_for) as server, client_of(server) as client:
        for identity in ("ord_1?x=1", "a#b", "50%2F", "a b", "आ", "\ud800"):
            await client.orders.get(identity)
        steps = [asked.target for asked in server.asked]
        assert steps == [
            f"/api/orders/{step}" for step in ("ord_1%3Fx%3D1", "a%23b", "50%252F", "a%20b", "%E0%A4%86", "%3F")
        ]


async def test_no_text_holds_the_key_or_the_query() -> None:
    echo = says({"error": {"code": KEY, "message": f"bad key {KEY}", "details": {"field": KEY, "issue": KEY}}}, "401 X")
    async with hostile(echo, drop) as server, client_of(server, profile="v2", store_id="store_1") as client:
        for _ in range(2):
            with pytest.raises(LitekartError) as caught:
                await client.orders.list(search="asha@example.test")
            shown = f"{caught.value} {caught.value!r} {caught.value.__dict__} {caught.value.__cause__!r} {client!r}"
            assert KEY not in shown
            assert "asha" not in shown
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
        assert server.asked[0].headers["x-litekart-store"] == "store_1"
        assert KEY not in repr(client.__dict__) + repr(vars(client._calls))


@pytest.mark.parametrize(
    "url", ["ftp://x", "shop.example", "https://u:p@shop", "https://shop?x=1", "https://", "http://x:0"]
)
def test_an_address_or_key_that_cannot_be_used_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Litekart(KEY, url)
    assert "u:p" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        Litekart(Secret(f"{KEY}\r\nX: y"), "https://shop.example")
    assert KEY not in str(caught.value)


async def test_the_hub_s_own_client_is_used_and_left_open() -> None:
    async with hostile(ORDER) as server, open_client(Guard([server.authority]), timeout=30) as http:
        client = Litekart(Secret(KEY), f"http://{server.authority}/api/", http=http, retries=0)
        assert (await client.orders.get("ord_1")).id == "ord_1"
        await client.aclose()
        assert server.asked[0].target == "/api/orders/ord_1"
        assert not http.is_closed
