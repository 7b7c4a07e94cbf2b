"""Who may do what, by the route tables themselves; from which site; and what a fault tells (S24, S27, S30, S31).

The dashboard's own table, and most of what stands before its pages, is in tests/test_protection.py.
"""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import SQLModel
from starlette.routing import Route
from structlog.testing import capture_logs

from hub.errors import CommandError
from hub.process import local_socket
from hub.store import AUDIT, DELIVERY
from hub.testing.samples import SIGNATURE_HEADER, sign, to_bytes
from hub.web import api
from hub.web.api import OPERATIONS, create_local_api
from hub.web.app import create_app
from tests.browsers import OPERATOR, VIEWER, browser, dashboard_of, logged_in, served_app, staffed_lab
from tests.hubdb import SECRET, Lab, document, served
from tests.test_protection import ACCESS, address, raw

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture
def quiet() -> Iterator[None]:
    """Faults by the hundred are not written out."""
    with capture_logs():
        yield


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with staffed_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        yield made


# ---- S27: the receiver

# What each method gets at each of its routes, whoever asks: a session is nothing here, a signature is all.
RECEIVER = {
    "/webhooks/{store}": dict.fromkeys(METHODS, 405) | {"POST": 401},
    "/healthz": dict.fromkeys(METHODS, 405) | {"GET": 200, "HEAD": 200},
    "/readyz": dict.fromkeys(METHODS, 405) | {"GET": 200, "HEAD": 200},
}  # fmt: skip
# Reads only, or changes something. By whoever reaches the socket: the user whom the hub runs as.
LOCAL = {
    "read": {
        "status", "named", "events", "deliveries", "show", "explain", "replay.preview", "replay.get", "replay.list",
        "open.preview", "audit", "refused", "stores", "catch_up.preview", "reorders",
        "reorders.plan",
    },
    "change": {
        "replay.start", "replay.advance", "replay.stop", "replay.event", "pause", "resume", "release", "cancel",
        "open.start", "test", "refused.accept", "backup", "login.link", "sessions.end", "catch_up.now",
        "catch_up.start", "store.connect", "store.watch", "reorder.approve", "reorder.drop", "reorder.close",
    },
}  # fmt: skip


def paths(routes: list[Any]) -> list[str]:
    assert all(isinstance(route, Route) for route in routes)
    return [route.path for route in routes]


def test_s27_every_route_and_operation_has_its_row(lab: Lab) -> None:
    """S27: a new one fails here until somebody has said who may use it."""
    assert sorted(paths(create_app(lab.hub).routes)) == sorted(RECEIVER)
    assert paths(create_local_api(lab.hub).routes) == ["/{operation}"]
    assert sorted(OPERATIONS) == sorted(LOCAL["read"] | LOCAL["change"])
    assert LOCAL["read"] & LOCAL["change"] == set()


async def test_s27_on_the_receivers_port_nobody_is_more_than_a_stranger(lab: Lab) -> None:
    """S27: each route × method × {anonymous, viewer, operator}: a session of the dashboard opens nothing."""
    found: dict[str, dict[str, set[int]]] = {}
    async with (
        dashboard_of(lab) as dashboard,
        served(lab.hub) as url,
        logged_in(dashboard, VIEWER) as viewer,
        logged_in(dashboard, OPERATOR) as operator,
        browser(dashboard) as nobody,
    ):
        for path in RECEIVER:
            for method in METHODS:
                place = url + path.replace("{store}", "main")
                got = {(await one.request(method, place)).status_code for one in (nobody, viewer, operator)}
                found.setdefault(path, {})[method] = got
        assert found == {path: {one: {status} for one, status in row.items()} for path, row in RECEIVER.items()}
        # Nor is anything of the dashboard or of the local socket to be had there.
        elsewhere = {name.partition(" ")[2] for name in ACCESS if not name.endswith("/healthz")}
        for path in [*elsewhere, *(f"/{name}" for name in OPERATIONS)]:
            for method in ("GET", "POST"):
                assert (await operator.request(method, url + address(path), content=b"{}")).status_code == 404, path


async def test_s27_what_the_local_socket_does_the_dashboards_port_does_not(lab: Lab) -> None:
    """S27: nor are webhooks taken there, signed or not."""
    body = to_bytes(document(orderId="ord_1"))
    signed = {SIGNATURE_HEADER: sign(body, SECRET)}
    async with dashboard_of(lab) as url, logged_in(url, OPERATOR) as operator, browser(url) as nobody:
        for name in OPERATIONS:
            if f"POST /{name}" not in ACCESS and f"GET /{name}" not in ACCESS:
                assert (await nobody.post(f"/{name}", content=b"{}")).status_code == 401
                assert (await operator.post(f"/{name}", content=b"{}")).status_code == 404
        assert (await nobody.post("/webhooks/main", content=body, headers=signed)).status_code == 401
        assert (await operator.post("/webhooks/main", content=body, headers=signed)).status_code == 404


KNOCK = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


async def test_s27_another_user_of_the_machine_does_not_reach_the_socket(lab: Lab) -> None:
    """S27: its folder and the note that names it are the hub's user's alone; who may not pass gets nowhere."""
    async with local_socket(lab.hub):
        note = lab.hub.config.data_dir / "hub.json"
        (path,) = [part for part in note.read_text().split('"') if part.endswith("/local")]
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        folder = Path(path).parent
        assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) == (0o700, os.geteuid())
        assert (await asyncio.to_thread(knocked, path)).returncode == 0
        if os.geteuid() == 0:
            other = await asyncio.to_thread(knocked, path, 65534)
            assert "PermissionError" in other.stderr


def knocked(path: str, user: int | None = None) -> "subprocess.CompletedProcess[str]":
    """What becomes of a program of that user that connects to a socket."""
    # A Python that any user may start.
    python = sys.executable if user is None else "/usr/bin/env python3"
    return subprocess.run([*python.split(), "-c", KNOCK, path], user=user, group=user, capture_output=True, text=True)


async def test_s27_operations_that_read_change_nothing(lab: Lab) -> None:
    """S27: each of them, with arguments and without: not a row is another."""
    row = await lab.order()
    await lab.alive()
    before = await everything(lab)
    for name in sorted(LOCAL["read"]):
        for body in (b"{}", b'{"id": "%b"}' % row.event_id.encode(), b'{"route": "one"}'):
            try:
                await api.asked_of(lab.hub, name, body)
            except CommandError:
                continue
    assert await everything(lab) == before


async def everything(lab: Lab) -> dict[str, list[Any]]:
    return {table.name: await lab.rows(table) for table in SQLModel.metadata.tables.values()}


# ---- S24: from which site

FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"},
    {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
    {"Sec-Fetch-Site": "", "Origin": "null"},
    {"Origin": "https://evil.test"},
    {"Origin": "null"},
    {"Referer": "https://evil.test/"},
    {},
]


async def test_s24_no_other_site_can_use_any_route_that_changes(lab: Lab) -> None:
    """S24: each POST of the dashboard, each other method there, with an operator's session: 403, and nothing done."""
    row = await lab.order()
    before = await lab.rows(AUDIT), await lab.rows(DELIVERY)
    changing = [name.partition(" ")[2] for name in ACCESS if name.startswith("POST ")]
    assert len(changing) > 10
    async with dashboard_of(lab) as url, logged_in(url, OPERATOR) as client:
        form = {"ids": row.id, "routes": "one", "end": "others"}
        async with httpx.AsyncClient(base_url=url, cookies=client.cookies, trust_env=False, timeout=60) as forged:
            for path in changing:
                there = path.replace("{name}", "one").replace("{id}", row.event_id)
                for headers in FOREIGN:
                    for method in ("POST", "PUT", "DELETE", "PATCH") if headers == FOREIGN[0] else ("POST",):
                        answer = await forged.request(method, there, data=form, headers=headers)
                        assert answer.status_code == 403, (method, there, headers)
        assert (await client.get("/account")).status_code == 200
    assert (await lab.rows(AUDIT), await lab.rows(DELIVERY)) == before


# ---- S30: faults everywhere

FORM = "application/x-www-form-urlencoded"
TELLTALES = ["Traceback", "RuntimeError", "SELECT", "/hub/", ".py", "sqlalchemy", "SQLAlchemy", "starlette", "uvicorn",
             "line 1", "a planted fault", "site-packages", "python"]  # fmt: skip


@pytest.mark.usefixtures("quiet")
async def test_s30_no_fault_says_what_it_is(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """S30: every page, while each look into the database fails by a mistake of ours: 500 without a detail of it."""
    statuses = set()
    async with dashboard_of(lab) as url, logged_in(url, OPERATOR) as client, browser(url) as nobody:

        async def broken(work: Any) -> Any:
            raise RuntimeError("a planted fault in /hub/store.py: SELECT password FROM user")

        for method in ("read", "write"):
            monkeypatch.setattr(lab.hub.database, method, broken)
        for name in ACCESS:
            verb, _, path = name.partition(" ")
            for one in (client, nobody):
                form: dict[str, Any] = {}
                if verb == "POST":
                    form = {"content": b"name=asha&password=x", "headers": {"Content-Type": FORM}}
                answer = await one.request(verb, address(path), **form)
                statuses.add(answer.status_code)
                if path != "/static":
                    assert [word for word in TELLTALES if word in answer.text] == [], name
                assert "server" not in answer.headers
    assert 500 in statuses


@pytest.mark.usefixtures("quiet")
async def test_s30_nor_does_the_receivers_or_the_local_sockets(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """S30: the same on the receiver's port and on the local socket."""

    async def broken(*any: Any) -> Any:
        raise RuntimeError("a planted fault in /hub/store.py: SELECT password FROM user")

    body = to_bytes(document(orderId="ord_1"))
    async with served(lab.hub) as url, served_app(create_local_api(lab.hub), lab) as local:
        monkeypatch.setattr(lab.hub.writer, "put", broken)
        for method in ("read", "write"):
            monkeypatch.setattr(lab.hub.database, method, broken)
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            asked = [(f"{url}/webhooks/main", body), (f"{url}/webhooks/main", b"no JSON")]
            asked += [(f"{local}/{name}", b"{}") for name in OPERATIONS]
            answers = [
                await client.post(place, content=sent, headers={SIGNATURE_HEADER: sign(sent, SECRET)})
                for place, sent in asked
            ]
            answers += [await client.get(f"{url}{path}") for path in ("/readyz", "/healthz")]
    assert {answer.status_code for answer in answers} >= {500, 400}
    for answer in answers:
        # The local socket's answer names the kind of fault, to whom the log is open too.
        told = [word for word in TELLTALES if word in answer.text and word != "RuntimeError"]
        assert told == [], answer.text
        assert "server" not in answer.headers


# ---- S31: paths

STRANGE = [
    "/..", "/../..", "/./", "/%2e%2e/%2e%2e/etc/passwd", "//", "///etc/passwd", "/\\..\\..", "/%5c..", "/%00", "/a%00b",
    "/webhooks/..%2f..%2fetc", "/webhooks/main/..", "/webhooks/main%2f", "/webhooks/%2e%2e", "/webhooks//main",
    "//webhooks/main", "/webhooks/main;a=b", "/webhooks/main%0d%0aX: y", "/WEBHOOKS/main", "/webhooks/Main",
    "/webhooks/main%20", "/webhooks/%6d%61%69%6e/x", "/webhooks/m%C4%B1in", "/webhooks/hub", "/webhooks/", "/.env",
    "/static/../../config.yaml", "/server-status", "/.git/config", "/webhooks/" + "%2e" * 2000,
]  # fmt: skip


async def test_s31_no_spelling_of_a_path_leads_anywhere(lab: Lab) -> None:
    """S31: on the receiver's port each is 404, or 400 where it is no path; what the dashboard does, its tests say."""
    async with served(lab.hub) as url:
        for path in STRANGE:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            status, answer = await raw(url, head.encode())
            assert status in {400, 404}, path
            assert b"root:" not in answer
