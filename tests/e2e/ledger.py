"""The books of a run: what was sent, what the hub answered for, what arrived; and whether they agree.

Every event carries a marker of its own in `data`, by which it is found again at its destination.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any, Self

import httpx

from hub.testing import EVENT_TYPES, Answer, HttpSink, Inbox, Received, StoreDouble, sample
from hub.testing.samples import to_bytes
from tests.hubs import SECRET

PATIENCE = 90.0
AGAIN_AFTER = 0.1


def marker_of(request: Received) -> str:
    return str(request.json()["data"]["marker"])


class Destination(HttpSink):
    """A sink that books what it took (answered with success), and leaves requests without answer while `hanging`.

    `decide` answers by the request; without it all are taken.
    """

    def __init__(self, decide: Callable[[Received], Answer] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.decide = decide
        self.hanging = False
        self.hung: Inbox[Received] = Inbox()
        self.taken: Inbox[Received] = Inbox()
        self.taken_markers: Counter[str] = Counter()

    async def respond(self, request: Received) -> Answer:
        if self.hanging:
            await self.hung.add(request)
            return Answer(hang=True)
        answer = self.decide(request) if self.decide else self.default
        if answer.status < 300:
            self.taken_markers[marker_of(request)] += 1
            await self.taken.add(request)
        return answer

    async def took(self, markers: Sequence[str] | set[str], timeout: float = PATIENCE) -> None:
        """Returns once each of these was taken; TimeoutError names how many were not."""
        wanted = set(markers)
        try:
            await self.taken.until(lambda _: wanted <= self.taken_markers.keys(), timeout)
        except TimeoutError:
            missing = sorted(wanted - self.taken_markers.keys())
            raise TimeoutError(f"{len(missing)} of {len(wanted)} did not arrive, {missing[:5]} among them") from None

    def keys(self) -> dict[str, set[str | None]]:
        """The keys under which each marker came, at all attempts."""
        found: defaultdict[str, set[str | None]] = defaultdict(set)
        for request in self.received:
            found[marker_of(request)].add(request.key)
        return dict(found)


class Load:
    """A store under load: numbered events of all types, signed, posted to the hub's receivers in turn.

    What got no answer, or not a 200, is posted again byte for byte until it does, as a store would. `acked` maps
    markers to event ids; `indeterminate` are markers that went without an answer at least once.
    """

    def __init__(self, urls: Sequence[str], name: str = "m") -> None:
        self.urls = list(urls)
        self.name = name
        self.sent: dict[str, bytes] = {}
        self.acked: dict[str, str] = {}
        self.indeterminate: set[str] = set()
        self.answers: Counter[int] = Counter()
        self.enough = asyncio.Event()
        self._count = Inbox[str]()
        self._stores: list[StoreDouble] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for url in self.urls:
            store = StoreDouble(f"{url}/webhooks/main", SECRET, timeout=PATIENCE)
            self._stores.append(await self._stack.enter_async_context(store))
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def run(self, *, posters: int = 4, every: float = 0.03) -> None:
        """Post events until there are `enough`, by `posters` at a time, each waiting `every` seconds between two."""
        numbers = count()

        async def post() -> None:
            while not self.enough.is_set():
                await self.post_one(next(numbers))
                await asyncio.sleep(every)

        async with asyncio.TaskGroup() as group:
            for _ in range(posters):
                group.create_task(post())

    async def post_one(self, number: int, type: str | None = None, **data: Any) -> str:
        """One event until it is acknowledged; its marker."""
        marker = f"{self.name}{number}"
        document = sample(type or EVENT_TYPES[number % len(EVENT_TYPES)], marker=marker, **data)
        self.sent[marker] = to_bytes(document)
        turn = number
        while not await self._acknowledged(marker, turn):
            turn += 1
            await asyncio.sleep(AGAIN_AFTER)
        return marker

    async def _acknowledged(self, marker: str, turn: int) -> bool:
        try:
            response = await self._stores[turn % len(self._stores)].post(self.sent[marker])
        except httpx.TransportError:
            self.indeterminate.add(marker)
            return False
        self.answers[response.status_code] += 1
        assert response.status_code in {200, 503}, response.text
        if response.status_code != 200:
            return False
        self.acked[marker] = response.json()["data"]["id"]
        await self._count.add(marker)
        return True

    async def acknowledged(self, count: int) -> None:
        """Returns once so many are in all."""
        await self._count.wait(count, PATIENCE)

    async def more(self, count: int) -> None:
        """Returns once so many more are."""
        await self.acknowledged(len(self.acked) + count)


@dataclass(frozen=True)
class Balance:
    """How a destination's books compare to the store's. All but the numbers should be empty."""

    sent: int
    acked: int
    delivered: int
    lost: set[str]
    phantom: set[str]
    renamed: dict[str, set[str | None]]
    shared: set[str]
    overlaps: set[str]

    def assert_even(self) -> None:
        """Nothing lost, nothing invented, one key for each event at each attempt, never two attempts at once."""
        found = (self.lost, self.phantom, self.renamed, self.shared, self.overlaps)
        assert not any(found), self


def balance(load: Load, destination: Destination) -> Balance:
    """Compare what the hub answered for with what a destination got."""
    keys = destination.keys()
    used = Counter(key for of_marker in keys.values() for key in of_marker)
    return Balance(
        sent=len(load.sent),
        acked=len(load.acked),
        delivered=len(destination.taken_markers),
        lost=load.acked.keys() - destination.taken_markers.keys(),
        phantom=keys.keys() - load.sent.keys(),
        renamed={marker: found for marker, found in keys.items() if len(found) != 1 or None in found},
        shared={str(key) for key, count in used.items() if count > 1},
        overlaps=destination.overlaps,
    )
