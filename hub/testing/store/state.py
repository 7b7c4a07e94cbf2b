"""The store's present state: a table for each resource, the rules that hold between them, and stock.

Rows are dicts in the double's own names, with Decimal for money and aware datetimes.
"""

import random
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from hub.clock import system_time
from hub.testing.store.errors import ApiError
from hub.testing.store.resources import RESOURCES, Row
from hub.testing.store.settings import StoreSettings

CENT = Decimal("0.01")
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# What an order in one of these no longer holds back.
OVER = {"cancelled", "refunded", "delivered", "completed"}


class State:
    """All rows. Ids are `ord_123456` in seed and `ord_` with a ULID in v2, as each profile's evidence has them."""

    def __init__(self, settings: StoreSettings) -> None:
        self.profile = settings.profile
        self.store_id = settings.store_id
        self.threshold = settings.threshold
        self.currency = settings.currency
        # Data for tests, the same again for the same seed.
        self.random = random.Random(settings.seed)  # noqa: S311 - the same data each time
        # Apart, since the profiles' ids take different amounts of it.
        self._id_random = random.Random(settings.seed)  # noqa: S311 - the same data each time
        self.tables: dict[str, dict[str, Row]] = {name: {} for name in RESOURCES}
        self.next_order_no = 1001
        self._given: set[str] = set()

    # ---- rows

    def new_id(self, prefix: str, at: datetime | None = None) -> str:
        """An id of its own; in v2 one that says when its row was made, now unless `at` is given."""
        while True:
            identity = f"{prefix}_{self._ulid(at or system_time()) if self.profile == 'v2' else self._six_digits()}"
            if identity not in self._given:
                self._given.add(identity)
                return identity

    def _six_digits(self) -> int:
        return self._id_random.randrange(100_000, 1_000_000)

    def _ulid(self, at: datetime) -> str:
        number = (int(at.timestamp() * 1000) << 80) | self._id_random.getrandbits(80)
        return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))

    def rows(self, resource: str, **where: Any) -> Iterator[Row]:
        """All rows in the order of their making; `where`: those with these values."""
        for row in list(self.tables[resource].values()):
            if all(row.get(name) == value for name, value in where.items()):
                yield row

    def find(self, resource: str, identity: str) -> Row:
        """By id; orders by their number too, products, categories, pages and blogs by their slug. ApiError 404."""
        if row := self.tables[resource].get(identity):
            return row
        for row in self.tables[resource].values():
            if identity in (row.get("slug"), str(row.get("order_no", ""))):
                return row
        raise ApiError(404, f"{RESOURCES[resource].one} not found")

    def add(self, resource: str, row: Row) -> Row:
        """A new row, with its id and times. ApiError 409 where a unique value is taken."""
        self._only_one(resource, row, None)
        now = system_time()
        made = {"id": self.new_id(RESOURCES[resource].prefix, row.get("created_at", now)), **row}
        made.setdefault("created_at", now)
        made.setdefault("updated_at", made["created_at"])
        self.tables[resource][made["id"]] = made
        return made

    def change(self, resource: str, row: Row, changes: Mapping[str, Any]) -> Row:
        """The row with these values, and the moment of it."""
        self._only_one(resource, changes, row["id"])
        row.update(changes)
        row["updated_at"] = system_time()
        return row

    def remove(self, resource: str, row: Row) -> None:
        """ApiError 409 where others depend on it."""
        self._nothing_depends(resource, row)
        if resource == "products":
            for shelf in self.rows("inventory", product_id=row["id"]):
                del self.tables["inventory"][shelf["id"]]
        del self.tables[resource][row["id"]]

    def _only_one(self, resource: str, values: Mapping[str, Any], own: str | None) -> None:
        standing = self.tables[resource].get(own or "", {})
        for unique in RESOURCES[resource].unique:
            names = (unique,) if isinstance(unique, str) else unique
            wanted = {name: values.get(name, standing.get(name)) for name in names}
            if wanted[names[0]] is None or not any(name in values for name in names):
                continue
            taken = any(
                all(row.get(name) == value for name, value in wanted.items()) and row["id"] != own
                for row in self.tables[resource].values()
            )
            if taken:
                raise ApiError(409, f"{names[0]} {wanted[names[0]]} exists already", extra={"field": names[0]})

    def _nothing_depends(self, resource: str, row: Row) -> None:
        if resource == "products":
            lines = [
                order["id"]
                for order in self.rows("orders")
                if order["status"] not in OVER
                if any(line["product_id"] == row["id"] for line in order["line_items"])
            ]
            if lines:
                raise ApiError(409, "Product is part of active orders", extra={"activeOrders": len(lines)})
        if resource == "categories" and (count := len(list(self.rows("products", category_id=row["id"])))):
            raise ApiError(409, "Category has products", extra={"count": count})

    # ---- products and their stock

    def add_product(self, row: Row) -> Row:
        """A product with its variants, each of which, or the product itself, has an inventory row."""
        variants = row.pop("variants", [])
        made: Row = {
            "name": row["name"], "slug": None, "description": "", "status": "draft", "price": Decimal(0),
            "mrp": row.get("price"), "cost": None, "currency": self.currency, "sku": None, "barcode": None, "stock": 0,
            "manage_inventory": True, "allow_backorder": False, "category_id": None, "brand_id": None, "images": [],
            "keywords": "", "variants": [],
        }  # fmt: skip
        made = self.add("products", made | row)
        if made["slug"] is None:
            made["slug"] = f"{slug_of(made['name'])}-{made['id'].rpartition('_')[2].lower()}".strip("-")
        for variant in variants:
            self.add_variant(made, variant)
        if not variants and made["sku"]:
            self._add_shelf(made, None, made["sku"], made["stock"])
        return made

    def add_variant(self, product: Row, row: Row) -> Row:
        made: Row = {
            "id": self.new_id("var"), "product_id": product["id"], "name": product["name"], "sku": None,
            "price": product["price"], "mrp": product["mrp"], "stock": 0, "manage_inventory": True,
            "options": [], "created_at": product["created_at"], "updated_at": product["updated_at"],
        } | row  # fmt: skip
        made["sku"] = made["sku"] or f"{product['sku'] or product['id']}-{len(product['variants']) + 1}"
        product["variants"].append(made)
        self._add_shelf(product, made["id"], made["sku"], made["stock"])
        self._add_up(product)
        return made

    def _add_shelf(self, product: Row, variant_id: str | None, sku: str, stock: int) -> None:
        self.add("inventory", {
            "product_id": product["id"], "variant_id": variant_id, "sku": sku, "stock": stock,
            "low_stock_threshold": self.threshold, "reorder_point": self.threshold * 2, "cost_price": product["cost"],
            "location": "A-1", "warehouse_id": next((one["id"] for one in self.rows("warehouses")), None),
            "lead_time": 7, "active": True, "created_at": product["created_at"],
        })  # fmt: skip

    def shelf(self, sku: str) -> Row:
        """The inventory row of a SKU, or of a row's, a variant's or a simple product's id. ApiError 404."""
        found = self.sold_as(sku) or next(self.rows("inventory", product_id=sku), None)
        if found is None:
            raise ApiError(404, f"Nothing is sold as {sku}")
        return found

    def sold_as(self, sku: str) -> Row | None:
        """The inventory row of a SKU or a variant's id, or of that id itself, if it is still sold."""
        return next((row for row in self.rows("inventory") if sku in (row["sku"], row["variant_id"], row["id"])), None)

    def set_stock(self, shelf: Row, stock: int) -> bool:
        """The stock of an inventory row, its variant and its product. True where it fell through the threshold."""
        before, limit = shelf["stock"], shelf["low_stock_threshold"]
        self.change("inventory", shelf, {"stock": stock})
        if product := self.tables["products"].get(shelf["product_id"]):
            for variant in product["variants"]:
                if variant["id"] == shelf["variant_id"]:
                    variant |= {"stock": self._in_all(shelf), "updated_at": shelf["updated_at"]}
            self._add_up(product, self._in_all(shelf))
            product["updated_at"] = shelf["updated_at"]
        return bool(before > limit >= stock)

    def _in_all(self, shelf: Row) -> int:
        """The stock of what an inventory row holds, in all warehouses."""
        where = {name: shelf[name] for name in ("product_id", "variant_id")}
        return sum(row["stock"] for row in self.rows("inventory", **where))

    def _add_up(self, product: Row, alone: int = 0) -> None:
        variants = product["variants"]
        product["stock"] = sum(variant["stock"] for variant in variants) if variants else alone

    # ---- orders

    def line_of(self, shelf: Row, quantity: int) -> Row:
        """A line item of what an inventory row holds."""
        product = self.find("products", shelf["product_id"])
        variant = next((one for one in product["variants"] if one["id"] == shelf["variant_id"]), None)
        price = (variant or product)["price"]
        return {
            "id": self.new_id("itm"), "product_id": product["id"], "variant_id": shelf["variant_id"],
            "slug": product["slug"], "sku": shelf["sku"], "name": product["name"],
            "variant_name": variant["name"] if variant else None, "quantity": quantity, "price": price,
            "mrp": (variant or product)["mrp"], "subtotal": price * quantity, "discount": Decimal(0),
            "total": price * quantity, "status": "created",
        }  # fmt: skip

    def add_order(self, customer: Row, lines: list[Row], **more: Any) -> Row:
        """An order of these lines; its amounts follow from them."""
        subtotal = sum((line["subtotal"] for line in lines), Decimal(0))
        shipping = Decimal(0) if subtotal >= 50 else Decimal("4.90")
        discount = (subtotal / 10).quantize(CENT) if more.get("coupon_code") else Decimal(0)
        total = subtotal + shipping - discount
        number, self.next_order_no = self.next_order_no, self.next_order_no + 1
        address = dict(customer.get("address") or {})
        order = {
            "order_no": number, "parent_order_no": str(number), "status": "pending", "customer_id": customer["id"],
            "first_name": customer["first_name"], "last_name": customer["last_name"], "email": customer["email"],
            "phone": customer["phone"], "comment": None, "cart_id": None, "currency": self.currency,
            "subtotal": subtotal, "discount": discount, "shipping": shipping,
            "tax": (subtotal * Decimal("0.19") / Decimal("1.19")).quantize(CENT), "total": total,
            "amount_paid": Decimal(0), "amount_due": total, "amount_refunded": Decimal(0), "paid": False,
            "payment_status": "unpaid", "payment_method": "card", "coupon_code": None,
            "shipping_address": address, "billing_address": address, "line_items": lines,
        } | more  # fmt: skip
        return self.add("orders", order)

    def add_payment(self, order: Row, amount: Decimal | None = None, **more: Any) -> Row:
        """A payment of an order, of all that is due unless said otherwise. The order becomes paid by it."""
        paid = order["amount_due"] if amount is None else amount
        payment = self.add("payments", {
            "order_id": order["id"], "amount": paid, "currency": order["currency"], "method": order["payment_method"],
            "status": "completed", "transaction_id": f"txn_{self.random.getrandbits(40):010x}",
        } | more)  # fmt: skip
        due = max(order["amount_due"] - paid, Decimal(0))
        order |= {
            "amount_paid": order["amount_paid"] + paid, "amount_due": due, "paid": due == 0,
            "payment_status": "partially_paid" if due else "paid", "updated_at": payment["updated_at"],
        }  # fmt: skip
        return payment


def slug_of(name: str) -> str:
    """`Café set` as `cafe-set`; letters of other scripts are left out."""
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in plain).split())
