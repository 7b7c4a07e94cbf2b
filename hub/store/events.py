"""Events: kept once, repeats counted, and what a repeat of a state event starts again."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row, select, tuple_, update

from hub.clock import new_id
from hub.event import STATE_EVENTS
from hub.models import UNFIT
from hub.schedule import LOOK_PAUSE
from hub.store import DELIVERY, EVENT, REPEAT, insert_into, is_postgres
from hub.store.wide import run_statement

POLLED = "poll"
"""The origin of what polling the store found."""
UNIQUE = attrgetter("store", "dedupe_key")
COLUMNS = (
    "id", "store", "type", "entity", "dedupe_key", "content_hash", "body", "headers",
    "occurred_at", "received_at", "origin", "secret", "repeats",
)  # fmt: skip
INSERT = f"INSERT INTO event ({', '.join(COLUMNS)})"
ONCE = "ON CONFLICT (store, dedupe_key) DO NOTHING"
ROW = f"({', '.join('?' for _ in COLUMNS)})"

ARRAYS = dict.fromkeys(COLUMNS, "text") | {
    "dedupe_key": "bytea", "content_hash": "bytea", "body": "bytea",
    "occurred_at": "bigint", "received_at": "bigint", "repeats": "bigint",
}  # fmt: skip
UNNEST = ", ".join(f"${place}::{ARRAYS[name]}[]" for place, name in enumerate(COLUMNS, 1))
INSERT_ARRAYS = f"{INSERT} SELECT * FROM unnest({UNNEST}) {ONCE}"  # noqa: S608 - the names above


class NewEvent(NamedTuple):
    """An event to be kept, in the order of COLUMNS; times in microseconds, `headers` as JSON text."""

    id: str
    store: str
    type: str
    entity: str | None
    dedupe_key: bytes
    content_hash: bytes
    body: bytes
    headers: str | None
    occurred_at: int
    received_at: int
    origin: str
    secret: str | None
    repeats: int = 0


class Kept(NamedTuple):
    """The id under which an event is kept, and whether it had been kept before."""

    id: str
    duplicate: bool


def keep_events(connection: Connection, now: datetime, items: Sequence[NewEvent]) -> list[Kept]:
    """Insert what is new; count, and where it differs keep, what is a repeat. One INSERT for all.

    What polling found is no repeat of anything, and the first webhook that comes to what polling found differs from
    nothing: the store sent it once, and later ones are compared with that.
    """
    events = sorted(items, key=UNIQUE)
    if is_postgres(connection):
        refuse_unfit(chain.from_iterable(events))
        new = run_statement(connection, INSERT_ARRAYS, tuple(map(list, zip(*events, strict=True)))).rowcount
    else:
        statement = f"{INSERT} VALUES {', '.join([ROW] * len(events))} {ONCE}"
        new = run_statement(connection, statement, tuple(chain.from_iterable(events))).rowcount
    if new == len(events):
        return [Kept(event.id, False) for event in items]
    known = _count_repeats(connection, now, events)
    return [
        Kept(known[event.store, event.dedupe_key], known[event.store, event.dedupe_key] != event.id) for event in items
    ]


def kept_as(connection: Connection, store: str, dedupe_key: bytes) -> str | None:
    """The id of the event that is kept under this key, if one is."""
    query = select(EVENT.c.id).where(EVENT.c.store == store, EVENT.c.dedupe_key == dedupe_key)
    return connection.execute(query).scalar()


def refuse_unfit(values: Iterable[Any]) -> None:
    """PostgreSQL takes no NUL: said here, so that the item is refused and not its connection."""
    texts = "".join([value for value in values if isinstance(value, str)])
    # What is printable, as nearly all is, holds none; to search it takes ten times as long.
    if not texts.isprintable() and UNFIT.search(texts):
        raise ValueError("text with a control character")


def _count_repeats(connection: Connection, now: datetime, events: Sequence[NewEvent]) -> dict[tuple[str, bytes], str]:
    keys = list({(event.store, event.dedupe_key) for event in events})
    found = connection.execute(
        select(EVENT.c.store, EVENT.c.dedupe_key, EVENT.c.id, EVENT.c.content_hash, EVENT.c.origin, EVENT.c.secret)
        .where(tuple_(EVENT.c.store, EVENT.c.dedupe_key).in_(keys))
        .order_by(EVENT.c.id)
    ).all()
    known = {(row.store, bytes(row.dedupe_key)): row for row in found}
    repeats = [
        event for event in events if known[event.store, event.dedupe_key].id != event.id and event.origin != POLLED
    ]
    for event_id, count in sorted(Counter(known[e.store, e.dedupe_key].id for e in repeats).items()):
        connection.execute(
            update(EVENT).where(EVENT.c.id == event_id).values(repeats=EVENT.c.repeats + count, last_repeat_at=now)
        )
    contents = {key: bytes(row.content_hash) for key, row in known.items()} | _merged(connection, known, repeats)
    different = [e for e in repeats if contents[e.store, e.dedupe_key] != e.content_hash]
    if different:
        rows = [repeat_row(known[event.store, event.dedupe_key].id, event, now) for event in different]
        insert = insert_into(connection, REPEAT)
        connection.execute(insert.on_conflict_do_nothing(), rows)
    for event_id in sorted({known[e.store, e.dedupe_key].id for e in repeats if e.type in STATE_EVENTS}):
        look_again(connection, now, event_id)
    return {key: row.id for key, row in known.items()}


def _merged(
    connection: Connection, known: Mapping[tuple[Any, bytes], Row[*tuple[Any, ...]]], repeats: Sequence[NewEvent]
) -> dict[tuple[str, bytes], bytes]:
    """Let the first webhook of what polling found stand for it: its content by key, for later ones to compare with."""
    merged: dict[tuple[str, bytes], bytes] = {}
    for event in repeats:
        row = known[event.store, event.dedupe_key]
        if row.origin == POLLED and row.secret is None and (event.store, event.dedupe_key) not in merged:
            merged[event.store, event.dedupe_key] = event.content_hash
            values = {"content_hash": event.content_hash, "secret": event.secret}
            connection.execute(update(EVENT).where(EVENT.c.id == row.id).values(values))
    return merged


def repeat_row(event_id: str, event: NewEvent, now: datetime) -> dict[str, Any]:
    """A repeat with other content, to be kept beside the event it repeats, the same bytes once."""
    return {
        "id": new_id("rpt"),
        "event_id": event_id,
        "body_hash": hashlib.sha256(event.body).digest()[:16],
        "headers": None if event.headers is None else orjson.loads(event.headers),
        "body": event.body,
        "at": now,
    }


def look_again(connection: Connection, now: datetime, event_id: str) -> None:
    """Let an event's state-reading deliveries look at the present state once more (design: "State-reading").

    In flight: seen when it records. Delivered, or skipped by its connector: pending again. Dead and held stay.
    """
    rows = connection.execute(
        select(DELIVERY)
        .where(DELIVERY.c.event_id == event_id, DELIVERY.c.reads_state)
        .order_by(DELIVERY.c.id)
        .with_for_update()
    ).all()
    for row in rows:
        # One that was cancelled while under way may still come back as delivered.
        if row.status == "pending" or row.lease_until is not None:
            connection.execute(update(DELIVERY).where(DELIVERY.c.id == row.id).values(again=True))
        elif row.status == "delivered" or (row.status == "skipped" and row.error_key == "skip"):
            connection.execute(
                update(DELIVERY).where(DELIVERY.c.id == row.id).values(**fresh_look(connection, now, row))
            )


def fresh_look(connection: Connection, now: datetime, row: Any) -> dict[str, Any]:
    """The columns of a delivery that looks once more: a new key, a fresh budget, not within 10 s of the last look.

    `row` is the delivery as it stands.
    """
    looked_at = connection.execute(
        select(DELIVERY.c.looked_at)
        .where(
            DELIVERY.c.route == row.route,
            DELIVERY.c.store == row.store,
            DELIVERY.c.entity == row.entity,
            DELIVERY.c.looked_at.is_not(None),
        )
        .order_by(DELIVERY.c.looked_at.desc())
        .limit(1)
    ).scalar()
    due = now if looked_at is None else max(now, looked_at + LOOK_PAUSE)
    return {
        "status": "pending",
        "again": False,
        "look": row.look + 1,
        "budget": row.attempts + row.span,
        "next_attempt_at": due,
        "lost": 0,
        "error_key": None,
        "last_error": None,
    }


def get_repeat(connection: Connection, repeat_id: str) -> Row[Any] | None:
    """A repeat with other content, and the store it came from."""
    return connection.execute(
        select(REPEAT, EVENT.c.store, EVENT.c.secret)
        .join(EVENT, EVENT.c.id == REPEAT.c.event_id)
        .where(REPEAT.c.id == repeat_id)
    ).first()
