"""Which deliveries a replay, release or cancel means, and how many: counted before anything is done to them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from hub.clock import from_micros, to_micros
from hub.config import RESERVED_STORE
from hub.store import DELIVERY, EFFECT, EVENT, among
from hub.store.fan_out import RouteTerms
from hub.store.reading import DeliveryFilter

STUCK = ("dead", "held")
DONE = ("delivered", "dead", "skipped")
# What waits for a route that is gone from the config, as a filter's status.
GONE = "gone"


@dataclass(frozen=True)
class Filter(DeliveryFilter):
    """The same as it is kept: every given part must hold. `ids` are deliveries' or events'.

    `status` may be `gone` where they go along another route: those that wait for one that the config no longer has.
    """

    def as_json(self) -> dict[str, Any]:
        parts: dict[str, Any] = {name: value for name, value in asdict(self).items() if value}
        return {name: to_micros(part) if isinstance(part, datetime) else part for name, part in parts.items()}

    @classmethod
    def from_json(cls, parts: dict[str, Any]) -> "Filter":
        given: dict[str, Any] = dict(parts, ids=tuple(parts.get("ids", ())))
        for name in {"since", "until"} & given.keys():
            given[name] = from_micros(given[name])
        return cls(**given)


def matching(found: Filter) -> Any:
    """The filter as an SQL condition on deliveries. An id is a delivery's or an event's."""
    conditions = []
    if found.ids:
        conditions.append(or_(DELIVERY.c.id.in_(found.ids), DELIVERY.c.event_id.in_(found.ids)))
    for name in ("status", "route", "store", "entity", "error_key"):
        value = getattr(found, name)
        if value:
            conditions.append(DELIVERY.c[name] == value)
    if found.status in STUCK:
        # Said twice: so the index of the stuck ones is found.
        conditions.append(among(DELIVERY.c.status, *STUCK))
    if found.since:
        conditions.append(DELIVERY.c.created_at >= found.since)
    if found.until:
        conditions.append(DELIVERY.c.created_at <= found.until)
    return and_(True, *conditions)


def count(connection: Connection, found: Filter) -> dict[str, int]:
    """How many deliveries match, by status."""
    rows = connection.execute(
        select(DELIVERY.c.status, func.count().label("number")).where(matching(found)).group_by(DELIVERY.c.status)
    )
    return {row.status: row.number for row in rows}


def count_sent(connection: Connection, found: Filter) -> int:
    """How many of the matching deliveries have an effect: a replay that is not as new sends nothing for those."""
    sent = (
        select(func.count())
        .select_from(DELIVERY)
        .where(matching(found), DELIVERY.c.status.in_(DONE), has_needs(), _has_effect())
    )
    return connection.execute(sent).scalar_one()


def count_dropped(connection: Connection, found: Filter) -> int:
    """How many of the matching deliveries are done, but cannot be replayed: their event's body was dropped."""
    dropped = (
        select(func.count()).select_from(DELIVERY).where(matching(found), DELIVERY.c.status.in_(DONE), ~has_needs())
    )
    return connection.execute(dropped).scalar_one()


def has_needs() -> ColumnElement[bool]:
    """A delivery has what it needs: its event's body, or nothing but the entity where its connector reads the state."""
    whole = select(EVENT.c.id).where(EVENT.c.id == DELIVERY.c.event_id, EVENT.c.body.is_not(None)).exists()
    return or_(DELIVERY.c.reads_state, whole)


def _has_effect() -> ColumnElement[bool]:
    return select(EFFECT.c.scope).where(EFFECT.c.delivery_id == DELIVERY.c.id).exists()


def out_of_order(connection: Connection, found: Filter, routes: Sequence[str]) -> int:
    """How many of the matching deliveries come after what overtook them on these routes, which keep an order.

    Overtaken is what has a later delivery of its entity that is done and does not go again after it: one that the
    filter does not mean, or one that was delivered, which is found as done.
    """
    if not routes:
        return 0
    entity = (DELIVERY.c.route, DELIVERY.c.store, DELIVERY.c.entity)
    done = and_(DELIVERY.c.status.in_(DONE), DELIVERY.c.route.in_(routes), DELIVERY.c.entity.is_not(None))
    last = (
        select(
            *entity,
            func.max(case((matching(found), None), else_=DELIVERY.c.event_seq)).label("left"),
            func.max(case((DELIVERY.c.status == "delivered", DELIVERY.c.event_seq))).label("delivered"),
        )
        .where(done)
        .group_by(*entity)
        .subquery()
    )
    overtaken = or_(
        last.c.left > DELIVERY.c.event_seq,
        and_(DELIVERY.c.status != "delivered", last.c.delivered > DELIVERY.c.event_seq),
    )
    same = and_(*(column == last.c[column.name] for column in entity))
    query = (
        select(func.count()).select_from(DELIVERY).join(last, same).where(matching(found), done, overtaken, has_needs())
    )
    return connection.execute(query).scalar_one()


def routes_of(connection: Connection, found: Filter) -> list[str]:
    """The routes of the matching deliveries that a replay takes."""
    query = select(DELIVERY.c.route).where(matching(found), DELIVERY.c.status.in_(DONE)).distinct()
    return sorted(connection.execute(query).scalars())


def meant_along(found: Filter, to_route: str, routes: Sequence[str]) -> ColumnElement[bool]:
    """Which events go along `to_route`, as a condition on events; `routes` are those of the config.

    Those of the matching deliveries that are done, or that wait for a route which is gone. Where the filter speaks of
    nothing but events, these themselves, whatever became of them. Not those that are on their way there already.
    """
    there = and_(DELIVERY.c.event_id == EVENT.c.id, DELIVERY.c.route == to_route)
    under_way = or_(among(DELIVERY.c.status, "pending", "held"), DELIVERY.c.lease_until.is_not(None))
    return and_(_events_of(found, routes), ~select(DELIVERY.c.id).where(there, under_way).exists())


def _events_of(found: Filter, routes: Sequence[str]) -> ColumnElement[bool]:
    if found.status or found.route or found.error_key:
        meant = and_(among(DELIVERY.c.status, "pending", "held"), DELIVERY.c.route.not_in(routes))
        if found.status != GONE:
            meant = or_(meant, DELIVERY.c.status.in_(DONE))
        return EVENT.c.id.in_(select(DELIVERY.c.event_id).where(matching(stored(found)), meant))
    conditions: list[Any] = []
    if found.ids:
        of_deliveries = select(DELIVERY.c.event_id).where(DELIVERY.c.id.in_(found.ids))
        conditions.append(or_(EVENT.c.id.in_(found.ids), EVENT.c.id.in_(of_deliveries)))
    else:
        # The hub's own events are meant only where they are named.
        conditions.append(EVENT.c.store != RESERVED_STORE)
    conditions += [EVENT.c[name] == getattr(found, name) for name in ("store", "entity") if getattr(found, name)]
    if found.since:
        conditions.append(EVENT.c.received_at >= found.since)
    if found.until:
        conditions.append(EVENT.c.received_at <= found.until)
    return and_(*conditions)


def stored(found: Filter) -> Filter:
    """The filter without `gone`, which no row holds as its status."""
    return replace(found, status=None) if found.status == GONE else found


def count_along(
    connection: Connection, found: Filter, to_route: str, terms: Mapping[str, RouteTerms]
) -> tuple[int, int, int]:
    """How many events go along `to_route`, how many of them were sent there before, how many lost their body."""
    everything = meant_along(found, to_route, list(terms))
    meant = and_(everything, *_needs_body(terms[to_route]))
    all_events = connection.execute(select(func.count()).select_from(EVENT).where(everything)).scalar_one()
    events = connection.execute(select(func.count()).select_from(EVENT).where(meant)).scalar_one()
    there = select(DELIVERY.c.id).where(DELIVERY.c.event_id == EVENT.c.id, DELIVERY.c.route == to_route, _has_effect())
    sent = select(func.count()).select_from(EVENT).where(meant, there.exists())
    return events, connection.execute(sent).scalar_one(), all_events - events


def _needs_body(terms: RouteTerms) -> list[ColumnElement[bool]]:
    """What an event must have to go along a route of these terms."""
    return [] if terms.reads_state else [EVENT.c.body.is_not(None)]


def count_going(
    connection: Connection, found: Filter, to_route: str | None, terms: Mapping[str, RouteTerms]
) -> tuple[int, int]:
    """How many deliveries, or along another route events, a replay takes, and how many it cannot for lack of a body."""
    if to_route is not None:
        going, _, dropped = count_along(connection, found, to_route, terms)
        return going, dropped
    numbers, dropped = count(connection, found), count_dropped(connection, found)
    return sum(numbers.get(status, 0) for status in DONE) - dropped, dropped


def out_of_order_along(connection: Connection, found: Filter, to_route: str, routes: Sequence[str]) -> int:
    """How many of the events come to `to_route`, which keeps an order, after a later one of their entity is done."""
    there = select(DELIVERY.c.store, DELIVERY.c.entity, func.max(DELIVERY.c.event_seq).label("seq"))
    last = (
        there.where(DELIVERY.c.route == to_route, DELIVERY.c.status.in_(DONE), DELIVERY.c.entity.is_not(None))
        .group_by(DELIVERY.c.store, DELIVERY.c.entity)
        .subquery()
    )
    overtaken = and_(last.c.store == EVENT.c.store, last.c.entity == EVENT.c.entity, last.c.seq > EVENT.c.seq)
    own = and_(DELIVERY.c.event_id == EVENT.c.id, DELIVERY.c.route == to_route, DELIVERY.c.status == "delivered")
    meant = and_(meant_along(found, to_route, routes), ~select(DELIVERY.c.id).where(own).exists())
    query = select(func.count()).select_from(EVENT).join(last, overtaken).where(meant)
    return connection.execute(query).scalar_one()
