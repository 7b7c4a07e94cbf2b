"""The connector itself: low stock opens a reorder, and the order that becomes due goes out once.

A look at the stock decides nothing but whether a line is opened (`ctx.reorders.open`) or, the goods having come,
closed. Lines of a supplier become one order after a while; before it goes out, the stock is looked at once more.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from connectors.erp.odoo.purchasing import OdooPurchasing
from connectors.erp.purchasing import Purchasing
from connectors.erp.rest.purchasing import RestPurchasing
from connectors.reorder.erp import Erp
from connectors.reorder.mail import Mailing
from connectors.reorder.order import Order, Row, order_of, told
from connectors.reorder.post import Post
from connectors.reorder.quantity import Amount, Need, Sold, amount_of, has_come
from connectors.reorder.sales import Sales
from connectors.reorder.sending import Sending
from connectors.reorder.settings import HowMuch
from connectors.reorder.settings import Settings as ReorderSettings
from connectors.reorder.stock import Reading, Stock
from connectors.reorder.suppliers import Offer, offer_for, product_of
from hub.connector import (
    REORDER_DUE,
    Connector,
    Context,
    Event,
    Hold,
    Preview,
    Receipt,
    Rejected,
    Reorder,
    ReorderLine,
    Skip,
    amount_text,
)

LOW = "inventory.low"
SENDING = "sending"
"""The effect that fixes which lines go out: from then on every attempt sends the same."""
DAY = timedelta(days=1)
GONE = "is no longer in the store"
NO_SKU = "has no SKU of its own in the store, so it cannot be ordered"


class Reordering(Connector):
    """Orders from suppliers what runs low, once: by mail, as JSON, or as a purchase order of an ERP."""

    reads_state = True
    # Of the ERP, whose answers may be long.
    max_answer = 4 * 1024 * 1024
    route_defaults: ClassVar[dict[str, Any]] = {"ordered": True, "timeout": "60s", "concurrency": 4}

    class Settings(ReorderSettings):
        pass

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._stocks = Reading(settings)
        self._sales = Sales()
        self._erp = _erp_of(settings)

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        if event.type == REORDER_DUE:
            return await self._order(event, ctx)
        return await self._look(event, ctx)

    async def plan(self, ctx: Context) -> list[ReorderLine]:
        """What would be ordered now, from the store's present stock; nothing is opened, and nothing sent."""
        lines = []
        for stock in await self._stocks.all_low(ctx):
            if self._left_alone(stock) is None and await ctx.reorders.current(stock.sku, stock.location) is None:
                try:
                    lines.append(await self._line(stock, ctx))
                except (Skip, Rejected) as error:
                    lines.append(_not_to_order(stock, error.reason))
        return lines

    async def preview(self, event: Event, ctx: Context) -> Preview:
        if event.type == REORDER_DUE:
            order = self._as_order(await ctx.reorders.order(), event)
            return await self._way(order.supplier).preview(order, event, ctx)
        said = [await self._foretold(stock, ctx) for stock in await self._stocks.of_event(event, ctx)]
        return Preview("What would be ordered now", "\n".join(said))

    async def check(self, ctx: Context) -> str:
        await ctx.litekart.products.list(page_size=1)
        said = ["the store's products can be read"]
        for way in self._ways():
            said.append(await way.check(ctx))
        return "; ".join(dict.fromkeys(said))

    # ---- low stock

    async def _look(self, event: Event, ctx: Context) -> Receipt:
        """Raises Rejected if anything of it cannot be ordered as it should; what can be is opened before."""
        opened, idle, wrong = [], [], []
        unknown = Rejected if event.type == LOW else Skip
        for stock in await self._stocks.of_event(event, ctx):
            try:
                opened.append(await self._see(stock, unknown, ctx))
            except Skip as skip:
                idle.append(skip.reason)
            except Rejected as error:
                wrong.append(error.reason)
        if wrong:
            raise Rejected("; ".join([*wrong, *opened]))
        if not opened:
            raise Skip("; ".join(dict.fromkeys(idle)) or "the product has no stock to look at")
        return Receipt("; ".join(opened))

    async def _see(self, stock: Stock, unknown: type[Rejected | Skip], ctx: Context) -> str:
        """Open a reorder of what is low. Raises Skip, Rejected; `unknown` where it cannot be told whether it is low."""
        if (reason := self._left_alone(stock)) is not None:
            raise Skip(reason)
        name = stock.sku or stock.name or stock.product_id
        current = await ctx.reorders.current(stock.sku, stock.location) if stock.sku else None
        if stock.threshold is None and current is not None:
            # It may have been the event's alone, and others hold none.
            stock = replace(stock, threshold=current.threshold)
        if stock.stock is None:
            raise unknown(f"{name}: the store names no stock that can be read")
        if stock.threshold is None:
            raise unknown(f"{name}: neither store nor settings say when it is low: set `threshold`")
        if not stock.sku:
            raise (Rejected if stock.low else Skip)(f"{name} {NO_SKU}")
        await ctx.reorders.seen(stock.sku, stock.location, stock.stock, stock.threshold)
        ended = await self._end(current, stock, stock.stock, ctx) if current is not None else None
        if not stock.low:
            raise Skip(ended or f"{stock.sku}: stock {stock.stock} > {stock.threshold}")
        if current is not None and ended is None:
            raise Skip(_already(current))
        await self._nothing_open(stock, ctx)
        reorder = await self._open(stock, ctx)
        return f"opened: {_what(reorder)} from {reorder.supplier}, goes out at {reorder.due_at:%H:%M} UTC"

    async def _open(self, stock: Stock, ctx: Context) -> Reorder:
        line = await self._line(stock, ctx)
        reorder = await ctx.reorders.open(line, window=self.settings.window, close_after=self.settings.close_after)
        if not reorder.new:
            raise Skip(_already(reorder))
        return reorder

    async def _end(self, current: Reorder, stock: Stock, now: int, ctx: Context) -> str | None:
        """Close a reorder whose goods have come; what to say of it, None where it goes on.

        One that is not sent yet stays: the stock is looked at again when its order is due. One of another place stays
        too: the stock here tells nothing of what came there.
        """
        if current.state != "sent" or current.location != stock.location:
            return None
        why = None
        if self._by_erp(current.supplier):
            erp = self._purchasing()
            if await erp.open_line(product_of(stock), ctx) is None:
                why = f"received, or no longer open, in the ERP ({current.number})"
        if why is None:
            offer_time = timedelta(days=float(current.more.get("lead_time") or 0))
            sold = await self._sold_since(current, stock, ctx)
            if has_come(current, now, sold, offer_time, ctx.now() - current.opened_at):
                why = f"stock {now}: {current.number} has come"
        if why is None:
            return None
        await ctx.reorders.close(stock.sku, stock.location, why)
        return f"{stock.sku}: {why}"

    async def _sold_since(self, current: Reorder, stock: Stock, ctx: Context) -> int | None:
        """What was sold since it was opened, where sales are counted anyway and by one place alone."""
        if not current.more.get("counts_sales") or stock.places > 1:
            return None
        return await self._sales.since(stock.sku, current.opened_at, ctx)

    async def _nothing_open(self, stock: Stock, ctx: Context) -> None:
        """Raises Skip where the ERP has a purchase order by which the product is still to come."""
        if self._erp is None:
            return
        number = await self._purchasing().open_line(product_of(stock), ctx)
        if number is not None:
            raise Skip(f"{stock.sku}: already ordered, purchase order {number} in the ERP is open")

    def _left_alone(self, stock: Stock) -> str | None:
        """Why it is never ordered, None where it is."""
        name = stock.sku or stock.name
        if not stock.counted:
            return f"{name}: the store does not count its stock"
        if not stock.active:
            return f"{name}: the store has it as inactive"
        if stock.backorders and self.settings.backorders == "skip":
            return f"{name}: it is sold without being in stock, and `backorders` is skip"
        return None if self.settings.row(stock.sku).order else f"{name}: `order: false`"

    async def _line(self, stock: Stock, ctx: Context) -> ReorderLine:
        if not stock.sku:
            raise Rejected(f"{stock.name or stock.product_id} {NO_SKU}")
        offer = await offer_for(stock, self.settings, self._erp, ctx)
        amount = await self._amount(stock, offer, ctx)
        return ReorderLine(
            sku=stock.sku,
            location=stock.location,
            name=stock.name,
            supplier=offer.supplier,
            quantity=amount.quantity,
            reason=amount.reason,
            stock=stock.stock,
            threshold=stock.threshold,
            unit_price=offer.price,
            currency=offer.currency,
            product_id=stock.product_id,
            variant_id=stock.variant_id,
            more={
                "supplier_sku": offer.sku,
                "lead_time": offer.lead_time / DAY,
                "counts_sales": offer.quantity.sales_of is not None,
            },
        )

    async def _amount(self, stock: Stock, offer: Offer, ctx: Context) -> Amount:
        assert stock.stock is not None
        assert stock.threshold is not None
        sold = await self._sold(stock, offer.quantity, ctx)
        need = Need(stock.stock, stock.threshold, offer.minimum, offer.pack, offer.lead_time, sold)
        ruled = None
        if offer.quantity.rule is not None:
            names = {
                "stock": need.stock, "threshold": need.threshold, "sku": stock.sku, "name": stock.name,
                "minimum": need.minimum, "pack": need.pack, "lead_time": offer.lead_time // DAY,
            }  # fmt: skip
            names |= {"sold": sold.units} if sold is not None else {}
            ruled = ctx.render(offer.quantity.rule, **names)
        return amount_of(offer.quantity, need, ruled)

    async def _sold(self, stock: Stock, how: HowMuch, ctx: Context) -> Sold | None:
        """Sales are the store's, not a warehouse's: each place counts for its share."""
        if how.sales_of is None:
            return None
        sold = await self._sales.of(stock.sku, how.sales_of, stock.made_at, ctx)
        return replace(sold, units=-(-sold.units // stock.places))

    async def _foretold(self, stock: Stock, ctx: Context) -> str:
        """What `_see` would do, in words."""
        if (reason := self._left_alone(stock)) is not None:
            return f"nothing: {reason}"
        if stock.stock is None or stock.threshold is None:
            return f"nothing: {stock.sku}: stock or threshold is not known"
        if not stock.low:
            return f"nothing: {stock.sku}: stock {stock.stock} > {stock.threshold}"
        if (current := await ctx.reorders.current(stock.sku, stock.location)) is not None:
            return f"nothing: {_already(current)}"
        try:
            await self._nothing_open(stock, ctx)
            line = await self._line(stock, ctx)
        except (Skip, Rejected) as error:
            return f"nothing: {error.reason}"
        return f"{_what(line)} from {line.supplier}: {line.reason}"

    # ---- the order that is due

    async def _order(self, event: Event, ctx: Context) -> Receipt:
        found = await ctx.reorders.order()
        if found.number is not None:
            return Receipt(f"already sent: {found.number}", found.url)
        order = self._as_order(found, event)
        if not order.rows:
            raise Skip("nothing is left of it to order")
        way = self._way(order.supplier)
        if await ctx.effects.get(SENDING) is None and not await way.has_it(order, ctx):
            order = await self._still_needed(order, ctx)
            await self._guard(order, ctx)
            await ctx.effects.put(SENDING, json.dumps([row.id for row in order.rows]))
        done = await way.send(order, event, ctx)
        await ctx.reorders.sent(done.number, done.url)
        text = f"{done.text}: {told(order.rows)} from {order.supplier}, {order.number}"
        return Receipt(text, done.url, done.answer)

    def _as_order(self, found: Any, event: Event) -> Order:
        return order_of(found, event.store, self.settings.prefix, self.settings.locations)

    async def _still_needed(self, order: Order, ctx: Context) -> Order:
        """The order without what is no longer low, or gone. Raises Skip, or Rejected where all of it is gone."""
        dropped: dict[str, list[str]] = {}
        asked = ctx.now()
        for row in order.rows:
            if (why := await self._needless(row, asked, ctx)) is not None:
                dropped.setdefault(why, []).append(row.id)
        for why, ids in dropped.items():
            await ctx.reorders.dropped_from(ids, why)
        gone = {identity for ids in dropped.values() for identity in ids}
        rows = tuple(row for row in order.rows if row.id not in gone)
        if not rows:
            reasons = "; ".join(dropped)
            raise (Rejected if all(why.endswith(GONE) for why in dropped) else Skip)(f"nothing is ordered: {reasons}")
        return replace(order, rows=rows)

    async def _needless(self, row: Row, asked: datetime, ctx: Context) -> str | None:
        stock = await self._stocks.of_sku(row.sku, row.location, row.product_id, row.threshold, ctx, asked)
        if stock is None:
            return f"{row.sku} {GONE}"
        if (reason := self._left_alone(stock)) is not None:
            return reason
        if stock.stock is not None and stock.threshold is not None and not stock.low:
            return f"{row.sku}: stock {stock.stock} > {stock.threshold}"
        if self._erp is not None:
            number = await self._purchasing().open_line(product_of(stock), ctx)
            if number is not None:
                return f"{row.sku}: purchase order {number} in the ERP is open"
        return None

    async def _guard(self, order: Order, ctx: Context) -> None:
        """Raises Hold where a person must approve it, and has not."""
        if ctx.released is not None:
            return
        worth = "its sum is not known" if order.total is None else _money(order.total, order.currency)
        what = f"{told(order.rows)} from {order.supplier}, {worth}"
        if self.settings.approval == "always":
            raise Hold(f"to be approved: {what}")
        limits = self.settings.limits
        if limits is None:
            return
        if order.total is None:
            raise Hold(f"to be approved, as the price of {', '.join(order.unpriced)} is not known: {what}")
        if order.currency != self.settings.currency:
            raise Hold(f"to be approved, as the limits are in {self.settings.currency}: {what}")
        if limits.order is not None and order.total > limits.order:
            raise Hold(f"to be approved, above the limit of {_money(limits.order, order.currency)} an order: {what}")
        if limits.day is not None and not await ctx.reorders.spend(limits.day):
            raise Hold(f"to be approved, above the limit of {_money(limits.day, order.currency)} a day: {what}")

    # ---- ways to suppliers

    def _way(self, supplier: str) -> Sending:
        """Raises Rejected for a supplier that is no longer in the settings."""
        known = self.settings.suppliers.get(supplier)
        if known is None:
            if self.settings.odoo is None:
                raise Rejected(f"supplier {supplier} is not under `suppliers` any more: put it back, or drop the order")
            return Erp(self._purchasing(), None, self.settings.confirm)
        if known.post is not None:
            return Post(known.post)
        if known.erp is not None:
            return Erp(self._purchasing(), known.erp, self.settings.confirm)
        assert self.settings.mail is not None
        return Mailing(self.settings.mail, known.email)

    def _ways(self) -> Sequence[Sending]:
        """One of each, to be checked."""
        ways = [self._way(name) for name, one in self.settings.suppliers.items() if one.erp is None]
        return [*ways, Erp(self._erp, None, False)] if self._erp is not None else ways

    def _by_erp(self, supplier: str) -> bool:
        """Whether the ERP has the supplier's orders, and tells which of them are open."""
        known = self.settings.suppliers.get(supplier)
        return self._erp is not None and self._erp.tells_open and (known is None or known.erp is not None)

    def _purchasing(self) -> Purchasing:
        if self._erp is None:
            raise Rejected("no ERP is set")
        return self._erp


def _erp_of(settings: ReorderSettings) -> Purchasing | None:
    if settings.rest is not None:
        return RestPurchasing(settings.rest)
    return OdooPurchasing(settings.odoo) if settings.odoo is not None else None


def _what(line: ReorderLine) -> str:
    return f"{line.quantity} of {line.sku}"


def _already(reorder: Reorder) -> str:
    if reorder.state == "sent":
        return f"{reorder.sku}: already ordered, {reorder.number}, {reorder.quantity} from {reorder.supplier}"
    at = f", goes out at {reorder.due_at:%H:%M} UTC" if reorder.state == "open" else ", its order is under way"
    return f"{reorder.sku}: already to be ordered, {reorder.quantity} from {reorder.supplier}{at}"


def _not_to_order(stock: Stock, reason: str) -> ReorderLine:
    return ReorderLine(
        stock.sku, stock.location, stock.name, "", 0, f"not ordered: {reason}", stock.stock, stock.threshold,
        product_id=stock.product_id, variant_id=stock.variant_id,
    )  # fmt: skip


def _money(amount: Any, currency: str | None) -> str:
    return f"{amount_text(amount, currency or '')} {currency or ''}".strip()
