"""Sessions of the dashboard, and links that log in once; both stand under the hash of what their holder has.

A session ends after `IDLE` without a request and `LONGEST` after its login, whatever happens; who reads it compares its
mark with the config, since a changed password or role ends it too.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, select, update

from hub.store import SESSION

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)
TOUCH_EVERY = timedelta(minutes=1)
LINK = "link"
LOGIN = "session"


@dataclass(frozen=True)
class NewSession:
    """Someone who logs in. `id` and `replaces` (what the same browser held before) are hashes."""

    id: str
    user: str
    role: str
    mark: str
    remote: str | None
    agent: str | None
    replaces: str | None = None


def create(connection: Connection, now: datetime, new: NewSession) -> None:
    """Begin a session, end the one it replaces, and forget all that have expired."""
    forget(connection, now)
    if new.replaces is not None:
        end(connection, new.replaces)
    row = {"id": new.id, "user": new.user, "role": new.role, "mark": new.mark, "remote": new.remote, "agent": new.agent}
    times = {"created_at": now, "seen_at": now, "expires_at": now + LONGEST}
    connection.execute(SESSION.insert().values(kind=LOGIN, **row, **times))


def find(connection: Connection, now: datetime, session_id: str) -> Row[Any] | None:
    """The session of that hash, unless it has expired."""
    return connection.execute(select(SESSION).where(SESSION.c.id == session_id, *_alive(now))).first()


def touch(connection: Connection, now: datetime, session_id: str) -> None:
    """It is in use; written at most once a minute."""
    old = SESSION.c.seen_at <= now - TOUCH_EVERY
    connection.execute(update(SESSION).where(SESSION.c.id == session_id, *_alive(now), old).values(seen_at=now))


def end(connection: Connection, session_id: str, user: str | None = None) -> bool:
    """End a session; with `user`, only one of theirs. False if there is none."""
    query = delete(SESSION).where(SESSION.c.id == session_id, SESSION.c.kind == LOGIN)
    if user is not None:
        query = query.where(SESSION.c.user == user)
    return bool(connection.execute(query).rowcount)


def end_all(connection: Connection, user: str, but: str | None = None) -> int:
    """End all sessions of a user, `but` one; their number."""
    query = delete(SESSION).where(SESSION.c.user == user, SESSION.c.kind == LOGIN)
    if but is not None:
        query = query.where(SESSION.c.id != but)
    return connection.execute(query).rowcount


def of_user(connection: Connection, now: datetime, user: str, mark: str) -> list[Row[Any]]:
    """A user's sessions that fit the config's `mark`, the last used first."""
    query = select(SESSION).where(SESSION.c.user == user, SESSION.c.mark == mark, *_alive(now))
    return list(connection.execute(query.order_by(SESSION.c.seen_at.desc(), SESSION.c.id)))


def create_link(connection: Connection, now: datetime, link: NewSession, expires_at: datetime) -> None:
    """Keep a link that logs in once."""
    forget(connection, now)
    row = {"id": link.id, "user": link.user, "role": link.role, "mark": link.mark}
    times = {"created_at": now, "seen_at": now, "expires_at": expires_at}
    connection.execute(SESSION.insert().values(kind=LINK, **row, **times))


def create_by_link(connection: Connection, now: datetime, link_id: str, new: NewSession) -> bool:
    """Use a link up and begin a session. False if it is unknown, expired or used."""
    fits = (SESSION.c.id == link_id, SESSION.c.kind == LINK, SESSION.c.mark == new.mark, SESSION.c.expires_at > now)
    used = bool(connection.execute(delete(SESSION).where(*fits)).rowcount)
    if used:
        create(connection, now, new)
    return used


def forget(connection: Connection, now: datetime) -> None:
    """Forget what has expired."""
    idle = (SESSION.c.kind == LOGIN) & (SESSION.c.seen_at <= now - IDLE)
    connection.execute(delete(SESSION).where((SESSION.c.expires_at <= now) | idle))


def _alive(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return SESSION.c.kind == LOGIN, SESSION.c.expires_at > now, SESSION.c.seen_at > now - IDLE
