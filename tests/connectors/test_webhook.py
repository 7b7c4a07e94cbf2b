"""The webhook connector: the kit, what it sends, and how it signs."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.webhook import Webhook, event_as_json, signature
from hub.connector import Event, Secret, TryAgain
from hub.deliver import attempt
from hub.errors import HoldRoute
from hub.outcome import outcome_of
from hub.testing import Answer, ConnectorTests, HttpSink, event_of, open_bench, sample
from tests.hubdb import open_lab, route

TLS = Path(__file__).parent / "tls"


class TestWebhook(ConnectorTests):
    connector_class = Webhook
    changing_headers = frozenset({"webhook-timestamp", "webhook-signature"})

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "url": f"{url}/hooks/canary-in-the-path",
            "headers": {"Authorization": "Bearer canary-in-a-header"},
            "signing_secrets": ["whsec_Y2FuYXJ5LWluLWEtc2lnbmluZy1zZWNyZXQ=", "canary-plain-signing-secret"],
        }


def webhook(url: str, **settings: Any) -> Webhook:
    return Webhook(Webhook.Settings.model_validate({"url": url, **settings}))


def event_with(body: str) -> Event:
    moment = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    return Event("evt_1", "main", "order.placed", "order:ord_1", moment, moment, body.encode())


async def test_the_body_is_the_event_and_the_key_its_id() -> None:
    async with open_bench(HttpSink()) as bench:
        event = event_of(sample("order.placed", orderId="ord_Ωmega"))
        receipt = await webhook(bench.url + "/in").deliver(event, bench.context(event))
        request = bench.counterpart.received[0]
    sent = request.json()
    assert set(sent) == {"id", "type", "store", "entity", "timestamp", "data"}
    assert (sent["id"], sent["entity"], sent["data"]) == (event.id, "order:ord_Ωmega", json.loads(event.body)["data"])
    assert (request.method, request.path) == ("POST", "/in")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == request.headers["webhook-id"] == bench.key
    assert "webhook-signature" not in request.headers
    assert receipt.text == "127.0.0.1 answered 200"
    assert receipt.answer == "ok"


def test_data_keeps_the_stores_own_numbers_and_spelling() -> None:
    data = '{"total": 99.90, "big": 12345678901234567890123, "tiny":1E-400, "n":"\\u00e9 \\ud83d\\ude00", "a":[ 1 ,2]}'
    body = event_as_json(event_with(f'{{"event":"order.placed", "data" : {data} ,"timestamp":"2024-01-15T10:30:00Z"}}'))
    assert body.decode().endswith(f'"timestamp": "2024-01-15T10:30:00Z", "data": {data}}}')


def test_of_two_data_the_last_counts_as_for_every_parser() -> None:
    body = event_as_json(event_with('{"data":{"a":1},"data":{"a":2}}'))
    assert json.loads(body)["data"] == {"a": 2}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    data=st.dictionaries(st.text(), JSON_VALUES, max_size=5),
    others=st.dictionaries(st.text(), JSON_VALUES, max_size=3),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
)
def test_any_data_arrives_as_it_was(
    data: dict[str, Any], others: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    document = {**others, "data": data, "timestamp": "2024-01-15T10:30:00Z"}
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    assert json.loads(event_as_json(event_with(body)))["data"] == data


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example that the Standard Webhooks libraries share."""
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


OLD_AND_NEW = (b"an old secret of 24 bytes", b"a plain secret, and a new one")
OLD = "whsec_" + base64.b64encode(OLD_AND_NEW[0]).decode()


async def test_it_signs_with_every_secret() -> None:
    async with open_bench(HttpSink()) as bench:
        event = event_of(sample("order.placed"))
        connector = webhook(bench.url, signing_secrets=[OLD, "a plain secret, and a new one"])
        await connector.deliver(event, bench.context(event))
        request = bench.counterpart.received[0]
    moment = request.headers["webhook-timestamp"]
    assert abs(int(moment) - request.at.timestamp()) < 30
    signed = f"{bench.key}.{moment}.".encode() + request.body
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in OLD_AND_NEW]
    expected = " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)
    assert request.headers["webhook-signature"] == expected


async def test_it_signs_at_the_hubs_time_and_not_the_machines() -> None:
    async with open_bench(HttpSink()) as bench:
        bench.now = lambda: datetime(2031, 2, 3, 4, 5, 6, 700_000, tzinfo=UTC)
        event = event_of(sample("order.placed"))
        await webhook(bench.url, signing_secrets=[OLD]).deliver(event, bench.context(event))
        request = bench.counterpart.received[0]
    moment = int(datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp())
    assert request.headers["webhook-timestamp"] == str(moment)
    assert request.headers["webhook-signature"] == signature(Secret(OLD), bench.key, moment, request.body)


async def test_a_hub_whose_machines_clock_is_off_signs_at_the_time_it_goes_by(tmp_path: Path) -> None:
    async with HttpSink() as sink:
        settings = {"connector": "webhook", "settings": {"url": sink.url, "signing_secrets": [OLD]}}
        allow = {"allow": [f"127.0.0.1:{sink.port}"]}
        async with open_lab(
            tmp_path, f"sqlite:///{tmp_path}/hub.db", {"one": route() | settings}, network=allow
        ) as lab:
            await lab.order()
            lab.later(40_000)
            assert await attempt(lab.hub, lab.line("one"), await lab.claim_one("one", limit=1)) == "delivered"
        (request,) = sink.received
    ahead = int(request.headers["webhook-timestamp"]) - request.at.timestamp()
    assert 39_900 < ahead < 40_001


def test_a_secret_in_base64_may_come_without_its_padding() -> None:
    padded = Secret(f"whsec_{base64.b64encode(b'x' * 25).decode()}")
    bare = Secret(padded.reveal().rstrip("="))
    assert padded != bare
    assert signature(bare, "msg_1", 1, b"body") == signature(padded, "msg_1", 1, b"body")


@pytest.mark.parametrize("charset", ["base64", "rot13", "idna", "undefined", "nonsense"])
async def test_an_answer_whose_charset_decodes_nothing_is_a_success_all_the_same(charset: str) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    async with open_bench(HttpSink(Answer(200, b"fine, \xff", headers))) as bench:
        event = event_of(sample("order.placed"))
        receipt = await webhook(bench.url).deliver(event, bench.context(event))
        assert receipt.effects == {"sent": bench.key}
    assert (receipt.answer or "").startswith("fine, ")


async def test_method_headers_and_body_are_as_configured() -> None:
    async with open_bench(HttpSink()) as bench:
        event = event_of(sample("inventory.low", sku="KET-1", stock=2))
        connector = webhook(
            bench.url + "/stock?key=1",
            method="PUT",
            headers={"X-Api-Key": "abc"},
            body="{{ data.sku }};{{ data.stock }}",
            content_type="text/csv",
        )
        preview = await connector.preview(event, bench.context(event))
        await connector.deliver(event, bench.context(event))
        request = bench.counterpart.received[0]
    assert (request.method, request.path, request.body) == ("PUT", "/stock?key=1", b"KET-1;2")
    assert (request.headers["x-api-key"], request.headers["content-type"]) == ("abc", "text/csv")
    assert (preview.title, preview.body, preview.content_type) == ("PUT to 127.0.0.1", "KET-1;2", "text/csv")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_tried_again(status: int) -> None:
    answer = Answer(status, b"", {"Location": "/elsewhere"})
    async with open_bench(HttpSink(answer)) as bench:
        event = event_of(sample("order.placed"))
        with pytest.raises(Exception, match=str(status)) as caught:
            await webhook(bench.url).deliver(event, bench.context(event))
        assert isinstance(outcome_of(caught.value, datetime.now(UTC)), TryAgain)
        assert len(bench.counterpart.received) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"url": "ftp://canary.example/x"}, "whole address"),
        ({"url": "canary.example/x"}, "whole address"),
        ({"url": "http://canary.example:99999/"}, "whole address"),
        ({"url": "http://canary.example/a b"}, "whole address"),
        ({"headers": {"Webhook-Id": "canary"}}, "set by the connector itself"),
        ({"headers": {"Content-Length": "canary"}}, "set by the connector itself"),
        ({"headers": {"a b": "canary"}}, "no header name"),
        ({"headers": {"X": "canary\r\nX-Evil: 1"}}, "printable ASCII"),
        ({"content_type": "text/plain\r\nX-Evil: 1"}, "printable ASCII"),
        ({"signing_secrets": ["whsec_canary!"]}, "base64"),
        ({"signing_secrets": ["whsec_canar\u00e9"]}, "base64"),
        ({"signing_secrets": ["whsec_"]}, "at least 24 bytes"),
        ({"signing_secrets": ["whsec_Y2FuYXJ5"]}, "at least 24 bytes"),
        ({"signing_secrets": ["whsec_Y2FuYXJ5LWluLWEtc2lnbmlu"]}, "at least 24 bytes"),
        ({"signing_secrets": ["canary"]}, "at least 24 bytes"),
        ({"methd": "POST"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_named_and_their_values_are_not(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Webhook.Settings.model_validate({"url": "https://hooks.example/x", **wrong})
    assert "canary" not in str(caught.value)


async def test_check_tells_who_is_gone() -> None:
    async with open_bench(HttpSink(), listening=False) as bench:
        ctx = bench.context(event_of(sample("order.placed")))
        with pytest.raises(TryAgain, match=r"no connection to 127\.0\.0\.1:\d+") as caught:
            await webhook(bench.url).check(ctx)
        assert caught.value.destination


@contextlib.asynccontextmanager
async def https_place() -> AsyncIterator[str]:
    """A server that completes TLS handshakes with a certificate that only our own CA vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_check_looks_at_the_certificate() -> None:
    async with open_bench(HttpSink()) as bench, https_place() as place:
        with pytest.raises(HoldRoute, match=r"certificate of 127\.0\.0\.1 is not trusted"):
            await webhook(place).check(bench.context(event_of(sample("order.placed"))))


async def test_check_over_a_trusted_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    async with open_bench(HttpSink()) as bench, https_place() as place:
        told = await webhook(place).check(bench.context(event_of(sample("order.placed"))))
    assert "can be reached" in told


async def test_check_of_https_where_plain_http_is_spoken() -> None:
    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with open_bench(HttpSink()) as bench, server:
        place = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(TryAgain, match=r"no TLS with 127\.0\.0\.1: \w+"):
            await webhook(place).check(bench.context(event_of(sample("order.placed"))))
