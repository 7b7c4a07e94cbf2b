"""docs/erp.md is true of Odoo: its route loads, and its tables name every setting and no other."""

import re
from pathlib import Path

from pydantic import BaseModel

from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.settings import Settings
from hub.config import load_config

GUIDE = Path(__file__).parents[3] / "docs/erp.md"
STORE = """
stores:
  main: {url: "https://shop.example", webhook_secrets: ["a-webhook-secret-of-the-guide"]}
"""


def test_the_guides_route_loads(tmp_path: Path) -> None:
    route, _ = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    path = tmp_path / "config.yaml"
    path.write_text(STORE + route)
    config = load_config(path, {"ODOO_API_KEY": "canary-key-of-odoo"})
    found = config.routes["odoo"]
    assert (found.ordered, found.timeout.total_seconds(), found.concurrency) == (True, 60, 4)
    path.write_text(STORE + route + "    ordered: false\n    timeout: 90s\n")
    changed = load_config(path, {"ODOO_API_KEY": "canary-key-of-odoo"}).routes["odoo"]
    assert (changed.ordered, changed.timeout.total_seconds(), changed.concurrency) == (False, 90, 4)


def test_its_tables_name_every_setting_of_all_erps_and_of_odoo() -> None:
    shared, _, rest = GUIDE.read_text().partition("## Odoo\n")
    assert named(shared) == names(Settings) - {"odoo", "rest"}
    assert named(rest.partition("## Any REST ERP")[0].partition("What the merchant")[0]) == names(OdooSettings)


def named(part: str) -> set[str]:
    """The words in the first column of the settings' tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", part, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([a-z_]+)`", cell)}


def names(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)
