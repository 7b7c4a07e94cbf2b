"""Charts: hourly counts to the places of bars, stock to steps. Pure; templates draw them, also as tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hub.store.stats import HourCount

WIDTH, HEIGHT = 720, 150
LEFT, RIGHT, TOP, BOTTOM = 36, 4, 8, 24
HOURS = 24
LABEL_EVERY = 3
MOST_SERIES = 8
LABELS = 4
MOST_ROWS = 100
REST = "others"
OUTCOMES = ("delivered", "skipped", "held", "not_now", "try_again", "hold_route", "late", "lost", "dead")


@dataclass(frozen=True)
class Piece:
    """One colour of a bar; `style` is its class."""

    style: str
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """One hour: its place, its pieces from the ground up, what it says, and its numbers by series."""

    hour: datetime
    x: float
    width: float
    labelled: bool
    pieces: list[Piece]
    total: int
    numbers: list[int]
    text: str


@dataclass(frozen=True)
class Series:
    name: str
    style: str
    total: int


@dataclass(frozen=True)
class Chart:
    """What the template draws. `lines` are the heights of the grid's lines and their numbers."""

    bars: list[Bar]
    series: list[Series]
    lines: list[tuple[float, int]]
    total: int


@dataclass(frozen=True)
class Point:
    """What stock was seen when."""

    at: datetime
    stock: int
    threshold: int | None


@dataclass(frozen=True)
class StockChart:
    """Stock against threshold as paths of steps; `labels` are the times along the ground, `newest` for the table."""

    stock: str
    threshold: str
    lines: list[tuple[float, int]]
    labels: list[str]
    points: list[Point]
    newest: list[Point]


def stock_chart(rows: Sequence[Any], now: datetime) -> StockChart | None:
    """What was seen until now, oldest first; None where no stock was."""
    points = [Point(row.at, row.stock, row.threshold) for row in rows if row.stock is not None]
    if not points:
        return None
    first, length = points[0].at, max((now - points[0].at).total_seconds(), 1.0)
    top = round_up(max(1, *(max(point.stock, point.threshold or 0) for point in points)))
    places = [(point.at - first).total_seconds() / length for point in points]
    form = "%m-%d" if length > 3 * 86_400 else "%m-%d %H:%M"
    labels = [f"{first + timedelta(seconds=length * part / LABELS):{form}}" for part in range(LABELS)]
    return StockChart(
        steps(places, [point.stock for point in points], top),
        steps(places, [point.threshold for point in points], top),
        [(round(height_of(part, top), 1), part) for part in sorted({0, top // 2, top})],
        labels,
        points,
        points[: -MOST_ROWS - 1 : -1],
    )


def steps(places: Sequence[float], numbers: Sequence[int | None], top: int) -> str:
    """A path that holds each number until the next is known, and the last until the end. Less than none is none."""
    path, under_way = [], False
    for place, number in zip(places, numbers, strict=True):
        x = round(LEFT + (WIDTH - LEFT - RIGHT) * place, 1)
        if number is not None:
            y = round(height_of(max(number, 0), top), 1)
            path.append(f"H{x}V{y}" if under_way else f"M{x} {y}")
        elif under_way:
            path.append(f"H{x}")
        under_way = number is not None
    return "".join([*path, f"H{WIDTH - RIGHT}"] if under_way else path)


def hours_until(now: datetime) -> list[datetime]:
    """The beginnings of the last 24 hours, oldest first; the last is under way."""
    this = now.replace(minute=0, second=0, microsecond=0)
    return [this - timedelta(hours=back) for back in reversed(range(HOURS))]


def events_chart(counts: Iterable[HourCount], hours: Sequence[datetime]) -> Chart:
    """Events by type: the most frequent types by name, the rest together."""
    by_hour = added(count for count in counts if count.kind == "event")
    totals: Counter[str] = Counter()
    for (_, label), number in by_hour.items():
        totals[label] += number
    names = [name for name, _ in sorted(totals.items(), key=lambda one: (-one[1], one[0]))]
    named = names if len(names) <= MOST_SERIES else names[: MOST_SERIES - 1]
    styles = {name: f"s{place}" for place, name in enumerate(named, 1)}
    if len(named) < len(names):
        styles[REST] = f"s{MOST_SERIES}"
        for (hour, label), number in list(by_hour.items()):
            if label not in named:
                by_hour[hour, REST] += number
    return drawn(by_hour, styles, hours)


def outcomes_chart(counts: Iterable[HourCount], hours: Sequence[datetime]) -> Chart:
    """Attempts by what came of them, the good at the ground."""
    by_hour = added(count for count in counts if count.kind == "delivery")
    seen = {label for _, label in by_hour}
    return drawn(by_hour, {name: f"o-{name}" for name in OUTCOMES if name in seen}, hours)


def added(counts: Iterable[HourCount]) -> Counter[tuple[datetime, str]]:
    by_hour: Counter[tuple[datetime, str]] = Counter()
    for count in counts:
        by_hour[count.hour, count.label] += count.count
    return by_hour


def drawn(by_hour: Counter[tuple[datetime, str]], styles: dict[str, str], hours: Sequence[datetime]) -> Chart:
    totals = [sum(by_hour[hour, name] for name in styles) for hour in hours]
    top = round_up(max(totals, default=0))
    step = (WIDTH - LEFT - RIGHT) / len(hours)
    bars = []
    for place, hour in enumerate(hours):
        numbers = [by_hour[hour, name] for name in styles]
        bars.append(
            Bar(
                hour=hour,
                x=round(LEFT + place * step + step * 0.12, 1),
                width=round(step * 0.76, 1),
                labelled=place % LABEL_EVERY == 0,
                pieces=stacked(numbers, list(styles.values()), top),
                total=totals[place],
                numbers=numbers,
                text=", ".join(f"{number:,} {name}" for name, number in zip(styles, numbers, strict=True) if number),
            )
        )
    series = [Series(name, style, sum(by_hour[hour, name] for hour in hours)) for name, style in styles.items()]
    lines = [(round(height_of(part, top), 1), part) for part in sorted({0, top // 2, top})]
    return Chart(bars, series, lines, sum(totals))


def stacked(numbers: Sequence[int], styles: Sequence[str], top: int) -> list[Piece]:
    pieces, below = [], 0
    for number, style in zip(numbers, styles, strict=True):
        if number:
            upper, lower = height_of(below + number, top), height_of(below, top)
            pieces.append(Piece(style, round(upper, 1), round(max(lower - upper, 0.5), 1)))
            below += number
    return pieces


def height_of(number: int, top: int) -> float:
    ground = HEIGHT - BOTTOM
    return ground - (ground - TOP) * number / top


def round_up(number: int) -> int:
    """The next number that reads well: 2, 4, 6, 8, 10, 20, 40 …"""
    size = 1
    while True:
        for step in (2, 4, 6, 8, 10):
            if number <= step * size:
                return step * size
        size *= 10
