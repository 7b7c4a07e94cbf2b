"""The Slack connector: the kit on both its ways, Slack's rules, and what each of Slack's refusals leads to."""

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block

from connectors.slack import Slack
from connectors.slack_blocks import cut_escaped, problems
from hub.connector import Event
from hub.errors import HoldRoute, Outcome, Rejected, TryAgain
from hub.outcome import outcome_of
from hub.testing import EVENT_TYPES, Answer, ConnectorTests, SlackServer, event_of, open_bench, sample
from hub.testing.bench import Bench

SECRET = "hooks-canary-XXXXXXXX"
TOKEN = "xoxb-canary-token"
CHANNEL = "C0123456"
HOSTILE = "<!channel> & <@U1> <http://evil.test|your bank> &lt; *bold* \"quoted\" 'it'"


class TestSlackWebhook(ConnectorTests):
    connector_class = Slack
    outcomes: ClassVar[dict[str, type[Outcome]]] = {"403": HoldRoute, "404": HoldRoute, "410": HoldRoute}

    def settings(self, url: str) -> dict[str, Any]:
        return {"webhook_url": f"{url}/services/T0000000/B0000000/{SECRET}"}

    def counterpart(self) -> SlackServer:
        return SlackServer(webhook_secret=SECRET)


class TestSlackBot(ConnectorTests):
    connector_class = Slack

    def settings(self, url: str) -> dict[str, Any]:
        return {"token": TOKEN, "channel": CHANNEL, "api_url": f"{url}/api"}

    def counterpart(self) -> SlackServer:
        return SlackServer(token=TOKEN)

    def sent(self, counterpart: SlackServer) -> list[bytes]:
        """Messages alone: the check's auth.test is none."""
        return [content for content in super().sent(counterpart) if b"chat.postMessage" in content]


def slack(**settings: Any) -> Slack:
    return Slack(Slack.Settings.model_validate(settings))


def by_webhook(server: SlackServer, **settings: Any) -> Slack:
    return slack(webhook_url=server.webhook_url, **settings)


def by_token(server: SlackServer, **settings: Any) -> Slack:
    return slack(**{"token": TOKEN, "channel": CHANNEL, "api_url": server.api_url, **settings})


async def outcome(connector: Slack, bench: Bench, event: Event | None = None) -> Outcome:
    event = event or event_of(sample("order.placed"))
    with pytest.raises(Exception) as caught:
        await connector.deliver(event, bench.context(event))
    return outcome_of(caught.value, datetime.now(UTC))


async def payload(type_: str, connector: Slack | None = None, **data: Any) -> dict[str, Any]:
    """What would be posted, as `preview` shows it."""
    async with open_bench(SlackServer()) as bench:
        event = event_of(sample(type_, **data))
        shown = await (connector or by_webhook(bench.counterpart)).preview(event, bench.context(event))
    posted: dict[str, Any] = json.loads(shown.body)
    return posted


def texts(value: Any, kind: str) -> list[str]:
    """All texts of text objects of that kind, anywhere in a message."""
    if isinstance(value, list):
        return [text for item in value for text in texts(item, kind)]
    if not isinstance(value, dict):
        return []
    own = [value["text"]] if value.get("type") == kind else []
    return own + [text for item in value.values() for text in texts(item, kind)]


@pytest.mark.parametrize("style", ["detailed", "compact"])
@pytest.mark.parametrize("type_", [*EVENT_TYPES, "something.new"])
async def test_each_type_is_a_message_that_slack_takes(type_: str, style: str) -> None:
    async with open_bench(SlackServer()) as bench:
        event = event_of(sample(type_))
        connector = by_webhook(bench.counterpart, style=style)
        await connector.deliver(event, bench.context(event))
        message = bench.counterpart.messages[0]
    assert message.text
    assert message.blocks[-1]["type"] == "context"
    assert event.id in message.blocks[-1]["elements"][0]["text"]
    assert message.blocks[-1]["block_id"] == bench.key
    assert len(Block.parse_all(message.blocks)) == len(message.blocks)
    sdk_validates(message.blocks)


@pytest.mark.parametrize(
    ("type_", "data", "says"),
    [
        ("order.placed", {"orderNo": 1042, "total": 99.99}, "New order 1042 from Asha Rao: 99.99 EUR"),
        ("order.updated", {"orderNo": 1042, "status": "shipped"}, "Order 1042 changed: now shipped"),
        ("order.cancelled", {"orderNo": 7, "reason": "twice", "total": 5}, "Order 7 cancelled: twice (5.00 EUR)"),
        ("product.created", {"name": "Kettle", "price": 12.5}, "New product: Kettle at 12.50 EUR"),
        ("product.updated", {"name": "Kettle", "stock": 0}, "Product changed: Kettle, 0 in stock"),
        ("customer.registered", {"email": "a@b.test"}, "New customer: Asha Rao (a@b.test)"),
        ("payment.completed", {"orderNo": 7, "amount": 9}, "Payment received: 9.00 EUR for order 7 by card"),
        ("inventory.low", {"name": "Kettle"}, "Low stock: Kettle, 3 left (reorder at 5)"),
        ("refund.created", {}, "Event refund.created"),
    ],
)
async def test_the_wording(type_: str, data: dict[str, Any], says: str) -> None:
    person = {"firstName": "Asha", "lastName": "Rao"}
    shared = {"customer": person} if type_.startswith("order.") else person if type_.startswith("customer") else {}
    assert (await payload(type_, **(shared | data)))["text"] == says


async def test_text_from_the_event_cannot_mention_link_or_mark_up() -> None:
    """S22: Markup is only read in mrkdwn objects and in the fallback text; there every value is escaped."""
    customer = {"firstName": HOSTILE, "lastName": "", "email": HOSTILE}
    message = await payload("order.placed", customer=customer, orderNo=HOSTILE, currency=HOSTILE)
    read_as_markup = [message["text"], *texts(message, "mrkdwn")]
    assert "&lt;!channel&gt; &amp; &lt;@U1&gt;" in message["text"]
    assert not [text for text in read_as_markup if "<" in text or ">" in text]
    assert any(HOSTILE[:20] in text for text in texts(message, "plain_text")), "shown as it is, where no markup is read"


async def test_what_was_fetched_cannot_mark_up_either_and_the_link_is_the_stores() -> None:
    line = {"name": HOSTILE, "quantity": 2}
    order = {"order_no": HOSTILE, "first_name": HOSTILE, "last_name": "", "currency": HOSTILE, "items": [line] * 50}
    event = event_of({"event": "order.placed", "data": {"orderId": "ord_1"}, "timestamp": "2024-01-15T10:30:00Z"})
    async with open_bench(SlackServer()) as bench:
        bench.fetched = {"order": order, "customer": {"first_name": HOSTILE, "email": HOSTILE}}
        bench.admin_url = "https://shop.test/admin/orders/ord_1"
        for own in ({}, {"text": "{{ order.order_no }} {{ order['items'][0].name }}"}):
            connector = by_webhook(bench.counterpart, **own)
            await connector.deliver(event, bench.context(event))
            message = bench.counterpart.messages[-1]
            *others, link = texts(message.blocks, "mrkdwn")
            assert link == "<https://shop.test/admin/orders/ord_1|Open in the store>"
            assert not [text for text in [message.text, *others] if "<" in text or ">" in text]
            assert "&lt;!channel&gt; &amp; &lt;@U1&gt;" in message.text
            bench.begin()


async def test_values_in_an_own_text_are_escaped_and_nothing_else_is() -> None:
    """S22: &, < and >."""
    connector = slack(
        webhook_url="https://hooks.slack.test/services/x",
        text="<!here> *{{ data.name }}* {{ '<https://shop.test|shop>' | safe }}"
        if False
        else "<!here> *{{ data.name }}*",
    )
    message = await payload("product.created", connector, name=HOSTILE)
    escaped = HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert message["text"] == f"<!here> *{escaped}*"
    assert texts(message, "mrkdwn") == [f"<!here> *{escaped}*"]


@pytest.mark.parametrize("style", ["detailed", "compact"])
async def test_over_long_values_are_cut_and_the_message_still_goes(style: str) -> None:
    async with open_bench(SlackServer()) as bench:
        long = "<&>" * 10_000
        data: dict[str, Any] = {
            "orderNo": long,
            "customer": {"name": long, "email": long},
            "status": long,
            "reason": long,
        }
        items = [{"name": long, "quantity": 1}] * 500
        event = event_of(sample("order.placed", **data, items=items, currency=long))
        await by_webhook(bench.counterpart, style=style, text=None).deliver(event, bench.context(event))
        own = by_webhook(bench.counterpart, text="{{ data.orderNo }}")
        bench.effects.kept.clear()
        await own.deliver(event, bench.context(event))
        message = bench.counterpart.messages[1]
    assert len(message.blocks[0]["text"]["text"]) <= 3000
    assert message.text.endswith("…")
    assert not message.text[:-1].rpartition("&")[2].isalpha(), "cut within an entity"


def test_a_cut_never_leaves_half_an_entity() -> None:
    text = "a&amp;b&lt;c&gt;"
    cuts = [cut_escaped(text, length) for length in range(2, len(text))]
    assert all(len(cut) <= length for cut, length in zip(cuts, range(2, len(text)), strict=True))
    assert {cut.rstrip("…").rpartition("&")[2] for cut in cuts} <= {"a", "amp;", "amp;b", "lt;", "lt;c"}


def sdk_validates(blocks: list[dict[str, Any]]) -> None:
    for parsed in Block.parse_all(blocks):
        parsed.validate_json()


def section(**fields: Any) -> dict[str, Any]:
    return {"type": "section", **fields}


def words(count: int, kind: str = "plain_text") -> dict[str, Any]:
    return {"type": kind, "text": "x" * count}


BAD_BLOCKS = {
    "51 blocks": [section(text=words(1))] * 51,
    "section text": [section(text=words(3001))],
    "eleven fields": [section(fields=[words(1)] * 11)],
    "field text": [section(fields=[words(2001)])],
    "header text": [{"type": "header", "text": words(151)}],
    "header markup": [{"type": "header", "text": words(5, "mrkdwn")}],
    "eleven elements": [{"type": "context", "elements": [words(1)] * 11}],
    "no elements": [{"type": "context", "elements": []}],
    "block id": [section(text=words(1), block_id="x" * 256)],
    "empty text": [section(text=words(0))],
    "empty section": [section()],
    "unknown type": [{"type": "sektion", "text": words(1)}],
    "no text object": [section(text="plain")],
}
SDK_ACCEPTS = {
    "51 blocks",
    "field text",
    "header markup",
    "unknown type",
    "no text object",
    "no elements",
    "empty text",
}


@pytest.mark.parametrize("case", BAD_BLOCKS)
async def test_the_validator_and_slack_refuse_the_same(case: str) -> None:
    blocks = BAD_BLOCKS[case]
    assert problems({"text": "t", "blocks": blocks}), "our validator lets it through"
    async with open_bench(SlackServer()) as bench:
        answer = await bench.http.post(bench.counterpart.webhook_url, json={"text": "t", "blocks": blocks})
    assert (answer.status_code, answer.text) == (400, "invalid_blocks")
    if case not in SDK_ACCEPTS:
        with pytest.raises(SlackObjectFormationError):
            sdk_validates(blocks)


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ({"text": ""}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "t", "blocks": [section(text=words(2700))] * 5}, "msg_blocks_too_long"),
    ],
)
async def test_the_validator_refuses_messages_that_slack_refuses(message: dict[str, Any], word: str) -> None:
    assert problems(message)
    async with open_bench(SlackServer()) as bench:
        answer = await bench.http.post(bench.counterpart.webhook_url, json=message)
    assert (answer.status_code, answer.text) == (400, word)


def test_the_limits_themselves_are_allowed() -> None:
    blocks = [
        {"type": "header", "text": words(150)},
        section(text=words(3000), block_id="x" * 255),
        section(fields=[words(800)] * 10),
        {"type": "context", "elements": [words(1)] * 10},
        *[section(text=words(1))] * 46,
    ]
    assert problems({"text": "x" * 40_000, "blocks": blocks}) == []


def test_a_message_over_the_limits_is_not_sent() -> None:
    assert problems({"blocks": []}) == ["text must stand beside the blocks, for notifications"]


WEBHOOK_ANSWERS = [
    (400, "invalid_payload", Rejected), (400, "no_text", Rejected), (400, "invalid_blocks", Rejected),
    (400, "too_many_attachments", Rejected), (400, "user_not_found", Rejected), (400, "strange", Rejected),
    (403, "action_prohibited", HoldRoute), (403, "invalid_token", HoldRoute), (403, "team_disabled", HoldRoute),
    (403, "posting_to_general_channel_denied", HoldRoute), (404, "channel_not_found", HoldRoute),
    (404, "no_service", HoldRoute), (404, "no_team", HoldRoute), (410, "channel_is_archived", HoldRoute),
    (404, "<html>some proxy</html>", TryAgain), (500, "rollup_error", TryAgain), (503, "", TryAgain),
    (200, "<html>sign in to the network</html>", TryAgain), (302, "", TryAgain),
    (403, "never_heard_of", HoldRoute), (404, "never_heard_of", HoldRoute), (410, "", HoldRoute),
    (403, "restricted_action_read_only_channel", HoldRoute), (200, "no_service", HoldRoute),
    (200, "invalid_blocks", Rejected), (200, "", TryAgain), (200, "queued", TryAgain), (204, "", TryAgain),
    (500, "invalid_token", TryAgain),
]  # fmt: skip


@pytest.mark.parametrize(("status", "word", "expected"), WEBHOOK_ANSWERS)
async def test_answers_of_a_webhook(status: int, word: str, expected: type[Outcome]) -> None:
    async with open_bench(SlackServer(Answer(status, word.encode()))) as bench:
        ended = await outcome(by_webhook(bench.counterpart), bench)
    assert type(ended) is expected
    assert word.startswith("<") or word in ended.reason
    assert not bench.effects.kept


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (200, {"ok": False, "error": "invalid_auth"}, HoldRoute),
        (200, {"ok": False, "error": "invalid_blocks"}, Rejected),
        (200, {"ok": False, "error": "internal_error"}, TryAgain),
        (200, {"ok": False, "error": "never_heard_of"}, TryAgain),
        (400, {"ok": False, "error": "is_archived"}, HoldRoute),
        (404, {"ok": False, "error": "never_heard_of"}, HoldRoute),
    ],
)
async def test_json_from_a_webhook_is_read_as_the_web_apis(
    status: int, said: dict[str, Any], expected: type[Outcome]
) -> None:
    async with open_bench(SlackServer(Answer(status, json.dumps(said).encode()))) as bench:
        ended = await outcome(by_webhook(bench.counterpart), bench)
    assert type(ended) is expected
    assert said["error"] in ended.reason
    assert not bench.effects.kept


async def test_what_came_in_place_of_ok_is_told() -> None:
    async with open_bench(SlackServer(Answer(200, b"queued\r\n"))) as bench:
        ended = await outcome(by_webhook(bench.counterpart), bench)
    assert isinstance(ended, TryAgain)
    assert (ended.reason, ended.destination) == ("“queued” came instead of Slack's answer", True)


async def test_the_missing_scope_and_the_faulty_field_are_in_the_reason() -> None:
    scope = {"ok": False, "error": "missing_scope", "needed": "chat:write", "provided": "users:read"}
    field = {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": ["[ERROR] must\nbe text", "b"]}}
    odd = {"ok": False, "error": "invalid_arguments", "needed": None, "response_metadata": {"messages": "none"}}
    async with open_bench(
        SlackServer(*(Answer(200, json.dumps(said).encode()) for said in (scope, field, odd)))
    ) as bench:
        reasons = [(await outcome(by_token(bench.counterpart), bench)).reason for _ in range(3)]
    assert reasons == [
        "Slack answered missing_scope (needed: chat:write)",
        "Slack answered invalid_blocks ([ERROR] must be text; b)",
        "Slack answered invalid_arguments",
    ]


@pytest.mark.parametrize("way", ["webhook", "token"])
@pytest.mark.parametrize("charset", ["base64", "rot13", "idna", "undefined"])
async def test_an_answer_whose_charset_decodes_nothing_is_a_success_all_the_same(way: str, charset: str) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    said, connect = (b"ok", by_webhook) if way == "webhook" else (b'{"ok": true, "ts": "1.2"}', by_token)
    async with open_bench(SlackServer(Answer(200, said, headers))) as bench:
        event = event_of(sample("order.placed"))
        receipt = await connect(bench.counterpart).deliver(event, bench.context(event))
    assert receipt.effects
    assert receipt.answer


async def test_a_route_that_went_from_webhook_to_token_and_back_posts_nothing_twice() -> None:
    async with open_bench(SlackServer()) as bench:
        event = event_of(sample("order.placed"))
        for first, then in ((by_webhook, by_token), (by_token, by_webhook)):
            bench.effects.kept.clear()
            await bench.keep(await first(bench.counterpart).deliver(event, bench.context(event)))
            again = await then(bench.counterpart).deliver(event, bench.context(event))
            assert again.text.startswith("already sent")
    assert len(bench.counterpart.messages) == 2


API_ERRORS = [
    ("invalid_auth", HoldRoute), ("not_authed", HoldRoute), ("account_inactive", HoldRoute),
    ("token_revoked", HoldRoute), ("missing_scope", HoldRoute), ("channel_not_found", HoldRoute),
    ("not_in_channel", HoldRoute), ("is_archived", HoldRoute), ("restricted_action", HoldRoute),
    ("restricted_action_read_only_channel", HoldRoute), ("restricted_action_thread_only_channel", HoldRoute),
    ("restricted_action_thread_locked", HoldRoute), ("is_inactive", HoldRoute), ("accesslimited", HoldRoute),
    ("messages_tab_disabled", HoldRoute), ("team_not_found", HoldRoute), ("unknown_method", HoldRoute),
    ("as_user_not_supported", Rejected), ("attachment_payload_limit_exceeded", Rejected),
    ("metadata_too_large", Rejected), ("invalid_arg_name", Rejected),
    ("msg_too_long", Rejected), ("no_text", Rejected), ("invalid_blocks", Rejected),
    ("msg_blocks_too_long", Rejected), ("internal_error", TryAgain), ("fatal_error", TryAgain),
    ("service_unavailable", TryAgain), ("request_timeout", TryAgain), ("never_heard_of", TryAgain),
]  # fmt: skip


@pytest.mark.parametrize(("word", "expected"), API_ERRORS)
async def test_errors_of_the_web_api(word: str, expected: type[Outcome]) -> None:
    said = json.dumps({"ok": False, "error": word}).encode()
    async with open_bench(SlackServer(Answer(200, said))) as bench:
        ended = await outcome(by_token(bench.counterpart), bench)
    assert (type(ended), ended.reason) == (expected, f"Slack answered {word}")
    assert not bench.effects.kept


@pytest.mark.parametrize("word", ["ratelimited", "rate_limited"])
async def test_a_rate_limit_in_a_200(word: str) -> None:
    said = json.dumps({"ok": False, "error": word}).encode()
    async with open_bench(SlackServer(Answer(200, said, {"Retry-After": "30"}))) as bench:
        ended = await outcome(by_token(bench.counterpart), bench)
    assert isinstance(ended, TryAgain)
    assert (ended.after, ended.status, ended.destination) == (30, 429, True)


@pytest.mark.parametrize("said", [b"not json", b"[]", b"<html>"])
async def test_what_is_not_slacks_answer_is_no_success(said: bytes) -> None:
    async with open_bench(SlackServer(Answer(200, said))) as bench:
        ended = await outcome(by_token(bench.counterpart), bench)
    assert isinstance(ended, TryAgain)
    assert ended.destination


@pytest.mark.parametrize("way", [by_webhook, by_token])
async def test_one_message_a_second(way: Any) -> None:
    # So seldom that the second comes too soon on any machine; Slack's own rate is one a second.
    async with open_bench(SlackServer(rate=0.001)) as bench:
        event = event_of(sample("order.placed"))
        await way(bench.counterpart).deliver(event, bench.context(event))
        bench.effects.kept.clear()
        ended = await outcome(way(bench.counterpart), bench)
    assert isinstance(ended, TryAgain)
    assert (ended.after, ended.status, ended.destination) == (1, 429, True)
    assert len(bench.counterpart.messages) == 1


async def test_a_gone_webhook_channel_and_workspace_hold_the_route() -> None:
    async with open_bench(SlackServer()) as bench:
        server = bench.counterpart
        wrong = [
            slack(webhook_url=f"{server.url}/services/T1/B1/x"),
            slack(webhook_url=server.webhook_url + "x"),
            by_token(server, token="xoxb-other"),
            by_token(server, channel="C999"),
        ]
        reasons = [(await outcome(connector, bench)).reason for connector in wrong]
        server.archived = {CHANNEL, "webhook"}
        ended = [await outcome(by_token(server), bench), await outcome(by_webhook(server), bench)]
        server.disabled = True
        ended.append(await outcome(by_webhook(server), bench))
    assert [reason.split()[-1] for reason in reasons] == [
        "no_service", "invalid_token", "invalid_auth", "channel_not_found",
    ]  # fmt: skip
    assert [type(each) for each in ended] == [HoldRoute] * 3


async def test_the_bots_effect_is_the_messages_ts() -> None:
    async with open_bench(SlackServer()) as bench:
        event = event_of(sample("order.placed"))
        receipt = await bench.keep(await by_token(bench.counterpart).deliver(event, bench.context(event)))
        message = bench.counterpart.messages[0]
        assert receipt.effects == {"ts": message.ts}
        again = await by_token(bench.counterpart).deliver(event, bench.context(event))
    assert receipt.text == f"sent to {CHANNEL}"
    assert message.channel == CHANNEL
    assert again.text == f"already sent: {message.ts}"
    assert len(bench.counterpart.received) == 1


@pytest.mark.parametrize(
    ("whom", "written"),
    [("here", "<!here>"), ("channel", "<!channel>"), ("U0123ABC", "<@U0123ABC>"), ("S0123ABC", "<!subteam^S0123ABC>")],
)
async def test_low_stock_calls_whom_it_should(whom: str, written: str) -> None:
    connector = slack(webhook_url="https://hooks.slack.test/x", mention_on_low_stock=whom)
    assert texts(await payload("inventory.low", connector), "mrkdwn") == [written]
    assert texts(await payload("product.updated", connector), "mrkdwn") == []


async def test_a_link_to_the_store() -> None:
    connector = slack(
        webhook_url="https://hooks.slack.test/x", admin_url="https://shop.test/orders?id={{ data.orderId }}&x=1"
    )
    message = await payload("order.placed", connector, orderId="a|b> c")
    assert texts(message, "mrkdwn") == [
        "<https://shop.test/orders?id=a%7Cb%3E%20c&amp;x=1|Open in the store>",
    ]


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("javascript:alert(1)", "no address that starts with https://"),
        ("{{ data.missing | default('') }}", "no address that starts with https://"),
        ("https://x/" + "y" * 3000, "too long for Slack"),
        ("https://shop.test/orders/{{ data.orderId }}", "no field orderId"),
    ],
)
async def test_a_link_that_leads_nowhere_is_left_out_and_the_message_still_goes(url: str, because: str) -> None:
    async with open_bench(SlackServer()) as bench:
        event = event_of(sample("customer.registered"))
        connector = by_webhook(bench.counterpart, admin_url=url)
        receipt = await connector.deliver(event, bench.context(event))
        shown = await connector.preview(event, bench.context(event))
        message = bench.counterpart.messages[0]
    assert texts(message.blocks, "mrkdwn") == []
    assert receipt.text.startswith("sent to Slack; without the link: ")
    assert because in receipt.text
    assert because in shown.title


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "either webhook_url"),
        ({"webhook_url": "https://canary.test/x", "token": "xoxb-canary", "channel": "C1"}, "either webhook_url"),
        ({"token": "xoxb-canary"}, "belong together"),
        ({"webhook_url": "https://canary.test/x", "channel": "C1"}, "belong together"),
        ({"webhook_url": "canary.test"}, "whole address"),
        ({"token": "xoxb\n-canary", "channel": "C1"}, "bot token"),
        ({"token": "xoxb-canary", "channel": "C1", "api_url": "slack.test"}, "api_url"),
        ({"webhook_url": "https://canary.test/x", "mention_on_low_stock": "<!channel>"}, "pattern"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        slack(**settings)
    assert "canary" not in str(caught.value)


async def test_check_by_token_asks_who_it_is() -> None:
    async with open_bench(SlackServer()) as bench:
        ctx = bench.context(event_of(sample("order.placed")))
        assert await by_token(bench.counterpart).check(ctx) == "the token is litekart-hub's in Example"
        with pytest.raises(HoldRoute, match="invalid_auth"):
            await by_token(bench.counterpart, token="xoxb-other").check(ctx)


async def test_check_of_a_webhook_admits_what_it_cannot_know() -> None:
    async with open_bench(SlackServer()) as bench:
        told = await by_webhook(bench.counterpart).check(bench.context(event_of(sample("order.placed"))))
    assert "only a test message" in told
    assert SECRET not in told
    assert len(bench.counterpart.received) == 0
