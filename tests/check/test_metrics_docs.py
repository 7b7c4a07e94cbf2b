"""Metrics have one list: what the code tells, docs/operate.md explains, and docs/grafana.json draws."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub.event import EVENT_TYPES
from hub.web.metrics import MEASURES, OPEN_STATUSES, STATES

DOCS = Path(__file__).parents[2] / "docs"
OPERATE = (DOCS / "operate.md").read_text()
GRAFANA: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text())
LABELS = {name: set(measure.labels) for measure in MEASURES for name in measure.samples}
NAME = re.compile(r"litekart_hub_\w+")
SELECTOR = re.compile(r"(litekart_hub_\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
# What a panel may ask of a label: its values, or the dashboard's own variable.
VALUES = {"status": set(OPEN_STATUSES), "state": set(STATES), "type": {*EVENT_TYPES, "other"}}


def expressions(found: Any) -> Iterator[str]:
    """Every query in the dashboard, those of its variables included."""
    if isinstance(found, dict):
        yield from (value for key, value in found.items() if key in {"expr", "query"} and isinstance(value, str))
        found = list(found.values())
    if isinstance(found, list):
        for value in found:
            yield from expressions(value)


EXPRESSIONS = [one for one in expressions(GRAFANA) if one != "prometheus"]


def test_the_page_has_every_measure_as_the_code_has_it() -> None:
    rows = re.findall(r"^\| (`litekart_hub_[^|]*) \| ([^|]*) \| (counter|gauge|summary) \| ([^|]*) \|$", OPERATE, re.M)
    told = [(re.findall(r"`(\w+)`", names), re.findall(r"`(\w+)`", labels), *rest) for names, labels, *rest in rows]
    assert told == [(list(one.samples), list(one.labels), one.kind, one.meaning) for one in MEASURES]


def test_the_page_names_no_other_measure() -> None:
    assert set(NAME.findall(OPERATE)) == set(LABELS)


def test_panels_ask_for_what_there_is() -> None:
    assert len(EXPRESSIONS) >= len(GRAFANA["panels"]) > 0
    for expression in EXPRESSIONS:
        names = NAME.findall(expression)
        assert names, expression
        assert [name for name in names if name not in LABELS] == [], expression
        common = set.intersection(*(LABELS[name] for name in names))
        for grouped in GROUPED.findall(expression):
            assert {label.strip() for label in grouped.split(",")} <= common, expression
        for name, selector in SELECTOR.findall(expression):
            for label, value in re.findall(r'(\w+)\s*(?:=|!=|=~|!~)\s*"([^"]*)"', selector):
                assert label in LABELS[name], expression
                assert value == f"${label}" or value in VALUES.get(label, ()), expression


def test_panels_name_series_by_labels_that_they_kept() -> None:
    for panel in GRAFANA["panels"]:
        for target in panel["targets"]:
            kept = {label.strip() for grouped in GROUPED.findall(target["expr"]) for label in grouped.split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_every_measure_but_the_versions_is_drawn() -> None:
    drawn = {name for expression in EXPRESSIONS for name in NAME.findall(expression)}
    assert set(LABELS) - drawn == {"litekart_hub_build_info"}


def test_panels_take_the_data_source_that_the_import_asks_for() -> None:
    (asked,) = GRAFANA["__inputs"]
    assert (asked["name"], asked["pluginId"]) == ("DS_PROMETHEUS", "prometheus")
    sources = [panel["datasource"]["uid"] for panel in GRAFANA["panels"]]
    sources += [target["datasource"]["uid"] for panel in GRAFANA["panels"] for target in panel["targets"]]
    sources += [variable["datasource"]["uid"] for variable in GRAFANA["templating"]["list"]]
    assert set(sources) == {"${DS_PROMETHEUS}"}


def test_panels_lie_side_by_side() -> None:
    places = [panel["gridPos"] for panel in GRAFANA["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in GRAFANA["panels"]}) == len(places)
