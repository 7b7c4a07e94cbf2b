"""What commands print on a terminal of some width, and where there is none."""

import io
import os
import re
from collections.abc import Callable
from contextlib import redirect_stdout, suppress

import pytest

from hub.commands.output import show_pairs, show_table

ID, TIME = "dlv_18ebba32715659665ebba016ef6c5054", "2026-11-26 21:50:19Z"
COLUMNS = ["time", "id", "route", "type", "entity", "status", "note"]
NOTE = "HTTP 500: the shop's other system is down for its yearly stock-taking, and comes back tomorrow at noon"
ROW = [TIME, ID, "orders-to-slack", "order.placed", "order:ord_123456", "dead", NOTE]


def on_terminal(width: int, monkeypatch: pytest.MonkeyPatch, show: Callable[[], None]) -> list[str]:
    """The lines on a terminal of that width, without colours."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with open(theirs, "w") as out, redirect_stdout(out):
        show()
    text = b""
    # The end of a terminal that nobody has open any more is an error there.
    with suppress(OSError):
        while more := os.read(ours, 65_536):
            text += more
    os.close(ours)
    return re.sub(r"\x1b\[[\d;]*m", "", text.decode()).replace("\r", "").splitlines()


@pytest.mark.parametrize("width", [30, 60, 80, 100])
def test_on_a_narrow_terminal_a_row_has_two_lines_and_nothing_is_cut(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    first, second, third, *_ = on_terminal(width, monkeypatch, lambda: show_table(COLUMNS, [ROW, ROW], ""))
    assert first == third == f"{TIME}  {ID}  dead"
    assert second == f"    route orders-to-slack, type order.placed, entity order:ord_123456, note {NOTE}"


def test_on_a_wide_terminal_it_is_a_table_whose_ids_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    head, first, *rest = on_terminal(150, monkeypatch, lambda: show_table(COLUMNS, [ROW], ""))
    assert head.split() == COLUMNS
    assert first.startswith(f"{TIME}  {ID}  orders-to-slack")
    assert all(len(line) <= 150 for line in (head, first, *rest))
    assert len(rest) >= 1


def test_what_has_no_id_is_told_apart_by_its_first_column(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, row = ["what", "is", "because"], ["route orders-to-slack", "failed", NOTE]
    lines = on_terminal(30, monkeypatch, lambda: show_table(columns, [row], ""))
    assert lines == ["route orders-to-slack", f"    is failed, because {NOTE}"]


def test_where_there_is_no_terminal_a_row_is_one_line() -> None:
    with redirect_stdout(io.StringIO()) as out:
        show_table(COLUMNS, [[*ROW[:-1], NOTE * 10], [*ROW[:-2], "delivered", ""]], "")
        show_pairs([("status", "degraded"), ("because", NOTE * 10), ("note", "")])
    head, first, second, *pairs = out.getvalue().splitlines()
    assert head.split() == COLUMNS
    assert first.endswith(NOTE * 10)
    assert second.endswith("delivered")
    assert first.index("dead") == second.index("delivered") == head.index("status")
    assert pairs == ["status   degraded", f"because  {NOTE * 10}"]
