"""What happens in the store: shoppers, staff and time change its state, and the store tells of it by webhooks.

Each is a function over a Shop: it changes the state at once, starts the webhooks and returns the row.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from hub.testing.store.errors import ApiError
from hub.testing.store.resources import RESOURCES, Row, kept, moment_of
from hub.testing.store.seeding import new_person, some_lines
from hub.testing.store.sending import BURST
from hub.testing.store.shop import Shop
from hub.testing.store.words import ORDER_STATUSES

STEPS = ("placed", "paid", "updated", "cancelled")
Lane = asyncio.Semaphore | None


def place_order(
    shop: Shop,
    customer_id: str | None = None,
    items: Sequence[dict[str, Any]] | None = None,
    lane: Lane = None,
    **more: Any,
) -> Row:
    """`order.placed`, and `inventory.low` for what falls through its threshold by it.

    `items`: `{sku, quantity}` each, by default some of what is in stock; `customer_id`: any customer by default.
    """
    state = shop.state
    customers = list(state.rows("customers"))
    if not customers and not customer_id:
        raise ApiError(404, "There is no customer")
    customer = state.find("customers", customer_id) if customer_id else state.random.choice(customers)
    lines = [state.line_of(state.shelf(item["sku"]), item.get("quantity", 1)) for item in items or ()]
    order = state.add_order(customer, lines or some_lines(state), **_values(more))
    ordered(shop, order, lane)
    return order


def ordered(shop: Shop, order: Row, lane: Lane = None) -> None:
    """What follows from a new order: its webhook, and stock that falls."""
    shop.tell("order.placed", order, lane)
    for line in order["line_items"]:
        if shelf := shop.state.sold_as(line["sku"]):
            take_stock(shop, shelf, line["quantity"], lane)


def take_stock(shop: Shop, shelf: Row, quantity: int, lane: Lane = None) -> Row:
    if shop.state.set_stock(shelf, shelf["stock"] - quantity):
        shop.tell("inventory.low", shelf, lane)
    return shelf


def pay(shop: Shop, order_id: str, amount: float | None = None) -> Row:
    """`payment.completed`: all that is due, or `amount` of it. Returns the payment."""
    order = shop.state.find("orders", order_id)
    payment = shop.state.add_payment(order, None if amount is None else Decimal(str(amount)))
    shop.tell("payment.completed", payment)
    return payment


def update(shop: Shop, order_id: str, **changes: Any) -> Row:
    """`order.updated`: these fields, by default the next status that the store knows."""
    order = shop.state.find("orders", order_id)
    shop.state.change("orders", order, _values(changes) or {"status": next_status(order["status"])})
    shop.tell("order.updated", order)
    return order


def next_status(status: str) -> str:
    if status not in ORDER_STATUSES:
        return ORDER_STATUSES[0]
    return ORDER_STATUSES[min(ORDER_STATUSES.index(status) + 1, len(ORDER_STATUSES) - 1)]


def cancel(shop: Shop, order_id: str, reason: str | None = None) -> Row:
    """`order.cancelled`; what was ordered is in stock again."""
    order = shop.state.find("orders", order_id)
    shop.state.change("orders", order, {"status": "cancelled"} | ({"comment": reason} if reason else {}))
    for line in order["line_items"]:
        if shelf := shop.state.sold_as(line["sku"]):
            shop.state.set_stock(shelf, shelf["stock"] + line["quantity"])
    shop.tell("order.cancelled", order)
    return order


def register_customer(shop: Shop, **fields: Any) -> Row:
    """`customer.registered`."""
    number = len(shop.state.tables["customers"]) + 1
    while any(shop.state.rows("customers", email=f"customer{number}@example.test")):
        number += 1
    person = new_person(shop.state, f"customer{number}@example.test")
    customer = shop.state.add("customers", person | _values(fields))
    shop.tell("customer.registered", customer)
    return customer


def create_product(shop: Shop, **fields: Any) -> Row:
    """`product.created`. Give it a `sku`, or it cannot be sold."""
    number = len(shop.state.tables["products"]) + 1
    settled = {"name": f"Novelty no. {number}", "price": 9.5, "stock": 25, "status": "published"} | fields
    made = shop.state.add_product(kept(RESOURCES["products"], settled) | {"variants": fields.get("variants", [])})
    shop.tell("product.created", made)
    return made


def change_product(shop: Shop, product_id: str, **fields: Any) -> Row:
    """`product.updated`. For its stock there is `restock`."""
    product = shop.state.find("products", product_id)
    shop.state.change("products", product, kept(RESOURCES["products"], fields))
    shop.tell("product.updated", product)
    return product


def sell(shop: Shop, sku: str, quantity: int = 1) -> Row:
    """Sold over the counter, without an order: `inventory.low` where it falls through the threshold."""
    return take_stock(shop, shop.state.shelf(sku), quantity)


def restock(shop: Shop, sku: str, stock: int) -> Row:
    """`product.updated`: so many are there now. `inventory.low` too, should that be below the threshold."""
    shelf = shop.state.shelf(sku)
    fell = shop.state.set_stock(shelf, stock)
    for product in shop.state.rows("products", id=shelf["product_id"]):
        shop.tell("product.updated", product)
    if fell:
        shop.tell("inventory.low", shelf)
    return shelf


def sequence(shop: Shop, steps: Sequence[str] = STEPS, **more: Any) -> Row:
    """An order's whole life, step by step: placed, paid, updated, cancelled, or those of them in `steps`."""
    order = place_order(shop, **more)
    acts: dict[str, Callable[[Shop, str], Row]] = {"paid": pay, "updated": update, "cancelled": cancel}
    for step in steps:
        if step != "placed":
            acts[step](shop, order["id"])
    return order


def burst(shop: Shop, count: int, together: int = BURST) -> list[Row]:
    """So many orders at once, `together` of their webhooks under way at a time, in no order."""
    lane = asyncio.Semaphore(together)
    return [place_order(shop, lane=lane) for _ in range(count)]


HAPPENINGS: dict[str, Callable[..., Row | list[Row]]] = {
    one.__name__: one
    for one in (
        place_order, pay, update, cancel, register_customer, create_product, change_product, sell, restock, sequence,
        burst,
    )
}  # fmt: skip


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    """As rows hold them, from JSON: money as Decimal, times (`created_at`) aware."""

    def value_of(name: str, value: Any) -> Any:
        if isinstance(value, float):
            return Decimal(str(value))
        return moment_of(value) if name.endswith("_at") else value

    return {name: value_of(name, value) for name, value in fields.items()}


# ---- what is told of a write through the API

ADDED = {"products": "product.created", "customers": "customer.registered", "payments": "payment.completed"}


def written(shop: Shop, resource: str, row: Row, made: bool, before: Row, fell: Iterable[Row]) -> None:
    """The webhooks of a write through the API, if the store sends those (`echo`)."""
    if not shop.settings.echo:
        return
    if made and resource == "orders":
        ordered(shop, row)
    elif made and resource in ADDED:
        shop.tell(ADDED[resource], row)
    elif not made and resource == "orders":
        ended = row["status"] == "cancelled" != before["status"]
        shop.tell("order.cancelled" if ended else "order.updated", row)
    elif not made and resource == "products":
        shop.tell("product.updated", row)
    elif not made and resource == "inventory" and row["stock"] != before["stock"]:
        for product in shop.state.rows("products", id=row["product_id"]):
            shop.tell("product.updated", product)
    for shelf in fell:
        shop.tell("inventory.low", shelf)
