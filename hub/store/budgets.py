"""Each store's hour of requests, one row that all processes share; hub.hour has the arithmetic."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from hub.clock import from_micros, to_micros
from hub.hour import Grant, Holding, Hour, Report, settle
from hub.store import STORE_BUDGET, insert_into


def settle_budgets(connection: Connection, now: datetime, items: Sequence[Report]) -> list[Grant]:
    """Take what processes report of their stores' hours, and give each what it gets."""
    before = _locked(connection, sorted({item.store for item in items}))
    hours, grants = dict(before), []
    for item in items:
        hours[item.store], grant = settle(hours[item.store], item, now)
        grants.append(grant)
    for store in sorted(hours):
        if hours[store] != before[store]:
            values = _columns(hours[store])
            connection.execute(update(STORE_BUDGET).where(STORE_BUDGET.c.store == store).values(values))
    return grants


def budgets(connection: Connection) -> dict[str, Hour]:
    """Each store's hour, of those that anything was ever asked of."""
    return {row.store: _hour(row) for row in connection.execute(select(STORE_BUDGET))}


def _locked(connection: Connection, stores: Iterable[str]) -> dict[str, Hour]:
    """The stores' hours, their rows locked in one order and made where there are none."""
    found = {}
    for store in stores:
        query = select(STORE_BUDGET).where(STORE_BUDGET.c.store == store).with_for_update()
        row = connection.execute(query).first()
        if row is None:
            # Of several processes that ask at once each may be the first.
            insert = insert_into(connection, STORE_BUDGET)
            connection.execute(insert.values(store=store, **_columns(Hour())).on_conflict_do_nothing())
            row = connection.execute(query).one()
        found[store] = _hour(row)
    return found


def _hour(row: Row[Any]) -> Hour:
    held = {process: Holding(count, from_micros(at)) for process, (count, at) in (row.held or {}).items()}
    plain = (row.number, row.allowed, row.ends_at, row.told, row.refused, row.given, row.remaining)
    return Hour(*plain, held, row.spent or {})


def _columns(hour: Hour) -> dict[str, Any]:
    return {
        "number": hour.number,
        "allowed": hour.allowed,
        "ends_at": hour.ends,
        "told": hour.told,
        "refused": hour.refused,
        "given": hour.given,
        "remaining": hour.remaining,
        "held": {process: [one.count, to_micros(one.at)] for process, one in hour.held.items()},
        "spent": dict(hour.spent),
    }
