"""Dashboards of a lab's hub on real uvicorn, and browsers before them that send what browsers send."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from argon2 import PasswordHasher
from starlette.applications import Starlette

from hub.process import bound, listening, serving_dashboard, web_server
from tests.hubdb import Lab, open_lab

PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
OPERATOR, VIEWER = "asha", "vik"
FROM_A_PAGE = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html,*/*;q=0.8"}


def user(name: str, role: str = "operator", password: str = PASSWORD) -> dict[str, str]:
    """A user of the config, whose hash takes no time."""
    return {"name": name, "role": role, "password": CHEAP.hash(password)}


USERS = [user(OPERATOR), user(VIEWER, "viewer")]


@asynccontextmanager
async def staffed_lab(
    folder: Path, url: str, users: list[dict[str, str]] | None = None, **more: Any
) -> AsyncIterator[Lab]:
    """A lab whose dashboard has users (`asha` operator, `vik` viewer), behind a proxy on this machine."""
    dashboard = {"port": 0, "users": USERS if users is None else users}
    server = {"port": 0, "trusted_proxies": ["127.0.0.1"]}
    async with open_lab(folder, url, dashboard=dashboard, server=server, **more) as lab:
        yield lab


@asynccontextmanager
async def dashboard_of(lab: Lab) -> AsyncIterator[str]:
    """The URL of the hub's dashboard."""
    async with serving_dashboard(lab.hub) as listens:
        assert listens is not None
        yield listens.url


@asynccontextmanager
async def served_app(app: Starlette, lab: Lab) -> AsyncIterator[str]:
    """The URL of a dashboard to which a test has added something."""
    sock = bound("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with listening(web_server(app, lab.hub.config, http="httptools"), [sock], url) as listens:
        yield listens.url


def browser(url: str, **headers: str) -> httpx.AsyncClient:
    """A browser with cookies of its own, on a page of ours."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.AsyncClient(base_url=url, headers=FROM_A_PAGE | given, timeout=60, trust_env=False)


async def log_in(client: httpx.AsyncClient, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    return await client.post("/login", data={"name": name, "password": password, **more})


@asynccontextmanager
async def logged_in(url: str, name: str, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which that user is logged in."""
    async with browser(url, **headers) as client:
        assert (await log_in(client, name)).status_code == 303
        yield client


def token_in(link: str) -> str:
    """What a link that logs in holds."""
    (token,) = parse_qs(urlsplit(link).query)["token"]
    return token


async def who_is(client: httpx.AsyncClient, **headers: str) -> int:
    """200 where somebody is logged in, 303 where not."""
    return (await client.get("/account", headers=headers)).status_code
