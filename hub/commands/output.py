"""What commands print. Text from outside is shown as it is: never as markup, never as an escape sequence."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hub.models import UNFIT

# Beside the control characters: what turns the reading direction, or ends a line.
MISLEADING = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")
GAP = 2
# What a column that may wrap needs to be read at all.
NARROWEST = 16
WHOLE = {"id", "event", "delivery", "time", "status"}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
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
    """Standard output. What wraps there is for terminals alone: elsewhere lines stay whole."""
    return Console(markup=False, emoji=False, highlight=False)


def show_json(value: Any) -> None:
    """JSON in ASCII, so that no character does anything to a terminal."""
    print(json.dumps(value, indent=2))


def say(*lines: Any) -> None:
    """Lines of text."""
    console = terminal()
    for line in lines:
        console.print(Text(clean(line)), soft_wrap=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], none: str) -> None:
    """A table; `none` is said where it would be empty. Nothing is cut, and ids, times and statuses never break.

    Where a terminal is too narrow for that, a row has two lines: what tells it apart, and below it the rest. Where
    there is no terminal, a row is one line.
    """
    cells = [[styled(cell) for cell in row] for row in rows]
    console = terminal()
    if not cells:
        say(none)
    elif not sys.stdout.isatty():
        for line in aligned(columns, cells):
            console.print(line, soft_wrap=True)
    elif least_width(columns, cells) <= console.width:
        console.print(_table(columns, cells))
    else:
        for line in stacked(columns, cells):
            console.print(line, soft_wrap=True)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=name in WHOLE, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def widths(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> list[int]:
    """How wide each column is, unbroken."""
    return [max(cell_len(name), *(row[at].cell_len for row in rows)) for at, name in enumerate(columns)]


def least_width(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> int:
    """The width below which a table of these would be cut, or be columns of single letters."""
    full = zip(columns, widths(columns, rows), strict=True)
    return sum((width if name in WHOLE else min(width, NARROWEST)) + GAP for name, width in full)


def aligned(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """The table with each row on one line, however long."""
    full = widths(columns, rows)
    for row in ([Text(name, "bold") for name in columns], *rows):
        line = Text()
        for width, cell in zip(full, row, strict=True):
            line.append_text(cell).append(" " * (width - cell.cell_len + GAP))
        line.rstrip()
        yield line


def stacked(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """Two lines for each row: the columns that never break, or the first if there are none; and the others, named."""
    heads = [at for at, name in enumerate(columns) if name in WHOLE] or [0]
    for row in rows:
        yield Text(" " * GAP).join(row[at] for at in heads)
        rest = [at for at in range(len(columns)) if at not in heads and row[at].plain]
        if rest:
            yield Text("    ") + Text(", ").join(Text(f"{columns[at]} ", "dim") + row[at] for at in rest)


def styled(cell: Any) -> Text:
    """A cell; a status in its colour."""
    text = clean(cell)
    return Text(text, style=STYLES.get(text, ""))


def show_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one to a line; what has no value is left out."""
    rows = [(Text(name, "bold"), styled(value)) for name, value in pairs if value not in (None, "", [], {})]
    console = terminal()
    if sys.stdout.isatty():
        grid = Table.grid(padding=(0, GAP))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for row in rows:
            grid.add_row(*row)
        console.print(grid)
        return
    wide = max((name.cell_len for name, _ in rows), default=0)
    for name, value in rows:
        console.print(name + Text(" " * (wide - name.cell_len + GAP)) + value, soft_wrap=True)


def told_moment(value: Any) -> Any:
    """An ISO time as people read it; anything else as it is."""
    return moment(value) if isinstance(value, str) and ISO.fullmatch(value) else value


def moment(value: str | None) -> str:
    """An ISO time to the second, for people."""
    return "" if value is None else f"{value[:19].replace('T', ' ')}Z"


def complain(*lines: Any) -> None:
    """One clear line, or a few, on standard error."""
    for line in lines:
        print(f"hub: {clean(line)}", file=sys.stderr)
