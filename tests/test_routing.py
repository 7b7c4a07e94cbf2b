"""Which routes an event takes, and on which field the others are not taken."""

import time
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.config import Config, load_config
from hub.connector import Connector, Context, Event, Receipt
from hub.routing import Routing, route_event, takes_type


class Nothing(Connector):
    """Does nothing; routing needs only its name."""

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        return Receipt(f"{event.id} under {ctx.key}")


def config_of(folder: Path, *routes: str) -> Config:
    lines = [
        "stores:",
        "  main: {url: 'https://a.example', webhook_secrets: [0123456789abcdef]}",
        "  other: {url: 'https://b.example', webhook_secrets: [fedcba9876543210]}",
        "routes:",
        *(f"  {route[:-1]}, connector: '{__name__}:Nothing'}}" for route in routes),
    ]
    (folder / "config.yaml").write_text("\n".join(lines), encoding="utf-8")
    return load_config(folder / "config.yaml", {})


def event_of(store: str = "main", type_: str = "order.placed") -> Event:
    moment = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    return Event("evt_1", store, type_, "order:ord_1", moment, moment, b"{}")


def routed(config: Config, event: Event, data: dict[str, Any]) -> Routing:
    return route_event(config.routes, event, orjson.loads(orjson.dumps(data)))


def test_each_route_is_taken_or_says_why_not(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "all: {ordered: true}",
        "big: {when: data.total >= 100, events: [order.placed]}",
        "payments: {events: [order.cancelled, 'payment.*']}",
        "elsewhere: {stores: [other]}",
        "misspelled: {when: data.totl > 1}",
        "never: {when: 1 > 2}",
        "compared: {when: data.currency > 3}",
    )
    assert routed(config, event_of(), {"total": 40, "currency": "INR"}) == Routing(
        taken=["all"],
        not_taken={
            "big": "when: data.total is 40 (data.total >= 100)",
            "payments": "event: order.cancelled, payment.*",
            "elsewhere": "store: only other",
            "never": "when: 1 > 2",
        },
        broken={
            "misspelled": "when: no field totl; there is total",
            "compared": 'when: > cannot compare text with a number; data.currency is "INR"',
        },
    )
    assert "big" in routed(config, event_of(), {"total": 100.0, "totl": 1, "currency": 1}).taken
    assert "elsewhere" in routed(config, event_of("other"), {}).taken


def test_an_unknown_type_takes_the_routes_that_match_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, "all: {events: ['*']}", "orders: {events: ['order.*']}")
    assert routed(config, event_of(type_="order.refunded"), {}).taken == ["all", "orders"]
    assert routed(config, event_of(type_="Order.placed"), {}).taken == ["all"]


@pytest.mark.parametrize("type_", ["hub.alert", "hub.", "hub.order.placed"])
def test_the_hubs_own_events_match_nothing(tmp_path: Path, type_: str) -> None:
    config = config_of(tmp_path, "all: {events: ['*']}", "own: {events: ['hub.*', hub.alert]}", "any: {ordered: true}")
    routing = routed(config, event_of("hub", type_), {})
    assert (routing.taken, routing.broken) == ([], {})
    assert set(routing.not_taken) == {"all", "own", "any"}


def test_no_routes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "stores: {a: {url: 'https://a.example', webhook_secrets: [0123456789abcdef]}}"
    )
    assert routed(load_config(tmp_path / "config.yaml", {}), event_of(), {}) == Routing()


def test_reasons_are_bounded(tmp_path: Path) -> None:
    condition = " and ".join(["data.text == 'x'"] * 50)
    config = config_of(tmp_path, f'long: {{when: "{condition}"}}')
    reason = routed(config, event_of(), {"text": "y" * 100_000}).not_taken["long"]
    assert len(reason) < 600
    assert reason.startswith('when: data.text is "yyyy')


@given(pattern=st.text(alphabet="ab.*", min_size=1, max_size=8), text=st.text(alphabet="ab.", max_size=10))
def test_a_star_stands_for_any_characters(pattern: str, text: str) -> None:
    assert takes_type((pattern,), text) == fnmatchcase(text, pattern)


@pytest.mark.parametrize("pattern", ["order.[a-z]*", "order.?laced", "order.placed|x", "(order.placed)", "^order.*"])
def test_nothing_but_a_star_is_special(pattern: str) -> None:
    assert not takes_type((pattern,), "order.placed")


def test_a_pattern_of_many_stars_is_no_trap() -> None:
    started = time.thread_time()
    assert not takes_type(("*a" * 60 + "b",), "a" * 200)
    assert time.thread_time() - started < 0.1


def test_a_hundred_routes_are_looked_at_quickly(tmp_path: Path) -> None:
    config = config_of(tmp_path, *(f"r{number}: {{when: data.total >= {number}}}" for number in range(100)))
    event, data = event_of(), {"total": 50.5}
    best = float("inf")
    for _ in range(10):
        started = time.thread_time()
        routing = route_event(config.routes, event, data)
        best = min(best, time.thread_time() - started)
    assert len(routing.taken) == 51
    assert best < 0.02
