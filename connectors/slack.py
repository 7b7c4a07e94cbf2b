"""Posts to a Slack channel: through an incoming webhook's URL, or as a bot through chat.postMessage.

Slack knows no idempotency key. The delivery's key is the context block's id and the event's id stands in that
block, so that a message sent twice after a lost answer can be told. Slack reports errors as plain words on the
one way and as `{"ok": false}` with status 200 on the other; the tables below say what each means.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import ConfigDict, Field, field_validator, model_validator

from connectors.messages import Message, clean, cut, message_of
from connectors.reach import reach, web_address
from connectors.slack_blocks import (
    FIELD_TEXT,
    HEADER_TEXT,
    LONGEST_ID,
    MOST_FIELDS,
    SECTION_TEXT,
    WISE_TEXT,
    Block,
    Payload,
    cut_escaped,
    escape,
    link,
    markdown,
    plain,
    problems,
)
from hub.connector import (
    Connector,
    Context,
    Event,
    HoldRoute,
    Preview,
    Receipt,
    Rejected,
    Secret,
    Template,
    TemplateError,
    TryAgain,
    answer_text,
)  # fmt: skip

ROUTE_ERRORS = {
    "access_denied", "accesslimited", "account_inactive", "action_prohibited", "app_missing_action_url",
    "channel_is_archived", "channel_not_found", "deprecated_endpoint", "ekm_access_denied",
    "enterprise_is_restricted", "invalid_auth", "invalid_token", "is_archived", "is_inactive", "messages_tab_disabled",
    "method_deprecated", "missing_scope", "no_active_hooks", "no_permission", "no_service", "no_service_id", "no_team",
    "not_allowed_token_type", "not_authed", "not_in_channel", "org_login_required",
    "posting_to_general_channel_denied", "team_access_not_granted", "team_added_to_org", "team_disabled",
    "team_not_found", "token_expired", "token_revoked", "two_factor_setup_required", "unknown_method",
}  # fmt: skip
"""The credentials, the channel or the workspace is wrong or gone: no message gets through until a person acts."""

RESTRICTED = "restricted_action"
"""Such a word too, alone or as the beginning of one (`restricted_action_read_only_channel`)."""

MESSAGE_ERRORS = {
    "as_user_not_supported", "attachment_payload_limit_exceeded", "cannot_reply_to_message",
    "duplicate_channel_not_found", "duplicate_message_not_found", "invalid_arg_name", "invalid_arguments",
    "invalid_array_arg", "invalid_attachments", "invalid_blocks", "invalid_blocks_format", "invalid_charset",
    "invalid_form_data", "invalid_json", "invalid_metadata_format", "invalid_metadata_schema", "invalid_payload",
    "invalid_post_type", "json_not_object", "markdown_text_conflict", "metadata_too_large",
    "missing_post_type", "missing_text_or_fallback_or_attachments", "msg_blocks_too_long", "msg_too_long", "no_text",
    "too_many_attachments", "too_many_contact_cards", "user_not_found",
}  # fmt: skip
"""Slack will never take this message; the next one may be fine."""

SLACKS_OWN_ERRORS = {"fatal_error", "internal_error", "request_timeout", "rollup_error", "service_unavailable"}
RATE_LIMITS = {"message_limit_exceeded", "rate_limited", "ratelimited"}
GONE = {403, 404, 410}
"""Statuses by which a webhook says that it takes nothing any more, whatever word stands beside them."""

WORD = re.compile(r"[a-z][a-z_]{1,80}")
LONGEST_WORD = 200
LONGEST_QUOTE = 4000
"""More than a reason keeps: the hub takes secrets out before it cuts, so that none is cut in two."""

MOST_DETAILS = 5

MENTIONS = {"here": "<!here>", "channel": "<!channel>", "everyone": "<!everyone>"}


class Slack(Connector):
    """Posts a message about each event to one Slack channel."""

    class Settings(Connector.Settings):
        model_config = ConfigDict(hide_input_in_errors=True)

        webhook_url: Annotated[Secret | None, Field(description="An incoming webhook's URL; it fixes the channel.")] = (
            None
        )
        token: Annotated[
            Secret | None, Field(description="Instead: a bot token (xoxb-…) with the scope chat:write.")
        ] = None
        channel: Annotated[str | None, Field(description="With a token: the channel's id, such as C0123456.")] = None
        text: Annotated[
            Template | None, Field(description="The message in Slack's mrkdwn; left out, one for each type.")
        ] = None
        style: Annotated[Literal["detailed", "compact"], Field(description="With the details, or one line.")] = (
            "detailed"
        )
        mention_on_low_stock: Annotated[
            str | None,
            Field(
                description="Whom inventory.low calls: here, channel, everyone, or the id of a user or a group.",
                pattern=r"^(here|channel|everyone|[UWS][A-Z0-9]{2,40})$",
            ),
        ] = None
        admin_url: Annotated[
            Template | None,
            Field(
                description="A link to the store's admin, such as https://…/{{ data.orderId }}, in place of the "
                "store's own `admin_url`; left out for events of which it cannot be made."
            ),
        ] = None
        api_url: Annotated[str, Field(description="Slack's Web API; GovSlack has another.")] = "https://slack.com/api"

        @field_validator("webhook_url")
        @classmethod
        def _web_address(cls, url: Secret | None) -> Secret | None:
            if url is not None and web_address(url.reveal()) is None:
                raise ValueError("must be the whole address that Slack shows, https://hooks.slack.com/services/…")
            return url

        @field_validator("token")
        @classmethod
        def _one_line(cls, token: Secret | None) -> Secret | None:
            if token is not None and not (token.reveal().isascii() and token.reveal().isprintable()):
                raise ValueError("must be a bot token such as xoxb-…")
            return token

        @model_validator(mode="after")
        def _one_way(self) -> Self:
            if (self.webhook_url is None) == (self.token is None):
                raise ValueError("give either webhook_url, or token and channel")
            if (self.token is None) != (self.channel is None):
                raise ValueError("token and channel belong together; a webhook_url fixes its own channel")
            if web_address(self.api_url) is None:
                raise ValueError("api_url must be a whole address such as https://slack.com/api")
            return self

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        # Either's effect counts: the route may have gone the other way when it sent this.
        if done := await ctx.effects.get("ts") or await ctx.effects.get("sent"):
            return Receipt(f"already sent: {done.value}")
        payload, note = self._payload(event, ctx)
        if self.settings.webhook_url:
            response = await self._post(ctx, self.settings.webhook_url.reveal(), payload)
            _read_webhook_answer(response)
            return Receipt(f"sent to Slack{note}", answer=answer_text(response), effects={"sent": ctx.key})
        response = await self._call(ctx, "chat.postMessage", payload)
        ts = str(_read_api_answer(response).get("ts", ctx.key))
        return Receipt(f"sent to {self.settings.channel}{note}", answer=answer_text(response), effects={"ts": ts})

    async def check(self, ctx: Context) -> str:
        """With a token: auth.test. A webhook's URL can only be reached, since Slack has no dry run for it."""
        if self.settings.webhook_url:
            place = await reach(ctx, self.settings.webhook_url.reveal())
            return f"{place} can be reached; only a test message shows whether the webhook works"
        answer = _read_api_answer(await self._call(ctx, "auth.test", {}))
        return f"the token is {answer.get('user', 'a bot')}'s in {answer.get('team', 'its workspace')}"

    async def preview(self, event: Event, ctx: Context) -> Preview:
        payload, note = self._payload(event, ctx)
        body = json.dumps(payload, ensure_ascii=False, indent=2)
        title = f"Message to {self.settings.channel or 'the webhook’s channel'}{note}"
        return Preview(title, body, "application/json")

    async def _call(self, ctx: Context, method: str, payload: Payload) -> httpx.Response:
        assert self.settings.token is not None
        url = f"{self.settings.api_url.rstrip('/')}/{method}"
        return await self._post(ctx, url, payload, {"Authorization": f"Bearer {self.settings.token.reveal()}"})

    async def _post(
        self, ctx: Context, url: str, payload: Payload, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        body = json.dumps(payload).encode()
        fixed = {"Content-Type": "application/json; charset=utf-8"}
        return await ctx.http.post(url, content=body, headers=fixed | (headers or {}))

    def _payload(self, event: Event, ctx: Context) -> tuple[Payload, str]:
        """What is posted, the same bytes at each attempt, and a note on what was left out.

        Raises Rejected, TemplateError.
        """
        message = message_of(event, ctx.fetched, ctx.admin_url)
        text = self._own_text(message, ctx)
        links, note = self._link(message, ctx)
        payload: Payload = {"text": cut_escaped(text or escape(message.summary), WISE_TEXT)}
        payload["blocks"] = [
            *self._told(message, text),
            *self._mention(event),
            *links,
            _context_block(message, ctx.key),
        ]
        if self.settings.channel:
            payload |= {"channel": self.settings.channel, "unfurl_links": False, "unfurl_media": False}
        if found := problems(payload):
            raise Rejected(f"Slack would refuse this message: {'; '.join(found)}")
        return payload, note

    def _own_text(self, message: Message, ctx: Context) -> str:
        """The template's text, its values escaped as Slack wants it: quotes stay as they are."""
        if self.settings.text is None:
            return ""
        text = ctx.render(self.settings.text, html=True, message=message.names())
        text = text.replace("&#34;", '"').replace("&#39;", "'").strip()
        if not text:
            raise Rejected("the template `text` gives an empty message")
        return _encodable(text)

    def _told(self, message: Message, text: str) -> list[Block]:
        if text:
            return [{"type": "section", "text": markdown(cut_escaped(text, SECTION_TEXT))}]
        summary = {"type": "section", "text": plain(cut(message.summary, SECTION_TEXT))}
        if self.settings.style == "compact":
            return [summary]
        blocks: list[Block] = [{"type": "header", "text": plain(cut(message.title, HEADER_TEXT))}, summary]
        fields = [plain(cut(f"{fact.label}\n{fact.value}", FIELD_TEXT)) for fact in message.facts[:MOST_FIELDS]]
        return [*blocks, {"type": "section", "fields": fields}] if fields else blocks

    def _mention(self, event: Event) -> list[Block]:
        whom = self.settings.mention_on_low_stock
        if whom is None or event.type != "inventory.low":
            return []
        group = f"<!subteam^{whom}>" if whom.startswith("S") else f"<@{whom}>"
        return [{"type": "section", "text": markdown(MENTIONS.get(whom, group))}]

    def _link(self, message: Message, ctx: Context) -> tuple[list[Block], str]:
        """The link, or none and the note that says why: not every event has what the address is made of."""
        if self.settings.admin_url is None:
            return _link_block(message.link) if message.link else [], ""
        try:
            url = clean(ctx.render(self.settings.admin_url, message=message.names()), SECTION_TEXT)
        except TemplateError as error:
            return [], f"; without the link: {error}"
        if web_address(url.replace(" ", "%20")) is None:
            return [], "; without the link: the template `admin_url` gives no address that starts with https://"
        blocks = _link_block(url)
        if not blocks:
            return [], "; without the link: the template `admin_url` gives an address that is too long for Slack"
        return blocks, ""


def _link_block(url: str) -> list[Block]:
    """The link; none where the address is too long for Slack."""
    text = link(url, "Open in the store")
    return [{"type": "section", "text": markdown(text)}] if len(text) <= SECTION_TEXT else []


def _context_block(message: Message, key: str) -> Block:
    parts = (message.store, message.type, message.time, message.id)
    return {"type": "context", "block_id": cut(key, LONGEST_ID), "elements": [plain(" · ".join(parts))]}


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _read_webhook_answer(response: httpx.Response) -> None:
    """Raises what an incoming webhook's answer means unless it is `ok`: a status and one plain word, as a rule.

    JSON is the Web API's way to answer, which something in between may use here too.
    """
    said = response.content.decode("utf-8", "replace").strip()
    answer = _document(response)
    if response.is_success and (said == "ok" or answer.get("ok") is True):
        return
    if response.status_code == 429 or response.is_server_error:
        response.raise_for_status()
    if outcome := _known_error(answer, response) or _known_error({"error": said}, response):
        raise outcome
    came = "a web page" if said.startswith("<") else f"“{clean(said, LONGEST_QUOTE)}”" if said else "nothing"
    if response.is_success:
        raise TryAgain(f"{came} came instead of Slack's answer", destination=True)
    if response.status_code in GONE and not said.startswith("<"):
        # Only a word of Slack's kind is told on: others echo the address, which is the secret.
        word = str(answer.get("error", said))
        reason = _reason({"error": word if WORD.fullmatch(word) else "without a word"}, response)
        raise HoldRoute(reason, status=response.status_code)
    response.raise_for_status()


def _read_api_answer(response: httpx.Response) -> dict[str, Any]:
    """The answer of a Web API method that said `ok`; raises what anything else means."""
    answer = _document(response)
    if not response.is_success:
        passing = response.status_code == 429 or response.is_server_error
        if not passing and (outcome := _known_error(answer, response)):
            raise outcome
        response.raise_for_status()
    if not answer:
        raise TryAgain("what came instead of Slack's answer was not JSON", destination=True)
    if answer.get("ok") is not True:
        raise _known_error(answer, response) or TryAgain(_reason(answer, response))
    return answer


def _document(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that an answer is; empty for anything else."""
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _known_error(answer: dict[str, Any], response: httpx.Response) -> HoldRoute | Rejected | TryAgain | None:
    """What `{"ok": false, "error": …}` means; None for a word that is in none of the tables."""
    word, reason = str(answer.get("error", "")), _reason(answer, response)
    status = None if response.is_success else response.status_code
    if word in ROUTE_ERRORS or word.startswith(RESTRICTED):
        return HoldRoute(reason, status=status)
    if word in MESSAGE_ERRORS:
        return Rejected(reason, status=status)
    if word in RATE_LIMITS:
        wait = response.headers.get("retry-after", "")
        after = float(wait[:9]) if wait.isascii() and wait.isdigit() else None
        return TryAgain(reason, after, status=429, destination=True)
    return TryAgain(reason, status=status, destination=True) if word in SLACKS_OWN_ERRORS else None


def _reason(answer: dict[str, Any], response: httpx.Response) -> str:
    """Slack's word, its status if that tells something, and what it adds for a person."""
    status = "" if response.is_success else f"{response.status_code} "
    more = "; ".join(_details(answer))
    reason = f"Slack answered {status}{str(answer.get('error', 'unknown_error'))[:LONGEST_WORD]}"
    return f"{reason} ({more})" if more else reason


def _details(answer: dict[str, Any]) -> Iterator[str]:
    """The scope that a token lacks (`needed`), and `response_metadata.messages`, which name the faulty field."""
    if needed := answer.get("needed"):
        yield f"needed: {clean(needed)}"
    metadata = answer.get("response_metadata")
    messages = metadata.get("messages") if isinstance(metadata, dict) else None
    if isinstance(messages, list):
        yield from (clean(message) for message in messages[:MOST_DETAILS])
