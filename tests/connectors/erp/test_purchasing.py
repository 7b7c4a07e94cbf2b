"""A purchase order's life as a real Odoo 19 answered it."""

from tests.erp.purchasing_scenes import life_of_a_purchase
from tests.erp.recording import replaying


async def test_the_life_of_a_purchase() -> None:
    async with replaying("odoo_purchase") as replay:
        first, second = await life_of_a_purchase(replay.url, "recorded-key")
    assert (first["amount_untaxed"], first["origin"]) == (750, "PO-ABCDEFGH (Litekart, main)")
    assert first["date_order"] == "2026-03-01 09:30:00"
    assert (second["amount_untaxed"], second["state"]) == (207, "cancel")
