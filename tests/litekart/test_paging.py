"""A list is read to its end while it changes: no item twice, none left out that was there all the time."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hub.errors import BadAnswer
from hub.litekart.answers import Listing, listing_of
from hub.litekart.paging import MOST_IDLE, walk, window_at


@dataclass
class Store:
    """A list by the time of making, cut into pages as stores do. `change` is called before each page but the first."""

    items: list[int]
    most: int = 100
    style: str = "seed"
    falling: bool = False
    change: Callable[["Store"], None] = lambda store: None
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def fetch(self, page: int, size: int) -> Listing:
        if self.asked:
            self.change(self)
        self.asked.append((page, size))
        given = self.most if self.style == "own size" else min(size, self.most)
        ordered = sorted(self.items, reverse=self.falling)
        rows: list[dict[str, Any]] = [{"id": str(item)} for item in ordered[(page - 1) * given : page * given]]
        total, pages = len(ordered), -(-len(ordered) // given)
        document: Any = {"data": rows, "count": total, "page": page, "pageSize": given}
        if self.style == "seed":
            about = {"page": page, "limit": given, "total": total, "totalPages": pages, "hasNext": page < pages}
            document = {"success": True, "data": rows, "pagination": about}
        elif self.style == "silent":
            document = rows
        elif self.style == "unpaged":
            document = [{"id": str(item)} for item in ordered]
        return listing_of(document, "GET /api/things")

    def read(self, largest: int = 100) -> AsyncIterator[dict[str, Any]]:
        return walk(self.fetch, largest, lambda item: str(item["id"]), lambda items: False)


async def everything(store: Store, largest: int = 100) -> list[int]:
    return [int(item["id"]) async for item in store.read(largest)]


def churn(seed: int, deletions: int, insertions: int) -> Callable[[Store], None]:
    """Each time so many items go, from anywhere, and so many new ones come, made later than all others."""
    chance = random.Random(seed)

    def change(store: Store) -> None:
        for _ in range(chance.randint(0, deletions)):
            if store.items:
                store.items.remove(chance.choice(store.items))
        for _ in range(chance.randint(0, insertions)):
            store.items.append(max(store.items, default=0) + 1)

    return change


@pytest.mark.parametrize("style", ["seed", "v2", "silent", "unpaged", "own size"])
@pytest.mark.parametrize("most", [3, 20, 100])
async def test_every_style_of_list_is_read_to_its_end(style: str, most: int) -> None:
    for count in (0, 1, 2, 19, 20, 21, 100, 101, 250):
        store = Store(list(range(count)), most, style)
        assert await everything(store) == list(range(count)), count


async def test_overlapping_costs_next_to_nothing() -> None:
    store = Store(list(range(10_000)))
    assert len(await everything(store)) == 10_000
    assert len(store.asked) <= 115
    for position in range(1, 5_000):
        page, size = window_at(position, 100) or (0, 0)
        assert (page - 1) * size < position < page * size


@pytest.mark.parametrize("style", ["seed", "v2", "silent"])
@pytest.mark.parametrize("falling", [False, True])
async def test_what_was_there_all_the_time_is_read_once_while_the_list_changes(style: str, falling: bool) -> None:
    for seed in range(80):
        chance = random.Random(seed)
        deletions, insertions = chance.choice([(1, 0), (1, 1), (3, 3), (20, 2), (0, 5)])
        before = list(range(chance.randint(0, 400)))
        # One that says neither its size nor its end must give pages as large as asked for.
        most = 100 if style == "silent" else chance.choice([20, 50, 100])
        store = Store([*before], most, style, falling, churn(seed, deletions, insertions))
        found = await everything(store)
        assert len(found) == len(set(found)), seed
        assert set(before) & set(store.items) <= set(found), seed


async def test_one_gone_and_one_new_are_seen_though_the_total_stays() -> None:
    """The case that comparing totals cannot see: the item at the border moves onto the page that was read."""

    def swap(store: Store) -> None:
        store.items.remove(min(store.items))
        store.items.append(max(store.items) + 1)

    store = Store(list(range(60)), 20, change=swap)
    assert set(range(40)) - set(await everything(store, 20)) == set()


async def test_a_store_with_a_page_size_of_its_own_is_followed_and_a_smaller_total_reads_back() -> None:
    def shrink(store: Store) -> None:
        if len(store.asked) == 2:
            del store.items[:25]

    store = Store(list(range(100)), 10, "own size", change=shrink)
    assert set(range(25, 100)) <= set(await everything(store, 4))


async def test_a_list_that_goes_round_in_circles_is_an_error() -> None:
    asked = []

    async def fetch(page: int, size: int) -> Listing:
        asked.append(page)
        return Listing([{"id": "a"}, {"id": "b"}], page, size, 9, has_next=True)

    with pytest.raises(BadAnswer, match="without anything new"):
        async for _ in walk(fetch, 10, lambda item: str(item["id"]), lambda items: False):
            pass
    assert len(asked) <= MOST_IDLE + 3
