"""A list to its end while it changes: no item twice, and none left out that was there all the time.

Pages are counted from the beginning, so an item that goes while they are read moves all later ones forward, and one
that stands at the border is never seen; a total that stays the same (one gone, one new) hides it. So each page is
made to overlap what was read: the page's size is chosen such that it begins at the last item seen, or just before
(100 items read: page 2 of 99). If nothing of it is known, too much has gone, and it steps back. In a list that is
sorted by what does not change, a page that holds something known leaves no gap. A store whose pages are tiny or have
a size of their own cannot be asked so; there only a smaller total tells that it must go back.
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


def window_at(position: int, largest: int, overlap: int = 1) -> tuple[int, int] | None:
    """Page and page size of the page that begins `overlap` items before `position` (from 0), or soon before that.

    None where no such page goes past `position`, as happens with pages of ten and less.
    """
    start = position - overlap
    if start < 0:
        return 1, largest
    size = max(range(max(largest // 2, 1), largest + 1), key=lambda size: size - start % size)
    return (start // size + 1, size) if size - start % size > overlap else None


class Walk:
    """Where a walk along a list has come to, and what it has learned of the store's pages."""

    def __init__(self, largest: int) -> None:
        self.seen: set[str] = set()
        self.largest = largest
        self.page, self.size = 1, largest
        self._position = 0
        self._overlap = 1
        self._idle = 0
        self._stepped_back = False
        self._plain = False
        self._own_size: int | None = None
        self._proven = 0
        self._total: int | None = None

    def next_page(self) -> tuple[int, int]:
        if self._own_size is None:
            windows = (window_at(self._position, self.largest, overlap) for overlap in range(self._overlap, 0, -1))
            found = next((window for window in windows if window), None)
            self._plain = found is None
            self.page, self.size = found or (self._position // self.largest + 1, self.largest)
        return self.page, self.size

    def learn(self, listing: Listing) -> None:
        """Whether the store keeps to the page size that it is asked for, or which it has instead."""
        given = listing.size or self.size
        if max(given, len(listing.items)) > self.size:
            self._plain, self._own_size = True, max(given, len(listing.items))
        elif given < self.size:
            self.largest = given
        elif listing.size is None and self._position == 0 and listing.items:
            # It may hold no more, or the store gives no more at once: the next page will tell.
            self.largest = min(self.largest, len(listing.items))
        self._proven = max(self._proven, len(listing.items))

    def is_anchored(self, listing: Listing, ids: list[str]) -> bool:
        """Whether the page leaves no gap to what was read; where pages cannot overlap, the total has to tell."""
        if self.page == 1:
            return True
        if self._plain:
            return listing.total is None or self._total is None or listing.total >= self._total
        return any(identity in self.seen for identity in ids)

    def step_back(self, listing: Listing) -> None:
        """Too much has gone: the next page begins earlier. As fast as it went it may go on, so that is kept to."""
        gone = max((self._total or 0) - (listing.total or 0), 0)
        self._total = listing.total
        self._stepped_back = True
        if self._own_size is not None:
            self.page = max(1, self.page - 1 - gone // self._own_size)
        elif self._plain:
            self._position = max(0, self._position - gone - self.largest)
        elif self._overlap < self.largest // 2:
            self._overlap = min(self._overlap * 4, self.largest // 2)
        else:
            self._position = max(0, self._position - self.largest // 2)

    def advance(self, listing: Listing, new: int) -> bool:
        """Go on after a page; False at the end of the list. Raises BadAnswer for one that goes round in circles."""
        self._total = listing.total
        self._idle = 0 if new else self._idle + 1
        if self._idle > MOST_IDLE + 2 * len(self.seen) // self.largest:
            raise BadAnswer("a list that goes on without anything new", status=200)
        self._position = (self.page - 1) * (listing.size or self.size) + len(listing.items)
        if self._own_size is not None:
            self.page += 1
        if listing.has_next is not None:
            return listing.has_next
        # It does not say. It ends with a page shorter than such pages are, or one that brings nothing new.
        shorter = len(listing.items) < self.size <= self._proven
        ended = shorter or not (new or self._stepped_back)
        self._stepped_back = self._stepped_back and not new
        return not ended


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
