"""The tests that every connector passes, to be inherited: what the hub relies on, tried over loopback.

    class TestFax(ConnectorTests):
        connector_class = Fax

        def settings(self, url: str) -> dict[str, Any]:
            return {"url": url + "/send", "token": "fax-canary-token"}

pytest (with `asyncio_mode = "auto"`) collects the tests that the class inherits. Each starts a real counterpart,
gives the connector a real Context (guarded client, guarded sockets, the template language) and looks at what
arrived. Only the effects are kept in memory here; in the hub they are rows, committed before `put` returns.
"""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from hub.client import Guard, connect, open_client
from hub.clock import new_id, system_time
from hub.connector import Connector, Context, Effect, Event, Receipt, Secret
from hub.errors import Outcome, Skip, TryAgain
from hub.language import compile_template, names_for
from hub.outcome import is_fault, of_status, outcome_of
from hub.testing.samples import EVENT_TYPES, event_of, sample
from hub.testing.sink import Answer, HttpSink, Received

TIMEOUT = 10.0
SHORT = 0.6
RETRY_AFTER = 7
OWN_LOGGERS = ("uvicorn", "mail", "asyncio")

HTTP_ANSWERS = {
    "200": Answer(),
    "400": Answer(400, b"no"),
    "401": Answer(401, b"no"),
    "410": Answer(410, b"no"),
    "429": Answer(429, b"slow down", {"Retry-After": str(RETRY_AFTER)}),
    "500": Answer(500, b"oops"),
    "timeout": Answer(hang=True),
    "dropped": Answer(drop=True),
}


class MemoryEffects:
    """Effects in memory: what the kit uses where the hub uses rows."""

    def __init__(self) -> None:
        self.kept: dict[str, Effect] = {}

    async def get(self, name: str) -> Effect | None:
        return self.kept.get(name)

    async def put(self, name: str, value: str, url: str | None = None) -> None:
        self.kept[name] = Effect(value, url)

    async def once(self, name: str, make: Callable[[], Awaitable[Effect]]) -> Effect:
        if name not in self.kept:
            self.kept[name] = await make()
        return self.kept[name]


class MemoryLog:
    """Keeps every line of `ctx.log` as text."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(f"{event} {fields!r}")

    warning = info


@dataclass
class Bench:
    """One connector's surroundings during a test: its counterpart, the client, all texts it has made."""

    counterpart: Any
    url: str
    http: httpx.AsyncClient
    guard: Guard
    timeout: float
    log: MemoryLog = field(default_factory=MemoryLog)
    effects: MemoryEffects = field(default_factory=MemoryEffects)
    entity_effects: MemoryEffects = field(default_factory=MemoryEffects)
    key: str = field(default_factory=lambda: new_id("dlv"))
    texts: list[str] = field(default_factory=list)
    now: Callable[[], datetime] = system_time

    def context(self, event: Event, attempt: int = 1) -> Context:
        """A Context as the hub makes it, for one attempt."""
        return Context(
            route="kit",
            store=event.store,
            key=self.key,
            attempt=attempt,
            timeout=self.timeout,
            http=self.http,
            connect=self._connect,
            effects=self.effects,
            entity_effects=self.entity_effects,
            render=functools.partial(_render, event),
            log=self.log,
            now=self.now,
        )

    async def _connect(self, host: str, port: int) -> socket.socket:
        return await connect(self.guard, host, port, self.timeout)


@contextlib.asynccontextmanager
async def open_bench(
    counterpart: contextlib.AbstractAsyncContextManager[Any], *, timeout: float = TIMEOUT, listening: bool = True
) -> AsyncIterator[Bench]:
    """A Bench around `counterpart`, which is started; not `listening`: at the place of one that has gone."""
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(counterpart)
        url = running.url
        if not listening:
            await stack.aclose()
        guard = Guard(["127.0.0.1:*", "localhost:*"])
        http = await stack.enter_async_context(open_client(guard, timeout=timeout))
        yield Bench(running, url, http, guard, timeout)


def _render(event: Event, template: str, *, html: bool = False, **more: Any) -> str:
    return compile_template(template, html=html).render(names_for(event, public_url=None) | more)


class ConnectorTests:
    """Inherit it, name the connector and its settings; the rest follows.

    `outcomes` says what is expected where it differs from the hub's own reading of a status (hub.outcome): keys
    as in HTTP_ANSWERS, `refused` and `200`. `changing_headers` are those that may differ between two attempts.
    """

    connector_class: ClassVar[type[Connector]]
    outcomes: ClassVar[dict[str, type[Outcome]]] = {}
    changing_headers: ClassVar[frozenset[str]] = frozenset()

    def settings(self, url: str) -> dict[str, Any]:
        """The route's `settings` for a counterpart at `url`. Make every secret a distinct, made-up text."""
        raise NotImplementedError

    def event(self) -> Event:
        """An event that the connector sends; each call gives a fresh one."""
        return event_of(sample("order.placed"))

    def counterpart(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """What listens. An HttpSink, or something with a `url` for the other methods to use."""
        return HttpSink()

    def arrange(self, counterpart: Any, situation: str) -> None:
        """Make the next delivery meet that situation: a key of HTTP_ANSWERS."""
        counterpart.answer(HTTP_ANSWERS[situation])

    def sent(self, counterpart: Any) -> list[bytes]:
        """All that has arrived, each without what may differ between two attempts."""
        return [self.comparable(request) for request in counterpart.received]

    def comparable(self, request: Received) -> bytes:
        """A request as bytes, without `changing_headers`."""
        lines = [
            f"{name}: {value}"
            for name, value in sorted(request.headers.multi_items())
            if name not in self.changing_headers
        ]
        return "\n".join([f"{request.method} {request.path}", *lines, "", ""]).encode() + request.body

    def expected(self, situation: str) -> type[Outcome]:
        """The outcome that a situation must lead to."""
        default = type(of_status(int(situation))) if situation.isdigit() else TryAgain
        return self.outcomes.get(situation, default)

    async def test_it_delivers_and_says_so(self) -> None:
        async with self._bench() as bench:
            receipt = await self._receipt(bench, self.event())
            assert receipt.text, "the receipt says nothing"
            assert len(self.sent(bench.counterpart)) == 1

    async def test_attempts_send_the_same_under_one_key(self) -> None:
        async with self._bench() as bench:
            event = self.event()
            self.arrange(bench.counterpart, "500")
            await self._outcome(bench, event, attempt=1)
            await self._receipt(bench, event, attempt=2)
            first, second = self.sent(bench.counterpart)
            assert bench.key.encode() in first, "the delivery's key is not in what was sent"
            assert first == second, "the second attempt sent something else"

    async def test_a_replay_finds_the_effect_and_sends_nothing(self) -> None:
        async with self._bench() as bench:
            event = self.event()
            await self._receipt(bench, event)
            assert bench.effects.kept, "nothing was recorded as done"
            receipt = await self._receipt(bench, event, attempt=2)
            assert receipt.text.startswith("already sent")
            assert len(self.sent(bench.counterpart)) == 1

    async def test_400(self) -> None:
        await self._fails("400")

    async def test_401(self) -> None:
        await self._fails("401")

    async def test_410(self) -> None:
        await self._fails("410")

    async def test_429(self) -> None:
        outcome = await self._fails("429")
        if isinstance(outcome, TryAgain) and outcome.status == 429:
            assert outcome.after == RETRY_AFTER
            assert outcome.destination

    async def test_500(self) -> None:
        await self._is_the_destinations("500")

    async def test_no_answer(self) -> None:
        await self._is_the_destinations("timeout", timeout=SHORT)

    async def test_dropped_answer(self) -> None:
        outcome = await self._is_the_destinations("dropped")
        assert "may have arrived" in outcome.reason

    async def test_refused_connection(self) -> None:
        async with self._bench(listening=False) as bench:
            outcome = await self._outcome(bench, self.event())
            assert type(outcome) is self.expected("refused")
            assert not bench.effects.kept

    async def test_every_type_of_event(self) -> None:
        async with self._bench() as bench:
            for number, type_ in enumerate((*EVENT_TYPES, "something.new")):
                bench.key, bench.effects = new_id("dlv"), MemoryEffects()
                with contextlib.suppress(Skip):
                    await self._receipt(bench, event_of(sample(type_)))
                assert len(self.sent(bench.counterpart)) <= number + 1

    async def test_preview_sends_nothing(self) -> None:
        async with self._bench() as bench:
            for type_ in (*EVENT_TYPES, "something.new"):
                event = event_of(sample(type_))
                preview = await self._connector(bench).preview(event, bench.context(event))
                assert preview.title, "the preview has no title"
                assert preview.body, "the preview shows nothing"
                bench.texts += [preview.title, preview.body]
            assert self.sent(bench.counterpart) == [], "the preview sent something"
            assert not bench.effects.kept

    async def test_check_sends_no_message(self) -> None:
        async with self._bench() as bench:
            bench.texts.append(await self._connector(bench).check(bench.context(self.event())))
            assert bench.texts[-1], "the check says nothing"
            assert self.sent(bench.counterpart) == [], "the check sent a message"

    async def test_check_without_a_counterpart_shows_no_secret(self) -> None:
        async with self._bench(listening=False) as bench:
            try:
                bench.texts.append(await self._connector(bench).check(bench.context(self.event())))
            except Exception as error:
                bench.texts.append(_read(error).reason)

    async def _fails(self, situation: str, timeout: float = TIMEOUT) -> Outcome:
        """One delivery into that situation: the right outcome, one try, nothing recorded as done."""
        async with self._bench(timeout) as bench:
            self.arrange(bench.counterpart, situation)
            outcome = await self._outcome(bench, self.event())
            assert type(outcome) is self.expected(situation), f"{situation}: {outcome!r}"
            assert outcome.reason, "the outcome has no reason"
            assert len(self.sent(bench.counterpart)) == 1, "it must send once, and leave trying again to the hub"
            assert not bench.effects.kept, "it recorded as done what was not"
            return outcome

    async def _is_the_destinations(self, situation: str, timeout: float = TIMEOUT) -> Outcome:
        outcome = await self._fails(situation, timeout)
        if isinstance(outcome, TryAgain):
            assert outcome.destination, "the breaker must know that this was the destination's fault"
        return outcome

    @contextlib.asynccontextmanager
    async def _bench(self, timeout: float = TIMEOUT, *, listening: bool = True) -> AsyncIterator[Bench]:
        """A bench with this class's counterpart; when the test is over, no secret may be in any text."""
        async with open_bench(self.counterpart(), timeout=timeout, listening=listening) as bench:
            with _logged(bench.texts):
                yield bench
        self._no_secret(bench)

    def _connector(self, bench: Bench) -> Connector:
        cls = self.connector_class
        return cls(cls.Settings.model_validate(self.settings(bench.url)))

    async def _deliver(self, bench: Bench, event: Event, attempt: int) -> Receipt:
        """One attempt by a new instance, as after a restart, within the time that the hub allows."""
        connector = self._connector(bench)
        ctx = bench.context(event, attempt)
        await connector.open(ctx)
        try:
            async with asyncio.timeout(bench.timeout):
                return await connector.deliver(event, ctx)
        finally:
            await connector.close()

    async def _receipt(self, bench: Bench, event: Event, attempt: int = 1) -> Receipt:
        receipt = await self._deliver(bench, event, attempt)
        bench.texts += [receipt.text, receipt.url or "", receipt.answer or ""]
        return receipt

    async def _outcome(self, bench: Bench, event: Event, attempt: int = 1) -> Outcome:
        """How a delivery that must not succeed ends, as the hub reads it."""
        try:
            receipt = await self._deliver(bench, event, attempt)
        except Exception as error:
            outcome = _read(error)
        else:
            requests = len(self.sent(bench.counterpart))
            raise AssertionError(f"it was delivered all the same, after {requests} requests: {receipt.text}")
        bench.texts.append(outcome.reason)
        return outcome

    def _no_secret(self, bench: Bench) -> None:
        """Looks for every secret of the settings in every text the connector has made."""
        connector = self._connector(bench)
        settings = connector.settings
        texts = [*bench.texts, *bench.log.lines, repr(connector), repr(settings), str(settings)]
        texts.append(settings.model_dump_json())
        for name, effect in [*bench.effects.kept.items(), *bench.entity_effects.kept.items()]:
            texts += [name, effect.value, effect.url or ""]
        for secret in _secrets(settings):
            for text in texts:
                assert secret not in text, f"a secret is shown: {text.replace(secret, '****')}"


def _read(error: Exception) -> Outcome:
    assert not is_fault(error), f"an error that says nothing to the hub: {type(error).__name__}: {error}"
    return outcome_of(error, datetime.now(UTC))


def _secrets(value: Any) -> Iterator[str]:
    """Every Secret in settings; of one that is a URL, the parts that are secret."""
    if isinstance(value, Secret):
        yield from _parts(value.reveal())
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _secrets(item)


def _parts(secret: str) -> Iterator[str]:
    if secret.startswith(("http://", "https://")):
        parts = urlsplit(secret)
        yield from (part for part in (*parts.path.split("/"), parts.query, parts.password or "") if len(part) > 5)
    else:
        yield secret


@contextlib.contextmanager
def _logged(lines: list[str]) -> Iterator[None]:
    """Adds what any library logs from INFO up to `lines`, tracebacks included; not the counterparts' own."""
    handler = _Keep(lines)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


class _Keep(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(OWN_LOGGERS):
            self._lines.append(self.format(record))
