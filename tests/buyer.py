"""A connector that buys what an event says: the least that uses `ctx.reorders`. In configs, `tests.buyer:Buyer`.

An event `inventory.low` names `sku`, and may name `supplier`, `location`, `quantity`, `price`, `currency` and `stock`;
with `stock` above `threshold` it closes what is open. `bought` has what was really sent, by the order's id.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from hub.connector import REORDER_DUE, Connector, Context, Event, Hold, Receipt, ReorderLine, Skip


class Buyer(Connector):
    """Opens a line for each event; sends an order by remembering it."""

    bought: ClassVar[dict[str, list[list[str]]]] = {}

    class Settings(Connector.Settings):
        approval: bool = False
        day_limit: Decimal | None = None
        window: timedelta = timedelta(minutes=10)

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        return await (self.send(ctx) if event.type == REORDER_DUE else self.open_line(event, ctx))

    async def open_line(self, event: Event, ctx: Context) -> Receipt:
        line = line_of(event.data)
        await ctx.reorders.seen(line.sku, line.location, line.stock, line.threshold)
        if line.stock is not None and line.threshold is not None and line.stock > line.threshold:
            closed = await ctx.reorders.close(line.sku, line.location, f"stock {line.stock} > {line.threshold}")
            raise Skip("stock is high" if closed is None else f"closed {closed.id}")
        found = await ctx.reorders.open(line, window=self.settings.window)
        return Receipt("opened" if found.new else f"there: {found.state} {found.number or ''}".strip())

    async def send(self, ctx: Context) -> Receipt:
        order = await ctx.reorders.order()
        if order.number is not None:
            return Receipt(f"already sent: {order.number}")
        if not order.lines:
            raise Skip("nothing is left to order")
        if ctx.released is None and self.settings.approval:
            raise Hold("approval: an order of 20")
        limit = self.settings.day_limit
        if ctx.released is None and limit is not None and not await ctx.reorders.spend(limit):
            raise Hold(f"the day's limit of {limit} is reached")
        self.bought.setdefault(order.id, []).append([f"{line.quantity} {line.sku}" for line in order.lines])
        await ctx.reorders.sent(f"PO-{order.id[-6:]}", "https://erp.test/po")
        return Receipt("sent")

    async def plan(self, ctx: Context) -> list[ReorderLine]:
        return [line_of({"sku": "PLAN-1", "supplier": "Acme"})]


def line_of(data: dict[str, Any]) -> ReorderLine:
    price = data.get("price")
    return ReorderLine(
        sku=data["sku"],
        location=data.get("location", ""),
        name=data.get("name", f"The {data['sku']}"),
        supplier=data.get("supplier", "Acme"),
        quantity=int(data.get("quantity", 12)),
        reason="stock 4 ≤ 10; ordered 12",
        stock=data.get("stock"),
        threshold=data.get("threshold"),
        unit_price=None if price is None else Decimal(str(price)),
        currency=data.get("currency", "EUR"),
        more={"supplier_sku": f"A-{data['sku']}"},
    )
