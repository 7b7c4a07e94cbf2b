"""`/routes`: where events go: settings with secrets masked, health, pause and resume, and the connector's own Test."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row
from starlette.requests import Request
from starlette.responses import Response

from hub.store.routes import get_audit, list_audit
from hub.web import api
from hub.web.pages.asked import action, filled, form_of, hub_of, missing, page, path_of, query_of, see
from hub.web.pages.overview import row_of
from hub.web.people import person_of
from hub.web.plain import chosen
from hub.web.rendering import render

LOOKED_THROUGH = 200
MENTIONED = 10
OWN = ("connector", "settings", "when", "retry")


async def index(request: Request) -> Response:
    hub = hub_of(request)
    status = await api.OPERATIONS["status"](hub, {})
    rows = [row_of(name, one) for name, one in status["routes"].items()]
    return render(request, "routes.html", routes=rows, now=hub.now(), events=events_of(hub.config.routes))


def events_of(routes: Mapping[str, Any]) -> dict[str, str]:
    return {name: ", ".join(route.events) for name, route in routes.items()}


async def one(request: Request) -> Response:
    hub = hub_of(request)
    name = path_of(request, "name")
    status = await api.OPERATIONS["status"](hub, {})
    if name not in status["routes"]:
        raise missing("there is no route of that name, and nothing waits for one")
    test_id = query_of(request, "test").get("test", "")

    def read(connection: Connection) -> tuple[list[Row[Any]], Row[Any] | None]:
        return list_audit(connection, LOOKED_THROUGH), get_audit(connection, test_id)

    lines, test = await hub.database.read(read)
    mine = [line for line in lines if (line.detail or {}).get("route") == name]
    is_test = test is not None and test.action == "test" and test.detail["route"] == name
    route = hub.config.routes.get(name)
    return render(
        request,
        "route.html",
        now=hub.now(),
        route=row_of(name, status["routes"][name]),
        settings=settings_of(hub.redact, route.settings) if route is not None else [],
        terms=terms_of(hub.redact, route) if route is not None else [],
        when=route.when if route is not None else None,
        test=chosen(test, api.AUDIT_SHOWN) if is_test and test is not None else None,
        lines=[chosen(line, api.AUDIT_SHOWN) for line in mine[:MENTIONED]],
    )


def settings_of(redact: Any, settings: Any) -> list[tuple[str, str]]:
    """A connector's settings as its model dumps them, which masks secrets."""
    return [(name, redact(value)) for name, value in flat(settings.model_dump(mode="json", by_alias=True))]


def terms_of(redact: Any, route: Any) -> list[tuple[str, str]]:
    """How the hub treats the route: all of its config but what the page shows by itself."""
    dumped = route.model_dump(mode="json", by_alias=True)
    schedule = ", ".join(dumped["retry"]["schedule"]) or "none: one attempt alone"
    terms = {name: value for name, value in dumped.items() if name not in OWN}
    return [(name, redact(value)) for name, value in flat(terms)] + [("retry.schedule", schedule)]


def flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested settings: `headers.Authorization`."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from flat(inner, f"{place}.{name}" if place else str(name))
        case list() if value and all(isinstance(one, str | int | float) for one in value):
            yield place, ", ".join(str(one) for one in value)
        case list():
            for number, inner in enumerate(value):
                yield from flat(inner, f"{place}[{number}]")
        case None:
            yield place, ""
        case bool():
            yield place, "yes" if value else "no"
        case _:
            yield place, str(value)


async def pause(request: Request) -> Response:
    form = await form_of(request)
    done = await api.pause(hub_of(request), by(request) | filled(form, "reason"))
    return back(request, "paused" if done["changed"] else "paused-before")


async def resume(request: Request) -> Response:
    form = await form_of(request)
    done = await api.resume(hub_of(request), by(request) | filled(form, "reason"))
    return back(request, "resumed" if done["changed"] else "resumed-before")


async def test(request: Request) -> Response:
    await form_of(request)
    tested = await api.try_route(hub_of(request), by(request))
    return see(f"/routes/{path_of(request, 'name')}", test=tested["id"])


def by(request: Request) -> dict[str, Any]:
    return {"route": path_of(request, "name"), "who": person_of(request).name}


def back(request: Request, done: str) -> Response:
    return see(f"/routes/{path_of(request, 'name')}", done=done)


ROUTES = [
    page("/routes", index),
    page("/routes/{name}", one),
    action("/routes/{name}/pause", pause),
    action("/routes/{name}/resume", resume),
    action("/routes/{name}/test", test),
]
