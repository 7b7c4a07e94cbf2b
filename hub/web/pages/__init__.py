"""The dashboard's pages, one module for each; ROUTES is their table."""

from starlette.routing import BaseRoute

from hub.web.pages import audit, deliveries, event, events, overview, refused, reorders, replays, routes

ROUTES: list[BaseRoute] = [
    *overview.ROUTES,
    *events.ROUTES,
    *event.ROUTES,
    *deliveries.ROUTES,
    *replays.ROUTES,
    *reorders.ROUTES,
    *routes.ROUTES,
    *refused.ROUTES,
    *audit.ROUTES,
]
