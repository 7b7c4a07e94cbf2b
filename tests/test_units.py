"""Durations and rates read back as they were written."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hub.units import Duration, RateSetting, duration_text, parse_duration, parse_rate

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = TypeAdapter(Duration)
RATE = TypeAdapter(RateSetting)


@settings(max_examples=300)
@given(count=st.integers(0, 10**9), unit=st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_round_trip(count: int, unit: str) -> None:
    if count * SECONDS[unit] > 3650 * 86400:
        with pytest.raises(ValueError, match=r"^must be at most 3650d$"):
            parse_duration(f"{count}{unit}")
        return
    value = parse_duration(f"{count}{unit}")
    assert value.total_seconds() == pytest.approx(count * SECONDS[unit])
    text = duration_text(value)
    assert parse_duration(text) == value
    assert duration_text(parse_duration(text)) == text
    assert len(text) <= len(f"{count}{unit}") or count == 0
    assert DURATION.validate_python(json.loads(DURATION.dump_json(value))) == value


@settings(max_examples=300)
@given(count=st.integers(1, 999_999), unit=st.sampled_from(["s", "m", "min", "h"]))
def test_rates_round_trip(count: int, unit: str) -> None:
    rate = parse_rate(f"{count}/{unit}")
    assert parse_rate(str(rate)) == rate
    assert rate.interval * count == pytest.approx({"s": 1, "m": 60, "min": 60, "h": 3600}[unit])
    assert RATE.validate_python(json.loads(RATE.dump_json(rate))) == rate


@settings(max_examples=300)
@given(text=st.text(max_size=8) | st.from_regex(r"-?\d{1,3}[.,]?\d? ?(ms|s|m|/s|/d|x)?", fullmatch=True))
def test_anything_else_is_no_duration_and_no_rate(text: str) -> None:
    for pattern, parse in ((r"[0-9]+(ms|s|m|h|d)", parse_duration), (r"0*[1-9][0-9]*/(s|m|min|h)", parse_rate)):
        if not re.fullmatch(pattern, text):
            refused: Callable[[Any], object] = parse
            with pytest.raises(ValueError, match=r"^must be "):
                refused(text)
