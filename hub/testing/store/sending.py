"""How webhooks leave the double: signed, to whom they are meant for, once or as badly as `Travel` says."""

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from hub.clock import system_time
from hub.testing.samples import SIGNATURE_HEADER, sign
from hub.testing.store.outgoing import plain_client
from hub.testing.store.profiles import encoded
from hub.testing.store.records import Records, Sent
from hub.testing.store.settings import StoreSettings, Travel
from hub.testing.store.state import State

BURST = 32
WRONG = "-not"


@dataclass(frozen=True)
class Target:
    """Where webhooks go, and what they are signed with; `webhook` is the registration's id, if there is one."""

    url: str
    secret: str
    webhook: str | None = None


def targets(state: State, settings: StoreSettings, event: str) -> Iterator[Target]:
    """In seed the configured URL; in both profiles every active registration of that event, with its `password`."""
    if settings.profile == "seed" and settings.webhooks:
        yield Target(settings.webhooks, settings.secret)
    for row in state.rows("webhooks", event=event, active=True):
        if row["url"]:
            yield Target(row["url"], row["password"] or "", row["id"])


def body_of(event: str, data: Any) -> bytes:
    moment = system_time().strftime("%Y-%m-%dT%H:%M:%SZ")
    return encoded({"event": event, "data": data, "timestamp": moment}, "seconds")


def reserialised(body: bytes) -> bytes:
    """The same JSON in other bytes: keys the other way round, spaces between."""
    document = json.loads(body)
    return json.dumps({name: document[name] for name in reversed(document)}, ensure_ascii=False, indent=1).encode()


def restamped(body: bytes) -> bytes:
    """The same event with the present time, and a second at least after its own."""
    document = json.loads(body)
    own = document["timestamp"]
    now = system_time().strftime("%Y-%m-%dT%H:%M:%SZ")
    # Times in this form sort as text; within the same second it is a fraction that differs.
    document["timestamp"] = now if now != own else own.removesuffix("Z") + ".500Z"
    return encoded(document, "seconds")


class Sender:
    """Sends and keeps a record of all that was sent, answered or lost.

    Webhooks go out one after the other, in the order in which things happened, unless `Travel` has it otherwise.
    """

    def __init__(self, seed: int) -> None:
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._gathered: list[Sent] = []
        self._numbers = itertools.count(1)
        # Which webhook suffers what is the same again for the same seed.
        self._random = random.Random(seed)  # noqa: S311 - what it draws is no secret

    async def open(self) -> None:
        self._client = plain_client()

    async def close(self) -> None:
        await self.stop()
        if self._client is not None:
            await self._client.aclose()

    async def stop(self) -> None:
        """Nothing is sent any more of what waits or is under way."""
        self._gathered.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Returns once all that is on its way now was answered or given up; what is gathered goes on waiting."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def tell(
        self, records: Records, settings: StoreSettings, to: list[Target], event: str, entity: str, body: bytes,
        lane: asyncio.Semaphore | None = None,
    ) -> None:  # fmt: skip
        """Sends one event to each target, with what befalls it on its way. `lane`: beside others, in no order."""
        travel = settings.travel
        for target in to:
            if settings.outage or self._random.random() < travel.lost:
                lost = self._copy(event, entity, target, "first", body)
                lost.lost, lost.error = True, "an outage"
                records.sent.append(lost)
                continue
            copies = [self._copy(event, entity, target, kind, one) for kind, one in self._copies(body, travel)]
            records.sent.extend(copies)
            if travel.shuffle and lane is None:
                self._gathered += copies
                if len(self._gathered) >= travel.shuffle:
                    self.release(travel)
            else:
                self._start(copies, travel, lane)

    def post(self, records: Records, target: Target, kind: str, event: str, body: bytes, travel: Travel) -> Sent:
        """These very bytes, signed, to that target."""
        copy = self._copy(event, "", target, kind, body)
        records.sent.append(copy)
        self._start([copy], travel, None)
        return copy

    def release(self, travel: Travel) -> None:
        """Sends what was gathered, in any order."""
        gathered, self._gathered = self._gathered, []
        self._random.shuffle(gathered)
        self._start(gathered, travel, None)

    def _copies(self, body: bytes, travel: Travel) -> Iterator[tuple[str, bytes]]:
        yield "first", body
        for _ in range(self._random.randint(*travel.repeats) - 1):
            kind, again = "repeat", body
            if self._random.random() < travel.restamped:
                kind, again = "restamped", restamped(again)
            if self._random.random() < travel.reserialised:
                kind, again = "reserialised" if kind == "repeat" else kind, reserialised(again)
            yield kind, again
        if self._random.random() < travel.forged:
            yield "forged", body

    def _copy(self, event: str, entity: str, target: Target, kind: str, body: bytes) -> Sent:
        signature = sign(body, target.secret + (WRONG if kind == "forged" else ""))
        number = next(self._numbers)
        return Sent(number, event, entity, kind, target.url, body.decode(), signature, target.webhook, system_time())

    def _start(self, copies: list[Sent], travel: Travel, lane: asyncio.Semaphore | None) -> None:
        """One task for copies that go one after the other; where there are delays, one for each."""
        delayed = travel.delay[1] > 0
        for group in [[one] for one in copies] if delayed else [copies]:
            pause = self._random.uniform(*travel.delay) if delayed else 0.0
            task = asyncio.create_task(self._send(group, travel, pause, lane or (None if delayed else self._turn)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(
        self,
        copies: list[Sent],
        travel: Travel,
        pause: float,
        turn: asyncio.Lock | asyncio.Semaphore | None,
    ) -> None:
        await asyncio.sleep(pause)
        async with turn or contextlib.nullcontext():
            for copy in copies:
                await self._transmit(copy, travel)

    async def _transmit(self, copy: Sent, travel: Travel) -> None:
        """Tries as often as `Travel` says; what nobody has taken is lost."""
        assert self._client is not None
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: copy.signature}
        body = copy.body.encode()
        while True:
            copy.attempts += 1
            try:
                response = await self._client.post(copy.url, content=body, headers=headers, timeout=travel.timeout)
                copy.status, copy.error = response.status_code, None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                copy.status, copy.error = None, f"{type(error).__name__}: {error}"
            taken = copy.status is not None and 200 <= copy.status < 300
            if taken or copy.attempts >= travel.tries:
                copy.lost = not taken and copy.kind != "forged"
                return
            await asyncio.sleep(travel.wait)
