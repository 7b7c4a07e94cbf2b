"""Slack as its documentation describes it: incoming webhooks, chat.postMessage, auth.test, and their refusals.

There is no real Slack on a test machine. This one takes a message only if Slack's documented rules do, by a
check written apart from the connector's own (docs.slack.dev: Block Kit reference, chat.postMessage, rate limits).
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from hub.testing.sink import Answer, HttpSink, Inbox, Received

WEBHOOK_PATH = "/services/T0000000/B0000000/"
JSON_TYPE = {"Content-Type": "application/json; charset=utf-8"}

# Per kind of block: the places a text may stand, whether markup may, and its longest length.
TEXT_PLACES: dict[str, tuple[tuple[str, bool, int], ...]] = {
    "header": (("text", False, 150),),
    "section": (("text", True, 3000), ("fields", True, 2000)),
    "context": (("elements", True, 3000),),
    "divider": (),
}
MOST_IN = {"fields": 10, "elements": 10}
REQUIRED = {"header": ("text",), "context": ("elements",)}
KNOWN_KEYS = {"type", "block_id", "text", "fields", "elements", "expand"}


@dataclass(frozen=True)
class SlackMessage:
    """A message that Slack took: its channel (None for a webhook's), text, blocks and id."""

    channel: str | None
    text: str
    blocks: list[dict[str, Any]]
    ts: str


class SlackServer(HttpSink):
    """`async with SlackServer() as slack:`; `slack.webhook_url`, or `slack.api_url` with `token` and `channels`.

    Messages taken are in `messages`, every request in `received`. `rate` is the most messages a second for each
    channel; what comes sooner gets 429 with `Retry-After: 1`. `archived` channels and a `disabled` workspace
    refuse as Slack does; answers lined up with `answer(…)` go first.
    """

    def __init__(
        self,
        *answers: Answer,
        webhook_secret: str = "hooks-canary-XXXXXXXX",
        token: str = "xoxb-canary-token",
        channels: tuple[str, ...] = ("C0123456",),
        rate: float | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(*answers, port=port)
        self.messages: Inbox[SlackMessage] = Inbox()
        self.webhook_secret = webhook_secret
        self.token = token
        self.channels = set(channels)
        self.archived: set[str] = set()
        self.disabled = False
        self.rate = rate
        self._last: dict[str, float] = {}

    @property
    def webhook_url(self) -> str:
        return self.url + WEBHOOK_PATH + self.webhook_secret

    @property
    def api_url(self) -> str:
        return self.url + "/api"

    async def respond(self, request: Received) -> Answer:
        if request.path.startswith("/services/"):
            return await self._webhook(request)
        if request.path.startswith("/api/"):
            return await self._method(request)
        return Answer(404, b"not found")

    async def _webhook(self, request: Received) -> Answer:
        if not request.path.startswith(WEBHOOK_PATH):
            return Answer(404, b"no_service")
        if request.path != WEBHOOK_PATH + self.webhook_secret:
            return Answer(403, b"invalid_token")
        if self.disabled:
            return Answer(403, b"team_disabled")
        if "webhook" in self.archived:
            return Answer(410, b"channel_is_archived")
        payload = _document(request)
        if payload is None:
            return Answer(400, b"invalid_payload")
        if error := _message_error(payload):
            return Answer(400, error.encode())
        if self._too_soon("webhook"):
            return Answer(429, b"rate_limited", {"Retry-After": "1"})
        await self._take(None, payload)
        return Answer(200, b"ok")

    async def _method(self, request: Received) -> Answer:
        method = request.path.removeprefix("/api/")
        authorization = request.headers.get("authorization", "")
        if not authorization.startswith("Bearer "):
            return _failed("not_authed")
        if authorization != f"Bearer {self.token}":
            return _failed("invalid_auth")
        if self.disabled:
            return _failed("account_inactive")
        if method == "auth.test":
            return _worked(user="litekart-hub", team="Example")
        if method != "chat.postMessage":
            return _failed("unknown_method")
        return await self._post_message(request)

    async def _post_message(self, request: Received) -> Answer:
        payload = _document(request)
        if not request.headers.get("content-type", "").startswith("application/json") or payload is None:
            return _failed("invalid_json")
        channel = str(payload.get("channel", ""))
        if channel not in self.channels | self.archived:
            return _failed("channel_not_found")
        if channel in self.archived:
            return _failed("is_archived")
        if error := _message_error(payload):
            return _failed(error)
        if self._too_soon(channel):
            limited = json.dumps({"ok": False, "error": "ratelimited"}).encode()
            return Answer(429, limited, JSON_TYPE | {"Retry-After": "1"})
        message = await self._take(channel, payload)
        return _worked(channel=channel, ts=message.ts)

    def _too_soon(self, channel: str) -> bool:
        if self.rate is None:
            return False
        now = time.monotonic()
        if now - self._last.get(channel, -1e9) < 1 / self.rate:
            return True
        self._last[channel] = now
        return False

    async def _take(self, channel: str | None, payload: dict[str, Any]) -> SlackMessage:
        ts = f"{int(time.time())}.{len(self.messages) + 1:06}"
        message = SlackMessage(channel, payload.get("text", ""), payload.get("blocks", []), ts)
        await self.messages.add(message)
        return message


def _failed(error: str) -> Answer:
    return Answer(200, json.dumps({"ok": False, "error": error}).encode(), JSON_TYPE)


def _worked(**fields: Any) -> Answer:
    return Answer(200, json.dumps({"ok": True} | fields).encode(), JSON_TYPE)


def _document(request: Received) -> dict[str, Any] | None:
    try:
        document = request.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _message_error(payload: dict[str, Any]) -> str | None:
    """Slack's word for what is wrong with a message, or None."""
    text, blocks = payload.get("text"), payload.get("blocks")
    if not text and not blocks:
        return "no_text"
    if len(text or "") > 40_000:
        return "msg_too_long"
    if blocks is None:
        return None
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return "invalid_blocks_format"
    if len(blocks) > 50 or not all(_block_is_valid(block) for block in blocks):
        return "invalid_blocks"
    written = sum(len(item["text"]) for block in blocks for _, _, _, item in _texts(block))
    return "msg_blocks_too_long" if written > 13_200 else None


def _block_is_valid(block: dict[str, Any]) -> bool:
    kind = block.get("type")
    if kind not in TEXT_PLACES or not set(block) <= KNOWN_KEYS or len(block.get("block_id", "")) > 255:
        return False
    if any(not block.get(name) for name in REQUIRED.get(kind, ())):
        return False
    if kind == "section" and not (block.get("text") or block.get("fields")):
        return False
    if any(len(block.get(name, [])) > most for name, most in MOST_IN.items()):
        return False
    return all(_text_is_valid(item, markup, longest) for _, markup, longest, item in _texts(block))


def _texts(block: dict[str, Any]) -> list[tuple[str, bool, int, dict[str, Any]]]:
    found = []
    for place, markup, longest in TEXT_PLACES[block["type"]]:
        value = block.get(place)
        items = value if isinstance(value, list) else [value] if value is not None else []
        found += [(place, markup, longest, item) for item in items]
    return found


def _text_is_valid(item: Any, markup: bool, longest: int) -> bool:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        return False
    allowed = {"plain_text", "mrkdwn"} if markup else {"plain_text"}
    extra = {"emoji"} if item.get("type") == "plain_text" else {"verbatim"}
    return item.get("type") in allowed and set(item) <= {"type", "text"} | extra and 1 <= len(item["text"]) <= longest
