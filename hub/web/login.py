"""`/login`, `/logout` and `/account`: coming in by password or by a link, going out, and one's own sessions."""

from datetime import datetime
from math import ceil
from typing import Any

import structlog
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.config import User
from hub.runtime import Hub
from hub.store import sessions
from hub.web import auth
from hub.web.auth import Door
from hub.web.forms import form_of
from hub.web.passwords import Busy
from hub.web.people import person_of
from hub.web.rendering import render

WRONG = "This name and password do not belong together."
WRONG_LINK = "This link was used before or has expired."

log = structlog.get_logger()


def show_login(request: Request, status: int = 200, **more: Any) -> Response:
    """The form for name and password; or, on a hub without users, the button of a link."""
    hub: Hub = request.app.state.hub
    names = {"users": bool(hub.config.dashboard.users), "token": "", "next": "/", "name": "", "error": None} | more
    return render(request, "login.html", status, **names)


async def login_page(request: Request) -> Response:
    """The link's token stands in the address, and does nothing before its button is pressed."""
    next_path = auth.own_path(request.query_params.get("next"))
    return show_login(request, token=request.query_params.get("token", ""), next=next_path)


async def log_in(request: Request) -> Response:
    """By password where the config has users, else by a link. A new session each time."""
    hub: Hub = request.app.state.hub
    form = await form_of(request)
    token = await (_by_password if hub.config.dashboard.users else _by_link)(request, form)
    if isinstance(token, Response):
        return token
    response = RedirectResponse(auth.own_path(form.get("next")), 303)
    auth.give(request, response, token)
    return response


async def _by_password(request: Request, form: ImmutableMultiDict[str, str]) -> str | Response:
    hub, name = request.app.state.hub, form.get("name", "").strip()
    user = await _checked(request, name, form.get("password", ""))
    known = name in auth.marks(hub.config)
    if user is None:
        # What nobody is called may be a password in the wrong field.
        log.warning("login.refused", user=name if known else None, remote=auth.address_of(request))
        next_path = auth.own_path(form.get("next"))
        return show_login(request, 401, error=WRONG, name=name[:64], next=next_path)
    door: Door = request.app.state.door
    door.came_in(user.name, auth.address_of(request))
    token = await auth.begin(hub, request, user)
    log.info("login.done", user=user.name, remote=auth.address_of(request))
    return token


async def _checked(request: Request, name: str, password: str) -> User | None:
    door: Door = request.app.state.door
    _not_too_often(request, name)
    try:
        return await door.passwords.check(name, password)
    except Busy:
        raise too_often(5.0) from None


async def _by_link(request: Request, form: ImmutableMultiDict[str, str]) -> str | Response:
    _not_too_often(request)
    token = await auth.begin_by_link(request.app.state.hub, request, form.get("token", ""))
    if token is None:
        log.warning("login.refused", user=None, remote=auth.address_of(request))
        return show_login(request, 403, error=WRONG_LINK)
    log.info("login.done", user=auth.LOCAL, remote=auth.address_of(request))
    return token


def _not_too_often(request: Request, account: str | None = None) -> None:
    door: Door = request.app.state.door
    wait = door.wait(auth.address_of(request), request.app.state.hub.now().timestamp(), account)
    if wait:
        raise too_often(wait)


def too_often(wait: float) -> HTTPException:
    """429, to be tried again in `wait` seconds."""
    seconds = max(ceil(wait), 1)
    return HTTPException(429, f"too many tries; the next may be in {seconds} s", {"Retry-After": str(seconds)})


async def log_out(request: Request) -> Response:
    """The session ends here, whatever the browser keeps."""
    person, hub = person_of(request), request.app.state.hub
    await hub.database.write(lambda connection: sessions.end(connection, person.session_id))
    response = RedirectResponse("/login", 303)
    auth.take_back(request, response)
    return response


async def account_page(request: Request) -> Response:
    """Where one is logged in, and since when."""
    person, hub = person_of(request), request.app.state.hub
    now, mark = hub.now(), auth.marks(hub.config)[person.name]
    rows = await hub.database.read(lambda connection: sessions.of_user(connection, now, person.name, mark))
    shown = [
        {
            "id": row.id, "here": row.id == person.session_id, "remote": row.remote, "agent": row.agent,
            "since": row.created_at, "seen": row.seen_at, "until": ends_at(row),
        }
        for row in rows
    ]  # fmt: skip
    return render(request, "account.html", sessions=shown, users=bool(hub.config.dashboard.users))


def ends_at(row: Any) -> datetime:
    """When a session ends if it is not used any more."""
    unused: datetime = row.seen_at + sessions.IDLE
    latest: datetime = row.expires_at
    return min(unused, latest)


async def end_sessions(request: Request) -> Response:
    """End one of one's own sessions by its id, or with `others` all but this one."""
    person, hub = person_of(request), request.app.state.hub
    wanted = (await form_of(request)).get("end", "")

    def end(connection: Any) -> None:
        if wanted == "others":
            sessions.end_all(connection, person.name, but=person.session_id)
        else:
            sessions.end(connection, wanted, person.name)

    await hub.database.write(end)
    return RedirectResponse("/account", 303)
