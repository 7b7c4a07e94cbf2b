"""Dead deliveries and what brings them back, through the command line, seen at the destination."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

from hub.testing import Answer
from tests.e2e.ledger import PATIENCE, Destination, marker_of
from tests.e2e.shop import Shop, open_shop
from tests.hubs import route
from tests.whole import at_length

MANY = 8
HALF = 12


async def one_by_one(shop: Shop, sink: Destination, other: Destination) -> None:
    """Dead after its schedule; replayed; replayed again, which sends nothing; as new; along another route."""
    sink.default = Answer(500, b"the printer is on fire")
    event = await shop.place("one")
    dead = await shop.became(event, "dead", "one")
    assert [attempt["outcome"] for attempt in dead["attempted"]] == ["try_again"] * 3
    assert dead["last_error"] == "HTTP 500: the printer is on fire"
    listed = await shop.run("deliveries", "--status", "dead", "--route", "one")
    assert [delivery["id"] for delivery in listed["deliveries"]] == [dead["id"]]

    sink.default = Answer()
    await shop.run("replay", dead["id"], "--yes")
    await shop.became(event, "delivered", "one", attempts=4)
    assert [request.key for request in sink.received] == [dead["id"]] * 4

    await shop.ask("replay.start", {"ids": [event]})
    again = await shop.became(event, "delivered", "one", attempts=5)
    assert again["attempted"][-1]["note"] == f"already sent: {dead['id']}"
    assert len(sink.received) == 4

    await shop.run("replay", dead["id"], "--as-new", "--yes")
    await shop.became(event, "delivered", "one", attempts=6)
    assert [request.key for request in sink.received][4:] == [f"{dead['id']}-n1"]

    await shop.run("replay", dead["id"], "--to", "other", "--yes")
    (sent,) = await other.wait(1, PATIENCE)
    assert marker_of(sent) == marker_of(sink.received[0])
    assert sent.key != dead["id"]


async def by_filter(shop: Shop, sink: Destination) -> None:
    """A dry run changes nothing; then as many a second as asked."""
    sink.default = Answer(400, b"closed")
    events = [await shop.place("many") for _ in range(MANY)]
    await asyncio.gather(*(shop.became(event, "dead", "many") for event in events))
    sink.default = Answer()
    which = ("--status", "dead", "--route", "many", "--since", "2d")

    preview = await shop.run("replay", *which, "--dry-run")
    assert (preview["would_replay"], preview["by_status"]) == (MANY, {"dead": MANY})
    assert len(sink.received) == MANY

    replay = await shop.run("replay", *which, "--pace", "5/s", "--yes")
    await asyncio.gather(*(shop.became(event, "delivered", "many") for event in events))
    begun = datetime.fromisoformat(replay["at"])
    for number, request in enumerate(sink.received[MANY:]):
        assert request.at >= begun + timedelta(seconds=number / 5), f"replay {number} went too early"
    assert len(sink.received) == 2 * MANY


async def half_way(shop: Shop, sink: Destination) -> None:
    """A replay that is stopped gives back what has not started, as it was before."""
    sink.default = Answer(400, b"closed")
    events = [await shop.place("half") for _ in range(HALF)]
    before = await asyncio.gather(*(shop.became(event, "dead", "half") for event in events))
    before.sort(key=lambda delivery: str(delivery["id"]))
    sink.default = Answer()

    replay = await shop.ask("replay.start", {"status": "dead", "route": "half", "pace": 0.2})
    await sink.wait(HALF + 1, PATIENCE)
    stopped = await shop.run("replay", "--stop", replay["id"])
    assert 0 < stopped["given_back"] < HALF

    sent = HALF - stopped["given_back"]
    for delivery in before[:sent]:
        await shop.became(delivery["event_id"], "delivered", "half")
    assert [await shop.delivery(delivery["event_id"], "half") for delivery in before[sent:]] == before[sent:]
    assert len(sink.received) == HALF + sent


@at_length
async def test_what_is_dead_comes_back(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, other, many, half = [await stack.enter_async_context(Destination()) for _ in range(4)]
        routes = {
            "one": route(one.url, retry={"schedule": ["50ms", "100ms"]}),
            "other": route(other.url),
            "many": route(many.url),
            "half": route(half.url),
        }
        shop = await stack.enter_async_context(open_shop(tmp_path, routes))
        async with asyncio.TaskGroup() as cases:
            cases.create_task(one_by_one(shop, one, other))
            cases.create_task(by_filter(shop, many))
            cases.create_task(half_way(shop, half))
