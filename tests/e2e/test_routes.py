"""What holds a route's deliveries back, and what lets them go, seen at the destination."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub.testing import Answer
from tests.e2e.ledger import PATIENCE, Destination, marker_of
from tests.e2e.shop import Shop, open_shop
from tests.hubs import route
from tests.servers import eventually
from tests.whole import at_length

OPENS_AFTER = 10


async def retried(shop: Shop, sink: Destination) -> None:
    sink.answer(Answer(500), Answer(drop=True))
    delivered = await shop.became(await shop.place("retried"), "delivered", "retried")
    assert [attempt["outcome"] for attempt in delivered["attempted"]] == ["try_again", "try_again", "delivered"]
    assert [request.key for request in sink.received] == [delivered["id"]] * 3


async def paused(shop: Shop, sink: Destination) -> None:
    await shop.run("pause", "paused", "--reason", "stocktaking")
    event = await shop.place("paused")
    held = await shop.became(event, "held", "paused")
    assert (held["held_by"], held["attempts"]) == ("paused", 0)
    await shop.became(await shop.place("other"), "delivered", "other")
    assert len(sink.received) == 0
    await shop.run("resume", "paused")
    await sink.wait(1, PATIENCE)


async def approved(shop: Shop, sink: Destination) -> None:
    event = await shop.place("approved")
    held = await shop.became(event, "held", "approved")
    assert held["last_error"] == "somebody must approve this"
    assert len(sink.received) == 0
    await shop.run("release", held["id"])
    (sent,) = await sink.wait(1, PATIENCE)
    assert sent.key == held["id"]
    assert (await shop.became(event, "delivered", "approved"))["attempted"][-1]["note"].startswith("approved by ")


async def broken(shop: Shop, sink: Destination) -> None:
    """Ten failures open the breaker; then only probes go, one at a time; the first that works lets all go."""

    async def open_until_later() -> bool:
        state = await shop.state("broken")
        return state["state"] == "broken" and datetime.fromisoformat(state["next_probe"]) > datetime.now(UTC)

    sink.default = Answer(500)
    events = [await shop.place("broken") for _ in range(3)]
    await sink.wait(OPENS_AFTER, PATIENCE)
    await eventually(open_until_later, PATIENCE)
    assert len(sink.received) == OPENS_AFTER
    events.append(await shop.place("broken"))
    for probes in (1, 2):
        await shop.ask("resume", {"route": "broken"})
        await sink.wait(OPENS_AFTER + probes, PATIENCE)
        await eventually(open_until_later, PATIENCE)
        assert len(sink.received) == OPENS_AFTER + probes
    assert sink.received[-1].key != sink.received[-2].key, "the same delivery probed twice"

    sink.default = Answer()
    await shop.ask("resume", {"route": "broken"})
    await asyncio.gather(*(shop.became(event, "delivered", "broken") for event in events))
    assert (await shop.state("broken"))["state"] == "ok"


async def told_to_wait(shop: Shop, sink: Destination) -> None:
    """Retry-After stops the whole route; what grew too old meanwhile is skipped, unless it was tried before."""

    async def stopped() -> bool:
        return (await shop.state("waiting"))["stopped_until"] is not None

    # Much longer than `max_age`, as that is longer than a first attempt takes: both may well take seconds.
    sink.answer(Answer(429, headers={"Retry-After": "12"}))
    first = await shop.place("waiting")
    await eventually(stopped, PATIENCE)
    second = await shop.place("waiting")
    skipped = await shop.became(second, "skipped", "waiting")
    await shop.became(first, "delivered", "waiting")
    assert skipped["last_error"].startswith("older than max_age")
    asked, tried = sink.received
    assert tried.at - asked.at >= timedelta(seconds=12)
    assert marker_of(asked) == marker_of(tried)


async def slow(shop: Shop, sink: Destination) -> None:
    """However many come at once, no more than ten a second go."""
    began = datetime.now(UTC)
    await asyncio.gather(*(shop.place("slow") for _ in range(15)))
    arrived = await sink.wait(15, PATIENCE)
    for number, request in enumerate(arrived):
        assert request.at >= began + number * timedelta(seconds=0.1), f"request {number} went too early"


@at_length
async def test_what_holds_a_route_back(tmp_path: Path) -> None:
    cases = {
        "retried": retried, "paused": paused, "approved": approved, "broken": broken, "waiting": told_to_wait,
        "slow": slow,
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        sinks = {name: await stack.enter_async_context(Destination()) for name in (*cases, "other")}
        routes = {name: route(sink.url) for name, sink in sinks.items()}
        routes["approved"] = {"connector": "tests.e2e.connectors:Approved", "settings": {"url": sinks["approved"].url}}
        routes["broken"] |= {"concurrency": 1, "retry": {"schedule": ["50ms"] * 20}}
        routes["waiting"] |= {"max_age": "5s"}
        routes["slow"] |= {"rate": "10/s"}
        shop = await stack.enter_async_context(open_shop(tmp_path, routes))
        async with asyncio.TaskGroup() as group:
            for name, case in cases.items():
                group.create_task(case(shop, sinks[name]))
