"""What can be asked of a hub: one table of operations, used by commands, and served on its local socket.

Each takes the Hub and JSON-able arguments and returns JSON-able data: times in ISO 8601, no secrets. What cannot be
done is a CommandError; arguments that make no sense are a WrongUsage.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import orjson
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, Row
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub import catch_up, registrations, reorders, replay
from hub.backup import Copy, back_up
from hub.config import Store
from hub.errors import CommandError, ConfigError, Unavailable
from hub.event import search_keys
from hub.guard import place_of
from hub.keeping import dropped_text
from hub.models import LONGEST_TEXT
from hub.receive import accept_refused, accept_repeat
from hub.runtime import Hub
from hub.sandbox import near
from hub.store import reading, reordering, replays, routes
from hub.store.contents import Contents
from hub.store.events import get_repeat
from hub.store.meant import GONE, Filter
from hub.store.reading import DeliveryFilter, EventFilter
from hub.store.refusals import get_refused, list_refused
from hub.store.reordering import ReorderFilter
from hub.store.sessions import end_all
from hub.trying import Finding, check_route, planned, plans, told
from hub.units import parse_duration
from hub.web.auth import LINK_ASKED_FOR, dashboard_off, make_link
from hub.web.explain import explained, surroundings
from hub.web.plain import chosen, delivery_json, event_json, plain, reorder_json, whole_delivery_json, whole_event_json
from hub.web.status import look, status, stores_json

Operation = Callable[[Hub, dict[str, Any]], Awaitable[Any]]
Model = TypeVar("Model", bound=BaseModel)

# As stored; or held by a route that is paused, broken, or gone from the config.
Status = Literal["pending", "held", "delivered", "dead", "skipped", "paused", "broken", "gone"]
Done = Literal["delivered", "dead", "skipped", "gone"]
Came = Literal["dead", "held", "pending", "delivered", "not_taken"]
LARGEST = 2**63 - 1
# One of these must be given, or all that there is would be meant.
NARROWING = ("ids", "status", "route", "entity", "error_key", "since")
EARLIEST, LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
MOST_LISTED = 1000
# One a day: what is slower has due times that no clock knows.
SLOWEST_PACE = 1 / 86_400
Pace = Annotated[float, Field(ge=SLOWEST_PACE, le=10_000)]
# An id that whoever asks gave it beforehand: asked for twice, it begins once.
ReplayId = Annotated[str, Field(pattern="^rpl_[0-9a-f]{32}$")]
REFUSED_SHOWN = (
    "id", "at", "store", "status", "reason", "details", "remote", "signed", "cut", "event_id",
)  # fmt: skip
AUDIT_SHOWN = ("id", "at", "who", "action", "detail")
REPLAY_SHOWN = ("id", "action", "who", "at", "to_route", "as_new", "pace", "most", "total", "done")

log = structlog.get_logger()


class WrongUsage(CommandError):
    """An operation was asked for with arguments that make no sense."""


class Arguments(BaseModel):
    """What an operation takes. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _page_of(kind: str) -> AfterValidator:
    def checked(value: str) -> str:
        if not value.startswith(f"{kind}_"):
            raise ValueError(f"must be an id as the last page said it, {kind}_…")
        return value

    return AfterValidator(checked)


class OneId(Arguments):
    id: str


class Listed(Arguments):
    """A page of a list, and a span of time: moments as ISO 8601, or ages such as 2d."""

    store: str | None = None
    entity: str | None = None
    since: str | None = None
    until: str | None = None
    limit: int = Field(50, ge=1, le=MOST_LISTED)


class EventsWanted(Listed):
    """`outcome` is that of an event's deliveries (hub.store.reading.list_events_by_outcome)."""

    type: str | None = None
    q: str | None = None
    outcome: Came | None = None
    before: int | None = Field(None, ge=0, le=LARGEST)


class DeliveriesWanted(Listed):
    status: Status | None = None
    route: str | None = None
    error_key: str | None = None
    before: Annotated[str, _page_of("dlv")] | None = None


class Matching(Arguments):
    """Which deliveries are meant, by id or by what they have in common."""

    ids: tuple[str, ...] = ()
    route: str | None = None
    store: str | None = None
    entity: str | None = None
    error_key: str | None = None
    since: str | None = None
    until: str | None = None


class ReplayWanted(Matching):
    """Which deliveries to send again. `ids` are deliveries' or events'; `limit` the most of them.

    `to_route`: their events along that route, whatever its conditions.
    """

    status: Done | None = None
    limit: int | None = Field(None, ge=1)
    to_route: str | None = None


class ReplayStarted(ReplayWanted):
    """`pace` in deliveries a second; `as_new` sends again what was sent before."""

    as_new: bool = False
    replay_id: ReplayId | None = None
    pace: Pace | None = None
    who: str = "local"


class OpenWanted(Matching):
    """Which held or pending deliveries to release or cancel."""

    action: Literal["release", "cancel"]
    status: Status | None = None


class OpenStarted(OpenWanted):
    """`pace` in deliveries a second."""

    replay_id: ReplayId | None = None
    pace: Pace | None = None
    who: str = "local"


class ByPerson(OneId):
    who: str = "local"


class RouteWanted(Arguments):
    route: str
    reason: str | None = Field(None, max_length=500)
    who: str = "local"


class Cancelled(Arguments):
    """Deliveries by id."""

    ids: tuple[str, ...] = Field(min_length=1)
    who: str = "local"


class UserWanted(Arguments):
    user: str
    who: str = "local"


class RefusedWanted(Arguments):
    """`signed`: only the ring of the rightly signed, or only the other."""

    limit: int = Field(50, ge=1, le=MOST_LISTED)
    before: Annotated[str, _page_of("ref")] | None = None
    signed: bool | None = None
    store: str | None = None


class ReplaysWanted(Arguments):
    limit: int = Field(50, ge=1, le=MOST_LISTED)
    before: Annotated[str, _page_of("rpl")] | None = None


class AuditWanted(Arguments):
    limit: int = Field(50, ge=1, le=MOST_LISTED)
    before: Annotated[str, _page_of("aud")] | None = None
    by: str | None = None
    action: str | None = None


class EventReplayed(OneId):
    """One event, and the routes along which it goes (again)."""

    routes: tuple[str, ...] = Field(min_length=1)
    as_new: bool = False
    replay_id: ReplayId | None = None
    who: str = "local"


class BackupWanted(Arguments):
    """`file`: the whole path; `force`: one that is there already is replaced."""

    file: str = Field(pattern="^/")
    force: bool = False


class StoreWanted(Arguments):
    store: str
    who: str = "local"


class CatchUpWanted(Arguments):
    """`store`: one, or all that are caught up on."""

    store: str | None = None


class LookBackWanted(StoreWanted):
    """`since`: a moment as ISO 8601, or an age such as 2d."""

    since: str


class ReordersWanted(Arguments):
    """`state`: open, waiting (for a person), ordering, sent or closed."""

    store: str | None = None
    sku: str | None = None
    route: str | None = None
    state: Literal["open", "waiting", "ordering", "sent", "closed"] | None = None
    limit: int = Field(50, ge=1, le=MOST_LISTED)
    before: Annotated[str, _page_of("reo")] | None = None


class PlanWanted(Arguments):
    """`route`: one, or all that order."""

    route: str | None = None


class ReorderEnded(ByPerson):
    why: str = Field(min_length=1, max_length=500)


class Named(Arguments):
    """Names that a filter speaks of."""

    route: str | None = None
    store: str | None = None
    error_key: str | None = None


def wanted(model: type[Model], arguments: dict[str, Any]) -> Model:
    """The arguments, or a WrongUsage that names the wrong one."""
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        what = "is not known here" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise WrongUsage(f"{place}: {what.replace('Input should be', 'must be')}") from None


def moment_of(value: str | None, now: datetime) -> datetime | None:
    """An ISO 8601 time (UTC where it names no zone), or an age such as 2d before `now`. Raises WrongUsage."""
    if value is None:
        return None
    try:
        return now - parse_duration(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUsage(f"{value!r} is neither an age such as 2d or 90m nor a time such as 2024-01-15T10:30") from None
    # What is further away than any event takes part in sums of times, which end at the year 9999.
    return min(max(moment, EARLIEST), LATEST)


def page(rows: list[Row[Any]], limit: int) -> tuple[list[Row[Any]], bool]:
    """The first `limit` of the rows, of which one more was asked for; and whether there are more."""
    return rows[:limit], len(rows) > limit


async def stores(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`stores`: each by its name, as `status` has them."""
    wanted(Arguments, arguments)
    return {"stores": stores_json(hub, await look(hub))}


async def named(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Nothing, where these names are known to the config or the record; else a CommandError with the near name.

    For who found nothing: a list that is empty because of a slip must not read as if all were well.
    """
    asked = wanted(Named, arguments)

    looks: dict[str, Callable[[Connection], list[str]]] = {
        "route": lambda connection: reading.known_routes(connection, hub.config.routes),
        "store": lambda connection: reading.known_stores(connection, hub.config.stores),
        "error_key": reading.known_errors,
    }

    def read(connection: Connection) -> list[str]:
        given = {name: value for name, value in asked if value is not None}
        known = {name: looks[name](connection) for name in given}
        return [
            f"there is no {name.removesuffix('_key')} {value}{near(value, known[name])}"
            for name, value in given.items()
            if value not in known[name]
        ]

    unknown = await hub.database.read(read)
    if unknown:
        raise CommandError("; ".join(unknown))
    return {}


async def events(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`events`, newest first, each with its deliveries' routes and statuses; `before` begins the next page."""
    asked = wanted(EventsWanted, arguments)
    now = hub.now()
    found = EventFilter(
        asked.store, asked.type, asked.entity, moment_of(asked.since, now), moment_of(asked.until, now), asked.q
    )

    def read(connection: Connection) -> dict[str, Any]:
        if asked.outcome is None:
            rows, more = page(reading.list_events(connection, found, asked.limit + 1, asked.before), asked.limit)
            following = rows[-1].seq if more else None
        else:
            rows, following = reading.list_events_by_outcome(
                connection, found, asked.outcome, hub.config.routes, asked.limit, asked.before
            )
        return {"events": with_deliveries(connection, rows, hub.config.routes), "before": following}

    return await hub.database.read(read)


def with_deliveries(connection: Connection, rows: list[Row[Any]], configured: Collection[str]) -> list[dict[str, Any]]:
    """Events, each with its deliveries' ids, routes and statuses."""
    blocked = reading.blocked_routes(connection, configured)
    by_event: dict[str, list[dict[str, Any]]] = {row.id: [] for row in rows}
    for row in reading.deliveries_of(connection, list(by_event)):
        shown = delivery_json(row, blocked)
        by_event[row.event_id].append({name: shown[name] for name in ("id", "route", "status")})
    return [event_json(row) | {"deliveries": by_event[row.id]} for row in rows]


async def deliveries(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`deliveries`, newest first; `before` begins the next page."""
    asked = wanted(DeliveriesWanted, arguments)
    now = hub.now()
    found = DeliveryFilter(
        asked.status, asked.route, asked.store, asked.entity, asked.error_key,
        moment_of(asked.since, now), moment_of(asked.until, now),
    )  # fmt: skip

    def read(connection: Connection) -> dict[str, Any]:
        listing = reading.list_deliveries(connection, found, hub.config.routes, asked.limit + 1, asked.before)
        rows, more = page(listing, asked.limit)
        blocked = reading.blocked_routes(connection, hub.config.routes)
        listed = [delivery_json(row, blocked) | {"type": row.type} for row in rows]
        return {"deliveries": listed, "before": rows[-1].id if more else None}

    return await hub.database.read(read)


async def show(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """One thing whole, by its id: an event, a delivery, a replay, a repeat or a refusal; `kind` says which."""
    wanted_id = wanted(OneId, arguments).id

    def read(connection: Connection) -> dict[str, Any] | None:
        blocked = reading.blocked_routes(connection, hub.config.routes)
        kind, _, _ = wanted_id.partition("_")
        if kind == "dlv" and (delivery := reading.get_delivery(connection, wanted_id)):
            type_ = reading.type_of(connection, delivery.delivery.event_id)
            return {"kind": "delivery", "type": type_} | whole_delivery_json(delivery, blocked)
        if kind == "rpl" and (one := replays.get(connection, wanted_id)):
            return {"kind": "replay"} | replay_json(one) | {"became": replays.became(connection, wanted_id)}
        if kind == "rpt" and (repeat := get_repeat(connection, wanted_id)):
            return {"kind": "repeat"} | chosen(repeat, ("id", "event_id", "at", "headers", "body"))
        if kind == "ref" and (refusal := get_refused(connection, wanted_id)):
            return {"kind": "refused"} | chosen(refusal, (*REFUSED_SHOWN, "headers", "body"))
        if event := reading.get_event(connection, wanted_id):
            statuses = [one.delivery.status for one in event.deliveries]
            dropped = dropped_text(hub.config.keep, event.event, statuses)
            return {"kind": "event", "dropped": dropped} | whole_event_json(event, keys_of(event.event), blocked)
        return None

    found = await hub.database.read(read)
    if found is None:
        raise CommandError(f"{wanted_id}: there is nothing of that id; `hub events` and `hub deliveries` list them")
    return found


def keys_of(event: Any) -> set[tuple[str, str]]:
    """What an event can be found by; nothing once its body is gone."""
    if event.body is None:
        return set()
    return search_keys(event.type, event.entity, orjson.loads(event.body)["data"])


async def explain(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """What happened to one event, in sentences. `id` is its own, a delivery's, or anything it is found by."""
    wanted_id = wanted(OneId, arguments).id
    now = hub.now()

    def read(connection: Connection) -> dict[str, Any]:
        rows = reading.list_events(connection, EventFilter(q=wanted_id), 6)
        if not rows:
            raise CommandError(f"{wanted_id}: no event is found by that; `hub events` lists them")
        if len(rows) > 1:
            ids = ", ".join(f"{row.id} ({row.type})" for row in rows[:5])
            more = ", …" if len(rows) > 5 else ""
            raise CommandError(f"{wanted_id}: several events are about that; name one: {ids}{more}")
        whole = reading.get_event(connection, rows[0].id)
        assert whole is not None
        return explained(whole, surroundings(connection, now, hub.config, whole))

    return await hub.database.read(read)


def filter_of(asked: ReplayWanted | OpenWanted, now: datetime) -> Filter:
    """The filter of a replay, release or cancel, with its times fixed. One that would take everything is refused."""
    if isinstance(asked, ReplayWanted) and asked.status == GONE and asked.to_route is None:
        raise WrongUsage("status gone: say along which route they go, with --to")
    if not any(getattr(asked, name) for name in NARROWING):
        raise WrongUsage(f"say which: ids, or one of {', '.join(NARROWING[1:])}")
    given = asked.model_dump(include=Matching.model_fields.keys() | {"status"})
    return Filter(**given | {name: moment_of(given[name], now) for name in ("since", "until")})


def filter_json(found: Filter) -> dict[str, Any]:
    """The parts of a filter that are given."""
    return {name: plain(value) for name, value in asdict(found).items() if value}


async def replay_preview(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a replay would do; `filter` has its times fixed, so that `replay.start` takes the very same."""
    asked = wanted(ReplayWanted, arguments)
    now = hub.now()
    found = filter_of(asked, now)
    unknown = await hub.database.read(lambda connection: reading.unknown_ids(connection, asked.ids))
    preview = await replay.preview_replay(hub, found, asked.limit, asked.to_route)
    why = replay.without_body(preview.dropped, hub.config.keep) if preview.dropped else None
    exact = {"until": plain(now)} | filter_json(found)
    return {"filter": exact, "unknown": unknown, "why_dropped": why} | asdict(preview)


async def replay_start(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Begin a replay. The running hub goes on with it by itself; `replay.advance` does a batch."""
    asked = wanted(ReplayStarted, arguments)
    found = filter_of(asked, hub.now())
    replay_id = await replay.start_replay(
        hub, asked.who, found, to_route=asked.to_route, as_new=asked.as_new, pace=asked.pace, most=asked.limit,
        replay_id=asked.replay_id,
    )  # fmt: skip
    return await replay_get(hub, {"id": replay_id})


async def replay_advance(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Do one more batch of every running replay, and tell how far that of `id` is."""
    await replay.advance_replays(hub)
    return await replay_get(hub, arguments)


async def replay_get(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """A replay, or a release or cancel of many: its filter, state, and how many of how many are written."""
    replay_id = wanted(OneId, arguments).id
    row = await hub.database.read(lambda connection: replays.get(connection, replay_id))
    if row is None:
        raise CommandError(f"{replay_id}: there is no such replay")
    return replay_json(row)


async def replay_event(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Send one event along routes at once, also ones it did not take: the replay's `id`, and the `untouched` routes."""
    asked = wanted(EventReplayed, arguments)
    replay_id, untouched = await replay.replay_event(
        hub, asked.who, asked.id, asked.routes, as_new=asked.as_new, replay_id=asked.replay_id
    )
    return {"id": replay_id, "untouched": untouched}


def replay_json(row: Any) -> dict[str, Any]:
    """A replay, release or cancel (`action`), `running`, `done` or `stopped`; the last of a paced one is `last_due`."""
    more = {"state": replays.state_of(row), "last_due": plain(replays.last_due(row)) if row.pace else None}
    return chosen(row, REPLAY_SHOWN) | more | {"filter": filter_json(Filter.from_json(row.filter))}


async def replay_list(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`replays`, newest first; `before` begins the next page."""
    asked = wanted(ReplaysWanted, arguments)
    listing = await hub.database.read(lambda c: replays.list_replays(c, asked.limit + 1, asked.before))
    rows, more = page(listing, asked.limit)
    return {"replays": [replay_json(row) for row in rows], "before": rows[-1].id if more else None}


async def replay_stop(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Stop a replay half-way; `given_back` are as they were before."""
    asked = wanted(ByPerson, arguments)
    return {"id": asked.id, "given_back": await replay.stop_replay(hub, asked.who, asked.id)}


async def pause(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Pause a route; `changed` is false if it was paused already."""
    asked = wanted(RouteWanted, arguments)
    return {"route": asked.route, "changed": await replay.pause_route(hub, asked.who, asked.route, asked.reason)}


async def resume(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Go on with a route; `changed` is false if nothing held it."""
    asked = wanted(RouteWanted, arguments)
    return {"route": asked.route, "changed": await replay.resume_route(hub, asked.who, asked.route, asked.reason)}


async def release(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Let a held delivery go."""
    asked = wanted(ByPerson, arguments)
    await replay.release_held(hub, asked.who, asked.id)
    return {"id": asked.id}


async def cancel(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Skip deliveries by id: `cancelled`, `untouched` which were not open, and `unknown` which are no deliveries."""
    asked = wanted(Cancelled, arguments)
    done = await replay.cancel_deliveries(hub, asked.who, asked.ids)
    there = await hub.database.read(lambda connection: reading.known_deliveries(connection, asked.ids))
    return {
        "cancelled": done,
        "untouched": sorted(there - set(done)),
        "unknown": sorted(set(asked.ids) - there),
    }


async def open_preview(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """How many a release or cancel would change; `filter` has its times fixed, so that `open.start` takes the same."""
    asked = wanted(OpenWanted, arguments)
    now = hub.now()
    found = filter_of(asked, now)
    exact = {"until": plain(now)} | filter_json(found)
    return {"filter": exact, "count": await replay.count_open(hub, asked.action, found)}


async def open_start(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Begin to release what is held, or to cancel what is pending or held, of all that match; goes on as a replay."""
    asked = wanted(OpenStarted, arguments)
    found = filter_of(asked, hub.now())
    begun = await replay.start_change(hub, asked.action, asked.who, found, asked.pace, asked.replay_id)
    return await replay_get(hub, {"id": begun})


async def try_route(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run a route's check: `passed`, `text`, and the `id` of its line in the audit. Passed, a breaker is probed."""
    asked = wanted(RouteWanted, arguments)
    if asked.route not in hub.config.routes:
        raise CommandError(f"there is no route {asked.route}; there is {', '.join(hub.config.routes) or 'none'}")
    finding: Finding = await told(asked.route, check_route(hub.config, asked.route, hub.config.routes[asked.route]))
    text = hub.redact(finding.text)
    line = await hub.database.write(
        lambda connection: routes.tested(connection, hub.now(), asked.route, asked.who, finding.ok, text[:LONGEST_TEXT])
    )
    hub.bells.ring(f"deliver:{asked.route}")
    return {"id": line, "passed": finding.ok, "text": text}


async def audit(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`audit`: who did what, newest first; `before` begins the next page."""
    asked = wanted(AuditWanted, arguments)
    rows = await hub.database.read(
        lambda connection: routes.list_audit(connection, asked.limit + 1, asked.before, asked.by, asked.action)
    )
    rows, more = page(rows, asked.limit)
    return {"audit": [chosen(row, AUDIT_SHOWN) for row in rows], "before": rows[-1].id if more else None}


async def refused(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`refused` requests, newest first, without their bodies; `before` begins the next page."""
    asked = wanted(RefusedWanted, arguments)
    found = await hub.database.read(
        lambda connection: list_refused(connection, asked.limit + 1, asked.before, asked.signed, asked.store)
    )
    rows, more = page(found, asked.limit)
    listed = [chosen(row, (*REFUSED_SHOWN, "size")) for row in rows]
    return {"refused": listed, "before": rows[-1].id if more else None}


async def refused_accept(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Let a refused request in after all, if today's config takes it; or a repeat with other content."""
    asked = wanted(ByPerson, arguments)
    kept = await (accept_repeat if asked.id.startswith("rpt_") else accept_refused)(hub, asked.id)
    await hub.database.write(
        lambda connection: routes.audit(connection, hub.now(), asked.who, "let in", refused=asked.id, event=kept.id)
    )
    return kept._asdict()


async def catch_up_now(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Poll now: for each store the `events` by type that no webhook had brought; null where a poll is under way."""
    asked = wanted(CatchUpWanted, arguments)
    names = catch_up.stores_on(hub) if asked.store is None else [caught_up_on(hub, asked.store)]
    if not names:
        raise CommandError("no store is caught up on: it needs an api_key, and catch_up must not be off")
    # Where no worker runs, the command is the first to see them.
    await catch_up.begin(hub, first=False)
    found = {name: await catch_up.poll(hub, name) for name in names}
    return {"stores": {name: None if one is None else found_json(one) for name, one in found.items()}}


async def catch_up_preview(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """The `events` by type that would be made of what is in the store `since` then and has none."""
    asked = wanted(LookBackWanted, arguments)
    return found_json(await looked_back(hub, asked, write=False))


async def catch_up_start(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Make them: the `events` by type that were made."""
    asked = wanted(LookBackWanted, arguments)
    made = found_json(await looked_back(hub, asked, write=True))
    await hub.database.write(
        lambda connection: routes.audit(
            connection, hub.now(), asked.who, "catch up", store=asked.store, since=asked.since, events=made["events"]
        )
    )
    return made


async def looked_back(hub: Hub, asked: LookBackWanted, *, write: bool) -> catch_up.Found:
    since = moment_of(asked.since, hub.now())
    assert since is not None
    if since > hub.now():
        raise WrongUsage(f"{asked.since} is still to come, and --since is a time that is past")
    return await catch_up.look_back(hub, caught_up_on(hub, asked.store), since, write=write)


def caught_up_on(hub: Hub, store: str) -> str:
    """The store's name. Raises CommandError where it is not caught up on."""
    if not known_store(hub, store).catches_up:
        raise CommandError(f"store {store} is not caught up on: it needs an api_key, and catch_up must not be off")
    return store


def known_store(hub: Hub, store: str) -> Store:
    if store not in hub.config.stores:
        raise CommandError(f"there is no store {store}{near(store, hub.config.stores)}")
    return hub.config.stores[store]


def found_json(found: catch_up.Found) -> dict[str, Any]:
    """`events` by type, ids that are `unreadable`, and what `failed`, with the reason."""
    return {"events": dict(found.events), "unreadable": found.unreadable, "failed": found.failed}


async def store_connect(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Make or mend the store's registrations: `registrations`, or what to enter `by_hand` where its API has none."""
    asked = wanted(StoreWanted, arguments)
    settings = known_store(hub, asked.store)
    if settings.api_key is None or not registrations.offered(hub, asked.store):
        return {"by_hand": registrations.by_hand(hub, asked.store)}
    done = await registrations.connect(hub, asked.store)
    changed = {one.event: one.state for one in done if one.state != registrations.AS_IT_SHOULD_BE}
    if changed:
        await hub.database.write(
            lambda connection: routes.audit(
                connection, hub.now(), asked.who, "connect", store=asked.store, changed=changed
            )
        )
    return registrations_json(hub, asked.store, done)


async def store_watch(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Look whether the store's `registrations` still lead here; what is `wrong` is told as an alert too."""
    asked = wanted(StoreWanted, arguments)
    settings = known_store(hub, asked.store)
    if settings.api_key is None or not registrations.offered(hub, asked.store):
        raise CommandError(
            f"the registrations of store {asked.store} cannot be read: that needs an api_key and profile: v2; `hub"
            f" store connect {asked.store}` says what must stand in its admin"
        )
    return registrations_json(hub, asked.store, await registrations.watch(hub, asked.store))


def registrations_json(hub: Hub, store: str, found: Sequence[registrations.Registered]) -> dict[str, Any]:
    return {
        "url": registrations.address(hub, store),
        "registrations": [asdict(one) for one in found],
        "wrong": [one.event for one in found if one.is_wrong],
    }


async def reorder_list(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`reorders`, newest first; `before` begins the next page."""
    asked = wanted(ReordersWanted, arguments)
    found = ReorderFilter(asked.store, asked.sku, asked.state, asked.route)
    listing = await hub.database.read(lambda c: reordering.list_lines(c, found, asked.limit + 1, asked.before))
    rows, more = page(listing, asked.limit)
    return {"reorders": [reorder_json(row) for row in rows], "before": rows[-1].id if more else None}


async def reorder_plan(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`lines` that would be ordered now, each with what is `there` already; `failed` says of routes why not."""
    asked = wanted(PlanWanted, arguments)
    names = [name for name, route in hub.config.routes.items() if plans(route)]
    if asked.route is not None and asked.route not in names:
        raise CommandError(
            f"route {asked.route} orders nothing; there is {', '.join(names) or 'no route that does'}"
            if asked.route in hub.config.routes
            else f"there is no route {asked.route}{near(asked.route, hub.config.routes)}"
        )
    lines, failed = [], []
    for name in names if asked.route is None else [asked.route]:
        for store in hub.config.routes[name].stores or hub.config.stores:
            try:
                lines += [{"route": name, "store": store} | one for one in await planned(hub, name, store)]
            except CommandError as error:
                failed.append({"route": name, "store": store, "reason": hub.redact(str(error))})
    return {"lines": lines, "failed": failed}


async def reorder_approve(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Let an order that waits for a person go; `id` may be the order's, its delivery's or one of its lines'."""
    asked = wanted(ByPerson, arguments)
    return {"order": await reorders.approve_order(hub, asked.who, asked.id)}


async def reorder_drop(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Cancel an order that was not sent, and close its lines, `why`."""
    asked = wanted(ReorderEnded, arguments)
    return {"order": await reorders.drop_order(hub, asked.who, asked.id, asked.why)}


async def reorder_close(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Close one reorder, `why`: the next low stock opens another."""
    asked = wanted(ReorderEnded, arguments)
    await reorders.close_reorder(hub, asked.who, asked.id, asked.why)
    return {"id": asked.id}


async def backup(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """Copy the database to a `file`, while all goes on."""
    asked = wanted(BackupWanted, arguments)
    return backup_json(await back_up(hub.config, Path(asked.file), force=asked.force))


def backup_json(copy: Copy) -> dict[str, Any]:
    """A copy: its `file`, its size in `bytes`, and what it holds."""
    return {"file": str(copy.file), "bytes": copy.bytes} | contents_json(copy.contents)


def contents_json(found: Contents) -> dict[str, Any]:
    """The schema's version, the number of `events`, when the `newest` came, deliveries `pending` and `held`."""
    contents: dict[str, Any] = plain(asdict(found))
    return contents


async def login_link(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """`url`, which logs in once to the dashboard of a hub without users, and `until` when."""
    wanted(Arguments, arguments)
    if hub.config.dashboard.users:
        raise CommandError("this hub has users, who log in by name and password; `hub passwd` makes another")
    if (off := dashboard_off(hub.config)) is not None:
        raise CommandError(off)
    until = hub.now() + LINK_ASKED_FOR
    return {"url": await make_link(hub, dashboard_url(hub), LINK_ASKED_FOR), "until": plain(until)}


def dashboard_url(hub: Hub) -> str:
    """Where the dashboard listens: in this process, or, on PostgreSQL, in one of its own as the config says."""
    settings = hub.config.dashboard
    if hub.dashboard_url is not None:
        return hub.dashboard_url
    if hub.config.sqlite_path is not None:
        raise CommandError("no dashboard runs here; `hub up` starts it, and prints a link")
    if not settings.port:
        raise CommandError("dashboard.port is 0, so its address is not known here; it prints a link at its start")
    return f"http://{place_of(settings.host, settings.port)}"


async def sessions_end(hub: Hub, arguments: dict[str, Any]) -> dict[str, Any]:
    """End all sessions of a user: how many had `ended`."""
    asked = wanted(UserWanted, arguments)
    now = hub.now()

    def end(connection: Connection) -> int:
        ended = end_all(connection, asked.user)
        routes.audit(connection, now, asked.who, "sessions.end", user=asked.user, ended=ended)
        return ended

    return {"user": asked.user, "ended": await hub.database.write(end)}


OPERATIONS: dict[str, Operation] = {
    "status": status,
    "stores": stores,
    "named": named,
    "events": events,
    "deliveries": deliveries,
    "show": show,
    "explain": explain,
    "replay.preview": replay_preview,
    "replay.start": replay_start,
    "replay.advance": replay_advance,
    "replay.get": replay_get,
    "replay.list": replay_list,
    "replay.stop": replay_stop,
    "replay.event": replay_event,
    "pause": pause,
    "resume": resume,
    "release": release,
    "cancel": cancel,
    "open.preview": open_preview,
    "open.start": open_start,
    "test": try_route,
    "audit": audit,
    "refused": refused,
    "refused.accept": refused_accept,
    "catch_up.now": catch_up_now,
    "catch_up.preview": catch_up_preview,
    "catch_up.start": catch_up_start,
    "store.connect": store_connect,
    "store.watch": store_watch,
    "reorders": reorder_list,
    "reorders.plan": reorder_plan,
    "reorder.approve": reorder_approve,
    "reorder.drop": reorder_drop,
    "reorder.close": reorder_close,
    "backup": backup,
    "login.link": login_link,
    "sessions.end": sessions_end,
}


def create_local_api(hub: Hub) -> Starlette:
    """The operations for commands on this machine: `POST /{operation}` with JSON arguments."""

    async def operate(request: Request) -> Response:
        name = request.path_params["operation"]
        try:
            return JSONResponse({"ok": True, "result": await asked_of(hub, name, await request.body())})
        except WrongUsage as error:
            return failure("usage", str(error))
        except (CommandError, ConfigError) as error:
            return failure("failed", str(error))
        except Unavailable as error:
            return failure("failed", f"the database cannot be used just now: {error}")
        except Exception as error:
            log.exception("api.fault", operation=name)
            return failure("failed", f"a fault in the hub ({type(error).__name__}); its log says more")

    return Starlette(routes=[Route("/{operation}", operate, methods=["POST"])])


async def asked_of(hub: Hub, name: str, body: bytes) -> Any:
    """Run the operation of that name on JSON arguments."""
    if name not in OPERATIONS:
        raise WrongUsage(f"{name}: there is no such operation; is the running hub of another version?")
    try:
        arguments = orjson.loads(body)
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise WrongUsage("the arguments must be a JSON object")
    return await OPERATIONS[name](hub, arguments)


def failure(kind: str, error: str) -> Response:
    return JSONResponse({"ok": False, "error": error, "kind": kind}, 400)
