"""The mail connector: the kit over STARTTLS, the message itself, and what each reply of a server leads to."""

import asyncio
import base64
import html
import json
import random
import ssl
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.email import Email
from connectors.mail_message import Envelope, build, header_text, is_address, message_id
from connectors.messages import message_of
from hub.connector import Event
from hub.errors import HoldRoute, Outcome, Rejected, TryAgain
from hub.outcome import outcome_of
from hub.testing import EVENT_TYPES, event_of, open_bench, sample
from hub.testing.bench import TIMEOUT, Bench
from hub.testing.smtp import DROP, HANG, Mail, MailConnectorTests, MailServer

TLS = Path(__file__).parent / "tls"
USER, PASSWORD = "hub@example.test", "smtp-canary-password"
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "X-Auto-Response-Suppress",
    "X-Litekart-Event", "X-Litekart-Event-Type", "MIME-Version", "Content-Type",
}  # fmt: skip


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    return context


class TestEmail(MailConnectorTests):
    connector_class = Email

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": int(url.rpartition(":")[2]),
            "username": self.user,
            "password": self.password,
            "from": "shop@example.test",
            "to": ["ops@example.test"],
            "ca_file": str(TLS / "ca.pem"),
        }

    def counterpart(self) -> MailServer:
        return MailServer(tls=server_tls(), users={self.user: self.password})


def mailer(port: int, **settings: Any) -> Email:
    """Without TLS and sign-in, unless told otherwise."""
    usual = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "from": "shop@example.test",
        "to": ["ops@example.test"],
    }
    return Email(Email.Settings.model_validate(usual | settings))


async def mailed(event: Event, **settings: Any) -> Mail:
    async with open_bench(MailServer()) as bench:
        await mailer(bench.counterpart.port, **settings).deliver(event, bench.context(event))
        (mail,) = bench.counterpart.mails
    assert isinstance(mail, Mail)
    return mail


async def ended(bench: Bench, **settings: Any) -> Outcome:
    """How a delivery that fails ends."""
    event = event_of(sample("order.placed"))
    with pytest.raises(Exception) as caught:
        await mailer(bench.counterpart.port, **settings).deliver(event, bench.context(event))
    assert not bench.effects.kept
    return outcome_of(caught.value, datetime.now(UTC))


def part(mail: Mail, kind: str) -> str:
    body = mail.message.get_body((kind,))
    assert body is not None
    text: str = body.get_content()
    return text


@pytest.mark.parametrize("type_", [*EVENT_TYPES, "something.new"])
async def test_each_type_is_told_in_text_and_html(type_: str) -> None:
    event = event_of(sample(type_))
    mail = await mailed(event)
    assert (mail.sender, mail.to) == ("shop@example.test", ("ops@example.test",))
    assert [each.get_content_type() for each in mail.message.walk()] == [
        "multipart/alternative", "text/plain", "text/html",
    ]  # fmt: skip
    assert mail.message["Subject"]
    for kind in ("plain", "html"):
        text = part(mail, kind)
        assert event.id in text
        assert event.type in text
        assert mail.message["Subject"].split(":")[0] in html.unescape(text)


async def test_the_headers() -> None:
    event = event_of(sample("order.placed", orderNo=1042, total=99.9))
    mail = await mailed(event, from_name="Æble, Shop", message_id_domain="hub.example.test")
    message = mail.message
    assert set(message.keys()) == HEADERS
    assert message["From"].addresses[0].display_name == "Æble, Shop"
    assert message["Subject"].startswith("New order 1042 from ")
    assert message["Message-ID"].endswith("@hub.example.test>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Litekart-Event"] == event.id
    assert abs((message["Date"].datetime - event.received_at).total_seconds()) < 1


async def test_one_orders_mails_hang_together() -> None:
    first = await mailed(event_of(sample("order.placed", orderId="ord_1")))
    second = await mailed(event_of(sample("payment.completed", orderId="ord_1")))
    other = await mailed(event_of(sample("order.placed", orderId="ord_2")))
    assert first.message["References"] == second.message["References"] != other.message["References"]
    assert first.message["Message-ID"] != second.message["Message-ID"]


async def test_an_event_about_nothing_known_refers_to_nothing() -> None:
    mail = await mailed(event_of({"event": "system.ping", "data": {}, "timestamp": "2024-01-15T10:30:00Z"}))
    assert "References" not in mail.message


async def test_every_value_is_escaped_in_html() -> None:
    mail = await mailed(event_of(sample("product.created", name='<img src=x onerror="alert(1)"> & co')))
    assert "<img" not in part(mail, "html")
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt; &amp; co" in part(mail, "html")
    assert '<img src=x onerror="alert(1)"> & co' in part(mail, "plain")


async def test_what_was_fetched_is_escaped_and_adds_no_header() -> None:
    name = '<img src=x onerror="alert(1)">\r\nBcc: x@evil.test'
    order = {"order_no": name, "first_name": name, "last_name": "", "items": [{"name": name, "quantity": name}] * 50}
    event = event_of({"event": "order.placed", "data": {"orderId": "ord_1"}, "timestamp": "2024-01-15T10:30:00Z"})
    async with open_bench(MailServer()) as bench:
        bench.fetched = {"order": order, "customer": {"first_name": name, "email": name}}
        bench.admin_url = "https://shop.test/admin/orders/ord_1?a=1&b=2"
        connector = mailer(bench.counterpart.port, subject="{{ message.summary }} {{ customer.email }}")
        await connector.deliver(event, bench.context(event))
        (mail,) = bench.counterpart.mails
    assert set(mail.message.keys()) == HEADERS
    assert mail.to == ("ops@example.test",)
    assert "<img" not in part(mail, "html")
    assert '<a href="https://shop.test/admin/orders/ord_1?a=1&amp;b=2"' in part(mail, "html")
    lines = part(mail, "plain").splitlines()
    assert f"In the store: {bench.admin_url}" in lines
    assert not [line for line in lines if line.startswith("Bcc")]


async def test_own_templates() -> None:
    mail = await mailed(
        event_of(sample("order.placed", orderNo=7, customer={"email": "asha@example.test"})),
        subject="Order {{ data.orderNo }}\r\nBcc: all@example.test",
        text="Hello\r\n.\r\n{{ message.summary }}",
        html="<p>{{ data.customer.email }}</p>",
        reply_to="{{ data.customer.email }}",
    )
    assert mail.message["Subject"] == "Order 7 Bcc: all@example.test"
    assert "Bcc" not in mail.message
    assert mail.to == ("ops@example.test",)
    assert mail.message["Reply-To"] == "asha@example.test"
    assert part(mail, "plain").splitlines()[:2] == ["Hello", "."]
    assert part(mail, "html").strip() == "<p>asha@example.test</p>"


@pytest.mark.parametrize(
    ("template", "because"),
    [
        ("{{ data.orderId }}", "gives no plain address"),
        ("taro..yamada@docomo.ne.jp", "gives no plain address"),
        ("{{ data.customer.mail | default('', true) }}", "gives nothing"),
        ("{{ data.customer.mail }}", "no field mail"),
    ],
)
async def test_a_reply_to_that_cannot_be_used_is_left_out_and_the_mail_still_goes(template: str, because: str) -> None:
    async with open_bench(MailServer()) as bench:
        event = event_of(sample("order.placed"))
        connector = mailer(bench.counterpart.port, reply_to=template)
        receipt = await connector.deliver(event, bench.context(event))
        shown = await connector.preview(event, bench.context(event))
        (mail,) = bench.counterpart.mails
    assert "Reply-To" not in mail.message
    assert receipt.text.startswith("mailed to ops@example.test; without Reply-To: ")
    assert because in receipt.text
    assert because in shown.title


@pytest.mark.parametrize("type_", EVENT_TYPES)
async def test_the_text_part_says_each_fact_on_a_line_of_its_own(type_: str) -> None:
    event = event_of(sample(type_))
    message = message_of(event)
    lines = part(await mailed(event), "plain").splitlines()
    facts = [f"{fact.label}: {fact.value}" for fact in message.facts]
    assert facts
    foot = f"Store main, {type_}, {message.time}, event {event.id}"
    assert lines == [message.summary, "", *facts, "", "--", foot]


async def test_the_text_part_of_an_event_without_facts() -> None:
    event = event_of({"event": "system.ping", "data": {}, "timestamp": "2024-01-15T10:30:00Z"})
    assert part(await mailed(event), "plain").splitlines()[:3] == ["Event system.ping", "", "--"]


LINE_ENDS = "\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00\x1b"


async def test_no_value_can_add_a_header_or_a_recipient() -> None:
    """S21: Each character that some parser takes for the end of a line, where a value reaches a header."""
    for number, character in enumerate(LINE_ENDS):
        name = f"A{character}Bcc: x{number}@evil.test{character}{character}body"
        data: dict[str, Any] = {"orderNo": name, "customer": {"name": name, "email": name}, "orderId": name}
        mail = await mailed(event_of(sample("order.placed", **data)), from_name=name)
        assert set(mail.message.keys()) == HEADERS
        assert mail.to == ("ops@example.test",)
        assert "A Bcc: x" in mail.message["Subject"]


ENCODED = {
    "a line end": "=?utf-8?q?a=0d=0aBcc:_evil@x.y=0d=0aX-Foo:?=",
    "a whole message": "=?utf-8?b?" + base64.b64encode(b"a\r\n\r\n<h1>evil</h1>\r\n.\r\n").decode() + "?=",
    "NUL": "=?utf-8?q?=00?=",
    "half a surrogate": "=?unicode_escape?q?=5Cud800?=",
    "two words": "=?utf-8?q?a=0d?= =?utf-8?q?=0aBcc:_evil@x.y?=",
    "a word in a word": "=?utf-8?q?=3D=3Futf-8=3Fq=3Fa=3D0d=3D0aBcc:_evil@x.y=3F=3D?=",
    "a word across a control": "=\u202e?utf-8?q?a=0d=0aBcc:_evil@x.y?=",
    "a charset nobody knows": "=?nonsense?q?=0d=0a?=",
}


@pytest.mark.parametrize("word", ENCODED.values(), ids=ENCODED)
async def test_an_encoded_word_in_a_value_stays_text_in_every_header(word: str) -> None:
    """Subject, display name, event type, and what a recipient's program reads back: nothing of it is decoded."""
    type_ = word.replace(" ", "_")
    event = event_of({"event": type_, "data": {"customerName": word}, "timestamp": "2024-01-15T10:30:00Z"})
    templates = {"subject": "{{ data.customerName }}", "text": "body", "html": "<p>body</p>"}
    mail = await mailed(event, from_name=f"Shop {word}", reply_to="{{ data.customerName }}", **templates)
    assert set(mail.message.keys()) == HEADERS - {"References"}
    assert mail.to == ("ops@example.test",)
    plain = word.replace("\u202e", "").replace("=?", "= ?")
    assert mail.message["Subject"] == plain
    # A long word is encoded in pieces, between which Python's reader leaves a space.
    name = mail.message["From"].addresses[0].display_name.removesuffix("…").replace(" ", "")
    assert f"Shop {plain}".replace(" ", "").startswith(name)
    assert [address.addr_spec for address in mail.message["From"].addresses] == ["shop@example.test"]
    assert mail.message["X-Litekart-Event-Type"].split("…")[0] in type_.replace("\u202e", "").replace("=?", "= ?")
    assert part(mail, "plain").strip() == "body"


async def test_an_encoded_word_in_an_order_reaches_the_subject_as_text() -> None:
    mail = await mailed(event_of(sample("order.placed", orderNo=7, customer={"name": ENCODED["a line end"]})))
    assert set(mail.message.keys()) == HEADERS
    assert "from = ?utf-8?q?a=0d=0aBcc:_evil@x.y" in mail.message["Subject"]


PIECES = [
    *ENCODED.values(), "=?", "?=", "=?utf-8?q?", "=?utf-8?b?", "=0d=0a", "\r\n", "\x00", "\ud800", "\u202e", "\u2068",
    "=", "?", '"', "\\", "<", ">", ",", "(", ")", "@", " ", "\t", "Bcc: evil@x.y", "é", "א",
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=12).map("".join)


@given(subject=HOSTILE, name=HOSTILE, type_=HOSTILE)
def test_no_hostile_text_makes_a_header_or_keeps_a_mail_from_being_built(subject: str, name: str, type_: str) -> None:
    event = replace(event_of(sample("order.placed")), type=type_)
    envelope = Envelope("shop@example.test", name, ("ops@example.test",), "asha@example.test", "example.test")
    read = BytesParser(policy=default).parsebytes(build(event, "dlv_1", envelope, subject, "t", "h").as_bytes())
    assert set(read.keys()) == HEADERS | {"Reply-To"}
    assert [address.addr_spec for address in read["To"].addresses] == ["ops@example.test"]
    assert [address.addr_spec for address in read["From"].addresses] == ["shop@example.test"]
    for header, value in read.items():
        assert not any(unicodedata.category(letter) in {"Cc", "Zl", "Zp", "Cs"} for letter in str(value)), header


async def test_every_hostile_mail_arrives_with_our_headers_and_recipients_alone() -> None:
    """S21: at a real mail server, each of them."""
    chance = random.Random(121650)
    async with open_bench(MailServer()) as bench:
        for _ in range(60):
            name, customer, type_ = ("".join(chance.choices(PIECES, k=chance.randint(1, 9))) for _ in range(3))
            data = {"customerName": customer, "orderNo": name, "customer": customer}
            # Escaped as a store may send it: half a surrogate is valid JSON.
            event = replace(event_of(sample("order.placed")), type=type_, body=json.dumps({"data": data}).encode())
            bench.begin()
            connector = mailer(bench.counterpart.port, from_name=name, subject="{{ data.customerName }}")
            await connector.deliver(event, bench.context(event))
        mails = list(bench.counterpart.mails)
    assert len(mails) == 60
    for mail in mails:
        assert set(mail.message.keys()) == HEADERS
        assert (mail.sender, mail.to) == ("shop@example.test", ("ops@example.test",))
        assert [address.addr_spec for address in mail.message["From"].addresses] == ["shop@example.test"]


def test_a_header_that_would_hold_a_control_is_refused_however_it_came_there() -> None:
    event = event_of(sample("order.placed"))
    envelope = Envelope("shop@example.test", "", ("ops@example.test",), "", "a\x07b.test")
    with pytest.raises(Rejected, match="Message-ID would hold a control character"):
        build(event, "dlv_1", envelope, "s", "t", "h")


@given(subject=st.text(max_size=300), name=st.text(max_size=80), text=st.text(max_size=300))
def test_whatever_the_text_the_headers_are_ours(subject: str, name: str, text: str) -> None:
    event = event_of(sample("order.placed"))
    envelope = Envelope("shop@example.test", name, ("ops@example.test",), "", "example.test")
    message = build(event, "dlv_1", envelope, subject, text, f"<p>{text}</p>")
    head, _, _ = message.as_bytes().partition(b"\r\n\r\n")
    names = {line.partition(b":")[0].decode() for line in head.split(b"\r\n") if line[:1] not in b" \t"}
    assert names == HEADERS
    assert not any(unicodedata.category(letter) in {"Cc", "Zl", "Zp"} for letter in message["Subject"])
    assert message.as_bytes() == build(event, "dlv_1", envelope, subject, text, f"<p>{text}</p>").as_bytes()


@pytest.mark.parametrize("key", ["dlv_01jd", "dlv_01jd:2", "a b<c>@d", "é" * 40, "k" * 300])
def test_the_message_id_is_one_line_and_the_keys_own(key: str) -> None:
    first = message_id(key, "example.test")
    assert first == message_id(key, "example.test") != message_id(key + "2", "example.test")
    local, _, domain = first[1:-1].rpartition("@")
    assert domain == "example.test"
    assert local.isascii()
    assert not set(local) & set(' <>@:"')
    assert len(first) < 90


def test_a_long_message_id_is_not_folded_into_something_else() -> None:
    envelope = Envelope("shop@example.test", "", ("ops@example.test",), "", "d" * 60 + ".example.test")
    message = build(event_of(sample("order.placed")), "k" * 64, envelope, "s", "t", "h")
    assert f"<{'k' * 64}@{envelope.domain}>".encode() in message.as_bytes()
    assert b"=?" not in message.as_bytes()


@pytest.mark.parametrize(
    ("stage", "reply", "expected", "after"),
    [
        ("CONNECT", "421 4.3.2 too busy", TryAgain, None),
        ("CONNECT", "554 5.7.1 go away", HoldRoute, None),
        ("CONNECT", "554 no SMTP service here", HoldRoute, None),
        ("EHLO", "550 5.7.1 not you", HoldRoute, None),
        ("EHLO", "451 4.3.0 later", TryAgain, None),
        ("MAIL", "550 5.7.1 not your sender", HoldRoute, None),
        ("MAIL", "553 5.7.1 sender not owned", HoldRoute, None),
        ("MAIL", "550 5.4.5 daily limit reached", TryAgain, 86400),
        ("MAIL", "530 5.7.0 sign in first", HoldRoute, None),
        ("MAIL", "552 5.3.4 too big", Rejected, None),
        ("MAIL", "451 4.3.0 later", TryAgain, None),
        ("RCPT", "450 4.2.0 greylisted", TryAgain, None),
        ("RCPT", "550 5.1.1 unknown", Rejected, None),
        ("RCPT", "552 4.2.2 mailbox full", TryAgain, None),
        ("RCPT", "550 5.4.5 daily limit reached", TryAgain, 86400),
        ("RCPT", "452 5.2.2 mailbox full", Rejected, None),
        ("DATA", "550 5.4.5 daily limit reached", TryAgain, 86400),
        ("DATA", "554 spam", Rejected, None),
        ("DATA", "452 no space", TryAgain, None),
        ("DATA", "421 4.3.2 shutting down", TryAgain, None),
    ],
)
async def test_what_a_reply_means(stage: str, reply: str, expected: type[Outcome], after: float | None) -> None:
    async with open_bench(MailServer()) as bench:
        bench.counterpart.reply(stage, reply)
        outcome = await ended(bench)
    assert type(outcome) is expected
    assert reply in outcome.reason
    if isinstance(outcome, TryAgain):
        assert (outcome.after, outcome.status, outcome.destination) == (after, int(reply[:3]), True)


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO"])
@pytest.mark.parametrize("fault", [DROP, HANG])
async def test_a_fault_before_the_mail_says_that_nothing_was_sent(stage: str, fault: str) -> None:
    async with open_bench(MailServer(), timeout=2 if fault == HANG else TIMEOUT) as bench:
        bench.counterpart.reply(stage, fault)
        outcome = await ended(bench)
    assert isinstance(outcome, TryAgain)
    assert outcome.destination
    assert "nothing was sent" in outcome.reason or "before anything was sent" in outcome.reason


@pytest.mark.parametrize("stage", ["MAIL", "RCPT"])
@pytest.mark.parametrize("fault", [DROP, HANG])
async def test_a_fault_before_data_does_not_say_that_it_may_have_arrived(stage: str, fault: str) -> None:
    async with open_bench(MailServer(), timeout=2 if fault == HANG else TIMEOUT) as bench:
        bench.counterpart.reply(stage, fault)
        outcome = await ended(bench)
    assert isinstance(outcome, TryAgain)
    assert outcome.destination
    assert "nothing was sent" in outcome.reason or "before anything was sent" in outcome.reason


@pytest.mark.parametrize("fault", [DROP, HANG])
async def test_a_fault_after_the_message_says_that_it_may_have_arrived(fault: str) -> None:
    async with open_bench(MailServer(), timeout=2 if fault == HANG else TIMEOUT) as bench:
        bench.counterpart.reply("DATA", fault)
        outcome = await ended(bench)
    assert isinstance(outcome, TryAgain)
    assert "it may have arrived" in outcome.reason


@pytest.mark.parametrize("to", [["a@example.test", "b@example.test"], ["a@example.test", "b@example.test", "c@x.test"]])
async def test_a_421_at_the_second_recipient_sends_nothing_and_is_told(to: list[str]) -> None:
    async with open_bench(MailServer()) as bench:
        bench.counterpart.refuse("b@example.test", "421 4.3.2 shutting down")
        outcome = await ended(bench, to=to)
        assert "DATA" not in bench.counterpart.visits[0].commands
    assert isinstance(outcome, TryAgain)
    assert (outcome.status, outcome.destination) == (421, True)
    assert outcome.reason == "the mail server answered 421 4.3.2 shutting down"


async def test_an_attempt_that_the_hub_would_end_says_itself_how_far_it_came() -> None:
    """The hub's own end of the attempt cannot know it, and would have to say that it may have arrived."""
    async with open_bench(MailServer(), timeout=2) as bench:
        bench.counterpart.reply("RCPT", HANG)
        async with asyncio.timeout(bench.timeout):
            outcome = await ended(bench)
    assert "nothing was sent" in outcome.reason


async def test_an_address_named_twice_gets_one_mail() -> None:
    async with open_bench(MailServer()) as bench:
        event = event_of(sample("order.placed"))
        connector = mailer(bench.counterpart.port, to=["a@example.test", "b@example.test", "a@EXAMPLE.test"])
        receipt = await connector.deliver(event, bench.context(event))
        assert bench.counterpart.visits[0].commands.count("RCPT") == 2
        (mail,) = bench.counterpart.mails
    assert mail.to == ("a@example.test", "b@example.test")
    assert receipt.text == "mailed to a@example.test, b@example.test"


async def test_a_server_that_never_says_goodbye_does_not_undo_the_mail() -> None:
    async with open_bench(MailServer()) as bench:
        bench.counterpart.reply("QUIT", HANG)
        event = event_of(sample("order.placed"))
        receipt = await mailer(bench.counterpart.port).deliver(event, bench.context(event))
        (mail,) = bench.counterpart.mails
    assert receipt.text == "mailed to ops@example.test"
    assert bench.effects.kept["message"].value == mail.message["Message-ID"]


async def test_some_recipients_refused_is_a_success_that_says_so() -> None:
    async with open_bench(MailServer()) as bench:
        bench.counterpart.refuse("gone@example.test", "550 5.1.1 no such user")
        event = event_of(sample("order.placed"))
        connector = mailer(bench.counterpart.port, to=["ops@example.test", "gone@example.test"])
        receipt = await connector.deliver(event, bench.context(event))
        (mail,) = bench.counterpart.mails
    assert mail.to == ("ops@example.test",)
    assert receipt.text == "mailed to 1 of 2 recipients; refused: gone@example.test: 550 5.1.1 no such user"


@pytest.mark.parametrize(
    ("second", "expected"), [("550 5.1.1 unknown", Rejected), ("450 4.2.1 busy", TryAgain), ("530 sign in", HoldRoute)]
)
async def test_all_recipients_refused(second: str, expected: type[Outcome]) -> None:
    async with open_bench(MailServer()) as bench:
        bench.counterpart.refuse("a@example.test", "550 5.1.1 unknown")
        bench.counterpart.refuse("b@example.test", second)
        outcome = await ended(bench, to=["a@example.test", "b@example.test"])
    assert type(outcome) is expected
    assert "a@example.test: 550 5.1.1 unknown; b@example.test: " + second in outcome.reason


def secure(bench: Bench, **settings: Any) -> dict[str, Any]:
    return {"security": "starttls", "username": USER, "password": PASSWORD, "ca_file": TLS / "ca.pem", **settings}


@pytest.mark.parametrize("implicit", [False, True])
async def test_signed_in_over_tls(implicit: bool) -> None:
    async with open_bench(MailServer(tls=server_tls(), implicit=implicit, users={USER: PASSWORD})) as bench:
        connector = mailer(bench.counterpart.port, **secure(bench, security="tls" if implicit else "starttls"))
        event = event_of(sample("order.placed"))
        told = await connector.check(bench.context(event))
        assert not bench.counterpart.mails
        await connector.deliver(event, bench.context(event))
        (mail,) = bench.counterpart.mails
    assert mail.user == USER
    assert told == f"127.0.0.1:{bench.counterpart.port} takes mail as {USER}"


async def test_a_wrong_password_is_tried_once_and_holds_the_route() -> None:
    async with open_bench(MailServer(tls=server_tls(), users={USER: PASSWORD})) as bench:
        outcome = await ended(bench, **secure(bench, password="not-that-one"))
        (visit,) = bench.counterpart.visits
    assert isinstance(outcome, HoldRoute)
    assert "535 5.7.8" in outcome.reason
    assert visit.commands.count("AUTH") == 1


async def test_a_mechanism_that_the_server_does_not_know_after_all_is_followed_by_another() -> None:
    async with open_bench(MailServer(tls=server_tls(), users={USER: PASSWORD})) as bench:
        bench.counterpart.reply("AUTH", "504 5.5.4 unrecognised")
        told = await mailer(bench.counterpart.port, **secure(bench)).check(bench.context(event_of(sample("x"))))
        assert bench.counterpart.visits[0].commands.count("AUTH") == 2
    assert "takes mail as" in told


async def test_a_sign_in_that_fails_for_now_is_tried_again() -> None:
    async with open_bench(MailServer(tls=server_tls(), users={USER: PASSWORD})) as bench:
        bench.counterpart.reply("AUTH", "454 4.7.0 temporary failure")
        outcome = await ended(bench, **secure(bench))
    assert isinstance(outcome, TryAgain)
    assert outcome.status == 454


async def test_no_sign_in_offered_holds_the_route() -> None:
    async with open_bench(MailServer()) as bench:
        outcome = await ended(bench, username=USER, password=PASSWORD)
    assert isinstance(outcome, HoldRoute)
    assert "takes no user name" in outcome.reason


async def test_no_starttls_offered_holds_the_route_and_no_password_goes_out() -> None:
    async with open_bench(MailServer(users={USER: PASSWORD})) as bench:
        outcome = await ended(bench, **secure(bench))
        assert "AUTH" not in bench.counterpart.visits[0].commands
    assert isinstance(outcome, HoldRoute)
    assert "offers no STARTTLS" in outcome.reason


@pytest.mark.parametrize("implicit", [False, True])
async def test_an_untrusted_certificate_holds_the_route(implicit: bool) -> None:
    async with open_bench(MailServer(tls=server_tls(), implicit=implicit)) as bench:
        outcome = await ended(bench, security="tls" if implicit else "starttls")
    assert isinstance(outcome, HoldRoute)
    assert "certificate" in outcome.reason
    assert "not trusted" in outcome.reason


async def test_tls_spoken_to_a_plain_port_says_so() -> None:
    async with open_bench(MailServer()) as bench:
        outcome = await ended(bench, security="tls")
    assert isinstance(outcome, TryAgain)
    assert "no TLS with 127.0.0.1" in outcome.reason


async def test_a_ca_file_that_is_not_there_is_named() -> None:
    async with open_bench(MailServer()) as bench:
        outcome = await ended(bench, security="starttls", ca_file="/nowhere/ca.pem")
    assert isinstance(outcome, HoldRoute)
    assert "ca_file /nowhere/ca.pem" in outcome.reason


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"from": "Shop <shop@example.test>"}, "plain address"),
        ({"to": ["a@example.test", "b@example.test\r\nRCPT TO:<x@evil.test>"]}, "plain address"),
        ({"to": []}, "at least 1"),
        ({"to": ["müller@example.test"]}, "plain address"),
        ({"to": ["taro..yamada@docomo.ne.jp"]}, "plain address"),
        ({"from": "=?utf-8?q?a?=@example.test"}, "plain address"),
        ({"username": "hub"}, "belong together"),
        ({"password": "canary"}, "belong together"),
        ({"security": "ssl", "password": "canary"}, "starttls"),
        ({"message_id_domain": "a b"}, "pattern"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        mailer(587, **wrong)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", ["a@b.test", "first.last+tag@sub.example.test", "o'neil@example.test"])
def test_addresses(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", ["", "a", "@b", "a@", "a@b@c", "a b@c", "<a@b>", "a@b,c@d", 'a"@b', "a@b\n", "ä@b"])
def test_what_is_no_address(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    "text",
    ["taro..yamada@docomo.ne.jp", ".@x.y", "a@x.y.", "a@x..y", "a.@x.y", "=?utf-8?q?a?=@x.y", "a@=?utf-8?q?b?="],
)
def test_what_a_header_cannot_hold_is_no_address(text: str) -> None:
    """email.headerregistry refuses each in a way of its own; as a setting or a reply_to it must not get that far."""
    assert not is_address(text)


async def test_right_to_left_text_turns_nothing_around_it() -> None:
    name = "\u202e\u2067דנה\u202c"
    mail = await mailed(event_of(sample("order.placed", orderNo=7, total=5, customer={"name": name})))
    assert mail.message["Subject"] == "New order 7 from \u2068דנה\u2069: 5.00 EUR"
    assert "Customer: דנה" in part(mail, "plain").splitlines()
    assert '<td dir="auto" style="padding:6px 0">דנה</td>' in part(mail, "html")


def test_a_subject_keeps_isolates_only_in_pairs() -> None:
    assert header_text("a \u2068דנה\u2069 b") == "a \u2068דנה\u2069 b"
    assert header_text("a \u2068דנה b") == "a דנה b"
