"""What commands print. Text from outside is shown as it is: never as markup, never as an escape sequence."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hub.models import UNFIT

# Beside the control characters: what turns the reading direction, or ends a line.
MISLEADING = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")
WIDE = 240
STYLES = {
    "delivered": "green", "ok": "green", "pending": "yellow", "held": "magenta", "dead": "red", "degraded": "red",
    "failed": "red", "skipped": "dim",
}  # fmt: skip


def clean(value: Any) -> str:
    """Text on one line, without anything that a terminal would obey."""
    if value is None:
        return ""
    return MISLEADING.sub("\ufffd", UNFIT.sub("\ufffd", " ".join(str(value).split("\n"))))


def terminal() -> Console:
    """Standard output; where it is no terminal, wide enough that nothing is cut."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(markup=False, emoji=False, highlight=False, width=width, soft_wrap=False)


def show_json(value: Any) -> None:
    """JSON in ASCII, so that no character does anything to a terminal."""
    print(json.dumps(value, indent=2))


def say(*lines: Any) -> None:
    """Lines of text."""
    console = terminal()
    for line in lines:
        console.print(Text(clean(line)), soft_wrap=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], none: str) -> None:
    """A table; `none` is said where it would be empty. Ids are never broken."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=name in {"id", "event", "delivery", "time", "status"}, overflow="fold")
    shown = 0
    for shown, row in enumerate(rows, 1):  # noqa: B007 - the count is what is wanted
        table.add_row(*(styled(cell) for cell in row))
    if shown:
        terminal().print(table)
    else:
        say(none)


def styled(cell: Any) -> Text:
    """A cell; a status in its colour."""
    text = clean(cell)
    return Text(text, style=STYLES.get(text, ""))


def show_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one to a line; what has no value is left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            grid.add_row(name, styled(value))
    terminal().print(grid)


def moment(value: str | None) -> str:
    """An ISO time to the second, for people."""
    return "" if value is None else f"{value[:19].replace('T', ' ')}Z"


def complain(*lines: Any) -> None:
    """One clear line, or a few, on standard error."""
    for line in lines:
        print(f"hub: {clean(line)}", file=sys.stderr)
