"""Connecting and securing the line, and nothing sent: what the connectors' checks share."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx

from hub.connector import Context, HoldRoute, TryAgain

SHARE = 0.95
"""Of an attempt's time: what is ended within it can still say how far it came."""


def web_address(text: str) -> SplitResult | None:
    """The parts of an absolute http or https address, or None."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and text.isprintable() and " " not in text else None


async def connected(ctx: Context, host: str, port: int) -> Any:
    """A guarded, connected socket, which the caller closes. Raises TryAgain, AddressRefused."""
    try:
        async with asyncio.timeout(ctx.timeout * SHARE):
            return await ctx.connect(host, port)
    except TimeoutError:
        raise TryAgain(f"no connection to {host}:{port} in time", destination=True) from None
    except OSError as error:
        raise TryAgain(str(error), destination=True) from None


async def reach(ctx: Context, url: str) -> str:
    """`host:port` of `url`, once a connection, over https a trusted one, stood. Raises as `connected` does.

    A certificate that is not trusted raises HoldRoute.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    sock = await connected(ctx, host, port)
    if secure:
        await _handshake(sock, host)
    else:
        sock.close()
    return f"{host}:{port}"


async def _handshake(sock: Any, host: str) -> None:
    try:
        _, writer = await asyncio.open_connection(sock=sock, ssl=tls_context(), server_hostname=host)
    except OSError as error:
        raise no_tls(host, error) from None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Trusts the certificates in `ca_file` alone; without one, those that `ctx.http` does. Raises OSError."""
    if ca_file is not None:
        return ssl.create_default_context(cafile=ca_file)
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def no_tls(place: str, error: BaseException | None) -> TryAgain | HoldRoute:
    """What a failed handshake means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return HoldRoute(f"the certificate of {place} is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return TryAgain(f"no TLS with {place}: {error.reason or error}", destination=True)
    return TryAgain(f"{place} hung up before anything was sent", destination=True)
