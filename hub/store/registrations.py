"""A store's webhook registrations that lead here, and what was found wrong with them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, literal, select

from hub.models import Moment
from hub.store import REGISTRATIONS, insert_into


def registered(connection: Connection, store: str) -> dict[str, str]:
    """By type of event, the id at the store of the registration that leads here, as far as they are known."""
    query = select(REGISTRATIONS.c.ours).where(REGISTRATIONS.c.store == store)
    return connection.execute(query).scalar() or {}


def looked_at(connection: Connection, now: datetime, store: str, ours: Mapping[str, str], wrong: str | None) -> None:
    """Remember which are ours, and what is wrong with them, if anything is: since when, and whether it was told."""
    insert = insert_into(connection, REGISTRATIONS)
    since = None if wrong is None else now
    values: dict[str, Any] = {"ours": dict(ours), "looked_at": now, "wrong": wrong}
    before = REGISTRATIONS.c
    changed = values | {
        "wrong_since": None if wrong is None else func.coalesce(before.wrong_since, literal(now, Moment)),
        "alerted_at": None if wrong is None else case((before.wrong == wrong, before.alerted_at)),
    }
    row = insert.values(store=store, **values, wrong_since=since)
    connection.execute(row.on_conflict_do_update(index_elements=["store"], set_=changed))


def all_registered(connection: Connection) -> Sequence[Row[Any]]:
    """Of each store whose registrations were ever looked at, how they stand."""
    return connection.execute(select(REGISTRATIONS).order_by(REGISTRATIONS.c.store)).all()
