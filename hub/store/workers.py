"""Processes that deliver, and what each wakes for."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, exists, literal, or_, select, union_all, update

from hub.store import DELIVERY, EVENT, REPLAY, WORKER, among, insert_into
from hub.store.reordering import is_over
from hub.store.reorders import is_due
from hub.store.replays import GOING_ON

FORGOTTEN_AFTER = timedelta(days=7)


def seen(connection: Connection, now: datetime, worker: str) -> None:
    """This process is alive."""
    insert = insert_into(connection, WORKER)
    row = insert.values(id=worker, started_at=now, seen_at=now)
    connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now}))


def gone(connection: Connection, worker: str) -> None:
    """This process has ended in good order."""
    connection.execute(delete(WORKER).where(WORKER.c.id == worker))


def forget(connection: Connection, now: datetime) -> None:
    """Forget processes that ended long ago; none of their leases can still run."""
    connection.execute(delete(WORKER).where(WORKER.c.seen_at < now - FORGOTTEN_AFTER))


def end_leases(connection: Connection, now: datetime) -> None:
    """End all leases: only for who knows that no other process delivers (`hub up`, which holds the lock)."""
    connection.execute(delete(WORKER))
    connection.execute(
        update(DELIVERY)
        .where(DELIVERY.c.lease_until.is_not(None), DELIVERY.c.lease_until > now)
        .values(lease_until=now, next_attempt_at=now)
    )


def due_bells(connection: Connection, now: datetime, routes: Sequence[str]) -> list[str]:
    """The bells of all loops that have something to do, by one cheap look at the indexes."""
    checks = [
        select(literal(f"deliver:{route}").label("bell")).where(
            or_(
                exists().where(
                    DELIVERY.c.route == route, among(DELIVERY.c.status, "pending"), DELIVERY.c.next_attempt_at <= now
                ),
                # Of a delivery that was cancelled meanwhile nothing is due, and yet its lease must end.
                exists().where(DELIVERY.c.route == route, DELIVERY.c.lease_until <= now),
            )
        )
        for route in routes
    ]
    waiting = select(literal("fan_out").label("bell")).where(exists().where(EVENT.c.fanned_out_at.is_(None)))
    replays = select(literal("replay").label("bell")).where(exists().where(REPLAY.c.state.in_(GOING_ON.values())))
    reorders = select(literal("reorders").label("bell")).where(or_(is_due(now, routes), is_over()))
    return list(connection.execute(union_all(waiting, replays, reorders, *checks)).scalars())
