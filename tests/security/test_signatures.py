"""Nothing is taken that its store's secret has not signed, whatever stands in the place of a signature."""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.event import SigningKey, verify
from hub.store import EVENT
from hub.testing.samples import SIGNATURE_HEADER, sample, sign, to_bytes
from tests import hubdb
from tests.hubdb import SECRET, Lab, document, open_lab, served
from tests.security.wire import Client, request
from tests.whole import WHOLE

shared_url, database_url = hubdb.shared_url, hubdb.database_url

BODY = to_bytes(document(orderId="ord_1"))
RIGHT = sign(BODY, SECRET).encode()
NEW_SECRET = "the webhook secret that comes after it"
MIB = 1024 * 1024
CASES = 10_000 if WHOLE else 2_000
CLIENTS = 8


# ---- S01: what stands in the place of a signature

FULL_WIDTH = str.maketrans("0123456789abcdef", "０１２３４５６７８９ａｂｃｄｅｆ")
NAMED: dict[str, list[bytes]] = {
    "missing": [],
    "empty": [b""],
    "upper case": [RIGHT.upper()],
    "one letter in upper case": [re.sub(rb"[a-f]", lambda found: found[0].upper(), RIGHT, count=1)],
    "a space inside": [RIGHT[:32] + b" " + RIGHT[32:]],
    "spaces between bytes": [b" ".join(RIGHT[at : at + 2] for at in range(0, 64, 2))],
    "a space for the last digit": [RIGHT[:63] + b" "],
    "a tab inside": [RIGHT[:2] + b"\t" + RIGHT[2:]],
    "latin-1": [b"\xff" * 64],
    "one byte beyond ASCII": [b"\xff" + RIGHT[1:]],
    "full-width digits": [RIGHT.decode().translate(FULL_WIDTH).encode()],
    "63 digits": [RIGHT[:63]],
    "65 digits": [RIGHT + b"0"],
    "named": [b"sha256=" + RIGHT],
    "as a version": [b"v1=" + RIGHT],
    "quoted": [b'"' + RIGHT + b'"'],
    "base64": [b"q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="],
    "two equal": [RIGHT, RIGHT],
    "right and wrong": [RIGHT, b"0" * 64],
    "wrong and right": [b"0" * 64, RIGHT],
    "a list": [RIGHT + b", " + RIGHT],
    "zeros": [b"0" * 64],
    "of another secret": [sign(BODY, NEW_SECRET).encode()],
    "of another body": [sign(BODY + b"\n", SECRET).encode()],
    "reversed": [RIGHT[::-1]],
    "60 kB": [b"0" * 60_000],
    "1 MB": [b"0" * MIB],
    "a NUL": [RIGHT[:63] + b"\0"],
    "a line end": [RIGHT[:63] + b"\r"],
}
BOUNDED = {"1 MB": 431, "a NUL": 400, "a line end": 400}
"""Where not a 401: what ends the connection, since nothing after it can be trusted."""


@asynccontextmanager
async def receiving(folder: Path, **config: Any) -> AsyncIterator[tuple[Lab, str]]:
    async with open_lab(folder, f"sqlite:///{folder}/hub.db", **config) as lab, served(lab.hub) as url:
        yield lab, url


async def test_s01_every_form_that_is_none(tmp_path: Path) -> None:
    """S01: each known slip and trick over HTTP; the right one beside them is taken."""
    async with receiving(tmp_path) as (lab, url):
        client = Client(url)
        found = {name: await client.status(request(given, BODY)) for name, given in NAMED.items()}
        assert found == {name: BOUNDED.get(name, 401) for name in NAMED}
        assert await lab.rows(EVENT) == []
        assert await client.status(request([RIGHT], BODY)) == 200
        client.close()


CHANGES: list[Callable[[random.Random, bytes], bytes]] = [
    lambda chance, given: given[: chance.randint(0, len(given))],
    lambda chance, given: given + chance.randbytes(chance.randint(1, 3)),
    lambda chance, given: chance.choice([b" ", b"\t", b"sha256=", b"0x", b"v1,", b'"']) + given,
    lambda chance, given: given.swapcase(),
    lambda chance, given: put(chance, given, chance.choice(b"0123456789abcdef")),
    lambda chance, given: put(chance, given, chance.randrange(256)),
    lambda chance, given: given.decode("latin-1").translate(FULL_WIDTH).encode(),
    lambda chance, given: chance.randbytes(64),
    lambda chance, given: bytes(chance.choices(b"0123456789abcdef", k=64)),
    lambda chance, given: bytes(chance.choices(b"0123456789abcdefABCDEF =,", k=chance.randint(0, 130))),
]


def put(chance: random.Random, given: bytes, byte: int) -> bytes:
    """One byte in the place of another."""
    at = chance.randint(0, len(given))
    return given[:at] + bytes([byte]) + given[at + 1 :]


def made_up(chance: random.Random) -> list[bytes]:
    """What somebody may send for a signature: the right one after some changes, once or more often."""
    found = []
    for _ in range(chance.choice([1, 1, 1, 2])):
        given = RIGHT
        for change in chance.choices(CHANGES, k=chance.randint(1, 3)):
            given = change(chance, given)
        found.append(given)
    return found


def is_right(signatures: list[bytes]) -> bool:
    """What HTTP takes for the right one: spaces around a value are not part of it."""
    return len(signatures) == 1 and signatures[0].strip(b" \t") == RIGHT


async def test_s01_thousands_of_made_up_ones(tmp_path: Path) -> None:
    """S01: no 2xx, no 5xx: 401, or 400 where the bytes are no header."""
    chance = random.Random(401)
    cases = [given for given in (made_up(chance) for _ in range(CASES)) if not is_right(given)]
    assert len(cases) > 0.9 * CASES
    found: Counter[int] = Counter()

    async def send(part: list[list[bytes]]) -> None:
        client = Client(url)
        for given in part:
            found[await client.status(request(given, BODY))] += 1
        client.close()

    async with receiving(tmp_path) as (lab, url):
        await asyncio.gather(*(send(cases[number::CLIENTS]) for number in range(CLIENTS)))
        assert found.total() == len(cases)
        assert set(found) == {400, 401}
        assert found[401] > found[400]
        assert await lab.rows(EVENT) == []


# ---- S02: a body of which a bit is another

BODIES = [
    BODY,
    to_bytes(sample("order.updated", note="Zoë, 東京 <b>")),
    to_bytes({"event": "inventory.low", "data": {"sku": "A", "stock": 0}, "timestamp": hubdb.NOON}) + b" \n",
]


@pytest.mark.parametrize("body", BODIES, ids=["small", "an order", "with spaces"])
def test_s02_no_bit_of_a_body_may_change(body: bytes) -> None:
    """S02: each of the 8 × length bodies that differ by one bit, at the function that decides."""
    keys = (SigningKey.of(SECRET), SigningKey.of(NEW_SECRET))
    signature = sign(body, SECRET).encode()
    assert verify(body, signature, keys) is not None
    for altered in altered_bits(body):
        assert verify(altered, signature, keys) is None


def altered_bits(body: bytes) -> list[bytes]:
    found = []
    for position in range(len(body) * 8):
        altered = bytearray(body)
        altered[position // 8] ^= 1 << position % 8
        found.append(bytes(altered))
    return found


async def test_s02_nor_over_http(tmp_path: Path) -> None:
    """S02: one bit in each seventh place, and bytes added and left out at the end."""
    async with receiving(tmp_path) as (lab, url):
        client = Client(url)
        for body in BODIES:
            right = [sign(body, SECRET).encode()]
            for altered in [*altered_bits(body)[::7], body + b" ", body[:-1], b"", b" " + body]:
                assert await client.status(request(right, altered)) == 401
        client.close()
        assert await lab.rows(EVENT) == []


# ---- S07, S08: whose secret


async def test_s07_what_one_store_signed_is_nothing_to_another(tmp_path: Path, database_url: str) -> None:
    """S07: store A's body with its right signature at store B's address is refused; at its own it is taken."""
    stores = {
        "main": {"url": "http://shop.test", "webhook_secrets": [SECRET]},
        "other": {"url": "http://shop.test", "webhook_secrets": [NEW_SECRET]},
    }
    async with open_lab(tmp_path, database_url, stores=stores) as lab, served(lab.hub) as url:
        signed = {"main": sign(BODY, SECRET), "other": sign(BODY, NEW_SECRET)}
        found = {
            (signer, store): await posted(url, store, BODY, signature)
            for signer, signature in signed.items()
            for store in stores
        }
        assert found == {
            ("main", "main"): 200, ("main", "other"): 401, ("other", "main"): 401, ("other", "other"): 200,
        }  # fmt: skip
        assert sorted((row.store, bytes(row.body)) for row in await lab.rows(EVENT)) == [
            ("main", BODY),
            ("other", BODY),
        ]


async def posted(url: str, store: str, body: bytes, signature: str) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(f"{url}/webhooks/{store}", content=body, headers={SIGNATURE_HEADER: signature})
        assert json.loads(answer.content)["success"] is (answer.status_code == 200)
        return answer.status_code


async def test_s08_while_secrets_change_both_are_taken_and_then_the_new_one_alone(
    tmp_path: Path, database_url: str
) -> None:
    """S08: the old one, both, the new one; a captured request of the old time is refused once its secret is gone."""
    captured = to_bytes(document(orderId="ord_captured"))
    found: list[list[int]] = []
    for step, secrets in enumerate(([SECRET], [SECRET, NEW_SECRET], [NEW_SECRET])):
        stores = {"main": {"url": "http://shop.test", "webhook_secrets": secrets}}
        fresh = to_bytes(document(orderId=f"ord_{step}"))
        async with open_lab(tmp_path, database_url, stores=stores) as lab, served(lab.hub) as url:
            sent = [(captured, SECRET), (fresh, SECRET), (fresh, NEW_SECRET)]
            found.append([await posted(url, "main", body, sign(body, secret)) for body, secret in sent])
            kept = [json.loads(bytes(row.body))["data"]["orderId"] for row in await lab.rows(EVENT)]
    assert found == [[200, 200, 401], [200, 200, 200], [401, 401, 200]]
    assert kept == ["ord_captured", "ord_0", "ord_1", "ord_2"]
