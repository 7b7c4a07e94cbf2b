"""From a request's bytes to a kept event: verify, parse, keep. Answered means kept.

`receive` returns only after the event's own transaction is committed and flushed; everything else is a Refusal,
remembered so that ops can see why, or Unavailable.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import structlog

from hub.clock import new_id, to_micros
from hub.config import RESERVED_STORE
from hub.errors import CommandError, NotAnEvent, NotAuthenticated, Refusal, Unavailable, UnknownStore
from hub.event import ONCE_BY_NATURE, Parsed, content_hash, dedupe_key, parse, verify
from hub.runtime import MOST_BEHIND, Hub
from hub.store.events import Kept, NewEvent, get_repeat, keep_events, kept_as
from hub.store.refusals import (
    LONGEST_BODY,
    RING,
    NewRefusal,
    count_refusals,
    get_refused,
    keep_refusals,
    mark_accepted,
)

SIGNATURE_HEADER = b"x-litekart-signature"
KEPT_HEADERS = {b"content-type", b"user-agent", b"x-request-id", b"idempotency-key"}
KEPT_PREFIX = b"x-litekart-"
MOST_HEADERS = 20
LONGEST_NAME = 64
LONGEST_HEADER = 256
LONGEST_STORE = 200
FLUSH_EVERY = 1.0
# Statuses of requests that are refused before their body is read to its end.
UNREAD = {405, 408, 413, 415}

log = structlog.get_logger()


class Incoming(NamedTuple):
    """A request for a store's webhook endpoint: raw bytes, raw headers (names in lower case), sender's address."""

    store: str
    body: bytes
    headers: list[tuple[bytes, bytes]]
    remote: str | None


class Receiving:
    """What receiving keeps between requests: refusals not yet written, and what the last commit brought."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        # Bound once: each webhook says something, and a logger that is bound anew takes as long as to parse one.
        self._log = log.bind()
        self._unsigned: deque[NewRefusal] = deque(maxlen=RING[False])
        self._counts: Counter[tuple[str, str]] = Counter()
        self._kept = 0
        self._repeated = 0

    async def receive(self, incoming: Incoming) -> Kept:
        """Keep a store's event. Raises Refusal (remembered) or Unavailable (nothing kept)."""
        try:
            begun = self.begin(incoming)
        except (UnknownStore, NotAuthenticated) as refusal:
            self.remember(refusal, incoming)
            raise
        except Refusal as refusal:
            await self._refuse_signed(refusal, incoming)
            raise
        return await self.finish(incoming, begun)

    def begin(self, incoming: Incoming) -> "asyncio.Future[Kept]":
        """Verify and parse it, and hand it to the writer. Raises Refusal (not remembered) or Unavailable."""
        fingerprint = authenticate(self.hub, incoming)
        if self.hub.writer.behind() > MOST_BEHIND:
            raise Unavailable(f"more than {MOST_BEHIND:g} seconds of work wait to be written")
        if self.hub.disk_low is not None:
            raise Unavailable(self.hub.disk_low)
        event = new_event(self.hub, incoming, parse(incoming.body), fingerprint)
        return self.hub.writer.submit(keep_events, event)

    async def finish(self, incoming: Incoming, begun: "asyncio.Future[Kept]") -> Kept:
        """What came of it, once it is committed. Raises Refusal (remembered) or Unavailable."""
        try:
            kept = await begun
        except Unavailable:
            raise
        except Exception as error:
            log.warning("event.unwritable", store=incoming.store, error=type(error).__name__)
            refusal = NotAnEvent("the database cannot keep this event", status=422)
            await self._refuse_signed(refusal, incoming)
            raise refusal from error
        self.kept(incoming, kept)
        return kept

    def kept(self, incoming: Incoming, kept: Kept) -> None:
        """It is committed, and will be answered: the bell is rung after that."""
        self._after_commit(kept)
        self._log.debug("event.kept", id=kept.id, store=incoming.store)

    async def _refuse_signed(self, refusal: Refusal, incoming: Incoming) -> None:
        self._counts[incoming.store, refusal.code] += 1
        await self._keep_signed(self._refusal(refusal, incoming, signed=True))

    async def _keep_signed(self, refusal: NewRefusal) -> None:
        """Keep it before its answer. One that the database cannot keep is still refused for its own reason."""
        try:
            await self.hub.writer.put(keep_refusals, refusal)
        except Unavailable:
            raise
        except Exception as error:
            log.warning("refusal.unwritable", store=refusal.store, error=type(error).__name__)

    def remember(self, refusal: Refusal, incoming: Incoming) -> None:
        """Keep an unsigned refusal in memory; `flush` writes it."""
        self._unsigned.append(self._refusal(refusal, incoming, signed=False))
        # Names that nobody configured are counted together: anyone can make them up.
        self._counts[incoming.store if incoming.store in self.hub.keys else "?", refusal.code] += 1

    def _refusal(self, refusal: Refusal, incoming: Incoming, *, signed: bool) -> NewRefusal:
        return NewRefusal(
            signed=signed,
            store=incoming.store[:LONGEST_STORE],
            status=refusal.status,
            reason=refusal.message,
            remote=incoming.remote,
            headers=kept_headers(incoming.headers),
            # One byte more than is kept tells that it was cut; a whole one would cost memory until it is written.
            body=incoming.body[: LONGEST_BODY + 1],
            at=self.hub.now(),
            details=[asdict(problem) for problem in refusal.details],
        )

    def _after_commit(self, kept: Kept) -> None:
        """Ring and log once for all that one commit brought, after their answers."""
        if not self._kept:
            asyncio.get_running_loop().call_soon(self._ring)
        self._kept += 1
        self._repeated += kept.duplicate

    def _ring(self) -> None:
        log.info("event.received", count=self._kept, repeats=self._repeated)
        self._kept = self._repeated = 0
        self.hub.bells.ring("fan_out")

    async def flush(self) -> None:
        """Write the unsigned refusals that came since the last time, and the hour's counts of all, in one commit.

        What storage does not take now stays for the next time.
        """
        refusals, self._unsigned = list(self._unsigned), deque(maxlen=RING[False])
        counts, self._counts = self._counts, Counter()
        puts = [self.hub.writer.put(keep_refusals, refusal) for refusal in refusals]
        puts += [self.hub.writer.put(count_refusals, counts)] if counts else []
        results = await asyncio.gather(*puts, return_exceptions=True)
        if counts and isinstance(results.pop(), Unavailable):
            self._counts.update(counts)
        later = [one for one, result in zip(refusals, results, strict=True) if isinstance(result, Unavailable)]
        self._unsigned = deque([*later, *self._unsigned], maxlen=RING[False])
        faults = Counter(
            type(r).__name__ for r in results if isinstance(r, Exception) and not isinstance(r, Unavailable)
        )
        if faults:
            log.error("refused.unwritable", errors=dict(faults))

    async def flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self.flush()


def authenticate(hub: Hub, incoming: Incoming) -> str:
    """The fingerprint of the secret that signed the body. Raises UnknownStore or NotAuthenticated."""
    keys = hub.keys.get(incoming.store)
    if keys is None:
        raise UnknownStore("there is no store of that name")
    given = [value for header, value in incoming.headers if header == SIGNATURE_HEADER]
    fingerprint = verify(incoming.body, given[0], keys) if len(given) == 1 else None
    if fingerprint is None:
        raise NotAuthenticated("the signature is missing or wrong")
    return fingerprint


def new_event(hub: Hub, incoming: Incoming, parsed: Parsed, fingerprint: str) -> NewEvent:
    """The row of an event that just came in."""
    store = hub.config.stores[incoming.store]
    # Polling finds what it is about and no id of the webhook's: both must come to one key.
    id_field = None if parsed.type in ONCE_BY_NATURE and store.catches_up else store.event_id_field
    return NewEvent(
        id=new_id("evt"),
        store=incoming.store,
        type=parsed.type,
        entity=parsed.entity,
        dedupe_key=dedupe_key(parsed, incoming.body, id_field),
        content_hash=content_hash(parsed),
        body=incoming.body,
        headers=orjson.dumps(kept_headers(incoming.headers)).decode(),
        occurred_at=parsed.occurred_at,
        received_at=to_micros(hub.now()),
        origin="webhook",
        secret=fingerprint,
    )


def own_event(
    type: str,
    entity: str | None,
    data: dict[str, Any],
    now: datetime,
    once: bytes,
    store: str = RESERVED_STORE,
    event_id: str | None = None,
) -> NewEvent:
    """An event that the hub itself makes, as any other is kept; `once` is its key."""
    document = {"event": type, "data": data, "timestamp": now.isoformat().replace("+00:00", "Z")}
    parsed = Parsed(type, entity, to_micros(now), document)
    return NewEvent(
        id=event_id or new_id("evt"),
        store=store,
        type=type,
        entity=entity,
        dedupe_key=once,
        content_hash=content_hash(parsed),
        body=orjson.dumps(document),
        headers="{}",
        occurred_at=parsed.occurred_at,
        received_at=parsed.occurred_at,
        origin=RESERVED_STORE,
        secret=None,
    )


def kept_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The allow-listed headers, bounded. A delivery id among them is unsigned: shown, never a key."""
    kept = [
        header
        for header in headers
        if header[0] in KEPT_HEADERS or (header[0].startswith(KEPT_PREFIX) and len(header[0]) <= LONGEST_NAME)
    ]
    return {
        name.decode("ascii", "replace"): value[:LONGEST_HEADER].decode("utf-8", "replace")
        for name, value in kept[:MOST_HEADERS]
    }


async def accept_repeat(hub: Hub, repeat_id: str) -> Kept:
    """Let a repeat with other content in as an event of its own, once."""
    row = await hub.database.read(lambda connection: get_repeat(connection, repeat_id))
    if row is None:
        raise CommandError(f"{repeat_id}: there is no such repeat; `hub show` of its event lists them")
    incoming = Incoming(row.store, bytes(row.body), [], None)
    event = new_event(hub, incoming, parse(incoming.body), row.secret)
    own = event._replace(dedupe_key=b"r" + repeat_id.encode(), origin="repeat")
    before = await hub.database.read(lambda connection: kept_as(connection, own.store, own.dedupe_key))
    if before is not None:
        # Kept once more it would count as a repeat, which the store did not send.
        return Kept(before, True)
    kept = await hub.writer.put(keep_events, own)
    hub.bells.ring("fan_out")
    return kept


async def accept_refused(hub: Hub, refused_id: str) -> Kept:
    """Let a refused request in after all: verified and parsed again with today's config.

    Raises CommandError with what is still wrong.
    """
    row = await hub.database.read(lambda connection: get_refused(connection, refused_id))
    if row is None:
        raise CommandError(f"{refused_id}: there is no such refusal; `hub refused` lists them")
    if row.event_id is not None:
        # Kept once more it would count as a repeat, which the store did not send.
        return Kept(row.event_id, True)
    if row.status in UNREAD:
        raise CommandError(f"{refused_id}: its body was not read ({row.reason}); the store must send it again")
    if row.cut:
        raise CommandError(f"{refused_id}: only its first 64 KiB were kept; the store must send it again")
    headers = [(name.encode(), value.encode()) for name, value in (row.headers or {}).items()]
    incoming = Incoming(row.store, bytes(row.body), headers, row.remote)
    try:
        event = new_event(hub, incoming, parse(incoming.body), authenticate(hub, incoming))
    except Refusal as refusal:
        details = "".join(f"; {problem.field}: {problem.message}" for problem in refusal.details)
        raise CommandError(f"{refused_id}: still refused: {refusal.message}{details}") from None
    kept = await hub.writer.put(keep_events, event)
    await hub.database.write(lambda connection: mark_accepted(connection, refused_id, kept.id))
    hub.bells.ring("fan_out")
    return kept
