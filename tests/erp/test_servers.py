"""The real ERPs are there, empty in seconds, and misbehave as they do at a merchant's."""

from datetime import timedelta

import httpx
import pytest

from hub.clock import system_time
from tests.erp.odoo import Odoo
from tests.erp.tryton import Tryton
from tests.servers import eventually

PARTNER = {"context": {"tz": "UTC"}, "fields": ["id", "name", "email"]}


async def called(odoo: Odoo, call: str, key: str = "", **named: object) -> httpx.Response:
    """What the integration user is answered over JSON-2."""
    async with httpx.AsyncClient(base_url=odoo.url, trust_env=False, timeout=60) as client:
        return await client.post(f"/json/2/{call}", json=named, headers={"Authorization": f"bearer {key or odoo.key}"})


async def load_partner(odoo: Odoo, key: str = "") -> httpx.Response:
    row = ["__litekart_main__.customer_42", "Asha Rao", "asha@example.test"]
    return await called(odoo, "res.partner/load", key, **PARTNER, data=[row])


async def partners(odoo: Odoo) -> list[dict[str, object]]:
    domain = [["email", "=", "asha@example.test"]]
    found: list[dict[str, object]] = await odoo.admin("res.partner", "search_read", domain=domain, fields=["name"])
    return found


async def test_odoo_is_version_19_and_its_integration_user_may_load(odoo: Odoo) -> None:
    async with httpx.AsyncClient(base_url=odoo.url, trust_env=False) as client:
        version = (await client.get("/web/version")).json()
    assert version["version"].startswith("19.0")
    first, second = [(await load_partner(odoo)).json() for _ in range(2)]
    assert first["messages"] == []
    assert first["ids"] == second["ids"]
    assert await partners(odoo) == [{"id": first["ids"][0], "name": "Asha Rao"}]


async def test_the_same_odoo_speaks_json_rpc_as_older_ones_do(odoo: Odoo) -> None:
    """The key goes where the password goes; a wrong one is no error of its status."""

    async def who(key: str) -> object:
        words = {"service": "common", "method": "authenticate", "args": [odoo.database, odoo.login, key, {}]}
        asked = {"jsonrpc": "2.0", "method": "call", "params": words, "id": 1}
        async with httpx.AsyncClient(base_url=odoo.url, trust_env=False, timeout=60) as client:
            answer = (await client.post("/jsonrpc", json=asked)).json()
        return answer["result"]

    (user,) = await odoo.admin("res.users", "search", domain=[["login", "=", odoo.login]])
    assert [await who(odoo.key), await who("0" * 40)] == [user, False]


async def test_the_integration_user_may_not_do_all(odoo: Odoo) -> None:
    refused = await called(odoo, "ir.model.data/create", vals_list=[{"module": "x", "name": "y", "model": "res.users"}])
    assert refused.status_code == 403


async def test_a_fresh_database_has_nothing_of_before(odoo: Odoo) -> None:
    assert (await load_partner(odoo)).json()["ids"]
    url, key = odoo.url, odoo.key
    await odoo.fresh()
    assert await partners(odoo) == []
    assert (odoo.url, odoo.key) == (url, key)
    assert (await load_partner(odoo)).json()["ids"]


async def test_without_its_postgresql_odoo_says_not_found(odoo: Odoo) -> None:
    """The status of a wrong address, and a page in place of JSON: nothing of it may be taken for permanent."""
    odoo.postgres.stop()
    answer = await load_partner(odoo)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "No database is selected" in answer.text
    odoo.postgres.start()

    async def loaded() -> bool:
        return (await load_partner(odoo)).is_success

    await eventually(loaded, 60)


async def test_odoo_restarted_knows_what_it_knew(odoo: Odoo) -> None:
    assert (await load_partner(odoo)).is_success
    await odoo.restart()
    assert len(await partners(odoo)) == 1


@pytest.mark.parametrize("ended", ["revoked", "expired", "wrong"])
async def test_a_key_that_is_no_longer_good(odoo: Odoo, ended: str) -> None:
    key = "0" * 40
    if ended == "revoked":
        key = await odoo.new_key()
        assert (await load_partner(odoo, key)).is_success
        await odoo.revoke(key)
    elif ended == "expired":
        key = await odoo.new_key(expires=system_time() - timedelta(days=1))
    answer = await load_partner(odoo, key)
    assert (answer.status_code, answer.json()["message"]) == (401, "Invalid apikey")


async def test_a_key_that_ends_tomorrow_is_good_today(odoo: Odoo) -> None:
    key = await odoo.new_key(expires=system_time() + timedelta(days=1))
    assert (await load_partner(odoo, key)).is_success


async def test_tryton_answers_its_user_and_nobody_else(tryton: Tryton) -> None:
    async with httpx.AsyncClient(base_url=tryton.url, trust_env=False, timeout=60) as client:
        parties = f"/{tryton.database}/rest/model/party.party"
        good, bad = [
            await client.get(parties, headers={"Authorization": f"Bearer {key}"}) for key in (tryton.key, "0" * 128)
        ]
    assert good.status_code == 200
    assert good.json()
    assert bad.status_code == 401
