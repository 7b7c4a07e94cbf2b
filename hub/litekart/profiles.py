"""What the store's API looks like, as data: two profiles, one client.

`SEED` is the vendor's page "API overview", `V2` the live API as the vendor's OpenAPI document and its storefront
client show it. What stands in neither is not offered: asking for it raises NotOffered before any request.
docs/litekart.md shows these tables; a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.errors import NotOffered

PAGE = "vendor's page"
NAMED = "named on the vendor's page; path inferred"
INDEX = "named in the index of the vendor's docs; path inferred"
INFERRED = "inferred"
OPENAPI = "vendor's OpenAPI"
STOREFRONT = "vendor's storefront client"


@dataclass(frozen=True)
class Operation:
    """One call: its method, its path with `{id}` where an id goes, and on what evidence it is believed."""

    method: str
    path: str
    evidence: str


@dataclass(frozen=True)
class Filter:
    """How a list is narrowed: the query's `parameter`, or None where the client selects by itself.

    `here`: it selects by itself in any case, because the parameter is inferred or coarser than the argument.
    """

    parameter: str | None
    evidence: str
    here: bool = False


HERE = Filter(None, "selected by the client", here=True)


@dataclass(frozen=True)
class Profile:
    """One style of the API. `largest` is the page size that `iter` asks for; a store that gives less is followed."""

    name: str
    operations: Mapping[str, Operation]
    filters: Mapping[str, Mapping[str, Filter]]
    page_size: str
    largest: int
    ascending: str
    descending: str
    camel: bool
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    most_sort_keys: int | None = None
    fields: str | None = None
    store_header: str | None = None

    def operation(self, name: str) -> Operation:
        """The call of that name (`orders.get`). Raises NotOffered."""
        found = self.operations.get(name)
        if found is None:
            raise NotOffered(f"{name}: the {self.name} profile of the store's API has no such call")
        return found

    def filter(self, resource: str, name: str) -> Filter:
        """How `resource` is narrowed by `name`. Raises NotOffered."""
        found = self.filters.get(resource, {}).get(name)
        if found is None:
            raise NotOffered(f"{resource}: the {self.name} profile of the store's API has no filter {name}")
        return found

    def field_name(self, resource: str, name: str) -> str:
        """A field as this profile writes it: `created_at` or `createdAt`; v2's product has a `title`, no `name`."""
        name = self.names.get(resource, {}).get(name, name)
        return camel(name) if self.camel else name

    def sort(self, resource: str, keys: tuple[str, ...]) -> str:
        """`("price", "-name")` as the query writes it. Raises NotOffered for more keys than the API takes."""
        if self.most_sort_keys is not None and len(keys) > self.most_sort_keys:
            raise NotOffered(
                f"{resource}: the {self.name} profile sorts by {self.most_sort_keys} field, not {len(keys)}"
            )
        return ",".join(
            (self.descending if key.startswith("-") else self.ascending).format(
                self.field_name(resource, key.removeprefix("-"))
            )
            for key in keys
        )


def camel(name: str) -> str:
    """`created_at` as `createdAt`; a part that is a number keeps its underscore, as the live API's `address_1` does."""
    first, *rest = name.split("_")
    return first + "".join(f"_{part}" if part.isdigit() else part[:1].upper() + part[1:] for part in rest)


def _readable(path: str, listed: str, one: str) -> dict[str, Operation]:
    return {"list": Operation("GET", path, listed), "get": Operation("GET", path + "/{id}", one)}


def _named(resources: Mapping[str, Mapping[str, Operation]]) -> dict[str, Operation]:
    return {f"{resource}.{name}": call for resource, calls in resources.items() for name, call in calls.items()}


def _update(path: str, evidence: str) -> dict[str, Operation]:
    return {"update": Operation("PATCH", path + "/{id}", evidence)}


_TIMES = {
    "created_after": Filter("created_after", INFERRED, here=True),
    "updated_after": Filter("updated_after", INFERRED, here=True),
}
# Not of v2's customers: its list of them holds no times.
_TIMES_HERE = {"created_after": HERE, "updated_after": HERE}

SEED = Profile(
    name="seed",
    operations=_named({
        "products": {
            **_readable("/api/products", PAGE, INFERRED),
            "create": Operation("POST", "/api/products", INFERRED),
            **_update("/api/products", INFERRED),
        },
        "orders": {**_readable("/api/orders", PAGE, INFERRED), **_update("/api/orders", INFERRED)},
        "customers": {**_readable("/api/customers", NAMED, NAMED), **_update("/api/customers", INFERRED)},
        **{
            name: _readable(f"/api/{name}", NAMED, NAMED)
            for name in ("carts", "users", "categories", "brands", "coupons", "payments", "pages", "blogs")
        },
        "settings": {"get": Operation("GET", "/api/settings", NAMED)},
        "inventory": {**_readable("/api/inventory", INDEX, INDEX), **_update("/api/inventory", INFERRED)},
    }),
    filters={
        "products": {
            "category": Filter("category", PAGE),
            "price_min": Filter("price_min", PAGE),
            "price_max": Filter("price_max", PAGE),
            "status": Filter("status", INFERRED, here=True),
            **_TIMES,
        },
        "orders": {
            "status": Filter("status", PAGE),
            "created_after": Filter("created_after", PAGE, here=True),
            "updated_after": _TIMES["updated_after"],
        },
        "customers": _TIMES,
        "coupons": {"status": HERE, "type": HERE},
        "inventory": {"product_id": HERE, "variant_id": HERE, "sku": HERE},
    },
    page_size="limit",
    largest=100,
    ascending="{}:asc",
    descending="{}:desc",
    camel=False,
    fields="fields",
)  # fmt: skip

V2 = Profile(
    name="v2",
    operations=_named({
        "products": {
            **_readable("/api/admin/products", OPENAPI, OPENAPI),
            "create": Operation("POST", "/api/admin/products", OPENAPI),
            **_update("/api/admin/products", OPENAPI),
        },
        "orders": {**_readable("/api/admin/orders", OPENAPI, OPENAPI), **_update("/api/admin/orders", OPENAPI)},
        "order_tags": {
            "list": Operation("GET", "/api/admin/orders-tags", OPENAPI),
            "add": Operation("POST", "/api/admin/orders-tags", OPENAPI),
            "remove": Operation("DELETE", "/api/admin/orders-tags/{id}", OPENAPI),
        },
        "tracking": {
            "add": Operation("POST", "/api/admin/orders/tracking", OPENAPI),
            **_update("/api/admin/orders/tracking", OPENAPI),
            "remove": Operation("DELETE", "/api/admin/orders/tracking/{id}", OPENAPI),
        },
        "customers": {
            "list": Operation("GET", "/api/admin/customers", OPENAPI),
            "get": Operation("GET", "/api/admin/users/{id}", OPENAPI),
            **_update("/api/admin/users", OPENAPI),
        },
        "users": {"get": Operation("GET", "/api/admin/users/{id}", OPENAPI)},
        "carts": {
            "list": Operation("GET", "/api/admin/carts", OPENAPI),
            "get": Operation("GET", "/api/carts/{id}", OPENAPI),
        },
        "categories": {"list": Operation("GET", "/api/categories", STOREFRONT)},
        "coupons": _readable("/api/admin/coupons", OPENAPI, INFERRED),
        "settings": {"get": Operation("GET", "/api/admin/settings", OPENAPI)},
        "pages": _readable("/api/pages", OPENAPI, INFERRED),
        "blogs": _readable("/api/blogs", OPENAPI, INFERRED),
        "inventory": {
            **_readable("/api/admin/inventory", OPENAPI, OPENAPI),
            **_update("/api/admin/inventory", OPENAPI),
        },
        "webhooks": {
            **_readable("/api/admin/webhooks", OPENAPI, OPENAPI),
            "create": Operation("POST", "/api/admin/webhooks", OPENAPI),
            **_update("/api/admin/webhooks", OPENAPI),
            "delete": Operation("DELETE", "/api/admin/webhooks/{id}", OPENAPI),
        },
    }),
    filters={
        "products": {
            "category": Filter("categories", STOREFRONT),
            "search": Filter("search", STOREFRONT),
            "price_min": HERE,
            "price_max": HERE,
            "status": HERE,
            **_TIMES_HERE,
        },
        "orders": {"search": Filter("q", STOREFRONT), "status": HERE, **_TIMES_HERE},
        "order_tags": {"order_id": HERE},
        "coupons": {"status": Filter("status", OPENAPI), "type": Filter("type", OPENAPI)},
        "pages": {"search": Filter("search", OPENAPI)},
        "blogs": {"search": Filter("search", OPENAPI)},
        "inventory": {"status": Filter("status", OPENAPI), "product_id": HERE, "variant_id": HERE, "sku": HERE},
        "webhooks": {"event": HERE},
    },
    page_size="pageSize",
    largest=100,
    ascending="{}",
    descending="-{}",
    camel=True,
    names={"products": {"name": "title"}, "line_items": {"quantity": "qty"}},
    most_sort_keys=1,
    store_header="x-litekart-store",
)  # fmt: skip

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in (SEED, V2)}
