"""What is said to an ERP, told once: `make test-erp` plays it before the real one, `make test` before its recording."""

from typing import Any

import httpx


async def first_words(url: str, key: str) -> list[dict[str, Any]]:
    """Who is there, a customer loaded twice and read back by its id, and a key that is wrong; the customer as read."""
    row = ["__litekart_main__.customer_42", "Åsa Rao", "asa@example.test"]
    loaded = {"context": {"tz": "UTC"}, "fields": ["id", "name", "email"], "data": [row]}
    async with httpx.AsyncClient(
        base_url=url, trust_env=False, timeout=60, headers={"Authorization": f"bearer {key}"}
    ) as client:
        version = await client.get("/web/version")
        assert version.json()["version"].startswith("19.")
        first, second = [await client.post("/json/2/res.partner/load", json=loaded) for _ in range(2)]
        assert first.json()["ids"] == second.json()["ids"]
        asked = {"ids": first.json()["ids"], "fields": ["name", "email", "write_date"]}
        found = await client.post("/json/2/res.partner/read", json=asked)
        refused = await client.post("/json/2/res.partner/read", json=asked, headers={"Authorization": "bearer wrong"})
        assert refused.status_code == 401
        rows: list[dict[str, Any]] = found.json()
        return rows
