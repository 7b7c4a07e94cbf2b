"""What stands beside the hub: a mail server, a Slack and an HTTP endpoint. They tell what each of them received."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from hub.demo.story import ENDPOINT, MAIL, SLACK
from hub.testing.samples import to_bytes
from hub.testing.sink import Answer, HttpSink, Inbox, Received
from hub.testing.slack import SlackServer
from hub.testing.smtp import Mail, MailServer

FAILURES = 2
KEY_SHOWN = 8
UNAVAILABLE = Answer(503, b"unavailable")


@dataclass(frozen=True)
class Arrival:
    """One attempt as a counterpart saw it.

    `key` is what the hub calls the delivery, `attempt` how often that key has come to this place, `refusal` what it
    was answered where it was not taken, `text` what a person reads there, `at` the moment by `time.monotonic()`.
    """

    place: str
    event_id: str
    key: str
    attempt: int
    text: str
    refusal: str | None
    at: float


Tell = Callable[[str, str, str, str, str | None], None]
"""Takes place, event id, key, text and refusal."""


@dataclass(frozen=True)
class Counterparts:
    """The three of them, listening."""

    mail: MailServer
    slack: SlackServer
    endpoint: HttpSink

    @property
    def addresses(self) -> list[str]:
        """`host:port` of each, as `network.allow` wants them."""
        return [f"127.0.0.1:{one.port}" for one in (self.mail, self.slack, self.endpoint)]


@asynccontextmanager
async def open_counterparts(tell: Callable[[Arrival], None], slack_secret: str) -> AsyncIterator[Counterparts]:
    """The counterparts on free ports of 127.0.0.1; `tell` is called at once for each attempt."""
    seen: Counter[tuple[str, str]] = Counter()

    def count_and_tell(place: str, event_id: str, key: str, text: str, refusal: str | None) -> None:
        seen[place, key] += 1
        tell(Arrival(place, event_id, key, seen[place, key], text, refusal, time.monotonic()))

    async with AsyncExitStack() as stack:
        mail = await stack.enter_async_context(DemoMail(count_and_tell))
        slack = await stack.enter_async_context(DemoSlack(count_and_tell, slack_secret))
        endpoint = await stack.enter_async_context(DemoEndpoint(count_and_tell, fails_for="order.placed"))
        yield Counterparts(mail, slack, endpoint)


class DemoMail(MailServer):
    """Takes every mail."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.mails = MailInbox(tell)


class MailInbox(Inbox[Mail]):
    """Tells each mail's subject."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    async def add(self, item: Mail) -> None:
        await super().add(item)
        headers = item.message
        self._tell(MAIL, str(headers["X-Litekart-Event"]), str(headers["Message-ID"]), str(headers["Subject"]), None)


class DemoSlack(SlackServer):
    """Takes what Slack would take."""

    def __init__(self, tell: Tell, webhook_secret: str) -> None:
        super().__init__(webhook_secret=webhook_secret)
        self._tell = tell

    async def respond(self, request: Received) -> Answer:
        answer = await super().respond(request)
        payload = request.json()
        # The connector's last block names the delivery's key, and in its one line, last, the event.
        context = payload["blocks"][-1]
        event_id = context["elements"][0]["text"].rpartition(" ")[2]
        refusal = None if answer.status == 200 else _refusal(answer)
        self._tell(SLACK, event_id, context["block_id"], payload["text"], refusal)
        return answer


class DemoEndpoint(HttpSink):
    """Takes everything, but the first event of type `fails_for` only at its third attempt."""

    def __init__(self, tell: Tell, fails_for: str) -> None:
        super().__init__()
        self._tell = tell
        self._fails_for = fails_for
        self._failing: str | None = None
        self._failures = 0

    async def respond(self, request: Received) -> Answer:
        event = request.json()
        if self._failing is None and event["type"] == self._fails_for:
            self._failing = request.key
        answer = Answer()
        if request.key == self._failing and self._failures < FAILURES:
            self._failures += 1
            answer = UNAVAILABLE
        key = request.key or ""
        text = f"{request.method} key …{key[-KEY_SHOWN:]}"
        if answer.status == 200:
            self._tell(ENDPOINT, event["id"], key, f"{text} {to_bytes(event['data']).decode()}", None)
        else:
            self._tell(ENDPOINT, event["id"], key, text, _refusal(answer))
        return answer


def _refusal(answer: Answer) -> str:
    return f"{answer.status} {answer.body.decode()}"
