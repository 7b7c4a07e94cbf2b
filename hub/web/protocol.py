"""The receiver's HTTP connections: uvicorn's own protocol, with deadlines and bounds on what a stranger may hold.

httptools frames strictly but buffers without bound, and uvicorn waits for ever for a request's head. Here a head has
a deadline and a largest size, few requests may wait on one connection, connections have a largest number, and what
all of them hold together has a bound. What anybody may cause is counted and told once a second.
"""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Literal

import httptools
import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hub.logs import Tally
from hub.web.shortcut import Answer, Begun, Shortcut
from hub.web.webhooks import AGAIN

HEAD_WITHIN = 15.0
LINGER = 2.0
LOOK_EVERY = 1.0
CLOSE = (b"connection", b"close")
LONGEST_URL = 8 * 1024
LARGEST_HEAD = 64 * 1024
MOST_HEADERS = 100
MOST_WAITING = 4
MOST_HELD = 32 * 1024 * 1024
MOST_CONNECTIONS = 10_000
RESERVED_FILES = 200
# What is parsed between two looks at the bounds: they hold to within so much.
PIECE = 16 * 1024

Part = Literal["between", "head", "body", "ended"]
log = structlog.get_logger()


def most_connections() -> int:
    """How many connections this process has files for; its soft limit is raised first, as far as it may be."""
    wanted = MOST_CONNECTIONS + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = wanted if soft == resource.RLIM_INFINITY else soft
    return min(MOST_CONNECTIONS, max(files - RESERVED_FILES, files // 2))


class Short:
    """The request that goes the short way, as uvicorn's protocol and ours look at one: `cycle` of its connection."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")

    body = b""
    response_started = False
    # Nobody waits for a message of it.
    message_event = asyncio.Event()

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False


class Gate:
    """What a server's connections share: whom they wait for and since when, what they hold, and one timer.

    `most`: open connections; when there are more, the one that has kept us waiting the longest is closed.
    `head_within`: seconds for a request's head, from the connection's start or the end of its last answer.
    `most_held`: bytes of unfinished heads and of bodies that the application has not taken, of all connections
    together. What it has taken, it bounds itself.
    """

    def __init__(self, most: int, head_within: float = HEAD_WITHIN, most_held: int = MOST_HELD) -> None:
        self.most = most
        self.head_within = head_within
        self.most_held = most_held
        self.held = 0
        self.ended = Tally(lambda count, why: log.warning("connection.ended", count=count, why=why))
        self.waiting: dict[Connection, float] = {}
        """Since when each connection waits for its client, in the loop's seconds; the oldest stand first."""
        self._every = min(LOOK_EVERY, head_within / 10)
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, connection: "Connection") -> None:
        """From now on `connection` waits for its client."""
        self.waiting.pop(connection, None)
        self.waiting[connection] = connection.loop.time()
        if self._timer is None:
            self._timer = connection.loop.call_later(self._every, self._look, connection.loop)

    def enter(self, connection: "Connection") -> None:
        """A new connection. Where there are too many, the one waited for the longest makes room for it."""
        if len(connection.connections) > self.most:
            self.ended.add("full")
            oldest = next(iter(self.waiting), connection)
            self.waiting.pop(oldest, None)
            oldest.transport.abort()
            if oldest is connection:
                return
        self.wait(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in list(self._late(loop.time())):
            if connection.part != "ended" and not connection.idle():
                self.ended.add("late")
            connection.give_up()
            self.wait(connection)
        self._timer = loop.call_later(self._every, self._look, loop) if self.waiting else None

    def _late(self, now: float) -> "Iterator[Connection]":
        for connection, since in self.waiting.items():
            if now - since < min(LINGER, self.head_within):
                break
            if now - since >= connection.patience():
                yield connection


class Connection(HttpToolsProtocol):
    """One client's connection. `gate` and `shortcut` are the server's; `guarded` makes the class for them."""

    gate: ClassVar[Gate]
    shortcut: ClassVar[Shortcut | None]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.url = b""
        self.headers = []
        self.part: Part = "between"
        self.quiet = 0
        """Bytes taken in since the last that ended a head or belonged to a body: the parser may hold them all."""
        self.counted = 0
        self.trouble: tuple[int, str] | None = None
        self.short: bytes | None = None
        """The body so far of what may go the short way, while its bytes are being parsed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gate.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything: the collector runs so rarely that a cycle would keep what it holds for minutes."""
        super().connection_lost(exc)
        self.gate.waiting.pop(self, None)
        self.gate.held -= self.counted
        self.counted = 0
        self.pipeline.clear()
        self.part = "ended"
        self.headers = []
        self.scope = self.cycle = None  # type: ignore[assignment]

    def idle(self) -> bool:
        """Between two requests, where a client may stay away."""
        return self.part == "between" and self.cycle is not None and not self.flow.write_paused

    def patience(self) -> float:
        """Seconds that the client may keep us waiting as things stand."""
        if self.part == "ended":
            return LINGER
        if self.idle():
            return float(self.timeout_keep_alive)
        under_way = self.part == "body" and not self.cycle.response_complete and not self.flow.write_paused
        # A body has its own deadline, which is answered: see Bodies in hub.web.webhooks.
        return float("inf") if under_way else self.gate.head_within

    def give_up(self) -> None:
        """Close; at once where closing in good order was tried before, or the client does not take its answer."""
        if self.transport.is_closing() or self.flow.write_paused:
            self.transport.abort()
        else:
            self.transport.close()
        self.part = "ended"

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE:
            self._feed(data)
            return
        whole = memoryview(data)
        for start in range(0, len(data), PIECE):
            self._feed(whole[start : start + PIECE])

    def _feed(self, piece: bytes | memoryview) -> None:
        if self.part == "ended":
            return
        self.quiet += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # Never taken up; what follows might be in the other protocol.
            self._last_answer()
        except httptools.HttpParserError:
            self._go_the_long_way()
            self._refuse(*self.trouble or (400, "this is not a request in HTTP/1.1"))
        else:
            self._go_the_long_way()
            if self.quiet or self.pipeline or self.counted or len(self.cycle.body) >= PIECE:
                self._weigh()

    def _count(self) -> None:
        bodies = [cycle.body for cycle, _ in self.pipeline] or ([self.cycle.body] if self.cycle is not None else [])
        held = self.quiet + sum(map(len, bodies))
        self.gate.held += held - self.counted
        self.counted = held

    def _weigh(self) -> None:
        """Hold what is unfinished against the bounds."""
        self._count()
        trouble = self._too_much()
        if trouble is not None:
            self._refuse(*trouble)
        elif self.gate.held > self.gate.most_held:
            self._refuse(503, "too many requests are under way; send it again")

    def _too_much(self) -> tuple[int, str] | None:
        if len(self.url) > LONGEST_URL:
            return 414, "the URL is longer than 8 KiB"
        if self.quiet > LARGEST_HEAD or len(self.headers) > MOST_HEADERS:
            return 431, f"the headers are more than {MOST_HEADERS} or larger than 64 KiB"
        return None

    def _refuse(self, status: int, message: str) -> None:
        """Take nothing more, and close: after an answer where the broken request is the only one without."""
        self.gate.ended.add(str(status))
        broken, unanswered = self.part == "body", self.cycle is not None and not self.cycle.response_complete
        if unanswered and not broken:
            self._last_answer()
            return
        answered = broken and (not unanswered or bool(self.pipeline) or self.cycle.response_started)
        self.part = "ended"
        self.pipeline.clear()
        if broken:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.gate.wait(self)
        if answered:
            self.transport.close()
        else:
            self._answer(status, message)

    def _last_answer(self) -> None:
        """Take nothing more; the connection closes after the answer to the newest request."""
        self.part = "ended"
        self.cycle.keep_alive = False

    def _answer(self, status: int, message: str) -> None:
        """The vendor's error envelope. Closing with bytes unread would take it back: the client gets a moment."""
        code = "UNAVAILABLE" if status == 503 else "VALIDATION_ERROR"
        body = orjson.dumps({"success": False, "error": {"code": code, "message": message}})
        self._write(Answer(status, body, (CLOSE, AGAIN) if status == 503 else (CLOSE,)))
        self.transport.write_eof()
        self.flow.resume_reading()

    def _write(self, answer: Answer) -> None:
        headers = [*self.server_state.default_headers, *answer.headers]
        lines = [b"%b: %b\r\n" % header for header in headers]
        length = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer.body)
        self.transport.write(b"".join([STATUS_LINE[answer.status], *lines, length, answer.body]))

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_WAITING:
            self.trouble = 429, "too many requests wait on this connection"
            raise ValueError(self.trouble)
        super().on_message_begin()
        self.part = "head"

    def on_headers_complete(self) -> None:
        self.trouble = self._too_much()
        if self.trouble is not None:
            raise ValueError(self.trouble)
        if self._may_be_short():
            self.short = b""
        else:
            super().on_headers_complete()
        self.part = "body"
        self.quiet = 0

    def _may_be_short(self) -> bool:
        """A plain POST that nothing stands before, to a client that takes its answers."""
        parser = self.parser
        return (
            self.shortcut is not None
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.flow.write_paused
        )

    def on_body(self, body: bytes) -> None:
        self.quiet = 0
        if self.short is None:
            super().on_body(body)
        else:
            self.short += body

    def _go_the_long_way(self) -> None:
        """What might have gone the short way goes uvicorn's, with all of its body that is here."""
        if self.short is not None:
            body, self.short = self.short, None
            super().on_headers_complete()
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.part = "between"
        self.quiet = 0
        if self.short is not None:
            if self._go_the_short_way(self.short):
                return
            self._go_the_long_way()
        super().on_message_complete()
        if self.cycle.response_complete:
            self.gate.wait(self)
        else:
            self.gate.waiting.pop(self, None)

    def _go_the_short_way(self, body: bytes) -> bool:
        assert self.shortcut is not None
        begun = self.shortcut.begin(self.url, self.headers, body)
        if begun is None:
            return False
        self.short = None
        short = Short()
        self.cycle = short  # type: ignore[assignment]
        self.gate.waiting.pop(self, None)
        begun.kept.add_done_callback(partial(self._kept, self.shortcut, short, begun))
        return True

    def _kept(self, shortcut: Shortcut, short: Short, begun: Begun, done: "asyncio.Future[Any]") -> None:
        answer = shortcut.answer(begun)
        if answer is not None:
            self._answer_short(short, answer)
            return
        explaining = self.loop.create_task(self._explain(shortcut, short, begun))
        self.tasks.add(explaining)
        explaining.add_done_callback(self.tasks.discard)

    async def _explain(self, shortcut: Shortcut, short: Short, begun: Begun) -> None:
        self._answer_short(short, await shortcut.explain(begun))

    def _answer_short(self, short: Short, answer: Answer) -> None:
        short.response_complete = True
        if short.disconnected:
            return
        self._write(answer if short.keep_alive else answer._replace(headers=(*answer.headers, CLOSE)))
        if not short.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """As uvicorn has it, but for its timer: one for each answer costs more than all the rest here."""
        self.server_state.total_requests += 1
        if self.parser is None:
            return
        if self.transport.is_closing():
            self.gate.wait(self)
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if self.counted:
            self._count()
        if self.cycle.response_complete or self.part == "body":
            self.gate.wait(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.gate.wait(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.part == "between" and self.cycle is not None and not self.cycle.response_complete:
            self.gate.waiting.pop(self, None)


def guarded(gate: Gate, shortcut: Shortcut | None = None) -> type[Connection]:
    """The protocol for `uvicorn.Config(http=…)` of the server whose gate, and way past ASGI, these are."""
    return type("Guarded", (Connection,), {"gate": gate, "shortcut": shortcut})
