"""Thousands of connections that give nothing and want everything, against a hub as it runs (S15, S16).

The deadlines are a fifth of the hub's own, by tests/security/hasty.py. More of the bounds is in tests/test_protocol.py.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from hub.testing.samples import sample, sign, to_bytes
from hub.web.protocol import most_connections
from tests.hubdb import SECRET as TABLE_SECRET
from tests.hubs import SECRET, config_of, hub_process, write_config
from tests.security.hasty import BODY_WITHIN, HEAD_WITHIN
from tests.security.wire import Client, request
from tests.test_protocol import FRAMING, LAST, MIB, exchange, peak, statuses
from tests.test_webhooks import where
from tests.whole import at_length

IDLE = 2_000
SLOW = 50
EVERY = 0.4
# The gate looks once a second, and ends what it has answered two seconds later.
SLACK = 4.0
HEAD = b"POST /webhooks/main HTTP/1.1\r\nHost: hub\r\n"


async def held(url: str, first: bytes, drip: bytes, every: float = EVERY) -> float:
    """Seconds until the hub closes a connection that sends `first` and then a little now and again."""
    reader, writer = await asyncio.open_connection(*where(url))
    begun = time.monotonic()
    closed = asyncio.create_task(to_its_end(reader))
    with suppress(ConnectionError):
        writer.write(first)
        while not (await asyncio.wait({closed}, timeout=every))[0]:
            if drip:
                writer.write(drip)
    await closed
    writer.close()
    return time.monotonic() - begun


async def to_its_end(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(65_536):
            pass


async def good_ones(url: str, attack: "asyncio.Future[list[float]]") -> list[float]:
    """Seconds that each of a shop's own webhooks took while the attack lasted."""
    spent: list[float] = []
    client = Client(url)
    while not attack.done() or len(spent) < 20:
        body = to_bytes(sample("order.placed"))
        begun = time.monotonic()
        assert await client.status(request([sign(body, SECRET).encode()], body)) == 200
        spent.append(time.monotonic() - begun)
        await asyncio.sleep(0.05)
    client.close()
    return spent


async def flood(url: str, size: int = 100 * MIB) -> None:
    """Send a header without end: it is answered once it is too long, and what comes then is thrown away."""
    _, writer = await asyncio.open_connection(*where(url))
    writer.write(HEAD + b"X-A: ")
    with suppress(ConnectionError):
        for _ in range(size // 65_536):
            writer.write(b"a" * 65_536)
            await writer.drain()
    writer.close()


@at_length
async def test_s15_slow_idle_and_endless_clients(tmp_path: Path) -> None:
    """S15: each ends by its deadline, webhooks are answered meanwhile, and the hub grows by less than 20 MB."""
    # Files for this side's ends.
    assert most_connections() > IDLE + 5 * SLOW
    async with hub_process(write_config(tmp_path, config_of({})), "up", module=("tests.security.hasty",)) as hub:
        calm = await good_ones(hub.url, finished())
        before = peak(hub)
        body = HEAD + b"Content-Length: 1000\r\n\r\n{"
        kinds = {
            "idle": [held(hub.url, b"", b"") for _ in range(IDLE)],
            "head": [held(hub.url, HEAD, b"X-A: b\r\n") for _ in range(SLOW)],
            "name": [held(hub.url, HEAD + b"X-", b"a") for _ in range(SLOW)],
            "body": [held(hub.url, body, b" ") for _ in range(SLOW)],
            "silent body": [held(hub.url, body, b"") for _ in range(SLOW)],
        }
        attack = asyncio.gather(*(one for kind in kinds.values() for one in kind))
        spent, took, _ = await asyncio.gather(good_ones(hub.url, attack), attack, flood(hub.url))
        grown = (peak(hub) - before) / MIB
        ended = dict(zip(kinds, lengths(took, [len(kind) for kind in kinds.values()]), strict=True))
        longest = {name: max(times) for name, times in ended.items()}
        # What the client itself was late with on a busy machine counts once more.
        late = 3 * max(spent)
        for name in ("idle", "head", "name"):
            assert longest[name] < HEAD_WITHIN + SLACK + late, longest
        for name in ("body", "silent body"):
            assert longest[name] < BODY_WITHIN + SLACK + late, longest
        assert grown < 20, grown
        assert p99(spent) < max(1.0, 10 * p99(calm)), (p99(spent), p99(calm))
        told = [line for line in hub.lines if line["event"] in {"connection.ended", "event.hung_up"}]
        assert len(told) < 60


def finished() -> "asyncio.Future[list[float]]":
    done: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
    done.set_result([])
    return done


def lengths(took: list[float], counts: list[int]) -> list[list[float]]:
    """The times of each kind of client."""
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    return [took[end - count : end] for end, count in zip(ends, counts, strict=True)]


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


async def test_s16_framing_as_the_hub_is_started(tmp_path: Path) -> None:
    """S16: the frozen table of tests/test_protocol.py against `hub up`: what is ambiguous gets one refusal."""
    secrets = {"main": {"url": "http://shop.test", "webhook_secrets": [TABLE_SECRET]}}
    async with hub_process(write_config(tmp_path, config_of({}, stores=secrets)), "up") as hub:
        found = {case: statuses(await exchange(hub.url, sent + LAST, 60)) for case, (sent, _) in FRAMING.items()}
    assert found == {case: expected for case, (_, expected) in FRAMING.items()}
    assert len(found) >= 28
