"""Posts events as JSON to any URL, signed by Standard Webhooks (www.standardwebhooks.com).

The body is the same on every attempt: the event's `data` goes on exactly as the store sent it. Only the
signature's timestamp is new each time, since receivers refuse an old one.
"""

import base64
import hashlib
import hmac
import json
from functools import cached_property
from json.encoder import encode_basestring as quoted
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import httpx
from pydantic import ConfigDict, Field, field_validator, model_validator

from connectors.reach import reach, web_address
from hub.connector import Connector, Context, Event, Preview, Receipt, Secret, Template, answer_text

OWN_HEADERS = {"webhook-id", "webhook-timestamp", "webhook-signature", "idempotency-key", "content-type"}
TRANSPORT_HEADERS = {"host", "content-length", "transfer-encoding", "connection"}
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
SPACES = " \t\n\r"
DECODER = json.JSONDecoder()
PREFIX = "whsec_"
SHORTEST_KEY = 24
"""Bytes, as Standard Webhooks asks for."""


class Webhook(Connector):
    """Sends each event to a URL, signed and with an idempotency key."""

    class Settings(Connector.Settings):
        model_config = ConfigDict(hide_input_in_errors=True)

        url: Annotated[Secret, Field(description="Where to send. May hold a secret, so it is never shown whole.")]
        method: Annotated[Literal["POST", "PUT", "PATCH"], Field(description="How to send.")] = "POST"
        headers: Annotated[
            dict[str, Secret],
            Field(default_factory=dict, description="Further headers, such as Authorization."),
        ]
        body: Annotated[Template | None, Field(description="The body as a template; left out, the event as JSON.")] = (
            None
        )
        content_type: Annotated[str, Field(description="What the body is.")] = "application/json"
        signing_secrets: Annotated[
            tuple[Secret, ...],
            Field(
                description="Sign by Standard Webhooks; several while rotating. whsec_ and base64 (which receivers "
                "that use its libraries need) or plain text, at least 24 bytes."
            ),
        ] = ()

        @field_validator("url")
        @classmethod
        def _web_address(cls, url: Secret) -> Secret:
            if web_address(url.reveal()) is None:
                raise ValueError("must be a whole address that starts with https:// or http://")
            return url

        @field_validator("headers")
        @classmethod
        def _sendable_headers(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
            for name, value in headers.items():
                if not name or not set(name.lower()) <= TOKEN:
                    raise ValueError(f"{name!r} is no header name")
                if name.lower() in OWN_HEADERS | TRANSPORT_HEADERS:
                    raise ValueError(f"{name} is set by the connector itself")
                if not value.reveal().isprintable() or not value.reveal().isascii():
                    raise ValueError(f"the value of {name} must be printable ASCII")
            return headers

        @model_validator(mode="after")
        def _readable(self) -> Self:
            if not self.content_type.isascii() or not self.content_type.isprintable():
                raise ValueError("content_type must be printable ASCII")
            for secret in self.signing_secrets:
                _signing_key(secret)
            return self

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        if done := await ctx.effects.get("sent"):
            return Receipt(f"already sent: {done.value}")
        body = self._body(event, ctx)
        response = await ctx.http.request(
            self.settings.method, self._url, content=body, headers=self._headers(body, ctx)
        )
        response.raise_for_status()
        text = f"{self._host} answered {response.status_code}"
        return Receipt(text, answer=answer_text(response), effects={"sent": ctx.key})

    async def check(self, ctx: Context) -> str:
        """Connects, and ends there: a webhook knows no request that does nothing."""
        place = await reach(ctx, self.settings.url.reveal())
        return f"{place} can be reached; only a real event shows whether it takes them"

    async def preview(self, event: Event, ctx: Context) -> Preview:
        body = self._body(event, ctx).decode()
        return Preview(f"{self.settings.method} to {self._host}", body, self.settings.content_type)

    @cached_property
    def _url(self) -> httpx.URL:
        # Read once: httpx would take as long for it as for a quarter of a request.
        return httpx.URL(self.settings.url.reveal())

    @cached_property
    def _host(self) -> str:
        return urlsplit(self.settings.url.reveal()).hostname or ""

    def _body(self, event: Event, ctx: Context) -> bytes:
        if self.settings.body is not None:
            return ctx.render(self.settings.body).encode("utf-8", "replace")
        return event_as_json(event)

    def _headers(self, body: bytes, ctx: Context) -> dict[str, str]:
        headers = {name: value.reveal() for name, value in self.settings.headers.items()}
        headers |= {"Content-Type": self.settings.content_type, "Idempotency-Key": ctx.key, "webhook-id": ctx.key}
        if self.settings.signing_secrets:
            # The hub's time: signed by a machine whose clock is off, every receiver would refuse it.
            moment = int(ctx.now().timestamp())
            headers["webhook-timestamp"] = str(moment)
            headers["webhook-signature"] = " ".join(
                signature(secret, ctx.key, moment, body) for secret in self.settings.signing_secrets
            )
        return headers


def signature(secret: Secret, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` over `<id>.<timestamp>.<body>`; `timestamp` in whole seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_signing_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _signing_key(secret: Secret) -> bytes:
    """The bytes to sign with. Raises ValueError for what is no base64 after whsec_, or too short to be a secret."""
    text = secret.reveal()
    key = text.encode()
    if text.startswith(PREFIX):
        encoded = text.removeprefix(PREFIX)
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            raise ValueError("a signing secret that starts with whsec_ must go on in base64") from None
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"a signing secret must hold at least {SHORTEST_KEY} bytes, after whsec_ once decoded")
    return key


def event_as_json(event: Event) -> bytes:
    """`{id, type, store, entity, timestamp, data}`; `data` keeps the store's own numbers, spacing and order."""
    moment = event.occurred_at.isoformat().replace("+00:00", "Z")
    entity = "null" if event.entity is None else quoted(event.entity)
    head = f'"id": {quoted(event.id)}, "type": {quoted(event.type)}, "store": {quoted(event.store)}, "entity": {entity}'
    return f'{{{head}, "timestamp": "{moment}", "data": {_data_as_sent(event.body.decode())}}}'.encode()


def _data_as_sent(body: str) -> str:
    """The text of the member `data` of a JSON object known to be valid; the last one, as parsers have it."""
    found = "{}"
    place = _skip(body, _skip(body, 0) + 1)
    while body[place] == '"':
        name, place = DECODER.raw_decode(body, place)
        start = _skip(body, _skip(body, place) + 1)
        _, place = DECODER.raw_decode(body, start)
        if name == "data":
            found = body[start:place]
        place = _skip(body, place)
        if body[place] == ",":
            place = _skip(body, place + 1)
    return found


def _skip(text: str, place: int) -> int:
    while text[place] in SPACES:
        place += 1
    return place
