"""What an event is: signature, parsing, entity, keys."""

import hashlib
import hmac
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.errors import NotAnEvent
from hub.event import (
    EVENT_TYPES,
    MOST_CONTAINERS,
    MOST_VALUES,
    SigningKey,
    content_hash,
    dedupe_key,
    depth_of,
    entity_of,
    parse,
    search_keys,
    verify,
)

SECRET = "a webhook secret of the shop"
KEYS = (SigningKey.of(SECRET), SigningKey.of("the secret before it"))
VECTORS = json.loads((Path(__file__).parent / "signatures.json").read_text())
NODE = """
const crypto = require('crypto')
const input = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const sign = body => crypto.createHmac('sha256', input.secret).update(body).digest('hex')
console.log(JSON.stringify(input.bodies.map(sign)))
"""


def sign(body: bytes, secret: str = SECRET) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()


def body_of(kind: str = "order.placed", data: Any = None, timestamp: Any = "2024-01-15T10:30:00Z") -> bytes:
    return orjson.dumps({"event": kind, "data": {"orderId": "ord_1"} if data is None else data, "timestamp": timestamp})


@given(st.binary(max_size=2000))
def test_a_signed_body_verifies_under_each_active_secret(body: bytes) -> None:
    for key, secret in zip(KEYS, (SECRET, "the secret before it"), strict=True):
        assert verify(body, sign(body, secret), KEYS) == key.fingerprint


@given(st.binary(max_size=300), st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode()))
def test_no_other_signature_does(body: bytes, signature: bytes) -> None:
    if signature != sign(body):
        assert verify(body, signature, KEYS[:1]) is None


@pytest.mark.parametrize(
    "change",
    [
        bytes.upper,
        lambda s: b" " + s,
        lambda s: s + b" ",
        lambda s: s[:-1],
        lambda s: s + b"0",
        lambda s: b"sha256=" + s,
    ],
)
def test_only_64_lower_case_hex_digits_are_a_signature(change: Any) -> None:
    body = body_of()
    assert verify(body, change(sign(body)), KEYS) is None


def test_vectors_recorded_from_node() -> None:
    for body, expected in zip(VECTORS["bodies"], VECTORS["signatures"], strict=True):
        assert sign(body.encode(), VECTORS["secret"]).decode() == expected
        assert verify(body.encode(), expected.encode(), (SigningKey.of(VECTORS["secret"]),)) is not None


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not here; the recorded vectors are tested always")
def test_node_signs_as_we_do() -> None:
    given_bodies = {"secret": VECTORS["secret"], "bodies": VECTORS["bodies"]}
    answer = subprocess.run(
        ["node", "-e", NODE], input=json.dumps(given_bodies), capture_output=True, text=True, check=True, timeout=30
    )
    assert json.loads(answer.stdout) == VECTORS["signatures"]


@given(st.binary(max_size=400))
def test_any_bytes_parse_or_are_refused(body: bytes) -> None:
    try:
        parse(body)
    except NotAnEvent as refusal:
        assert refusal.status in {400, 422}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["event", "data", "timestamp", "id", "x"]), JSON))
def test_any_json_parses_or_is_refused_and_is_read_whole(document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    try:
        parsed = parse(body)
    except NotAnEvent as refusal:
        assert refusal.status in {400, 422}
        return
    content_hash(parsed)
    dedupe_key(parsed, body)
    search_keys(parsed.type, parsed.entity, parsed.document["data"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b'{"event": "a", "data": {"x": NaN}, "timestamp": "2024-01-15T10:30:00Z"}', 400),
        (b'{"event": "\xff"}', 400),
        (b"[" * 20_000, 400),
        (b"1" * 5000, 400),
        (b'{"event": "\\ud800"}', 400),
        (b"[]", 422),
        (b"{}", 422),
        (body_of(kind=""), 422),
        (body_of(kind="x" * 201), 422),
        (body_of(kind="a\x00b"), 422),
        (body_of(kind="hub.refused"), 422),
        (body_of(data=[]), 422),
        (body_of(data={"orderId": "x" * 257}), 422),
        (body_of(data={"orderId": "a\nb"}), 422),
        (body_of(timestamp="yesterday"), 422),
        (body_of(timestamp=None), 422),
        (body_of(timestamp="0001-01-01T00:00:00+14:00"), 422),
        (b'{"event":"a","data":{"x":' + b"[" * 200 + b"]" * 200 + b'},"timestamp":"2024-01-15T10:30:00Z"}', 422),
    ],
)
def test_what_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(NotAnEvent) as refused:
        parse(body)
    assert refused.value.status == status
    assert status == 400 or refused.value.details


def test_unknown_types_are_kept() -> None:
    assert parse(body_of(kind="shipment.lost", data={"shipmentId": 7})).entity == "shipment:7"


def test_a_time_without_zone_is_utc() -> None:
    assert parse(body_of(timestamp="2024-01-15T10:30:00")).occurred_at == parse(body_of()).occurred_at
    assert parse(body_of(timestamp="2024-01-15T16:00:00+05:30")).occurred_at == parse(body_of()).occurred_at


@pytest.mark.parametrize(
    ("kind", "data", "entity"),
    [
        ("order.placed", {"orderId": "ord_1", "customerId": "c"}, "order:ord_1"),
        ("order.updated", {"id": 17}, "order:17"),
        ("order.updated", {"order": {"id": "o"}}, "order:o"),
        ("payment.completed", {"id": "pay_1", "orderId": "ord_1"}, "order:ord_1"),
        ("payment.completed", {"id": "pay_1"}, "payment:pay_1"),
        ("customer.registered", {"userId": "u"}, "customer:u"),
        ("inventory.low", {"productId": "p", "sku": "KET-1"}, "inventory:KET-1"),
        ("product.created", {}, None),
        ("product.created", {"id": True}, None),
    ],
)
def test_what_an_event_is_about(kind: str, data: dict[str, Any], entity: str | None) -> None:
    assert entity_of(kind, data) == entity


def key_of(body: bytes, field: str | None = None) -> bytes:
    return dedupe_key(parse(body), body, field)


@given(st.sampled_from(EVENT_TYPES), st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3))
def test_equal_bytes_have_equal_keys(kind: str, data: dict[str, int]) -> None:
    body = body_of(kind, data)
    assert key_of(body) == key_of(bytes(bytearray(body)))


def test_what_happens_once_is_known_by_its_entity() -> None:
    assert key_of(body_of()) == key_of(body_of(timestamp="2024-01-15T10:31:00Z"))
    assert key_of(body_of()) != key_of(body_of(data={"orderId": "ord_2"}))
    assert key_of(body_of("order.updated")) != key_of(body_of("order.updated", timestamp="2024-01-15T10:31:00Z"))


def test_a_configured_id_is_the_strictest_key() -> None:
    one = b'{"id": "dlv-1", ' + body_of("order.updated")[1:]
    two = b'{"id": "dlv-1", ' + body_of("order.updated", timestamp="2025-01-15T10:30:00Z")[1:]
    assert key_of(one, "id") == key_of(two, "id")
    assert key_of(one) != key_of(two)


def test_a_restamped_repeat_has_the_same_content() -> None:
    one, two = parse(body_of()), parse(body_of(timestamp="2024-01-16T10:30:00Z").replace(b":", b" : ", 1))
    assert content_hash(one) == content_hash(two)
    assert content_hash(one) != content_hash(parse(body_of(data={"orderId": "ord_1", "total": 1})))


def test_search_keys_leave_out_what_cannot_be_indexed() -> None:
    data = {
        "orderId": "ord_1", "orderNo": 1042, "email": "Asha@Example.test", "customerId": "x" * 300,
        "paymentId": "a\x00b", "items": [{"sku": "KET-1"}, {"sku": 7}, "no item"],
    }  # fmt: skip
    assert search_keys("order.placed", "order:ord_1", data) == {
        ("order", "ord_1"), ("number", "1042"), ("email", "asha@example.test"), ("sku", "KET-1"), ("sku", "7"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("piece", "most"), [("[],", MOST_CONTAINERS - 3), ("{},", MOST_CONTAINERS - 3), ("0,", MOST_VALUES - 3)]
)
def test_a_body_of_too_many_values_is_refused_before_it_is_read(piece: str, most: int) -> None:
    """S10: it would cost much memory. What comes just below is an event like any other."""

    def body(count: int, end: str) -> bytes:
        return f'{{"event":"a","timestamp":"2024-01-15T10:30:00Z","data":{{"id":1,"x":[{piece * count}0]{end}'.encode()

    assert parse(body(most, "}}")).type == "a"
    for end in ("}}", "not JSON"):
        with pytest.raises(NotAnEvent, match="20,000 arrays and objects or 80,000 values") as refused:
            parse(body(most + 1, end))
        assert refused.value.status == 422


@given(st.lists(JSON) | st.dictionaries(st.text(max_size=8), JSON))
@example([[], [[]], {"": "[[["}])
def test_the_depth_is_that_of_the_deepest(document: Any) -> None:
    def depth(value: Any) -> int:
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if members is None else 1 + max(map(depth, members), default=0)

    assert depth_of(document) == depth(document)
