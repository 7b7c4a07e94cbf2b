"""`python -m tests.dashboard.screenshots [NAME …]`: every page, light and dark, wide and narrow, into `screenshots/`.

For looking at. With names, only those pages; the browser is the system's Chromium.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, async_playwright

from tests.dashboard.scene import Scene, filled, open_scene
from tests.dashboard.served import pages_of

FOLDER = Path("screenshots")
WIDTHS = {"wide": 1280, "narrow": 390}


def pages(scene: Scene) -> dict[str, str]:
    """Each page's name and path."""
    return {
        "overview": "/",
        "events": "/events",
        "events-none": "/events?q=nothing-like-that",
        "event-delivered": f"/events/{scene.delivered}",
        "event-dead": f"/events/{scene.dead}",
        "event-held": f"/events/{scene.held}",
        "event-repeated": f"/events/{scene.repeated}",
        "event-hostile": f"/events/{scene.hostile[9]}",
        "event-replay": f"/events/{scene.dead}/replay?routes=erp&routes=team-slack&routes=crm",
        "event-as-new": f"/events/{scene.delivered}/replay?routes=erp&as_new=1",
        "deliveries": "/deliveries",
        "deliveries-dead": "/deliveries?status=dead",
        "preview-replay": "/deliveries/preview?all=replay&status=dead&route=erp",
        "preview-cancel": "/deliveries/preview?all=cancel&status=paused&route=warehouse",
        "replays": "/replays",
        "replay": f"/replays/{scene.replay}",
        "routes": "/routes",
        "route": "/routes/erp",
        "route-broken": "/routes/crm",
        "route-paused": "/routes/warehouse",
        "refused": "/refused",
        "refused-one": f"/refused/{scene.refused}",
        "refused-signed": f"/refused/{scene.signed}",
        "audit": "/audit",
        "wrong-filter": "/events?since=yesterday",
    }


async def take(browser: Browser, url: str, wanted: dict[str, str]) -> None:
    scheme: Literal["light", "dark"]
    for scheme in ("light", "dark"):
        for width, pixels in WIDTHS.items():
            context = await browser.new_context(
                viewport={"width": pixels, "height": 900}, color_scheme=scheme, timezone_id="Asia/Kolkata"
            )
            tab = await context.new_page()
            tab.on("console", lambda message: print(f"  {message.type}: {message.text}"))
            for name, path in wanted.items():
                answer = await tab.goto(url + path, wait_until="load")
                if answer is not None and answer.status >= 400:
                    print(f"  {name}: {answer.status}")
                broad = await tab.evaluate("document.documentElement.scrollWidth > window.innerWidth")
                if broad:
                    print(f"  {name} {width}: wider than the window")
                await tab.screenshot(path=FOLDER / f"{name}-{scheme}-{width}.png", full_page=True)
            await context.close()


async def main(names: list[str]) -> None:
    chromium = shutil.which("chromium") or os.environ.get("CHROMIUM")
    with tempfile.TemporaryDirectory() as folder:
        scene = await filled(Path(folder))
        async with open_scene(Path(folder)) as lab, pages_of(lab.hub) as url:
            wanted = {name: path for name, path in pages(scene).items() if not names or name in names}
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                await take(browser, url, wanted)
                await browser.close()
    print(f"{len(wanted) * 2 * len(WIDTHS)} pictures in {FOLDER}/")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(main(sys.argv[1:]))
