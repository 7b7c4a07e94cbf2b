"""The settings of docs/erp/, as a route reads them, and orders to write with them."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from connectors.erp.records import Address, Customer, Line, Note, Order, Product
from connectors.erp.rest.backend import RestBackend
from connectors.erp.settings import Settings
from hub.yamlfile import read_yaml

RECIPES = Path(__file__).parents[3] / "docs" / "erp"
PLACE = Address("Asha Rao", "1 MG Road", "", "Bengaluru", "560001", "", "India", "IN")


def recipe(name: str, **environ: str) -> dict[str, Any]:
    """What stands in the file, with `${NAME}` filled in."""
    value = read_yaml(RECIPES / f"{name}.yaml", environ).value
    assert isinstance(value, dict)
    return value


def backend_of(settings: dict[str, Any]) -> RestBackend:
    made = Settings.model_validate(settings)
    assert made.rest is not None
    return RestBackend(made.rest)


def an_order(tag: str, *, quantity: int = 2, currency: str = "USD", **more: Any) -> Order:
    """Two kettles (say), a spoon less a discount, and shipping: 29.50 each, 3.50, 4.00."""
    customer = Customer(f"cust-{tag}", "Asha Rao", f"asha_{tag}@example.com", "+91 98450 00000", PLACE)
    rows = (
        ("1", "KET", "Kettle <b>No. 1</b>", quantity, "29.50", "0", "goods"),
        ("2", "SPO", "Löffel 🥄", 1, "4.00", "0.50", "goods"),
        ("shipping", "SHIPPING", "Shipping", 1, "4.00", "0", "shipping"),
    )
    lines = tuple(
        Line(key, _product(sku, tag, name), name, count, Decimal(price), Decimal(off), kind)  # type: ignore[arg-type]
        for key, sku, name, count, price, off, kind in rows
    )
    placed = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    order = Order(f"ord_{tag}", f"10{tag}", currency, customer, lines, placed, PLACE, PLACE)
    return replace(order, total=order.amount, **more)


def _product(sku: str, tag: str, name: str) -> Product:
    return Product(f"{sku}-{tag}", f"{sku}-{tag}", name, price=Decimal("29.50"), service=sku == "SHIPPING")


PAID = Note("paid 66.50", "Paid on Litekart: 66.50 USD (pay_1)")
