"""`GET /metrics` on the dashboard's listener: Prometheus text, read from the database, with every process's part in it.

MEASURES is the one list of names and labels; docs/operate.md and docs/grafana.json are held to it by a test. Nothing
of a person is in them: no entity, no text of a reason. Without a login they are for who asks from this machine, and
with the token `dashboard.metrics_token` for anyone.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hub.backup import size_on_disk
from hub.config import Config
from hub.event import EVENT_TYPES
from hub.runtime import Hub
from hub.store import contents
from hub.store.catch_up import COUNTED
from hub.store.stats import Total, totals
from hub.web.auth import is_loopback
from hub.web.status import Findings, left_at, living_workers, look, routes_json

STATES = ("ok", "paused", "broken", "gone")
OPEN_STATUSES = ("pending", "held", "dead")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "summary": ("_count", "_sum")}
# What a proxy puts on a request that it passes on.
PASSED_ON = ("x-forwarded-for", "x-real-ip", "forwarded", "via")


@dataclass(frozen=True)
class Measure:
    """One family: its name without the ending of its kind (counter, gauge, summary), its labels, and its meaning."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def samples(self) -> tuple[str, ...]:
        """The names under which its numbers stand."""
        return tuple(self.name + suffix for suffix in SUFFIXES[self.kind])


MEASURES = (
    Measure(
        "litekart_hub_events", "counter", ("store", "type"),
        "Events, counted at their fan-out; types beyond the eight of the platform are together in type other.",
    ),
    Measure("litekart_hub_refused", "counter", ("store", "code"), "Requests that did not become events."),
    Measure(
        "litekart_hub_attempts", "counter", ("route", "outcome"),
        "What became of attempts, and of deliveries that ended without one: too old, cancelled, broken condition.",
    ),
    Measure("litekart_hub_attempt_seconds", "summary", ("route",), "Time that attempts took."),
    Measure("litekart_hub_deliveries", "gauge", ("route", "status"), "Deliveries that are pending, held or dead now."),
    Measure(
        "litekart_hub_oldest_due_seconds", "gauge", ("route",),
        "How long the oldest due delivery has been waiting; 0 where none is due.",
    ),
    Measure("litekart_hub_waiting_for_fan_out", "gauge", (), "Events kept and not yet fanned out to routes."),
    Measure("litekart_hub_reorders_waiting", "gauge", (), "Orders to suppliers that wait for a person's approval."),
    Measure("litekart_hub_route_state", "gauge", ("route", "state"), "1 for the state that the route is in, else 0."),
    Measure(
        "litekart_hub_caught_up", "counter", ("store", "type"),
        "Events that no webhook had brought: found by polling the store.",
    ),
    Measure(
        "litekart_hub_store_polled_seconds", "gauge", ("store",),
        "How long ago all of the store was last polled; none before the first time.",
    ),
    Measure(
        "litekart_hub_store_requests_remaining", "gauge", ("store",),
        "Requests to the store's REST API that are left of the hour.",
    ),
    Measure("litekart_hub_workers", "gauge", (), "Workers that have given a sign of life lately."),
    Measure("litekart_hub_redis_up", "gauge", (), "1 if Redis answers. Without it all is delivered, a little later."),
    Measure("litekart_hub_storage_ok", "gauge", (), "0 while this process would refuse a webhook for storage's sake."),
    Measure("litekart_hub_build_info", "gauge", ("version", "schema"), "1, with the versions of hub and schema."),
    Measure("litekart_hub_database_bytes", "gauge", (), "Size of the database; of SQLite, the file and its log."),
)  # fmt: skip

# By the name of a sample: the values of its labels, and the number.
Values = Mapping[str, Iterable[tuple[Sequence[str], float]]]


@dataclass(frozen=True)
class Reading:
    """What one scrape read: how the hub stands, the totals, the schema, and the database's size in bytes."""

    findings: Findings
    totals: list[Total]
    schema: str
    size: int


class Scrape(Collector):
    """The numbers of one scrape, for a registry of its own."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        for measure in MEASURES:
            metric = Metric(measure.name, measure.meaning, measure.kind)
            for name in measure.samples:
                for labels, number in self._values[name]:
                    metric.add_sample(name, dict(zip(measure.labels, labels, strict=True)), number)
            yield metric


async def metrics(request: Request) -> Response:
    """All numbers. 401 for who may not see them; 503 while the database cannot be read."""
    hub: Hub = request.app.state.hub
    if not (has_token(hub.config, request) or is_local(request)):
        said = "metrics are for this machine, or for who sends dashboard.metrics_token as a bearer token\n"
        return PlainTextResponse(said, 401, {"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    registry.register(Scrape(values_of(hub, await read(hub))))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


ROUTE = Route("/metrics", metrics, methods=["GET"])


def has_token(config: Config, request: Request) -> bool:
    token = config.dashboard.metrics_token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer":
        return False
    return secrets.compare_digest(given.strip().encode(), token.reveal().encode())


def is_local(request: Request) -> bool:
    """Does a program on this machine ask, and for this machine?

    Not a proxy on it for somebody else; nor a page of another site, whose name was pointed at this machine.
    """
    if request.client is None or not is_loopback(request.client.host):
        return False
    if any(name in request.headers for name in PASSED_ON):
        return False
    try:
        return is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or "")
    except ValueError:
        return False


async def read(hub: Hub) -> Reading:
    findings = await look(hub)

    def counted(connection: Connection) -> tuple[list[Total], str, int | None]:
        return totals(connection), contents.version(connection) or "", contents.size(connection)

    found, schema, size = await hub.database.read(counted)
    if hub.config.sqlite_path is not None:
        size = await asyncio.to_thread(size_on_disk, hub.config.sqlite_path)
    return Reading(findings, found, schema, size or 0)


def values_of(hub: Hub, reading: Reading) -> Values:
    """A scrape's numbers."""
    found = reading.findings
    return _totals(reading.totals) | _routes(hub, found) | {
        "litekart_hub_store_polled_seconds": [
            ((store,), (found.now - one.polled_at).total_seconds())
            for store, one in found.polling.items()
            if one.polled_at is not None
        ],
        "litekart_hub_waiting_for_fan_out": [((), found.numbers.waiting)],
        "litekart_hub_reorders_waiting": [((), found.reorders)],
        "litekart_hub_store_requests_remaining": [
            ((name,), left_at(hub, found, name).left) for name in hub.config.stores
        ],
        "litekart_hub_workers": [((), len(living_workers(found)))],
        "litekart_hub_redis_up": [((), found.redis is None)],
        "litekart_hub_storage_ok": [((), found.storage is None)],
        "litekart_hub_build_info": [((version("litekart-hub"), reading.schema), 1)],
        "litekart_hub_database_bytes": [((), reading.size)],
    }  # fmt: skip


def _totals(found: Iterable[Total]) -> dict[str, Iterable[tuple[Sequence[str], float]]]:
    counts: dict[str, Counter[tuple[str, ...]]] = {
        kind: Counter() for kind in ("event", "refused", "delivery", COUNTED)
    }
    spent: dict[str, Counter[tuple[str, ...]]] = {"sum": Counter(), "count": Counter()}
    for one in found:
        if one.kind == "attempt_ms":
            spent[one.label][one.name,] += one.count
        elif one.kind in counts:
            # Whoever has a store's secret could make up as many types as they like.
            other = one.kind == "event" and one.label not in EVENT_TYPES
            counts[one.kind][one.name, "other" if other else one.label] += one.count
    return {
        "litekart_hub_caught_up_total": counts[COUNTED].items(),
        "litekart_hub_events_total": counts["event"].items(),
        "litekart_hub_refused_total": counts["refused"].items(),
        "litekart_hub_attempts_total": counts["delivery"].items(),
        "litekart_hub_attempt_seconds_count": spent["count"].items(),
        "litekart_hub_attempt_seconds_sum": [(labels, ms / 1000) for labels, ms in spent["sum"].items()],
    }


def _routes(hub: Hub, found: Findings) -> dict[str, Iterable[tuple[Sequence[str], float]]]:
    routes = routes_json(hub, found)
    due = found.numbers.oldest_due
    waits = {name: (found.now - due[name]).total_seconds() if name in due else 0 for name in routes}
    return {
        "litekart_hub_deliveries": [
            ((name, status), route[status]) for name, route in routes.items() for status in OPEN_STATUSES
        ],
        "litekart_hub_oldest_due_seconds": [((name,), seconds) for name, seconds in waits.items()],
        "litekart_hub_route_state": [
            ((name, state), route["state"] == state) for name, route in routes.items() for state in STATES
        ],
    }
