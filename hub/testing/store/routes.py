"""Which paths each profile has. docs/store-double.md says which of them nobody has seen."""

import functools
from collections.abc import Callable, Iterator

from starlette.routing import Route

from hub.testing.store.access import Access
from hub.testing.store.api import (
    OF_PRODUCT,
    VARIANT,
    Asked,
    Done,
    Work,
    answer,
    change_settings,
    changed,
    created,
    listed,
    listing,
    only_settings,
    removed,
    single,
)
from hub.testing.store.errors import ApiError
from hub.testing.store.resources import RESOURCES
from hub.testing.store.shop import Shop

Entry = tuple[str, str, Access, Work]
"""Method, path, who may, and what it does."""

CORE = (
    "products", "orders", "customers", "carts", "users", "categories", "brands", "coupons", "payments", "pages",
    "blogs", "inventory", "webhooks",
)  # fmt: skip
OWNED = {"orders", "carts", "customers"}


def seed_entries() -> Iterator[Entry]:
    """`/api/NAME` and `/api/NAME/{id}` of each resource, and what belongs to an order below it."""
    for name in CORE:
        read: Access = "public" if RESOURCES[name].public else "own" if name in OWNED else "read"
        yield from _collection(f"/api/{name}", name, read)
    yield "GET", "/api/settings", "read", only_settings
    yield "PATCH", "/api/settings", "write", change_settings
    for below, resource in (("tags", "order_tags"), ("tracking", "tracking")):
        path = f"/api/orders/{{id}}/{below}"
        yield "GET", path, "own", _of_order(resource)
        yield "POST", path, "write", created(resource)
        yield "PATCH", f"{path}/{{below}}", "write", changed(resource, "below")
        yield "DELETE", f"{path}/{{below}}", "write", removed(resource, "below")


def _collection(path: str, name: str, read: Access, style: str = "") -> Iterator[Entry]:
    yield "GET", path, read, listing(name, style)
    yield "POST", path, "write", created(name)
    yield "GET", f"{path}/{{id}}", read, single(name)
    yield "PATCH", f"{path}/{{id}}", "write", changed(name)
    if not path.startswith("/api/admin"):
        yield "PUT", f"{path}/{{id}}", "write", changed(name)
    yield "DELETE", f"{path}/{{id}}", "write", removed(name)


def _of_order(resource: str) -> Work:
    def work(asked: Asked) -> Done:
        return listing(resource, order_id=asked.find("orders", asked.path["id"])["id"])(asked)

    return work


def v2_entries() -> Iterator[Entry]:
    """The storefront under `/api`, the management under `/api/admin`; the more special path goes first."""
    yield "GET", "/api/products", "public", listing("products", "pages", status="published")
    yield "GET", "/api/products/featured", "public", listing("products", "pages", status="published")
    yield "GET", "/api/products/{id}", "public", single("products")
    yield "GET", "/api/products/{id}/warehouse", "public", _warehouses
    yield "GET", "/api/orders", "own", listing("orders", "pages")
    yield "GET", "/api/orders/me", "own", listing("orders", "pages")
    yield "GET", "/api/orders/{id}", "own", single("orders")
    yield "POST", "/api/orders", "own", created("orders")
    yield "GET", "/api/categories", "public", listing("categories", "pages")
    yield "GET", "/api/categories/featured", "public", listing("categories", "pages")
    yield "GET", "/api/coupons", "public", listing("coupons", "bare", status="PUBLIC")
    yield "GET", "/api/settings", "public", only_settings
    yield "GET", "/api/settings/{id}", "public", single("settings")
    yield "POST", "/api/carts", "public", created("carts")
    yield "GET", "/api/carts/{id}", "own", single("carts")
    yield "GET", "/api/users/me", "own", _me
    for name in ("pages", "blogs"):
        yield "GET", f"/api/{name}", "public", listing(name, "pages", status="published")
        yield "GET", f"/api/{name}/{{id}}", "public", single(name)
    yield from v2_management()


def v2_management() -> Iterator[Entry]:
    for path, resource in (("orders-tags", "order_tags"), ("orders/tracking", "tracking")):
        yield "GET", f"/api/admin/{path}", "read", listing(resource)
        yield "POST", f"/api/admin/{path}", "write", created(resource)
        yield "PATCH", f"/api/admin/{path}/{{id}}", "write", changed(resource)
        yield "DELETE", f"/api/admin/{path}/{{id}}", "write", removed(resource)
    yield "GET", "/api/admin/orders/payment-status/{id}", "read", _payment_status
    yield "POST", "/api/admin/products/{id}/variants", "write", _new_variant
    yield "POST", "/api/admin/variants", "write", _put_variant
    yield "GET", "/api/admin/users/me", "read", _me
    yield "GET", "/api/admin/users/tags", "read", _user_tags
    for method, work in (("GET", single), ("PATCH", changed), ("DELETE", removed)):
        yield method, "/api/admin/users/{id}", "read" if method == "GET" else "write", _person(work)
    yield "GET", "/api/admin/customers", "read", listing("customers")
    yield "GET", "/api/admin/carts", "read", listing("carts", "bare")
    yield "GET", "/api/admin/settings", "read", only_settings
    yield "PATCH", "/api/admin/settings", "write", change_settings
    yield "GET", "/api/admin/warehouse", "read", listing("warehouses")
    yield "POST", "/api/admin/warehouse", "write", _new_warehouse
    yield "GET", "/api/admin/webhooks/history", "read", _history
    for name in ("orders", "products", "inventory", "coupons", "pages", "blogs", "webhooks"):
        yield from _collection(f"/api/admin/{name}", name, "read", "pages" if name == "blogs" else "")


def _warehouses(asked: Asked) -> Done:
    asked.state.find("products", asked.path["id"])
    rows = [asked.shown("warehouses", row) for row in asked.state.rows("warehouses")]
    return Done({"count": len(rows), "data": rows, "message": "Warehouses found"})


def _new_warehouse(asked: Asked) -> Done:
    done = created("warehouses")(asked)
    return Done({"data": done.body, "message": "Warehouse created"})


def _payment_status(asked: Asked) -> Done:
    order = asked.find("orders", asked.path["id"])
    return Done({name: asked.shown("orders", order)[name] for name in ("id", "orderNo", "paymentStatus", "paid")})


def _new_variant(asked: Asked) -> Done:
    product = asked.find("products", asked.path["id"])
    row = asked.state.add_variant(product, asked.read(VARIANT, creating=True))
    return Done(asked.shown("variants", row))


def _put_variant(asked: Asked) -> Done:
    """Makes a variant, or changes the one whose `id` the body names."""
    body = asked.read(OF_PRODUCT, creating=True)
    product = asked.find("products", body.pop("product_id"))
    value, known, stock = body.pop("variant_value"), body.pop("id", None), body.pop("stock", 0)
    row = next((one for one in product["variants"] if one["id"] == known), None)
    if row is None:
        row = asked.state.add_variant(product, {"name": value, "variant_value": value} | body)
    else:
        row.update(body)
    asked.state.set_stock(asked.state.shelf(row["id"]), stock)
    return Done(asked.shown("variants", row))


def _user_tags(asked: Asked) -> Done:
    tags = sorted({tag for row in asked.state.rows("customers") for tag in row["tags"]})
    return Done({"count": len(tags), "data": tags})


def _history(asked: Asked) -> Done:
    """Fired webhooks as the live API lists them: by the registration's own fields, without payload or status."""
    table = asked.state.tables["webhooks"]
    rows = [table[one.webhook] | {"created_at": one.at} for one in asked.shop.records.sent if one.webhook in table]
    return Done(listed(asked, "webhooks", rows))


def _person(work: Callable[[str], Work]) -> Work:
    """Customers are users with a role: one path for both."""

    def found(asked: Asked) -> Done:
        kind = "customers" if asked.path["id"] in asked.state.tables["customers"] else "users"
        return work(kind)(asked)

    return found


def _me(asked: Asked) -> Done:
    if asked.who.id is None:
        raise ApiError(401, "Authentication is required")
    kind = "customers" if asked.who.role == "customer" else "users"
    return Done(asked.shown(kind, asked.state.find(kind, asked.who.id)))


def routes_of(shop: Shop) -> list[Route]:
    """The routes of the shop's profile."""
    entries = seed_entries() if shop.settings.profile == "seed" else v2_entries()
    return [
        Route(path, functools.partial(answer, shop=shop, access=access, work=work), methods=[method])
        for method, path, access, work in entries
    ]
