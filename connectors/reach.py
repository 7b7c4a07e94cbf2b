"""Connecting, and nothing sent: what the connectors' checks share."""

import asyncio
import contextlib
import ssl
from typing import Any
from urllib.parse import SplitResult, urlsplit

from hub.connector import Context, TryAgain


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
        return await ctx.connect(host, port)
    except OSError as error:
        raise TryAgain(str(error), destination=True) from None


async def reach(ctx: Context, url: str) -> str:
    """`host:port` of `url`, once a connection, over https a trusted one, stood. Raises as `connected` does.

    A certificate that is not trusted flies as ssl.SSLCertVerificationError.
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
    context = ssl.create_default_context()
    try:
        _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError:
        raise
    except OSError as error:
        raise TryAgain(f"{host} does not speak TLS: {plainly(error)}", destination=True) from None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def plainly(error: OSError) -> str:
    """What went wrong, in the system's words."""
    return error.strerror or str(error) or type(error).__name__
