"""The client against the store double over real HTTP: both profiles give the same, by the same methods."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from hub.errors import (
    AuthenticationFailed,
    Conflict,
    LitekartError,
    NotAllowed,
    NotFound,
    NotOffered,
    RateLimited,
    ServerError,
    ValidationFailed,
)
from hub.litekart import PROFILES, Litekart
from hub.litekart.resources import Readable, Resource
from hub.testing.store import API_KEY, READ_KEY, STORE_ID, StoreApi

BOTH = pytest.mark.parametrize("profile", PROFILES)


@asynccontextmanager
async def store_of(profile: str, **settings: Any) -> AsyncIterator[StoreApi]:
    async with StoreApi(profile=profile, **settings) as store:
        yield store


@asynccontextmanager
async def client_of(store: StoreApi, profile: str, **options: Any) -> AsyncIterator[Litekart]:
    place = store.url.removeprefix("http://")
    given: dict[str, Any] = {"api_key": API_KEY, "store_id": STORE_ID, "retries": 0, "allow": [place]} | options
    async with Litekart(base_url=store.url, profile=profile, **given) as client:
        yield client


def readable(client: Litekart) -> dict[str, Readable[Any]]:
    """Every resource of the vendor's page that is listed, and the two that the live API has besides."""
    return {
        "products": client.products, "orders": client.orders, "customers": client.customers, "carts": client.carts,
        "users": client.users, "categories": client.categories, "brands": client.brands, "coupons": client.coupons,
        "payments": client.payments, "pages": client.content.pages, "blogs": client.content.blogs,
        "inventory": client.inventory, "webhooks": client.webhooks,
    }  # fmt: skip


# What the live API is not known to have, by call; everything else of `readable` both profiles read.
NOT_OFFERED = {
    "seed": {"webhooks.list", "webhooks.get"},
    "v2": {"users.list", "categories.get", "brands.list", "brands.get", "payments.list", "payments.get"},
}


@BOTH
async def test_every_resource_is_read_or_not_offered_before_any_request(profile: str) -> None:
    async with store_of(profile, limit=5000) as store, client_of(store, profile) as client:
        not_offered = set()
        for name, resource in readable(client).items():
            rows = {row["id"] for row in await store.rows(name)}
            if profile == "v2" and name in {"pages", "blogs", "categories"}:
                rows = {row["id"] for row in await store.rows(name) if row.get("status", "published") == "published"}
            try:
                assert {item.id async for item in resource.iter()} == rows, name
            except NotOffered:
                not_offered.add(f"{name}.list")
            try:
                some = min(rows, default="none")
                if rows:
                    assert (await resource.get(some)).id == some
                elif f"{name}.get" in NOT_OFFERED[profile]:
                    await resource.get(some)
            except NotOffered:
                not_offered.add(f"{name}.get")
        assert (await client.settings.get()).currency == "EUR"
        assert not_offered == NOT_OFFERED[profile]
        paths = {call.path for call in await store.calls()}
        assert not any(name in path for path in paths for name in ("/brands", "/payments") if profile == "v2")


@BOTH
async def test_both_profiles_give_the_same(profile: str) -> None:
    """What the store holds, in one set of names, whichever profile speaks."""
    async with store_of(profile) as store, client_of(store, profile) as client:
        electronics = next(row["id"] for row in await store.rows("categories") if row["slug"] == "electronics")
        goods = await store.rows("products")
        wanted = [row for row in goods if row["category_id"] == electronics and row["price"] >= 20]
        products = [item async for item in client.products.iter(category="electronics", price_min=20)]
        assert [(item.id, item.name, item.price, item.stock, item.images) for item in products] == [
            (row["id"], row["name"], cents(row["price"]), row["stock"], row["images"]) for row in wanted
        ]
        assert all(isinstance(item.price, Decimal) and item.created_at and item.created_at.tzinfo for item in products)
        cheap = client.products.iter(sort=["-price"], fields=["id", "name"], price_max=50)
        cheapest = [(item.name, item.price) async for item in cheap]
        expected = sorted((row for row in goods if row["price"] <= 50), key=lambda row: row["price"], reverse=True)
        assert cheapest == [(row["name"], None) for row in expected]

        shipped = [row for row in await store.rows("orders") if row["status"] == "shipped"]
        orders = [item async for item in client.orders.iter(status="shipped")]
        assert [(item.id, item.order_no, item.total, item.customer_id, item.email) for item in orders] == [
            (row["id"], str(row["order_no"]), cents(row["total"]), row["customer_id"], row["email"]) for row in shipped
        ]
        one, row = await client.orders.get(orders[0].id), shipped[0]
        assert one.customer is not None
        assert one.shipping_address is not None
        assert (one.customer.id, one.customer.first_name) == (row["customer_id"], row["first_name"])
        assert (one.currency, one.shipping_address.city) == ("EUR", row["shipping_address"]["city"])
        assert [(line.name, line.sku, line.quantity, line.price) for line in one.items or []] == [
            (line["name"], line["sku"], line["quantity"], cents(line["price"])) for line in row["line_items"]
        ]


def cents(number: float) -> Decimal:
    return Decimal(str(number)).quantize(Decimal("0.01"))


@BOTH
async def test_what_goes_by_several_names_is_got_by_each(profile: str) -> None:
    async with store_of(profile) as store, client_of(store, profile) as client:
        order, product = (await store.rows("orders"))[0], (await store.rows("products"))[0]
        assert (await client.orders.get(str(order["order_no"]))).id == order["id"]
        assert (await client.products.get(product["slug"])).id == product["id"]


@BOTH
async def test_filters_sorting_and_fields_go_out_as_the_profile_writes_them(profile: str) -> None:
    async with store_of(profile) as store, client_of(store, profile) as client:
        page = await client.products.list(
            page=2, page_size=7, sort=["-created_at"], fields=["id", {"variants": ["id"]}]
        )
        query = (await store.calls())[-1].query
        if profile == "seed":
            fields = "id,variants(id)"
            assert query == {"page": "2", "limit": "7", "sort": "created_at:desc", "fields": fields}
        else:
            assert query == {"page": "2", "pageSize": "7", "sort": "-createdAt"}
        assert (len(page), page.page, page.total, page.has_next) == (7, 2, 60, True)
        assert all(item.name is None for item in page)
        shown = {
            key for item in page for variant in item.variants or [] for key in variant.model_dump(exclude_none=True)
        }
        # The live API's lists hold no variants.
        assert shown == ({"id"} if profile == "seed" else set())


@BOTH
@pytest.mark.parametrize("by", ["created", "updated"])
async def test_what_is_new_is_found_without_reading_what_is_old(profile: str, by: str) -> None:
    async with store_of(profile, largest_page=20) as store, client_of(store, profile) as client:
        rows = sorted(await store.rows("orders"), key=lambda row: str(row[f"{by}_at"]), reverse=True)
        since = datetime.fromisoformat(rows[25][f"{by}_at"])
        wanted = {row["id"] for row in rows if datetime.fromisoformat(row[f"{by}_at"]) >= since}
        filters: Any = {f"{by}_after": since}
        newest = client.orders.iter(sort=[f"-{by}_at"], **filters)
        assert {order.id async for order in newest} == wanted
        assert len(await store.calls()) <= 4
        assert {order.id async for order in client.orders.iter(**filters)} == wanted


async def test_what_a_profile_has_not_is_refused_before_any_request() -> None:
    async with store_of("v2") as store, client_of(store, "v2") as client:
        for ask in (
            lambda: client.products.list(price_min=3),
            lambda: client.products.list(sort=["price", "-name"]),
            client.brands.list,
            lambda: client.customers.list(created_after=datetime.now(UTC)),
        ):
            with pytest.raises(NotOffered, match="v2"):
                await ask()
        assert await store.calls() == []
    async with store_of("seed") as store, client_of(store, "seed") as client:
        with pytest.raises(NotOffered, match=r"webhooks\.create"):
            await client.webhooks.create(url="https://hub.example", event="order.placed")
        with pytest.raises(NotOffered, match="search"):
            await client.products.list(search="kettle")
        assert await store.calls() == []


@BOTH
async def test_what_connectors_write_is_in_the_store(profile: str) -> None:
    async with store_of(profile) as store, client_of(store, profile) as client:
        order = (await client.orders.list(page_size=1))[0]
        changed = await client.orders.update(order.id, status="quality_check", comment="packed – जाँच")
        assert (changed.status, changed.comment) == ("quality_check", "packed – जाँच")
        product = await client.products.create(name="Lamp", price=Decimal("29.99"))
        renamed = await client.products.update(product.id, name="Lamp 2", price=Decimal("0.1"))
        assert (renamed.name, renamed.price) == ("Lamp 2", Decimal("0.10"))
        # One without a SKU has no inventory row, and keeps its stock itself.
        with_sku = await client.products.create(name="Shade", sku="SHADE-1", stock=1)
        for one in (product, with_sku):
            assert (await client.products.update(one.id, stock=7)).stock == 7
            assert (await client.products.get(one.id)).stock == 7
        assert [one.stock async for one in client.inventory.iter(product_id=with_sku.id)] == [7]
        item = (await client.inventory.list(page_size=1))[0]
        assert (await client.inventory.update(item.id, stock=0)).stock == 0
        customer = (await client.customers.list(page_size=1))[0]
        assert (await client.customers.update(customer.id, first_name="Åsa")).first_name == "Åsa"
        assert (await store.row("orders", order.id))["comment"] == "packed – जाँच"
        assert (await store.row("products", product.id))["name"] == "Lamp 2"
        assert (await store.row("inventory", item.id))["stock"] == 0
        assert (await store.row("customers", customer.id))["first_name"] == "Åsa"


async def test_the_live_api_takes_tags_tracking_and_webhooks() -> None:
    async with store_of("v2") as store, client_of(store, "v2") as client:
        order = (await client.orders.list(page_size=1))[0]
        tag = await client.order_tags.add(order.id, "fragile")
        assert [one.tag async for one in client.order_tags.iter(order_id=order.id)] == ["fragile"]
        assert tag.id
        await client.order_tags.remove(tag.id)
        assert [one async for one in client.order_tags.iter(order_id=order.id)] == []
        entry = await client.tracking.add(order.id, status="shipped", tracking_number="T1", courier="DHL")
        assert (entry.order_id, entry.tracking_number, entry.courier) == (order.id, "T1", "DHL")
        hook = await client.webhooks.create(
            url="https://hub.example/w", event="order.placed", password="s3cret-of-ours"
        )
        assert "s3cret" not in repr(hook)
        assert (await client.webhooks.update(hook.id, active=False)).active is False
        assert [one.id async for one in client.webhooks.iter(event="order.placed")] == [hook.id]
        await client.webhooks.delete(hook.id)
        with pytest.raises(NotFound):
            await client.webhooks.get(hook.id)


@BOTH
async def test_any_other_call(profile: str) -> None:
    path = "/api/products" if profile == "seed" else "/api/admin/products"
    async with store_of(profile) as store, client_of(store, profile) as client:
        made = await client.request("POST", path, json={"name": "Lamp", "title": "Lamp", "price": Decimal("1.5")})
        found = await client.request("GET", f"{path}/{made['id']}", params={"x": True})
        assert found["price"] == Decimal("1.5")
        assert await client.request("DELETE", f"{path}/{made['id']}") is None
        calls = len(await store.calls())
        for bad in (
            "api/x",
            "/api/../x",
            "/api/%2e%2E/x",
            "//evil.example/x",
            "/api?x=1",
            "/api/\r\nx",
            "https://evil",
        ):
            with pytest.raises(ValidationFailed):
                await client.request("GET", bad)
        assert len(await store.calls()) == calls


# ---- errors


@BOTH
@pytest.mark.parametrize("details", ["object", "list"])
async def test_every_shape_of_error_is_read(profile: str, details: str) -> None:
    async with store_of(profile, details=details) as store, client_of(store, profile) as client:

        async def error(kind: type[LitekartError], ask: Callable[[], Any]) -> LitekartError:
            with pytest.raises(kind) as caught:
                await ask()
            assert type(caught.value) is kind
            assert API_KEY not in f"{caught.value}{caught.value!r}"
            return caught.value

        found = await error(ValidationFailed, lambda: client.request("POST", "/api/carts", json={"line_items": 5}))
        assert found.status == 422
        assert [problem.message for problem in found.details]
        lost = await error(NotFound, lambda: client.orders.get("ord_none"))
        assert (lost.status, lost.call.startswith("GET /api/")) == (404, True)
        assert "ord_none" not in str(lost)
        one = (await client.products.list(page_size=2)).items
        twice = await error(Conflict, lambda: client.products.create(name="x", sku=one[0].sku))
        assert twice.status == 409
        await store.fail(status=500)
        assert (await error(ServerError, client.orders.list)).status == 500
        async with client_of(store, profile, api_key=READ_KEY) as reader:
            assert (await error(NotAllowed, lambda: reader.orders.update("x", status="a"))).status == 403
        async with client_of(store, profile, api_key="wrong") as stranger:
            assert (await error(AuthenticationFailed, stranger.orders.list)).status == 401


@BOTH
@pytest.mark.parametrize("where", ["none", "header", "body", "both"])
async def test_a_429_says_when_to_come_back(profile: str, where: str) -> None:
    async with (
        store_of(profile, limit=1, window=1000, retry_after=where, rate_headers=profile == "seed") as store,
        client_of(store, profile) as client,
    ):
        await client.orders.list(page_size=1)
        with pytest.raises(RateLimited) as caught:
            await client.orders.list(page_size=2)
        assert caught.value.status == 429
        assert (caught.value.after is not None) == (where != "none" or profile == "seed")
        assert 0 < (caught.value.after or 1) <= 1001


# ---- lists that change


@BOTH
async def test_a_list_is_read_to_its_end_while_products_come_and_go(profile: str) -> None:
    async with (
        store_of(profile, products=300, orders=0, largest_page=30, limit=5000) as store,
        client_of(store, profile) as client,
        client_of(store, profile) as other,
    ):
        path = "/api/products" if profile == "seed" else "/api/admin/products"
        before = [row["id"] for row in await store.rows("products")]
        found: list[str] = []
        gone: set[str] = set()
        async for product in client.products.iter():
            found.append(product.id)
            if len(found) % 29 == 0:
                for victim in (found[-5], before[-len(gone) - 1]):
                    if victim not in gone:
                        await other.request("DELETE", f"{path}/{victim}")
                        gone.add(victim)
                await other.products.create(name="Newcomer")
        assert len(found) == len(set(found))
        assert set(before) - gone <= set(found)
        assert len(gone) > 10


# ---- bad input


@BOTH
@pytest.mark.parametrize("kind", ["nulls", "strings", "enums"])
async def test_odd_values_are_taken_as_they_come(profile: str, kind: Any) -> None:
    async with store_of(profile) as store, client_of(store, profile) as client:
        order = (await client.orders.list(page_size=1, sort=["created_at"]))[0]
        fresh = client.acting_for("test", newer_than=datetime.now(UTC))
        await store.fail("GET", "*/orders*", kind=kind, times=None)
        odd = await fresh.orders.get(order.id)
        assert (odd.id, odd.unread) == (order.id, ())
        if kind == "nulls":
            assert (odd.subtotal, odd.status, odd.created_at) == (None, None, None)
        else:
            assert (odd.total, odd.created_at) == (order.total, order.created_at)
        assert (odd.status == "quality_check_2") == (kind == "enums")
        async for each in fresh.orders.iter():
            assert each.id


async def test_one_client_serves_many_at_once() -> None:
    async with store_of("seed") as store, client_of(store, "seed") as client:
        ids = [row["id"] for row in await store.rows("orders")][:20]
        found = await asyncio.gather(*(client.orders.get(id) for id in ids for _ in range(5)))
        assert {order.id for order in found} == set(ids)
        assert len(await store.calls_to("GET", "/api/orders/*")) == 20


async def test_a_shopper_s_token_reads_what_is_theirs() -> None:
    async with store_of("seed") as store:
        shopper = (await store.rows("orders"))[0]["customer_id"]
        async with client_of(store, "seed", api_key=await store.token(shopper)) as client:
            assert {order.customer_id async for order in client.orders.iter()} == {shopper}
            assert [customer.id async for customer in client.customers.iter()] == [shopper]


def test_no_resource_is_forgotten() -> None:
    offered = {name.partition(".")[0] for profile in PROFILES.values() for name in profile.operations}
    client = Litekart("key", "https://shop.example")
    made = {*readable(client), "settings", "order_tags", "tracking"}
    assert offered == made
    assert all(isinstance(resource, Resource) for resource in readable(client).values())
