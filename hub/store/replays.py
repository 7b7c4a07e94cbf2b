"""Replays: sending again on purpose, one or many, in batches, with a pace; and stopping half-way."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    and_,
    delete,
    func,
    or_,
    select,
    type_coerce,
    update,
)

from hub.clock import from_micros, new_id, to_micros
from hub.store import DELIVERY, EVENT, REPLAY, insert_into
from hub.store.events import fresh_look
from hub.store.fan_out import RouteTerms, new_delivery
from hub.store.meant import DONE, Filter, has_needs, matching, meant_along, stored
from hub.store.routes import audit
from hub.store.stats import add_endings

BATCH = 500
MOVED = "moved"
MOST_COUNTED = 20_000
GIVEN_BACK = ("status", "error_key", "last_error", "budget", "key_no", "lost", "replay_id", "released_by")
MOMENTS_GIVEN_BACK = ("next_attempt_at", "released_at")
# What each action's row is called while it goes on. A worker of an older version knows replays alone, and goes on with
# whatever is `running`: a cancel must not be.
GOING_ON = {"replay": "running", "release": "changing", "cancel": "changing"}
# Of many, a stop gives back batch by batch. One that was cut short is asked for again.
STOPPING = "stopping"


def start(
    connection: Connection,
    now: datetime,
    who: str,
    found: Filter,
    *,
    total: int,
    action: str = "replay",
    to_route: str | None = None,
    as_new: bool = False,
    pace: float | None = None,
    most: int | None = None,
    replay_id: str | None = None,
) -> str:
    """Begin a replay, release or cancel of what matches now, `total` as `count_going` or `count_open` says; its id.

    The deliveries change batch by batch, in `advance`, or in that of hub.store.changes. One of that `replay_id` that
    has begun already is not begun again.
    """
    total = min(total, most) if most else total
    replay_id = replay_id or new_id("rpl")
    fresh = _inserted(
        connection,
        id=replay_id,
        who=who,
        at=now,
        filter=found.as_json(),
        to_route=to_route,
        as_new=as_new,
        pace=pace,
        most=most,
        action=action,
        state=GOING_ON[action],
        cursor="",
        total=total,
        done=0,
    )
    if not fresh:
        return replay_id
    only_of_replays = {"to": to_route, "as_new": as_new} if action == "replay" else {}
    detail = {"replay": replay_id, "filter": found.as_json(), "count": total, "pace": pace} | only_of_replays
    audit(connection, now, who, action, **detail)
    return replay_id


def _inserted(connection: Connection, **values: Any) -> bool:
    """Make a replay's row; False where there is one of that id."""
    insert = insert_into(connection, REPLAY)
    return bool(connection.execute(insert.values(**values).on_conflict_do_nothing()).rowcount)


def replay_event(
    connection: Connection,
    now: datetime,
    who: str,
    event_id: str,
    chosen: Sequence[str],
    terms: dict[str, RouteTerms],
    *,
    as_new: bool = False,
    replay_id: str | None = None,
) -> tuple[str, list[str]]:
    """Send one event along these routes now, whatever their conditions; makes the deliveries that are missing.

    The replay's id, and the routes on which it is under way already or waits, which stay as they are: all of them
    where a replay of that `replay_id` has begun already.
    """
    event = connection.execute(select(EVENT).where(EVENT.c.id == event_id).with_for_update()).one()
    only = chosen[0] if len(chosen) == 1 else None
    replay_id = replay_id or new_id("rpl")
    values = {"id": replay_id, "who": who, "at": now, "filter": Filter(ids=(event_id,)).as_json(), "to_route": only}
    if not _inserted(connection, **values, as_new=as_new, state="done", cursor="", total=0, done=0):
        return replay_id, list(chosen)
    replay = connection.execute(select(REPLAY).where(REPLAY.c.id == replay_id)).one()
    taken = select(DELIVERY).where(DELIVERY.c.event_id == event_id).order_by(DELIVERY.c.id).with_for_update()
    there = {row.route: row for row in connection.execute(taken)}
    started = []
    for route in chosen:
        row = there.get(route)
        if event.body is None and not reads_state(row, terms[route]):
            # Retention came first: what is due must have its event's body.
            continue
        if row is None:
            _insert_along(connection, now, event, replay, route, now, terms[route])
        elif row.status in DONE and row.lease_until is None:
            again(connection, row, now, replay, terms.get(route))
        else:
            continue
        started.append(route)
    number = len(started)
    connection.execute(update(REPLAY).where(REPLAY.c.id == replay_id).values(total=number, done=number))
    audit(connection, now, who, "replay", replay=replay_id, event=event_id, routes=started, as_new=as_new)
    return replay_id, [route for route in chosen if route not in started]


def running(connection: Connection) -> list[str]:
    """What is not done yet, oldest first: replays, releases and cancels."""
    found = select(REPLAY.c.id).where(REPLAY.c.state.in_(GOING_ON.values())).order_by(REPLAY.c.id)
    return list(connection.execute(found).scalars())


def lock(connection: Connection, replay_id: str) -> Row[Any]:
    """A replay's row, which nobody else changes until this transaction ends."""
    return connection.execute(select(REPLAY).where(REPLAY.c.id == replay_id).with_for_update()).one()


def get(connection: Connection, replay_id: str) -> Row[Any] | None:
    return connection.execute(select(REPLAY).where(REPLAY.c.id == replay_id)).first()


def get_all(connection: Connection, ids: Collection[str]) -> dict[str, Row[Any]]:
    """These replays by their ids."""
    rows = connection.execute(select(REPLAY).where(REPLAY.c.id.in_(ids))) if ids else ()
    return {row.id: row for row in rows}


def reads_state(row: Row[Any] | None, terms: RouteTerms) -> bool:
    """Whether a delivery along the route needs only the entity; `row` is the one that is there already, if any."""
    return terms.reads_state if row is None else bool(row.reads_state)


def list_replays(connection: Connection, limit: int, before: str | None = None) -> list[Row[Any]]:
    """Replays, newest first. `before`: only those with a smaller id."""
    query = select(REPLAY).order_by(REPLAY.c.id.desc()).limit(limit)
    return list(connection.execute(query if before is None else query.where(REPLAY.c.id < before)).all())


def list_sending(connection: Connection, now: datetime) -> list[Row[Any]]:
    """Replays that are not over, oldest first: still being set going, or spread over a time that goes on."""
    lasts = to_micros(now) - type_coerce(REPLAY.c.at, BigInteger)
    spread = and_(
        REPLAY.c.action == "replay", REPLAY.c.state == "done", REPLAY.c.pace.is_not(None),
        REPLAY.c.total / REPLAY.c.pace * 1_000_000 > lasts,
    )  # fmt: skip
    going_on = REPLAY.c.state.in_((*GOING_ON.values(), STOPPING))
    rows = connection.execute(select(REPLAY).where(or_(going_on, spread)).order_by(REPLAY.c.id)).all()
    return [row for row in rows if row.state != "done" or last_due(row) > now]


def state_of(replay: Row[Any]) -> str:
    """`running`, `done` or `stopped`, whatever its action; it is stopped once all is given back."""
    return "running" if replay.state in {*GOING_ON.values(), STOPPING} else str(replay.state)


def last_due(replay: Row[Any]) -> datetime:
    """When the last of a replay is due: a paced one is spread over time."""
    last: datetime = _due(replay, max(replay.total - 1, 0), replay.at)
    return last


def became(connection: Connection, replay_id: str) -> dict[str, int]:
    """What became of a replay's deliveries so far, by status; of a large one, of the first ones alone."""
    own = and_(DELIVERY.c.replay_id == replay_id, func.coalesce(DELIVERY.c.error_key, "") != MOVED)
    some = select(DELIVERY.c.status).where(own).limit(MOST_COUNTED).subquery()
    rows = connection.execute(select(some.c.status, func.count().label("number")).group_by(some.c.status))
    return {row.status: row.number for row in rows}


def advance(connection: Connection, now: datetime, replay: Row[Any], terms: dict[str, RouteTerms]) -> set[str]:
    """Do the next batch of a running replay; the routes that have something due. Ends it when nothing is left.

    `replay` is its row, locked.
    """
    if replay.to_route is not None and replay.to_route not in terms:
        # The config has changed since it began: what it did stays, the rest has nowhere to go.
        connection.execute(update(REPLAY).where(REPLAY.c.id == replay.id).values(state="stopped"))
        audit(connection, now, replay.who, "replay.stop", replay=replay.id, reason=f"route {replay.to_route} is gone")
        return set()
    # However few it may still take: those without a body are passed by, so many in a transaction.
    rows = _next_batch(connection, replay, list(terms))
    left = BATCH if replay.most is None else replay.most - replay.done
    going = _sendable(connection, replay, rows, terms)[:left]
    dues = [_due(replay, number, now) for number in range(replay.done, replay.done + len(going))]
    if replay.to_route is None:
        for row, due in zip(going, dues, strict=True):
            again(connection, row, due, replay, terms.get(row.route))
    else:
        _all_along(connection, now, replay, list(zip(going, dues, strict=True)), terms)
    ended = len(rows) < BATCH or (replay.most is not None and len(going) >= left)
    connection.execute(
        update(REPLAY)
        .where(REPLAY.c.id == replay.id)
        .values(
            cursor=rows[-1].id if rows else replay.cursor,
            done=replay.done + len(going),
            state="done" if ended else "running",
        )
    )
    return {replay.to_route} if replay.to_route and going else {row.route for row in going}


def _due(replay: Row[Any], number: int, now: datetime) -> datetime:
    return now if replay.pace is None else max(now, replay.at + timedelta(seconds=number / replay.pace))


def _sendable(
    connection: Connection, replay: Row[Any], rows: Sequence[Row[Any]], terms: Mapping[str, RouteTerms]
) -> Sequence[Row[Any]]:
    """Those of a batch that have what they need. Looked at after they are locked: see hub.store.keeping."""
    if replay.to_route is not None:
        return [row for row in rows if row.body is not None or terms[replay.to_route].reads_state]
    ids = [row.id for row in rows]
    found = set(connection.execute(select(DELIVERY.c.id).where(DELIVERY.c.id.in_(ids), has_needs())).scalars())
    return [row for row in rows if row.id in found]


def _next_batch(connection: Connection, replay: Row[Any], routes: Sequence[str]) -> Sequence[Row[Any]]:
    """The next deliveries, or along another route the next events; also those without a body.

    In the order of ids, which is that of their making; what came after the replay began is not meant.
    """
    found = Filter.from_json(replay.filter)
    if replay.to_route is not None:
        query = select(EVENT).where(
            meant_along(found, replay.to_route, routes), EVENT.c.id > replay.cursor, EVENT.c.received_at <= replay.at
        )
        # Locked: nobody may drop its body before its delivery is there.
        return connection.execute(query.order_by(EVENT.c.id).limit(BATCH).with_for_update()).all()
    return connection.execute(
        select(DELIVERY)
        .where(
            matching(found),
            DELIVERY.c.status.in_(DONE),
            # One that was cancelled while under way is not done before its attempt is.
            DELIVERY.c.lease_until.is_(None),
            DELIVERY.c.id > replay.cursor,
            DELIVERY.c.created_at <= replay.at,
        )
        .order_by(DELIVERY.c.id)
        .limit(BATCH)
        .with_for_update()
    ).all()


def _all_along(
    connection: Connection,
    now: datetime,
    replay: Row[Any],
    events: Sequence[tuple[Row[Any], datetime]],
    terms: dict[str, RouteTerms],
) -> None:
    """Send these events along the replay's route; what waits for a route that is gone ends where it was."""
    rows = connection.execute(
        select(DELIVERY)
        .where(DELIVERY.c.event_id.in_([event.id for event, _ in events]))
        .order_by(DELIVERY.c.id)
        .with_for_update()
    ).all()
    there = {row.event_id: row for row in rows if row.route == replay.to_route}
    for event, due in events:
        along(connection, now, event, there.get(event.id), due, replay, terms[replay.to_route])
    found = Filter.from_json(replay.filter)
    moved = [row for row in rows if row.route not in terms and row.status not in DONE and _names(found, row)]
    for row in moved:
        move_away(connection, row, replay)
    # As with one that is cancelled: what is under way is counted when its attempt ends.
    add_endings(connection, now, [(row.route, "skipped") for row in moved if row.lease_until is None])


def _names(found: Filter, row: Row[Any]) -> bool:
    """Whether the filter means this very delivery, not only its event."""
    by_id = not found.ids or row.id in found.ids or row.event_id in found.ids
    meant = stored(found)
    return by_id and all(
        getattr(meant, name) in {None, getattr(row, name)} for name in ("route", "status", "error_key")
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
            before=before(row),
        )
    )


def again(connection: Connection, row: Row[Any], due: datetime, replay: Row[Any], terms: RouteTerms | None) -> None:
    """A done delivery is pending again: the same row and key, unless as new; attempts go on being numbered.

    It gets what its route's schedule is now, where the config still has that route.
    """
    span = row.span if terms is None else terms.span
    connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.id == row.id)
        .values(
            status="pending",
            budget=row.attempts + span,
            span=span,
            key_no=row.key_no + replay.as_new,
            next_attempt_at=due,
            lost=0,
            error_key=None,
            last_error=None,
            replay_id=replay.id,
            before=before(row),
        )
    )


def along(
    connection: Connection,
    now: datetime,
    event: Row[Any],
    there: Row[Any] | None,
    due: datetime,
    replay: Row[Any],
    terms: RouteTerms,
) -> None:
    """Send an event along another route, whatever its conditions. `there`: its delivery, made if there is none."""
    if there is not None:
        if there.status in DONE and there.lease_until is None:
            again(connection, there, due, replay, terms)
        return
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


def stop(
    connection: Connection, now: datetime, replay_id: str, who: str, after: str = "", given_back: int = 0
) -> tuple[int, str | None]:
    """Stop a replay, release or cancel: what has not started is as before; of many, of the next few after that id.

    How many were given back, those `given_back` earlier included, and the id to go on after, None at the end.
    """
    action = lock(connection, replay_id).action
    own = select(DELIVERY.c.id).where(DELIVERY.c.replay_id == replay_id, DELIVERY.c.id > after)
    ids = connection.execute(own.order_by(DELIVERY.c.id).limit(BATCH)).scalars().all()
    given_back += _give_some_back(connection, now, replay_id, ids)
    ended = len(ids) < BATCH
    state = "stopped" if ended else STOPPING
    connection.execute(update(REPLAY).where(REPLAY.c.id == replay_id).values(state=state))
    if ended:
        audit(connection, now, who, f"{action}.stop", replay=replay_id, given_back=given_back)
    return given_back, None if ended else ids[-1]


def _give_some_back(connection: Connection, now: datetime, replay_id: str, ids: Sequence[str]) -> int:
    """Give back those that have not started, with what was moved away for them."""
    own = select(DELIVERY).where(DELIVERY.c.replay_id == replay_id).order_by(DELIVERY.c.id).with_for_update()
    waiting = [row for row in connection.execute(own.where(DELIVERY.c.id.in_(ids))) if _not_started(row)]
    for row in waiting:
        if row.before["status"] is None:
            connection.execute(delete(DELIVERY).where(DELIVERY.c.id == row.id))
        else:
            _give_back(connection, now, row)
    of_events = DELIVERY.c.event_id.in_({row.event_id for row in waiting})
    for row in connection.execute(own.where(of_events, DELIVERY.c.error_key == MOVED)).all():
        _give_back(connection, now, row)
    return len(waiting)


def _not_started(row: Row[Any]) -> bool:
    waits = row.status == "pending" and row.lease_until is None
    return bool(waits and row.before and row.attempts == row.before["attempts"])


def before(row: Row[Any]) -> dict[str, Any]:
    """What `stop` gives back; `attempts` tells whether it has started since."""
    moments = {name: getattr(row, name) for name in MOMENTS_GIVEN_BACK}
    return {
        **{name: getattr(row, name) for name in (*GIVEN_BACK, "attempts")},
        **{name: None if moment is None else to_micros(moment) for name, moment in moments.items()},
    }


def _give_back(connection: Connection, now: datetime, row: Row[Any]) -> None:
    # One that an older version wrote does not say who had released it.
    former: dict[str, Any] = {name: row.before[name] for name in GIVEN_BACK if name in row.before}
    for name in MOMENTS_GIVEN_BACK:
        if name in row.before:
            former[name] = None if row.before[name] is None else from_micros(row.before[name])
    former["before"] = None
    if row.again and (former["status"] == "delivered" or former["error_key"] == "skip"):
        # A repeat came while it waited: as before, it would have been looked at once more.
        former |= fresh_look(connection, now, row)
    connection.execute(update(DELIVERY).where(DELIVERY.c.id == row.id).values(**former))
