"""An order as a purchase order in the ERP, by connectors.erp.purchasing."""

import json

from connectors.erp.purchasing import Purchase, PurchaseLine, Purchasing
from connectors.reorder.order import Order
from connectors.reorder.sending import Done, Sending
from connectors.reorder.suppliers import product_of
from hub.connector import Context, Event, Preview


class Erp(Sending):
    """The ERP knows the order by its id, so it holds it once, whatever happens between writing and recording."""

    def __init__(self, purchasing: Purchasing, vendor: str | None, confirm: bool) -> None:
        self._purchasing = purchasing
        self._vendor = vendor
        self._confirm = confirm

    async def send(self, order: Order, event: Event, ctx: Context) -> Done:
        record = await self._purchasing.write_purchase(self._purchase(order, ctx), self._confirm, ctx)
        made = "a draft" if record.state == "draft" else record.described or record.state
        return Done(f"purchase order {record.number} ({made}) for {order.number}", record.number, record.url)

    async def has_it(self, order: Order, ctx: Context) -> bool:
        return await self._purchasing.find_purchase(self._purchase(order, ctx), ctx) is not None

    async def preview(self, order: Order, event: Event, ctx: Context) -> Preview:
        writes = await self._purchasing.plan_purchase(self._purchase(order, ctx), ctx)
        rows = (f"{write.target}\n{json.dumps(write.rows, indent=2, ensure_ascii=False)}" for write in writes)
        return Preview(f"Purchase order for {order.supplier}", "\n\n".join(rows))

    async def check(self, ctx: Context) -> str:
        return await self._purchasing.check(ctx)

    def _purchase(self, order: Order, ctx: Context) -> Purchase:
        return Purchase(
            order.id,
            order.number,
            self._vendor or order.supplier,
            tuple(PurchaseLine(row.id, product_of(row), row.quantity, row.price) for row in order.rows),
            order.currency,
            ctx.now(),
        )
