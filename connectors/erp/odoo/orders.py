"""A sales order in Odoo: found, written in one transaction with all its lines, confirmed, cancelled."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from connectors.erp.odoo.answers import Refused
from connectors.erp.odoo.known import Place, columns, company, escaped, pricelist
from connectors.erp.odoo.partners import Partner, ensure_address, ensure_partner
from connectors.erp.odoo.products import ensure_products
from connectors.erp.odoo.rows import (
    References,
    Row,
    customer_row,
    digest,
    external,
    line_id,
    line_prefix,
    line_rows,
    order_row,
    removed_row,
)
from connectors.erp.odoo.talk import Talk
from connectors.erp.records import Address, Note, Order, Record, State, Written
from hub.connector import Rejected, TryAgain

MODEL = "sale.order"
LINES = "sale.order.line"
STATES: Mapping[str, State] = {
    "draft": "draft", "sent": "draft", "sale": "confirmed", "done": "confirmed", "cancel": "cancelled",
}  # fmt: skip
HEAD = ["name", "state", "amount_total", "amount_tax", "amount_untaxed", "currency_id", "partner_id"]
LINE = ["sequence", "name", "product_id", "product_uom_qty", "price_unit"]
# What Odoo does not let change once an order is confirmed, though it be the same value.
SETTLED = {"pricelist_id/.id", "date_order"}
UNLOCK = "unlock it in Odoo (or cancel it there by hand), then replay"


@dataclass(frozen=True)
class Standing:
    """An order as it stands in Odoo."""

    id: int
    head: Mapping[str, Any]
    record: Record

    @property
    def locked(self) -> bool:
        return bool(self.head.get("locked")) or self.head["state"] == "done"


async def standing(talk: Talk, order_id: int) -> Standing | None:
    """None: there is no such order any more."""
    known = await columns(talk.line, MODEL)
    wanted = [*HEAD, "locked"] if "locked" in known else HEAD
    found = await talk.line.call(MODEL, "read", ids=[order_id], fields=wanted)
    if not found:
        return None
    head = found[0]
    described = dict(known["state"].get("selection") or ()).get(head["state"], head["state"])
    state = STATES.get(head["state"], "confirmed")
    record = Record(str(order_id), head["name"], state, str(described), await talk.url(MODEL, order_id))
    return Standing(order_id, head, record)


async def needed(talk: Talk, record: Record) -> Standing:
    """The order that was found a moment ago. Raises TryAgain where it is gone: the next attempt finds none."""
    found = await standing(talk, int(record.id))
    if found is None:
        raise TryAgain(f"{record.number} was deleted in Odoo meanwhile")
    return found


async def find_order(talk: Talk, order: Order, known: str | None) -> Record | None:
    """By the kept id, else by external id."""
    # What was once written there is reason enough not to take a silent server for a wrong address.
    talk.line.server.worked |= known is not None
    found = await standing(talk, int(known)) if known and known.isdecimal() else None
    if found is None and (made := await talk.find(external(talk.store, "order", order.id))) is not None:
        found = await standing(talk, made)
    return found.record if found else None


async def fingerprint(talk: Talk, order: Order) -> str:
    """A hash of all that is written for an order, the store's words in place of Odoo's ids: it asks for none."""
    products = {line.product.key: f"{line.product.sku} {line.product.barcode}" for line in order.lines}
    references = References("", products={key: f"{key} {value}" for key, value in products.items()})
    head, lines = await rows_of(talk, order, references)
    customer = customer_row(order.customer, Place(), await talk.added("customer"))
    addresses = [_told(order.shipping_address), _told(order.billing_address), _told(order.customer.address)]
    return digest([order.currency, head, lines, order.customer.key, customer, addresses])


async def write_order(talk: Talk, order: Order, record: Record | None, last: str | None) -> Written:
    """See `Session.write_order`."""
    shape = await fingerprint(talk, order)
    if record is not None and shape == last:
        return Written(record, shape, changed=False)
    before = await needed(talk, record) if record else None
    if before is not None and before.record.state == "cancelled":
        return Written(before.record, shape, False, (f"{before.record.number} is cancelled in Odoo and stays so",))
    await _fits(talk, order, before)
    price_list = await pricelist(talk.line, order.currency)
    references = await _references(talk, order, price_list)
    made = await _written(talk, order, references, before)
    after = await standing(talk, made)
    if after is None:
        raise TryAgain("the order was deleted in Odoo as soon as it was written")
    return Written(after.record, shape, True, tuple(await _remarks(talk, order, after)))


async def _written(talk: Talk, order: Order, references: References, before: Standing | None) -> int:
    """Its id. What the store no longer has is written as nothing in the same transaction, and then taken away where
    Odoo lets it be."""
    head, lines = await rows_of(talk, order, references)
    if before is None:
        return await talk.load(MODEL, head, "order_line", lines)
    if before.record.state == "confirmed":
        head = {name: value for name, value in head.items() if name not in SETTLED}
    gone = await removed_lines(talk, order, before)
    named = list(lines[0]) if lines else None
    rows = [*lines, *(removed_row(key, one, named) for key, one in gone.items())]
    made = await talk.load(MODEL, head, "order_line", rows)
    if before.record.state == "draft" and gone:
        await talk.line.call(LINES, "unlink", ids=[one["id"] for one in gone.values()])
    return made


async def removed_lines(talk: Talk, order: Order, before: Standing) -> dict[str, Mapping[str, Any]]:
    """Lines written for this order that are no longer in the store, by external id; the merchant's own stay."""
    lines = await talk.line.call(LINES, "search", domain=[["order_id", "=", before.id]])
    prefix, present = line_prefix(talk.store, order.id), {line_id(talk.store, order, line) for line in order.lines}
    known = await talk.external_ids(LINES, lines)
    gone = {one: key for one, key in known.items() if key.startswith(prefix) and key not in present}
    found = await talk.every(LINES, [["id", "in", list(gone)]], LINE) if gone else []
    draft = before.record.state == "draft"
    return {gone[one["id"]]: one for one in found if draft or one["product_uom_qty"]}


async def confirm(talk: Talk, record: Record) -> Record:
    """See `Session.confirm`."""
    before = await needed(talk, record)
    if before.record.state == "confirmed":
        return before.record
    if before.record.state == "cancelled":
        raise Rejected(f"{before.record.number} is cancelled in Odoo: set it to quotation there, then replay")
    refusal = None
    try:
        await talk.line.call(MODEL, "action_confirm", ids=[before.id])
    except Refused as refused:
        refusal = refused
    after = await needed(talk, record)
    if after.record.state != "confirmed":
        raise refusal or Rejected(
            f"Odoo did not confirm {after.record.number} and asks something there: confirm it there"
        )
    return after.record


async def cancel(talk: Talk, record: Record) -> Record:
    """See `Session.cancel`."""
    before = await needed(talk, record)
    if before.record.state == "cancelled":
        return before.record
    if before.locked:
        raise Rejected(f"{before.record.number} is locked in Odoo, which does not let it be cancelled: {UNLOCK}")
    await talk.line.call(MODEL, "action_cancel", ids=[before.id], more={"disable_cancel_warning": True})
    after = await needed(talk, record)
    if after.record.state != "cancelled":
        raise Rejected(f"Odoo did not cancel {after.record.number} and asks something there: cancel it there")
    return after.record


async def note(talk: Talk, record: Record, told: Note) -> None:
    """See `Session.note`. Its key stands behind the text in brackets, by which it is found again."""
    mark = f"[{''.join(one if one.isalnum() or one in ' .-' else '_' for one in told.key)}]"
    domain = [["model", "=", MODEL], ["res_id", "=", int(record.id)], ["body", "ilike", escaped(mark)]]
    if not await talk.line.call("mail.message", "search", domain=domain, limit=1):
        await talk.line.call(MODEL, "message_post", ids=[int(record.id)], body=f"{told.text} {mark}")


async def rows_of(talk: Talk, order: Order, references: References) -> tuple[Row, list[Row]]:
    head = order_row(talk.store, order, references, await columns(talk.line, MODEL), await talk.added("order"))
    lines = line_rows(talk.store, order, references, await columns(talk.line, LINES), await talk.added("line"))
    return head, lines


async def _references(talk: Talk, order: Order, price_list: int | None) -> References:
    products = await ensure_products(talk, [line.product for line in order.lines])
    partner, _ = await ensure_partner(talk, order.customer)
    return References(
        str(partner.id),
        await _address(talk, partner, order.billing_address, "invoice"),
        await _address(talk, partner, order.shipping_address, "delivery"),
        {key: str(value) for key, value in products.items()},
        str(price_list or ""),
    )


async def _address(talk: Talk, partner: Partner, address: Address | None, kind: str) -> str:
    return str(await ensure_address(talk, partner, address, kind)) if address else ""


async def _fits(talk: Talk, order: Order, before: Standing | None) -> None:
    """Raises Rejected for what can no longer be changed in an order."""
    if before is None:
        return
    number = before.record.number
    if before.locked:
        raise Rejected(f"{number} is locked in Odoo and takes no change: unlock it there, then replay")
    wanted = order.currency or (await company(talk.line)).currency
    if (currency := before.head["currency_id"][1]) != wanted:
        raise Rejected(f"{number} is in {currency}, the store's order in {wanted} now: cancel {number} in Odoo by hand")


async def _remarks(talk: Talk, order: Order, after: Standing) -> list[str]:
    head = after.head
    currency = head["currency_id"][1]
    wanted = order.currency or (await company(talk.line)).currency
    if currency != wanted:
        return [f"Odoo put it into {currency}, the store's order is in {wanted}"]
    total, tax = _amount(head["amount_total"]), _amount(head["amount_tax"])
    if order.total is None or total == order.total:
        return []
    of_tax = f" ({tax} of it tax)" if tax else ""
    return [f"Odoo's total is {total} {currency}{of_tax}, the store's {order.total}"]


def _amount(value: float) -> Decimal:
    text = f"{Decimal(str(value)):f}"
    whole, _, rest = text.partition(".")
    return Decimal(f"{whole}.{rest.ljust(2, '0')}")


def _told(address: Address | None) -> list[str]:
    return [str(value) for value in vars(address).values()] if address else []
