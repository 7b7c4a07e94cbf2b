"""What a webhook's `data` holds. Only that of `order.placed` is documented: `orderId`, `customerId` and `total`."""

from typing import Any

from hub.testing.store.resources import Row
from hub.testing.store.settings import Payload
from hub.testing.store.state import State


def data_of(state: State, event: str, row: Row, payload: Payload) -> dict[str, Any]:
    """The data of that event about that row: an order, payment, product, customer or inventory row.

    `page`: ids and what cannot be missing, as the vendor's page has it. `full`: names, items and more.
    """
    noun = event.partition(".")[0]
    short, long = {
        "order": _order, "payment": _payment, "product": _product, "customer": _customer, "inventory": _low
    }[noun](state, row)  # fmt: skip
    if event in {"order.updated", "order.cancelled"}:
        short["status"] = row["status"]
    return short | long if payload == "full" else short


def entity_id(event: str, row: Row) -> str:
    """The id that a webhook is about, as it is recorded."""
    names = {"payment.completed": "order_id", "inventory.low": "sku"}
    return str(row[names.get(event, "id")])


Parts = tuple[dict[str, Any], dict[str, Any]]


def _order(state: State, row: Row) -> Parts:
    short = {"orderId": row["id"], "customerId": row["customer_id"], "total": row["total"]}
    long = {
        "orderNo": row["order_no"], "currency": row["currency"], "status": row["status"],
        "customer": {"firstName": row["first_name"], "lastName": row["last_name"], "email": row["email"]},
        "items": [
            {"name": line["name"], "sku": line["sku"], "quantity": line["quantity"], "price": line["price"]}
            for line in row["line_items"]
        ],
    }  # fmt: skip
    if row["status"] == "cancelled" and row["comment"]:
        long["reason"] = row["comment"]
    return short, long


def _payment(state: State, row: Row) -> Parts:
    short = {"paymentId": row["id"], "orderId": row["order_id"], "amount": row["amount"]}
    number = state.tables["orders"][row["order_id"]]["order_no"]
    return short, {"orderNo": number, "currency": row["currency"], "method": row["method"]}


def _product(state: State, row: Row) -> Parts:
    short = {"productId": row["id"], "name": row["name"], "price": row["price"]}
    return short, {"sku": row["sku"], "currency": row["currency"], "stock": row["stock"], "status": row["status"]}


def _customer(state: State, row: Row) -> Parts:
    names = {"firstName": row["first_name"], "lastName": row["last_name"]}
    return {"customerId": row["id"], "email": row["email"]}, names


def _low(state: State, row: Row) -> Parts:
    short = {
        "productId": row["product_id"], "sku": row["sku"], "stock": row["stock"],
        "threshold": row["low_stock_threshold"],
    }  # fmt: skip
    if row["variant_id"]:
        short["variantId"] = row["variant_id"]
    product = state.tables["products"].get(row["product_id"])
    return short, {"name": product["name"]} if product else {}
