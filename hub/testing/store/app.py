"""The double as one ASGI app: the profile's API, gzip, faults and records around it, the control surface beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from hub.testing.store.api import respond
from hub.testing.store.control import control_routes
from hub.testing.store.errors import ApiError
from hub.testing.store.live import live
from hub.testing.store.routes import routes_of
from hub.testing.store.shop import Shop
from hub.testing.store.watching import Watched

LARGE = 1000


def create_app(shop: Shop) -> Starlette:
    """The app. Its server must serve with `watching.Connection` and put `stopping` into the lifespan's state."""

    async def unknown(request: Request, error: Exception) -> Response:
        return respond(shop, 404, shop.profile.error(ApiError(404), shop.settings))

    @contextlib.asynccontextmanager
    async def alive(app: Starlette) -> AsyncIterator[None]:
        await shop.sender.open()
        living = asyncio.create_task(live(shop))
        try:
            yield
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await shop.sender.close()

    return Starlette(
        routes=[*control_routes(shop), *routes_of(shop)],
        middleware=[Middleware(Watched, shop=shop), Middleware(GZipMiddleware, minimum_size=LARGE)],
        exception_handlers={HTTPException: unknown},
        lifespan=alive,
    )
