"""What a store has: each resource's fields, which of them are needed, which are unique. One list for both profiles.

Names here are the double's own: snake_case, as the vendor's page writes them; hub.testing.store.v2 has the others.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from hub.testing.store.errors import Problem

Kind = Literal["text", "email", "number", "whole", "flag", "moment", "list", "object", "url", "password"]
Row = dict[str, Any]

EMAIL = re.compile(r"[^@\s]+@[^@\s.]+\.[^@\s]+")
MOST = Decimal(8388608)


@dataclass(frozen=True)
class Resource:
    """One kind of thing. `public`: may be read without authentication. `prefix` begins its ids.

    `fields` are those that may be written; whatever else a body holds is left aside. `unique` are fields, or several
    together, that no two rows have alike.
    """

    name: str
    prefix: str
    fields: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    unique: tuple[str | tuple[str, ...], ...] = ()
    public: bool = False

    @property
    def one(self) -> str:
        """What a single one is called in messages."""
        special = {"categories": "Category", "inventory": "Inventory", "order_tags": "Tag", "tracking": "Tracking"}
        return special.get(self.name) or self.name.capitalize().removesuffix("s")


SELLABLE: dict[str, Kind] = {
    "name": "text", "sku": "text", "barcode": "text", "price": "number", "mrp": "number", "cost": "number",
    "stock": "whole", "manage_inventory": "flag", "allow_backorder": "flag",
}  # fmt: skip
PERSON: dict[str, Kind] = {
    "first_name": "text", "last_name": "text", "email": "email", "phone": "text", "active": "flag", "status": "text",
    "tags": "list",
}  # fmt: skip
CONTENT: dict[str, Kind] = {"title": "text", "slug": "text", "content": "text", "status": "text"}
SHELF: dict[str, Kind] = {"name": "text", "slug": "text", "description": "text", "active": "flag"}

_ALL = (
    Resource(
        "products", "prd",
        SELLABLE | {"slug": "text", "description": "text", "status": "text", "category_id": "text", "brand_id": "text",
                    "images": "list", "keywords": "text"},
        ("name",), ("sku", "slug"), public=True,
    ),
    Resource(
        "orders", "ord",
        {"status": "text", "comment": "text", "payment_status": "text", "payment_method": "text", "cart_id": "text",
         "customer_id": "text", "amount_refunded": "number", "shipping_address": "object",
         "billing_address": "object"},
        ("cart_id",),
    ),
    Resource("customers", "cus", PERSON, ("email",), ("email",)),
    Resource("carts", "crt", {"customer_id": "text", "line_items": "list", "coupon_code": "text"}),
    Resource("users", "usr", PERSON | {"role": "text", "password": "password"}, ("email",), ("email",)),
    Resource("categories", "category", SHELF | {"parent_id": "text"}, ("name",), ("slug",), public=True),
    Resource("brands", "brd", SHELF, ("name",), ("slug",), public=True),
    Resource(
        "coupons", "cpn",
        {"code": "text", "type": "text", "value": "number", "status": "text", "valid_till": "moment"},
        ("code", "valid_till"), ("code",),
    ),
    Resource(
        "payments", "pay",
        {"order_id": "text", "amount": "number", "currency": "text", "method": "text", "status": "text",
         "transaction_id": "text"},
        ("order_id", "amount"),
    ),
    Resource("pages", "pge", CONTENT, ("title",), ("slug",), public=True),
    Resource("blogs", "blg", CONTENT | {"author": "text"}, ("title",), ("slug",), public=True),
    Resource(
        "inventory", "inv",
        {"product_id": "text", "variant_id": "text", "sku": "text", "stock": "whole", "low_stock_threshold": "whole",
         "reorder_point": "whole", "cost_price": "number", "location": "text", "lead_time": "whole",
         "active": "flag", "warehouse_id": "text"},
        ("product_id", "sku"), (("sku", "warehouse_id"),),
    ),
    Resource(
        "webhooks", "whk",
        {"url": "url", "password": "text", "name": "text", "description": "text", "event": "text", "rank": "whole",
         "active": "flag"},
    ),
    Resource("order_tags", "tag", {"order_id": "text", "tag": "text"}, ("tag",)),
    Resource(
        "tracking", "trk",
        {"order_id": "text", "status": "text", "tracking_number": "text", "tracking_url": "url", "courier": "text",
         "note": "text"},
    ),
    Resource(
        "settings", "set",
        {"store_name": "text", "email": "email", "order_prefix": "text", "page_size": "whole", "time_zone": "text",
         "currency_code": "text", "low_stock_threshold": "whole"},
    ),
    Resource("warehouses", "wrh", {"name": "text", "city": "text", "is_active": "flag"}, ("name",)),
)  # fmt: skip
RESOURCES: dict[str, Resource] = {one.name: one for one in _ALL}


def problems_of(resource: Resource, body: Mapping[str, Any], *, creating: bool) -> Iterator[Problem]:
    """What is wrong with a body in the double's own names."""
    for name in resource.required if creating else ():
        if body.get(name) in (None, "", []):
            yield Problem(name, f"{_spoken(name)} is required")
    for name, value in body.items():
        kind = resource.fields.get(name)
        if kind is not None and value is not None and (problem := _problem(kind, value)):
            yield Problem(name, f"{_spoken(name)} {problem}")


def _spoken(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _problem(kind: Kind, value: Any) -> str | None:
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    match kind:
        case "text":
            return None if isinstance(value, str) else "must be text"
        case "email":
            return None if isinstance(value, str) and EMAIL.fullmatch(value) else "format is invalid"
        case "password":
            return None if isinstance(value, str) and len(value) >= 8 else "must be at least 8 characters"
        case "url":
            web = isinstance(value, str) and value.startswith(("http://", "https://"))
            return None if web else "must be a web address"
        case "number":
            return None if number and abs(value) < MOST else "must be a number"
        case "whole":
            return None if number and value == int(value) and abs(value) < MOST else "must be a whole number"
        case "moment":
            return None if moment_of(value) else "must be a date"
    kinds: dict[Kind, type] = {"flag": bool, "list": list, "object": dict}
    return None if isinstance(value, kinds[kind]) else f"must be a {kind}"


def moment_of(value: Any) -> datetime | None:
    """An ISO date or time as a moment, in UTC where it has no zone; None for anything else."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def kept(resource: Resource, body: Mapping[str, Any]) -> Row:
    """What a body writes: the fields that there are, money as Decimal, moments aware. Passwords are not kept."""
    fields = {name: kind for name, kind in resource.fields.items() if kind != "password"}
    return {name: _kept(fields[name], value) for name, value in body.items() if name in fields}


def _kept(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    if kind == "number":
        return Decimal(str(value))
    if kind == "whole":
        return int(value)
    return moment_of(value) if kind == "moment" else value
