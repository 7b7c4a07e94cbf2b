"""Plain HTTP callers of a double: with its API key, read-only, with a person's token, with nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from hub.testing.store import API_KEY, STORE_ID, StoreHandle
from hub.testing.store.outgoing import plain_client

V2 = {"x-litekart-store": STORE_ID}


@asynccontextmanager
async def calling(
    store: StoreHandle, key: str | None = API_KEY, headers: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its API, `key` as the bearer."""
    bearer = {"Authorization": f"Bearer {key}"} if key else {}
    async with plain_client(base_url=store.url, headers=bearer | (headers or {})) as client:
        yield client


async def got(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """The JSON of a GET that succeeds; `query` beside what the path has of one."""
    response = await client.get(httpx.URL(path).copy_merge_params(query))
    assert response.status_code == 200, response.text
    return response.json()
