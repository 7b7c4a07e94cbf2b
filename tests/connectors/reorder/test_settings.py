"""What a merchant fills in by hand: every mistake is told at start, at its place, with what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.reorder import Reordering
from connectors.reorder.settings import COLUMNS as COLUMNS_OF
from hub.config import Config, load_config
from hub.errors import ConfigError

STORE = {"url": "https://shop.example", "webhook_secrets": ["a secret of the shop's"]}
MAIL = {"host": "mail.example", "from": "shop@example.test"}
GOOD = {
    "suppliers": {"Acme": {"email": "orders@acme.example"}, "Beta": {"post": {"url": "https://beta.example/orders"}}},
    "supplier": "Acme",
    "mail": MAIL,
    "quantity": {"target": 60},
}
COLUMNS = "sku;supplier;pack;cover;price;lead_time;order\n"


def loaded(folder: Path, **settings: Any) -> Config:
    given = {name: value for name, value in (GOOD | settings).items() if value is not None}
    route = {"connector": "connectors.reorder:Reordering", "events": ["inventory.low"], "settings": given}
    (folder / "config.yaml").write_text(yaml.safe_dump({"stores": {"main": STORE}, "routes": {"stock": route}}))
    return load_config(folder / "config.yaml", {})


def settings_of(config: Config) -> Reordering.Settings:
    settings = config.routes["stock"].settings
    assert isinstance(settings, Reordering.Settings)
    return settings


@pytest.mark.parametrize(
    ("wrong", "place", "said"),
    [
        ({"quantity": None}, "settings.quantity", "is missing"),
        ({"quantity": {}}, "settings.quantity", "name one of lot, target, rule, cover"),
        ({"quantity": {"lot": 5, "target": 60}}, "settings.quantity", "not lot and target"),
        ({"quantity": {"lot": 5, "sales": "30d"}}, "settings.quantity", "lot needs none"),
        ({"quantity": {"cover": "12h"}}, "settings.quantity", "cover must be from 1d to 366d"),
        ({"quantity": {"rule": "{{ stock"}}, "settings.quantity.rule", "unexpected end"),
        ({"supplier": "Acmee"}, "settings.supplier", "did you mean Acme?"),
        ({"skus": {"KET-1": {"supplier": "Gamma"}}}, "settings.skus", "KET-1.supplier Gamma is not under `suppliers`"),
        ({"skus": {"KET-1": {"pak": 12}}}, "settings.skus.KET-1.pak", "did you mean pack?"),
        ({"suppliers": {"Acme": {}}}, "settings.suppliers.Acme", "name one way for its orders: email, post or erp"),
        ({"suppliers": {"Acme": {"email": "acme"}}}, "settings.suppliers.Acme.email", "is no plain address"),
        ({"mail": None}, "settings", "suppliers.Acme is ordered from by email: `mail` must name the mail server"),
        (
            {"suppliers": {"Acme": {"erp": "Acme GmbH"}}, "mail": None},
            "settings", "suppliers.Acme is ordered from in the ERP: `odoo` or `rest` must say where that is",
        ),
        ({"suppliers": {}, "supplier": None, "mail": None}, "settings", "name at least one of `suppliers`, or the ERP"),
        ({"limits": {"order": 500}}, "settings", "limits need `currency`"),
        ({"limits": {}}, "settings.limits", "name a limit: order, day or both"),
        ({"window": "30d"}, "settings.window", "must be from"),
        ({"sku_file": "none.csv"}, "settings.sku_file", "none.csv cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place(tmp_path: Path, wrong: dict[str, Any], place: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **wrong)
    assert any(f"routes.stock.{place}: " in line and said in line for line in caught.value.problems), str(caught.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("name,pack\nKettle,12\n", "its first row must name the columns, `sku` among them"),
        ("sku,suplier\n", "unknown column 'suplier'; did you mean supplier?"),
        ("sku,pack,pack\n", "two columns are named pack"),
        (f"{COLUMNS}KET-1;Acme;a dozen;;;;\n", "line 2: pack: must be a valid integer"),
        (f"{COLUMNS}KET-1;;;;;;\nKET-1;;;;;;\n", "line 3: KET-1 stands in it twice"),
        (f"{COLUMNS};Acme;;;;;\n", "line 2: no sku"),
        (f"{COLUMNS}KET-1;Acme;;;;;;;\n", "line 2: more values than columns"),
        (f"{COLUMNS}KET-1;Gamma;;;;;\n", "skus.csv, KET-1: supplier Gamma is not under `suppliers`"),
        (f"{COLUMNS}KET-1;;;30;;;\n", "line 2: cover: must be a whole number and a unit"),
        (f"{COLUMNS}KET-1;;;;;;perhaps\n", "line 2: order must be yes or no"),
        ("sku\nKET-2\n", "KET-2 stands in `skus` too"),
    ],
)
def test_a_mistake_in_the_table_beside_the_config_is_told_with_its_line(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "skus.csv").write_text(table)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, sku_file="skus.csv", skus={"KET-2": {"pack": 6}})
    (line,) = caught.value.problems
    assert "routes.stock.settings.sku_file: " in line
    assert said in line


def test_the_table_reads_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    rows = 'KET-1;Beta;12;30d;"1.25";5d;yes\n\n;;;;;;\nOLD-1;;;;;;no\n'
    (tmp_path / "skus.csv").write_bytes(b"\xef\xbb\xbf" + f"SKU;{COLUMNS[4:]}{rows}".replace("\n", "\r\n").encode())
    settings = settings_of(loaded(tmp_path, sku_file="skus.csv"))
    kettle = settings.row("KET-1")
    assert (kettle.supplier, kettle.pack, str(kettle.price), kettle.order) == ("Beta", 12, "1.25", True)
    assert kettle.quantity is not None
    assert kettle.quantity.cover == kettle.quantity.sales_of
    assert settings.row("OLD-1").order is False
    assert settings.row("NEW-1").supplier is None


def test_what_looks_wrong_is_doubted(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, skus={"KET-1": {"threshold": 70}}, mail=MAIL | {"port": 465}, window="2h", close_after="1h"
    )
    assert [line.partition("settings: ")[2] for line in config.warnings if "routes.stock.settings" in line] == [
        "nothing is ordered from Beta: no SKU names it, and it has no `vendor`",
        "KET-1: the target 60 is not above the threshold 70",
        "mail: port 465 usually takes TLS from the first byte: set security: tls, or port: 587 for starttls",
        "`close_after` is shorter than `window`: reorders end before they are sent",
    ]


def test_the_guides_examples_are_right(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "reorder.md").read_text()
    whole, rest, odoo = (block.partition("```")[0] for block in guide.split("```yaml\n")[1:])
    table = guide.split("```\nsku,")[1].partition("```")[0]
    whole, rest, odoo = (
        re.sub(r"\$\{[A-Z_]+\}", "https://example.test/as-long-as-a-secret", one) for one in (whole, rest, odoo)
    )
    settings: dict[str, Any] = yaml.safe_load(whole)["routes"]["reorder"]["settings"]
    assert loaded(tmp_path, **settings).warnings == []
    assert loaded(tmp_path, **settings | yaml.safe_load(odoo)).warnings == []
    more = {"skus": None, "mail": None}
    assert loaded(tmp_path, **settings | more | yaml.safe_load(rest)).warnings == []
    (tmp_path / "skus.csv").write_text(f"sku,{table}")
    rows = settings_of(loaded(tmp_path, **settings | {"sku_file": "skus.csv", "skus": None}))
    assert (rows.row("KET-1").supplier_sku, rows.row("OLD-9").order) == ("B-7712", False)
    known = {name for name in COLUMNS_OF if f"`{name}`" in guide}
    assert known == COLUMNS_OF
    for field in Reordering.Settings.model_fields:
        assert field in guide, f"{field} is not in the guide"
