"""An order to a supplier as each form of it has it: its number, its rows, its sum; the same at every attempt."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hub.connector import Reorder, ReorderOrder, amount_text

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LONG = 8


@dataclass(frozen=True)
class Row:
    """What is ordered of one SKU for one place. `price` is that of one, None where it is not known."""

    id: str
    sku: str
    supplier_sku: str
    name: str
    quantity: int
    price: Decimal | None
    location: str
    location_name: str
    reason: str
    product_id: str | None = None
    variant_id: str | None = None
    threshold: int | None = None

    @property
    def amount(self) -> Decimal | None:
        return None if self.price is None else self.quantity * self.price


@dataclass(frozen=True)
class Order:
    """`total` is None where a price is missing."""

    id: str
    number: str
    store: str
    supplier: str
    currency: str | None
    rows: tuple[Row, ...]
    reorder: ReorderOrder

    @property
    def total(self) -> Decimal | None:
        amounts = [row.amount for row in self.rows]
        known = [amount for amount in amounts if amount is not None]
        return sum(known, Decimal(0)) if len(known) == len(amounts) else None

    @property
    def unpriced(self) -> list[str]:
        return [row.sku for row in self.rows if row.price is None]

    def plain(self) -> dict[str, Any]:
        """As templates know it; `price`, `amount` and `total` are Decimal or None, `price_text` is how it reads."""
        lines = [
            {
                "sku": row.sku, "supplier_sku": row.supplier_sku, "name": row.name, "quantity": row.quantity,
                "price": row.price, "amount": row.amount, "location": row.location,
                "location_name": row.location_name,
                "price_text": "" if row.price is None else price_text(row.price, self.currency),
            }
            for row in self.rows
        ]  # fmt: skip
        return {
            "id": self.id, "number": self.number, "store": self.store, "supplier": self.supplier,
            "currency": self.currency or "", "lines": lines, "total": self.total,
        }  # fmt: skip


def order_of(found: ReorderOrder, store: str, prefix: str, places: Mapping[str, str]) -> Order:
    """From what the hub keeps. Rows stand by SKU and place, whatever the order in which they were opened."""
    lines = sorted(found.lines, key=lambda line: (line.sku, line.location))
    rows = tuple(_row(line, places) for line in lines)
    return Order(found.id, number_of(found.id, prefix), store, found.supplier, found.currency, rows, found)


def _row(line: Reorder, places: Mapping[str, str]) -> Row:
    return Row(
        line.id, line.sku, str(line.more.get("supplier_sku") or ""), line.name, line.quantity, line.unit_price,
        line.location, places.get(line.location, ""), line.reason, line.product_id, line.variant_id,
        line.threshold,
    )  # fmt: skip


def number_of(order_id: str, prefix: str) -> str:
    """`PO-4F2A9CKT`: made of the order's id alone, so that every attempt, and every replay, has the same."""
    number = int.from_bytes(hashlib.sha256(order_id.encode()).digest()[:8], "big")
    return prefix + "".join(LETTERS[number >> shift & 31] for shift in range(0, LONG * 5, 5))


def price_text(price: Decimal, currency: str | None) -> str:
    """`12.50`: with the currency's decimals, and more where a piece costs less than they can tell."""
    text = amount_text(price, currency or "")
    return text if Decimal(text.replace(",", "")) == price else f"{price.normalize():f}"


def told(rows: Sequence[Row]) -> str:
    """`60 of KET-1, 12 of CUP-2`, and how many more."""
    shown = ", ".join(f"{row.quantity} of {row.sku}" for row in rows[:5])
    return shown if len(rows) <= 5 else f"{shown} and {len(rows) - 5} more"
