"""The books of a fault: what the store sent and was answered, what each counterpart got, and what is missing between.

A store that gets no answer resends its even events until it is answered, as stores do, and gives its odd ones up, so
that both what is acknowledged late and what never is are seen (Jepsen's set checker, in Python).
"""

import asyncio
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx

from hub.testing import EVENT_TYPES, Received, SlackServer, StoreDouble, sample
from hub.testing.samples import to_bytes
from hub.testing.sink import Inbox
from hub.testing.slack import SlackMessage
from hub.testing.smtp import Mail, MailServer
from tests.e2e.ledger import Destination, Load
from tests.hubs import SECRET

Item = TypeVar("Item")
ANSWER_WITHIN = 15.0
AGAIN_AFTER = 0.1
MOST_OPEN = 200
ACKED, REFUSED, INDETERMINATE = "acked", "refused", "indeterminate"


class Journal:
    """A JSONL file in which a line is on the disk before `write` returns; lines that come together share a flush."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._waiting: list[str] = []
        self._count = self._flushed = 0
        self._turn = asyncio.Lock()

    async def write(self, **entry: Any) -> None:
        self._waiting.append(json.dumps({"at": round(time.time(), 4), **entry}))
        self._count += 1
        mine = self._count
        async with self._turn:
            if self._flushed < mine:
                lines, self._waiting = self._waiting, []
                await asyncio.to_thread(self._flush, "\n".join(lines) + "\n")
                self._flushed += len(lines)

    def _flush(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Answered:
    """One post and what came of it; `status` 0 where nobody took the connection, -1 where no answer came.

    `again`: the answer's Retry-After.
    """

    marker: str
    at: float
    seconds: float
    result: str
    status: int
    again: str | None = None


class Store(Load):
    """A store under a load of `rate` events a second, whose every step is in its journal before the next."""

    def __init__(self, urls: Sequence[str], journal: Journal, rate: float) -> None:
        super().__init__(urls)
        self.journal = journal
        self.rate = rate
        self.answered: list[Answered] = []
        self.results: defaultdict[str, set[str]] = defaultdict(set)
        self._number = 0

    async def __aenter__(self) -> "Store":
        for url in self.urls:
            store = StoreDouble(f"{url}/webhooks/main", SECRET, timeout=ANSWER_WITHIN)
            self._stores.append(await self._stack.enter_async_context(store))
        return self

    async def load(self) -> None:
        """Post events, one every 1/rate seconds whatever becomes of those before, until there are `enough`."""
        open_posts: set[asyncio.Task[Any]] = set()
        due = time.monotonic()
        while not self.enough.is_set():
            if len(open_posts) < MOST_OPEN:
                open_posts.add(asyncio.create_task(self.send()))
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            for task in [task for task in open_posts if task.done()]:
                open_posts.discard(task)
                task.result()
        await asyncio.gather(*open_posts)

    async def send(self, type: str | None = None, *, final: bool = False, **data: Any) -> str:
        """The next event: resent or given up by its number, `final` in any case after one answer; its marker."""
        number, self._number = self._number, self._number + 1
        if not final:
            return await self.post_one(number, type, **data)
        marker = await self.make(number, type, **data)
        await self.post(marker, number)
        return marker

    async def post_one(self, number: int, type: str | None = None, **data: Any) -> str:
        marker = await self.make(number, type, **data)
        turn = number
        while True:
            answer = await self.post(marker, turn)
            # A post that never was made (status 0) goes to the next receiver in any case, as a proxy has it.
            if answer.result == ACKED or (number % 2 and answer.status):
                return marker
            turn += 1
            await asyncio.sleep(AGAIN_AFTER)

    async def make(self, number: int, type: str | None = None, **data: Any) -> str:
        """An event that is signed and noted, and not posted yet; its marker."""
        marker = f"{self.name}{number}"
        document = sample(type or EVENT_TYPES[number % len(EVENT_TYPES)], **{"id": marker, "marker": marker, **data})
        self.sent[marker] = to_bytes(document)
        await self.journal.write(marker=marker, event="sent")
        return marker

    async def resend(self, marker: str) -> None:
        """Post it again until it is acknowledged."""
        turn = 0
        while (await self.post(marker, turn)).result != ACKED:
            turn += 1
            await asyncio.sleep(AGAIN_AFTER)

    async def post(self, marker: str, turn: int) -> Answered:
        """One post to the receiver whose turn it is, and what came of it, noted."""
        began, at = time.monotonic(), time.time()
        status, event_id, again = -1, None, None
        try:
            response = await self._stores[turn % len(self._stores)].post(self.sent[marker])
            status, again = response.status_code, response.headers.get("retry-after")
            result = ACKED if status == 200 else REFUSED
            event_id = response.json()["data"]["id"] if status == 200 else None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            result, status = REFUSED, 0
        except httpx.TransportError:
            result = INDETERMINATE
        answered = Answered(marker, at, time.monotonic() - began, result, status, again)
        await self.journal.write(marker=marker, event=result, status=status, id=event_id)
        self.answered.append(answered)
        self.results[marker].add(result)
        self.answers[status] += 1
        if event_id is not None:
            self.acked[marker] = event_id
            await self._count.add(marker)
        return answered

    @property
    def unsure(self) -> set[str]:
        """Events of which the store never learned what became of them."""
        return {marker for marker, results in self.results.items() if INDETERMINATE in results} - self.acked.keys()

    @property
    def turned_away(self) -> set[str]:
        """Events that were only ever refused: nobody may have them."""
        return {marker for marker, results in self.results.items() if results <= {REFUSED}}

    def p99(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Seconds within which 99 % of the acknowledgements of that time (since 1970) came."""
        times = sorted(one.seconds for one in self.answered if one.result == ACKED and since <= one.at <= until)
        return times[min(int(len(times) * 0.99), len(times) - 1)] if times else 0.0


class Counterpart(Protocol):
    """Something that events go to. `receipts`: how often each marker was taken; `keys`: under which keys."""

    honours: bool

    @property
    def receipts(self) -> Counter[str]: ...

    @property
    def keys_of(self) -> dict[str, set[str | None]]: ...


class Erp(Destination):
    """A sink that honours keys: a second request under one key is answered like the first and makes nothing new."""

    honours = True

    @property
    def receipts(self) -> Counter[str]:
        return Counter({marker: len(keys) for marker, keys in self.keys_of.items()})

    @property
    def keys_of(self) -> dict[str, set[str | None]]:
        found: defaultdict[str, set[str | None]] = defaultdict(set)
        for request in self.taken:
            found[marker_in(request)].add(request.key)
        return dict(found)


class Dated(Inbox[Item]):
    """An inbox that knows when each came (since 1970)."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def add(self, item: Item) -> None:
        self.times.append(time.time())
        await super().add(item)


class Plain(Destination):
    """A sink that takes whatever comes, as often as it comes."""

    honours = False

    @property
    def receipts(self) -> Counter[str]:
        return self.taken_markers

    @property
    def arrivals(self) -> dict[str, float]:
        """When each marker came first (since 1970)."""
        return {marker_in(request): request.at.timestamp() for request in reversed(list(self.taken))}

    @property
    def keys_of(self) -> dict[str, set[str | None]]:
        return self.keys()


class Channel(SlackServer):
    """Slack, which forgets what it took; the message is the marker, the last block's id the key."""

    honours = False

    def __init__(self) -> None:
        super().__init__()
        self.messages: Dated[SlackMessage] = Dated()

    @property
    def receipts(self) -> Counter[str]:
        return Counter(message.text for message in self.messages)

    @property
    def arrivals(self) -> dict[str, float]:
        """When each marker came first (since 1970)."""
        found = zip(self.messages, self.messages.times, strict=True)
        return {message.text: at for message, at in reversed(list(found))}

    @property
    def keys_of(self) -> dict[str, set[str | None]]:
        found: defaultdict[str, set[str | None]] = defaultdict(set)
        for message in self.messages:
            found[message.text].add(message.blocks[-1].get("block_id"))
        return dict(found)


class Mailbox(MailServer):
    """A mail server, which forgets what it took; the subject is the marker, the Message-ID the key."""

    honours = False

    def __init__(self) -> None:
        super().__init__()
        self.mails: Dated[Mail] = Dated()

    @property
    def receipts(self) -> Counter[str]:
        return Counter(str(mail.message["Subject"]) for mail in self.mails)

    @property
    def arrivals(self) -> dict[str, float]:
        """When each marker came first (since 1970)."""
        found = zip(self.mails, self.mails.times, strict=True)
        return {str(mail.message["Subject"]): at for mail, at in reversed(list(found))}

    @property
    def keys_of(self) -> dict[str, set[str | None]]:
        found: defaultdict[str, set[str | None]] = defaultdict(set)
        for mail in self.mails:
            found[str(mail.message["Subject"])].add(mail.message["Message-ID"])
        return dict(found)


def marker_in(request: Received) -> str:
    return str(request.json()["data"]["marker"])


@dataclass
class Balance:
    """What the comparison found. Counts are sums over the counterparts; `wrong` says what breaks an invariant."""

    sent: int
    acked: int
    indeterminate: int
    refused: int
    delivered: int
    recovered: int
    lost: int
    phantom: int
    dup_keyed: int
    dup_plain: dict[str, int]
    dead: int
    wrong: list[str] = field(default_factory=list)


def compare(
    store: Store,
    counterparts: dict[str, Counterpart],
    dead: dict[str, set[str]],
    meant: set[str] | None = None,
) -> Balance:
    """Books against books. `dead`: for each route the markers of deliveries that stand in the dashboard as dead.

    `meant`: the events that must have arrived, where not all that were acknowledged can.
    """
    acked, unsure = set(store.acked), store.unsure
    lost, phantom, keyed, wrong = 0, 0, 0, []
    plain: dict[str, int] = {}
    everywhere: set[str] = set()
    for name, counterpart in counterparts.items():
        receipts = counterpart.receipts
        got = set(receipts)
        everywhere |= got
        due = acked if meant is None else acked & meant
        missing = due - got - dead.get(name, set())
        strange = got - acked - unsure
        lost += len(missing)
        phantom += len(strange)
        wrong += [f"{name} lacks {sorted(missing)[:3]}"] if missing else []
        wrong += [f"{name} got {sorted(strange)[:3]}, never acknowledged"] if strange else []
        twice = sum(receipts.values()) - len(got)
        if counterpart.honours:
            keyed += twice
        else:
            plain[name] = twice
        wrong += _keys_wrong(name, counterpart)
    return Balance(
        sent=len(store.sent), acked=len(acked), indeterminate=len(unsure), refused=len(store.turned_away),
        delivered=len(everywhere), recovered=len(unsure & everywhere), lost=lost, phantom=phantom, dup_keyed=keyed,
        dup_plain=plain, dead=sum(len(markers) for markers in dead.values()), wrong=wrong,
    )  # fmt: skip


def _keys_wrong(name: str, counterpart: Counterpart) -> list[str]:
    """One key for each event at each attempt, none shared, never two requests of one key at once."""
    keys = counterpart.keys_of
    used = Counter(key for of_marker in keys.values() for key in of_marker)
    renamed = [marker for marker, of_marker in keys.items() if len(of_marker) != 1 or None in of_marker]
    shared = [key for key, count in used.items() if count > 1]
    overlaps = counterpart.overlaps if isinstance(counterpart, Destination) else set()
    found = [f"{name}: {len(renamed)} events under several keys, {renamed[:3]}"] if renamed else []
    found += [f"{name}: {len(shared)} keys for several events, {shared[:3]}"] if shared else []
    found += [f"{name}: {len(overlaps)} keys under way twice at once"] if overlaps else []
    return found
