"""The profile `seed` against the vendor's page (litekart-overview.txt), section by section, over HTTP."""

import hashlib
import hmac
import json
import time
from datetime import datetime
from typing import Any

import httpx
import pytest

from hub.testing import EVENT_TYPES, HttpSink
from hub.testing.store import READ_KEY, StoreApi
from tests.store_double.callers import calling, got

NAMED = (
    "products", "orders", "customers", "carts", "users", "categories", "brands", "coupons", "payments", "pages",
    "blogs", "inventory", "webhooks",
)  # fmt: skip


async def refused(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """The status and the error of an answer in the page's shape."""
    response = await client.request(method, path, **more)
    body = response.json()
    assert body.keys() == {"success", "error"}, body
    assert body["success"] is False
    return response.status_code, body["error"]


async def test_authentication_by_api_key_and_by_jwt() -> None:
    """A key opens the store; a person's token what is theirs; anything else nothing."""
    async with StoreApi(orders=30, customers=3) as store:
        customer = (await store.rows("orders"))[0]["customer_id"]
        async with calling(store) as client:
            assert len((await got(client, "/api/orders", limit=100))["data"]) == 30
        async with calling(store, await store.token(customer)) as client:
            own = (await got(client, "/api/orders", limit=100))["data"]
            assert {row["customer_id"] for row in own} == {customer}
            other = next(row for row in await store.rows("orders") if row["customer_id"] != customer)
            assert (await refused(client, "GET", f"/api/orders/{other['id']}"))[0] == 404
            status, error = await refused(client, "GET", "/api/users")
            assert (status, error["code"]) == (403, "AUTHORIZATION_ERROR")
        for wrong in ("lk_guessed", await store.token(customer, seconds=-1), (await store.token(customer))[:-2]):
            async with calling(store, wrong) as client:
                status, error = await refused(client, "GET", "/api/products")
                assert (status, error["code"]) == (401, "AUTHENTICATION_ERROR")
        async with calling(store, None) as client:
            public = (await got(client, "/api/products", limit=100))["data"]
            assert {row["status"] for row in public} == {"published"}
            assert (await refused(client, "GET", "/api/orders"))[0] == 401


async def test_the_pages_request_and_its_answers() -> None:
    """The page's sample request makes a product; answers are `success`, `data`, `message`; 201, 200 and 204."""
    async with StoreApi(products=1, orders=0) as store, calling(store) as client:
        asked = {"name": "Sample Product", "price": 29.99, "description": "A sample product description"}
        made = await client.post("/api/products", json=asked)
        assert made.status_code == 201
        assert made.headers["content-type"] == "application/json"
        body = made.json()
        assert body.keys() == {"success", "data", "message"}
        assert body["success"] is True
        assert isinstance(body["message"], str)
        assert body["data"].items() >= asked.items()
        path = f"/api/products/{body['data']['id']}"
        assert (await got(client, path))["data"] == body["data"]
        changed = await client.patch(path, json={"price": 31})
        assert (changed.status_code, changed.json()["data"]["price"]) == (200, 31)
        gone = await client.delete(path)
        assert (gone.status_code, gone.content) == (204, b"")
        assert (await refused(client, "GET", path))[0] == 404


async def test_every_status_and_code() -> None:
    """400, 401, 403, 404, 422, 429, 500, and CONFLICT with 409, which the page's table of statuses leaves out."""
    async with StoreApi(products=3, orders=5, limit=9) as store:
        async with calling(store) as client:
            found = [await refused(client, "POST", "/api/products", content=b'{"name": ')]
            found.append(await refused(client, "POST", "/api/products", json={"price": "much"}))
            sku = (await store.rows("products"))[0]["sku"]
            found.append(await refused(client, "POST", "/api/products", json={"name": "Again", "sku": sku}))
            found += [await refused(client, "GET", path) for path in ("/api/orders/ord_0", "/api/nothing")]
            found.append(await refused(client, "DELETE", "/api/products"))
            await store.fail(status=500)
            found.append(await refused(client, "GET", "/api/orders"))
            await store.configure(limit=1)
            found.append(await refused(client, "GET", "/api/orders"))
        async with calling(store, READ_KEY) as client:
            found.append(await refused(client, "POST", "/api/products", json={"name": "Not allowed"}))
    assert [(status, error["code"]) for status, error in found] == [
        (400, "VALIDATION_ERROR"), (422, "VALIDATION_ERROR"), (409, "CONFLICT"), (404, "NOT_FOUND"),
        (404, "NOT_FOUND"), (404, "NOT_FOUND"), (500, "INTERNAL_ERROR"), (429, "RATE_LIMITED"),
        (403, "AUTHORIZATION_ERROR"),
    ]  # fmt: skip
    assert all(isinstance(error["message"], str) for _, error in found)


async def test_both_shapes_of_details() -> None:
    """An object for the page's first example, a list for its second, and either one throughout where it is set."""
    async with StoreApi(products=1, orders=0) as store, calling(store) as client:
        _, error = await refused(client, "POST", "/api/customers", json={"email": "no address"})
        assert error["details"] == {"field": "email", "issue": "Email format is invalid"}
        _, error = await refused(client, "POST", "/api/users", json={"password": "short"})
        both = [
            {"field": "email", "message": "Email is required"},
            {"field": "password", "message": "Password must be at least 8 characters"},
        ]
        assert (error["message"], error["details"]) == ("Validation failed", both)
        made = await client.post("/api/users", json={"email": "new@example.test", "password": "long enough"})
        assert (made.status_code, "password" in made.json()["data"]) == (201, False)
        await store.configure(details="list")
        _, error = await refused(client, "POST", "/api/customers", json={"email": "no address"})
        assert error["details"] == [{"field": "email", "message": "Email format is invalid"}]
        await store.configure(details="object")
        _, error = await refused(client, "POST", "/api/users", json={"password": "short"})
        assert error["details"] == {"field": "email", "issue": "Email is required"}


async def test_rate_limits() -> None:
    """1000 an hour with a key, 100 without, told in headers; when it is spent, 429 until the reset."""
    async with (
        StoreApi(products=1, orders=0) as store,
        calling(store) as client,
        calling(store, None) as nobody,
        calling(store, READ_KEY) as other,
    ):
        before = int(time.time())
        told = (await client.get("/api/products")).headers
        assert (told["X-RateLimit-Limit"], told["X-RateLimit-Remaining"]) == ("1000", "999")
        assert before + 3600 <= int(told["X-RateLimit-Reset"]) <= time.time() + 3602
        told = (await nobody.get("/api/products")).headers
        assert (told["X-RateLimit-Limit"], told["X-RateLimit-Remaining"]) == ("100", "99")
        await store.configure(limit=3, public_limit=1)
        left = [(await client.get("/api/products")).headers["X-RateLimit-Remaining"] for _ in range(2)]
        spent = await client.get("/api/products")
        assert left == ["1", "0"]
        assert (spent.status_code, spent.headers["X-RateLimit-Remaining"]) == (429, "0")
        assert "Retry-After" not in spent.headers
        assert (await nobody.get("/api/products")).status_code == 429
        assert (await other.get("/api/products")).status_code == 200
        await store.configure(rate_headers=False, retry_after="both")
        bare = await client.get("/api/products")
        assert not [name for name in bare.headers if name.startswith("x-ratelimit")]
        assert 0 < int(bare.headers["Retry-After"]) <= 3601
        assert bare.json()["retryAfter"] == int(bare.headers["Retry-After"])
        await store.refill()
        assert (await client.get("/api/products")).status_code == 200


async def test_a_window_ends() -> None:
    async with StoreApi(products=1, orders=0, limit=1, window=0.2) as store, calling(store) as client:
        statuses = [(await client.get("/api/products")).status_code]
        while statuses[-1] != 200 or len(statuses) < 2:
            statuses.append((await client.get("/api/products")).status_code)
        assert set(statuses) <= {200, 429}


async def test_pagination_is_the_pages_example() -> None:
    async with StoreApi(orders=150) as store, calling(store) as client:
        first = await got(client, "/api/orders", page=1, limit=20)
        assert first.keys() == {"success", "data", "pagination"}
        assert first["pagination"] == {
            "page": 1, "limit": 20, "total": 150, "totalPages": 8, "hasNext": True, "hasPrev": False
        }  # fmt: skip
        pages = [await got(client, "/api/orders", page=page, limit=20) for page in range(1, 10)]
        ids = [row["id"] for page in pages for row in page["data"]]
        assert [len(page["data"]) for page in pages] == [20] * 7 + [10, 0]
        assert sorted(ids) == sorted(row["id"] for row in await store.rows("orders"))
        assert (pages[7]["pagination"]["hasNext"], pages[7]["pagination"]["hasPrev"]) == (False, True)
        assert (await got(client, "/api/orders"))["pagination"]["limit"] == 20
        assert (await got(client, "/api/orders", limit=5000))["pagination"]["limit"] == 100
        for wrong in ({"page": "0"}, {"limit": "-1"}, {"page": "two"}):
            assert (await refused(client, "GET", "/api/orders", params=wrong))[0] == 422


async def test_filters() -> None:
    """The page's two examples, and `updated_after`; each leaves out something and lets something through."""
    async with StoreApi() as store, calling(store) as client:
        rows = await store.rows("products")
        category = next(row["id"] for row in await store.rows("categories") if row["name"] == "Electronics")
        found = await got(client, "/api/products?category=electronics&price_min=10&price_max=100&limit=100")
        wanted = {row["id"] for row in rows if row["category_id"] == category and 10 <= row["price"] <= 100}
        assert {row["id"] for row in found["data"]} == wanted
        assert 0 < len(wanted) < len(rows)
        assert (await got(client, "/api/products?price_max=0"))["data"] == []
        edge = rows[0]["price"]
        exact = await got(client, f"/api/products?price_min={edge}&price_max={edge}")
        assert {row["price"] for row in exact["data"]} == {edge}

        orders = await store.rows("orders")
        day = datetime.fromisoformat(orders[75]["created_at"]).date().isoformat()
        found = await got(client, f"/api/orders?status=completed&created_after={day}&limit=100")
        wanted = {row["id"] for row in orders if row["status"] == "completed" and row["created_at"] >= day}
        assert {row["id"] for row in found["data"]} == wanted
        assert 0 < len(wanted) < len([row for row in orders if row["status"] == "completed"])
        exact = await got(client, "/api/orders", created_after=orders[140]["created_at"])
        assert [row["id"] for row in exact["data"]] == [row["id"] for row in orders[140:]]
        order = await store.update(orders[0]["id"], comment="Now")
        later = await got(client, "/api/orders", updated_after=order["updated_at"][:19] + "Z")
        assert [row["id"] for row in later["data"]] == [order["id"]]
        for wrong in ("price_min=cheap", "created_after=yesterday"):
            status, error = await refused(client, "GET", f"/api/products?{wrong}")
            assert (status, error["details"]["field"]) == (422, wrong.partition("=")[0])


async def test_sorting() -> None:
    async with StoreApi() as store, calling(store) as client:
        await store.create_product(name="Ångström", price=39.99)
        found = (await got(client, "/api/products?sort=price:asc,name:desc&limit=100"))["data"]
        by_name = sorted(await store.rows("products"), key=lambda row: row["name"].casefold(), reverse=True)
        assert [row["id"] for row in found] == [row["id"] for row in sorted(by_name, key=lambda row: row["price"])]
        found = (await got(client, "/api/orders?sort=created_at:desc&limit=100"))["data"]
        times = [row["created_at"] for row in found]
        assert times == sorted(times, reverse=True)
        assert times != sorted(times)
        assert (await refused(client, "GET", "/api/orders?sort=created_at:down"))[0] == 422


async def test_field_selection() -> None:
    async with StoreApi() as store, calling(store) as client:
        plain = (await got(client, "/api/products?fields=id,name,price"))["data"]
        assert {tuple(row) for row in plain} == {("id", "name", "price")}
        nested = (await got(client, "/api/products?fields=id,name,variants(id,price)&limit=100"))["data"]
        variants = [variant for row in nested for variant in row["variants"]]
        assert {tuple(row) for row in nested} == {("id", "name", "variants")}
        assert {tuple(variant) for variant in variants} == {("id", "price")}
        (one,) = (await got(client, "/api/orders?fields=order_no,line_items(sku),customer(email)&limit=1"))["data"]
        assert one.keys() == {"order_no", "line_items", "customer"}
        single = await got(client, f"/api/products/{plain[0]['id']}?fields=name")
        assert single["data"] == {"name": plain[0]["name"]}
        for wrong in ("id,", "variants(id", "id)", "a b", "id,,name", "variants()"):
            assert (await refused(client, "GET", "/api/products", params={"fields": wrong}))[0] == 422, wrong


async def test_every_resource_can_be_read() -> None:
    """Each has rows, whose list and single shows are one, and money is in major units."""
    async with StoreApi(webhooks=None) as store, calling(store) as client:
        await client.post("/api/webhooks", json={"event": "order.placed", "url": "http://127.0.0.1:9/"})
        for name in NAMED:
            (first,) = (await got(client, f"/api/{name}", limit=1))["data"]
            assert (await got(client, f"/api/{name}/{first['id']}"))["data"] == first, name
            assert datetime.fromisoformat(first["created_at"]).tzinfo is not None
        settings = await got(client, "/api/settings")
        assert settings["data"]["currency_code"] == "EUR"
        changed = await client.patch("/api/settings", json={"store_name": "Other"})
        assert changed.json()["data"]["store_name"] == "Other"
        order = (await got(client, "/api/orders", limit=1))["data"][0]
        lines = order["line_items"]
        assert round(sum(line["price"] * line["quantity"] for line in lines), 2) == order["subtotal"]
        assert round(order["subtotal"] + order["shipping"] - order["discount"], 2) == order["total"]


async def test_webhooks_are_as_the_page_says() -> None:
    """Body, events and signature: HMAC-SHA256 of the very bytes, in lower-case hex."""
    secret = "a secret of the store's"
    async with HttpSink() as sink, StoreApi(webhooks=f"{sink.url}/webhooks/main", secret=secret) as store:
        order = await store.sequence()
        product = await store.create_product(name="Nouveauté", sku="NEW-1", stock=6)
        await store.change_product(product["id"], price=12)
        await store.register_customer()
        await store.sell("NEW-1")
        bodies = [json.loads(request.body) for request in sink.received]
        assert {body["event"] for body in bodies} == set(EVENT_TYPES)
        assert {tuple(body) for body in bodies} == {("event", "data", "timestamp")}
        placed = bodies[0]["data"]
        assert placed == {"orderId": order["id"], "customerId": order["customer_id"], "total": order["total"]}
        for request, body in zip(sink.received, bodies, strict=True):
            wanted = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
            assert request.headers["X-Litekart-Signature"] == wanted
            assert datetime.strptime(body["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
        await store.configure(payload="full")
        await store.place_order()
        full = json.loads(sink.received[-1].body)["data"]
        assert full.keys() >= {"orderId", "orderNo", "currency", "customer", "items"}


async def test_large_answers_are_compressed() -> None:
    async with StoreApi() as store, calling(store) as client:
        assert (await client.get("/api/products")).headers["content-encoding"] == "gzip"
        small = await client.get("/api/products?fields=id&limit=1")
        assert "content-encoding" not in small.headers
        plain = await client.get("/api/products", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("name", ["orders", "products", "customers", "inventory"])
async def test_writes_change_the_state(name: str) -> None:
    written: dict[str, dict[str, Any]] = {
        "orders": {"status": "quality_check", "comment": "Bitte klingeln"}, "products": {"price": 3.5},
        "customers": {"first_name": "Zoë"}, "inventory": {"stock": 7},
    }  # fmt: skip
    changes = written[name]
    async with StoreApi() as store, calling(store) as client:
        row = (await store.rows(name))[0]
        for method in ("PATCH", "PUT"):
            response = await client.request(method, f"/api/{name}/{row['id']}", json=changes | {"id": "x", "odd": 1})
            assert response.status_code == 200
        now = await store.row(name, row["id"])
        assert now == row | changes | {"updated_at": now["updated_at"]}
        assert now["updated_at"] > row["updated_at"]


async def test_stock_is_one_number_wherever_it_is_written() -> None:
    """Inventory, variant and product agree; a product with variants has no stock of its own to write."""
    async with StoreApi() as store, calling(store) as client:
        products = await store.rows("products")
        plain = next(row for row in products if not row["variants"])
        split = next(row for row in products if row["variants"])
        await client.patch(f"/api/products/{plain['id']}", json={"stock": 3})
        shelves = {row["sku"]: row for row in await store.rows("inventory")}
        assert shelves[plain["sku"]]["stock"] == (await store.row("products", plain["id"]))["stock"] == 3
        variant = split["variants"][0]
        await client.patch(f"/api/inventory/{shelves[variant['sku']]['id']}", json={"stock": 1000})
        now = await store.row("products", split["id"])
        assert now["variants"][0]["stock"] == 1000
        assert now["stock"] == sum(one["stock"] for one in now["variants"])
        assert (await refused(client, "PATCH", f"/api/products/{split['id']}", json={"stock": 1}))[0] == 422


async def test_tags_tracking_and_carts() -> None:
    """What the page does not show but a connector needs: below the order."""
    async with StoreApi() as store, calling(store) as client:
        order = (await store.rows("orders"))[1]
        path = f"/api/orders/{order['id']}"
        tag = (await client.post(f"{path}/tags", json={"tag": "in the ERP"})).json()["data"]
        parcel = {"tracking_number": "T1", "tracking_url": "https://parcels.example.test/T1", "status": "shipped"}
        assert (await client.post(f"{path}/tracking", json=parcel)).status_code == 201
        shown = (await got(client, path))["data"]
        assert shown["tags"] == ["in the ERP"]
        assert shown["tracking"][-1].items() >= parcel.items()
        assert (await client.delete(f"{path}/tags/{tag['id']}")).status_code == 204
        assert (await got(client, path))["data"]["tags"] == []
        shelf = (await store.rows("inventory"))[0]
        lines = [{"sku": shelf["sku"], "quantity": 2}]
        cart = {"customer_id": order["customer_id"], "line_items": lines}
        made = (await client.post("/api/carts", json=cart)).json()["data"]
        placed = await client.post("/api/orders", json={"cart_id": made["id"]})
        assert placed.status_code == 201
        assert placed.json()["data"]["line_items"][0]["quantity"] == 2
        assert (await store.row("inventory", shelf["id"]))["stock"] == shelf["stock"] - 2
        status, error = await refused(client, "DELETE", f"/api/products/{shelf['product_id']}")
        assert (status, error["code"]) == (409, "CONFLICT")
