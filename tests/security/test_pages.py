"""Whatever a store, a destination or a person writes, nothing of it runs in a browser (S18).

The dashboard as it is served, with its own headers and its login, in a real Chromium; where there is none, tests of
the pages' text are what is left (tests/dashboard/test_pages.py).
"""

from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from hub.client import Exchange
from hub.connector import Receipt
from hub.deliver import finish
from hub.errors import Rejected
from hub.replay import pause_route
from hub.store.effects import NewEffect, put_effects
from hub.store.records import record
from tests.browsers import OPERATOR, PASSWORD, USERS, dashboard_of
from tests.dashboard import test_browser
from tests.dashboard.scene import CONFIG, HOSTILE, ROUTES, filled, url_in
from tests.dashboard.test_browser import CHROMIUM, tab
from tests.hubdb import Lab, document, open_lab, route
from tests.whole import WHOLE, at_length

chromium = test_browser.chromium
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

MOST_PAGES = 200 if WHOLE else 20
# What would run where something gets through, and what the browser refuses to run.
WATCH = """
window.caught = [];
for (const name of ['alert', 'confirm', 'prompt', 'print', 'open']) window[name] = () => { window.caught.push(name); };
document.addEventListener('securitypolicyviolation', event => window.caught.push(
  event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample));
"""
HARM = (
    *HOSTILE,
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a><form action=javascript:alert(1)><button>y</button></form>",
    "<style>@import 'http://127.0.0.1:9/x'</style><link rel=stylesheet href=http://127.0.0.1:9/y>",
    "<base href=//127.0.0.1:9/>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'><object data=javascript:alert(1)>",
    "\"autofocus onfocus=alert(1) x=\"", "'autofocus onfocus=alert(1) x='", "`${alert(1)}`",
    "<!--<img src=--><img src=x onerror=alert(1)//>",
    "&lt;img src=x onerror=alert(1)&gt;", "]]><script>alert(1)</script>", "<math><mtext></p><script>alert(1)</script>",
)  # fmt: skip


async def harm_from_outside(lab: Lab) -> list[str]:
    """Each string as what a destination answered, as a reason, as an effect with its address; the events' ids."""
    found = []
    for number, text in enumerate(HARM):
        taken = await lab.deliver_events(document(orderId=f"harm_{number}", note=text, **{text[:80]: text}))
        (row,) = [one for one in taken if one.route == "harm"]
        claimed = await lab.claim_one("harm")
        address = text if number % 2 else f"javascript:alert({number})"
        await lab.hub.writer.put(put_effects, NewEffect(row.id, text[:50], row.id, text, address))
        said = Receipt(text, address, text) if number % 3 else Rejected(text, status=422)
        exchange = Exchange(f"POST {text}", f"HTTP 422 {text}\nx-request-id: {text}\n\n{text}", 422)
        done = finish(lab.hub, lab.line("harm"), claimed, said, exchange, timedelta(milliseconds=5))
        await lab.hub.writer.put(record, done)
        found.append(row.event_id)
    await pause_route(lab.hub, HARM[0], "harm", HARM[1])
    return found


@at_length
async def test_s18_nothing_of_what_is_shown_runs(chromium: Browser, tmp_path: Path) -> None:
    """S18: every page that links lead to: no dialog, no script but ours, and nothing that the policy had to refuse."""
    await filled(tmp_path)
    more = CONFIG | {"dashboard": {"port": 0, "users": USERS}}
    async with open_lab(tmp_path, url_in(tmp_path), ROUTES | {"harm": route(events=["order.placed"])}, **more) as lab:
        await lab.alive()
        await lab.fan_out()
        before = await lab.claim("harm")
        for claimed in before.claims:
            await lab.finish(claimed, Receipt("done"))
        events = await harm_from_outside(lab)
        async with dashboard_of(lab) as url:
            page, wrong = await tab(chromium)
            await page.add_init_script(WATCH)
            await page.goto(f"{url}/login?next=%3Cscript%3Ealert(1)%3C/script%3E")
            await page.fill("input[name=name]", OPERATOR)
            await page.fill("input[name=password]", PASSWORD)
            await page.keyboard.press("Enter")
            await page.wait_for_url(f"{url}/")
            caught = await looked_at(page, url, [f"/events/{one}" for one in (events if WHOLE else events[::3])])
    assert caught == []
    assert [one for one in wrong if "422" not in one] == []


async def looked_at(page: Page, url: str, first: list[str]) -> list[str]:
    waiting = [*first, "/", "/events", "/deliveries", "/routes/harm", "/refused", "/audit", "/replays", "/account"]
    seen: set[str] = set()
    caught: list[str] = []
    while waiting and len(seen) < MOST_PAGES:
        path = waiting.pop(0)
        if path in seen or path.endswith("/raw"):
            continue
        seen.add(path)
        answer = await page.goto(url + path)
        assert answer is not None
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        await page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
        assert await page.evaluate("document.baseURI.startsWith(location.origin)")
        caught += [f"{path}: {one}" for one in await page.evaluate("window.caught")]
        links = await page.eval_on_selector_all("a", "found => found.map(one => one.getAttribute('href'))")
        assert [one for one in links if not one.startswith(("/", "#", "http://", "https://"))] == []
        waiting += [one.partition("#")[0] for one in links if one.startswith("/") and not one.startswith("//")]
    assert len(seen) >= min(MOST_PAGES, 60)
    return caught
