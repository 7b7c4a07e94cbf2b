"""The scenes that the fast tests play from recordings, before the real ERP; --record writes them anew."""

from tests.erp.conftest import Recording
from tests.erp.odoo import Odoo
from tests.erp.scenes import first_words


async def test_first_words_are_as_recorded(odoo: Odoo, record: Recording) -> None:
    await odoo.fresh()
    async with record("odoo_first_words", odoo) as proxy:
        (customer,) = await first_words(proxy.url, odoo.key)
    assert customer["name"] == "Åsa Rao"
    assert await odoo.admin("res.partner", "search_count", domain=[["email", "=", "asa@example.test"]]) == 1
