"""The receiver's ASGI application: the route table, read first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub.errors import Unavailable
from hub.receive import Receiving
from hub.runtime import Hub, reachable, storage_reason, written_again
from hub.web.shortcut import Shortcut
from hub.web.webhooks import BODY_WITHIN, Webhooks


def create_app(hub: Hub, body_within: float = BODY_WITHIN) -> Starlette:
    """The application that receives webhooks into `hub`; a webhook's body must arrive in `body_within` seconds.

    Its `state.shortcut` is for the connections of a server that knows one (hub.web.protocol).
    """
    receiving = Receiving(hub)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        """503 only when a webhook would be refused."""
        try:
            await reachable(hub)
            await written_again(hub)
        except Unavailable as trouble:
            return _not_ready(str(trouble))
        reason = storage_reason(hub)
        return _not_ready(reason) if reason else JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        flushing = asyncio.create_task(receiving.flush_forever(), name="refusals")
        yield
        flushing.cancel()
        with suppress(asyncio.CancelledError):
            await flushing
        await receiving.flush()

    webhooks = Webhooks(receiving, body_within)
    app = Starlette(
        routes=[Route("/webhooks/{store}", webhooks), Route("/healthz", healthz), Route("/readyz", readyz)],
        lifespan=lifespan,
        exception_handlers={404: not_here, 405: not_here},
    )
    app.state.shortcut = Shortcut(receiving)
    # A webhook is not sent on to another address: few senders would follow.
    app.router.redirect_slashes = False
    return app


def _not_ready(reason: str) -> Response:
    return JSONResponse({"status": "unavailable", "reason": reason}, 503, {"Retry-After": "5"})


async def not_here(request: Request, error: Exception) -> Response:
    """The vendor's envelope for what is not in the route table, or there under another method."""
    status, headers = getattr(error, "status_code", 404), getattr(error, "headers", None)
    code = "NOT_FOUND" if status == 404 else "VALIDATION_ERROR"
    message = "webhooks are posted to /webhooks/{store}"
    return JSONResponse({"success": False, "error": {"code": code, "message": message}}, status, headers)
