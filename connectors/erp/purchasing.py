"""The small interface behind which one kind of ERP keeps purchase orders, beside connectors.erp.backend for sales.

It lives as long as its route; each call takes the delivery's Context and sends once. What fails raises an outcome of
hub.connector, or the HTTP error flies. A purchase is written once, however often it is asked for: it is known there by
its id.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from connectors.erp.records import Product, Record, Write
from hub.connector import Context


@dataclass(frozen=True)
class Vendor:
    """Who delivers a product, by the ERP's own list: the first is the preferred one."""

    name: str
    price: Decimal | None = None
    currency: str | None = None
    minimum: int = 1
    lead_time: timedelta | None = None
    sku: str = ""


@dataclass(frozen=True)
class PurchaseLine:
    """One row of a purchase order. `key` is its own within the order; without a price the ERP's own is taken."""

    key: str
    product: Product
    quantity: int
    price: Decimal | None = None


@dataclass(frozen=True)
class Purchase:
    """A purchase order. `id` never changes and makes it known again; `number` is what the supplier is told."""

    id: str
    number: str
    vendor: str
    lines: tuple[PurchaseLine, ...]
    currency: str | None = None
    ordered_at: datetime | None = None


class Purchasing(ABC):
    """Purchase orders in one ERP under one route's settings."""

    @property
    def tells_open(self) -> bool:
        """Whether `open_line` can tell at all."""
        return True

    @abstractmethod
    async def vendors_of(self, product: Product, ctx: Context) -> Sequence[Vendor]:
        """Those who deliver it; none where the ERP knows none, or not the product."""

    @abstractmethod
    async def open_line(self, product: Product, ctx: Context) -> str | None:
        """The number of a purchase order by which the product is still to come, or is about to be ordered."""

    @abstractmethod
    async def find_purchase(self, purchase: Purchase, ctx: Context) -> Record | None:
        """The purchase order, if it was written; None too where the ERP cannot be asked."""

    @abstractmethod
    async def write_purchase(self, purchase: Purchase, confirm: bool, ctx: Context) -> Record:
        """The purchase order: the one that is there by that id, or made now, with all its rows or none.

        `confirm`: not left as a draft. Raises Rejected where vendor or products are unknown to the ERP.
        """

    @abstractmethod
    async def plan_purchase(self, purchase: Purchase, ctx: Context) -> list[Write]:
        """What would be written. Writes nothing."""

    @abstractmethod
    async def check(self, ctx: Context) -> str:
        """A sentence: who and where, what works. Raises HoldRoute or Rejected, with what is missing in plain words."""
