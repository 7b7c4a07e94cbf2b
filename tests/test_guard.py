"""No private address is connected to that the config does not name, however it is written or resolved."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from hub.client import Guard, connect, open_client
from hub.errors import AddressRefused, ConfigError
from tests.hostile import Hostile, answer, hostile

PUBLIC = "93.184.216.34"

INSIDE = [
    "127.0.0.1", "0.0.0.0", "0.1.2.3", "10.0.0.5", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "168.63.129.16", "192.0.0.8", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.5", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "100::1", "5f00::1",
    "fe80::1", "fe80::1%lo", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "127.1", "localhost", "",
]  # fmt: skip

SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0",
    "0.0.0.0", "127.0.0.1.", "127.000.000.001", "①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "localhost", "LocalHost.",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25lo]", "169.254.169.254", "example.com@127.0.0.1",
    "example.com%00@127.0.0.1", "127.0.0.1%2f@127.0.0.1",
]  # fmt: skip


@pytest.fixture
async def canary() -> AsyncIterator[Hostile]:
    """Listens on IPv4's loopback and, on the same port, on IPv6's where there is one; must never be reached."""
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(hostile(answer()))
        try:
            sixth = await stack.enter_async_context(hostile(answer(), host="::1", port=listener.port))
        except OSError:
            sixth = listener
        yield listener
        assert listener.connections == sixth.connections == 0


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that a socket is connected to. Those outside are refused here: no packet leaves the machine."""
    addresses: list[str] = []

    async def sock_connect(self: Any, sock: socket.socket, address: Any) -> None:
        addresses.append(address[0])
        if not ipaddress.ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError(111, "outside")
        await true_connect(self, sock, address)

    true_connect = asyncio.SelectorEventLoop.sock_connect
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    return addresses


class Names(AbstractResolver):
    """A name service that gives each name's answers one lookup after the other, and stays with the last."""

    def __init__(self, **names: list[list[str]]) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = self._names[host.partition(".")[0]]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_UNSPEC, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_surely_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        Guard().check("shop.example", 443, [address])


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "::ffff:1.1.1.1", "2606:4700::1111", "2a00:1450::1"])
def test_public_addresses_pass(address: str) -> None:
    Guard().check("shop.example", 443, [address])


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_clothes_is_never_let_further(inner: ipaddress.IPv4Address) -> None:
    def passes(address: object) -> bool:
        try:
            Guard().check("shop.example", 443, [str(address)])
        except AddressRefused:
            return False
        return True

    number = int(inner)
    assert passes(f"::ffff:{inner}") == passes(inner)
    for base, shift in (("::", 0), ("64:ff9b::", 0), ("64:ff9b:1::", 0), ("::ffff:0:0:0", 0), ("2002::", 80)):
        assert not passes(ipaddress.IPv6Address(int(ipaddress.IPv6Address(base)) | number << shift))


@pytest.mark.parametrize(
    ("entry", "host", "port", "address"),
    [
        ("erp.local:8069", "erp.local", 8069, "10.0.0.5"),
        ("ERP.Local:8069", "erp.local.", 8069, "10.0.0.5"),
        ("erp.local:*", "ERP.LOCAL", 1, "10.0.0.5"),
        ("bücher.local:80", "xn--bcher-kva.local", 80, "10.0.0.5"),
        ("10.0.0.5:8069", "anything.example", 8069, "10.0.0.5"),
        ("10.0.0.5:*", "anything.example", 1, "::ffff:10.0.0.5"),
        ("10.0.0.0/8:8069", "anything.example", 8069, "10.9.8.7"),
        ("[::1]:80", "localhost", 80, "::1"),
        ("[fd00::/8]:*", "erp.local", 443, "fd12::1"),
    ],
)
def test_an_allowed_one_passes(entry: str, host: str, port: int, address: str) -> None:
    Guard([entry]).check(host, port, [address])


@pytest.mark.parametrize(
    ("entry", "host", "port", "address"),
    [
        ("erp.local:8069", "erp.local", 8070, "10.0.0.5"),
        ("erp.local:8069", "evil.erp.local", 8069, "10.0.0.5"),
        ("erp.local:8069", "10.0.0.5", 8069, "10.0.0.5"),
        ("10.0.0.5:8069", "erp.local", 8069, "10.0.0.6"),
        ("10.0.0.5:8069", "10.0.0.5", 8069, "10.0.0.6"),
        ("10.0.0.0/8:8069", "erp.local", 8070, "10.0.0.6"),
    ],
)
def test_nothing_but_the_allowed_one_passes(entry: str, host: str, port: int, address: str) -> None:
    with pytest.raises(AddressRefused):
        Guard([entry]).check(host, port, [address])


@pytest.mark.parametrize(
    "entry", ["erp.local", "erp.local:", ":80", "erp.local:0", "erp.local:65536", "erp.local:http", "::1:80",
              "*:80", "http://erp.local:80", "erp local:80", "user@erp.local:80", "erp.local:٣"],
)  # fmt: skip
def test_an_entry_that_cannot_be_read_is_a_config_error_that_shows_it(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.allow") as raised:
        Guard([entry])
    assert entry in str(raised.value)


def test_the_refusal_says_what_to_add() -> None:
    with pytest.raises(AddressRefused) as raised:
        Guard().check("erp.local", 8069, [PUBLIC, "10.0.0.5"])
    assert raised.value.reason == (
        '10.0.0.5:8069 is a private address; add "erp.local:8069" to network.allow if that is meant'
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_a_private_address_is_connected_to(
    spelling: str, canary: Hostile, dialled: list[str]
) -> None:
    """S17: by the client."""
    async with open_client(Guard(), timeout=60) as client:
        with pytest.raises((AddressRefused, httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.ConnectError)):
            await client.get(f"http://{spelling}:{canary.port}/hook")
    assert dialled == []


@pytest.mark.parametrize("spelling", [spelling.strip("[]") for spelling in SPELLINGS if "@" not in spelling])
async def test_a_socket_is_refused_the_same_spellings(spelling: str, canary: Hostile, dialled: list[str]) -> None:
    with pytest.raises((AddressRefused, ConnectionError)):
        await connect(Guard(), spelling, canary.port, timeout=60)
    assert dialled == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1"], [PUBLIC, "127.0.0.1"], ["127.1"], ["localhost"]])
async def test_a_name_that_resolves_to_a_private_address_is_refused(
    addresses: list[str], canary: Hostile, dialled: list[str]
) -> None:
    async with open_client(Guard(), timeout=60, resolver=Names(shop=[addresses])) as client:
        with pytest.raises(AddressRefused, match=f'add "shop.example:{canary.port}"'):
            await client.get(f"http://shop.example:{canary.port}/")
    assert dialled == []


async def test_a_name_that_is_rebound_to_loopback_is_refused(canary: Hostile, dialled: list[str]) -> None:
    """S17: public at the first lookup, loopback at the next."""
    names = Names(shop=[[PUBLIC], ["127.0.0.1"]])
    async with open_client(Guard(), timeout=60, resolver=names) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://shop.example:1/")
        for _ in range(3):
            with pytest.raises(AddressRefused):
                await client.get(f"http://shop.example:{canary.port}/")
    assert dialled == [PUBLIC]


async def test_what_was_checked_is_what_is_connected_to(canary: Hostile, dialled: list[str]) -> None:
    """One lookup serves both the check and the connection: a second answer is never asked for."""
    names = Names(shop=[[PUBLIC], ["127.0.0.1"]])
    async with open_client(Guard(), timeout=60, resolver=names) as client:
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://shop.example:{canary.port}/")
    assert set(dialled) == {PUBLIC}


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_an_answer_and_is_not_followed(status: str, canary: Hostile) -> None:
    """S17: each status."""
    async with (
        hostile(answer(b"", status, f"Location: {canary.url}")) as server,
        open_client(Guard([server.authority]), timeout=60) as client,
    ):
        answered = await client.post(server.url, content=b"{}")
    assert answered.status_code == int(status[:3])
    assert len(server.asked) == 1


async def test_a_proxy_of_the_environment_is_not_used(canary: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, canary.url)
    async with hostile(answer()) as server, open_client(Guard([server.authority]), timeout=60) as client:
        assert (await client.get(server.url)).status_code == 200


async def test_an_allowed_name_reaches_its_private_address_and_no_other_name_does() -> None:
    async with hostile(answer()) as server:
        names = Names(erp=[["127.0.0.1"]], other=[["127.0.0.1"]])
        guard = Guard([f"erp.local:{server.port}"])
        async with open_client(guard, timeout=60, resolver=names) as client:
            assert (await client.get(f"http://erp.local:{server.port}/")).status_code == 200
            for host in ("other.local", "127.0.0.1"):
                with pytest.raises(AddressRefused):
                    await client.get(f"http://{host}:{server.port}/")
            assert (await client.get(f"http://ERP.local:{server.port}/")).status_code == 200
        assert server.connections == 1, "the open connection serves its own name alone"


async def test_an_allowed_port_does_not_allow_the_next(canary: Hostile) -> None:
    async with hostile(answer()) as server, open_client(Guard([server.authority]), timeout=60) as client:
        assert (await client.get(server.url)).status_code == 200
        with pytest.raises(AddressRefused):
            await client.get(canary.url)


async def test_ipv6_loopback_is_refused_until_allowed() -> None:
    try:
        async with hostile(answer(), host="::1") as server:
            async with open_client(Guard([f"127.0.0.1:{server.port}"]), timeout=60) as client:
                with pytest.raises(AddressRefused):
                    await client.get(server.url)
            assert server.connections == 0
            async with open_client(Guard([server.authority]), timeout=60) as client:
                assert (await client.get(server.url)).status_code == 200
    except OSError:
        pytest.skip("no IPv6 on this machine")


async def test_a_header_cannot_lead_elsewhere(canary: Hostile) -> None:
    async with hostile(answer()) as server, open_client(Guard([server.authority]), timeout=60) as client:
        await client.get(server.url, headers={"Host": canary.authority})
        with pytest.raises(ValueError, match="header injection"):
            await client.get(server.url, headers={"X-Name": f"a\r\nHost: {canary.authority}"})
        assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://127.0.0.1/", "ws://127.0.0.1/", "//127.0.0.1/", "x"])
async def test_only_http_and_https_are_spoken(url: str) -> None:
    async with open_client(Guard(["127.0.0.1:*"]), timeout=60) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get(url)
