"""Rows as JSON: times as ISO 8601 in UTC, bytes as text, deliveries with the status that a person is shown."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from hub.deliver import delivery_key
from hub.store.reading import WholeDelivery, WholeEvent

DELIVERY_SHOWN = (
    "id", "event_id", "store", "route", "entity", "status", "attempts", "budget", "next_attempt_at", "lease_until",
    "error_key", "last_error", "created_at", "released_by", "released_at", "replay_id",
)  # fmt: skip
EVENT_SHOWN = (
    "id", "seq", "store", "type", "entity", "occurred_at", "received_at", "origin", "repeats", "last_repeat_at",
    "fanned_out_at",
)  # fmt: skip
ATTEMPT_SHOWN = ("number", "started_at", "duration_ms", "outcome", "status_code", "note", "url", "request", "response")
REORDER_SHOWN = (
    "id", "store", "sku", "location", "route", "name", "supplier", "quantity", "reason", "stock", "threshold",
    "unit_price", "currency", "product_id", "variant_id", "opened_at", "due_at", "closes_at", "state", "order_id",
    "event_id", "delivery_id", "number", "url", "sent_at", "closed_at", "closed_by", "why",
)  # fmt: skip
EFFECT_SHOWN = ("name", "value", "url", "at")


def plain(value: Any) -> Any:
    """`value` as what JSON knows."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case bytes():
            return value.decode("utf-8", "replace")
        case Mapping():
            return {str(name): plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    return value


def spoken(moment: datetime) -> str:
    """A time as people read it, to the second: `2026-11-26 21:50:19Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def chosen(row: Row[Any], names: tuple[str, ...]) -> dict[str, Any]:
    """These columns of a row."""
    return {name: plain(getattr(row, name)) for name in names}


def held_by(row: Row[Any], blocked: Mapping[str, str]) -> str | None:
    """Why a pending delivery shows as held: its route is `paused`, `broken` or `gone`."""
    return blocked.get(row.route) if row.status == "pending" and row.lease_until is None else None


def delivery_json(row: Row[Any], blocked: Mapping[str, str]) -> dict[str, Any]:
    """A delivery; `held_by` says which state of its route holds one that would else be pending."""
    held = held_by(row, blocked)
    return chosen(row, DELIVERY_SHOWN) | ({"status": "held"} if held else {}) | {"held_by": held}


def whole_delivery_json(whole: WholeDelivery, blocked: Mapping[str, str]) -> dict[str, Any]:
    """A delivery with its key, attempts and effects."""
    return delivery_json(whole.delivery, blocked) | {
        "key": delivery_key(whole.delivery),
        "attempted": [chosen(row, ATTEMPT_SHOWN) for row in whole.attempts],
        "effects": [chosen(row, EFFECT_SHOWN) for row in whole.effects],
    }


def reorder_json(row: Row[Any]) -> dict[str, Any]:
    """A reorder; one whose order is held has the state `waiting`, and `held` says for what."""
    waits = row.state == "ordering" and row.delivery_status == "held"
    state = {"state": "waiting"} if waits else {}
    return chosen(row, REORDER_SHOWN) | state | {"held": row.last_error if waits else None}


def event_json(row: Row[Any]) -> dict[str, Any]:
    """An event without its body."""
    return chosen(row, EVENT_SHOWN)


def taken(whole: WholeEvent) -> set[str]:
    """The routes on which the event has a delivery, be it by a replay along one that did not take it."""
    return {one.delivery.route for one in whole.deliveries}


def whole_event_json(whole: WholeEvent, keys: set[tuple[str, str]], blocked: Mapping[str, str]) -> dict[str, Any]:
    """An event with its body, what it is found by, its deliveries, repeats and routes not taken."""
    return event_json(whole.event) | {
        "headers": plain(whole.event.headers),
        "body": plain(whole.event.body),
        "keys": [{"kind": kind, "value": value} for kind, value in sorted(keys)],
        "deliveries": [whole_delivery_json(one, blocked) for one in whole.deliveries],
        "not_taken": {
            route: reason for route, reason in (whole.event.not_taken or {}).items() if route not in taken(whole)
        },
        "differing_repeats": [chosen(row, ("id", "at", "headers", "body")) for row in whole.repeats],
    }
