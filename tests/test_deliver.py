"""One attempt from claim to record, where something is wrong: outcomes that make no sense, secrets, repeated records,
stops without storage. Each test is named for a fault that was found.
"""

import asyncio
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import Row
from structlog.testing import capture_logs
from structlog.typing import Processor

from hub.client import Exchange
from hub.connector import Context, Event, Receipt
from hub.deliver import attempt, finish
from hub.errors import HoldRoute, NotNow, Outcome, Rejected, TryAgain
from hub.logs import cleaner
from hub.replay import cancel_deliveries, start_replay
from hub.store import ATTEMPT, DELIVERY, EFFECT, EVENT, REPEAT, ROUTE_STATE
from hub.store.claims import Claim
from hub.store.meant import Filter
from hub.store.records import Finished, record
from hub.testing import Answer, HttpSink
from tests import hubdb
from tests.faulty import Faulty
from tests.hubdb import SCHEDULE, SECRET, Lab, document, open_lab, route
from tests.operations import ask

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
ATTEMPTS = len(SCHEDULE) + 1
LEASE = 35.0
DOWN = TryAgain("no connection", destination=True)


@pytest.fixture(autouse=True)
def no_acts() -> Iterator[None]:
    yield
    Faulty.forget()


def faulty(**more: Any) -> dict[str, Any]:
    return route(**more) | {"connector": "tests.faulty:Faulty"}


def raising(error: BaseException) -> Any:
    async def act(event: Event, ctx: Context) -> Receipt:
        raise error

    return act


def returning(result: Any) -> Any:
    async def act(event: Event, ctx: Context) -> Any:
        return result

    return act


async def cancelled_inside(event: Event, ctx: Context) -> Receipt:
    """What it awaits is cancelled, itself it is not."""
    part = asyncio.create_task(asyncio.sleep(60))
    part.cancel()
    await part
    raise AssertionError


async def tried(lab: Lab, name: str = "one") -> str:
    """The one due delivery of that route, tried once; its status then."""
    return await attempt(lab.hub, lab.line(name), await lab.claim_one(name, limit=1))


async def tried_until_dead(lab: Lab, name: str) -> list[Row[Any]]:
    """All attempts of the one delivery of that route, which its schedule ends."""
    for number in range(1, ATTEMPTS + 1):
        assert await tried(lab, name) == ("pending" if number < ATTEMPTS else "dead"), name
        lab.later(60)
    (row,) = await lab.rows(DELIVERY, DELIVERY.c.route == name)
    assert (row.status, row.attempts, row.budget, row.lease_until) == ("dead", ATTEMPTS, ATTEMPTS, None)
    return await lab.attempts(row.id)


SENSELESS = {
    "none": (returning(None), "TypeError"),
    "text": (returning("sent"), "TypeError"),
    "number-for-text": (returning(Receipt(5)), "TypeError"),  # type: ignore[arg-type]
    "number-for-url": (returning(Receipt("sent", url=5)), "TypeError"),  # type: ignore[arg-type]
    "after-text": (raising(NotNow("x", after="30")), "TypeError"),  # type: ignore[arg-type]
    "after-nan": (raising(NotNow("x", math.nan)), "ValueError"),
    "after-for-ever": (raising(NotNow("x", 1e15)), "OverflowError"),
    "again-after-nan": (raising(TryAgain("x", math.nan, status=503)), "ValueError"),
    "number-for-effect": (returning(Receipt("sent", effects={"id": 5})), "TypeError"),  # type: ignore[dict-item]
    "no-outcome": (raising(Outcome("x")), "TypeError"),
    "cancelled": (cancelled_inside, "CancelledError"),
}


async def test_an_outcome_that_makes_no_sense_is_a_fault_that_the_schedule_ends(
    tmp_path: Path, database_url: str
) -> None:
    """A record that could not be computed left an endless lease; a cancelled subtask was given back for ever."""
    Faulty.acts |= {name: act for name, (act, _) in SENSELESS.items()}
    async with open_lab(tmp_path, database_url, {name: faulty() for name in SENSELESS}) as lab:
        await lab.orders(1)
        for name, (_, error) in SENSELESS.items():
            with capture_logs() as lines:
                attempts = await tried_until_dead(lab, name)
            assert [line["event"] for line in lines].count("connector.fault") == ATTEMPTS
            assert {(row.outcome, row.note) for row in attempts} == {
                ("try_again", f"a fault in the connector: {error}")
            }, name
            assert (await lab.state(name)).failures == 0


async def test_a_reason_that_is_no_text_is_written_as_text(tmp_path: Path, database_url: str) -> None:
    Faulty.acts["one"] = raising(Rejected(ValueError("no such account")))  # type: ignore[arg-type]
    async with open_lab(tmp_path, database_url, {"one": faulty()}) as lab:
        row = await lab.order()
        assert await tried(lab) == "dead"
        now = await lab.delivery(row.id)
        assert (now.last_error, now.error_key, now.attempts) == ("no such account", "no such account", 1)


BAD_ANSWERS = {
    "date": Answer(503, b"busy", {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}),
    "charset": Answer(500, b"on fire", {"Content-Type": "text/plain; charset=hex"}),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_an_answer_that_cannot_be_read_is_still_an_answer(tmp_path: Path, database_url: str, name: str) -> None:
    """A Retry-After or a charset that raises in its own way ended no attempt."""
    answer = BAD_ANSWERS[name]
    async with HttpSink(default=answer) as sink, open_webhook(tmp_path, database_url, sink) as lab:
        await lab.order()
        attempts = await tried_until_dead(lab, "one")
        note = f"HTTP {answer.status}: {answer.body.decode()}"
        assert {(row.outcome, row.status_code, row.note) for row in attempts} == {("try_again", answer.status, note)}
        assert len(sink.received) == ATTEMPTS
        state = await lab.state()
        assert (state.failures, state.stopped_until) == (ATTEMPTS, None)


def open_webhook(folder: Path, url: str, sink: HttpSink, target: str = "") -> Any:
    """A lab whose one route posts to `sink`."""
    settings = {"connector": "webhook", "settings": {"url": f"{sink.url}{target}"}}
    return open_lab(folder, url, {"one": route() | settings}, network={"allow": [f"127.0.0.1:{sink.port}"]})


async def test_a_real_stop_still_gives_the_delivery_back(tmp_path: Path, database_url: str) -> None:
    begun = asyncio.Event()

    async def for_ever(event: Event, ctx: Context) -> Receipt:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    Faulty.acts["one"] = for_ever
    async with open_lab(tmp_path, database_url, {"one": faulty()}) as lab:
        row = await lab.order()
        task = asyncio.create_task(tried(lab))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        now = await lab.delivery(row.id)
        assert (now.status, now.attempts, now.budget - now.attempts) == ("pending", 1, row.budget)
        (ended,) = await lab.attempts(row.id)
        assert (ended.outcome, ended.note) == ("not_now", "the hub was stopped during this attempt")


def without_a_piece_of_it(text: str) -> None:
    assert SECRET[:6] not in text
    assert SECRET[-6:] not in text


async def kept_texts(lab: Lab) -> str:
    """All that deliveries, attempts and routes keep as text."""
    rows = [*await lab.rows(DELIVERY), *await lab.rows(ATTEMPT), *await lab.rows(ROUTE_STATE)]
    return "\n".join(str(value) for row in rows for value in row)


@pytest.mark.parametrize("before", [0, 50, 1_990, 3_990])
async def test_a_secret_in_a_reason_is_kept_nowhere_also_where_it_is_cut(
    tmp_path: Path, database_url: str, before: int
) -> None:
    text = "x" * before + SECRET
    results = {"again": TryAgain(text, destination=True), "hold-route": HoldRoute(text), "rejected": Rejected(text)}
    Faulty.acts |= {name: raising(result) for name, result in results.items()}
    Faulty.acts["receipt"] = returning(Receipt(text, url=f"http://shop.test/{SECRET}", answer=text))
    async with open_lab(tmp_path, database_url, {name: faulty() for name in Faulty.acts}) as lab:
        await lab.orders(1)
        with capture_logs() as lines:
            for name in Faulty.acts:
                await tried(lab, name)
        kept = await kept_texts(lab)
        assert "xxxx****" in kept or before in {0, 3_990}
        without_a_piece_of_it(kept)
        without_a_piece_of_it(str(lines))
        assert (await lab.state("hold-route")).open_reason is not None


def across_cuts() -> list[str]:
    """Texts in which the secret lies across a length at which something is cut.

    Where it stands before that too, and is replaced by less, what follows moves forward from behind the cut.
    """
    cuts = ((200, 0), (2_000, 0), (4_000, 0), (4_096, 0), (4_096, 5), (4_096, 20), (8_192, 20))
    return [(SECRET * echoes).ljust(length - 16, "x") + SECRET for length, echoes in cuts]


@pytest.mark.parametrize("status", [200, 500])
async def test_a_secret_in_request_and_answer_is_kept_nowhere_also_where_it_is_cut(
    tmp_path: Path, database_url: str, status: int
) -> None:
    async with HttpSink() as sink, open_webhook(tmp_path, database_url, sink) as lab:
        for number, text in enumerate(across_cuts()):
            sink.answer(Answer(status, text.encode()))
            (row,) = await lab.deliver_events(document(orderId=f"ord_{number}", note=text))
            with capture_logs() as lines:
                await tried(lab)
            (ended,) = await lab.attempts(row.id)
            assert ended.status_code == status
            assert ended.request
            assert ended.response
            without_a_piece_of_it(await kept_texts(lab))
            without_a_piece_of_it(str(lines))


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
async def test_a_secret_address_that_is_echoed_in_an_answer_is_kept_nowhere(
    tmp_path: Path, database_url: str, status: int
) -> None:
    """Many servers name the path that they were asked for, which is what keeps such an address secret."""
    async with HttpSink() as sink, open_webhook(tmp_path, database_url, sink, "/hooks/T0PS3CRET?token=sesame1") as lab:
        said = "Cannot POST /hooks/T0PS3CRET?token=sesame1 (token sesame1 of T0PS3CRET)"
        sink.answer(Answer(status, said.encode()))
        await lab.order()
        with capture_logs() as lines:
            await tried(lab)
        for text in (await kept_texts(lab), str(lines)):
            assert "T0PS3CRET" not in text
            assert "sesame1" not in text
        assert "Cannot POST ****" in await kept_texts(lab)


async def test_a_secret_in_a_traceback_is_not_in_the_log(tmp_path: Path, database_url: str) -> None:
    Faulty.acts["one"] = raising(KeyError(SECRET))
    async with open_lab(tmp_path, database_url, {"one": faulty()}) as lab:
        await lab.order()
        shown: list[Processor] = [structlog.processors.format_exc_info, cleaner(lab.hub.redact)]
        with capture_logs(processors=shown) as lines:
            await tried(lab)
        assert "KeyError: '****'" in next(line["exception"] for line in lines if line["event"] == "connector.fault")
        without_a_piece_of_it(str(lines))
        without_a_piece_of_it(await kept_texts(lab))


def finished(lab: Lab, claimed: Claim, result: Receipt | Outcome) -> Finished:
    line = lab.line(claimed.delivery.route)
    return finish(lab.hub, line, claimed, result, Exchange(), timedelta(milliseconds=7))


@pytest.mark.parametrize(
    "result",
    [DOWN, NotNow("later", 5), HoldRoute("wrong key"), TryAgain("HTTP 429", 60, status=429, destination=True)],
)
async def test_a_record_whose_commits_answer_was_lost_is_not_written_twice(lab: Lab, result: Outcome) -> None:
    row = await lab.order()
    once = finished(lab, await lab.claim_one(), result)
    status = await lab.hub.writer.put(record, once)
    before = await lab.delivery(row.id), await lab.attempts(row.id), await lab.state()
    lab.later(1)
    assert await lab.hub.writer.put(record, once) == status == "pending"
    assert (await lab.delivery(row.id), await lab.attempts(row.id), await lab.state()) == before


async def test_what_a_receipt_says_was_done_is_kept_with_its_outcome_late_or_not(lab: Lab) -> None:
    """Forgotten, it would be done again; it is one more text that shows no secret."""
    row = await lab.order()
    first = finished(lab, await lab.claim_one(), Receipt("sent", effects={"mail": f"<1@{SECRET}>"}))
    lab.later(LEASE + 1)
    second = finished(lab, await lab.claim_one(), Receipt("sent", effects={"mail": "<2@shop>"}))
    assert await lab.hub.writer.put(record, first) == "late"
    (effect,) = await lab.rows(EFFECT)
    assert (effect.scope, effect.name, effect.delivery_id, effect.value) == (row.id, "mail", row.id, "<1@****>")
    assert await lab.hub.writer.put(record, second) == "delivered"
    (effect,) = await lab.rows(EFFECT)
    assert effect.value == "<2@shop>"


async def test_a_repeated_record_starts_no_second_look(tmp_path: Path, database_url: str) -> None:
    event = document("order.updated", orderId="ord_1")
    async with open_lab(tmp_path, database_url, {"one": route("Looks")}) as lab:
        (row,) = await lab.deliver_events(event)
        claimed = await lab.claim_one()
        await lab.keep(event)
        assert (await lab.delivery(row.id)).again
        once = finished(lab, claimed, Receipt("done"))
        assert await lab.hub.writer.put(record, once) == "pending"
        before = await lab.delivery(row.id)
        assert (before.look, before.again, before.budget) == (1, False, 1 + ATTEMPTS)
        await lab.keep(event)
        assert await lab.hub.writer.put(record, once) == "pending"
        assert dict((await lab.delivery(row.id))._mapping) == dict(before._mapping) | {"again": True}
        assert [one.outcome for one in await lab.attempts(row.id)] == ["delivered"]


async def test_a_repeated_record_after_a_replay_ends_nothing(lab: Lab) -> None:
    row = await lab.order()
    once = finished(lab, await lab.claim_one(), Rejected("no"))
    assert await lab.hub.writer.put(record, once) == "dead"
    await start_replay(lab.hub, "asha", Filter(ids=(row.id,)))
    before = await lab.delivery(row.id)
    await lab.hub.writer.put(record, once)
    assert await lab.delivery(row.id) == before
    assert before.status == "pending"


async def test_a_late_finisher_does_not_end_a_replay_as_new(lab: Lab) -> None:
    """No attempt had begun since: the number was still its own, the key was not."""
    row = await lab.order()
    late = await lab.claim_one(worker="w1")
    lab.later(LEASE + 1)
    await lab.alive("w2")
    assert await cancel_deliveries(lab.hub, "asha", [row.id]) == [row.id]
    await lab.claim_none(worker="w2")
    await start_replay(lab.hub, "asha", Filter(ids=(row.id,)), as_new=True)
    before = await lab.delivery(row.id)
    assert (before.status, before.key_no, before.attempts) == ("pending", 1, 1)
    assert await lab.finish(late, Receipt("done")) == "late"
    assert await lab.delivery(row.id) == before
    assert (await lab.claim_one()).delivery.key_no == 1


async def test_the_same_repeat_five_times_is_kept_once_and_let_in_once(lab: Lab) -> None:
    """A captured request, posted again and again, filled the table."""
    first = await lab.keep(document(orderId="ord_1", total=5))
    other = document(orderId="ord_1", total=7)
    for _ in range(2):
        await lab.keep(other)
    await asyncio.gather(*(lab.keep(other) for _ in range(3)))
    repeat = await lab.row(REPEAT)
    assert (repeat.event_id, (await lab.row(EVENT)).repeats) == (first.id, 5)
    accepted = await ask(lab, "refused.accept", id=repeat.id)
    assert (accepted["duplicate"], accepted["id"] != first.id) == (False, True)
    assert await ask(lab, "refused.accept", id=repeat.id) == {"id": accepted["id"], "duplicate": True}
    assert len(await lab.rows(EVENT)) == 2
