"""Weeks of a store's sales in seconds: random demand, a supplier that needs its days, and a merchant who sleeps.

The double dates orders as it is told to, and the bench's clock is the test's own: so time is moved by hand.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.reorder import Reordering
from hub.connector import Event, Receipt
from hub.errors import Skip
from hub.testing.bench import Bench
from hub.testing.store import StoreApi
from hub.testing.store.happenings import place_order, restock
from tests.connectors.reorder.shop import delivered, low, open_shop, reordering, updated
from tests.whole import WHOLE

BEGIN = datetime(2026, 1, 1, 8, tzinfo=UTC)
DAYS = 31
DAY = timedelta(days=1)
MOST_ORDERS = 4


@dataclass
class Ware:
    """One SKU: how it sells and is delivered, and what became of it. `coming`: day and quantity of what is ordered.

    `low_since`: the day on which stock was seen to be low, since it was last delivered.
    """

    product: dict[str, Any]
    threshold: int
    a_day: float
    lead_time: int
    coming: list[tuple[int, int]] = field(default_factory=list)
    low_since: int | None = None
    orders: int = 0

    @property
    def sku(self) -> str:
        return str(self.product["sku"])


@dataclass
class Weeks:
    """A run: what happens goes through the connector as the hub would bring it."""

    store: StoreApi
    bench: Bench
    connector: Reordering
    random: random.Random
    wares: list[Ware]
    clock: datetime = BEGIN
    day: int = 0

    def __post_init__(self) -> None:
        self.bench.now = self.bench.reorders.now = lambda: self.clock

    def stock(self, ware: Ware) -> int:
        return int(self.store.shop.state.shelf(ware.sku)["stock"])

    async def sell(self, ware: Ware) -> None:
        """So many as are wanted, a few an order; what is not there is lost, which must not have been avoidable."""
        wanted = self._wanted(ware.a_day)
        while wanted:
            self.clock += timedelta(minutes=1)
            before = self.stock(ware)
            quantity = min(before, wanted, self.random.randrange(1, 4))
            if quantity == 0:
                self._was_unavoidable(ware)
                return
            wanted -= quantity
            items = [{"sku": ware.sku, "quantity": quantity}]
            place_order(self.store.shop, items=items, created_at=self.clock.isoformat())
            if before > ware.threshold >= before - quantity:
                ware.low_since = self.day
                await self.bring(low(ware.product))

    def _wanted(self, a_day: float) -> int:
        """A day's demand, whose mean it is: quiet days, and now and then a rush."""
        whole = a_day * self.random.choice((0, 0.5, 1, 1, 1, 1.5, 2))
        return int(whole) + (self.random.random() < whole % 1)

    def _was_unavoidable(self, ware: Ware) -> None:
        under_way = self.bench.reorders.current(ware.sku, self.store.shop.state.shelf(ware.sku)["warehouse_id"])
        assert under_way is not None, f"{ware.sku} ran out on day {self.day}, and nothing is ordered"
        assert ware.low_since is not None
        ordered_on = (under_way.opened_at - BEGIN) // DAY
        assert ordered_on == ware.low_since, f"{ware.sku} was low on day {ware.low_since}, ordered on day {ordered_on}"
        assert self.day <= ordered_on + ware.lead_time, f"{ware.sku}: what came on day {self.day} was too little"

    async def receive(self, ware: Ware) -> None:
        for day, quantity in [one for one in ware.coming if one[0] == self.day]:
            ware.coming.remove((day, quantity))
            self.clock += timedelta(minutes=1)
            restock(self.store.shop, ware.sku, self.stock(ware) + quantity)
            ware.low_since = self.day if self.stock(ware) <= ware.threshold else None
            await self.bring(updated(ware.product))

    async def bring(self, event: Event) -> None:
        self.clock += timedelta(minutes=1)
        outcome = await delivered(self.connector, self.bench, event)
        assert isinstance(outcome, Receipt | Skip), outcome

    async def order(self) -> None:
        """The day's orders go out; their goods are here after the time of delivery."""
        self.clock += timedelta(minutes=10)
        before = len(self.bench.counterpart.received)
        for due in self.bench.reorders.due():
            assert isinstance(await delivered(self.connector, self.bench, due), Receipt)
        for request in self.bench.counterpart.received[before:]:
            for row in request.json()["data"]["lines"]:
                ware = next(one for one in self.wares if one.sku == row["sku"])
                assert ware.coming == [], f"{ware.sku} is ordered on day {self.day} while it is on its way"
                ware.coming.append((self.day + ware.lead_time, row["quantity"]))
                ware.orders += 1

    async def run(self) -> None:
        for self.day in range(DAYS):
            self.clock = BEGIN + self.day * DAY
            for ware in self.wares:
                await self.receive(ware)
            for ware in self.wares:
                await self.sell(ware)
            await self.order()


def kinds(chance: random.Random) -> Iterator[dict[str, Any]]:
    for number in range(3):
        a_day, lead_time = chance.choice((0.4, 1.0, 2.5, 4.0)), chance.randrange(2, 8)
        fits = chance.choice((0.5, 1.0, 2.0))
        yield {
            "sku": f"SKU-{number}", "a_day": a_day, "lead_time": lead_time, "pack": chance.choice((1, 6, 12)),
            "threshold": max(1, int(a_day * lead_time * fits)),
        }  # fmt: skip


RUNS = [
    ("seed", 1),
    ("v2", 2),
    *([(profile, seed) for profile in ("seed", "v2") for seed in range(3, 6)] if WHOLE else []),
]


@pytest.mark.parametrize(("profile", "seed"), RUNS)
async def test_cover_lets_nothing_run_out_that_could_be_saved_and_orders_nothing_twice_at_once(
    profile: str, seed: int
) -> None:
    chance = random.Random(seed)
    wares = list(kinds(chance))
    async with open_shop(profile) as (store, bench):
        rows = {
            one["sku"]: {name: one[name] for name in ("threshold", "pack")} | {"lead_time": f"{one['lead_time']}d"}
            for one in wares
        }
        connector = reordering(
            suppliers={"Acme": {"post": {"url": f"{bench.url}/orders"}}}, supplier="Acme", skus=rows,
            quantity={"cover": "14d"}, close_after="366d",
        )  # fmt: skip
        made = []
        for one in wares:
            stock = one["threshold"] + chance.randrange(1, 12)
            product = await store.create_product(name=one["sku"], sku=one["sku"], price=10, cost=5, stock=stock)
            made.append(Ware(product, one["threshold"], one["a_day"], one["lead_time"]))
        weeks = Weeks(store, bench, connector, chance, made)
        await weeks.run()
    assert all(ware.orders >= 1 for ware in made if ware.a_day >= 1)
    assert sum(ware.orders for ware in made) >= 3, "a run in which little is ordered shows little"
    assert all(ware.orders <= MOST_ORDERS for ware in made), "two weeks are covered by each"
