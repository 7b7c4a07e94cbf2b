"""What the dashboard answers when it has no page, or could not do it: a status, a sentence, no detail of a fault."""

from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hub.database import Conflict
from hub.errors import CommandError, ConfigError, Unavailable
from hub.web.api import WrongUsage
from hub.web.rendering import render

SENTENCES = {
    404: "There is nothing at this address. What you look for may have another id, or be gone.",
    405: "This address does not take that.",
    500: "The hub has a fault; its log says more. Nothing is lost by it: webhooks are received apart from this page.",
    503: "The database cannot be used just now. Try again in a moment.",
}

log = structlog.get_logger()


def error_page(request: Request, status: int, said: str | None = None) -> Response:
    """A page that names the status and says what to do."""
    # Starlette's own words for a status are no sentence.
    phrase = HTTPStatus(status).phrase
    text = SENTENCES.get(status, "") if said is None or said == phrase else said
    return render(request, "error.html", status, code=status, phrase=phrase, text=text)


async def http_error(request: Request, error: Exception) -> Response:
    """What a page refuses: 403, 404, 405, 429."""
    assert isinstance(error, HTTPException)
    response = error_page(request, error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def wrong_usage(request: Request, error: Exception) -> Response:
    """What was asked for makes no sense; the page says what is wrong with it."""
    return render(request, "message.html", 422, title="That cannot be asked", text=str(error))


async def not_done(request: Request, error: Exception) -> Response:
    """What was asked for could not be done; the page says why."""
    return render(request, "message.html", 409, title="That could not be done", text=str(error))


async def unavailable(request: Request, error: Exception) -> Response:
    """The database is in trouble."""
    log.warning("dashboard.unavailable", path=request.scope["path"], reason=str(error))
    response = error_page(request, 503)
    response.headers["Retry-After"] = "5"
    return response


async def hung_up(request: Request, error: Exception) -> Response:
    """The browser went away while it was sending; nobody reads this."""
    return Response(status_code=400)


async def fault(request: Request, error: Exception) -> Response:
    """A mistake of ours, told to the log alone."""
    log.error("dashboard.fault", method=request.method, path=request.scope["path"], exc_info=error)
    return error_page(request, 500)


HANDLERS: dict[Any, Any] = {
    HTTPException: http_error,
    WrongUsage: wrong_usage,
    CommandError: not_done,
    ConfigError: not_done,
    Unavailable: unavailable,
    Conflict: unavailable,
    ClientDisconnect: hung_up,
}
