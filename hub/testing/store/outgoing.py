"""HTTP clients of the double and of those that ask it. They share one TLS context: making one takes 25 ms."""

import functools
import ssl
from typing import Any

import httpx


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def plain_client(**options: Any) -> httpx.AsyncClient:
    """A client that no environment variable sends elsewhere; takes what `httpx.AsyncClient` does."""
    return httpx.AsyncClient(trust_env=False, verify=_tls(), **options)
