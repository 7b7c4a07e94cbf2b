"""One destination that never answers slows nobody else down."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from tests.e2e.ledger import Destination, marker_of
from tests.e2e.shop import Shop, open_shop
from tests.hubs import route

EVENTS = 80
CONCURRENCY = 5
# What waited for the hanging one would wait for this long.
HANGS = 60.0
# Below this a doubling is the machine's noise, not the hub's; what is not woken by its bell waits for a second.
NOISE = 0.5


async def twentieths(shop: Shop, destination: Destination, case: str) -> list[float]:
    """Post one event after the other; 5 %, 10 % … 95 % of them were at the destination within so many seconds."""
    posted: dict[str, datetime] = {}
    for _ in range(EVENTS):
        began = datetime.now(UTC)
        event_id = await shop.place(case)
        posted[next(marker for marker, known in shop.load.acked.items() if known == event_id)] = began
    await destination.took(set(posted))
    arrived = {marker_of(request): request.at for request in destination.received}
    return quantiles([(arrived[marker] - began).total_seconds() for marker, began in posted.items()], n=20)


async def test_a_hanging_destination_slows_no_other(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        hanging, quick = [await stack.enter_async_context(Destination()) for _ in range(2)]
        hanging.hanging = True
        routes = {
            "hanging": route(hanging.url, concurrency=CONCURRENCY, timeout=f"{HANGS:.0f}s"),
            "quick": route(quick.url, when="true"),
        }
        shop = await stack.enter_async_context(open_shop(tmp_path, routes))
        alone = await twentieths(shop, quick, "quick")
        beside = await twentieths(shop, quick, "hanging")
        assert len(hanging.hung) >= CONCURRENCY
        # The slowest of them are the machine's moments, of which a busy one has some.
        assert median(beside) < max(2 * median(alone), NOISE)
        assert beside[-1] < HANGS / 4
        # Else it would wait for those that hang.
        await shop.hub.kill()
