"""A list to its end while it changes: no item twice, and none left out that was there all the time.

Pages are counted from the beginning, so an item that goes while they are read moves all later ones forward, and one
that stands at the border is never seen; a total that stays the same (one gone, one new) hides it. So each page is
made to overlap what was read: the page's size is chosen such that it begins at the last item seen, or just before
(100 items read: page 2 of 99). If nothing of it is known, too much has gone, and it steps back. In a list that is
sorted by what does not change, a page that holds something known leaves no gap.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from hub.errors import BadAnswer
from hub.litekart.answers import Listing

MOST_IDLE = 3
"""Pages in a row without anything new after which a list that says it goes on counts as broken.

More where it had to step back over pages that it knows.
"""

Fetch = Callable[[int, int], Awaitable[Listing]]


def window_at(position: int, largest: int) -> tuple[int, int]:
    """Page and page size of a page that begins at the item before `position` (from 0) or soon before it."""
    if position == 0:
        return 1, largest
    size = max(range(max(largest // 2, 1), largest + 1), key=lambda size: size - (position - 1) % size)
    return (position - 1) // size + 1, size


class Walk:
    """Where a walk along a list has come to."""

    def __init__(self, largest: int) -> None:
        self.largest = max(largest, 2)
        self.position = 0
        self.seen: set[str] = set()
        self.back = 0
        self.idle = 0
        self.proven = 0
        self.fixed: int | None = None
        self.page = 1
        self.size = self.largest
        self.total: int | None = None

    def next_page(self) -> tuple[int, int]:
        if self.fixed is None:
            self.page, self.size = window_at(self.position, self.largest)
        return self.page, self.size

    def learn(self, listing: Listing) -> None:
        """Whether the store keeps to the page size that it is asked for, or which it has instead."""
        given = listing.size or self.size
        if len(listing.items) > self.size or given > self.size:
            self.fixed = self.fixed or max(given, len(listing.items))
        elif given < self.size:
            self.largest = max(given, 2)
        elif listing.size is None and self.position == 0 and len(listing.items) > 1:
            # It may hold no more, or the store gives no more at once: the next page will tell.
            self.largest = min(self.largest, len(listing.items))
        self.proven = max(self.proven, len(listing.items))

    def is_anchored(self, listing: Listing, ids: list[str]) -> bool:
        """Whether the page leaves no gap to what was read."""
        if self.fixed is not None:
            return listing.total is None or self.total is None or listing.total >= self.total or self.page == 1
        return self.page == 1 or any(identity in self.seen for identity in ids)

    def step_back(self, listing: Listing) -> None:
        gone = (self.total or 0) - (listing.total or 0)
        self.total = listing.total
        if self.fixed is not None:
            self.page = max(1, self.page - 1 - gone // self.fixed)
            return
        self.back = max(self.back * 2, self.size // 2, 1)
        self.position = max(0, (self.page - 1) * (listing.size or self.size) + 1 - self.back)

    def advance(self, listing: Listing, new: int) -> bool:
        """Go on after a page; False at the end of the list."""
        self.back = 0
        self.total = listing.total
        self.idle = 0 if new else self.idle + 1
        self.position = (self.page - 1) * (listing.size or self.size) + len(listing.items)
        if self.fixed is not None:
            self.page += 1
        if listing.has_next is not None:
            return listing.has_next
        # It does not say: it ends with a page that is shorter than such pages are, or brings nothing new.
        return bool(new) and not (len(listing.items) < self.size <= self.proven)


async def walk(
    fetch: Fetch,
    largest: int,
    identity: Callable[[dict[str, Any]], str],
    enough: Callable[[list[dict[str, Any]]], bool],
) -> AsyncIterator[dict[str, Any]]:
    """Every item of the list that `fetch(page, size)` gives. `enough(page)` true: what follows is of no interest."""
    state = Walk(largest)
    while True:
        listing = await fetch(*state.next_page())
        ids = [identity(item) for item in listing.items]
        state.learn(listing)
        if not state.is_anchored(listing, ids):
            state.step_back(listing)
            continue
        new = {key: item for key, item in zip(ids, listing.items, strict=True) if key not in state.seen}
        state.seen |= new.keys()
        for item in new.values():
            yield item
        if not state.advance(listing, len(new)) or enough(listing.items):
            return
        if state.idle > MOST_IDLE + 2 * len(state.seen) // state.largest:
            raise BadAnswer("a list that goes on without anything new", status=200)
