"""From a request's bytes to a kept event: verify, parse, keep. Answered means kept.

`receive` returns only after the event's own transaction is committed and flushed; everything else is a Refusal,
remembered so that ops can see why, or Unavailable.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict

import orjson
import structlog

from hub.clock import new_id, to_micros
from hub.errors import CommandError, NotAnEvent, NotAuthenticated, Refusal, Unavailable, UnknownStore
from hub.event import Parsed, content_hash, dedupe_key, parse, verify
from hub.models import harmless
from hub.runtime import Hub
from hub.store.events import Kept, NewEvent, keep_events
from hub.store.refusals import RING, NewRefusal, count_refusals, get_refused, keep_refusals, mark_accepted

SIGNATURE_HEADER = "x-litekart-signature"
KEPT_HEADERS = {b"content-type", b"user-agent", b"x-request-id", b"idempotency-key"}
KEPT_PREFIX = b"x-litekart-"
MOST_HEADERS = 20
LONGEST_HEADER = 256
MOST_BEHIND = 1.0
FLUSH_EVERY = 1.0

log = structlog.get_logger()


class Receiving:
    """What receiving keeps between requests: refusals not yet written, and what the last commit brought."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._unsigned: deque[NewRefusal] = deque(maxlen=RING[False])
        self._counts: Counter[tuple[str, str]] = Counter()
        self._kept = 0
        self._repeated = 0

    async def receive(self, store: str, body: bytes, headers: list[tuple[bytes, bytes]], remote: str | None) -> Kept:
        """Keep a store's event. Raises Refusal (remembered) or Unavailable (nothing kept)."""
        try:
            fingerprint = authenticate(self.hub, store, body, headers)
        except Refusal as refusal:
            self.remember(refusal, store, body, headers, remote)
            raise
        if self.hub.writer.behind() > MOST_BEHIND:
            raise Unavailable("more than a second of work waits to be written")
        try:
            return await self._keep(store, body, headers, fingerprint)
        except Refusal as refusal:
            refused = self._refusal(refusal, True, store, body, headers, remote)
            self._counts[refused.store, refusal.code] += 1
            await self.hub.writer.put(keep_refusals, refused)
            raise

    async def _keep(self, store: str, body: bytes, headers: list[tuple[bytes, bytes]], fingerprint: str) -> Kept:
        parsed = parse(body)
        try:
            event = new_event(self.hub, store, body, parsed, fingerprint, orjson.dumps(kept_headers(headers)).decode())
            kept = await self.hub.writer.put(keep_events, event)
        except (Unavailable, Refusal):
            raise
        except Exception as error:
            log.warning("event.unwritable", store=store, error=type(error).__name__)
            raise NotAnEvent("the database cannot keep this event", status=422) from error
        self._after_commit(kept)
        log.debug("event.kept", id=kept.id, store=store, type=parsed.type, entity=parsed.entity)
        return kept

    def remember(
        self, refusal: Refusal, store: str, body: bytes, headers: list[tuple[bytes, bytes]], remote: str | None
    ) -> None:
        """Keep an unsigned refusal in memory; `flush` writes it."""
        refused = self._refusal(refusal, False, store, body, headers, remote)
        self._unsigned.append(refused)
        # Names that nobody configured are counted together: anyone can make them up.
        self._counts[store if store in self.hub.keys else "?", refusal.code] += 1

    def _refusal(
        self,
        refusal: Refusal,
        signed: bool,
        store: str,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        remote: str | None,
    ) -> NewRefusal:
        return NewRefusal(
            signed=signed,
            store=harmless(store, 200),
            status=refusal.status,
            reason=refusal.message,
            remote=remote,
            headers=kept_headers(headers),
            body=body,
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
        """Write the unsigned refusals that came since the last time, and the hour's counts of all."""
        refusals, self._unsigned = list(self._unsigned), deque(maxlen=RING[False])
        counts, self._counts = self._counts, Counter()
        try:
            if counts:
                await self.hub.writer.put(count_refusals, counts)
            for refusal in refusals:
                await self.hub.writer.put(keep_refusals, refusal)
        except Unavailable:
            self._counts.update(counts)
            self._unsigned.extendleft(reversed(refusals))

    async def flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self.flush()


def authenticate(hub: Hub, store: str, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The fingerprint of the secret that signed the body. Raises UnknownStore or NotAuthenticated."""
    keys = hub.keys.get(store)
    if keys is None:
        raise UnknownStore("there is no store of that name")
    name = SIGNATURE_HEADER.encode()
    given = [value for header, value in headers if header == name]
    fingerprint = verify(body, given[0], keys) if len(given) == 1 else None
    if fingerprint is None:
        raise NotAuthenticated("the signature is missing or wrong")
    return fingerprint


def new_event(
    hub: Hub, store: str, body: bytes, parsed: Parsed, fingerprint: str | None, headers: str | None
) -> NewEvent:
    """The row of an event that just came in."""
    return NewEvent(
        id=new_id("evt"),
        store=store,
        type=parsed.type,
        entity=parsed.entity,
        dedupe_key=dedupe_key(parsed, body, hub.config.stores[store].event_id_field),
        content_hash=content_hash(parsed),
        body=body,
        headers=headers,
        occurred_at=parsed.occurred_at,
        received_at=to_micros(hub.now()),
        origin="webhook",
        secret=fingerprint,
    )


def kept_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The allow-listed headers, bounded. A delivery id among them is unsigned: shown, never a key."""
    kept = [
        (name.decode("ascii", "replace"), value[:LONGEST_HEADER].decode("utf-8", "replace"))
        for name, value in headers
        if name in KEPT_HEADERS or name.startswith(KEPT_PREFIX)
    ]
    return dict(kept[:MOST_HEADERS])


async def accept_refused(hub: Hub, refused_id: str) -> Kept:
    """Let a refused request in after all: verified and parsed again with today's config.

    Raises CommandError with what is still wrong.
    """
    row = await hub.database.read(lambda connection: get_refused(connection, refused_id))
    if row is None:
        raise CommandError(f"{refused_id}: there is no such refusal; `hub refused` lists them")
    if row.cut:
        raise CommandError(f"{refused_id}: only its first 64 KiB were kept; the store must send it again")
    body, headers = bytes(row.body), row.headers or {}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    try:
        fingerprint = authenticate(hub, row.store, body, raw)
        event = new_event(hub, row.store, body, parse(body), fingerprint, orjson.dumps(headers).decode())
    except Refusal as refusal:
        details = "".join(f"; {problem.field}: {problem.message}" for problem in refusal.details)
        raise CommandError(f"{refused_id}: still refused: {refusal.message}{details}") from None
    kept = await hub.writer.put(keep_events, event)
    await hub.database.write(lambda connection: mark_accepted(connection, refused_id, kept.id))
    hub.bells.ring("fan_out")
    return kept
