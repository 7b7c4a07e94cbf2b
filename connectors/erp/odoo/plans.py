"""What would be written, and what that would change: for a person to read. Reads in Odoo and writes nothing."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from connectors.erp.odoo.known import base, columns, pricelist
from connectors.erp.odoo.orders import LINES, MODEL, Standing, needed, removed_lines, rows_of
from connectors.erp.odoo.partners import Partner, find_address, find_partner
from connectors.erp.odoo.products import Found, changes_of, find_products, own_id, refuse_missing, row_of
from connectors.erp.odoo.rows import References, Row, differences, external, line_id, type_columns
from connectors.erp.odoo.talk import Talk
from connectors.erp.records import Address, Customer, Order, Product, Record, Write

NEW = "(new)"


async def plan_customer(talk: Talk, customer: Customer) -> list[Write]:
    return _customer(talk, customer, await find_partner(talk, customer))


def _customer(talk: Talk, customer: Customer, found: Partner) -> list[Write]:
    if not found.ours:
        return [Write("res.partner", {}, (f"{found.name} (id {found.id}) is the merchant's own and stays as it is",))]
    row = {"id": external(talk.store, "customer", customer.key), **found.row}
    return [Write("res.partner", row, found.changes)] if found.id is None or found.changes else []


async def plan_products(talk: Talk, products: Sequence[Product]) -> list[Write]:
    found = await find_products(talk, products)
    refuse_missing(talk, found)
    writes = [await _new_product(talk, product) for product in found.missing]
    there = [product for product in products if product.key in found.ids]
    for product, row, changes in await changes_of(talk, there, found.ids):
        if changes:
            writes.append(Write("product.product", {"id": own_id(talk, product), **row}, changes))
    return writes


async def plan_order(talk: Talk, order: Order, record: Record | None) -> list[Write]:
    before = await needed(talk, record) if record else None
    price_list = await pricelist(talk.line, order.currency)
    found = await find_products(talk, [line.product for line in order.lines])
    refuse_missing(talk, found)
    writes = [await _new_product(talk, product) for product in found.missing]
    partner = await find_partner(talk, order.customer)
    writes += _customer(talk, order.customer, partner) if partner.ours else []
    addresses = []
    for address, kind in ((order.billing_address, "invoice"), (order.shipping_address, "delivery")):
        word, more = await _address(talk, partner, address, kind)
        addresses.append(word)
        writes += more
    who = str(partner.id or f"{NEW} {partner.name}")
    references = References(who, addresses[0], addresses[1], _product_words(order, found), str(price_list or ""))
    head, lines = await rows_of(talk, order, references)
    changes = tuple([one async for one in _changes(talk, order, before, head, lines)])
    return [*writes, Write(MODEL, {**head, "order_line": lines}, changes)]


async def _new_product(talk: Talk, product: Product) -> Write:
    kind = type_columns(product, await columns(talk.line, "product.product"))
    row = {"id": own_id(talk, product), **kind, **await row_of(talk, product)}
    return Write("product.product", row, (f"a new product {product.sku or product.name}",))


async def _address(talk: Talk, partner: Partner, address: Address | None, kind: str) -> tuple[str, list[Write]]:
    if address is None:
        return "", []
    found, row = await find_address(talk, partner, address, kind)
    if found is not None or not row:
        return str(found or f"{NEW} {partner.name}"), []
    return f"{NEW} {row['name']}", [Write("res.partner", row, (f"a new {kind} address of {partner.name}",))]


def _product_words(order: Order, found: Found) -> dict[str, str]:
    words = {line.product.key: f"{NEW} {line.product.sku or line.product.name}" for line in order.lines}
    return words | {key: str(value) for key, value in found.ids.items()}


async def _changes(
    talk: Talk, order: Order, before: Standing | None, head: Row, lines: Sequence[Row]
) -> AsyncIterator[str]:
    if before is None:
        yield f"a new quotation of {len(lines)} lines"
        return
    wanted = [*map(base, head)]
    [now] = await talk.line.call(MODEL, "read", ids=[before.id], fields=wanted)
    for change in differences(now, head):
        yield change
    names = {line_id(talk.store, order, line): line.product.sku or line.name for line in order.lines}
    known = await _lines(talk, before, [*map(base, lines[0])] if lines else [])
    for row in lines:
        for change in _line_changes(names[row["id"]], known.get(row["id"]), row):
            yield change
    for one in (await removed_lines(talk, order, before)).values():
        yield f"{one['name']}: is removed" if before.record.state == "draft" else f"{one['name']}: quantity becomes 0"


def _line_changes(name: str, now: Mapping[str, Any] | None, row: Row) -> Iterator[str]:
    if now is None:
        yield f"{name}: a new line, quantity {row.get('product_uom_qty', '')}"
        return
    yield from (f"{name}: {change}" for change in differences(now, row) if not change.startswith("sequence:"))


async def _lines(talk: Talk, before: Standing, wanted: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The order's lines by external id."""
    found = await talk.every(LINES, [["order_id", "=", before.id]], sorted({"name", *wanted} - {"id"}))
    ids = await talk.external_ids(LINES, [one["id"] for one in found])
    return {ids[one["id"]]: one for one in found}
