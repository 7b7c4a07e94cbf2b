"""The desync table once more, through the proxy that stands before the hub: Caddy with the Caddyfile we ship (S16)."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from hub.valkey import bound_to_parent
from tests.hubdb import SECRET as TABLE_SECRET
from tests.hubs import HubProcess, config_of, hub_process, write_config
from tests.servers import eventually, free_port
from tests.test_protocol import CHUNKED, FRAMING, LAST, LENGTH, exchange, post, statuses
from tests.test_webhooks import where

CADDYFILE = Path(__file__).parents[2] / "docs" / "deploy" / "Caddyfile"
CADDY = shutil.which("caddy")
RECEIVERS = "receiver-1:8600 receiver-2:8600"
# What differs from the file as it is deployed: no certificates, loopback alone, nothing kept in anybody's home.
OPTIONS = "{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n"

# What Caddy 2.6 answers. It forgives some framing that the hub refuses, and frames anew what it passes on.
PROXIED: dict[str, list[int]] = {
    "a length": [200], "chunked": [200], "length and chunked": [200], "chunked and length": [200],
    "two equal lengths": [200], "a list of equal lengths": [400], "two lengths": [400], "length with a plus": [400],
    "length in hex": [400], "length below zero": [400], "length of twenty digits": [400], "empty length": [401],
    "bare line feeds": [200], "folded header": [200], "space before the colon": [400], "NUL in a value": [400],
    "CR in a value": [400], "unknown encoding": [501], "encoding after chunked": [501], "chunk ends wrongly": [502],
    "chunk size past 64 bits": [502], "chunk size with a sign": [502], "chunk extension of 10 kB": [502],
    "no host": [400], "two hosts": [400], "two signatures": [401], "absolute URL": [200], "HTTP/0.9": [400],
}  # fmt: skip
HIDDEN = post(LENGTH)
# A signed webhook inside the body of another one, for whoever takes the wrong one of two framings for the right one.
SMUGGLED: dict[str, tuple[bytes, list[int]]] = {
    "after the last chunk": (
        post(CHUNKED, b"Content-Length: %d" % (5 + len(HIDDEN)), body=b"0\r\n\r\n" + HIDDEN), [401],
    ),
    "in a chunk": (
        post(b"Content-Length: 4", CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)), [401],
    ),
    "behind a bare line feed": (
        post(b"X-A: 1\nTransfer-Encoding: chunked", LENGTH, body=b"0\r\n\r\n" + HIDDEN), [401],
    ),
    "behind a folded length": (post(b"Content-Length: 0\r\n 0", body=HIDDEN), [400]),
    "behind two equal lengths": (post(b"Content-Length: 0", b"Content-Length: 0", body=HIDDEN), [401]),
}  # fmt: skip

pytestmark = pytest.mark.skipif(CADDY is None, reason="Caddy is not installed here")


@asynccontextmanager
async def caddy_before(hub: HubProcess, folder: Path) -> AsyncIterator[str]:
    """The URL of a Caddy that passes on to that hub, which listens under the name `hub`."""
    port, shipped = free_port(), CADDYFILE.read_text()
    assert RECEIVERS in shipped
    (folder / "Caddyfile").write_text(OPTIONS + shipped.replace(RECEIVERS, hub.url.removeprefix("http://")))
    names = {"HUB_HOST": f"http://hub:{port}", "DASHBOARD_HOST": f"http://dashboard:{free_port()}"}
    with (folder / "caddy.log").open("w") as log:
        caddy = await asyncio.create_subprocess_exec(
            *bound_to_parent([str(CADDY), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]),
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **names}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        await eventually(lambda: answering(url))
        yield url
    finally:
        caddy.terminate()
        await caddy.wait()


async def answering(url: str) -> bool:
    with suppress(OSError):
        return statuses(await exchange(url, LAST, 60)) == [200]
    return False


async def told(url: str, sent: bytes) -> list[int]:
    """The statuses of all answers until the other side closes, in whichever way it does."""
    reader, writer = await asyncio.open_connection(*where(url))
    writer.write(sent)
    heard = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(60):
            while piece := await reader.read(65_536):
                heard += piece
    writer.close()
    return statuses(heard)


def accepted(hub: HubProcess) -> int:
    """How many webhooks the hub has answered with success."""
    return sum(line["count"] for line in hub.lines if line["event"] == "event.received")


async def test_s16_framing_through_the_proxy(tmp_path: Path) -> None:
    """S16: what is ambiguous never brings a second request to the hub, nor a webhook that its client was not told of.

    Nor does a body that breaks off or is framed wrongly count against the receiver: the next webhook gets through.
    """
    stores = {"main": {"url": "http://shop.test", "webhook_secrets": [TABLE_SECRET]}}
    server = {"port": 0, "trusted_proxies": ["127.0.0.1"]}
    config = write_config(tmp_path, config_of({}, stores=stores, server=server))
    cases = {name: sent for name, (sent, _) in (FRAMING | SMUGGLED).items()}
    wanted = PROXIED | {name: answered for name, (_, answered) in SMUGGLED.items()}
    async with hub_process(config, "up") as hub, caddy_before(hub, tmp_path) as url:
        found = {name: await told(url, sent + LAST) for name, sent in cases.items()}
        assert await told(url, post(LENGTH, b"Connection: close")) == [200]
        taken = list(wanted.values()).count([200]) + 1
        await eventually(lambda: accepted(hub) >= taken)
    assert found == wanted
    assert accepted(hub) == taken
    assert {len(answered) for answered in found.values()} == {1}
