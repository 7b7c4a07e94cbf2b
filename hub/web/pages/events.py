"""`/events`: what came in, newest first, searched, filtered, and live."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hub.event import EVENT_TYPES
from hub.guard import place_of
from hub.runtime import Hub
from hub.web import api
from hub.web.pages.asked import hub_of, listed, page, query_of
from hub.web.pages.live import live_of
from hub.web.rendering import link, render

FILTERS = ("q", "store", "type", "outcome", "entity", "since", "until", "before")
LIVE = ("store", "type")
OUTCOMES = (
    ("dead", "one is dead"), ("held", "one is held"), ("pending", "one is pending"),
    ("delivered", "all delivered"), ("not_taken", "no route took it"),
)  # fmt: skip
SHOWN = 50


async def index(request: Request) -> Response:
    asked = query_of(request, *FILTERS)
    found, problem = await listed(request, api.events, asked | {"limit": SHOWN})
    live = None if problem or asked.keys() - {*LIVE} else link("/events/live", asked)
    return render(
        request,
        "events.html",
        422 if problem else 200,
        asked=asked,
        problem=problem,
        events=found.get("events", []),
        before=found.get("before"),
        live=live,
        outcomes=OUTCOMES,
        types=EVENT_TYPES,
        webhook_url=webhook_url(hub_of(request)),
        stores=[(name, name) for name in hub_of(request).config.stores],
    )


def webhook_url(hub: Hub, store: str | None = None) -> str:
    """Where a store posts its webhooks."""
    server = hub.config.server
    base = server.public_url or f"http://{place_of(server.host, server.port)}"
    return f"{base}/webhooks/{store or next(iter(hub.config.stores))}"


async def stream(request: Request) -> Response:
    """The newest events as rows of the list, sent whenever one of them changes."""
    asked: dict[str, Any] = query_of(request, *LIVE)
    return live_of(request).events(asked.get("store"), asked.get("type"))


ROUTES = [page("/events", index), page("/events/live", stream)]
