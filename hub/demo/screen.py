"""What the demo shows: lines of at most 100 columns, in colour on a terminal and plain elsewhere.

Everything that came from outside is shown as it is: never read as markup, on one line, without control characters.
"""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hub.demo.counterparts import FAILURES, Arrival
from hub.demo.paste import curl_command, hub_command
from hub.demo.story import ENDPOINT, MAIL, PLACES, SLACK
from hub.errors import CommandError
from hub.testing.store import Call

WIDEST = 100
EVENT = "bold cyan"
FAILED = "bold red"
TAKEN = "bold green"
QUIET = "bright_black"
STYLES = dict(zip(PLACES, ("magenta", "yellow", "blue"), strict=True))
STORE = "Store"
ROUTES = (
    ("big-orders", "order.placed, when data.total >= 100", SLACK),
    ("low-stock", "inventory.low", SLACK),
    ("shop-mail", "order.*, customer.*", MAIL),
    ("everything", "every event, signed", ENDPOINT),
)
COMMANDS = ("send order.placed", "events", "deliveries", "status")


@dataclass(frozen=True)
class Answered:
    """A webhook that the hub answered: the demo's number for it, what it was, and the answer."""

    number: int | None
    type: str
    entity: str
    status: int
    event_id: str
    duplicate: bool
    at: float


class Paper(Console):
    """A console whose reader may leave, as `| head` does: then the demo ends in good order."""

    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise CommandError("nobody reads what it says") from None


class Screen:
    """Where the lines go. The clock in front of them begins when everything is up."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Paper(highlight=False, markup=False, emoji=False)
        self.console.width = min(self.console.width, WIDEST) if self.console.is_terminal else WIDEST
        self._began = time.monotonic()

    def introduce(self, webhook_url: str, store_url: str, dashboard: str, folder: Path, seconds: float) -> None:
        """What is running, where to watch it, and which way the events go."""
        self.title("litekart-hub demo")
        self.note(
            "A hub, and beside it a store, a mail server, a Slack and an HTTP endpoint, all on this machine.",
            f"It keeps everything in {folder}, which is removed at the end.",
            "",
        )
        for route, what, place in ROUTES:
            self.line(f"  {route:<12}", (f"{what:<40}", QUIET), "to ", (place, STYLES[place]))
        self.note(
            "",
            f"The endpoint is down when the first order comes: it refuses it {FAILURES} times, then takes it.",
            "A webhook says little: ids and a total. For names and items the hub asks the store's API",
            f"on {store_url}.",
            f"The hub listens on {webhook_url}, {duration(seconds)} after its start.",
            "Its dashboard, by a link that logs in once:",
        )
        self.whole(f"  {dashboard}", "bold")
        self.note("")
        self._began = time.monotonic()

    def event(self, one: Answered) -> None:
        """A webhook arriving at the hub, and its answer."""
        answer = (str(one.status), TAKEN if one.status == 200 else FAILED)
        known = ("  a duplicate: nothing is sent twice" if one.duplicate else f"  {one.event_id}", QUIET)
        self.line(
            *self._begin(one.at, one.number, EVENT), (f"{one.type:<21}", EVENT), f"{one.entity:<22}", answer, known
        )

    def arrival(self, one: Arrival, event_number: int | None) -> None:
        """A message as its counterpart received it, or the attempt that it refused."""
        start = (*self._begin(one.at, event_number, QUIET), (f"  {one.place:<10}", STYLES[one.place]))
        if one.refusal is not None:
            failed = (f"attempt {one.attempt} failed  ", FAILED)
            self.line(*start, failed, one.text, (f"  {one.refusal}, will be retried", FAILED))
        elif one.attempt > 1:
            self.line(*start, (f"attempt {one.attempt} taken   ", TAKEN), one.text)
        else:
            self.line(*start, one.text)

    def call(self, one: Call, at: float, event_number: int | None) -> None:
        """The hub asking the store, and the answer's status."""
        answer = (f"  {one.status}", TAKEN if one.status == 200 else FAILED)
        start = (*self._begin(at, event_number, QUIET), (f"  {STORE:<10}", TAKEN))
        self.line(*start, f"is asked: {one.method} {one.path}", answer)

    def summary(self, rows: Iterable["Row"], events: int, calls: int) -> None:
        """How many messages went where, how often something had to be tried again, how long it took."""
        rows = list(rows)
        self.title("Delivered")
        table = Table(box=None, padding=(0, 3, 0, 2), header_style="bold")
        table.add_column("Counterpart")
        for heading in ("Messages", "Retries", "Median time", "Longest time"):
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(
                Text(row.place, STYLES[row.place]), str(row.messages), str(row.retries),
                duration(statistics.median(row.seconds)) if row.seconds else "",
                duration(max(row.seconds)) if row.seconds else "",
            )  # fmt: skip
        self.console.print(table)
        messages, retries = sum(row.messages for row in rows), sum(row.retries for row in rows)
        self.note(
            "",
            f"{events} events, {messages} messages, {retries} retries, {calls} calls to the store. One webhook came "
            "twice; no message did.",
            "Times run from a webhook's post to its message at the counterpart.",
        )

    def invite(self, config: Path, webhook_url: str, secret: str) -> None:
        """What one can do now, in another terminal."""
        self.title("Your turn, in another terminal")
        self.whole(f"  Webhook URL   {webhook_url}", "bold")
        self.whole(f"  Its secret    {secret}", "bold")
        self.note(
            "", "A large order, signed for exactly these bytes. Pasted again it is answered `duplicate: true`:", ""
        )
        self.whole(curl_command(webhook_url, secret))
        self.note("", "A fresh one each time, and ways to look around:", "")
        for words in COMMANDS:
            self.whole(hub_command(words, config))
        self.note("", "A new event comes every few seconds; yours are marked `you`. Ctrl-C ends the demo.", "")

    def failure(self, reason: str) -> None:
        """Why the demo ends with exit code 1."""
        first, *rest = reason.splitlines()
        self.note("")
        self.whole(f"The demo failed: {clean(first)}", FAILED)
        for line in rest:
            self.whole(f"  {clean(line)}")

    def title(self, text: str) -> None:
        self.console.print()
        self.console.print(Rule(Text(text, "bold"), align="left", style=QUIET))

    def note(self, *lines: str) -> None:
        """Sentences, broken between words where the screen ends."""
        for line in lines:
            self.console.print(Padding(Text(clean(line)), (0, 0, 0, 2)) if line else "")

    def line(self, *parts: str | tuple[str, str]) -> None:
        """One line of plain or styled pieces, cut where the screen ends."""
        text = Text()
        for part in parts:
            piece, style = (part, "") if isinstance(part, str) else part
            text.append(clean(piece), style)
        self.console.print(text, no_wrap=True, overflow="ellipsis")

    def whole(self, text: str, style: str = "") -> None:
        """Text that must not be cut, since it is copied, say: the terminal breaks it where it must."""
        self.console.print(Text(text, style), soft_wrap=True)

    def _begin(self, at: float, number: int | None, style: str) -> tuple[tuple[str, str], tuple[str, str]]:
        shown = "you" if number is None else f"#{number}"
        return (f"{max(at - self._began, 0):7.2f} s", QUIET), (f"{shown:>5} ", style)


@dataclass(frozen=True)
class Row:
    """A counterpart in the summary; `seconds` from each event's receipt to its message."""

    place: str
    messages: int
    retries: int
    seconds: Sequence[float]


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def clean(text: str) -> str:
    """On one line, with a mark in place of what a terminal might obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
