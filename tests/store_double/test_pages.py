"""Lists page to their end in both profiles."""

import pytest

from hub.testing.store import API_KEY, StoreApi
from tests.store_double.callers import V2, calling, got


@pytest.mark.parametrize("profile", ["seed", "v2"])
async def test_paging_gives_every_row_once(profile: str) -> None:
    path, size = ("/api/orders", "limit") if profile == "seed" else ("/api/admin/orders", "pageSize")
    async with StoreApi(profile=profile, orders=25) as store, calling(store, API_KEY, V2) as client:
        pages = [(await got(client, path, **{"page": str(page), size: "10"}))["data"] for page in (1, 2, 3, 4)]
        ids = [row["id"] for page in pages for row in page]
        assert [len(page) for page in pages] == [10, 10, 5, 0]
        assert sorted(ids) == sorted(row["id"] for row in await store.rows("orders"))
