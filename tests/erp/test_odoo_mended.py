"""What a person has to mend: a key that is no longer good, a product that Odoo does not have; then it goes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from hub.clock import system_time
from hub.testing import HttpSink
from tests.erp.merchant import PATIENCE, Gate, Json, Merchant, erp_route, open_gate, open_merchant
from tests.erp.odoo import Odoo
from tests.hubs import command, hub_process, route
from tests.servers import eventually

WRONG = "the API key is wrong, has expired or was revoked"
EXPIRE = "UPDATE res_users_apikeys SET expiration_date = $2 WHERE index = $1"
WAITING = 12
# As many as are under way at once when the key ends, and a probe; each may first ask for Odoo's version.
MOST_CALLS = 2 * (4 + 1)


@asynccontextmanager
async def with_key(folder: Path, odoo: Odoo, key: str, seed: int) -> AsyncIterator[tuple[Merchant, Gate, HttpSink]]:
    """A merchant whose hub has `key` in its `.env`, and tells a sink of trouble."""
    async with open_merchant(folder, odoo, seed=seed) as merchant, open_gate(odoo) as gate, HttpSink() as told:
        routes = {"erp": erp_route(gate.url, "${ODOO_KEY}"), "told": route(told.url, events=["none"])}
        merchant.configure(routes, alerts=["told"])
        write_key(merchant, key)
        await merchant.tells()
        yield merchant, gate, told


def write_key(merchant: Merchant, key: str) -> None:
    (merchant.folder / ".env").write_text(f"ODOO_KEY={key}\n")


async def held_for_the_key(merchant: Merchant, gate: Gate, told: HttpSink) -> None:
    """The route stands still with that reason, and Odoo is left alone; one alert."""
    before, called = len(await merchant.sales()), len(gate.calls())

    async def stands() -> bool:
        return bool((await merchant.route())["state"] == "broken")

    await merchant.store.burst(WAITING // 2)
    await eventually(stands, PATIENCE)
    await merchant.store.burst(WAITING // 2)

    async def all_wait() -> bool:
        found = await merchant.ask("status")
        return not found["waiting_for_fan_out"] and found["routes"]["erp"]["held"] == WAITING

    await eventually(all_wait, PATIENCE)
    found = await merchant.route()
    assert found["open_reason"].startswith(WRONG)
    assert "Preferences, Account Security" in found["open_reason"]
    [alert] = await told.wait(1, PATIENCE)
    assert alert.json()["type"] == "hub.route.held"
    assert WRONG in alert.body.decode()
    assert 401 in {status for _, status in gate.calls()}
    assert len(gate.calls()) - called <= MOST_CALLS
    assert len(await merchant.sales()) == before


async def went_on(merchant: Merchant, told: HttpSink) -> None:
    await merchant.done()
    await merchant.assert_once()
    assert len(told.received) == 1


async def test_a_revoked_key_holds_the_route_and_a_new_one_lets_it_go_on(tmp_path: Path, odoo: Odoo) -> None:
    key = await odoo.new_key()
    async with with_key(tmp_path, odoo, key, seed=16) as (merchant, gate, told):
        async with hub_process(merchant.config, "up"):
            # With this one it has worked: what is not there now is no mistake in the config.
            order = await merchant.store.place_order()
            await merchant.done()
            assert (await merchant.sale(order))["state"] == "draft"
            await odoo.revoke(key)
            await held_for_the_key(merchant, gate, told)
        write_key(merchant, await odoo.new_key())
        async with hub_process(merchant.config, "up"):
            await went_on(merchant, told)


async def test_an_expired_key_made_good_goes_on_by_resume(tmp_path: Path, odoo: Odoo) -> None:
    key = await odoo.new_key(expires=system_time() - timedelta(days=1))
    async with with_key(tmp_path, odoo, key, seed=17) as (merchant, gate, told), hub_process(merchant.config, "up"):
        await held_for_the_key(merchant, gate, told)
        await odoo.sql(EXPIRE, key[:8], (system_time() + timedelta(days=1)).replace(tzinfo=None))
        code, _, errors = await command(merchant.config, "resume", "erp")
        assert code == 0, errors
        await went_on(merchant, told)


async def test_an_unknown_sku_is_told_made_and_replayed(tmp_path: Path, odoo: Odoo) -> None:
    async with open_merchant(tmp_path, odoo, seed=18) as merchant:
        config = merchant.configure({"erp": erp_route(odoo.url, odoo.key, {"missing_products": "refuse"})})
        async with hub_process(config, "up"):
            await merchant.tells()
            sku = f"KETTLE-{merchant.port}"
            await merchant.store.create_product(sku=sku, name="Kettle, blue", price=60.0)
            order = await merchant.store.place_order(items=[{"sku": sku, "quantity": 1}])

            async def dead() -> list[Json]:
                return await merchant.deliveries(status="dead")

            [delivery] = await eventually(dead, PATIENCE)
            assert delivery["last_error"] == (
                f"SKU {sku} (Kettle, blue) is not in Odoo: make it there, then replay "
                "(or set `missing_products: create`)"
            )
            assert await merchant.sales() == []
            product = {"name": "Blue kettle", "default_code": sku, "type": "consu"}
            await odoo.admin("product.product", "create", vals_list=[product])
            code, _, errors = await command(config, "replay", delivery["id"], "--yes")
            assert code == 0, errors
            await merchant.done()
            await merchant.assert_once()
            assert (await merchant.sale(order))["lines"] == 1
