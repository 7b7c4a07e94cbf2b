"""Which addresses the hub may connect to: pure decisions, taken where a socket is made (`hub.client`)."""

import ipaddress
import re
from collections.abc import Iterable

import httpx

from hub.errors import AddressRefused, ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNICAST_6 = ipaddress.ip_network("2000::/3")
NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4",
        "168.63.129.16/32",
        "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
]  # fmt: skip
"""Networks that lead inside, elsewhere or nowhere, whatever this Python's `is_global` says of them.

168.63.129.16 is a public number at which Azure's machines reach their own host.
"""


class Guard:
    """Which addresses may be connected to: the public ones, and the private ones that `network.allow` names.

    An entry of `allow` reads `host:port`; the host is a name, an address or a network (`10.1.0.0/16`), IPv6 in
    brackets (`[fd00::/8]:8069`); the port may be `*`. A name allows whatever it resolves to. Raises ConfigError.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[Network, int | None]] = []
        for entry in allow:
            host, port = _split_entry(entry)
            try:
                self._networks.append((ipaddress.ip_network(host, strict=False), port))
            except ValueError:
                self._names.add((_plain_name(host, entry), port))

    def check(self, host: str, port: int, addresses: Iterable[str]) -> None:
        """Raise AddressRefused if any of `addresses`, which `host` (as in the URL) stands for, may not be reached.

        One forbidden address refuses them all: what happens must not depend on which one is tried first.
        """
        name = host.rstrip(".").lower()
        if (name, port) in self._names or (name, None) in self._names:
            return
        for address in addresses:
            if not self._permits(address, port):
                raise AddressRefused(
                    f"{place_of(address, port)} is a private address; "
                    f'add "{place_of(host, port)}" to network.allow if that is meant'
                )

    def _permits(self, text: str, port: int) -> bool:
        try:
            written = ipaddress.ip_address(text)
        except ValueError:
            return False
        address = getattr(written, "ipv4_mapped", None) or written
        return _is_public(address) or any(
            allowed_port in {None, port} and (address in network or written in network)
            for network, allowed_port in self._networks
        )


def _split_entry(entry: str) -> tuple[str, int | None]:
    host, _, port = entry.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare and bare == host):
        raise ConfigError(f'network.allow: "{entry}" is not host:port (IPv6 in brackets, * for any port)')
    if port == "*":
        return bare, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f'network.allow: "{entry}" needs a port from 1 to 65535, or * for any')
    return bare, int(port)


def _plain_name(host: str, entry: str) -> str:
    try:
        name = httpx.URL(scheme="http", host=host).raw_host.decode("ascii").rstrip(".").lower()
    except httpx.InvalidURL:
        name = ""
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise ConfigError(f'network.allow: the host of "{entry}" is no name, address or network')
    return name


def _is_public(address: Address) -> bool:
    if address.version == 6 and address not in UNICAST_6:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in NOT_PUBLIC)


def place_of(host: str, port: int | None) -> str:
    """`host:port`, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
