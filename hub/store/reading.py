"""Looking things up: lists, single records whole, and the numbers behind `hub status`. Nothing here writes.

Every list goes newest first and in pages: the next page begins `before` the last row of this one. The statuses of
open deliveries are written out as literals, since SQLite takes a partial index only where the query repeats the
index's own words.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    Select,
    and_,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    union_all,
)

from hub.clock import id_at
from hub.event import is_clean
from hub.store import ATTEMPT, DELIVERY, EFFECT, EVENT, EVENT_KEY, REPEAT, ROUTE_STATE, WORKER
from hub.store.refusals import refused_since

PENDING = text("delivery.status = 'pending'")
STUCK = text("delivery.status IN ('dead', 'held')")
FEW = 5_000
# How many events one page looks through for those with a certain outcome.
LOOKED_THROUGH = 2_000
# How far the clock that made an id may be from the hub's: a machine that is wrong by hours still loses nothing here.
SLACK = timedelta(days=1)
SAMPLED = 1_000
MOST_CAUSES = 50
EVENT_COLUMNS = (
    EVENT.c.seq, EVENT.c.id, EVENT.c.store, EVENT.c.type, EVENT.c.entity, EVENT.c.occurred_at, EVENT.c.received_at,
    EVENT.c.origin, EVENT.c.repeats, EVENT.c.last_repeat_at, EVENT.c.fanned_out_at,
)  # fmt: skip


@dataclass(frozen=True)
class EventFilter:
    """Which events; every given part must hold. `type` may end in `*`; `q` is an id, an entity or a search value."""

    store: str | None = None
    type: str | None = None
    entity: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None


@dataclass(frozen=True)
class DeliveryFilter:
    """Which deliveries. `status` is one of the stored ones, or `paused`, `broken`, `gone`: held by their route.

    `held` means those three too. `ids` are deliveries'.
    """

    status: str | None = None
    route: str | None = None
    store: str | None = None
    entity: str | None = None
    error_key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class WholeDelivery:
    """A delivery with its attempts and effects, oldest first."""

    delivery: Row[Any]
    attempts: list[Row[Any]]
    effects: list[Row[Any]]


@dataclass(frozen=True)
class WholeEvent:
    """An event with all that became of it."""

    event: Row[Any]
    deliveries: list[WholeDelivery]
    repeats: list[Row[Any]]


@dataclass(frozen=True)
class Standing:
    """How the hub stands. `counts` by route and status; `oldest_due` by route, of what nobody has under way.

    `under_way` by route are the pending ones under a lease.
    `refused` are the last 24 hours' and `refused_now` those since the hour before this one began; `dead` has route,
    error_key, count and one of the reasons.
    """

    states: dict[str, Row[Any]]
    counts: dict[str, dict[str, int]]
    under_way: dict[str, int]
    oldest_due: dict[str, datetime]
    waiting: int
    oldest_waiting: datetime | None
    workers: list[Row[Any]]
    refused: list[dict[str, Any]]
    refused_now: list[dict[str, Any]]
    dead: list[Row[Any]]


def list_events(
    connection: Connection, found: EventFilter, limit: int = 50, before: int | None = None
) -> list[Row[Any]]:
    """Events, newest first. `before`: only those with a smaller `seq`."""
    query: Select[Any] = select(*EVENT_COLUMNS).where(*_event_conditions(connection, found))
    if before is not None:
        query = query.where(EVENT.c.seq < before)
    return list(connection.execute(query.order_by(EVENT.c.seq.desc()).limit(limit)).all())


def list_events_by_outcome(
    connection: Connection,
    found: EventFilter,
    outcome: str,
    configured: Collection[str],
    limit: int = 50,
    before: int | None = None,
) -> tuple[list[Row[Any]], int | None]:
    """Events with that outcome, newest first, and the `before` of the next page, None if there is none.

    `outcome`: one of their deliveries is `dead`, `held` or `pending` as shown; all are `delivered`; or `not_taken`,
    none was made. A page looks through a bounded number of events: it may be short, even empty, with more to come.
    """
    held_up = blocked_routes(connection, configured)
    conditions = _event_conditions(connection, found)
    if before is not None:
        conditions.append(EVENT.c.seq < before)
    if outcome in {"dead", "held", "pending"}:
        ids = union_all(*(select(DELIVERY.c.event_id).where(*each) for each in status_conditions(outcome, held_up)))
        counted = select(func.count()).select_from(ids.limit(FEW + 1).subquery())
        if connection.execute(counted).scalar_one() <= FEW:
            query: Select[Any] = select(*EVENT_COLUMNS).where(*conditions, EVENT.c.id.in_(ids))
            rows = connection.execute(query.order_by(EVENT.c.seq.desc()).limit(limit + 1)).all()
            return list(rows[:limit]), rows[limit - 1].seq if len(rows) > limit else None
    near = select(*EVENT_COLUMNS).where(*conditions).order_by(EVENT.c.seq.desc()).limit(LOOKED_THROUGH).subquery()
    query = select(near).where(_came_to(outcome, near.c, held_up)).order_by(near.c.seq.desc()).limit(limit)
    rows = connection.execute(query).all()
    if len(rows) == limit:
        return list(rows), rows[-1].seq
    seen = connection.execute(select(func.count(), func.min(near.c.seq)).select_from(near)).one()
    return list(rows), seen[1] if seen[0] == LOOKED_THROUGH else None


def _came_to(outcome: str, event: Any, held_up: Collection[str]) -> Any:
    """The condition that an event's deliveries came to that outcome."""
    ours = DELIVERY.c.event_id == event.id
    held = and_(DELIVERY.c.status == "pending", DELIVERY.c.route.in_(held_up), DELIVERY.c.lease_until.is_(None))
    match outcome:
        case "dead":
            return exists().where(ours, DELIVERY.c.status == "dead")
        case "held":
            return exists().where(ours, or_(DELIVERY.c.status == "held", held))
        case "pending":
            return exists().where(ours, DELIVERY.c.status == "pending", ~held)
        case "delivered":
            done = exists().where(ours, DELIVERY.c.status == "delivered")
            return and_(done, ~exists().where(ours, DELIVERY.c.status.not_in(("delivered", "skipped"))))
    return and_(event.fanned_out_at.is_not(None), ~exists().where(ours))


def _event_conditions(connection: Connection, found: EventFilter) -> list[Any]:
    conditions: list[Any] = _seq_bounds(connection, found)
    if found.store is not None:
        # Else SQLite reads all of the store's events by the index of their keys, and sorts them.
        conditions.append(EVENT.c.store.concat("") == found.store)
    if found.type is not None and found.type.endswith("*"):
        conditions.append(EVENT.c.type.startswith(found.type[:-1], autoescape=True))
    elif found.type is not None:
        conditions.append(EVENT.c.type == found.type)
    if found.entity is not None:
        conditions.append(EVENT.c.entity == found.entity)
        conditions += [EVENT.c.id.in_(ids) for ids in _ids_of_entity(found.entity)]
    if found.q is not None:
        conditions.append(EVENT.c.id.in_(_ids_found(found.q)))
    return conditions


def _seq_bounds(connection: Connection, found: EventFilter) -> list[Any]:
    """The times, and bounds on `seq` that keep the search near them: ids begin with their time, and are indexed.

    Events that came at the same moment may have ids and numbers in different order, clocks may differ: hence the
    slack, and the many that are asked.
    """
    conditions: list[Any] = []
    if found.since is not None:
        near = select(EVENT.c.seq).where(EVENT.c.id >= id_at("evt", found.since - SLACK)).order_by(EVENT.c.id)
        first = connection.execute(select(func.min(near.limit(SAMPLED).subquery().c.seq))).scalar()
        conditions += [EVENT.c.received_at >= found.since, EVENT.c.seq >= (first or 0)]
    if found.until is not None:
        near = select(EVENT.c.seq).where(EVENT.c.id <= id_at("evt", found.until + SLACK)).order_by(EVENT.c.id.desc())
        last = connection.execute(select(func.max(near.limit(SAMPLED).subquery().c.seq))).scalar()
        conditions += [EVENT.c.received_at <= found.until, EVENT.c.seq <= (last or 0)]
    return conditions


def _ids_of_entity(entity: str) -> list[CompoundSelect[Any]]:
    """The ids among which those of an entity's events are: found by its search key, or still to be fanned out.

    None for an entity that is not indexed.
    """
    kind, _, value = entity.partition(":")
    if not (kind and value and is_clean(value)):
        return []
    keyed = select(EVENT_KEY.c.event_id).where(EVENT_KEY.c.value == value, EVENT_KEY.c.kind == kind)
    return [union_all(keyed, _waiting_ids())]


def _waiting_ids() -> Select[Any]:
    return select(EVENT.alias("waiting").c.id).where(text("waiting.fanned_out_at IS NULL"))


def _ids_found(q: str) -> CompoundSelect[Any]:
    """The ids of the events that `q` may mean, by index alone."""
    values = sorted({q, q.lower()})
    entity = EVENT.alias("waiting")
    kind, _, value = q.partition(":")
    parts: list[Select[Any]] = [
        select(literal(q)),
        select(EVENT_KEY.c.event_id).where(EVENT_KEY.c.value.in_(values)),
        select(EVENT_KEY.c.event_id).where(EVENT_KEY.c.value == value, EVENT_KEY.c.kind == kind),
        select(DELIVERY.c.event_id).where(DELIVERY.c.id == q),
        select(REPEAT.c.event_id).where(REPEAT.c.id == q),
        select(entity.c.id).where(
            text("waiting.fanned_out_at IS NULL"),
            or_(entity.c.entity == q, entity.c.entity.endswith(f":{q}", autoescape=True)),
        ),
    ]
    return union_all(*parts)


def deliveries_of(connection: Connection, event_ids: Sequence[str]) -> list[Row[Any]]:
    """The deliveries of these events, in the order of their making."""
    query = select(DELIVERY).where(DELIVERY.c.event_id.in_(event_ids)).order_by(DELIVERY.c.id)
    return list(connection.execute(query).all())


def blocked_routes(connection: Connection, configured: Collection[str]) -> dict[str, str]:
    """Routes whose deliveries are shown as held, and why: `gone` from the config, `paused`, or `broken`."""
    return blocked(connection.execute(select(ROUTE_STATE)).all(), configured)


def blocked(states: Iterable[Row[Any]], configured: Collection[str]) -> dict[str, str]:
    """The same from the routes' states."""
    found = {}
    for state in states:
        if state.route not in configured:
            found[state.route] = "gone"
        elif state.paused_at is not None:
            found[state.route] = "paused"
        elif state.opened_at is not None:
            found[state.route] = "broken"
    return found


def list_deliveries(
    connection: Connection,
    found: DeliveryFilter,
    configured: Collection[str],
    limit: int = 50,
    before: str | None = None,
) -> list[Row[Any]]:
    """Deliveries with their event's `type`, newest first. `before`: only those with a smaller id."""
    conditions = delivery_conditions(found)
    if before is not None:
        conditions.append(DELIVERY.c.id < before)
    rows: list[Row[Any]] = []
    for status in status_conditions(found.status, blocked_routes(connection, configured)):
        rows += connection.execute(_page(connection, found, [*status, *conditions], limit)).all()
    return sorted(rows, key=lambda row: str(row.id), reverse=True)[:limit]


def delivery_conditions(found: DeliveryFilter) -> list[Any]:
    """The filter, its status apart, as conditions on deliveries."""
    conditions: list[Any] = [
        DELIVERY.c[name] == getattr(found, name)
        for name in ("route", "store", "entity", "error_key")
        if getattr(found, name) is not None
    ]
    if found.ids:
        conditions.append(DELIVERY.c.id.in_(found.ids))
    if found.entity is not None:
        conditions += [DELIVERY.c.event_id.in_(ids) for ids in _ids_of_entity(found.entity)]
    if found.since is not None:
        # No bound on ids: one tells when its event came, and the delivery may have been made long after that.
        conditions.append(DELIVERY.c.created_at >= found.since)
    if found.until is not None:
        conditions += [DELIVERY.c.created_at <= found.until, DELIVERY.c.id <= id_at("dlv", found.until + SLACK)]
    return conditions


def status_conditions(status: str | None, blocked: dict[str, str]) -> list[list[Any]]:
    """Conditions that together make the shown status; each list goes by one index."""
    waiting = DELIVERY.c.lease_until.is_(None)
    match status:
        case None:
            return [[]]
        case "pending":
            return [[PENDING, or_(DELIVERY.c.route.not_in(blocked), ~waiting)]]
        case "held":
            return [[STUCK, DELIVERY.c.status == "held"], [PENDING, DELIVERY.c.route.in_(blocked), waiting]]
        case "dead":
            return [[STUCK, DELIVERY.c.status == "dead"]]
        case "paused" | "broken" | "gone":
            routes = [route for route, why in blocked.items() if why == status]
            return [[PENDING, DELIVERY.c.route.in_(routes), waiting]]
    return [[DELIVERY.c.status == status]]


def _page(connection: Connection, found: DeliveryFilter, conditions: list[Any], limit: int) -> Select[Any]:
    """Few are sorted after the index has found them; of many the newest are found in the order of ids."""
    few = found.entity is not None
    if not few and found.status not in {None, "delivered", "skipped"}:
        some: Select[Any] = select(literal_column("1")).select_from(DELIVERY).where(*conditions).limit(FEW + 1)
        few = connection.execute(select(func.count()).select_from(some.subquery())).scalar_one() <= FEW
    order = DELIVERY.c.id.concat("") if few else DELIVERY.c.id
    newest = select(DELIVERY).where(*conditions).order_by(order.desc()).limit(limit).subquery()
    return select(newest, EVENT.c.type).join(EVENT, EVENT.c.id == newest.c.event_id)


def get_event(connection: Connection, event_id: str) -> WholeEvent | None:
    """One event whole."""
    event = connection.execute(select(EVENT).where(EVENT.c.id == event_id)).first()
    if event is None:
        return None
    repeats = connection.execute(select(REPEAT).where(REPEAT.c.event_id == event_id).order_by(REPEAT.c.id)).all()
    return WholeEvent(event, _whole(connection, deliveries_of(connection, [event_id])), list(repeats))


def has_body(connection: Connection, event_id: str) -> bool | None:
    """Whether an event still has its body; None if there is no such event."""
    return connection.execute(select(EVENT.c.body.is_not(None)).where(EVENT.c.id == event_id)).scalar()


def get_delivery(connection: Connection, delivery_id: str) -> WholeDelivery | None:
    """One delivery whole."""
    rows = connection.execute(select(DELIVERY).where(DELIVERY.c.id == delivery_id)).all()
    return _whole(connection, rows)[0] if rows else None


def type_of(connection: Connection, event_id: str) -> str | None:
    """The event's type."""
    return connection.execute(select(EVENT.c.type).where(EVENT.c.id == event_id)).scalar()


def known_deliveries(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are a delivery's."""
    return set(connection.execute(select(DELIVERY.c.id).where(DELIVERY.c.id.in_(ids))).scalars())


def known_routes(connection: Connection, configured: Collection[str]) -> list[str]:
    """The routes of the config, and those that are gone from it."""
    return sorted({*configured, *connection.execute(select(ROUTE_STATE.c.route)).scalars()})


def known_stores(connection: Connection, configured: Collection[str]) -> list[str]:
    """The stores of the config, and those whose events are here."""
    return sorted({*configured, *connection.execute(select(EVENT.c.store).distinct()).scalars()})


def known_errors(connection: Connection) -> list[str]:
    """Every error that some delivery has or ended with."""
    query = select(DELIVERY.c.error_key).where(DELIVERY.c.error_key.is_not(None)).distinct()
    return sorted(connection.execute(query).scalars())


def unknown_ids(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Those that are neither a delivery's nor an event's."""
    known = select(DELIVERY.c.id).where(DELIVERY.c.id.in_(ids)), select(EVENT.c.id).where(EVENT.c.id.in_(ids))
    found = set(connection.execute(union_all(*known)).scalars())
    return [one for one in ids if one not in found]


def _whole(connection: Connection, deliveries: Sequence[Row[Any]]) -> list[WholeDelivery]:
    ids = [row.id for row in deliveries]
    tried = select(ATTEMPT).where(ATTEMPT.c.delivery_id.in_(ids)).order_by(ATTEMPT.c.delivery_id, ATTEMPT.c.number)
    done = select(EFFECT).where(EFFECT.c.delivery_id.in_(ids)).order_by(EFFECT.c.at)
    attempts, effects = connection.execute(tried).all(), connection.execute(done).all()
    return [
        WholeDelivery(
            row,
            [attempt for attempt in attempts if attempt.delivery_id == row.id],
            [effect for effect in effects if effect.delivery_id == row.id],
        )
        for row in deliveries
    ]


def blocking(connection: Connection, delivery: Row[Any]) -> Row[Any] | None:
    """The delivery behind which one of an ordered route waits: an earlier one of its entity that is still open."""
    same = and_(
        DELIVERY.c.route == delivery.route, DELIVERY.c.store == delivery.store, DELIVERY.c.entity == delivery.entity
    )
    earlier = (
        select(DELIVERY)
        .where(
            same, text("delivery.status IN ('pending', 'held')"), DELIVERY.c.event_seq < delivery.event_seq
        )
        .order_by(DELIVERY.c.event_seq)
        .limit(1)
    )  # fmt: skip
    leased = select(DELIVERY).where(same, DELIVERY.c.lease_until.is_not(None), DELIVERY.c.id != delivery.id).limit(1)
    return connection.execute(earlier).first() or connection.execute(leased).first()


def first_waiting(connection: Connection) -> int | None:
    """The number of the oldest event that is not fanned out yet."""
    return connection.execute(select(func.min(EVENT.c.seq)).where(EVENT.c.fanned_out_at.is_(None))).scalar()


def standing(connection: Connection, now: datetime, ordered: Collection[str]) -> Standing:
    """The numbers behind `hub status`. `ordered`: the routes that keep the order of each entity."""
    states = {row.route: row for row in connection.execute(select(ROUTE_STATE).order_by(ROUTE_STATE.c.route))}
    due = {route: oldest_due(connection, now, route, route in ordered) for route in states}
    waiting = connection.execute(select(func.count()).where(EVENT.c.fanned_out_at.is_(None))).scalar_one()
    oldest = select(EVENT.c.received_at).where(EVENT.c.fanned_out_at.is_(None)).order_by(EVENT.c.seq).limit(1)
    hour = now.replace(minute=0, second=0, microsecond=0)
    return Standing(
        states=states,
        counts=_counts(connection),
        under_way=_under_way(connection),
        oldest_due={route: moment for route, moment in due.items() if moment is not None},
        waiting=waiting,
        oldest_waiting=connection.execute(oldest).scalar(),
        workers=list(connection.execute(select(WORKER).order_by(WORKER.c.id)).all()),
        refused=refused_since(connection, now - timedelta(hours=24)),
        refused_now=refused_since(connection, hour - timedelta(hours=1)),
        dead=_dead(connection),
    )


def _counts(connection: Connection) -> dict[str, dict[str, int]]:
    numbers: dict[str, dict[str, int]] = {}
    for status in (PENDING, STUCK):
        grouped = (
            select(DELIVERY.c.route, DELIVERY.c.status, func.count().label("number"))
            .where(status)
            .group_by(DELIVERY.c.route, DELIVERY.c.status)
        )
        for row in connection.execute(grouped):
            numbers.setdefault(row.route, {})[row.status] = row.number
    return numbers


def _under_way(connection: Connection) -> dict[str, int]:
    leased = text("delivery.lease_until IS NOT NULL")
    grouped = select(DELIVERY.c.route, func.count().label("number")).where(leased, DELIVERY.c.status == "pending")
    return {row.route: row.number for row in connection.execute(grouped.group_by(DELIVERY.c.route))}


def _dead(connection: Connection) -> list[Row[Any]]:
    grouped = (
        select(
            DELIVERY.c.route,
            DELIVERY.c.error_key,
            func.count().label("count"),
            func.max(DELIVERY.c.last_error).label("reason"),
        )
        .where(STUCK, DELIVERY.c.status == "dead")
        .group_by(DELIVERY.c.route, DELIVERY.c.error_key)
        .order_by(func.count().desc(), DELIVERY.c.route, DELIVERY.c.error_key)
        .limit(MOST_CAUSES)
    )
    return list(connection.execute(grouped).all())


def oldest_due(
    connection: Connection, now: datetime, route: str, ordered: bool, besides: str | None = None
) -> datetime | None:
    """Since when the route's oldest due delivery waits; on an ordered route, that of the first of each entity.

    `besides`: a store whose events do not count.
    """
    due: list[Any] = [PENDING, DELIVERY.c.route == route, DELIVERY.c.next_attempt_at <= now]
    if besides is not None:
        due.append(DELIVERY.c.store != besides)
    if ordered:
        other = DELIVERY.alias("other")
        due.append(
            ~select(other.c.id)
            .where(
                text("other.status IN ('pending', 'held')"),
                other.c.route == route,
                other.c.entity == DELIVERY.c.entity,
                other.c.store == DELIVERY.c.store,
                other.c.event_seq < DELIVERY.c.event_seq,
            )
            .exists()
        )
    query = select(DELIVERY.c.next_attempt_at).where(*due).order_by(DELIVERY.c.next_attempt_at).limit(1)
    return connection.execute(query).scalar()
