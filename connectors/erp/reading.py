"""From the store's present state to what an ERP is given.

The store names few things for sure: a row's discount may be part of its price or not, tax may be in the prices. What
is meant is told by the order's own total: the reading is taken under which the rows make it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from connectors.erp.records import GUEST, Address, Customer, Line, Note, Order, Product
from connectors.erp.settings import Settings
from connectors.messages import clean
from hub.connector import Rejected, amount_text

CANCELLED = {"cancelled", "canceled"}
PAID = {"paid", "captured"}
MOST_ROWS = 5000
NAME_LENGTH = 200
TEXT_LENGTH = 2000
ZERO = Decimal(0)


@dataclass(frozen=True)
class Sums:
    """How an order's amounts hang together: whether rows' discounts come off, and whether tax is on top."""

    row_discounts: bool
    tax_on_top: bool


def read_customer(found: Any) -> Customer:
    """From a customer of the store."""
    name = _name(found.first_name, found.last_name) or clean(found.name or "", NAME_LENGTH)
    email, phone = _line(found.email), _line(found.phone)
    return Customer(found.id, name or email or phone or f"Customer {found.id}", email, phone)


def read_products(found: Any) -> list[Product]:
    """One for each variant of a product of the store, or the product itself; those without a SKU are left out."""
    products = [_variant(found, one) for one in found.variants or [found]]
    return [product for product in products if product.sku]


def _variant(product: Any, variant: Any) -> Product:
    own = variant is not product
    name = _line(product.name) or _line(variant.sku)
    if own and variant.name and variant.name != product.name:
        name = f"{name}, {_line(variant.name)}"
    price = variant.price if variant.price is not None else product.price
    return Product(
        variant.id or product.id, _line(variant.sku), name or product.id, _line(variant.barcode), price,
        (product.currency or "").upper(),
    )  # fmt: skip


def read_order(found: Any, currency: str, settings: Settings, known: Mapping[str, Sequence[Product]]) -> Order:
    """From an order of the store; `known` are the products, by the store's id, of rows that name no SKU themselves.

    Raises Rejected for what no ERP can hold.
    """
    number = _line(found.order_no) or found.id
    read = (_row(row, place, number, known.get(row.product_id, ())) for place, row in enumerate(found.items or (), 1))
    rows = [line for line in read if line is not None]
    cancelled = (found.status or "").lower() in CANCELLED
    if not rows and not cancelled:
        raise Rejected(f"order {number} has no rows in the store")
    if len(rows) > MOST_ROWS:
        raise Rejected(f"order {number} has {len(rows)} rows; at most {MOST_ROWS} are carried over")
    sums = _sums(found, rows)
    if not sums.row_discounts:
        rows = [replace(line, discount=ZERO) for line in rows]
    rows = list(_told_apart(rows))
    return Order(
        id=found.id,
        number=number,
        currency=currency,
        customer=_buyer(found),
        lines=(*_all_rows(rows, found, sums, settings),),
        placed_at=found.created_at,
        shipping_address=_address(found.shipping_address),
        billing_address=_address(found.billing_address),
        total=found.total,
        paid=_paid(found),
        due=_due(found),
        cancelled=cancelled,
        status=_line(found.status),
        comment=clean(found.comment or "", TEXT_LENGTH),
        taxes_as_sold=settings.taxes == "as sold",
        notes=(*_notes(found, currency),) if settings.notes else (),
    )


def _row(row: Any, place: int, number: str, known: Sequence[Product]) -> Line | None:
    """One row of goods; None for none of something. Raises Rejected where quantity or price cannot be told."""
    name = _line(row.name) or _line(row.sku) or f"row {place}"
    if row.variant_title and row.variant_title not in name:
        name = f"{name}, {_line(row.variant_title)}"
    if row.quantity is None:
        raise Rejected(f"order {number}, {name}: the store names no quantity that can be read")
    if row.quantity == 0 or (row.status or "").lower() in CANCELLED:
        return None
    price = row.price
    if price is None and row.total is not None:
        price = row.total / row.quantity
    if price is None:
        raise Rejected(f"order {number}, {name}: the store names no price that can be read")
    # What has no id at all is known by its name: by its place, one order's product would be written over another's.
    key = row.variant_id or row.product_id or row.sku or f"named-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    same = next((product for product in known if product.key == key or len(known) == 1), Product(key, "", name))
    product = replace(same, key=key, sku=_line(row.sku) or same.sku, name=name, price=price)
    return Line(row.id or f"row-{place}", product, name, row.quantity, price, row.discount or ZERO)


def _told_apart(rows: Sequence[Line]) -> Iterator[Line]:
    """The rows with a key of its own each: two of one key would be written over one another."""
    taken = {"discount", "shipping", "tax"}
    for place, line in enumerate(rows, 1):
        key = line.key if line.key not in taken else f"{line.key}-row-{place}"
        taken.add(key)
        yield replace(line, key=key)


def _sums(found: Any, rows: Sequence[Line]) -> Sums:
    """The first reading under which the rows make the total; where none does, no row's discount and no tax on top."""
    gross = sum((line.quantity * line.price for line in rows), ZERO)
    off = sum((line.discount for line in rows), ZERO)
    rest = (found.shipping or ZERO) - (found.discount or ZERO)
    for row_discounts in (False, True):
        for tax_on_top in (False, True):
            made = gross - (off if row_discounts else ZERO) + rest + ((found.tax or ZERO) if tax_on_top else ZERO)
            if made == found.total:
                return Sums(row_discounts, tax_on_top)
    return Sums(False, False)


def _all_rows(rows: Sequence[Line], found: Any, sums: Sums, settings: Settings) -> Iterator[Line]:
    """Goods, then what else the order costs or takes off."""
    off = found.discount or ZERO
    if off and settings.discounts == "percent":
        yield from _shared_out(rows, off)
    else:
        yield from rows
        if off:
            name = f"Discount {_line(found.coupon_code)}".strip()
            yield _extra("discount", settings.discount_sku, name, -off)
    if found.shipping:
        yield _extra("shipping", settings.shipping_sku, "Shipping", found.shipping)
    if settings.taxes == "as sold" and found.tax and sums.tax_on_top:
        yield _extra("tax", settings.tax_sku, "Tax", found.tax)


def _extra(kind: Any, sku: str, name: str, amount: Decimal) -> Line:
    return Line(kind, Product(kind, sku, name.partition(" ")[0], service=True), name, 1, amount, kind=kind)


def _shared_out(rows: Sequence[Line], off: Decimal) -> Iterator[Line]:
    """Each row with its share of the discount; the last one takes what rounding left."""
    whole = sum((line.amount for line in rows), ZERO)
    left = off
    for place, line in enumerate(rows, 1):
        share = left if place == len(rows) else round(off * line.amount / whole, 2) if whole else ZERO
        left -= share
        yield replace(line, discount=line.discount + share)


def _buyer(found: Any) -> Customer:
    """Who ordered, by what the order itself says; a person without an account is known by e-mail or phone."""
    addresses = [one for one in (found.billing_address, found.shipping_address) if one is not None]
    name = _name(found.first_name, found.last_name)
    name = name or next((made for one in addresses if (made := _name(one.first_name, one.last_name))), "")
    email = _line(found.email) or next((_line(one.email) for one in addresses if one.email), "")
    phone = _line(found.phone) or next((_line(one.phone) for one in addresses if one.phone), "")
    known = email.lower() or phone or name or found.id
    key = found.customer_id or f"{GUEST}{hashlib.sha256(known.encode()).hexdigest()[:12]}"
    address = _address(found.billing_address or found.shipping_address)
    return Customer(
        key, name or email or phone or f"Customer of order {found.order_no or found.id}", email, phone, address
    )


def _address(found: Any) -> Address | None:
    if found is None:
        return None
    made = Address(
        _name(found.first_name, found.last_name), _line(found.address_1),
        ", ".join(part for part in (_line(found.address_2), _line(found.locality)) if part),
        _line(found.city), _line(found.zip), _line(found.state), _line(found.country),
        _line(found.country_code).upper(), _line(found.phone), _line(found.email),
    )  # fmt: skip
    return made if any((made.name, made.street, made.city, made.zip)) else None


def _paid(found: Any) -> bool:
    if found.paid is not None:
        return bool(found.paid)
    return (found.payment_status or "").lower() in PAID


def _due(found: Any) -> bool:
    """Whether something is still to be paid, as far as the store tells; more than all may have been paid."""
    if found.amount_due is not None:
        return bool(found.amount_due > 0)
    return found.amount_paid is not None and found.total is not None and found.amount_paid < found.total


def _notes(found: Any, currency: str) -> Iterator[Note]:
    """What was paid and paid back, each amount once."""
    means = " ".join(part for part in (_line(found.payment_method), _line(found.payment_id)) if part)
    if found.amount_paid:
        paid = amount_text(found.amount_paid, currency)
        yield Note(f"paid {paid}", f"Paid in the store: {paid} {currency}" + (f" ({means})" if means else ""))
    elif found.paid:
        yield Note("paid", "Paid in the store" + (f" ({means})" if means else ""))
    if found.amount_refunded:
        refunded = amount_text(found.amount_refunded, currency)
        yield Note(f"refunded {refunded}", f"Refunded in the store: {refunded} {currency} in all")


def _name(first: str | None, last: str | None) -> str:
    return clean(" ".join(part for part in (first, last) if part), NAME_LENGTH)


def _line(text: str | None) -> str:
    return clean(text or "", NAME_LENGTH)
