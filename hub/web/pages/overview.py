"""`/`: what needs someone, first; then the last day in two charts, and the routes with their health."""

from datetime import datetime, timedelta
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
from hub.web.rendering import read_moment, render
from hub.web.status import is_late

MOST_SENDERS = 5


async def index(request: Request) -> Response:
    hub = hub_of(request)
    now = hub.now()
    status = await api.OPERATIONS["status"](hub, {})
    hours = charts.hours_until(now)

    def read(connection: Connection) -> tuple[list[HourCount], list[Row[Any]]]:
        return hourly(connection, hours[0]), senders(connection, now - timedelta(hours=1), MOST_SENDERS)

    counts, refused = await hub.database.read(read)
    return render(
        request,
        "overview.html",
        now=now,
        standing=status,
        routes=[row_of(name, one) for name, one in status["routes"].items()],
        late=[name for name, one in status["routes"].items() if one["state"] == "ok" and behind(one, now)],
        refused=[{"cause": cause_of(row.status)} | plain(dict(row._mapping)) for row in refused],
        refused_24h=sum(one["count"] for one in status["refused_24h"]),
        events=charts.events_chart(counts, hours),
        outcomes=charts.outcomes_chart(counts, hours),
        dead=sum(one["count"] for one in status["dead"]),
    )


def row_of(name: str, shown: dict[str, Any]) -> dict[str, Any]:
    """A route, and how many of its deliveries wait."""
    return {"name": name, "waiting": shown["pending"] + shown["held"]} | shown


def behind(shown: dict[str, Any], now: datetime) -> bool:
    """Whether its oldest due delivery waits longer than it should."""
    return is_late(now, read_moment(shown["oldest_due"]), read_moment(shown["stopped_until"]))


ROUTES = [page("/", index)]
