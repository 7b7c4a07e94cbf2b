"""`python -m tests.dashboard.screenshots [NAME …]`: every page, light and dark, wide and narrow, into `screenshots/`.

For looking at. With names, only those pages; the browser is the system's Chromium.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.dashboard.looks import LOOKS, Tour, open_tour, pages, too_wide, wear

FOLDER = Path("screenshots")


async def take(tour: Tour, name: str) -> None:
    """One page's pictures."""
    page = await tour.visit(pages(tour.scene)[name])
    for look in LOOKS:
        await wear(page, look)
        if await too_wide(page):
            print(f"  {name} {look.name}: wider than the window")
        await page.screenshot(path=FOLDER / f"{name}-{look.name}.png", full_page=True)


async def main(names: list[str]) -> None:
    chromium = shutil.which("chromium") or os.environ.get("CHROMIUM")
    with tempfile.TemporaryDirectory() as folder:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            async with open_tour(browser, Path(folder)) as tour:
                for tab in tour.tabs.values():
                    tab.on("console", lambda message: print(f"  {message.type}: {message.text}"))
                wanted = [name for name in pages(tour.scene) if not names or name in names]
                for name in wanted:
                    await take(tour, name)
            await browser.close()
    print(f"{len(wanted) * len(LOOKS)} pictures in {FOLDER}/")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(main(sys.argv[1:]))
