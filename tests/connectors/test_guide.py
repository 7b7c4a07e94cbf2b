"""docs/connector.md is true: its connector passes its tests, its tables are the code's."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from hub import connector, errors
from hub.connector import Connector, Context
from hub.litekart import Customer, LineItem, Order, Product
from hub.outcome import of_smtp_code, of_status, outcome_of
from hub.testing import HTTP_ANSWERS, ConnectorTests

GUIDE = (Path(__file__).parents[2] / "docs" / "connector.md").read_text(encoding="utf-8")
INI = """[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
PYTHON = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


SHELF = """
from hub.connector import Connector, Context, Event, Preview, Receipt

class Shelf(Connector):
    reads_state = True

    class Settings(Connector.Settings):
        url: str

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        if done := await ctx.effects.get("put"):
            return Receipt(f"already sent: {done.value}")
        state = await ctx.http.get(self.settings.url)
        state.raise_for_status()
        headers = {"Idempotency-Key": ctx.key}
        response = await ctx.http.put(self.settings.url, json={"stock": state.json()["stock"]}, headers=headers)
        response.raise_for_status()
        await ctx.effects.put("put", ctx.key)
        return Receipt("the shelf knows its stock")

    async def preview(self, event: Event, ctx: Context) -> Preview:
        return Preview("Stock to the shelf", "as it is then")
"""


BUYS = """
from dataclasses import replace

import pytest

from hub.connector import Hold, Released, Skip
from hub.testing import HttpSink, event_of, open_bench, sample
from litekart_buyer import Buyer

async def test_what_is_low_is_ordered_once_together_and_after_a_person_said_so():
    async with open_bench(HttpSink()) as bench:
        buyer = Buyer(Buyer.Settings(url=bench.url))

        async def low(sku, stock):
            event = event_of(sample("inventory.low", sku=sku, stock=stock))
            return await buyer.deliver(event, bench.context(event))

        assert "opened: 12 of KET-1" in (await low("KET-1", 4)).text
        await low("POT-1", 3)
        with pytest.raises(Skip, match="already open"):
            await low("KET-1", 3)
        (due,) = bench.reorders.due()
        bench.begin()
        with pytest.raises(Hold, match="2 lines from Acme"):
            await buyer.deliver(due, bench.context(due))
        approved = replace(bench.context(due), released=Released("asha", bench.now()))
        sent = await buyer.deliver(due, approved)
        assert sent.text.replace("sent as", "already sent:") == (await buyer.deliver(due, approved)).text
        assert len(bench.counterpart.received) == 1
        with pytest.raises(Skip, match="stock 40 > 10"):
            await low("KET-1", 40)
        assert "opened" in (await low("KET-1", 4)).text
"""


def run_tests(folder: Path) -> str:
    """The tests in `folder`, in a pytest of their own; its output. They must pass."""
    (folder / "pytest.ini").write_text(INI, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_guides_connectors_pass_the_guides_tests(tmp_path: Path) -> None:
    chime, kit, shipper, buyer, fetching, calling, own = PYTHON
    files = {
        "litekart_chime": chime, "test_chime": kit, "litekart_shelf": SHELF, "test_shelf": fetching, "test_text": own,
        "litekart_shipper": shipper, "test_shipper": calling, "litekart_buyer": buyer, "test_buyer": BUYS,
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    kit_tests = [name for name in dir(ConnectorTests) if name.startswith("test_")]
    assert f"{3 * len(kit_tests) + 3} passed" in run_tests(tmp_path)


def test_every_situation_of_the_kit_is_in_the_guide() -> None:
    told = GUIDE.partition("## The kit")[2]
    assert [name for name in HTTP_ANSWERS if name.isdigit() and name not in told] == []


def test_the_guide_tells_what_a_new_look_finds() -> None:
    told = GUIDE.partition("`reads_state = True`")[2].partition("## ")[0]
    for what in ("`-l1`", "empty `ctx.effects`", "`ctx.entity_effects` stay", "digest"):
        assert what in told.replace("\n", " ")


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose head row begins with `head`."""
    lines = GUIDE.split(f"| {head} |", 1)[1].splitlines()[2:]
    table = lines[: next(place for place, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_outcome_is_explained() -> None:
    explained = {row[0].strip("`").split("(")[0] for row in rows("raise")}
    offered = {
        name for name in connector.__all__
        if isinstance(cls := getattr(connector, name), type) and issubclass(cls, errors.Outcome)
    }  # fmt: skip
    assert explained == offered


def test_the_table_of_what_flies_is_the_codes() -> None:
    told = {row[1].split("`")[1]: row[0] for row in rows("what flies") if "HTTP" in row[0]}
    for status in [*range(300, 309), *range(400, 452), *range(500, 512)]:
        outcome = type(of_status(status)).__name__
        named = [name for name, cell in told.items() if names(cell, status)]
        assert named == [outcome] or (not named and outcome == "Rejected"), f"{status}: {outcome}, told {named}"
    for code in (530, 534, 535):
        assert type(of_smtp_code(code, "")).__name__ == "HoldRoute"
        assert str(code) in told["HoldRoute"]
    assert type(of_smtp_code(451, "")).__name__ == "TryAgain"
    assert type(of_smtp_code(550, "")).__name__ == "Rejected"


def names(cell: str, status: int) -> bool:
    """Whether the HTTP part of a cell names that status, itself or as 3xx."""
    http = next(piece for piece in cell.split(";") if "HTTP" in piece)
    return "other" not in http and (str(status) in http or f"{status // 100}xx" in http)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("no"), errors.TryAgain),
        (httpx.ReadTimeout("no"), errors.TryAgain),
        (httpx.RemoteProtocolError("no"), errors.TryAgain),
        (errors.TemplateError("no"), errors.Rejected),
        (KeyError("no"), errors.TryAgain),
    ],
)
def test_the_rest_of_that_table(error: Exception, expected: type[errors.Outcome]) -> None:
    assert type(outcome_of(error, datetime.now(UTC))) is expected


@pytest.mark.parametrize("model", [Order, LineItem, Customer, Product])
def test_every_field_of_what_is_fetched_is_named(model: type[BaseModel]) -> None:
    assert {name for name in model.model_fields if f"`{name}`" not in GUIDE} == set()


def test_every_part_of_ctx_is_explained() -> None:
    for name in Context.__dataclass_fields__:
        assert f"`{name}" in GUIDE, f"ctx.{name} is not in the guide"


def test_every_method_of_a_connector_is_explained() -> None:
    for name in ("open", "deliver", "check", "preview", "close", "reads_state"):
        assert hasattr(Connector, name)
        assert name in GUIDE
