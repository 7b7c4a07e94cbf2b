"""What is written: an order, a customer, an address, a product as the columns of Odoo's `load`. Asks nothing.

A table is one dict of columns for each row. `load` makes or changes by external id in one transaction, and takes the
same rows twice without making a second record. Columns may be templates of the settings: `Render` fills them in.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

from connectors.erp.odoo.known import Columns, Place, base
from connectors.erp.records import Address, Customer, Line, Order, Product
from hub.connector import TemplateError

Row = dict[str, str]
Render = Callable[..., str]
KEEPS = "!$&'()*+,:;=@"
HUNDRED = Decimal(100)


@dataclass(frozen=True)
class References:
    """What an order's rows point to, as Odoo's ids or, while nothing is made yet, as words."""

    partner: str
    invoice: str = ""
    delivery: str = ""
    products: Mapping[str, str] = field(default_factory=dict)
    pricelist: str = ""


@dataclass(frozen=True)
class Added:
    """Columns that the settings add: name and template. `render` knows the event; `setting` is where they stand."""

    columns: Mapping[str, str]
    render: Render
    setting: str = ""

    def over(self, row: Row, **names: Any) -> Row:
        """The row with these columns, in place of those that write the same thing. Raises TemplateError, which names
        the setting."""
        if not self.columns:
            return row
        bases = {base(name) for name in self.columns}
        kept = {name: value for name, value in row.items() if base(name) not in bases}
        return kept | {name: self._filled(name, **names) for name in self.columns}

    def _filled(self, name: str, **names: Any) -> str:
        try:
            return self.render(self.columns[name], **names).strip()
        except TemplateError as error:
            raise TemplateError(f"{self.setting}.{name}: {error}") from error


def space(store: str) -> str:
    """The first part of a store's external ids: no module can be called so."""
    return f"__litekart_{quote(store, safe=KEEPS).replace('.', '%2E')}__"


def external(store: str, kind: str, *keys: str) -> str:
    """An external id: what Odoo does not take in one (a space) and what would blur two keys is escaped."""
    return f"{space(store)}.{'_'.join([kind, *(quote(key, safe=KEEPS) for key in keys)])}"


def line_id(store: str, order: Order, line: Line) -> str:
    return f"{line_prefix(store, order.id)}{quote(line.key, safe=KEEPS)}"


def line_prefix(store: str, order_id: str) -> str:
    """What the external ids of an order's lines start with."""
    return f"{external(store, 'order', order_id)}_line_"


def number(value: Decimal) -> str:
    return format(value, "f")


def moment(value: datetime) -> str:
    """As Odoo reads it in the context's time zone, which is UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def order_row(store: str, order: Order, references: References, columns: Columns, added: Added) -> Row:
    """The head of an order. Columns without a value are left out: Odoo's own word stands there."""
    row = {
        "id": external(store, "order", order.id),
        "partner_id/.id": references.partner,
        "partner_invoice_id/.id": references.invoice,
        "partner_shipping_id/.id": references.delivery,
        "client_order_ref": order.number,
        "origin": f"Litekart {order.number}",
        "date_order": moment(order.placed_at) if order.placed_at else "",
    }
    row = {name: value for name, value in row.items() if value}
    if "pricelist_id" in columns:
        row["pricelist_id/.id"] = references.pricelist
    return added.over(row, order=plain(order, added))


def plain(value: Any, added: Added) -> Any:
    """A record as a plain value, which is worth its while only where a template may ask for it."""
    return asdict(value) if added.columns else None


def line_rows(store: str, order: Order, references: References, columns: Columns, added: Added) -> list[Row]:
    """The lines in their order; `columns` are those of sale.order.line."""
    tax = next((name for name in ("tax_ids", "tax_id") if name in columns), None)
    whole = plain(order, added)
    rows = []
    for place, line in enumerate(order.lines, 1):
        row = {
            "id": line_id(store, order, line),
            "sequence": str(place * 10),
            "product_id/.id": references.products.get(line.product.key, ""),
            "name": line.name or line.product.name,
            "product_uom_qty": str(line.quantity),
            "price_unit": number(line.price),
            "discount": number(percent(line, columns)),
        }
        if tax and order.taxes_as_sold:
            row[f"{tax}/.id"] = ""
        rows.append(added.over(row, order=whole, line=plain(line, added)))
    return rows


def percent(line: Line, columns: Columns) -> Decimal:
    """The row's discount as Odoo keeps it: in percent, with as many digits as its settings say (two, as a rule)."""
    whole = line.quantity * line.price
    if not line.discount or not whole:
        return Decimal(0)
    digits = columns.get("discount", {}).get("digits") or (16, 2)
    step = Decimal(1).scaleb(-int(digits[1]))
    return (line.discount * HUNDRED / whole).quantize(step)


def table(head: Row, several: str = "", lines: Sequence[Row] = ()) -> tuple[list[str], list[list[str]]]:
    """`load`'s fields and data: the head on the first row, `lines` of its column `several` on each."""
    first = list(head.values())
    if not lines:
        return list(head), [first]
    fields = [*head, *(f"{several}/{name}" for name in lines[0])]
    return fields, [(first if place == 0 else [""] * len(head)) + list(row.values()) for place, row in enumerate(lines)]


def removed_row(external_id: str, standing: Mapping[str, Any], columns: Sequence[str] | None) -> Row:
    """A line that the store no longer has: nothing of it is sold. `columns`: those of the other rows, if any."""
    row = {
        "id": external_id,
        "sequence": str(standing["sequence"]),
        "product_id/.id": str(standing["product_id"][0]) if standing["product_id"] else "",
        "name": str(standing["name"]),
        "product_uom_qty": "0",
        "price_unit": str(standing["price_unit"]),
    }
    return {column: row.get(column, "") for column in columns or row}


def customer_row(customer: Customer, place: Place, added: Added) -> Row:
    """A contact, without its external id. An empty phone takes none away that somebody entered."""
    name = customer.name or customer.email or customer.phone or f"Customer {customer.key}"
    row = {"name": name, "email": customer.email, "phone": customer.phone}
    row = {name: value for name, value in row.items() if value}
    if customer.address is not None:
        row |= address_columns(customer.address, place)
    return added.over(row, customer=plain(customer, added))


def address_row(address: Address, place: Place, fallback: str, added: Added) -> Row:
    """A contact's delivery or invoice address, without its external id: without e-mail, which is the contact's own."""
    # Not of the type `delivery` or `invoice`: Odoo would offer it for orders that the merchant makes by hand.
    row = {"type": "other", "name": address.name or fallback, "phone": address.phone}
    row |= address_columns(address, place)
    return added.over(row, address=plain(address, added))


def address_columns(address: Address, place: Place) -> Row:
    return {
        "street": address.street,
        "street2": address.street2,
        "city": address.city,
        "zip": address.zip,
        "state_id/.id": str(place.state or ""),
        "country_id/.id": str(place.country or ""),
    }


def product_row(product: Product, currency: str, added: Added) -> Row:
    """A product, without its external id and its type. The price, where it is in `currency`, the company's."""
    row = {"name": product.name, "default_code": product.sku, "barcode": product.barcode}
    if product.price is not None and product.currency == currency:
        row["list_price"] = number(product.price)
    row = {name: value for name, value in row.items() if value}
    return added.over(row, product=plain(product, added))


def type_columns(product: Product, columns: Columns) -> Row:
    """How a new product says what it is; in older versions "storable" is a type."""
    if product.service:
        return {"type": "service"}
    if "is_storable" in columns:
        return {"type": "consu", "is_storable": "1"}
    kinds = {key for key, _ in columns.get("type", {}).get("selection") or ()}
    return {"type": "product" if "product" in kinds else "consu"}


def differences(standing: Mapping[str, Any], row: Row) -> Iterator[str]:
    """What the row would change in a record as Odoo's `read` gives it: `email: a@x becomes b@x`."""
    for column, wanted in row.items():
        name, _, by = column.partition("/")
        if by == "id" or name == "id" or name not in standing:
            continue
        now = standing[name]
        if isinstance(now, list):
            now = (now[0] if by == ".id" else now[-1]) if now else False
        if not _same(now, wanted):
            yield f"{name}: {_shown(now)} becomes {wanted or 'empty'}"


def _same(now: Any, wanted: str) -> bool:
    if isinstance(now, bool):
        return now == (wanted.strip().lower() in {"1", "true"})
    if isinstance(now, int | float):
        try:
            return Decimal(str(now)) == Decimal(wanted or 0)
        except InvalidOperation:
            return str(now) == wanted
    return str(now) == wanted


def _shown(now: Any) -> str:
    return "empty" if now in (False, None, "") else str(now)


def address_key(address: Address) -> str:
    """The same for the same address, whatever its letters' case."""
    parts = [address.name, *address_parts(address), address.state, address.country_code or address.country]
    return digest([part.casefold() for part in parts])[:16]


def address_parts(address: Address) -> list[str]:
    return [address.street, address.street2, address.city, address.zip]


def digest(value: Any) -> str:
    """A hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
