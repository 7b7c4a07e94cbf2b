"""How a request to the store is made: once, or with backoff, within a budget and a deadline.

A connector's call is made once (`retries` 0): what comes of it is raised, and the hub decides what it means. Other
callers may have it tried again: a read always, a write only where surely nothing was sent.
"""

import asyncio
import contextlib
import copy
import json
import random
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from hub.connector import Secret
from hub.errors import (
    ConfigError,
    LitekartError,
    NotNow,
    RateLimited,
    ServerError,
    Unavailable,
    Unreachable,
    ValidationFailed,
)
from hub.event import CONTROL, LONGEST_ID
from hub.litekart.answers import Answer, document_of, rate_limit_of
from hub.litekart.budget import Budget
from hub.litekart.profiles import Profile
from hub.litekart.reads import Reads
from hub.redaction import redactor

MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer that are read: a page of a hundred products with their texts is well below."""

# What is kept of reads is bounded by number; this bounds it in bytes.
LARGEST_KEPT = 32 * 1024
LONGEST_BACKOFF = 30.0
# What else a write to a resource makes untrue.
ALSO_DROPPED: Mapping[str, Collection[str]] = {
    "order_tags": ("orders",),
    "tracking": ("orders",),
    "inventory": ("products",),
    "products": ("inventory",),
    "customers": ("users",),
}


@dataclass(frozen=True)
class Wait:
    """The hour's budget is spent: seconds until it may go."""

    seconds: float


@dataclass(frozen=True)
class Request:
    """One request as it is to be sent. `call` names it in errors, without ids; `about` is the resource."""

    method: str
    path: str
    call: str
    about: str
    params: tuple[tuple[str, str], ...] = ()
    body: Any = None

    @property
    def reads(self) -> bool:
        return self.method in {"GET", "HEAD"}


Sent = Answer | Wait | Exception


class Calls:
    """Makes requests to one store. Copies made by `acting_for` share its connections, reads and budget."""

    def __init__(
        self,
        api_key: str | Secret,
        base_url: str,
        profile: Profile,
        *,
        store_id: str | None,
        budget: Budget | None,
        clock: Callable[[], datetime],
        timeout: float,
        backoff: float,
    ) -> None:
        key = api_key if isinstance(api_key, Secret) else Secret(api_key)
        self.base_url = _usable_url(base_url)
        self.profile = profile
        self.clock = clock
        self.http: httpx.AsyncClient | None = None
        self.retries = 0
        self.who = ""
        self.background = False
        self.deadline = 0.0
        self.newer_than: datetime | None = None
        self._key = key
        self._store_id = store_id
        self._check_headers()
        self._budget = budget
        self._timeout = timeout
        self._backoff = backoff
        self.redact = redactor([key.reveal()])
        self._reads: Reads[Sent] = Reads(clock, _is_worth_keeping)

    def acting_for(
        self, who: str, *, background: bool, retries: int, deadline: float, newer_than: datetime | None
    ) -> Self:
        """The same for another caller."""
        other = copy.copy(self)
        other.who, other.background, other.retries = who, background, retries
        other.deadline, other.newer_than = deadline, newer_than
        return other

    async def exchange(self, request: Request, newer_than: datetime | None = None) -> Any:
        """The document of the answer. Raises a LitekartError, NotNow, AddressRefused or Unavailable."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.deadline
        tried = 0
        while True:
            outcome = await self._attempt(request, newer_than or self.newer_than)
            if isinstance(outcome, Wait):
                if not self.retries or loop.time() + outcome.seconds > until:
                    raise NotNow("the store's requests for this hour are used up", outcome.seconds)
                await asyncio.sleep(outcome.seconds)
                continue
            try:
                return self._meaning(request, outcome)
            except LitekartError as error:
                pause = self._pause(error, request, tried)
                if pause is None or loop.time() + pause > until:
                    raise
            await asyncio.sleep(pause)
            tried += 1

    def _pause(self, error: LitekartError, request: Request, tried: int) -> float | None:
        """Seconds until it may be tried again; None if it may not."""
        if isinstance(error, Unreachable):
            again = request.reads or not error.sent
        else:
            again = request.reads and isinstance(error, RateLimited | ServerError)
        if not again or tried >= self.retries:
            return None
        # Full jitter: those who failed together must not come back together.
        jitter = random.uniform(0, min(self._backoff * 2**tried, LONGEST_BACKOFF))  # noqa: S311 - no secret
        return jitter if error.after is None else error.after + jitter

    def _meaning(self, request: Request, outcome: Answer | Exception) -> Any:
        if isinstance(outcome, Answer):
            return document_of(outcome, request.call, self.clock(), self.redact)
        if not isinstance(outcome, httpx.TransportError):
            raise outcome
        sent = not isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout)
        raise Unreachable(str(outcome), sent=sent, call=request.call) from outcome

    async def _attempt(self, request: Request, newer_than: datetime | None) -> Sent:
        if request.reads:
            # Background work may be kept waiting where others may go, so it joins only its like.
            key = (request.method, request.path, str(httpx.QueryParams(request.params)), str(self.background))
            return await self._reads.read(key, request.about, newer_than, lambda: self._send(request))
        also = ALSO_DROPPED.get(request.about, ())
        dropped = None if request.about == ANYTHING else {request.about, ANYTHING, *also}
        self._reads.drop(dropped)
        try:
            return await self._send(request)
        finally:
            # Also what was read while it was written.
            self._reads.drop(dropped)

    async def _send(self, request: Request) -> Sent:
        """One request, its failure as a value: it may be several callers', each of whom raises its own error."""
        try:
            wait = await self._budget.spend(self.who, background=self.background) if self._budget else 0.0
            if wait > 0:
                return Wait(wait)
            answer = Answer.of(await self._sent(request))
        except Exception as error:
            return error
        if self._budget:
            # What was answered is done, whether or not it can be written down. Also an answer that says nothing of the
            # hour tells that its request is counted.
            with contextlib.suppress(Unavailable):
                await self._budget.correct(rate_limit_of(answer, self.clock()))
        return answer

    async def _sent(self, request: Request) -> httpx.Response:
        if self.http is None:
            raise RuntimeError("the client is not open: use it as `async with Litekart(…) as client`")
        headers = self._headers()
        content = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(request.body, default=_plain, allow_nan=False).encode()
        return await self.http.request(
            request.method,
            self.base_url + request.path,
            params=request.params or None,
            headers=headers,
            content=content,
            timeout=self._timeout,
        )

    def _headers(self) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self._key.reveal()}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
        if self.profile.store_header and self._store_id:
            headers[self.profile.store_header] = self._store_id
        return headers

    def _check_headers(self) -> None:
        for name, value in (("api_key", self._key.reveal()), ("store_id", self._store_id)):
            if value is not None and not re.fullmatch(r"[!-~]+", value):
                raise ConfigError(f"{name}: letters, digits and signs without spaces go into a header, nothing else")

    async def close(self) -> None:
        """End what is under way; the connections are their opener's to close."""
        await self._reads.close()


ANYTHING = "*"
"""What a plain request is about: it may touch any resource."""


def _is_worth_keeping(sent: Sent) -> bool:
    return isinstance(sent, Answer) and 200 <= sent.status < 300 and not sent.cut and len(sent.body) <= LARGEST_KEPT


def _usable_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment or not text.isprintable():
        raise ConfigError("base_url: must be an address such as https://shop.example, without password, ? or #")
    return text.rstrip("/").removesuffix("/api")


def quoted(identity: str | None) -> str:
    """An id as one step of a path. Raises ValidationFailed: ids come out of webhooks, and some could lead elsewhere."""
    if (
        not isinstance(identity, str)
        or not 0 < len(identity) <= LONGEST_ID
        or identity in {".", ".."}
        or re.search(r"[/\\]|\.\.", identity)
        or CONTROL.search(identity)
    ):
        raise ValidationFailed("not usable as an id: it is empty, too long, or holds /, \\, .. or control characters")
    return quote(identity.encode("utf-8", "replace"), safe="")


def wire_text(value: Any) -> str:
    """A value as the query writes it. Raises ValidationFailed for text that cannot be sent."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = value.isoformat() if isinstance(value, date) else str(value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValidationFailed("half of a character cannot be sent")
    return text


def aware(moment: date) -> datetime:
    """In UTC; one without a zone is taken as UTC, a day as its beginning."""
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return aware(value).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} cannot be sent as JSON")
