"""What an ERP is given, whatever its kind: a customer, products, a sales order, as frozen values.

They are made of the store's present state (connectors.erp.reading) and of the settings: shipping, discount and tax of
an order are lines already, in the order in which they are written. Money is Decimal in major units of the order's
currency, rounded to its digits; texts are cleaned: one line, no controls.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

Kind = Literal["goods", "discount", "shipping", "tax"]
State = Literal["draft", "confirmed", "cancelled"]
GUEST = "guest-"
"""What the key of a customer without an account starts with."""


@dataclass(frozen=True)
class Address:
    """Where something goes or who pays. `country_code` has two letters; either name of a country may be missing."""

    name: str = ""
    street: str = ""
    street2: str = ""
    city: str = ""
    zip: str = ""
    state: str = ""
    country: str = ""
    country_code: str = ""
    phone: str = ""
    email: str = ""


@dataclass(frozen=True)
class Customer:
    """Who buys. `key` is the store's id, or `guest-` and a hash of the e-mail or phone where somebody has none."""

    key: str
    name: str
    email: str = ""
    phone: str = ""
    address: Address | None = None


@dataclass(frozen=True)
class Product:
    """What is sold, one for each variant. `key` is the variant's id, the product's where it has none, or the SKU."""

    key: str
    sku: str
    name: str
    barcode: str = ""
    price: Decimal | None = None
    currency: str = ""
    service: bool = False


@dataclass(frozen=True)
class Line:
    """One row of an order. `key` is its own within the order; `price` that of one piece, `discount` that of the row.

    A discount, shipping or tax row has a quantity of 1, and a product that is a service; a discount's price is below 0.
    """

    key: str
    product: Product
    name: str
    quantity: int
    price: Decimal
    discount: Decimal = Decimal(0)
    kind: Kind = "goods"

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.price - self.discount


@dataclass(frozen=True)
class Note:
    """Something to be written beside the order once: `key` says what it is, such as `paid 59.00`."""

    key: str
    text: str


@dataclass(frozen=True)
class Order:
    """A sales order as the store has it now. `total` is the store's own, None where it names none.

    `paid`: in full; `due`: the store says that something is still to be paid; `taxes_as_sold`: the rows hold all tax
    there is, and the ERP is to add none.
    """

    id: str
    number: str
    currency: str
    customer: Customer
    lines: tuple[Line, ...]
    placed_at: datetime | None = None
    shipping_address: Address | None = None
    billing_address: Address | None = None
    total: Decimal | None = None
    paid: bool = False
    due: bool = False
    cancelled: bool = False
    status: str = ""
    comment: str = ""
    taxes_as_sold: bool = False
    notes: tuple[Note, ...] = field(default=())

    @property
    def amount(self) -> Decimal:
        """What the rows make."""
        return sum((line.amount for line in self.lines), Decimal(0))


@dataclass(frozen=True)
class Record:
    """What stands in the ERP: its own id, the number that people know it by, its state (`draft` where it has none).

    `described` is the ERP's own word for the state; `url` is where a person sees it.
    """

    id: str
    number: str
    state: State = "draft"
    described: str = ""
    url: str | None = None


@dataclass(frozen=True)
class Written:
    """What came of a write. `fingerprint` is a hash of the rows; not `changed`: they were the same as last time.

    `remarks` are sentences for a person about what is there but worth a look (another total).
    """

    record: Record
    fingerprint: str
    changed: bool = True
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Write:
    """One thing that would be written: to what (`sale.order`, `POST /orders`), its rows as JSON values, and what these
    would change, a sentence each (`quantity of KET-1: 2 becomes 3`); none: nothing changes."""

    target: str
    rows: object
    changes: tuple[str, ...] = ()
