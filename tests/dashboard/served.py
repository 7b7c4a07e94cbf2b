"""The pages served by a real uvicorn to a person whom the test names, and a reader of what they are made of.

The login is not part of this: a wrapper says who looks, under the content policy that the pages must live with.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.process import bound, listening
from hub.runtime import Hub
from hub.web.dashboard import OWN_ROUTES
from hub.web.faults import HANDLERS
from hub.web.forms import LARGEST_BODY
from hub.web.pages import ROUTES
from hub.web.people import Person

OPERATOR = Person("asha", "operator", "session-1")
VIEWER = Person("ravi", "viewer", "session-2")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
BLOCKS = {"p", "div", "dt", "dd", "td", "th", "li", "h1", "h2", "h3", "option", "label", "button", "details"}
ENDS_P = {"p", "div", "details", "pre", "ul", "ol", "dl", "table", "form", "section", "article", "h1", "h2", "h3"}
VOID = {"meta", "link", "input", "br", "img", "hr"}


class As:
    """An application as seen by one person."""

    def __init__(self, app: ASGIApp, person: Person) -> None:
        self.app = app
        self.person = person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("content-security-policy", POLICY)
            await send(message)

        await self.app({**scope, "person": self.person}, receive, guarded)


@asynccontextmanager
async def pages_of(hub: Hub, person: Person = OPERATOR) -> AsyncIterator[str]:
    """The URL at which that person sees the pages of `hub`."""
    bounded = [Middleware(RequestBodyLimitMiddleware, max_body_size=LARGEST_BODY)]
    app = Starlette(routes=[*OWN_ROUTES, *ROUTES], middleware=bounded, exception_handlers=HANDLERS)
    app.state.hub = hub
    sock = bound("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = uvicorn.Config(As(app, person), ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=10)
    async with listening(config, [sock], url) as listens:
        yield listens.url


@asynccontextmanager
async def looking(hub: Hub, person: Person = OPERATOR) -> AsyncIterator["Browser"]:
    """That person, looking at the pages of `hub`."""
    async with pages_of(hub, person) as url, httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        yield Browser(client)


class Browser:
    """Gets pages and posts forms, as a browser without script does."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, status: int = 200) -> "Page":
        answer = await self.client.get(path, follow_redirects=True)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text[:2000]}"
        return Page(answer)

    async def post(self, path: str, expected: int = 200, /, **fields: Any) -> "Page":
        """Post a form; the page that one is sent on to."""
        form = {"content-type": "application/x-www-form-urlencoded"}
        body = urlencode(fields, doseq=True)
        answer = await self.client.post(path, content=body, headers=form, follow_redirects=True)
        assert answer.status_code == expected, f"{path}: {answer.status_code} {answer.text[:2000]}"
        assert expected != 200 or [one.status_code for one in answer.history] == [303]
        return Page(answer)

    async def submit(self, page: "Page", action: str, expected: int = 200, /, **more: Any) -> "Page":
        """Post the form of a page that goes to `action`, as it stands there."""
        fields = page.form(action)
        return await self.post(action, expected, **fields | more)


class Page(HTMLParser):
    """A page as a browser reads it: its elements, its text; well-formed, or the parser complains."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(convert_charrefs=True)
        self.url = answer.url
        self.status = answer.status_code
        self.source = answer.text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._text: list[str] = []
        if answer.headers["content-type"].startswith("text/html"):
            self.feed(answer.text)
            self.close()
            assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        assert tag not in ENDS_P or "p" not in self._open, f"<{tag}> in a paragraph: a browser would end that there"
        if tag in BLOCKS:
            self._text.append(" ")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes {self._open[-1]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    @property
    def text(self) -> str:
        """All text, spaces as one."""
        return " ".join("".join(self._text).split())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """The attributes of all elements of that tag with these attributes."""
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]

    def links(self) -> list[str]:
        return [found["href"] for found in self.all("a") if "href" in found]

    def form(self, action: str) -> dict[str, Any]:
        """The hidden and filled fields of the form that goes to `action`."""
        fields: dict[str, Any] = {}
        inside = False
        for tag, found in self.elements:
            if tag == "form":
                inside = found.get("action") == action
            elif inside and tag == "input" and found.get("name") and found.get("type") not in {"checkbox"}:
                fields.setdefault(found["name"], []).append(found.get("value", ""))
        assert fields or any(found.get("action") == action for found in self.all("form")), f"no form to {action}"
        return fields

    def events(self) -> list[str]:
        """The ids of the events that the page lists."""
        return [found["id"] for found in self.all("tr") if found.get("id", "").startswith("evt_")]


def harmless(page: Page) -> None:
    """Nothing on it runs: no script but ours, no handler, no style, no address but of the web or our own."""
    for tag, found in page.elements:
        assert tag not in {"iframe", "object", "embed", "base", "style", "foreignobject"}, tag
        assert tag != "script" or found == {"src": "/static/hub.js", "defer": ""}, found
        handlers = [name for name in found if name.startswith("on") or name in {"style", "srcdoc", "xlink:href"}]
        assert handlers == [], (tag, found)
        for name in ("href", "src", "action", "formaction"):
            address = found.get(name, "/")
            assert address.startswith(("/", "#", "https://", "http://")), (tag, address)
            assert not address.startswith("//"), (tag, address)
