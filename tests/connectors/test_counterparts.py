"""The counterparts keep their promises too: tests lean on them."""

import asyncio
import hashlib
import hmac
import time
from decimal import Decimal

import aiosmtplib
import httpx
import pytest

from hub.event import SigningKey, parse, verify
from hub.testing import EVENT_TYPES, Answer, HttpSink, Inbox, SlackServer, StoreDouble, event_of, sample, sign
from hub.testing.samples import SIGNATURE_HEADER, to_bytes
from hub.testing.smtp import MailServer
from tests.servers import PATIENCE

SECRET = "a-secret-of-the-store"


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=PATIENCE, trust_env=False)


async def test_the_sink_keeps_what_it_got() -> None:
    async with HttpSink() as sink, client() as http:
        answer = await http.put(sink.url + "/a?b=1", content=b"\x00\xff", headers={"Idempotency-Key": "k1", "X-A": "b"})
        (request,) = await sink.wait(1, PATIENCE)
    assert (answer.status_code, answer.text) == (200, "ok")
    assert (request.method, request.path, request.body, request.key) == ("PUT", "/a?b=1", b"\x00\xff", "k1")
    assert request.headers["x-a"] == "b"


async def test_answers_are_given_in_turn_then_the_default() -> None:
    async with HttpSink(Answer(503, b"", {"Retry-After": "3"}), default=Answer(204, b"")) as sink, client() as http:
        sink.answer(Answer(201, b"made"))
        answers = [await http.post(sink.url) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503, 201, 204, 204]
    assert answers[0].headers["retry-after"] == "3"
    assert answers[1].text == "made"


async def test_drop_hang_and_slow() -> None:
    async with HttpSink(Answer(drop=True), Answer(hang=True), Answer(wait=0.2), Answer(drip=0.05)) as sink:
        async with client() as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(sink.url, content=b"dropped")
            hanging = asyncio.create_task(http.post(sink.url))
            await sink.wait(2, PATIENCE)
            await asyncio.wait({hanging}, timeout=0.2)
            assert not hanging.done()
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)
            began = time.monotonic()
            assert (await http.post(sink.url)).text == "ok"
            assert time.monotonic() - began >= 0.2
            began = time.monotonic()
            assert (await http.post(sink.url)).text == "ok"
            assert time.monotonic() - began >= 0.05
        assert sink.received[0].body == b"dropped"
        assert len(sink.received) == 4


async def test_the_sink_sees_one_key_open_twice() -> None:
    async with HttpSink(Answer(hang=True), Answer()) as sink, client() as http:
        first = asyncio.create_task(http.post(sink.url, headers={"Idempotency-Key": "same"}))
        await sink.wait(1, PATIENCE)
        await http.post(sink.url, headers={"Idempotency-Key": "same"})
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await http.post(sink.url, headers={"Idempotency-Key": "alone"})
    assert sink.overlaps == {"same"}


async def test_waiting_ends_with_the_count_that_came() -> None:
    inbox: Inbox[str] = Inbox()
    await inbox.add("one")
    with pytest.raises(TimeoutError, match=r"1 arrived in 0.05 s; 2 were awaited"):
        await inbox.wait(2, timeout=0.05)
    assert await inbox.until(lambda items: "one" in items) == ["one"]


async def test_a_sink_can_come_back_at_its_port() -> None:
    async with HttpSink() as sink, client() as http:
        port = sink.port
        await http.post(sink.url)
    async with HttpSink(port=port) as sink, client() as http:
        assert (await http.post(sink.url)).status_code == 200
    async with client() as http:
        with pytest.raises(httpx.ConnectError):
            await http.post(sink.url)


@pytest.mark.parametrize("type_", EVENT_TYPES)
def test_samples_are_events_with_fresh_ids(type_: str) -> None:
    first, second = sample(type_), sample(type_)
    parsed = parse(to_bytes(first))
    assert parsed.type == type_
    assert parsed.entity is not None
    assert parsed.entity != parse(to_bytes(second)).entity


def test_samples_take_overrides_and_go_beyond_ascii() -> None:
    document = sample("order.placed", timestamp="2024-01-15T10:30:00Z", total=5, note="x")
    assert document["timestamp"] == "2024-01-15T10:30:00Z"
    assert (document["data"]["total"], document["data"]["note"]) == (5, "x")
    texts = "".join(to_bytes(sample(type_)).decode() for type_ in EVENT_TYPES for _ in range(4))
    assert not texts.isascii()


def test_the_event_of_a_sample_holds_its_data() -> None:
    event = event_of(sample("order.placed", orderId="ord_1", total=Decimal("99.90")))
    assert event.entity == "order:ord_1"
    assert event.data["total"] == Decimal("99.9")


def test_the_signature_is_what_the_hub_verifies() -> None:
    body = to_bytes(sample("customer.registered"))
    signed = sign(body, SECRET)
    assert signed == hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert verify(body, signed.encode(), [SigningKey.of(SECRET)])


async def test_the_store_signs_repeats_and_forges() -> None:
    async with HttpSink() as hub, StoreDouble(hub.url + "/webhooks/main", SECRET) as store:
        assert (await store.send("order.placed", orderNo=1)).status_code == 200
        await store.resend()
        await store.send_wrongly_signed("order.placed")
        await store.post(b"{}", signature="", headers={"X-Delivery-Id": "d1"})
        await store.post(b"{}", signature=b"\xff")
        first, again, forged, unsigned, odd = hub.received
    keys = [SigningKey.of(SECRET)]
    assert verify(first.body, first.headers[SIGNATURE_HEADER].encode(), keys)
    assert (first.body, first.headers[SIGNATURE_HEADER]) == (again.body, again.headers[SIGNATURE_HEADER])
    assert verify(forged.body, forged.headers[SIGNATURE_HEADER].encode(), keys) is None
    assert SIGNATURE_HEADER not in unsigned.headers
    assert unsigned.headers["x-delivery-id"] == "d1"
    assert (SIGNATURE_HEADER.encode().lower(), b"\xff") in [(name.lower(), value) for name, value in odd.headers.raw]
    assert [posted.body for posted in store.posted] == [request.body for request in hub.received]


async def test_slack_takes_what_its_documentation_allows() -> None:
    async with SlackServer() as slack, client() as http:
        good = await http.post(slack.webhook_url, json={"text": "hello"})
        broken = await http.post(slack.webhook_url, content=b"{")
        listed = await http.post(slack.webhook_url, json={"text": "t", "blocks": "x"})
        bot = {"Authorization": f"Bearer {slack.token}"}
        posted = await http.post(
            slack.api_url + "/chat.postMessage", json={"channel": "C0123456", "text": "t"}, headers=bot
        )
        formed = await http.post(slack.api_url + "/chat.postMessage", data={"channel": "C0123456"}, headers=bot)
        nobody = await http.post(slack.api_url + "/auth.test")
    assert (good.status_code, good.text) == (200, "ok")
    assert (broken.status_code, broken.text) == (400, "invalid_payload")
    assert (listed.status_code, listed.text) == (400, "invalid_blocks_format")
    assert posted.json()["ok"] is True
    assert posted.json()["ts"] == slack.messages[1].ts
    assert formed.json() == {"ok": False, "error": "invalid_json"}
    assert nobody.json() == {"ok": False, "error": "not_authed"}
    assert [message.channel for message in slack.messages] == [None, "C0123456"]


async def test_the_mail_server_keeps_mails_and_closes_with_a_visitor_inside() -> None:
    async with MailServer() as server:
        smtp = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port, start_tls=False, local_hostname="t")
        await smtp.connect()
        refused, _ = await smtp.sendmail("a@x.test", ["b@x.test", "c@x.test"], "Subject: caf=C3=A9\r\n\r\n.dot\r\n")
        (mail,) = await server.wait(1, PATIENCE)
    smtp.close()
    assert not refused
    assert (mail.sender, mail.to, mail.user) == ("a@x.test", ("b@x.test", "c@x.test"), None)
    assert mail.message["Subject"] == "caf=C3=A9"
    assert mail.content.endswith(b"\r\n\r\n.dot\r\n")
