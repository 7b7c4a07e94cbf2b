"""Signed bodies that mean harm: none gives a 5xx, costs much, changes on its way, or breaks a page or a connector."""

import gc
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from hub.connector import Event
from hub.errors import NotAnEvent
from hub.event import MOST_CONTAINERS, MOST_VALUES, content_hash, dedupe_key, parse, search_keys
from hub.store import EVENT, REFUSED
from hub.testing.samples import sample, sign, to_bytes
from tests import hubdb
from tests.dashboard.served import Page, harmless, looking
from tests.hubdb import NOON, SECRET, Lab, open_lab, served
from tests.hubs import SECRET as PROCESS_SECRET
from tests.hubs import HubProcess, cluster, config_of, write_config
from tests.security.json_inputs import DOCUMENTS, LEFT_OPEN, MUST_REFUSE, MUST_TAKE
from tests.security.wire import Answer, Client, request
from tests.servers import ValkeyServer, eventually
from tests.test_protocol import peak
from tests.whole import WHOLE

shared_url, database_url = hubdb.shared_url, hubdb.database_url

MIB = 1024 * 1024
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def around(value: bytes, number: int = 0) -> bytes:
    """An event with that value in it."""
    return b'{"event":"x.y","data":{"id":"%d","x":%b},"timestamp":"%b"}' % (number, value, NOON.encode())


def signed(body: bytes, *fields: bytes) -> bytes:
    return request([sign(body, SECRET).encode()], body, b"/webhooks/main", *fields)


async def answers(url: str, bodies: list[bytes]) -> list[Answer]:
    """What is answered to each of these, signed; sent again where a slow disk brings about a 503."""
    client = Client(url)

    async def taken(body: bytes) -> Answer | None:
        answer = await client.ask(signed(body))
        return answer if answer.status != 503 else None

    found = [await eventually(partial(taken, body)) for body in bodies]
    client.close()
    return [answer for answer in found if answer is not None]


# ---- S09: every class of JSON


CASES: list[tuple[bytes, int]] = [
    *((value, 200) for value in MUST_TAKE),
    *((value, 400) for value in MUST_REFUSE),
    *LEFT_OPEN.items(),
]


async def test_s09_json_is_taken_or_refused_as_its_standard_has_it(tmp_path: Path, database_url: str) -> None:
    """S09: RFC 8259's classes, over HTTP: no 5xx, the valid kept as the same bytes, the rest refused."""
    bodies = [around(value, number) for number, (value, _) in enumerate(CASES)]
    async with open_lab(tmp_path, database_url) as lab, served(lab.hub) as url:
        found = await answers(url, [*bodies, *DOCUMENTS])
        wanted = [status for _, status in CASES] + list(DOCUMENTS.values())
        got = [answer.status for answer in found]
        differ = [
            (body[:80], is_, should)
            for body, is_, should in zip([*bodies, *DOCUMENTS], got, wanted, strict=True)
            if is_ != should
        ]
        assert differ == []
        assert all(json.loads(one.body)["success"] is (one.status == 200) for one in found)
        kept = [bytes(row.body) for row in await lab.rows(EVENT)]
        assert kept == [body for body, status in zip(bodies, wanted, strict=False) if status == 200]
        await lab.fan_out()
        for body in kept:
            assert read(body)["id"].isdigit()
        # A page does not know which database it is from.
        if lab.hub.config.sqlite_path is not None:
            await shown(lab)


def read(body: bytes) -> dict[str, Any]:
    """The data of an event as a connector gets it."""
    return Event("evt_1", "main", "x.y", None, NOW, NOW, body).data


async def shown(lab: Lab) -> None:
    """Each event's page is harmless, and its raw body what came."""
    async with looking(lab.hub) as browser:
        for row in (await lab.rows(EVENT))[:: 1 if WHOLE else 4]:
            harmless(await browser.get(f"/events/{row.id}"))
            assert (await browser.client.get(f"/events/{row.id}/raw")).content == bytes(row.body)


@pytest.mark.parametrize("value", MUST_TAKE, ids=lambda value: repr(value[:24]))
def test_s09_what_is_taken_means_what_it_says(value: bytes) -> None:
    """S09: as another reader of JSON understands it, and with the same content as its spaced-out twin."""
    found = parse(around(value)).document["data"]["x"]
    said = json.loads(value)
    assert found == said or (isinstance(said, int) and found == float(said))
    spaced = around(value).replace(b'"data":', b'\n"data" : ')
    assert content_hash(parse(spaced)) == content_hash(parse(around(value)))


# ---- S10, S11, S13: bodies that are much work


def members(pairs: Iterable[str]) -> bytes:
    """An event whose data has these members, as many as fit into 1 MiB."""
    text = f'{{"event":"x.y","timestamp":"{NOON}","data":{{"id":"1"'
    room = MIB - len(text) - 2
    taken = []
    for pair in pairs:
        room -= len(pair) + 1
        if room < 0:
            break
        taken.append(pair)
    return ",".join([text, *taken]).encode() + b"}}"


def filled(value: bytes, piece: bytes, end: bytes) -> bytes:
    """An event with a value of `piece` over and over, up to 1 MiB."""
    times = (MIB - len(around(value + end))) // len(piece)
    return around(value + piece * times + end)


# Alike under the hash of Java and of many others (times 31, times 33): "Aa" and "BB", "Ez" and "FY".
ALIKE = [("Aa", "BB", "C#"), ("Ez", "FY")]

# So many containers, and values beside them, that with what is around them a body is read.
FEW = MOST_CONTAINERS - 3
MANY = MOST_VALUES - MOST_CONTAINERS

HEAVY: dict[str, tuple[bytes, int]] = {
    "100,000 deep": (around(b"[" * 100_000 + b"]" * 100_000), 422),
    "100,000 objects deep": (around(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), 422),
    "10,000 deep": (around(b"[" * 10_000 + b"]" * 10_000), 400),
    "a million brackets": (b"[" * 1_000_000, 422),
    "a million brackets in an event": (filled(b"", b"[", b""), 422),
    "a million that end what has not begun": (filled(b"", b"]", b""), 400),
    "101 deep": (around(b"[" * 100 + b"]" * 100), 422),
    "100 deep, ten thousand times": (filled(b"[0", b"," + b"[" * 97 + b"]" * 97, b"]"), 422),
    "an integer of 5,000 digits": (around(b"7" * 5_000), 400),
    "a number of a million digits": (filled(b"0.", b"7", b""), 200),
    "1e400": (around(b"1e400"), 400),
    "NaN": (around(b"NaN"), 400),
    "a NUL": (around(rb'"\u0000"'), 200),
    "half a surrogate": (around(rb'"\ud800"'), 400),
    "2 to the 63rd": (around(b"9223372036854775808"), 200),
    "170,000 equal names": (members('"a":1' for _ in range(170_000)), 422),
    "as many equal names as are read": (members('"a":1' for _ in range(MOST_VALUES - 3)), 200),
    "100,000 names": (members(f'"{n:x}":1' for n in range(100_000)), 422),
    "as many names as are read": (members(f'"{n:x}":1' for n in range(MOST_VALUES - 3)), 200),
    "a MiB of escapes": (filled(b'"', rb"\u0041", b'"'), 200),
    "a MiB of escapes, and lists": (filled(b"[" + b"[]," * 200 + b'"', rb"\"", b'"]'), 200),
    "a MiB of pairs": (filled(b'"', rb"\ud83d\ude00", b'"'), 200),
    "half a million elements": (filled(b"[0", b",0", b"]"), 422),
    "a quarter of a million texts": (filled(b'[""', b',"a"', b"]"), 422),
    "as many texts as are read": (around(b"[" + b"[]," * 200 + b'"a",' * (MOST_VALUES - 300) + b"0]"), 200),
    "half a million lists": (filled(b"[[]", b",[]", b"]"), 422),
    "objects in a row": (filled(b"[{}", b",{}", b"]"), 422),
    "objects of one": (filled(b'[{"":0}', b',{"":0}', b"]"), 422),
    "as many lists as are read": (around(b"[" + b"[ ] ," * FEW + b'"aaaa" ,' * MANY + b"0]"), 200),
    "as many objects as are read": (around(b"[" + b'{"":0},' * FEW + b'"aaaa",' * MANY + b"0]"), 200),
    "lines of an order": (around(b"0").replace(b'"x":0', b'"items":[' + b'{"sku":"A"},' * 19_990 + b"1]"), 200),
    "names alike by design": (members(f'"{"".join(one)}":1' for one in product(ALIKE[0], repeat=10)), 200),
    "more names alike": (members(f'"{"".join(one)}":1' for one in product(ALIKE[1], repeat=16)), 200),
    "numbers alike by design": (filled(b"[0", b"," + str(7 * (2**61 - 1)).encode(), b"]"), 200),
    "multiples of Python's own": (
        around(b"[" + b",".join(b"%d" % (n * (2**61 - 1)) for n in range(1, 43_000)) + b"]"), 200,
    ),
    "spaces": (filled(b"0", b" ", b""), 200),
}  # fmt: skip


@pytest.fixture
def as_the_hub_collects() -> Iterator[None]:
    """Python's collector as a receiver sets it: by itself it walks through large bodies again and again."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("as_the_hub_collects")
@pytest.mark.parametrize(("body", "status"), HEAVY.values(), ids=HEAVY)
def test_s10_s11_s13_no_body_takes_long_to_read(body: bytes, status: int) -> None:
    """S10, S11, S13: parsed, hashed and keyed, or refused as no event, in less than 250 ms of the processor's time.

    Also names and numbers of which many have the same hash: those of strings differ from process to process, and
    orjson's reader makes no set of numbers.
    """
    assert len(body) <= MIB
    begun = time.thread_time()
    try:
        parsed = parse(body)
        content_hash(parsed)
        dedupe_key(parsed, body)
        search_keys(parsed.type, parsed.entity, parsed.document["data"])
        found = 200
    except NotAnEvent as refusal:
        found = refusal.status
    assert time.thread_time() - begun < 0.25
    assert found == status
    if found == 200:
        assert "id" in read(body)


def test_s11_a_connectors_reader_meets_no_depth_that_it_cannot_read() -> None:
    """S11: Python's own `json`, which connectors read with, ends in a RecursionError far below 100,000."""
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        inner = b"1" if closing == b"}" else b""
        assert read_depth(opening * 98 + inner + closing * 98)
        with pytest.raises(NotAnEvent) as refused:
            parse(around(opening * 99 + inner + closing * 99))
        assert refused.value.status == 422
        with pytest.raises(RecursionError):
            json.loads(opening * 100_000 + inner + closing * 100_000)


def read_depth(value: bytes) -> bool:
    body = around(value)
    return parse(body).type == "x.y" and "x" in read(body)


def test_s13_no_file_that_starts_the_hub_fixes_the_hash_seed() -> None:
    """S13: names with the same hash cannot be made beforehand as long as nobody knows the process's seed."""
    root = Path(__file__).parents[2]
    starts = [root / "Dockerfile", root / "Makefile", *(root / "docs" / "deploy").iterdir()]
    assert [path.name for path in starts if "PYTHONHASHSEED" in path.read_text()] == []
    told = [subprocess.check_output([sys.executable, "-c", "print(hash('a'))"], env={}) for _ in range(2)]
    assert told[0] != told[1]


# ---- S10, S12: in a hub as it runs


@pytest.mark.usefixtures("as_the_hub_collects")
async def test_s10_the_dashboard_shows_each(tmp_path: Path) -> None:
    """S10: the pages of heavy events and of refusals: harmless, each in less than a second of the processor's time."""
    async with open_lab(tmp_path, f"sqlite:///{tmp_path}/hub.db") as lab, served(lab.hub) as url:
        found = await answers(url, [body for body, _ in HEAVY.values()])
        assert [answer.status for answer in found] == [status for _, status in HEAVY.values()]
        await lab.fan_out()
        paths = [f"/events/{row.id}" for row in await lab.rows(EVENT)]
        refusals = await lab.rows(REFUSED)
        # All of the 422s but the one that is too deep.
        too_many = [row for row in refusals if row.signed and "80,000 values" in row.reason]
        assert len(too_many) == [status for _, status in HEAVY.values()].count(422) - 1
        paths += [f"/refused/{row.id}" for row in refusals]
        assert len(paths) == len(HEAVY)
        async with looking(lab.hub) as browser:
            for path in paths:
                begun = time.process_time()
                page = await browser.client.get(path)
                assert time.process_time() - begun < 1, path
                assert page.status_code == 200
                assert len(page.content) < 3 * MIB
                harmless(Page(page))


def zipped(wbits: int, size: int = 1000 * MIB) -> bytes:
    """Zeros, a thousand times as many as these bytes: gzip with 31, deflate with -15, zlib with 15."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    piece = b"0" * MIB
    return b"".join([*(packer.compress(piece) for _ in range(size // MIB)), packer.flush()])


ENCODINGS = [b"gzip", b"x-gzip", b"br", b"deflate", b"zstd", b"compress", b"gzip, identity", b"identity, gzip", b"GZIP",
             b"\tgzip ", b"identity,", b"chunked", b"none"]  # fmt: skip


async def test_s10_s12_s13_a_receiver_does_not_grow(
    tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer
) -> None:
    """S10, S12, S13: each heavy body twice, each bomb in each encoding: their statuses, and 30 MB more at most.

    A bomb is refused as compressed before it is read, and never opened. The processor's time is the whole process's.
    """
    config = write_config(tmp_path, config_of({}, database=postgres_url, redis=valkey_server.url))
    async with cluster(config, receivers=1, workers=0) as hubs:
        (hub,) = hubs.receivers
        client = Client(hub.url)
        warm = to_bytes(sample("order.placed"))
        assert await client.status(by_process(warm)) == 200
        before = peak(hub)
        spent = [await one_by_one(hub, client, HEAVY) for _ in range(2)]
        bomb = zipped(31, 200 * MIB)
        assert 100_000 < len(bomb) < MIB
        for body in (bomb, zipped(-15, 10 * MIB), warm):
            for encoding in ENCODINGS:
                assert await client.status(by_process(body, b"Content-Encoding: " + encoding)) == 415
        # Where nothing says that it is one, it is no JSON.
        assert await client.status(by_process(bomb)) == 400
        grown = (peak(hub) - before) / MIB
        client.close()
    assert grown < 30
    assert max(spent)[0] < 0.25, max(spent)


async def one_by_one(hub: HubProcess, client: Client, bodies: dict[str, tuple[bytes, int]]) -> tuple[float, str]:
    """Send them; the most of the processor's time that passed during one, in seconds, and which it was."""
    spent = []
    for name, (body, status) in bodies.items():
        begun = processor_time(hub)
        assert (await client.status(by_process(body)), name) == (status, name)
        spent.append((processor_time(hub) - begun, name))
    return max(spent)


def by_process(body: bytes, *fields: bytes) -> bytes:
    return request([sign(body, PROCESS_SECRET).encode()], body, b"/webhooks/main", *fields)


def processor_time(hub: HubProcess) -> float:
    """Seconds that all threads of the process have worked."""
    fields = Path(f"/proc/{hub.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
