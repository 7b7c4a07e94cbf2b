"""The connector itself: settings in, one backend, and for each event what connectors.erp.sync makes of it."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

from connectors.erp.backend import Backend
from connectors.erp.odoo.backend import OdooBackend
from connectors.erp.records import Write
from connectors.erp.rest.backend import RestBackend
from connectors.erp.settings import Settings as ErpSettings
from connectors.erp.sync import plan, sync
from hub.connector import Connector, Context, Event, NotOffered, Preview, Receipt, Rejected, Skip


class Erp(Connector):
    """Keeps customers, products and sales orders in an ERP as the store has them: Odoo, or any with a REST API."""

    reads_state = True
    # Many ERPs answer a write with the whole record, an order with all its rows.
    max_answer = 4 * 1024 * 1024
    route_defaults: ClassVar[dict[str, Any]] = {"ordered": True, "timeout": "60s", "concurrency": 4}

    class Settings(ErpSettings):
        pass

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._backend = _backend(settings)

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        return await sync(event, ctx, await self._backend.session(ctx), self.settings)

    async def check(self, ctx: Context) -> str:
        told = await self._backend.check(ctx)
        await ctx.litekart.orders.list(page_size=1)
        if self.settings.write_back == "tag":
            try:
                await ctx.litekart.order_tags.list(page_size=1)
            except NotOffered:
                raise Rejected(
                    "write_back: tag needs the store's v2 API (stores.NAME.profile: v2); take comment or none"
                ) from None
        return f"{told}; the store's orders can be read"

    async def preview(self, event: Event, ctx: Context) -> Preview:
        try:
            writes = await plan(event, ctx, await self._backend.session(ctx), self.settings)
        except Skip as skip:
            return Preview("nothing to write", str(skip))
        return Preview(_title(writes), "\n\n".join(map(_told, writes)) or "nothing would be written")


def _backend(settings: ErpSettings) -> Backend:
    if settings.odoo is not None:
        return OdooBackend(settings.odoo, settings)
    assert settings.rest is not None
    return RestBackend(settings.rest)


def _title(writes: Sequence[Write]) -> str:
    changing = [write for write in writes if write.changes]
    return f"{len(changing)} of {len(writes)} would change something" if writes else "nothing to write"


def _told(write: Write) -> str:
    changes = "\n".join(f"- {change}" for change in write.changes) or "- changes nothing"
    return f"{write.target}\n{changes}\n{json.dumps(write.rows, indent=2, ensure_ascii=False, default=_plain)}"


def _plain(value: object) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)
