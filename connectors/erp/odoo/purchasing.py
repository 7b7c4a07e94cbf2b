"""Purchase orders in Odoo: vendors of a product, what is still to come, and an order written in one load.

An order is known by its external id, so what a crash left unrecorded is found again. Without a price Odoo takes that
of its vendor's list.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from connectors.erp.odoo.known import asked_currency, columns, company, has_column
from connectors.erp.odoo.products import called, find_products
from connectors.erp.odoo.rows import Row, external, moment, number
from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.odoo.talk import Talk, begun
from connectors.erp.odoo.transport import JSON2_SINCE, Server
from connectors.erp.purchasing import Purchase, Purchasing, Vendor
from connectors.erp.records import Product, Record, State, Write
from connectors.messages import clean
from hub.connector import Context, HoldRoute, Rejected

MODEL, LINES, LIST = "purchase.order", "purchase.order.line", "product.supplierinfo"
STATES: Mapping[str, State] = {
    "draft": "draft", "sent": "draft", "to approve": "confirmed", "purchase": "confirmed", "done": "confirmed",
    "cancel": "cancelled",
}  # fmt: skip
NAMED_IN_FULL_SINCE = 17
SHOWN = 5


class OdooPurchasing(Purchasing):
    """Purchase orders on one Odoo server."""

    def __init__(self, settings: OdooSettings) -> None:
        self._server = Server(settings)

    async def vendors_of(self, product: Product, ctx: Context) -> Sequence[Vendor]:
        talk = await begun(self._server, ctx)
        found = await _known(talk, product)
        if found is None:
            return ()
        template = found["product_tmpl_id"][0]
        own = ["|", ["product_id", "=", found["id"]], "&", ["product_id", "=", False]]
        today = ctx.now().date().isoformat()
        valid = ["|", ["date_start", "=", False], ["date_start", "<=", today]]
        valid += ["|", ["date_end", "=", False], ["date_end", ">=", today]]
        rows = await talk.line.call(
            LIST,
            "search_read",
            domain=[*valid, *own, ["product_tmpl_id", "=", template]],
            fields=["partner_id", "price", "currency_id", "min_qty", "delay", "product_code"],
            order="sequence, min_qty, price",
        )
        vendors: dict[str, Vendor] = {}
        for row in rows:
            if row["partner_id"]:
                vendors.setdefault(row["partner_id"][1], _vendor(row))
        return list(vendors.values())

    async def open_line(self, product: Product, ctx: Context) -> str | None:
        talk = await begun(self._server, ctx)
        found = await _known(talk, product)
        if found is None:
            return None
        rows = await talk.line.call(
            LINES,
            "search_read",
            domain=[["product_id", "=", found["id"]], ["state", "!=", "cancel"]],
            fields=["order_id", "state", "product_qty", "qty_received"],
            order="id desc",
        )
        # The rest of a delivery that was given up is never received: what a warehouse awaits tells.
        awaited = found.get("incoming_qty", 1) > 0
        for row in rows:
            asked_for = STATES.get(row["state"]) == "draft" or row["state"] == "to approve"
            if asked_for or (awaited and row["qty_received"] < row["product_qty"]):
                return str(row["order_id"][1])
        return None

    async def find_purchase(self, purchase: Purchase, ctx: Context) -> Record | None:
        talk = await begun(self._server, ctx)
        return await _record(talk, await talk.find(_own_id(talk, purchase.id)))

    async def write_purchase(self, purchase: Purchase, confirm: bool, ctx: Context) -> Record:
        talk = await begun(self._server, ctx)
        record = await _record(talk, await talk.find(_own_id(talk, purchase.id)))
        if record is None:
            head, lines = await _rows(talk, purchase)
            record = await _record(talk, await talk.load(MODEL, head, "order_line", lines))
        if record is None:
            raise Rejected(f"the purchase order for {purchase.number} was deleted in Odoo as soon as it was written")
        if confirm and record.state == "draft":
            await talk.line.call(MODEL, "button_confirm", ids=[int(record.id)])
            record = await _record(talk, int(record.id)) or record
        return record

    async def plan_purchase(self, purchase: Purchase, ctx: Context) -> list[Write]:
        talk = await begun(self._server, ctx)
        head, lines = await _rows(talk, purchase)
        return [Write(MODEL, {**head, "order_line": lines}, (f"a new purchase order of {len(lines)} lines",))]

    async def check(self, ctx: Context) -> str:
        self._server.forget()
        talk = await begun(self._server, ctx)
        version, home = await talk.line.version(), await company(talk.line)
        await columns(talk.line, MODEL)
        if not await talk.line.may(MODEL, "create"):
            raise HoldRoute("the key's user may not make purchase orders in Odoo: give that user “Purchase: User”")
        if not await talk.line.may(LIST, "read"):
            raise HoldRoute("the key's user may not read vendors' prices in Odoo: give that user “Purchase: User”")
        by = "JSON-2" if version >= JSON2_SINCE else "JSON-RPC"
        return f"Odoo {version} by {by}, company {clean(home.name)} ({home.currency}): purchase orders can be written"


async def _known(talk: Talk, product: Product) -> dict[str, Any] | None:
    """The product in Odoo, None where it has none of that SKU."""
    found = (await find_products(talk, [product])).ids.get(product.key)
    if found is None:
        return None
    wanted = ["product_tmpl_id"]
    if await has_column(talk.line, "product.product", "incoming_qty"):
        wanted.append("incoming_qty")
    rows = await talk.line.call("product.product", "read", ids=[found], fields=wanted)
    return dict(rows[0]) if rows else None


def _vendor(row: Mapping[str, Any]) -> Vendor:
    return Vendor(
        name=str(row["partner_id"][1]),
        price=Decimal(str(row["price"])) or None,
        currency=str(row["currency_id"][1]) if row["currency_id"] else None,
        minimum=max(1, -(-int(row["min_qty"] * 1000) // 1000)),
        lead_time=timedelta(days=row["delay"]) if row["delay"] else None,
        sku=clean(row["product_code"] or ""),
    )


def _own_id(talk: Talk, purchase_id: str) -> str:
    return external(talk.store, "reorder", purchase_id)


async def _record(talk: Talk, order: int | None) -> Record | None:
    rows = [] if order is None else await talk.line.call(MODEL, "read", ids=[order], fields=["name", "state"])
    if not rows or order is None:
        return None
    state = rows[0]["state"]
    return Record(str(order), rows[0]["name"], STATES.get(state, "confirmed"), state, await talk.url(MODEL, order))


async def _rows(talk: Talk, purchase: Purchase) -> tuple[Row, list[Row]]:
    """The head and the lines. Prices are written where all are known: Odoo would take an empty one for 0."""
    products = [line.product for line in purchase.lines]
    found = await find_products(talk, products)
    if found.missing:
        names = ", ".join(called(talk, product) for product in found.missing[:SHOWN])
        raise Rejected(f"not in Odoo: {names}. Make it there as a product that can be purchased, then replay")
    own = _own_id(talk, purchase.id)
    head = {
        "id": own,
        "partner_id/.id": str(await _partner(talk, purchase.vendor)),
        "origin": f"{purchase.number} (Litekart, {talk.store})",
        "date_order": moment(purchase.ordered_at) if purchase.ordered_at else "",
    }
    head = {name: value for name, value in head.items() if value}
    priced = all(line.price is not None for line in purchase.lines)
    if priced and purchase.currency:
        head["currency_id/.id"] = str(await _currency(talk, purchase.currency))
    lines = []
    for line in purchase.lines:
        row = {
            "id": f"{own}_line_{line.key}",
            "product_id/.id": str(found.ids[line.product.key]),
            "product_qty": str(line.quantity),
        }
        lines.append(row | ({"price_unit": number(line.price)} if priced and line.price is not None else {}))
    return head, lines


async def _partner(talk: Talk, name: str) -> int:
    """The contact of that name. Raises Rejected where there is none, or there are several."""
    in_full = "complete_name" if await talk.line.version() >= NAMED_IN_FULL_SINCE else "display_name"
    hits = await talk.line.call(
        "res.partner", "search_read", domain=["|", ["name", "=", name], [in_full, "=", name]], fields=["name"],
        order="id", limit=SHOWN,
    )  # fmt: skip
    if len(hits) == 1:
        return int(hits[0]["id"])
    if not hits:
        raise Rejected(f"Odoo has no contact “{name}”: make it there, or mend the supplier's `erp`; then replay")
    ids = ", ".join(str(one["id"]) for one in hits)
    raise Rejected(f"“{name}” is the name of several contacts in Odoo (ids {ids}): name one otherwise, then replay")


async def _currency(talk: Talk, code: str) -> int:
    known = await asked_currency(talk.line, code)
    if known is None or not known["active"]:
        raise HoldRoute(f"the currency {code} is not active in Odoo: activate it there (Currencies)")
    return int(known["id"])
