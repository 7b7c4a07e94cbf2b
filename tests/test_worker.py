"""A worker's loops in one process: stopping in good order, and a suspect delivery tried with nothing else beside it."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from hub.connector import Context, Event, Receipt
from hub.errors import Hold
from hub.replay import start_change
from hub.store import DELIVERY, REPLAY
from hub.store.meant import Filter
from hub.worker import running
from tests import hubdb
from tests.hubdb import Lab, Puppet, document, open_lab, route
from tests.servers import eventually

shared_url, database_url = hubdb.shared_url, hubdb.database_url


@pytest.fixture(autouse=True)
def no_acts() -> Iterator[None]:
    yield
    Puppet.acts.clear()


async def statuses(lab: Lab) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in await lab.rows(DELIVERY):
        found[row.status] = found.get(row.status, 0) + 1
    return found


async def test_an_event_goes_from_its_bell_to_its_end(tmp_path: Path, database_url: str) -> None:
    seen: list[tuple[str, int]] = []

    async def note(event: Event, ctx: Context) -> Receipt:
        seen.append((str(event.data["orderId"]), ctx.attempt))
        return Receipt("noted")

    Puppet.acts["one"] = note
    async with open_lab(tmp_path, database_url, {"one": route("Puppet")}) as lab, running(lab.hub):
        for number in range(20):
            await lab.keep(document(orderId=f"ord_{number}"))
        lab.hub.bells.ring("fan_out")

        async def all_done() -> bool:
            return await statuses(lab) == {"delivered": 20}

        await eventually(all_done)
    assert sorted(seen) == sorted((f"ord_{number}", 1) for number in range(20))


async def test_a_release_and_a_cancel_at_a_pace_go_on_by_themselves(tmp_path: Path, database_url: str) -> None:
    async def ask(event: Event, ctx: Context) -> Receipt:
        if ctx.released is None:
            raise Hold("ask")
        return Receipt("done")

    Puppet.acts |= {"one": ask, "two": ask}
    async with open_lab(tmp_path, database_url, {name: route("Puppet") for name in Puppet.acts}) as lab:
        await lab.orders(3)
        async with running(lab.hub):

            async def became(**wanted: int) -> bool:
                return await statuses(lab) == wanted

            await eventually(lambda: became(held=6))
            await start_change(lab.hub, "release", "asha", Filter(route="one"), pace=4)
            await start_change(lab.hub, "cancel", "asha", Filter(route="two"), pace=4)
            await eventually(lambda: became(delivered=3, skipped=3))
        assert [row.state for row in await lab.rows(REPLAY)] == ["done", "done"]


async def test_at_a_stop_what_is_under_way_has_its_grace(tmp_path: Path, database_url: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(event: Event, ctx: Context) -> Receipt:
        begun.set()
        await go_on.wait()
        return Receipt("done")

    Puppet.acts["one"] = slow
    async with open_lab(tmp_path, database_url, {"one": route("Puppet")}) as lab:
        await lab.order()
        async with running(lab.hub):
            await begun.wait()
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert await statuses(lab) == {"delivered": 1}


async def test_at_a_stop_what_is_cut_short_is_given_back(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the grace at its end, the attempt is cancelled and uses up nothing."""
    monkeypatch.setattr("hub.worker.LONGEST_STOP", 0.1)
    begun = asyncio.Event()

    async def for_ever(event: Event, ctx: Context) -> Receipt:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    Puppet.acts["one"] = for_ever
    async with open_lab(tmp_path, database_url, {"one": route("Puppet")}) as lab:
        before = await lab.order()
        async with running(lab.hub):
            await begun.wait()
        row = await lab.delivery(before.id)
        assert (row.status, row.attempts, row.budget - row.attempts) == ("pending", 1, before.budget)
        assert row.lease_until is None
        assert row.next_attempt_at <= lab.hub.now()
        (attempt,) = await lab.attempts(row.id)
        assert (attempt.outcome, attempt.note) == ("not_now", "the hub was stopped during this attempt")


async def lost_twice(lab: Lab) -> str:
    """A delivery during which two processes ended."""
    suspect = await lab.order()
    for number in range(2):
        await lab.claim_one(worker=f"w{number}", lease=timedelta(seconds=1))
        lab.later(30)
    found: str = suspect.id
    return found


async def test_a_suspect_is_tried_with_nothing_else_beside_it(tmp_path: Path, database_url: str) -> None:
    under_way: set[str] = set()
    beside: dict[str, int] = {}

    async def watched(event: Event, ctx: Context) -> Receipt:
        name = str(event.data["orderId"])
        under_way.add(name)
        for _ in range(20):
            beside[name] = max(beside.get(name, 0), len(under_way) - 1)
            await asyncio.sleep(0.005)
        under_way.remove(name)
        return Receipt("done")

    Puppet.acts |= {"one": watched, "two": watched}
    routes = {"one": route("Puppet", events=["order.placed"]), "two": route("Puppet", events=["order.updated"])}
    async with open_lab(tmp_path, database_url, routes) as lab:
        suspect = await lost_twice(lab)
        for number in range(30):
            await lab.keep(document("order.updated", orderId=f"other_{number}"))

        async def all_done() -> bool:
            return await statuses(lab) == {"delivered": 31}

        async with running(lab.hub):
            await eventually(all_done, 60)
        assert (await lab.delivery(suspect)).attempts == 3
    assert beside["ord_0"] == 0
    assert max(beside.values()) > 0


async def test_one_route_that_hangs_does_not_slow_another(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.worker.LONGEST_STOP", 0.1)

    async def for_ever(event: Event, ctx: Context) -> Receipt:
        await asyncio.Event().wait()
        raise AssertionError

    async def quick(event: Event, ctx: Context) -> Receipt:
        return Receipt("done")

    Puppet.acts |= {"hangs": for_ever, "works": quick}
    routes = {"hangs": route("Puppet", timeout="5m", concurrency=2), "works": route("Puppet")}
    async with open_lab(tmp_path, database_url, routes) as lab, running(lab.hub):
        for number in range(30):
            await lab.keep(document(orderId=f"ord_{number}"))
        lab.hub.bells.ring("fan_out")

        async def works() -> bool:
            return len(await lab.rows(DELIVERY, DELIVERY.c.route == "works", DELIVERY.c.status == "delivered")) == 30

        await eventually(works)
        assert len(await lab.rows(DELIVERY, DELIVERY.c.route == "hangs", DELIVERY.c.attempts > 0)) <= 2
