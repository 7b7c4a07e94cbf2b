"""axe-core, which knows the rules of accessibility, finds nothing on any page. It comes from npm: `make axe`."""

from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.dashboard.looks import ENOUGH, FOLDS, open_tour, pages, wear
from tests.dashboard.test_browser import CHROMIUM, chromium
from tests.whole import at_length

__all__ = ["chromium"]
AXE = Path(__file__).parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or not AXE.exists(), reason="needs Chromium and axe-core (`make axe`); CI has both"
)
RUN = """async () => (await axe.run({resultTypes: ["violations"], preload: false})).violations.map(
  (one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`)"""


@at_length
async def test_no_page_breaks_a_rule(chromium: Browser, tmp_path: Path) -> None:
    """A rule judges what is there, which depends on the width alone, or colours, which depend on the scheme alone."""
    async with open_tour(chromium, tmp_path) as tour:
        for tab in tour.tabs.values():
            await tab.add_init_script(path=AXE)
        for name, shown in pages(tour.scene).items():
            page = await tour.visit(shown)
            await page.evaluate(FOLDS, True)
            for look in ENOUGH:
                await wear(page, look)
                assert await page.evaluate(RUN) == [], f"{name}, {look.name}"
