"""Refused requests, in two rings: the rightly signed ones, and all others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, cast, delete, func, select, update

from hub.clock import new_id
from hub.store import REFUSED, STAT
from hub.store.stats import add_counts, hour_of

RING = {True: 1_000, False: 500}
LONGEST_BODY = 65_536


@dataclass(frozen=True, slots=True)
class NewRefusal:
    """A request that was answered with a refusal; `headers` are the allow-listed ones."""

    signed: bool
    store: str
    status: int
    reason: str
    remote: str | None
    headers: dict[str, str]
    body: bytes
    at: datetime
    details: list[dict[str, str]] = field(default_factory=list)


def keep_refusals(connection: Connection, now: datetime, items: Sequence[NewRefusal]) -> list[None]:
    """Write refusals into their rings, and count them by the hour."""
    rows = [
        {
            "id": new_id("ref"),
            "signed": item.signed,
            "store": item.store,
            "status": item.status,
            "reason": item.reason,
            "details": item.details,
            "remote": item.remote,
            "headers": item.headers,
            "body": item.body[:LONGEST_BODY],
            "cut": len(item.body) > LONGEST_BODY,
            "at": item.at,
        }
        for item in items
    ]
    connection.execute(REFUSED.insert(), rows)
    for signed, most in RING.items():
        oldest = (
            select(REFUSED.c.id).where(REFUSED.c.signed == signed).order_by(REFUSED.c.id.desc()).limit(1).offset(most)
        )
        connection.execute(delete(REFUSED).where(REFUSED.c.signed == signed, REFUSED.c.id <= oldest.scalar_subquery()))
    return [None] * len(items)


def count_refusals(connection: Connection, now: datetime, items: Sequence[Counter[tuple[str, str]]]) -> list[None]:
    """Add to this hour's counts of (store, reason)."""
    counted = sum(items, Counter())
    add_counts(connection, {(hour_of(now), "refused", *key): count for key, count in counted.items()})
    return [None] * len(items)


def get_refused(connection: Connection, refused_id: str) -> Row[Any] | None:
    return connection.execute(select(REFUSED).where(REFUSED.c.id == refused_id)).first()


def list_refused(
    connection: Connection,
    limit: int,
    before: str | None = None,
    signed: bool | None = None,
    store: str | None = None,
) -> list[Row[Any]]:
    """The newest refusals first, without their headers and bodies; `size` is the kept body's, in bytes.

    Of both rings unless `signed` names one. `before`: only those with a smaller id. The bodies of one page would be
    tens of megabytes.
    """
    columns: list[ColumnElement[Any]] = [column for column in REFUSED.c if column.name not in {"headers", "body"}]
    columns.append(func.length(REFUSED.c.body).label("size"))
    conditions: list[Any] = [] if signed is None else [REFUSED.c.signed.is_(signed)]
    if store is not None:
        conditions.append(REFUSED.c.store == store)
    if before is not None:
        conditions.append(REFUSED.c.id < before)
    query = select(*columns).where(*conditions).order_by(REFUSED.c.id.desc()).limit(limit)
    return list(connection.execute(query).all())


def senders(connection: Connection, since: datetime, most: int) -> list[Row[Any]]:
    """Who was refused since then, most often first: store, status, reason, remote, number, and the last time.

    Counted among the kept ones: of a flood at least as many as its ring holds.
    """
    cause = (REFUSED.c.store, REFUSED.c.status, REFUSED.c.reason, REFUSED.c.remote)
    count = func.count()
    query = select(*cause, count.label("number"), func.max(REFUSED.c.at).label("last_at")).group_by(*cause)
    kept = query.where(REFUSED.c.at >= since, REFUSED.c.event_id.is_(None))
    return list(connection.execute(kept.order_by(count.desc(), *cause).limit(most)).all())


def mark_accepted(connection: Connection, refused_id: str, event_id: str) -> None:
    connection.execute(update(REFUSED).where(REFUSED.c.id == refused_id).values(event_id=event_id))


def refused_since(connection: Connection, since: datetime) -> list[dict[str, Any]]:
    """`store`, `reason` and `count` of the hours since `since`."""
    # PostgreSQL's sum of such integers is a numeric.
    count = cast(func.sum(STAT.c.count), BigInteger).label("count")
    found = connection.execute(
        select(STAT.c.name.label("store"), STAT.c.label.label("reason"), count)
        .where(STAT.c.kind == "refused", STAT.c.hour >= since)
        .group_by(STAT.c.name, STAT.c.label)
    )
    return [dict(row) for row in found.mappings()]
