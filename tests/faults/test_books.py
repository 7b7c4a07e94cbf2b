"""The books notice what they are kept for: each loss and double, planted, is found. Wires and steps are real."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from hub.testing import Answer, HttpSink, Received
from hub.testing.samples import to_bytes
from tests.faults.ledger import ACKED, INDETERMINATE, REFUSED, Balance, Erp, Journal, Plain, Store, compare
from tests.faults.points import STEPS, found, read_failpoint
from tests.faults.wire import Wire, to_port


def received(marker: str, key: str) -> Received:
    body = to_bytes({"data": {"marker": marker}})
    return Received("POST", "/", httpx.Headers({"idempotency-key": key}), body, datetime.now(UTC))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """One that had three events acknowledged, one without an answer, and one refused."""
    journal = Journal(tmp_path / "store.jsonl")
    made = Store([], journal, 1.0)
    results = {"m0": ACKED, "m1": ACKED, "m2": ACKED, "m3": INDETERMINATE, "m4": REFUSED}
    for marker, result in results.items():
        made.sent[marker] = b""
        made.results[marker].add(result)
        if result == ACKED:
            made.acked[marker] = f"evt_{marker}"
    yield made
    journal.close()


async def books(store: Store, *arrived: str, dead: tuple[str, ...] = ()) -> Balance:
    """What is found where these arrived at both kinds of counterpart; `m1/k` under another key than its own."""
    erp, plain = Erp(), Plain()
    for one in arrived:
        marker, _, key = one.partition("/")
        request = received(marker, key or f"key-{marker}")
        for sink in (erp, plain):
            await sink.received.add(request)
            await sink.taken.add(request)
            sink.taken_markers[marker] += 1
    return compare(store, {"erp": erp, "plain": plain}, {name: set(dead) for name in ("erp", "plain")})


async def test_books_that_agree_are_sound(store: Store) -> None:
    even = await books(store, "m0", "m1", "m2", "m3")
    assert (even.lost, even.phantom, even.dup_keyed, even.dup_plain, even.wrong) == (0, 0, 0, {"plain": 0}, [])
    assert (even.acked, even.indeterminate, even.refused, even.recovered) == (3, 1, 1, 1)


async def test_what_did_not_arrive_is_lost_unless_it_is_shown_as_dead(store: Store) -> None:
    assert (await books(store, "m0", "m1")).lost == 2
    assert (await books(store, "m0", "m1", dead=("m2",))).lost == 0


async def test_what_was_refused_or_never_sent_is_a_phantom(store: Store) -> None:
    assert (await books(store, "m0", "m1", "m2", "m4", "m9")).phantom == 4


async def test_doubles_are_told_by_their_keys(store: Store) -> None:
    same = await books(store, "m0", "m1", "m2", "m2")
    assert (same.dup_keyed, same.dup_plain, same.wrong) == (0, {"plain": 1}, [])
    other = await books(store, "m0", "m1", "m2", "m2/other")
    assert other.dup_keyed == 1
    assert "several keys" in other.wrong[0]
    shared = await books(store, "m0", "m1/key-m0", "m2")
    assert "keys for several events" in shared.wrong[0]


async def test_the_journal_has_each_line_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    await asyncio.gather(*(journal.write(marker=str(number)) for number in range(50)))
    journal.close()
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 50


@pytest.mark.parametrize("name", STEPS)
def test_each_step_is_a_function_of_the_product(name: str) -> None:
    assert callable(found(STEPS[name].target)[2])


@pytest.mark.parametrize("text", ["R9:kill", "R1:x:kill", "R1:1:2:kill", "R1:explode", "R1"])
def test_a_failpoint_that_is_none_is_told(text: str) -> None:
    with pytest.raises(SystemExit, match="HUB_FAILPOINT"):
        read_failpoint(text)


def test_a_step_that_is_gone_is_told() -> None:
    with pytest.raises(SystemExit, match="no such function"):
        found("hub.receive.Receiving.gone")


CUTS = {
    "hang": httpx.ReadTimeout,
    "one-way": httpx.ReadTimeout,
    "drip": httpx.ReadTimeout,
    "cut": httpx.RemoteProtocolError,
    "reset": httpx.ReadError,
    "closed": httpx.ConnectError,
}


async def test_a_wire_does_what_it_is_told() -> None:
    async with HttpSink(default=Answer(200, b"well")) as sink, Wire(to_port(sink.port)) as wire:
        assert await posted(wire) == "well"
        for mode, error in CUTS.items():
            await wire.become(mode)
            before = len(sink.received)
            with pytest.raises(error):
                await posted(wire)
            assert (len(sink.received) > before) == (mode in {"one-way", "drip", "cut"}), mode
            await wire.become("pass")
        assert await posted(wire) == "well"


async def posted(wire: Wire) -> str:
    """The answer that comes by that wire, to a client of its own."""
    async with httpx.AsyncClient(trust_env=False, timeout=0.5) as client:
        return (await client.post(f"http://127.0.0.1:{wire.port}/")).text
