"""Releases and cancels of many: each a row of Replay, done in batches, with a pace, and stopped half-way.

A stop of a release holds again what has not started (hub.store.replays.stop); that of a cancel leaves the rest alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from hub.store import DELIVERY, REPLAY, ROUTE_STATE
from hub.store.meant import DONE, Filter
from hub.store.reading import (
    PENDING,
    STUCK,
    blocked,
    blocked_routes,
    delivery_conditions,
    status_conditions,
)
from hub.store.replays import BATCH, before
from hub.store.routes import cancelled, released
from hub.store.stats import add_endings

# More than lies between two ticks.
MADE_UP = timedelta(seconds=2)


@dataclass(frozen=True)
class Step:
    """One batch of a change: the routes on which something is due now, and whether more can be done at once."""

    due: frozenset[str]
    more: bool


def count_open(connection: Connection, action: str, found: Filter, configured: Collection[str]) -> int:
    """How many deliveries a release (of what is held) or a cancel (of what is pending or held) would change."""
    held_up = blocked_routes(connection, configured)
    return sum(
        connection.execute(select(func.count()).select_from(DELIVERY).where(*each)).scalar_one()
        for each in _open_conditions(action, found, held_up)
    )


def _open_conditions(action: str, found: Filter, held_up: dict[str, str]) -> list[list[Any]]:
    """Conditions that together make what is meant; each list goes by one index."""
    held = [STUCK, DELIVERY.c.status == "held"]
    each: list[list[Any]] = []
    if action == "release":
        each = [held] if found.status in {None, "held"} else []
    elif found.status is None:
        each = [[PENDING], held]
    elif found.status not in DONE:
        each = status_conditions(found.status, held_up)
    return [[*one, *delivery_conditions(found)] for one in each]


def advance(connection: Connection, now: datetime, change: Row[Any], configured: Collection[str]) -> Step:
    """Release or cancel the next few, in the order of their ids: as many as its pace allows by now.

    Never more than were there when it began. `change` is its row, locked.
    """
    left = change.total - change.done
    begin, allowed = _allowed(change, now)
    most = min(BATCH, left, allowed)
    if most < 1 <= left:
        return Step(frozenset(), more=False)
    ids = _next_ids(connection, change, configured, most)
    rows = _locked(connection, change, ids)
    if change.action == "release":
        for row in rows:
            values = released(now, change.who) | {"replay_id": change.id, "before": before(row)}
            connection.execute(update(DELIVERY).where(DELIVERY.c.id == row.id).values(**values))
    else:
        meant = DELIVERY.c.id.in_([row.id for row in rows])
        connection.execute(update(DELIVERY).where(meant).values(**cancelled(change.who)))
        # One under way is counted when its attempt ends: it may still be delivered.
        add_endings(connection, now, [(row.route, "skipped") for row in rows if row.lease_until is None])
    ended = len(ids) < most or len(rows) == left
    progress = {"done": change.done + len(rows), "cursor": ids[-1] if ids else change.cursor}
    progress["state"] = "done" if ended else change.state
    if change.pace is not None:
        progress["next_at"] = begin + timedelta(seconds=len(rows) / change.pace)
    connection.execute(update(REPLAY).where(REPLAY.c.id == change.id).values(**progress))
    return Step(frozenset(row.route for row in rows), more=not ended)


def _allowed(change: Row[Any], now: datetime) -> tuple[datetime, int]:
    """How many its pace allows by now, and from when on that counts: what nobody did for longer is not made up for."""
    begin: datetime = max(change.next_at or change.at, now - MADE_UP)
    if change.pace is None:
        return begin, BATCH
    return begin, floor((now - begin).total_seconds() * change.pace) + 1


def _next_ids(connection: Connection, change: Row[Any], configured: Collection[str], most: int) -> list[str]:
    held_up = _still_held_up(connection, change, configured)
    ids: list[str] = []
    for each in _open_conditions(change.action, Filter.from_json(change.filter), held_up):
        query = select(DELIVERY.c.id).where(*each, DELIVERY.c.id > change.cursor).order_by(DELIVERY.c.id).limit(most)
        ids += connection.execute(query).scalars()
    return sorted(ids)[:most]


def _still_held_up(connection: Connection, change: Row[Any], configured: Collection[str]) -> dict[str, str]:
    """Routes that were held up when it began. What waits for one that is held up since was shown as pending."""
    states = connection.execute(select(ROUTE_STATE)).all()
    began = {row.route: [at for at in (row.paused_at, row.opened_at) if at is not None] for row in states}
    since = {route for route, moments in began.items() if moments and min(moments) > change.at}
    return blocked([row for row in states if row.route not in since & set(configured)], configured)


def _locked(connection: Connection, change: Row[Any], ids: list[str]) -> Sequence[Row[Any]]:
    """Those that are still open once nobody else can change them; in the order in which all lock."""
    statuses = ("held",) if change.action == "release" else ("pending", "held")
    query = select(DELIVERY).where(DELIVERY.c.id.in_(ids), DELIVERY.c.status.in_(statuses))
    return connection.execute(query.order_by(DELIVERY.c.id).with_for_update()).all()
