"""An order that is made up, with all that belongs to it: what `check` fills the settings' templates in with."""

from datetime import UTC, datetime
from decimal import Decimal

from connectors.erp.records import Address, Customer, Line, Note, Order, Product

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
