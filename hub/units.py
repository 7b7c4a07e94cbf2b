"""Durations, rates and sizes as the config writes them: `15s`, `1/s`, `1GiB`. Parsed to plain values and back."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = [
    "Duration", "Rate", "RateSetting", "Size", "duration_text", "parse_duration", "parse_rate", "parse_size",
    "size_text",
]  # fmt: skip

UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
SIZES = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
SIZE = r"(\d{1,12})(TiB|GiB|MiB|KiB|B)"
LONGEST = timedelta(days=3650)
DURATION = r"(\d{1,12})(ms|s|m|h|d)"
RATE = r"(\d{1,6})/(s|m|min|h)"


def parse_duration(value: Any) -> timedelta:
    """`15s` as a timedelta; one passes through. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(DURATION, value, re.ASCII) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a whole number and a unit, such as 500ms, 15s, 5m, 2h or 90d")
    count, unit = int(found[1]), UNITS[found[2]]
    if count > LONGEST // unit:
        raise ValueError(f"must be at most {LONGEST.days}d")
    return count * unit


def duration_text(value: timedelta) -> str:
    """The shortest spelling that reads back as the same: 90 seconds are `90s`, 120 are `2m`."""
    for unit, length in UNITS.items():
        if value and not value % length:
            return f"{value // length}{unit}"
    return "0s" if not value else f"{value // UNITS['ms']}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{DURATION}$", "examples": ["15s", "5m", "90d"]}),
]


@dataclass(frozen=True)
class Rate:
    """At most `count` for each `unit` (`s`, `m` or `h`)."""

    count: int
    unit: str

    @property
    def interval(self) -> float:
        """Seconds from one to the next."""
        return UNITS[self.unit].total_seconds() / self.count

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"


def parse_rate(value: Any) -> Rate:
    """`10/m` as a Rate; one passes through. Raises ValueError."""
    if isinstance(value, Rate):
        return value
    found = re.fullmatch(RATE, value, re.ASCII) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError("must be a number for each second, minute or hour, such as 1/s, 30/m or 500/h")
    return Rate(int(found[1]), found[2][0])


RateSetting = Annotated[
    Rate,
    BeforeValidator(parse_rate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{RATE}$", "examples": ["1/s", "30/m", "500/h"]}),
]


def parse_size(value: Any) -> int:
    """`1GiB` in bytes; a number of bytes passes through. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = re.fullmatch(SIZE, value, re.ASCII) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a whole number and a unit, such as 500MiB or 1GiB")
    return int(found[1]) * SIZES[found[2]]


def size_text(value: int) -> str:
    """The shortest spelling that reads back as the same."""
    unit = next(unit for unit, size in SIZES.items() if not value % size and (value or unit == "B"))
    return f"{value // SIZES[unit]}{unit}"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(size_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{SIZE}$", "examples": ["500MiB", "1GiB"]}),
]
