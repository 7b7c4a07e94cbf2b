"""`/`: what needs someone, first; then the last day in two charts, and the routes with their health."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row
from starlette.requests import Request
from starlette.responses import Response

from hub.store.refusals import senders
from hub.store.stats import HourCount, hourly
from hub.web import api
from hub.web.pages import charts
from hub.web.pages.asked import hub_of, page
from hub.web.pages.refused import cause_of
from hub.web.plain import plain
from hub.web.rendering import render
from hub.web.status import missing_words

MOST_SENDERS = 5


async def index(request: Request) -> Response:
    hub = hub_of(request)
    now = hub.now()
    status = await api.OPERATIONS["status"](hub, {})
    hours = charts.hours_until(now)

    def read(connection: Connection) -> tuple[list[HourCount], list[Row[Any]]]:
        return hourly(connection, hours[0]), senders(connection, now - timedelta(hours=1), MOST_SENDERS)

    missing = sum(one["missing_24h"] for one in status["catch_up"].values())
    counts, refused = await hub.database.read(read)
    return render(
        request,
        "overview.html",
        now=now,
        standing=status,
        routes=[row_of(name, one) for name, one in status["routes"].items()],
        refused=[{"cause": cause_of(row.status)} | plain(dict(row._mapping)) for row in refused],
        refused_24h=sum(one["count"] for one in status["refused_24h"]),
        missing=missing,
        missing_words=missing_words(missing),
        events=charts.events_chart(counts, hours),
        outcomes=charts.outcomes_chart(counts, hours),
    )


def row_of(name: str, shown: dict[str, Any]) -> dict[str, Any]:
    """A route, and how many of its deliveries wait."""
    return {"name": name, "waiting": shown["pending"] + shown["held"]} | shown


ROUTES = [page("/", index)]
