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
from hub.runtime import Hub, reachable, storage_reason
from hub.web.webhooks import Webhooks


def create_app(hub: Hub) -> Starlette:
    """The application that receives webhooks into `hub`."""
    receiving = Receiving(hub)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        """503 only when a webhook would be refused."""
        try:
            await reachable(hub)
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

    return Starlette(
        routes=[
            Route("/webhooks/{store}", Webhooks(receiving)),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        lifespan=lifespan,
        exception_handlers={404: not_found, 405: not_found},
    )


def _not_ready(reason: str) -> Response:
    return JSONResponse({"status": "unavailable", "reason": reason}, 503, {"Retry-After": "5"})


async def not_found(request: Request, error: Exception) -> Response:
    """The vendor's envelope for what is not in the route table."""
    status = getattr(error, "status_code", 404)
    message = "webhooks are posted to /webhooks/{store}"
    return JSONResponse({"success": False, "error": {"code": "NOT_FOUND", "message": message}}, status)
