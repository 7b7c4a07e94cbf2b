"""The mail connector: the kit over STARTTLS, the message itself, and what each reply of a server leads to."""

import ssl
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.email import Email
from connectors.mail_message import Envelope, build, is_address, message_id
from hub.connector import Event
from hub.errors import HoldRoute, Outcome, Rejected, TryAgain
from hub.outcome import outcome_of
from hub.testing import EVENT_TYPES, event_of, open_bench, sample
from hub.testing.conformance import TIMEOUT, Bench
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
        assert mail.message["Subject"].split(":")[0] in text


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


async def test_a_reply_to_that_is_no_address_is_refused_before_anything_is_sent() -> None:
    async with open_bench(MailServer()) as bench:
        outcome = await ended(bench, reply_to="{{ data.orderId }}")
        assert bench.counterpart.visits == []
    assert isinstance(outcome, Rejected)
    assert "reply_to" in outcome.reason


LINE_ENDS = "\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00\x1b"


async def test_no_value_can_add_a_header_or_a_recipient() -> None:
    """Each character that some parser takes for the end of a line, where a value reaches a header."""
    for number, character in enumerate(LINE_ENDS):
        name = f"A{character}Bcc: x{number}@evil.test{character}{character}body"
        data: dict[str, Any] = {"orderNo": name, "customer": {"name": name, "email": name}, "orderId": name}
        mail = await mailed(event_of(sample("order.placed", **data)), from_name=name)
        assert set(mail.message.keys()) == HEADERS
        assert mail.to == ("ops@example.test",)
        assert "A Bcc: x" in mail.message["Subject"]


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
        ("CONNECT", "554 5.7.1 go away", Rejected, None),
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
