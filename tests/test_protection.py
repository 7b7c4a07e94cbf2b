"""What stands before every page of the dashboard: who may come where, from which site, under which headers."""

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from structlog.testing import capture_logs

from hub.errors import Unavailable
from hub.web import forms
from hub.web.dashboard import OWN_ROUTES, create_dashboard
from hub.web.pages import ROUTES
from hub.web.pages.asked import page
from hub.web.people import operator_of
from hub.web.protection import POLICY
from tests.browsers import OPERATOR, VIEWER, browser, dashboard_of, log_in, logged_in, served_app, staffed_lab, who_is
from tests.hubdb import Lab

SECRET_REASON = "a reason with /a/path and SELECT 1"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with staffed_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        yield made


# ---- who may come where

# What a route is, by its method and path. `open`: for anyone. `page`: for who is logged in. `own`: a change that a
# viewer may make, of what is theirs. `change`: for operators. A new route needs its line here.
ACCESS = {
    "GET /login": "open",
    "POST /login": "open",
    "POST /logout": "own",
    "GET /account": "page",
    "POST /account": "own",
    "GET /healthz": "open",
    # For anyone on this machine, as tests/test_metrics.py shows.
    "GET /metrics": "open",
    "GET /static": "open",
    "GET /": "page",
    "GET /events": "page",
    "GET /events/live": "page",
    "GET /events/{id}": "page",
    "GET /events/{id}/raw": "page",
    "GET /events/{id}/live": "page",
    "GET /events/{id}/replay": "begin",
    "GET /deliveries": "page",
    "GET /deliveries/preview": "begin",
    "GET /deliveries/{id}": "page",
    "GET /replays": "page",
    "GET /replays/{id}": "page",
    "GET /replays/{id}/live": "page",
    "GET /reorders": "page",
    "GET /reorders/{id}": "page",
    "GET /routes": "page",
    "GET /routes/{name}": "page",
    "GET /refused": "page",
    "GET /refused/{id}": "page",
    "GET /audit": "page",
    "POST /events/{id}/replay": "change",
    "POST /events/{id}/let-in": "change",
    "POST /deliveries/release": "change",
    "POST /deliveries/cancel": "change",
    "POST /replays": "change",
    "POST /replays/{id}/stop": "change",
    "POST /reorders/{id}/approve": "change",
    "POST /reorders/{id}/drop": "change",
    "POST /reorders/{id}/close": "change",
    "POST /routes/{name}/pause": "change",
    "POST /routes/{name}/resume": "change",
    "POST /routes/{name}/test": "change",
    "POST /refused/{id}/let-in": "change",
}
DONE, TO_LOGIN, UNKNOWN, FORBIDDEN = "done", "to the login", "unknown", "forbidden"
EXPECTED = {
    "open": (DONE, DONE, DONE),
    "page": (TO_LOGIN, DONE, DONE),
    "own": (UNKNOWN, DONE, DONE),
    # The page on which a change begins, and the change itself.
    "begin": (TO_LOGIN, FORBIDDEN, DONE),
    "change": (UNKNOWN, FORBIDDEN, DONE),
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def answer_class(answer: httpx.Response) -> str:
    """What an answer means for who asked. A page that is not there, or a form that says nothing, is still let in."""
    sent_on = answer.status_code == 303 and answer.request.method == "GET"
    if sent_on and answer.headers["location"].partition("?next=")[0] == "/login":
        return TO_LOGIN
    return {401: UNKNOWN, 403: FORBIDDEN}.get(answer.status_code, DONE)


def methods_of(route: BaseRoute) -> set[str]:
    if isinstance(route, Mount):
        return {"GET"}
    assert isinstance(route, Route)
    return (route.methods or set()) - {"HEAD"}


ALL = {f"{method} {route.path}": route for route in [*OWN_ROUTES, *ROUTES] for method in methods_of(route)}  # type: ignore[attr-defined]


def test_every_route_says_who_may_come() -> None:
    """S27: a new route fails here until it has its line."""
    assert {name for name in ALL if name not in ACCESS} == set()
    assert {name for name in ACCESS if name not in ALL} == set()


def address(path: str) -> str:
    """A path with something in its places."""
    if path == "/static":
        return "/static/icon.svg"
    return "/".join("none" if part.startswith("{") else part for part in path.split("/"))


async def test_who_may_come_where(lab: Lab) -> None:
    """S27: every route for nobody, a viewer and an operator, as ACCESS has it."""
    found: dict[str, tuple[str, ...]] = {}
    async with (
        dashboard_of(lab) as url,
        browser(url) as nobody,
        logged_in(url, VIEWER) as viewer,
        logged_in(url, OPERATOR) as operator,
    ):
        # After a logout nobody is logged in.
        for name in sorted(ACCESS, key=lambda name: name == "POST /logout"):
            answers = [await answer_to(client, name) for client in (nobody, viewer, operator)]
            assert [one.status_code for one in answers if one.status_code >= 500] == []
            # Refused is what the form says, and not who sends it.
            found[name] = tuple(DONE if name == "POST /login" else answer_class(one) for one in answers)
    assert found == {name: EXPECTED[kind] for name, kind in ACCESS.items()}


async def answer_to(client: httpx.AsyncClient, name: str) -> httpx.Response:
    """The head of an answer: a page may be a stream without end."""
    method, _, path = name.partition(" ")
    async with client.stream(method, address(path)) as answer:
        return answer


async def test_other_methods_do_nothing(lab: Lab) -> None:
    async with dashboard_of(lab) as url, browser(url) as nobody, logged_in(url, OPERATOR) as operator:
        for path, method in product({name.partition(" ")[2] for name in ACCESS}, (*METHODS, "TRACE", "OPTIONS")):
            name = f"{method} {path}"
            if name not in ACCESS:
                assert (await answer_to(operator, name)).status_code in {404, 405}, name
                assert (await answer_to(nobody, name)).status_code in {303, 401, 404, 405}, name


async def changed(request: Request) -> Response:
    operator_of(request)
    return Response("changed")


async def test_a_viewer_changes_nothing_where_the_page_asks_for_an_operator(lab: Lab) -> None:
    app = create_dashboard(lab.hub)
    app.router.routes.append(Route("/change", changed, methods=["POST"]))
    async with (
        served_app(app, lab) as url,
        browser(url) as nobody,
        logged_in(url, VIEWER) as viewer,
        logged_in(url, OPERATOR) as operator,
    ):
        answers = [await client.post("/change") for client in (nobody, viewer, operator)]
    assert [answer_class(one) for one in answers] == list(EXPECTED["change"])
    assert "ask an operator" in answers[1].text


ACCEPTS = {
    "text/html,*/*;q=0.8": 303, "*/*": 303, "application/json": 401, "application/json, */*": 401,
    "text/event-stream": 401,
}  # fmt: skip


async def test_only_who_waits_for_a_page_is_sent_to_the_login(lab: Lab) -> None:
    async with dashboard_of(lab) as url, browser(url) as client:
        assert {accept: await who_is(client, Accept=accept) for accept in ACCEPTS} == ACCEPTS
        assert (await client.head("/account")).status_code == 401


SPELLINGS = [
    "/static/../account", "/static/..%2faccount", "/login/../account", "/login/", "//login", "/LOGIN", "/account/",
    "/healthz/x", "/%2e%2e/account",
]  # fmt: skip


async def test_no_spelling_of_a_path_gets_around_the_login(lab: Lab) -> None:
    """S31: Sent as they are: a client would take the dots out."""
    async with dashboard_of(lab) as url:
        for path in SPELLINGS:
            status, _ = await raw(url, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert status == (404 if path.startswith("/static/") else 303), path


async def raw(url: str, request: bytes) -> tuple[int, bytes]:
    """What a server answers to these bytes, before it closes."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer


# ---- from which site


SITES = [None, "same-origin", "none", "same-site", "cross-site", "", "SAME-ORIGIN"]
ORIGINS = [None, "ours", "null", "https://evil.test", "http://127.0.0.1", "ours with a slash", "ours over tls"]
UNSAFE = ("PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
BODIES = [
    ("application/x-www-form-urlencoded", b"a=b"),
    ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'),
    ("text/plain", b'{"a": "b"}'),
]


def may_pass(site: str | None, origin: str | None) -> bool:
    return site in {"same-origin", "none"} if site is not None else origin == "ours"


async def test_what_changes_something_comes_from_a_page_of_ours(lab: Lab) -> None:
    """S24: 401 is who was let as far as the login; before it stands 403 for what another site sent."""
    async with dashboard_of(lab) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        spelled = {"ours": url, "ours with a slash": f"{url}/", "ours over tls": url.replace("http:", "https:")}
        sent = [("POST", body) for body in BODIES] + [(method, BODIES[0]) for method in UNSAFE]
        for (method, (kind, body)), site, origin in product(sent, SITES, ORIGINS):
            headers = {"Content-Type": kind}
            headers |= {} if site is None else {"Sec-Fetch-Site": site}
            headers |= {} if origin is None else {"Origin": spelled.get(origin, origin)}
            answer = await client.request(method, "/account", content=body, headers=headers)
            assert answer.status_code == (401 if may_pass(site, origin) else 403), (method, headers)


async def test_another_site_cannot_use_a_session(lab: Lab) -> None:
    """S24: nor where headers come twice."""
    async with dashboard_of(lab) as url, logged_in(url, OPERATOR) as client:
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": url}):
            assert (await client.post("/logout", headers=headers)).status_code == 403
        twice = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]
        async with httpx.AsyncClient(base_url=url, cookies=client.cookies, trust_env=False) as forged:
            assert (await forged.post("/logout", headers=twice)).status_code == 403
            assert (await forged.post("/logout")).status_code == 403
            assert (await forged.post("/logout", headers=[("Origin", url), ("Origin", url)])).status_code == 403
        assert await who_is(client) == 200


async def test_nor_log_somebody_in(lab: Lab) -> None:
    async with dashboard_of(lab) as url, browser(url, Sec_Fetch_Site="cross-site") as client:
        assert ((await log_in(client, OPERATOR)).status_code, dict(client.cookies)) == (403, {})


async def test_looking_is_for_links_from_anywhere(lab: Lab) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
    async with dashboard_of(lab) as url, logged_in(url, VIEWER) as client:
        for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 405)):
            assert (await client.request(method, "/account", headers=headers)).status_code == status


async def test_behind_a_proxy_the_origin_is_what_the_browser_sees(lab: Lab) -> None:
    async with dashboard_of(lab) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        seen = {"Host": "hub.test", "X-Forwarded-Proto": "https"}
        assert (await client.post("/logout", headers=seen | {"Origin": "https://hub.test"})).status_code == 401
        assert (await client.post("/logout", headers=seen | {"Origin": "http://hub.test"})).status_code == 403
        assert (await client.post("/logout", headers=seen | {"Origin": url})).status_code == 403


# ---- headers, faults, bounds


async def broken(request: Request) -> Response:
    raise RuntimeError(SECRET_REASON)


async def without_database(request: Request) -> Response:
    raise Unavailable(SECRET_REASON)


def is_protected(answer: httpx.Response, *, static: bool = False, tls: bool = False) -> None:
    kept = "public, max-age=300" if static else "no-store"
    assert {name: answer.headers.get_list(name) for name in ("content-security-policy", "cache-control")} == {
        "content-security-policy": [POLICY], "cache-control": [kept],
    }  # fmt: skip
    assert "unsafe" not in POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert ("strict-transport-security" in answer.headers) == tls
    assert "server" not in answer.headers


async def test_every_answer_is_protected(lab: Lab) -> None:
    """S33: pages, faults, redirects and files, each with its headers."""
    app = create_dashboard(lab.hub)
    app.router.routes += [Route("/broken", broken), Route("/away", without_database)]
    seen = set()
    async with served_app(app, lab) as url, logged_in(url, OPERATOR) as client, browser(url) as nobody:
        for name in ["GET /broken", "GET /away", "GET /nothing", "PUT /account", *ACCESS]:
            method, _, path = name.partition(" ")
            for one in (client, nobody):
                async with one.stream(method, address(path)) as answer:
                    is_protected(answer, static=path == "/static")
                    seen.add(answer.status_code)
        for answer in (
            await nobody.post("/login", content=b"x" * 70_000),
            await nobody.post("/login", headers={"Sec-Fetch-Site": "cross-site"}),
            *[await log_in(nobody, "x", "y") for _ in range(11)],
        ):
            is_protected(answer)
            seen.add(answer.status_code)
        is_protected(await nobody.get("/login", headers={"X-Forwarded-Proto": "https"}), tls=True)
    assert seen >= {200, 303, 401, 403, 404, 405, 413, 429, 500, 503}


async def test_a_fault_is_told_to_the_log_alone(lab: Lab) -> None:
    """S30: not to the page."""
    app = create_dashboard(lab.hub)
    app.router.routes += [page("/broken", broken), page("/away", without_database)]
    with capture_logs() as lines:
        async with served_app(app, lab) as url, logged_in(url, OPERATOR) as client:
            fault, away = await client.get("/broken?q=1"), await client.get("/away")
    assert (fault.status_code, away.status_code, away.headers["retry-after"]) == (500, 503, "5")
    for shown in (fault.text, away.text):
        assert SECRET_REASON not in shown
        assert "RuntimeError" not in shown
        assert 'href="/"' in shown
    (line,) = [line for line in lines if line["event"] == "dashboard.fault"]
    assert (line["path"], str(line["exc_info"])) == ("/broken", SECRET_REASON)


async def test_pages_for_errors_say_what_to_do(lab: Lab) -> None:
    async with dashboard_of(lab) as url, logged_in(url, VIEWER) as client, browser(url) as nobody:
        assert "nothing at this address" in (await client.get("/nothing")).text
        assert "does not take that" in (await client.put("/account")).text
        assert (
            "did not come from a page" in (await client.post("/logout", headers={"Sec-Fetch-Site": "cross-site"})).text
        )
        assert 'href="/login"' in (await nobody.post("/logout")).text


@pytest.mark.parametrize("declared", [True, False])
async def test_a_form_has_at_most_64_kib(lab: Lab, declared: bool) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1024):
            yield b"x" * 1024

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with dashboard_of(lab) as url, browser(url) as client:
        for kib, status in ((63, 401), (65, 413), (1024, 413)):
            body: Any = b"x" * kib * 1024 if declared else chunks(kib * 1024)
            assert (await client.post("/login", content=body, headers=form)).status_code == status


async def test_a_form_that_does_not_arrive_is_not_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "BODY_WITHIN", 0.1)
    head = b"POST /login HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: none\r\nConnection: close\r\nContent-Length: 9\r\n\r\n"
    async with dashboard_of(lab) as url:
        assert (await raw(url, head))[0] == 408


STATIC = [
    "/static/", "/static/nothing.css", "/static/..%2fdashboard.py", "/static/%2e%2e/dashboard.py", "/static/%00",
    "/static//etc/passwd", "/static/..\\dashboard.py", "/static/" + "x" * 5000,
]  # fmt: skip


async def test_static_is_what_lies_in_its_folder(lab: Lab) -> None:
    """S31: by no spelling anything else."""
    async with dashboard_of(lab) as url:
        for path in STATIC:
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            status, answer = await raw(url, head.encode())
            assert status == 404, path
            assert b"cache-control: no-store" in answer


async def test_static_files_are_kept_and_asked_for_again(lab: Lab) -> None:
    async with dashboard_of(lab) as url, browser(url) as client:
        icon = await client.get("/static/icon.svg")
        assert (icon.status_code, icon.headers["content-type"].partition(";")[0]) == (200, "image/svg+xml")
        again = await client.get("/static/icon.svg", headers={"If-None-Match": icon.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "public, max-age=300")
        assert (await client.post("/static/icon.svg")).status_code == 405


async def test_a_browser_that_hangs_up_is_no_fault(lab: Lab) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: none\r\nContent-Length: 9\r\n\r\nname="
    with capture_logs() as lines:
        async with dashboard_of(lab) as url, browser(url) as client:
            host, _, port = url.removeprefix("http://").partition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(head)
            await writer.drain()
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            writer.close()
            await writer.wait_closed()
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []
