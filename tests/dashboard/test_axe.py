"""axe-core, which knows the rules of accessibility, finds nothing on any page. It comes from npm: `make axe`."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.dashboard.scene import filled, open_scene
from tests.dashboard.screenshots import pages
from tests.dashboard.served import pages_of
from tests.dashboard.test_browser import CHROMIUM, chromium, tab

__all__ = ["chromium"]
AXE = Path(__file__).parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or not AXE.exists(), reason="needs Chromium and axe-core (`make axe`); CI has both"
)
RUN = """async () => (await axe.run()).violations.map(
  (one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`)"""


@pytest.mark.parametrize("look", [("light", 1280), ("dark", 390)], ids=["light and wide", "dark and narrow"])
async def test_no_page_breaks_a_rule(chromium: Browser, tmp_path: Path, look: tuple[str, int]) -> None:
    scheme, width = look
    scene = await filled(tmp_path)
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "bypass_csp": True}
    async with open_scene(tmp_path) as lab, pages_of(lab.hub) as url:
        page, _ = await tab(chromium, **options)
        for name, path in pages(scene).items():
            await page.goto(url + path)
            await page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
            await page.add_script_tag(path=AXE)
            assert await page.evaluate(RUN) == [], name
