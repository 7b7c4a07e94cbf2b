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
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
from pydantic import BaseModel

from hub.connector import Connector, Event, Receipt, Secret
from hub.errors import Outcome, Skip, TryAgain
from hub.litekart import Litekart
from hub.outcome import is_fault, of_status, outcome_of
from hub.testing.bench import LOOPBACK, TIMEOUT, Bench, open_bench
from hub.testing.samples import EVENT_TYPES, event_of, sample
from hub.testing.sink import Answer, HttpSink, Received

# For what never answers; a busy machine must still get there, through a TLS handshake too.
SHORT = 3.0
RETRY_AFTER = 7
SHORTEST_PART = 6
OWN_LOGGERS = {"asyncio", "mail.debug", "mail.log", "uvicorn"}
ASKED_TO_WAIT = {"Retry-After": str(RETRY_AFTER)}

HTTP_ANSWERS = {
    "200": Answer(),
    "302": Answer(302, b"over there", {"Location": "/over/there"}),
    "400": Answer(400, b"no"),
    "401": Answer(401, b"no"),
    "403": Answer(403, b"no"),
    "404": Answer(404, b"no"),
    "409": Answer(409, b"no"),
    "410": Answer(410, b"no"),
    "422": Answer(422, b"no"),
    "429": Answer(429, b"slow down", ASKED_TO_WAIT),
    "500": Answer(500, b"oops"),
    "503": Answer(503, b"not now", ASKED_TO_WAIT),
    "timeout": Answer(hang=True),
    "dropped": Answer(drop=True),
}
"""How a counterpart over HTTP puts each situation; `arrange` takes their names."""


class ConnectorTests:
    """Inherit it, name the connector and its settings; the rest follows.

    `outcomes` says what is expected where it differs from the hub's own reading of a status (hub.outcome): keys
    as in HTTP_ANSWERS, `refused` and `200`. `changing_headers` are those that may differ between two attempts, in
    any case.
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

    def litekart(self, url: str, http: httpx.AsyncClient) -> Litekart | None:
        """What becomes `ctx.litekart`, for a connector that calls the store: a client of a counterpart over `http`.

        `url` is the counterpart's; `http` the guarded client, as in the hub.
        """
        return None

    def is_message(self, request: Received) -> bool:
        """Whether a request carries the message; others ask for something: a state, a token, an answer to a check."""
        return True

    def arrange(self, counterpart: Any, situation: str) -> None:
        """Make the next delivery's message meet that situation: a key of HTTP_ANSWERS."""
        counterpart.answer(HTTP_ANSWERS[situation], to=self.is_message)

    def sent(self, counterpart: Any) -> list[bytes]:
        """All messages that have arrived, each without what may differ between two attempts."""
        return [self.comparable(request) for request in counterpart.received if self.is_message(request)]

    def comparable(self, request: Received) -> bytes:
        """A request as bytes, without `changing_headers`."""
        changing = {name.lower() for name in self.changing_headers}
        lines = [f"{name}: {value}" for name, value in sorted(request.headers.multi_items()) if name not in changing]
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
            await bench.later()
            await self._receipt(bench, event, attempt=2)
            sent = self.sent(bench.counterpart)
            assert len(sent) == 2, f"two attempts sent {len(sent)} messages, not two"
            assert bench.key.encode() in sent[0], "the delivery's key is not in what was sent"
            assert sent[0] == sent[1], "the second attempt, some time later, sent something else"

    async def test_one_instance_serves_many_deliveries(self) -> None:
        """What it sends is each delivery's own, as if it served that one alone, in turn and at the same time."""
        async with self._bench() as bench:
            events, keys = [self.event() for _ in range(4)], []
            for event in events:
                bench.begin()
                keys.append(bench.key)
                await self._receipt(bench, event)
            alone = self.sent(bench.counterpart)
            await self._through_one_instance(bench, events, keys)
            together = self.sent(bench.counterpart)[len(alone) :]
            assert sorted(together) == sorted(alone), "one instance mixed up what belongs to two deliveries"

    async def test_a_replay_finds_the_effect_and_sends_nothing(self) -> None:
        async with self._bench() as bench:
            event = self.event()
            await self._receipt(bench, event)
            assert bench.effects.kept, "nothing was recorded as done"
            receipt = await self._receipt(bench, event, attempt=2)
            assert receipt.text.startswith("already sent")
            assert len(self.sent(bench.counterpart)) == 1

    async def test_302(self) -> None:
        await self._fails("302")

    async def test_400(self) -> None:
        await self._fails("400")

    async def test_401(self) -> None:
        await self._fails("401")

    async def test_403(self) -> None:
        await self._fails("403")

    async def test_404(self) -> None:
        await self._fails("404")

    async def test_409(self) -> None:
        await self._fails("409")

    async def test_410(self) -> None:
        await self._fails("410")

    async def test_422(self) -> None:
        await self._fails("422")

    async def test_429(self) -> None:
        await self._is_asked_to_wait("429")

    async def test_503(self) -> None:
        await self._is_asked_to_wait("503")

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
            _nothing_recorded(bench, "it recorded as done what was not")

    async def test_an_answer_in_no_known_charset(self) -> None:
        """`charset=base64` is a codec that decodes no text: reading the answer must not undo what was done."""
        async with self._bench() as bench:
            if not isinstance(bench.counterpart, HttpSink):
                return
            headers = {"Content-Type": "text/plain; charset=base64"}
            bench.counterpart.answer(replace(HTTP_ANSWERS["200"], headers=headers), to=self.is_message)
            try:
                await self._receipt(bench, self.event())
            except Exception as error:
                bench.texts.append(_read(error).reason)
            else:
                assert bench.effects.kept, "nothing was recorded as done"

    async def test_an_answer_that_echoes_the_request(self) -> None:
        """`Cannot POST /path?query`, say many: what the connector itself says must not pass a secret on.

        What the hub says of an answer, and `Receipt.answer`, are the hub's to redact.
        """
        async with self._bench() as bench:
            if not isinstance(bench.counterpart, HttpSink):
                return
            bench.counterpart.answer(_echo, to=self.is_message)
            try:
                bench.texts.append((await self._deliver(bench, self.event(), 1)).text)
            except Outcome as outcome:
                bench.texts.append(outcome.reason)
            except Exception as error:
                _read(error)

    async def test_nothing_goes_around_the_guard(self) -> None:
        async with self._bench(allow=()) as bench:
            event = self.event()
            for attempt in (self._deliver(bench, event, 1), self._connector(bench).check(bench.context(event))):
                try:
                    await attempt
                except Exception as error:
                    bench.texts.append(_read(error).reason)
            there = bench.counterpart
            arrived = len(there.received) if isinstance(there, HttpSink) else len(self.sent(there))
            assert arrived == 0, "something arrived by another way than ctx.http and ctx.connect, past network.allow"

    async def test_every_type_of_event(self) -> None:
        async with self._bench() as bench:
            for number, type_ in enumerate((*EVENT_TYPES, "something.new")):
                bench.begin()
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
            _nothing_recorded(bench, "the preview recorded something as done")

    async def test_check_sends_no_message(self) -> None:
        async with self._bench() as bench:
            bench.texts.append(await self._connector(bench).check(bench.context(self.event())))
            assert bench.texts[-1], "the check says nothing"
            assert self.sent(bench.counterpart) == [], "the check sent a message"

    async def test_a_check_that_is_refused_raises(self) -> None:
        for situation in ("401", "403", "503"):
            async with self._bench() as bench:
                if not isinstance(bench.counterpart, HttpSink):
                    return
                bench.counterpart.answer(HTTP_ANSWERS[situation])
                try:
                    bench.texts.append(await self._connector(bench).check(bench.context(self.event())))
                except Exception as error:
                    bench.texts.append(_read(error).reason)
                else:
                    asked = len(bench.counterpart.received)
                    assert not asked, f"the check was answered {situation} and found nothing wrong: {bench.texts[-1]}"

    async def test_check_without_a_counterpart_shows_no_secret(self) -> None:
        async with self._bench(listening=False) as bench:
            try:
                bench.texts.append(await self._connector(bench).check(bench.context(self.event())))
            except Exception as error:
                bench.texts.append(_read(error).reason)

    async def _fails(self, situation: str, timeout: float = TIMEOUT) -> Outcome:
        """One delivery into that situation: the right outcome, one try, nothing recorded as done."""
        async with self._bench(timeout) as bench:
            return await self._failure(bench, situation)

    async def _failure(self, bench: Bench, situation: str) -> Outcome:
        self.arrange(bench.counterpart, situation)
        outcome = await self._outcome(bench, self.event())
        assert type(outcome) is self.expected(situation), f"{situation}: {outcome!r}"
        assert outcome.reason, "the outcome has no reason"
        assert len(self.sent(bench.counterpart)) == 1, "it must send once, and leave trying again to the hub"
        _nothing_recorded(bench, "it recorded as done what was not")
        return outcome

    async def _is_the_destinations(self, situation: str, timeout: float = TIMEOUT) -> Outcome:
        outcome = await self._fails(situation, timeout)
        if isinstance(outcome, TryAgain):
            assert outcome.destination, "the breaker must know that this was the destination's fault"
        return outcome

    async def _is_asked_to_wait(self, situation: str) -> None:
        async with self._bench() as bench:
            outcome = await self._failure(bench, situation)
            if not isinstance(outcome, TryAgain):
                return
            if isinstance(bench.counterpart, HttpSink):
                assert outcome.after == RETRY_AFTER, f"the Retry-After of the {situation} is lost: {outcome.after}"
            if outcome.status == int(situation):
                assert outcome.destination, "the breaker must know that this was the destination's fault"

    async def _through_one_instance(self, bench: Bench, events: list[Event], keys: list[str]) -> None:
        """Delivers the events once more under their keys by one instance: two in turn, the others at once."""
        contexts = []
        for event, key in zip(events, keys, strict=True):
            bench.begin(key)
            contexts.append(bench.context(event))
        connector = self._connector(bench)
        await connector.open(contexts[0])
        try:
            async with asyncio.timeout(bench.timeout):
                for event, ctx in zip(events[:2], contexts[:2], strict=True):
                    await connector.deliver(event, ctx)
                rest = zip(events[2:], contexts[2:], strict=True)
                await asyncio.gather(*(connector.deliver(event, ctx) for event, ctx in rest))
        finally:
            await connector.close()

    @contextlib.asynccontextmanager
    async def _bench(
        self, timeout: float = TIMEOUT, *, listening: bool = True, allow: Iterable[str] = LOOPBACK
    ) -> AsyncIterator[Bench]:
        """A bench with this class's counterpart; when the test is over, no secret may be in any text."""
        async with contextlib.AsyncExitStack() as stack:
            surroundings = open_bench(self.counterpart(), timeout=timeout, listening=listening, allow=allow)
            bench = await stack.enter_async_context(surroundings)
            if client := self.litekart(bench.url, bench.http):
                bench.litekart = (await stack.enter_async_context(client)).acting_for("route:kit")
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
                return await bench.keep(await connector.deliver(event, ctx))
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
        for effects in (*bench.former, bench.effects, bench.entity_effects):
            for name, effect in effects.kept.items():
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
    if not secret.startswith(("http://", "https://")):
        yield secret
        return
    parts = urlsplit(secret)
    values = (value for _, value in parse_qsl(parts.query))
    pieces = (*parts.path.split("/"), parts.query, *values, parts.username or "", parts.password or "")
    yield from {form for part in pieces for form in (part, unquote(part)) if len(part) >= SHORTEST_PART}


def _echo(request: Received) -> Answer:
    """What a web framework says of a path that it does not know, and a debugging page of the rest."""
    said = f"Cannot {request.method} {request.path}\nAuthorization: {request.headers.get('authorization')}"
    return Answer(404, said.encode())


def _nothing_recorded(bench: Bench, otherwise: str) -> None:
    assert not bench.effects.kept, otherwise
    assert not bench.entity_effects.kept, f"{otherwise}, for the entity"


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
        if not any(record.name == own or record.name.startswith(f"{own}.") for own in OWN_LOGGERS):
            self._lines.append(self.format(record))
