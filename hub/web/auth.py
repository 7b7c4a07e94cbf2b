"""Who is who on the dashboard: what a browser holds, the sessions under its hash, and the links that log in once.

Only hashes are stored. A session's mark is made of its user's password hash and role, so that a changed config ends
it; sessions of a hub without users carry a mark of their own.
"""

import hashlib
import ipaddress
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import HTTPConnection
from starlette.responses import Response

from hub.config import Config, User
from hub.database import Conflict
from hub.errors import Unavailable
from hub.runtime import Hub
from hub.store import sessions
from hub.store.sessions import LONGEST, TOUCH_EVERY, NewSession
from hub.web.passwords import Passwords
from hub.web.people import Person
from hub.web.throttle import Throttle

TRIES_OF_ACCOUNT = 10
TRIES_OF_ADDRESS = 30
LINK_AT_START = timedelta(hours=24)
LINK_ASKED_FOR = timedelta(minutes=10)
# Who has come through a link, on a hub without users.
LOCAL = "local"
LOCAL_ROLE = "operator"
LOCAL_MARK = hashlib.sha256(b"a hub without users").hexdigest()[:16]
# No second slash or backslash, nor what a browser takes out of an address before it reads it.
OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f-\x9f]{0,2000}")


class Door:
    """What the login of one dashboard keeps in memory: hashes to compare with, and recent tries."""

    def __init__(self, config: Config) -> None:
        self.passwords = Passwords(config.dashboard.users)
        self._accounts = Throttle(TRIES_OF_ACCOUNT)
        self._addresses = Throttle(TRIES_OF_ADDRESS)
        self._last_from: dict[str, str] = {}

    def wait(self, address: str, now: float, account: str | None = None) -> float:
        """Seconds until that address may try, and, if named, try that account; 0 takes a try."""
        wait = self._addresses.wait(network_of(address), now)
        if wait or account is None:
            return wait
        # Tries from elsewhere do not keep someone out where they came in last.
        own = self._last_from.get(account) == address
        return self._accounts.wait(f"{account[:64]} {address if own else ''}", now)

    def came_in(self, account: str, address: str) -> None:
        """That user is in, from that address."""
        self._last_from[account] = address


def network_of(address: str) -> str:
    """An address as it counts: of IPv6 everyone has 64 bits' worth."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


def is_loopback(host: str) -> bool:
    """Is a listening address reachable from this machine alone?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def dashboard_off(config: Config) -> str | None:
    """Why there is no dashboard under that config, and what to do; None where there is one."""
    settings = config.dashboard
    if settings.users or is_loopback(settings.host):
        return None
    return (
        f"dashboard: {settings.host} can be reached from elsewhere and there are no users, so the dashboard is off;"
        " make one with `hub passwd` and put it under dashboard.users, or set dashboard.host to 127.0.0.1"
    )


def mark_of(user: User) -> str:
    """16 hex digits that change with a user's password hash or role."""
    return hashlib.sha256(f"{user.password.reveal()}\n{user.role}".encode()).hexdigest()[:16]


def marks(config: Config) -> dict[str, str]:
    """What the sessions of each who may log in are marked with."""
    return {user.name: mark_of(user) for user in config.dashboard.users} or {LOCAL: LOCAL_MARK}


def hashed(token: str) -> str:
    """Under what a token is kept."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def token_of(request: HTTPConnection) -> str | None:
    """The session's token that a browser holds."""
    return request.cookies.get(cookie_name(request)) or None


def cookie_name(request: HTTPConnection) -> str:
    """Over https the browser itself makes sure that nobody else has set it."""
    return "__Host-hub" if request.scope["scheme"] == "https" else "hub"


def address_of(request: HTTPConnection) -> str:
    return request.client.host if request.client else "unknown"


async def signed_in(hub: Hub, request: HTTPConnection) -> Person | None:
    """Who asks, or None: no session, or one that has ended or fits the config no more."""
    token = token_of(request)
    if token is None:
        return None
    session_id, now = hashed(token), hub.now()
    row = await hub.database.read(lambda connection: sessions.find(connection, now, session_id))
    if row is None or not secrets.compare_digest(marks(hub.config).get(row.user, ""), row.mark):
        return None
    if row.seen_at <= now - TOUCH_EVERY:
        # Who may look is not sent away because the disk is full.
        with suppress(Unavailable, Conflict):
            await hub.database.write(lambda connection: sessions.touch(connection, now, session_id))
    return Person(row.user, row.role, session_id)


@dataclass(frozen=True)
class Fresh:
    """A session not yet kept, and the token that only its browser will know."""

    token: str
    session: NewSession


def fresh_session(request: HTTPConnection, user: str, role: str, mark: str) -> Fresh:
    """A session for who just logged in; it replaces that of the same browser."""
    token, before = secrets.token_urlsafe(32), token_of(request)
    agent = request.headers.get("user-agent")
    replaces = hashed(before) if before else None
    return Fresh(token, NewSession(hashed(token), user, role, mark, address_of(request), agent, replaces))


async def begin(hub: Hub, request: HTTPConnection, user: User) -> str:
    """Begin a session of a user; its token."""
    fresh = fresh_session(request, user.name, user.role, mark_of(user))
    await hub.database.write(lambda connection: sessions.create(connection, hub.now(), fresh.session))
    return fresh.token


async def begin_by_link(hub: Hub, request: HTTPConnection, token: str) -> str | None:
    """Use a link up and begin a session; its token, or None where the link is unknown, used or expired."""
    fresh = fresh_session(request, LOCAL, LOCAL_ROLE, LOCAL_MARK)
    now, link_id = hub.now(), hashed(token)
    used = await hub.database.write(lambda connection: sessions.create_by_link(connection, now, link_id, fresh.session))
    return fresh.token if used else None


async def make_link(hub: Hub, url: str, lasts: timedelta) -> str:
    """A link that logs in once, to the dashboard at `url`. Only for a hub without users."""
    token = secrets.token_urlsafe(32)
    link = NewSession(hashed(token), LOCAL, LOCAL_ROLE, LOCAL_MARK, None, None)
    now = hub.now()
    await hub.database.write(lambda connection: sessions.create_link(connection, now, link, now + lasts))
    return f"{url}/login?token={token}"


def give(request: HTTPConnection, response: Response, token: str) -> None:
    """Let the browser hold the token."""
    response.set_cookie(
        cookie_name(request), token, max_age=int(LONGEST.total_seconds()), path="/", httponly=True, samesite="lax",
        secure=request.scope["scheme"] == "https",
    )  # fmt: skip


def take_back(request: HTTPConnection, response: Response) -> None:
    """Let the browser forget its token."""
    response.delete_cookie(
        cookie_name(request), path="/", httponly=True, samesite="lax", secure=request.scope["scheme"] == "https"
    )


def own_path(wanted: str | None) -> str:
    """Where to go after the login: `wanted` if it is a path of ours, else the overview."""
    return wanted if wanted and OWN_PATH.fullmatch(wanted) else "/"
