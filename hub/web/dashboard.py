"""The dashboard's ASGI application: the route table, read first. It listens apart from the receiver."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from hub.runtime import Hub
from hub.web.auth import Door
from hub.web.faults import HANDLERS, fault
from hub.web.forms import LARGEST_BODY
from hub.web.login import account_page, end_sessions, log_in, log_out, login_page
from hub.web.metrics import ROUTE as METRICS
from hub.web.pages import ROUTES
from hub.web.protection import SameOrigin, SecurityHeaders, SignedIn


async def healthz(request: Request) -> Response:
    """The process lives."""
    return JSONResponse({"status": "ok"})


OWN_ROUTES: list[BaseRoute] = [
    Route("/login", login_page, methods=["GET"]),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
    Route("/account", account_page, methods=["GET"]),
    Route("/account", end_sessions, methods=["POST"]),
    Route("/healthz", healthz),
    METRICS,
    Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
]


def create_dashboard(hub: Hub) -> Starlette:
    """The dashboard of `hub`; pages find it at `request.app.state.hub`."""
    middleware = [
        Middleware(SecurityHeaders),
        # Out here faults of the ones below get their page too, and every page its headers.
        Middleware(ExceptionMiddleware, handlers=HANDLERS | {Exception: fault}),
        Middleware(RequestBodyLimitMiddleware, max_body_size=LARGEST_BODY),
        Middleware(SameOrigin),
        Middleware(SignedIn, hub=hub),
    ]
    app = Starlette(routes=[*OWN_ROUTES, *ROUTES], middleware=middleware, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    app.state.hub = hub
    app.state.door = Door(hub.config)
    return app
