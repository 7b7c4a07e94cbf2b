"""The profile `v2`: the live API as litekart-api.md tells of it, with its irregularities."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from hub.testing.store.errors import ApiError
from hub.testing.store.profiles import Page, Profile, Query, order_parts
from hub.testing.store.resources import Row
from hub.testing.store.settings import StoreSettings
from hub.testing.store.state import State

# Names that are not simply the double's in camel case.
NAMES: dict[str, dict[str, str]] = {
    "products": {"name": "title", "cost": "costPerItem"},
    "variants": {"name": "title", "cost": "costPerItem"},
    "line_items": {"name": "title", "variant_name": "variantTitle", "quantity": "qty"},
    "orders": {
        "customer_id": "userId", "first_name": "userFirstName", "last_name": "userLastName", "email": "userEmail",
        "phone": "userPhone", "shipping": "shippingCharges", "currency": "currencyCode", "coupon_code": "couponUsed",
    },
    "carts": {"customer_id": "userId", "coupon_code": "couponUsed", "currency": "currencyCode"},
}  # fmt: skip
BELOW = {"variants": "variants", "line_items": "line_items"}
# What only a single object shows.
LONG = {"products": ("variants",), "orders": ("line_items",)}
LISTED_PERSON = ("id", "phone", "avatar", "firstName", "lastName", "role", "storeId")
SYMBOLS = {"EUR": "€", "INR": "₹", "USD": "$", "GBP": "£"}
SEARCHED = ("name", "title", "sku", "email", "last_name", "order_no", "code")


def camel(name: str) -> str:
    """`created_at` as `createdAt`; `address_1` stays, as in the live API."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def shown_name(resource: str, name: str) -> str:
    return NAMES.get(resource, {}).get(name) or camel(name)


def own_name(resource: str, name: str) -> str:
    for own, shown in NAMES.get(resource, {}).items():
        if shown == name:
            return own
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match[1].lower(), name)


def renamed(resource: str, row: Row) -> Row:
    """The row under the live API's names, with what is below it."""
    return {shown_name(resource, name): _below(name, value) for name, value in row.items()}


def _below(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [renamed(BELOW.get(name, ""), one) if isinstance(one, dict) else one for one in value]
    return renamed("", value) if isinstance(value, dict) else value


class V2(Profile):
    name = "v2"
    created = 200
    size_names = ("pageSize", "limit")
    rate_headers = False
    retry_after = "body"

    def view(self, state: State, resource: str, row: Row, *, whole: bool) -> Row:
        left_out = () if whole else LONG.get(resource, ())
        shown = renamed(resource, {name: value for name, value in row.items() if name not in left_out})
        shown["storeId"] = state.store_id
        if resource == "products":
            shown |= {"images": ",".join(row["images"]), "thumbnail": next(iter(row["images"]), None)}
            shown |= {"active": row["status"] == "published"}
            if whole:
                shown["options"] = _options(row)
        if resource == "orders":
            shown["currencySymbol"] = SYMBOLS.get(row["currency"], row["currency"])
            if whole:
                shown["tracking"] = [renamed("tracking", one) for one in order_parts(state, row)[1]]
        if resource == "customers" and not whole:
            return {name: shown.get(name) for name in LISTED_PERSON}
        return shown

    def single(self, shown: Any, message: str) -> Any:
        return shown

    def listing(self, page: Page, style: str = "") -> Any:
        if style == "bare":
            return page.rows
        body = {"data": page.rows, "count": page.total, "page": page.number, "pageSize": page.size}
        return body | ({"noOfPage": page.pages} if style == "pages" else {})

    def error(self, error: ApiError, settings: StoreSettings) -> Any:
        if error.status == 422:
            issues = [{"code": "custom", "path": [camel(one.field)], "message": one.message} for one in error.problems]
            return {"success": False, "error": {"name": "ZodError", "issues": issues}}
        if error.status == 404:
            return {"message": "Not Found"}
        if error.status == 409:
            extra = {name: shown_name("", value) if name == "field" else value for name, value in error.extra.items()}
            return {"error": error.message, **extra}
        return {"error": error.message} if error.status == 500 else {"message": error.message}

    def limited(self, seconds: int, in_body: bool) -> Any:
        return {"error": "Too many requests"} | ({"retryAfter": seconds} if in_body else {})

    def order_of(self, query: Query) -> list[tuple[str, bool]]:
        names = [part.strip() for part in query.get("sort", "-createdAt").split(",")]
        return [(name.removeprefix("-"), name.startswith("-")) for name in names if name]

    def filters(self, state: State, resource: str, query: Query) -> Iterable[Callable[[Row], bool]]:
        for name in ("status", "type"):
            if value := query.get(name):
                yield lambda row, name=name, value=value: bool(row.get(name) == value)  # type: ignore[misc]  # a lambda's defaults have no type
        if (word := query.get("search") or query.get("q", "")) != "":
            yield lambda row: any(word.casefold() in str(row.get(name, "")).casefold() for name in SEARCHED)
        if (wanted := query.get("categories")) and resource == "products":
            slugs = set(wanted.split(","))
            ids = {row["id"] for row in state.rows("categories") if {row["id"], row["slug"]} & slugs}
            yield lambda row: row["category_id"] in ids

    def own_names(self, resource: str, body: Row) -> Row:
        named = {own_name(resource, name): value for name, value in body.items()}
        if isinstance(images := named.get("images"), str):
            named["images"] = [one for one in images.split(",") if one]
        return named

    def own_field(self, resource: str, name: str) -> str:
        return own_name(resource, name)

    def shown_field(self, resource: str, name: str) -> str:
        return shown_name(resource, name)

    def selected(self, shown: Row, query: Query) -> Row:
        return shown


def _options(product: Row) -> list[Row]:
    """The options that a product's variants differ in."""
    values: dict[str, list[str]] = {}
    for variant in product["variants"]:
        for option in variant["options"]:
            values.setdefault(option.get("name", ""), []).append(option.get("value", ""))
    return [{"title": name, "values": found} for name, found in values.items()]
