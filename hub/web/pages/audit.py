"""`/audit`: who did what on purpose, newest first."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hub.clock import from_micros
from hub.web import api
from hub.web.pages.asked import hub_of, page, query_of
from hub.web.plain import plain
from hub.web.rendering import render

SHOWN = 100
# A detail of this name is the id of something that has a page.
PAGES = {
    "replay": "/replays/", "event": "/events/", "delivery": "/deliveries/", "route": "/routes/", "to": "/routes/",
    "refused": "/refused/",
}  # fmt: skip
MOMENTS = {"since", "until"}


async def index(request: Request) -> Response:
    asked = query_of(request, "by", "action", "before")
    found = await api.audit(hub_of(request), asked | {"limit": SHOWN})
    lines = [line | {"details": list(details(line["detail"] or {}))} for line in found["audit"]]
    return render(request, "audit.html", asked=asked, lines=lines, before=found["before"])


def details(detail: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """What a line says beside its action: names, values, and where each leads."""
    said: list[tuple[str, str, str | None]] = []
    for name, value in detail.items():
        if name == "filter":
            said += [(part, text_of(part, inner), None) for part, inner in value.items()]
        elif value not in (None, "", False, []):
            leads = PAGES.get(name) if isinstance(value, str) and not value.startswith("rpt_") else None
            said.append((name, text_of(name, value), leads))
    return said


def text_of(name: str, value: Any) -> str:
    if name in MOMENTS and isinstance(value, int):
        return str(plain(from_micros(value)))
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "yes" if value is True else "no" if value is False else str(value)


ROUTES = [page("/audit", index)]
