"""The store's API: what every endpoint does first, and the works that both profiles' routes are made of."""

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hub.testing.store.access import ALLOWED, NOBODY, Access, Budget, Who, identify
from hub.testing.store.errors import ApiError, Problem
from hub.testing.store.happenings import written
from hub.testing.store.profiles import Page, encoded, sorted_rows
from hub.testing.store.resources import RESOURCES, SELLABLE, Resource, Row, kept, problems_of
from hub.testing.store.shop import Shop
from hub.testing.store.state import State

DECIMALS = {"seed": "seconds", "v2": "milliseconds"}
STORE_HEADER = "x-litekart-store"
STORE_COOKIE = "litekart_store_id"
VARIANT = Resource("variants", "var", SELLABLE | {"options": "list"})
OF_PRODUCT = Resource(
    "variants", "var", SELLABLE | {"id": "text", "product_id": "text", "variant_value": "text"},
    ("product_id", "variant_value"),
)  # fmt: skip
PUBLISHED = {"products", "pages", "blogs"}
OWNERS = {"orders": "customer_id", "carts": "customer_id", "customers": "id"}


@dataclass(frozen=True)
class Asked:
    """One request as the works see it. `body` in the profile's own names."""

    shop: Shop
    who: Who
    path: dict[str, str]
    query: dict[str, str]
    body: Any

    @property
    def state(self) -> State:
        return self.shop.state

    def shown(self, resource: str, row: Row) -> Row:
        """A whole row as the profile shows it."""
        profile = self.shop.profile
        return profile.selected(profile.view(self.state, resource, row, whole=True), self.query)

    def read(self, resource: Resource, *, creating: bool, given: Any = None) -> Row:
        """The body's fields, checked, in the double's names. ApiError 422."""
        body = self.body if given is None else given
        if not isinstance(body, dict):
            raise ApiError(422, problems=[Problem("", "The body must be an object")])
        profile = self.shop.profile
        named = profile.own_names(resource.name, body)
        if problems := list(problems_of(resource, named, creating=creating)):
            shown = [Problem(profile.shown_field(resource.name, one.field), one.message) for one in problems]
            raise ApiError(422, problems=shown)
        return kept(resource, named)

    def find(self, resource: str, identity: str) -> Row:
        """A row that the caller may see. ApiError 404."""
        row = self.state.find(resource, identity)
        if any(row[name] != value for name, value in self.seen(resource).items()):
            raise ApiError(404, f"{RESOURCES[resource].one} not found")
        return row

    def seen(self, resource: str) -> Row:
        """What rows must have for this caller to see them: customers what is theirs, the public what is published."""
        if self.who.role == "customer" and resource in OWNERS:
            return {OWNERS[resource]: self.who.id}
        public = self.who.role in {"nobody", "customer"} and resource in PUBLISHED
        return {"status": "published"} if public else {}


@dataclass(frozen=True)
class Done:
    """What a work answers: a body, with the status 200 unless said otherwise; None is 204."""

    body: Any = None
    status: int = 200


Work = Callable[[Asked], Done]


async def answer(request: Request, shop: Shop, access: Access, work: Work) -> Response:
    """The store is named (v2), the budget is not spent, the caller is known and may: then `work`."""
    headers: dict[str, str] = {}
    try:
        _store_named(request, shop)
        who = identify(shop.settings, request.headers.get("authorization", ""))
        budget = shop.limiter.take(who or NOBODY, shop.settings)
        headers |= _rate_headers(shop, budget)
        if not budget.allowed:
            return _limited(shop, budget, headers)
        _allowed(who, access)
        asked = Asked(shop, who or NOBODY, dict(request.path_params), dict(request.query_params), None)
        done = work(asked if request.method in {"GET", "HEAD"} else _with_body(asked, await request.body()))
    except ApiError as error:
        return respond(shop, error.status, shop.profile.error(error, shop.settings), headers)
    return respond(shop, done.status, done.body, headers)


def _with_body(asked: Asked, raw: bytes) -> Asked:
    try:
        body = json.loads(raw, parse_float=Decimal) if raw else {}
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not JSON") from None
    return Asked(asked.shop, asked.who, asked.path, asked.query, body)


def respond(shop: Shop, status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    if status == 204:
        return Response(status_code=204, headers=headers)
    content = encoded(body, DECIMALS[shop.settings.profile])
    return Response(content, status, headers, "application/json")


def _store_named(request: Request, shop: Shop) -> None:
    if shop.settings.profile != "v2":
        return
    named = request.headers.get(STORE_HEADER) or request.cookies.get(STORE_COOKIE)
    if not named:
        raise ApiError(400, "Store ID is required")
    if named != shop.settings.store_id:
        raise ApiError(404)


def _allowed(who: Who | None, access: Access) -> None:
    if who is None:
        raise ApiError(401)
    if who.role not in ALLOWED[access]:
        raise ApiError(401, "Authentication is required") if who.role == "nobody" else ApiError(403)


def _rate_headers(shop: Shop, budget: Budget) -> dict[str, str]:
    wanted = shop.settings.rate_headers
    return dict(budget.headers) if (shop.profile.rate_headers if wanted is None else wanted) else {}


def _limited(shop: Shop, budget: Budget, headers: dict[str, str]) -> Response:
    told = shop.settings.retry_after or shop.profile.retry_after
    if told in {"header", "both"}:
        headers["Retry-After"] = str(budget.seconds)
    return respond(shop, 429, shop.profile.limited(budget.seconds, told in {"body", "both"}), headers)


# ---- works


def listing(resource: str, style: str = "", **where: Any) -> Work:
    """A list, filtered, sorted and paged as the query asks; `where`: only rows with these values."""

    def work(asked: Asked) -> Done:
        rows = list(asked.state.rows(resource, **where | asked.seen(resource)))
        return Done(listed(asked, resource, rows, style))

    return work


def listed(asked: Asked, resource: str, rows: Iterable[Row], style: str = "") -> Any:
    """The body of a list of these rows."""
    profile, settings = asked.shop.profile, asked.shop.settings
    tests = list(profile.filters(asked.state, resource, asked.query))
    found = [row for row in rows if all(test(row) for test in tests)]
    order = [(profile.own_field(resource, name), falling) for name, falling in profile.order_of(asked.query)]
    number, size = profile.page_of(asked.query, settings)
    place = (number - 1) * size
    ordered = sorted_rows(found, order)
    chosen = ordered if style == "bare" else ordered[place : place + size]
    shown = [profile.selected(profile.view(asked.state, resource, row, whole=False), asked.query) for row in chosen]
    return profile.listing(Page(shown, number, size, len(found)), style)


def single(resource: str, slot: str = "id") -> Work:
    def work(asked: Asked) -> Done:
        row = asked.find(resource, asked.path[slot])
        return _done(asked, resource, row, "found")

    return work


def _done(asked: Asked, resource: str, row: Row, what: str, status: int = 200) -> Done:
    message = f"{RESOURCES[resource].one} {what}"
    return Done(asked.shop.profile.single(asked.shown(resource, row), message), status)


def created(resource: str) -> Work:
    """A new row of the body; some kinds are made in a way of their own."""

    def work(asked: Asked) -> Done:
        body = asked.read(RESOURCES[resource], creating=True)
        row = MAKERS.get(resource, functools.partial(_plain_row, resource))(asked, body)
        written(asked.shop, resource, row, True, row, ())
        return _done(asked, resource, row, "created", asked.shop.profile.created)

    return work


def _plain_row(resource: str, asked: Asked, body: Row) -> Row:
    fields = [name for name, kind in RESOURCES[resource].fields.items() if kind != "password"]
    return asked.state.add(resource, dict.fromkeys(fields) | DEFAULTS.get(resource, {}) | body)


DEFAULTS: dict[str, Row] = {
    "customers": {"active": True, "status": "active", "role": "customer", "avatar": None, "tags": [], "address": None},
    "users": {"active": True, "status": "active", "role": "vendor", "avatar": None, "tags": []},
    "coupons": {"type": "TOTAL", "status": "DRAFT"},
    "webhooks": {"active": True, "rank": 0},
    "pages": {"status": "draft"},
    "blogs": {"status": "draft"},
    "inventory": {"stock": 0, "low_stock_threshold": 5, "active": True},
    "categories": {"active": True},
    "brands": {"active": True},
}


def _product(asked: Asked, body: Row) -> Row:
    given = asked.body.get("variants", [])
    if not isinstance(given, list):
        raise ApiError(422, problems=[Problem("variants", "Variants must be a list")])
    variants = [asked.read(VARIANT, creating=True, given=one) for one in given]
    return asked.state.add_product(body | {"variants": variants})


def _cart(asked: Asked, body: Row) -> Row:
    lines = [_line(asked, one) for one in body.get("line_items") or []]
    total = sum((line["total"] for line in lines), Decimal(0))
    settled = {"customer_id": body.get("customer_id") or asked.who.id, "coupon_code": body.get("coupon_code")}
    return asked.state.add("carts", settled | {"line_items": lines, "currency": asked.state.currency, "total": total})


def _line(asked: Asked, given: Any) -> Row:
    named = asked.shop.profile.own_names("line_items", given) if isinstance(given, dict) else {}
    sold = named.get("variant_id") or named.get("sku") or named.get("product_id")
    quantity = named.get("quantity", 1)
    if not isinstance(sold, str) or not isinstance(quantity, int) or quantity < 1:
        raise ApiError(422, problems=[Problem("line_items", "Each line needs a product and a quantity from 1")])
    return asked.state.line_of(asked.state.shelf(sold), quantity)


def _order(asked: Asked, body: Row) -> Row:
    cart = asked.find("carts", body["cart_id"])
    customer = asked.state.find("customers", body.get("customer_id") or cart["customer_id"] or "")
    more = {name: body[name] for name in ("comment", "payment_method") if body.get(name)}
    return asked.state.add_order(
        customer, cart["line_items"], cart_id=cart["id"], coupon_code=cart["coupon_code"], **more
    )


def _payment(asked: Asked, body: Row) -> Row:
    order = asked.state.find("orders", body.pop("order_id"))
    return asked.state.add_payment(order, body.pop("amount"), **body)


def _shelf(asked: Asked, body: Row) -> Row:
    if body["product_id"] not in asked.state.tables["products"]:
        raise ApiError(422, problems=[Problem("product_id", "Product id is unknown")])
    return _plain_row("inventory", asked, body)


def _tag(asked: Asked, body: Row) -> Row:
    return asked.state.add("order_tags", {"order_id": _order_id(asked, body), "tag": body["tag"]})


def _tracked(asked: Asked, body: Row) -> Row:
    fields = dict.fromkeys(RESOURCES["tracking"].fields)
    return asked.state.add("tracking", fields | body | {"order_id": _order_id(asked, body)})


def _order_id(asked: Asked, body: Row) -> str | None:
    named = asked.path.get("id") or body.get("order_id")
    return str(asked.find("orders", named)["id"]) if named else None


MAKERS: dict[str, Callable[[Asked, Row], Row]] = {
    "products": _product, "carts": _cart, "orders": _order, "payments": _payment, "order_tags": _tag,
    "tracking": _tracked, "inventory": _shelf,
}  # fmt: skip


def changed(resource: str, slot: str = "id") -> Work:
    """The fields of the body, and no others, get new values."""

    def work(asked: Asked) -> Done:
        row = asked.find(resource, asked.path[slot])
        body = asked.read(RESOURCES[resource], creating=False)
        before, stock, fell = dict(row), body.pop("stock", None), []
        shelf = None if stock is None else _shelf_of(asked.state, resource, row)
        if shelf is not None:
            fell = [shelf] if asked.state.set_stock(shelf, stock) else []
        elif stock is not None:
            body["stock"] = stock
        if body or shelf is None:
            asked.state.change(resource, row, body)
        written(asked.shop, resource, row, False, before, fell)
        return _done(asked, resource, row, "updated")

    return work


def _shelf_of(state: State, resource: str, row: Row) -> Row | None:
    """The inventory row of its stock; None for a product without a SKU, which has none and keeps its stock itself."""
    if resource == "inventory":
        return row
    if row["variants"]:
        raise ApiError(422, problems=[Problem("stock", "Stock is kept for each variant")])
    return next(state.rows("inventory", product_id=row["id"]), None)


def removed(resource: str, slot: str = "id") -> Work:
    def work(asked: Asked) -> Done:
        asked.state.remove(resource, asked.find(resource, asked.path[slot]))
        return Done(status=204)

    return work


def only_settings(asked: Asked) -> Done:
    """The store has one row of settings."""
    return _done(asked, "settings", next(asked.state.rows("settings")), "found")


def change_settings(asked: Asked) -> Done:
    row = next(asked.state.rows("settings"))
    asked.state.change("settings", row, asked.read(RESOURCES["settings"], creating=False))
    return _done(asked, "settings", row, "updated")
