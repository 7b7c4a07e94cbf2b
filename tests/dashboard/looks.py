"""Every page of the dashboard in each of its looks, as a real Chromium shows them: who sees it, where, in which state.

What pictures are taken of, what axe-core judges and what must fit into the window is this one list; a test holds it
against the router.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from playwright.async_api import Browser, Page

from hub.web.auth import LINK_ASKED_FOR, make_link
from tests.browsers import browser, dashboard_of, log_in, token_in
from tests.dashboard.scene import PEOPLE, Scene, filled, open_scene
from tests.hubdb import open_lab

PHONE = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
)
FOLDS = "(open) => document.querySelectorAll('details').forEach((fold) => { fold.open = open; })"


class Look(NamedTuple):
    """How someone sees a page: a name, the colours they prefer, and their window's width in pixels."""

    name: str
    scheme: Literal["light", "dark"]
    width: int


LOOKS = (
    Look("light-wide", "light", 1280), Look("dark-wide", "dark", 1280), Look("dark-narrow", "dark", 390),
    Look("light-narrow", "light", 390),
)  # fmt: skip
# Both schemes and both widths, each once: colours move nothing, and no width changes a colour.
ENOUGH = LOOKS[::2]


@dataclass(frozen=True)
class Shown:
    """A page's address, and with which status it is there for whom: `asha` operator, `ravi` viewer, or nobody.

    `fresh`: on a hub without users, routes and events, where `local` is who came by a link.
    """

    path: str
    status: int = 200
    who: str | None = "asha"
    fresh: bool = False


def pages(scene: Scene) -> dict[str, Shown]:
    """Each page by its name."""
    missing = "/events/evt_00000000000000000000000000000000"
    return {
        "overview": Shown("/"),
        "events": Shown("/events"),
        "events-none": Shown("/events?q=nothing-like-that"),
        "events-of-a-time": Shown("/events?since=2026-01-01T00:00:00Z&until=2099-01-01T00:00:00Z&type=order.*"),
        "event-delivered": Shown(f"/events/{scene.delivered}"),
        "event-dead": Shown(f"/events/{scene.dead}"),
        "event-held": Shown(f"/events/{scene.held}"),
        "event-repeated": Shown(f"/events/{scene.repeated}"),
        "event-hostile": Shown(f"/events/{scene.hostile[9]}"),
        "event-replay": Shown(f"/events/{scene.dead}/replay?routes=erp&routes=team-slack&routes=crm"),
        "event-replay-all": Shown(f"/events/{scene.dead}/replay?all=1"),
        "event-as-new": Shown(f"/events/{scene.delivered}/replay?routes=erp&as_new=1"),
        "event-replay-none": Shown(f"/events/{scene.dead}/replay"),
        "deliveries": Shown("/deliveries"),
        "deliveries-dead": Shown("/deliveries?status=dead"),
        "preview-replay": Shown("/deliveries/preview?all=replay&status=dead&route=erp"),
        "preview-release": Shown("/deliveries/preview?all=release&status=held&route=reorder"),
        "preview-cancel": Shown("/deliveries/preview?all=cancel&status=paused&route=warehouse"),
        "replays": Shown("/replays"),
        "replay": Shown(f"/replays/{scene.replay}"),
        "replay-release": Shown(f"/replays/{scene.release}"),
        "replay-cancel": Shown(f"/replays/{scene.cancel}"),
        "reorders": Shown("/reorders"),
        "reorders-closed": Shown("/reorders?state=closed&sku=POT-0"),
        "reorder": Shown(f"/reorders/{scene.reorder}"),
        "reorder-sent": Shown(f"/reorders/{scene.reorder_sent}"),
        "routes": Shown("/routes"),
        "route": Shown("/routes/erp"),
        "route-broken": Shown("/routes/crm"),
        "route-paused": Shown("/routes/warehouse"),
        "refused": Shown("/refused"),
        "refused-one": Shown(f"/refused/{scene.refused}"),
        "refused-signed": Shown(f"/refused/{scene.signed}"),
        "audit": Shown("/audit"),
        "account": Shown("/account"),
        "wrong-filter": Shown("/events?since=yesterday", 422),
        "wrong-question": Shown("/deliveries/preview", 422),
        "not-there": Shown(missing, 404),
        "not-allowed": Shown("/deliveries/preview?all=replay&status=dead", 403, "ravi"),
        "login": Shown("/login?next=/events", who=None),
        "login-by-link": Shown("/login?token=one-that-works", who=None, fresh=True),
        "login-without-users": Shown("/login", who=None, fresh=True),
        "account-without-users": Shown("/account", who="local", fresh=True),
        "overview-empty": Shown("/", who="local", fresh=True),
        "events-empty": Shown("/events", who="local", fresh=True),
        "reorders-empty": Shown("/reorders", who="local", fresh=True),
        "routes-empty": Shown("/routes", who="local", fresh=True),
    }


@dataclass
class Tour:
    """A full and a fresh hub with everyone logged in; `tabs` are the windows, by hub and person."""

    scene: Scene
    urls: dict[bool, str]
    tabs: dict[tuple[bool, str | None], Page]

    async def visit(self, shown: Shown) -> Page:
        """The window in which that page is open; its status is what it should be."""
        tab = self.tabs[shown.fresh, shown.who]
        answer = await tab.goto(self.urls[shown.fresh] + shown.path)
        assert answer is not None
        assert answer.status == shown.status, f"{shown.path}: {answer.status}"
        return tab


@asynccontextmanager
async def open_tour(chromium: Browser, folder: Path, **options: Any) -> AsyncIterator[Tour]:
    """Windows with these options, before both hubs."""
    folder.joinpath("fresh").mkdir()
    scene = await filled(folder)
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(open_scene(folder))
        fresh = await stack.enter_async_context(
            open_lab(folder / "fresh", f"sqlite:///{folder}/fresh/hub.db", {}, dashboard={"port": 0})
        )
        urls = {False: await stack.enter_async_context(dashboard_of(lab))}
        urls[True] = await stack.enter_async_context(dashboard_of(fresh))
        link = await make_link(fresh.hub, urls[True], LINK_ASKED_FOR)
        # So that one of them is logged in somewhere else as well.
        await cookie_of(urls[False], "asha", PHONE)
        cookies = {
            (False, None): None,
            (True, None): None,
            (True, "local"): await cookie_of(urls[True], None, link=link),
        }
        cookies |= {(False, name): await cookie_of(urls[False], name) for name in PEOPLE}
        tabs = {key: await tab_of(chromium, urls[key[0]], cookie, options) for key, cookie in cookies.items()}
        yield Tour(scene, urls, tabs)


async def cookie_of(url: str, name: str | None, agent: str = "Mozilla/5.0 (X11; Linux x86_64)", link: str = "") -> str:
    """What a browser holds after the login, by name or by link."""
    async with browser(url, user_agent=agent) as client:
        if name is None:
            await client.post("/login", data={"token": token_in(link)})
        else:
            await log_in(client, name)
        return client.cookies["hub"]


async def tab_of(chromium: Browser, url: str, cookie: str | None, options: dict[str, Any]) -> Page:
    context = await chromium.new_context(timezone_id="Asia/Kolkata", **options)
    if cookie is not None:
        await context.add_cookies([{"name": "hub", "value": cookie, "url": url}])
    return await context.new_page()


async def wear(page: Page, look: Look) -> None:
    """Let an open page be seen in that look: nothing of it depends on how it was loaded."""
    await page.set_viewport_size({"width": look.width, "height": 900})
    await page.emulate_media(color_scheme=look.scheme)


async def too_wide(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))
