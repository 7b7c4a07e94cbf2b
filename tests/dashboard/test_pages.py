"""Every page over a full hub: well-formed, without secrets, harmless; what it offers to whom; and the empty hub."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Match, Mount, Route

from hub.web.dashboard import OWN_ROUTES
from hub.web.pages import ROUTES
from hub.web.plain import plain, spoken
from hub.web.rendering import moment, sentence, ticked
from tests import hubdb
from tests.dashboard.looks import Shown, pages
from tests.dashboard.scene import CANARY, HOSTILE, Scene, filled, open_scene
from tests.dashboard.served import VIEWER, Page, harmless, looking
from tests.hubdb import Lab, open_lab

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab

EMPTY = {
    "/": "Nothing.",
    "/events": "Nothing has come in yet",
    "/deliveries": "No deliveries yet",
    "/deliveries?status=dead": "Nothing is dead",
    "/replays": "Nothing was replayed yet",
    "/reorders": "Nothing was reordered yet",
    "/refused": "Nothing was refused",
    "/audit": "Nobody has done anything yet",
}


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scene]:
    """A folder with a full day's database, made once."""
    folder = tmp_path_factory.mktemp("day")
    return folder, asyncio.run(filled(folder))


@pytest.fixture
async def scene(day: tuple[Path, Scene], tmp_path: Path) -> AsyncIterator[tuple[Lab, Scene]]:
    """A hub over a copy of it."""
    folder, where = day
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    async with open_scene(tmp_path) as lab:
        yield lab, where


@pytest.fixture
async def one_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab on SQLite alone, for what no query decides."""
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as made:
        yield made


def written(text: str) -> str:
    """A hostile string as far as a page must show it: before the first character that has to be named instead."""
    return " ".join(text.partition("\x00")[0].partition("\u202e")[0].partition("\u200b")[0].split())[:60]


def accessible(page: Page) -> None:
    """One h1 and main, a skip link, one way there; labels for inputs, scopes for headers, names for regions."""
    assert len(page.all("h1")) == len(page.all("main", id="main")) == 1
    assert page.links()[0] == "#main"
    current = [one["href"] for one in page.all("a") if one.get("aria-current") == "page"]
    assert len(current) == (0 if page.url.path == "/account" or page.status in {403, 404} else 1) or page.status == 422
    labelled = {one["for"] for one in page.all("label") if "for" in one}
    for tag in ("input", "select"):
        for one in page.all(tag):
            inside = one.get("type") == "checkbox" and ("aria-label" in one or one["name"] in {"routes", "sure"})
            assert one.get("type") == "hidden" or inside or one["id"] in labelled, one
    assert all("scope" in one for one in page.all("th"))
    ids = [one["id"] for _, one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))
    assert all(one.get("aria-label") for one in page.all("div", role="region"))


def seen_by(who: str, scene: Scene) -> list[tuple[str, Shown]]:
    """The pages of the full hub that this person is shown."""
    return [(name, one) for name, one in pages(scene).items() if one.who == who and not one.fresh]


# What a GET answers that no person looks at, or that leads to a page.
NO_PAGES = {
    "/healthz", "/metrics", "/static", "/events/live", "/events/{id}/live", "/replays/{id}/live", "/events/{id}/raw",
    "/deliveries/{id}",
}  # fmt: skip


def test_every_page_of_the_router_is_looked_at(day: tuple[Path, Scene]) -> None:
    """A new one fails here until it is among the pages that pictures are taken of and axe-core judges."""
    routes = [
        one
        for one in [*OWN_ROUTES, *ROUTES]
        if isinstance(one, Mount) or (isinstance(one, Route) and "GET" in (one.methods or ()))
    ]
    paths = [one.path for one in routes]
    looked_at = {path_in(routes, shown.path.partition("?")[0]) for shown in pages(day[1]).values()}
    assert {path for path in paths if path not in NO_PAGES and path not in looked_at} == set()
    assert [path for path in NO_PAGES if path not in paths or path in looked_at] == []


def path_in(routes: list[Mount | Route], path: str) -> str:
    """The path, as the table has it, of the route that answers."""
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return next(one.path for one in routes if one.matches(scope)[0] == Match.FULL)


async def test_every_page(scene: tuple[Lab, Scene]) -> None:
    """As an operator sees it: harmless, accessible, without a secret; the overview's links lead somewhere."""
    lab, where = scene
    async with looking(lab.hub) as browser:
        for name, shown in seen_by("asha", where):
            page = await browser.get(shown.path, shown.status)
            harmless(page)
            accessible(page)
            assert CANARY not in page.source, name
        for path in {link for link in (await browser.get("/")).links() if link.startswith("/")}:
            harmless(await browser.get(path))


async def test_hostile_strings_are_text(scene: tuple[Lab, Scene]) -> None:
    """S18: In types, entities, order numbers, mails, headers, bodies, stores and reasons: shown as what they are."""
    lab, where = scene
    async with looking(lab.hub) as browser:
        overview = (await browser.get("/")).text
        assert "main 95 of 1,000 in " in overview
        assert f"erp 640, catch-up 210, {HOSTILE[0]} 45" in overview
        listed = (await browser.get("/events")).text
        refused = await browser.get("/refused")
        harmless(refused)
        for text, event_id in zip(HOSTILE, where.hostile, strict=True):
            page = await browser.get(f"/events/{event_id}")
            harmless(page)
            assert written(text) in page.text
            assert written(text)[:20] in listed
            assert written(text)[:20] in refused.text
        assert "U+202E" in listed
        assert "\u202e" not in listed
        for found in [one for one in refused.links() if one.startswith("/refused/")]:
            harmless(await browser.get(found))


async def test_a_viewer_is_offered_nothing(scene: tuple[Lab, Scene]) -> None:
    lab, where = scene
    async with looking(lab.hub, VIEWER) as browser:
        for name, shown in seen_by("asha", where):
            asks = "/preview" in shown.path or "/replay" in shown.path.removeprefix("/replays")
            page = await browser.get(shown.path, 403 if asks else shown.status)
            posts = [one["action"] for one in page.all("form") if one.get("method") == "post"]
            assert set(posts) == {"/logout"}, name
            assert not [link for link in page.links() if "preview" in link or "/replay?" in link], name


async def test_a_viewer_is_refused_every_post(tmp_path: Path, database_url: str) -> None:
    """The table itself is asked: whatever is posted to, a viewer gets 403, and nothing has happened."""
    posted = [one.path for one in ROUTES if isinstance(one, Route) and "POST" in (one.methods or ())]
    assert len(posted) >= 9
    async with open_lab(tmp_path, database_url) as lab, looking(lab.hub, VIEWER) as browser:
        row = await lab.order()
        for path in posted:
            await browser.post(
                path.replace("{id}", row.event_id).replace("{name}", "one"), 403, ids=row.id, routes="one"
            )
        assert (await lab.state()).paused_at is None
        assert (await lab.delivery(row.id)).status == "pending"
        assert "Nobody has done anything yet" in (await browser.get("/audit")).text


@pytest.mark.parametrize(("path", "said"), EMPTY.items(), ids=EMPTY)
async def test_empty_states_say_what_to_do(one_lab: Lab, path: str, said: str) -> None:
    await one_lab.alive()
    async with looking(one_lab.hub) as browser:
        page = await browser.get(path)
        accessible(page)
        assert said in page.text


async def test_where_a_store_posts_to(tmp_path: Path) -> None:
    """The server's address, an IPv6 one in brackets; or how the world sees it."""
    shown = []
    for server in ({"host": "::1"}, {"host": "127.0.0.1"}, {"public_url": "https://hooks.shop.example"}):
        async with (
            open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", server=server) as lab,
            looking(lab.hub) as browser,
        ):
            shown.append((await browser.get("/events")).text.partition("post its webhooks to ")[2].partition(",")[0])
    assert shown == [
        "http://[::1]:8600/webhooks/main", "http://127.0.0.1:8600/webhooks/main",
        "https://hooks.shop.example/webhooks/main",
    ]  # fmt: skip


async def test_without_a_route(tmp_path: Path) -> None:
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db", {}) as lab, looking(lab.hub) as browser:
        assert "No routes yet" in (await browser.get("/routes")).text


NASTY = (
    "\x00",
    "\ud800",
    "99999999999999999999999",
    "-1",
    "0001-01-01",
    "9999-12-31",
    "9999999d",
    "%",
    "'; --",
    "w" * 9_000,
)


TAKEN = {
    "/events": ("q", "store", "type", "outcome", "entity", "since", "until", "before"),
    "/deliveries": ("store", "status", "route", "entity", "error_key", "since", "until", "before"),
    "/refused": ("signed", "store", "before"),
    "/audit": ("by", "action", "before"),
    "/replays": ("before", "done"),
    "/routes/one": ("test",),
    "/deliveries/preview": ("all", "id"),
}


@pytest.mark.parametrize("path", TAKEN)
async def test_no_query_breaks_a_page(lab: Lab, path: str) -> None:
    """Whatever stands in the address: a page, or one that says what is wrong."""
    async with looking(lab.hub) as browser:
        for name in TAKEN[path]:
            for value in NASTY:
                address = f"{path}?{name}={quote(value.encode('utf-8', 'surrogatepass'))}"
                answer = await browser.client.get(address)
                assert answer.status_code in {200, 422}, (address, answer.text[:500])


async def test_what_is_not_there(lab: Lab) -> None:
    async with looking(lab.hub) as browser:
        for path in (
            "/events/evt_none",
            "/deliveries/dlv_none",
            "/replays/rpl_none",
            "/refused/ref_none",
            "/routes/none",
        ):
            for end in ("", "%00"):
                await browser.get(path + end, 404)
        await browser.get("/events/evt_none/raw", 404)
        await browser.post("/events/evt_none/replay", 409, routes="one")
        await browser.post("/routes/none/pause", 409, reason="x")


async def test_forms_are_bounded(one_lab: Lab) -> None:
    async with looking(one_lab.hub) as browser:
        path = "/routes/one/pause"
        assert (await browser.client.post(path, json={"reason": "x"})).status_code == 415
        assert (await browser.client.post(path, data={"reason": "w" * 300_000})).status_code == 413
        many = {f"x{number}": "1" for number in range(2_001)}
        assert (await browser.client.post(path, data=many)).status_code == 400
        assert (await one_lab.state()).paused_at is None


async def test_a_flash_says_only_its_fixed_texts(one_lab: Lab) -> None:
    async with looking(one_lab.hub) as browser:
        assert "1,234 released." in (await browser.get("/deliveries?done=released&n=1234")).text
        assert "0 released." in (await browser.get("/deliveries?done=released&n=<b>")).text
        page = await browser.get("/deliveries?done=<b>hello</b>")
        assert page.all("p", role="status") == []
        assert "hello" not in page.text


def test_times_in_a_sentence_are_times() -> None:
    """As the hub speaks of them and as JSON writes them; what only looks like one stays as it is."""
    at = datetime(2026, 11, 26, 21, 50, 19, tzinfo=UTC)
    for text in (spoken(at), plain(at)):
        assert f"next try at {moment(at)}, says <code>hub</code>" == ticked(f"next try at {text}, says `hub`")
    for text in ("2026-13-26 21:50:19Z", "2026-11-26 21:50", "2026-11-26_21:50:19Z"):
        assert ticked(text) == text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("none was ticked: tick some", "None was ticked: tick some."), ("Too late!", "Too late!"),
        ("action: must be replay", "action: must be replay."), ("evt_1: there is none", "evt_1: there is none."),
    ],
)  # fmt: skip
def test_what_went_wrong_is_a_sentence(said: str, shown: str) -> None:
    assert sentence(said) == shown


async def test_the_static_files(one_lab: Lab) -> None:
    async with looking(one_lab.hub) as browser:
        for name, kind in (("hub.css", "text/css"), ("hub.js", "javascript"), ("icon.svg", "image/svg")):
            answer = await browser.client.get(f"/static/{name}")
            assert (answer.status_code, kind in answer.headers["content-type"]) == (200, True)
        assert len((await browser.client.get("/static/hub.js")).text.splitlines()) < 200
        for path in ("/static/../base.html", "/static/%2e%2e/templates/base.html", "/static/none"):
            assert (await browser.client.get(path)).status_code == 404
