"""The dashboard's ASGI application: the route table, read first. It listens apart from the receiver."""

from starlette.applications import Starlette

from hub.runtime import Hub
from hub.web.pages import ROUTES


def create_dashboard(hub: Hub) -> Starlette:
    """The dashboard of `hub`; pages find it at `request.app.state.hub`."""
    app = Starlette(routes=ROUTES)
    app.state.hub = hub
    return app
