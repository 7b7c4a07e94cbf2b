"""What the templates of `rest` can name: the records as plain values, and one of each made up, for `check`."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from connectors.erp.records import Address, Customer, Line, Note, Order, Product

Names = Mapping[str, Any]


class Omitted(str):
    """The value of `omit`: an entry of a body that comes to it is left out."""

    __slots__ = ()


OMIT = Omitted()


def plain(value: Any) -> Any:
    """A record as names and values, lists of them as lists; `amount` is there where the record works it out."""
    if is_dataclass(value):
        made = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return made | {"amount": value.amount} if isinstance(value, Line | Order) else made
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


ADDRESS = Address("Asha Rao", "1 MG Road", "", "Bengaluru", "560001", "KA", "India", "IN", "+91 80 1", "a@example.com")
CUSTOMER = Customer("cust_1", "Asha Rao", "asha@example.com", "+91 80 1", ADDRESS)
PRODUCT = Product("var_1", "KET-1", "Kettle", "8901", Decimal("29.50"), "INR")
SAMPLE = Order(
    "ord_1",
    "1001",
    "INR",
    CUSTOMER,
    (Line("1", PRODUCT, "Kettle", 2, Decimal("29.50"), Decimal("1.00")),),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    ADDRESS,
    ADDRESS,
    Decimal("58.00"),
    notes=(Note("paid 58.00", "Paid on Litekart: 58.00"),),
)
