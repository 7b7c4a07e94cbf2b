"""Replays: sending again on purpose, one or many, in batches, with a pace; and stopping half-way."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, or_, select, update

from hub.clock import from_micros, new_id, to_micros
from hub.store import DELIVERY, EFFECT, EVENT, REPLAY, among
from hub.store.events import fresh_look
from hub.store.fan_out import RouteTerms, new_delivery
from hub.store.routes import audit

BATCH = 500
MOST_COUNTED = 20_000
STUCK = ("dead", "held")
DONE = ("delivered", "dead", "skipped")
MOVED = "moved"
GIVEN_BACK = ("status", "error_key", "last_error", "budget", "key_no", "lost", "replay_id")


@dataclass(frozen=True)
class Filter:
    """Which deliveries: every given part must hold. `since` and `until` bound the delivery's creation."""

    ids: tuple[str, ...] = ()
    status: str | None = None
    route: str | None = None
    store: str | None = None
    entity: str | None = None
    error_key: str | None = None
    since: datetime | None = None
    until: datetime | None = None

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
    sent = select(EFFECT.c.scope).where(EFFECT.c.delivery_id == DELIVERY.c.id).exists()
    return connection.execute(
        select(func.count()).select_from(DELIVERY).where(matching(found), DELIVERY.c.status.in_(DONE), sent)
    ).scalar_one()


def out_of_order(connection: Connection, found: Filter, routes: Sequence[str]) -> int:
    """How many of the matching deliveries belong to ordered routes, where a replay comes after what overtook it."""
    return connection.execute(
        select(func.count())
        .select_from(DELIVERY)
        .where(matching(found), DELIVERY.c.status.in_(DONE), DELIVERY.c.route.in_(routes))
    ).scalar_one()


def start(
    connection: Connection,
    now: datetime,
    who: str,
    found: Filter,
    *,
    to_route: str | None = None,
    as_new: bool = False,
    pace: float | None = None,
    most: int | None = None,
) -> str:
    """Begin a replay of what matches now; its id. The deliveries change batch by batch, in `advance`."""
    numbers = count(connection, found)
    total = sum(numbers.get(status, 0) for status in DONE)
    replay_id = new_id("rpl")
    connection.execute(
        REPLAY.insert().values(
            id=replay_id,
            who=who,
            at=now,
            filter=found.as_json(),
            to_route=to_route,
            as_new=as_new,
            pace=pace,
            most=most,
            state="running",
            cursor="",
            total=min(total, most) if most else total,
            done=0,
        )
    )
    audit(connection, now, who, "replay", replay=replay_id, filter=found.as_json(), to=to_route, as_new=as_new)
    return replay_id


def replay_event(
    connection: Connection,
    now: datetime,
    who: str,
    event_id: str,
    chosen: Sequence[str],
    terms: dict[str, RouteTerms],
    *,
    as_new: bool = False,
) -> tuple[str, list[str]]:
    """Send one event along these routes now, whatever their conditions; makes the deliveries that are missing.

    The replay's id, and the routes on which it is under way already or waits, which stay as they are.
    """
    event = connection.execute(select(EVENT).where(EVENT.c.id == event_id).with_for_update()).one()
    only = chosen[0] if len(chosen) == 1 else None
    replay_id = new_id("rpl")
    values = {"id": replay_id, "who": who, "at": now, "filter": Filter(ids=(event_id,)).as_json(), "to_route": only}
    connection.execute(REPLAY.insert().values(**values, as_new=as_new, state="done", cursor="", total=0, done=0))
    replay = connection.execute(select(REPLAY).where(REPLAY.c.id == replay_id)).one()
    taken = select(DELIVERY).where(DELIVERY.c.event_id == event_id).order_by(DELIVERY.c.id).with_for_update()
    there = {row.route: row for row in connection.execute(taken)}
    started = []
    for route in chosen:
        row = there.get(route)
        if row is None:
            _insert_along(connection, now, event, replay, route, now, terms[route])
        elif row.status in DONE and row.lease_until is None:
            again(connection, row, now, replay)
        else:
            continue
        started.append(route)
    number = len(started)
    connection.execute(update(REPLAY).where(REPLAY.c.id == replay_id).values(total=number, done=number))
    audit(connection, now, who, "replay", replay=replay_id, event=event_id, routes=started, as_new=as_new)
    return replay_id, [route for route in chosen if route not in started]


def list_replays(connection: Connection, limit: int, before: str | None = None) -> list[Row[Any]]:
    """Replays, newest first. `before`: only those with a smaller id."""
    query = select(REPLAY).order_by(REPLAY.c.id.desc()).limit(limit)
    return list(connection.execute(query if before is None else query.where(REPLAY.c.id < before)).all())


def became(connection: Connection, replay_id: str) -> dict[str, int]:
    """What became of a replay's deliveries so far, by status; of a large one, of the first ones alone."""
    some = select(DELIVERY.c.status).where(DELIVERY.c.replay_id == replay_id).limit(MOST_COUNTED).subquery()
    rows = connection.execute(select(some.c.status, func.count().label("number")).group_by(some.c.status))
    return {row.status: row.number for row in rows}


def running(connection: Connection) -> list[str]:
    return list(connection.execute(select(REPLAY.c.id).where(REPLAY.c.state == "running")).scalars())


def get(connection: Connection, replay_id: str) -> Row[Any] | None:
    return connection.execute(select(REPLAY).where(REPLAY.c.id == replay_id)).first()


def advance(connection: Connection, now: datetime, replay_id: str, terms: dict[str, RouteTerms]) -> set[str]:
    """Do the next batch of a running replay; the routes that have something due. Ends it when nothing is left."""
    replay = connection.execute(select(REPLAY).where(REPLAY.c.id == replay_id).with_for_update()).one()
    if replay.state != "running":
        return set()
    left = BATCH if replay.most is None else min(BATCH, replay.most - replay.done)
    rows = connection.execute(_next_batch(replay, left, list(terms))).all() if left > 0 else []
    for number, row in enumerate(rows, replay.done):
        due = now if replay.pace is None else max(now, replay.at + timedelta(seconds=number / replay.pace))
        if replay.to_route is None:
            again(connection, row, due, replay)
        else:
            along(connection, now, row, due, replay, terms[replay.to_route])
            if row.status not in DONE:
                move_away(connection, row, replay)
    ended = len(rows) < BATCH
    connection.execute(
        update(REPLAY)
        .where(REPLAY.c.id == replay_id)
        .values(
            cursor=rows[-1].id if rows else replay.cursor,
            done=replay.done + len(rows),
            state="done" if ended else "running",
        )
    )
    return {replay.to_route} if replay.to_route and rows else {row.route for row in rows}


def _next_batch(replay: Row[Any], left: int, routes: Sequence[str]) -> Select[Any]:
    """In the order of ids, which is that of their making; what came after the replay began is not meant.

    Along another route go also those that wait for a route which is gone from the config.
    """
    meant: Any = DELIVERY.c.status.in_(DONE)
    if replay.to_route is not None:
        meant = or_(meant, and_(among(DELIVERY.c.status, "pending", "held"), DELIVERY.c.route.not_in(routes)))
    return (
        select(DELIVERY)
        .where(
            matching(Filter.from_json(replay.filter)),
            meant,
            # One that was cancelled while under way is not done before its attempt is.
            DELIVERY.c.lease_until.is_(None),
            DELIVERY.c.id > replay.cursor,
            DELIVERY.c.created_at <= replay.at,
        )
        .order_by(DELIVERY.c.id)
        .limit(left)
        .with_for_update()
    )


def move_away(connection: Connection, row: Row[Any], replay: Row[Any]) -> None:
    """A delivery whose route is gone ends where it was; the event goes on along the other route."""
    reason = f"its route is gone; sent along {replay.to_route} by {replay.who}"
    connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == row.id)
        .values(
            status="skipped",
            next_attempt_at=None,
            error_key=MOVED,
            last_error=reason,
            replay_id=replay.id,
            before=_before(row),
        )
    )


def again(connection: Connection, row: Row[Any], due: datetime, replay: Row[Any]) -> None:
    """A done delivery is pending again: the same row and key, unless as new; attempts go on being numbered."""
    connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == row.id)
        .values(
            status="pending",
            budget=row.attempts + row.span,
            key_no=row.key_no + replay.as_new,
            next_attempt_at=due,
            lost=0,
            error_key=None,
            last_error=None,
            replay_id=replay.id,
            before=_before(row),
        )
    )


def along(
    connection: Connection, now: datetime, row: Row[Any], due: datetime, replay: Row[Any], terms: RouteTerms
) -> None:
    """Send the event along another route, whatever its conditions; makes the delivery if there is none."""
    there = connection.execute(
        select(DELIVERY)
        .where(DELIVERY.c.event_id == row.event_id, DELIVERY.c.route == replay.to_route)
        .with_for_update()
    ).first()
    if there is not None:
        # Once for each event, also where several of its deliveries are meant, in several batches.
        if there.status in DONE and there.lease_until is None and there.replay_id != replay.id:
            again(connection, there, due, replay)
        return
    event = connection.execute(select(EVENT).where(EVENT.c.id == row.event_id)).one()
    _insert_along(connection, now, event, replay, replay.to_route, due, terms)


def _insert_along(
    connection: Connection,
    now: datetime,
    event: Row[Any],
    replay: Row[Any],
    route: str,
    due: datetime,
    terms: RouteTerms,
) -> None:
    fresh = new_delivery(event, route, terms, now)
    fresh |= {"next_attempt_at": due, "replay_id": replay.id, "before": {"status": None, "attempts": 0}}
    connection.execute(DELIVERY.insert().values(**fresh))


def stop(connection: Connection, now: datetime, replay_id: str, who: str) -> int:
    """Stop a replay: what has not started is as before. How many those were."""
    connection.execute(update(REPLAY).where(REPLAY.c.id == replay_id).values(state="stopped"))
    rows = connection.execute(
        select(DELIVERY).where(DELIVERY.c.replay_id == replay_id).order_by(DELIVERY.c.id).with_for_update()
    ).all()
    waiting = [row for row in rows if _not_started(row)]
    for row in waiting:
        if row.before["status"] is None:
            connection.execute(delete(DELIVERY).where(DELIVERY.c.id == row.id))
        else:
            _give_back(connection, now, row)
    events = {row.event_id for row in waiting}
    for row in rows:
        if row.error_key == MOVED and row.event_id in events:
            _give_back(connection, now, row)
    audit(connection, now, who, "replay.stop", replay=replay_id, given_back=len(waiting))
    return len(waiting)


def _not_started(row: Row[Any]) -> bool:
    waits = row.status == "pending" and row.lease_until is None
    return bool(waits and row.before and row.attempts == row.before["attempts"])


def _before(row: Row[Any]) -> dict[str, Any]:
    """What `stop` gives back; `attempts` tells whether it has started since."""
    due = None if row.next_attempt_at is None else to_micros(row.next_attempt_at)
    return {name: getattr(row, name) for name in GIVEN_BACK} | {"attempts": row.attempts, "next_attempt_at": due}


def _give_back(connection: Connection, now: datetime, row: Row[Any]) -> None:
    due = row.before["next_attempt_at"]
    former: dict[str, Any] = {name: row.before[name] for name in GIVEN_BACK}
    former |= {"next_attempt_at": None if due is None else from_micros(due), "before": None}
    if row.again and (former["status"] == "delivered" or former["error_key"] == "skip"):
        # A repeat came while it waited: as before, it would have been looked at once more.
        former |= fresh_look(connection, now, row)
    connection.execute(update(DELIVERY).where(DELIVERY.c.id == row.id).values(**former))
