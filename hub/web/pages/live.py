"""Live pages: server-sent events, fed by one look at the database a second for all who watch.

A stream of the list carries the newest events' rows as HTML, whenever one changes; a stream about one event or replay
only says that it changed, and the page is fetched again. Without the script every page is as good, reloaded by hand.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, Row
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from hub.errors import HubError
from hub.runtime import Hub
from hub.store import reading, replays
from hub.store.reading import EventFilter
from hub.web.api import with_deliveries
from hub.web.pages.asked import hub_of, path_of, query_of
from hub.web.rendering import fragment

LOOK_EVERY = 1.0
QUIET_AFTER = 15.0
# A stream ends after this time and the browser opens it anew: who has been logged out meanwhile is refused then.
LASTS = 300.0
ENDS_WITHIN = 1.0
MOST_STREAMS = 50
REPLAY = "rpl_"
NEWEST = 50

log = structlog.get_logger()


@dataclass(frozen=True)
class EventRow:
    """An event of the list as it stands: what decides whether a stream wants it, and its HTML."""

    seq: int
    store: str
    type: str
    html: str


@dataclass
class Live:
    """Those who watch one hub, and what was seen at the last look. One for each application."""

    hub: Hub
    rows: dict[str, EventRow] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    looks: int = 0
    watched: list[str | None] = field(default_factory=list)
    looked: asyncio.Condition = field(default_factory=asyncio.Condition)
    looking: "asyncio.Task[None] | None" = None
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def events(self, store: str | None, kind: str | None) -> Response:
        """A stream of the newest events' rows."""
        sent: dict[str, EventRow] = {}

        def news() -> bytes | None:
            wanted = {
                key: row for key, row in self.rows.items() if store in {None, row.store} and takes(kind, row.type)
            }
            fresh = [row for key, row in wanted.items() if sent.get(key) != row]
            sent.clear()
            sent.update(wanted)
            rows = [{"seq": row.seq, "html": row.html} for row in sorted(fresh, key=lambda row: row.seq)]
            return message("rows", rows) if rows else None

        return self._stream(None, news)

    def one(self, key: str, seen: str) -> Response:
        """A stream that says when the event or replay of that id is not any more as in the mark `seen`."""
        known = [seen]

        def news() -> bytes | None:
            mark = self.marks.get(key)
            if mark is None or mark == known[0]:
                return None
            known[0] = mark
            return message("changed", key)

        return self._stream(key, news)

    def _stream(self, key: str | None, news: Callable[[], bytes | None]) -> Response:
        if len(self.watched) >= MOST_STREAMS:
            return PlainTextResponse("too many watch; reload by hand", 503)
        return Stream(self, key, news)

    def begin(self, key: str | None) -> None:
        self.watched.append(key)
        if self.looking is None:
            self.enough = asyncio.Event()
            self.looking = asyncio.create_task(self._look_until(self.enough), name="live")

    async def end(self, key: str | None) -> None:
        self.watched.remove(key)
        if self.watched or self.looking is None:
            return
        looking, self.looking = self.looking, None
        self.rows, self.marks = {}, {}
        self.enough.set()
        # A look under way may finish: one that is cut off costs a connection to the database.
        await asyncio.wait({looking}, timeout=LOOK_EVERY)
        looking.cancel()

    async def _look_until(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            try:
                await self._look()
            except HubError as trouble:
                log.warning("live.waiting", reason=str(trouble))
            except Exception:
                log.exception("live.fault")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await enough.wait()

    async def _look(self) -> None:
        keys = {key for key in self.watched if key is not None}
        configured = self.hub.config.routes
        listing = None in self.watched

        def read(connection: Connection) -> tuple[list[dict[str, Any]], dict[str, str]]:
            newest = newest_events(connection, list(configured)) if listing else []
            return newest, marks_of(connection, sorted(keys))

        newest, self.marks = await self.hub.database.read(read)
        self.rows = {
            event["id"]: EventRow(
                event["seq"], event["store"], event["type"], fragment("event_row.html", event=event)
            )
            for event in newest
        }  # fmt: skip
        async with self.looked:
            self.looks += 1
            self.looked.notify_all()


def takes(wanted: str | None, kind: str) -> bool:
    """Whether the list's filter, which may end in `*`, takes that type."""
    if wanted is None:
        return True
    return kind.startswith(wanted[:-1]) if wanted.endswith("*") else kind == wanted


def newest_events(connection: Connection, configured: list[str]) -> list[dict[str, Any]]:
    """The newest events, each with its deliveries, as the list shows them."""
    return with_deliveries(connection, reading.list_events(connection, EventFilter(), NEWEST), configured)


def marks_of(connection: Connection, keys: list[str]) -> dict[str, str]:
    """Of each event or replay a mark that changes when it does."""
    events: dict[str, list[Row[Any]]] = {key: [] for key in keys if not key.startswith(REPLAY)}
    for row in reading.deliveries_of(connection, list(events)):
        events[row.event_id].append(row)
    found = {key: event_mark(rows) for key, rows in events.items()}
    for key in set(keys) - set(events):
        replay = replays.get(connection, key)
        if replay is not None:
            found[key] = replay_mark(replay, replays.became(connection, key))
    return found


def event_mark(deliveries: Iterable[Row[Any]]) -> str:
    """A mark that changes when one of an event's deliveries does."""
    return _mark(sorted((row.id, row.status, row.attempts, row.next_attempt_at, row.lease_until) for row in deliveries))


def replay_mark(replay: Row[Any], became: dict[str, int]) -> str:
    """A mark that changes when a replay is further, or one of its deliveries."""
    return _mark([replay.state, replay.done, *sorted(became.items())])


def _mark(state: list[Any]) -> str:
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def message(kind: str, data: Any) -> bytes:
    """A server-sent event; JSON has no line end in it."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data))


class Stream(Response):
    """An answer without end: until the client goes, the server stops, or it has lasted long enough."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, key: str | None, news: Callable[[], bytes | None]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.live = live
        self.key = key
        self.news = news

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.live.begin(self.key)
        ends = [asyncio.create_task(one) for one in (gone(receive), scope["state"]["stopping"].wait())]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            ends.append(asyncio.create_task(self._send_forever(send)))
            await asyncio.wait(ends, timeout=LASTS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            await self.live.end(self.key)
        # A client that does not read keeps nobody waiting.
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN):
                await send({"type": "http.response.body", "body": b""})

    async def _send_forever(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": b": live\n\n", "more_body": True})
        seen = 0
        while True:
            text = None
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_AFTER):
                    while text is None:
                        seen = await self._looked_after(seen)
                        text = self.news()
            await send({"type": "http.response.body", "body": text or b": quiet\n\n", "more_body": True})

    async def _looked_after(self, seen: int) -> int:
        """Wait for a look after the `seen`-th; its number."""
        async with self.live.looked:
            await self.live.looked.wait_for(lambda: self.live.looks > seen)
            return self.live.looks


async def stream_of_one(request: Request) -> Response:
    """Says when the event or replay that the path names changed since the mark in `seen`."""
    return live_of(request).one(path_of(request), query_of(request, "seen").get("seen", ""))


async def gone(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def live_of(request: Request) -> Live:
    """The application's one."""
    state = request.app.state
    if not hasattr(state, "live"):
        state.live = Live(hub_of(request))
    live: Live = state.live
    return live
