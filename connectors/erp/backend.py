"""The small interface behind which one kind of ERP stands: all that the connector itself knows of it.

A backend lives as long as its route and keeps what it learned about the server; a session is one delivery's talk with
it. Every call sends once: what fails raises an outcome of hub.connector, or the HTTP error flies and the hub reads it.
Each write can be repeated: after a crash between sending and recording it finds what was made, and makes no second.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from connectors.erp.records import Customer, Note, Order, Product, Record, Write, Written
from hub.connector import Context


class Session(ABC):
    """What one delivery asks of the ERP."""

    @abstractmethod
    async def find_order(self, order: Order, known: str | None) -> Record | None:
        """The sales order that stands for it. `known` is the id that was kept; it may be gone, or (None) not be kept
        although it was made."""

    @abstractmethod
    async def write_order(self, order: Order, record: Record | None, last: str | None) -> Written:
        """Make or change it, with its customer and products before it; with the fingerprint `last` nothing is written.

        All rows or none: half an order is never left behind.
        """

    @abstractmethod
    async def confirm(self, record: Record) -> Record:
        """From a quotation to an order. One that is confirmed stays as it is."""

    @abstractmethod
    async def cancel(self, record: Record) -> Record:
        """Raises Rejected where the ERP does not let it (it was shipped, say), with its words."""

    @abstractmethod
    async def note(self, record: Record, note: Note) -> None:
        """Write it beside the order, once: it is looked for by its key first."""

    @abstractmethod
    async def write_customer(self, customer: Customer, last: str | None) -> Written: ...

    @abstractmethod
    async def write_products(self, products: Sequence[Product], last: str | None) -> Written:
        """Make or change them; the record is the first one's."""

    @abstractmethod
    async def plan_order(self, order: Order, record: Record | None) -> list[Write]:
        """What `write_order` would write. Writes nothing."""

    @abstractmethod
    async def plan_customer(self, customer: Customer) -> list[Write]: ...

    @abstractmethod
    async def plan_products(self, products: Sequence[Product]) -> list[Write]: ...


class Backend(ABC):
    """One ERP under one route's settings."""

    @abstractmethod
    async def session(self, ctx: Context) -> Session:
        """For one delivery. May ask the server what it is, once."""

    @abstractmethod
    async def check(self, ctx: Context) -> str:
        """A sentence: who and where, what works. Raises HoldRoute or Rejected, all that is missing in plain words."""
