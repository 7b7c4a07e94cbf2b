"""What stands before every page of the dashboard, as bare ASGI: headers, the origin of a change, the login."""

from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.runtime import Hub
from hub.web.auth import own_path, signed_in

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# For who is not logged in: what the login itself needs, whether the process lives, and what has a token of its own.
OPEN = frozenset({"/login", "/healthz", "/metrics"})
STATIC = "/static/"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TLS_ONLY = "max-age=31536000"
STATIC_KEPT = "public, max-age=300"


class SecurityHeaders:
    """Puts the headers above on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                kept = scope["path"].startswith(STATIC) and message["status"] in {200, 206, 304}
                headers.update(HEADERS | {"Cache-Control": STATIC_KEPT if kept else "no-store"})
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = TLS_ONLY
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class SameOrigin:
    """Lets a method that may change something pass only from a page of ours: no other site can make a browser do it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and not is_same_origin(scope):
            raise HTTPException(403, "this did not come from a page of this dashboard, so nothing was done")
        await self._app(scope, receive, send)


def is_same_origin(scope: Scope) -> bool:
    """By `Sec-Fetch-Site`; where a browser does not send that, by `Origin`. With neither: no."""
    headers = Headers(scope=scope)
    sites = headers.getlist("sec-fetch-site")
    if sites:
        return all(site in {"same-origin", "none"} for site in sites)
    ours = f"{scope['scheme']}://{headers.get('host', '')}"
    return headers.getlist("origin") == [ours]


class SignedIn:
    """Sets `scope["person"]`. Who is not logged in gets to the login with a page, and 401 with anything else."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(STATIC):
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        person = await signed_in(self._hub, request)
        if person is not None:
            scope["person"] = person
            await self._app(scope, receive, send)
        elif scope["method"] == "GET" and wants_page(request.headers):
            await RedirectResponse(login_url(scope), 303)(scope, receive, send)
        else:
            raise HTTPException(401, "you are not logged in, or no longer")


def wants_page(headers: Headers) -> bool:
    """Does a person wait for it? A script that asks for data or a stream does not follow to a login."""
    accept = headers.get("accept", "*/*")
    return "text/html" in accept or not ("json" in accept or "event-stream" in accept)


def login_url(scope: Scope) -> str:
    """The login, which then goes on to what was asked for."""
    query = scope["query_string"].decode("latin-1")
    wanted = own_path(quote(scope["path"]) + (f"?{query}" if query else ""))
    return "/login" if wanted == "/" else f"/login?next={quote(wanted, safe='/')}"
