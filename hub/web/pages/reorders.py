"""`/reorders`: orders that wait for a person, to approve or drop; what is open, sent, closed; one with its chart."""

from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from hub.store import reordering
from hub.web import api
from hub.web.pages import charts
from hub.web.pages.asked import action, form_of, hub_of, listed, missing, page, path_of, query_of, see
from hub.web.people import person_of
from hub.web.plain import chosen, reorder_json
from hub.web.rendering import render

SHOWN = 50
FILTERS = ("store", "sku", "state", "route", "before")
STATES = (
    ("open", "open: waits for others"), ("waiting", "waits for a person"), ("ordering", "being ordered"),
    ("sent", "sent"), ("closed", "closed"),
)  # fmt: skip
ORDER_SHOWN = ("id", "store", "route", "supplier", "currency", "event_id", "delivery_id", "opened_at", "last_error")
UNSAID = "dropped on the dashboard"
CLOSED = "closed on the dashboard"


async def index(request: Request) -> Response:
    hub = hub_of(request)
    asked = query_of(request, *FILTERS)
    found, problem = await listed(request, api.reorder_list, asked | {"limit": SHOWN})
    return render(
        request,
        "reorders.html",
        422 if problem else 200,
        asked=asked,
        problem=problem,
        orders=await hub.database.read(waiting),
        reorders=found.get("reorders", []),
        before=found.get("before"),
        states=STATES,
        stores=[(name, name) for name in hub.config.stores],
    )


def waiting(connection: Connection) -> list[dict[str, Any]]:
    """The orders that wait for a person, each with its `lines` and its `worth`, where all prices are known."""
    held = reordering.held_orders(connection)
    lines = reordering.lines_of(connection, [row.id for row in held])
    return [order_json(row, [line for line in lines.get(row.id, ()) if line.closed_at is None]) for row in held]


def order_json(order: Any, lines: list[Any]) -> dict[str, Any]:
    known = lines and all(line.unit_price is not None for line in lines)
    worth = sum(line.quantity * reordering.price_of(line) for line in lines) if known else None
    more = {"lines": [reorder_json(line) for line in lines], "worth": None if worth is None else f"{worth:,}"}
    return chosen(order, ORDER_SHOWN) | more


async def one(request: Request) -> Response:
    hub = hub_of(request)
    reorder_id = path_of(request)

    def read(connection: Connection) -> tuple[Any, list[Any], list[Any]]:
        line = reordering.get_line(connection, reorder_id)
        if line is None:
            return None, [], []
        seen = reordering.seen_stock(connection, line.store, line.sku, line.location)
        others = reordering.lines_of(connection, [line.order_id]).get(line.order_id, []) if line.order_id else []
        return line, seen, others

    line, seen, others = await hub.database.read(read)
    if line is None:
        raise missing("there is no reorder of that id")
    return render(
        request,
        "reorder.html",
        one=reorder_json(line),
        others=[reorder_json(other) for other in others if other.id != line.id],
        chart=charts.stock_chart(seen, hub.now()),
    )


async def approve(request: Request) -> Response:
    await form_of(request)
    await api.reorder_approve(hub_of(request), {"id": path_of(request), "who": person_of(request).name})
    return see("/reorders", done="order-approved")


async def drop(request: Request) -> Response:
    form = await form_of(request)
    arguments = {"id": path_of(request), "who": person_of(request).name, "why": form.get("why") or UNSAID}
    await api.reorder_drop(hub_of(request), arguments)
    return see("/reorders", done="order-dropped")


async def close(request: Request) -> Response:
    form = await form_of(request)
    arguments = {"id": path_of(request), "who": person_of(request).name, "why": form.get("why") or CLOSED}
    await api.reorder_close(hub_of(request), arguments)
    return see(f"/reorders/{arguments['id']}", done="reorder-closed")


ROUTES = [
    page("/reorders", index),
    page("/reorders/{id}", one),
    action("/reorders/{id}/approve", approve),
    action("/reorders/{id}/drop", drop),
    action("/reorders/{id}/close", close),
]
