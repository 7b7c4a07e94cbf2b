"""The profile `v2` against what is known of the live API (litekart-api.md), with its irregularities, over HTTP."""

import json
import re
from typing import Any

import httpx

from hub.testing import HttpSink
from hub.testing.store import API_KEY, READ_KEY, STORE_ID, StoreApi
from tests.store_double.callers import V2, calling, got

ULID = re.compile(r"[a-z]+_[0-9A-HJKMNP-TV-Z]{26}")


async def answered(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> tuple[int, Any]:
    response = await client.request(method, path, **more)
    return response.status_code, response.json() if response.content else None


async def test_the_store_must_be_named() -> None:
    """By header or cookie; the management needs a key besides, and a customer is not let in."""
    async with StoreApi(profile="v2", orders=5) as store:
        async with calling(store) as client:
            assert await answered(client, "GET", "/api/admin/orders") == (400, {"message": "Store ID is required"})
            cookie = {"Cookie": f"litekart_store_id={STORE_ID}"}
            assert (await answered(client, "GET", "/api/admin/orders", headers=cookie))[0] == 200
            other = {"x-litekart-store": "store_01"}
            assert (await answered(client, "GET", "/api/admin/orders", headers=other))[0] == 404
        async with calling(store, None, V2) as client:
            rows = {row["status"]: row["id"] for row in await store.rows("products")}
            assert (await answered(client, "GET", f"/api/products/{rows['published']}"))[0] == 200
            assert (await answered(client, "GET", f"/api/products/{rows['draft']}"))[0] == 404
            status, body = await answered(client, "GET", "/api/admin/orders")
            assert (status, body.keys()) == (401, {"message"})
        customer = (await store.rows("orders"))[0]["customer_id"]
        async with calling(store, await store.token(customer), V2) as client:
            assert (await answered(client, "GET", "/api/admin/orders"))[0] == 403
            own = (await got(client, "/api/orders/me"))["data"]
            assert {row["userId"] for row in own} == {customer}
            assert (await got(client, "/api/users/me"))["id"] == customer


async def test_lists_and_their_irregularities() -> None:
    """`{data, count, page, pageSize}`; `noOfPage` on some; bare arrays; `{count, data}`; newest first."""
    async with StoreApi(profile="v2") as store, calling(store, API_KEY, V2) as client:
        first = await got(client, "/api/admin/orders", page=2, pageSize=40)
        assert first.keys() == {"data", "count", "page", "pageSize"}
        assert (len(first["data"]), first["count"], first["page"], first["pageSize"]) == (40, 150, 2, 40)
        pages = [await got(client, "/api/admin/orders", page=page, pageSize=40) for page in range(1, 6)]
        ids = [row["id"] for page in pages for row in page["data"]]
        assert [len(page["data"]) for page in pages] == [40, 40, 40, 30, 0]
        assert sorted(ids) == sorted(row["id"] for row in await store.rows("orders"))
        for path in ("/api/blogs", "/api/admin/blogs", "/api/products"):
            assert (await got(client, path, pageSize=2))["noOfPage"] > 1
        for path in ("/api/admin/carts", "/api/coupons"):
            assert isinstance(await got(client, path), list)
        assert (await got(client, "/api/admin/users/tags")).keys() == {"count", "data"}
        product = (await store.rows("products"))[0]["id"]
        assert (await got(client, f"/api/products/{product}/warehouse")).keys() == {"count", "data", "message"}
        made = await client.post("/api/admin/warehouse", json={"name": "Second"})
        assert (made.status_code, made.json().keys()) == (200, {"data", "message"})
        assert len((await got(client, "/api/products", limit=3))["data"]) == 3


async def test_sorting_and_search() -> None:
    async with StoreApi(profile="v2") as store, calling(store, API_KEY, V2) as client:
        default = [row["createdAt"] for row in (await got(client, "/api/admin/orders"))["data"]]
        assert default == sorted(default, reverse=True)
        rising = (await got(client, "/api/admin/products", sort="price", pageSize=100))["data"]
        assert [row["price"] for row in rising] == sorted(row["price"] for row in rising)
        order = await store.update((await store.rows("orders"))[3]["id"])
        latest = (await got(client, "/api/admin/orders", sort="-updatedAt", pageSize=1))["data"][0]
        assert latest["id"] == order["id"]
        found = (await got(client, "/api/products", search="kettle", limit=100))["data"]
        assert found
        assert all("kettle" in row["title"] for row in found)
        status = (await got(client, "/api/admin/orders", status="cancelled"))["data"]
        assert {row["status"] for row in status} == {"cancelled"}
        published = (await got(client, "/api/products", limit=100))["count"]
        assert 0 < published < (await got(client, "/api/admin/products"))["count"]


async def test_objects_have_the_live_names() -> None:
    """camelCase, `title`, `qty`, `userId` and the flattened `user*`, images as one string, ULIDs, milliseconds."""
    async with StoreApi(profile="v2", webhooks="http://127.0.0.1:9/") as store, calling(store, API_KEY, V2) as client:
        listed = (await got(client, "/api/admin/orders", pageSize=1))["data"][0]
        order = await got(client, f"/api/admin/orders/{listed['id']}")
        assert "lineItems" not in listed
        assert order.keys() >= {
            "orderNo", "parentOrderNo", "storeId", "userId", "userEmail", "userFirstName", "userLastName", "userPhone",
            "shippingCharges", "currencyCode", "currencySymbol", "amountDue", "paymentStatus", "lineItems", "tracking",
            "createdAt", "updatedAt", "shippingAddress", "comment",
        }  # fmt: skip
        assert order.keys().isdisjoint({"customerId", "metadata", "notes", "externalId", "items"})
        assert await got(client, f"/api/orders/{order['orderNo']}") == order
        assert ULID.fullmatch(order["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", order["updatedAt"])
        assert order["lineItems"][0].keys() >= {"title", "qty", "price", "mrp", "sku", "productId", "variantId"}
        assert "address_1" in order["shippingAddress"]
        assert "countryCode" in order["shippingAddress"]
        rows = await store.rows("products")
        split = next(row for row in rows if row["variants"] and row["status"] == "published")
        product = await got(client, f"/api/products/{split['slug']}")
        assert product["id"] == split["id"]
        assert product.keys() >= {"title", "images", "manageInventory", "costPerItem", "variants", "options", "stock"}
        assert "name" not in product
        assert product["images"].count(",") == 1
        assert product["variants"][0].keys() >= {"title", "productId", "sku", "stock"}
        customer = (await got(client, "/api/admin/customers", pageSize=1))["data"][0]
        assert customer.keys() == {"id", "phone", "avatar", "firstName", "lastName", "role", "storeId"}
        assert "@" in (await got(client, f"/api/admin/users/{customer['id']}"))["email"]
        stock = (await got(client, "/api/admin/inventory", pageSize=1))["data"][0]
        assert stock.keys() >= {"stock", "lowStockThreshold", "reorderPoint", "leadTime", "costPrice", "warehouseId"}
        hook = (await got(client, "/api/admin/webhooks", pageSize=1))["data"][0]
        assert hook.keys() >= {"id", "url", "password", "name", "description", "event", "rank", "active", "storeId"}


async def test_errors_have_the_live_shapes() -> None:
    """ZodError, `{message}`, `error` as a string with what belongs to it, and a 429 without headers."""
    async with StoreApi(profile="v2") as store, calling(store, API_KEY, V2) as client:
        status, body = await answered(client, "POST", "/api/admin/products", json={"price": "much"})
        assert (status, body["success"], body["error"]["name"]) == (422, False, "ZodError")
        assert [issue["path"] for issue in body["error"]["issues"]] == [["title"], ["price"]]
        assert all(issue.keys() == {"code", "path", "message"} for issue in body["error"]["issues"])
        status, body = await answered(client, "POST", "/api/admin/inventory", json={"productId": "prd_0", "sku": "X"})
        assert (status, body["error"]["issues"][0]["path"]) == (422, ["productId"])
        assert await answered(client, "GET", "/api/admin/orders/ord_0") == (404, {"message": "Not Found"})
        for path in ("/api/brands", "/api/payments", "/api/admin/brands"):
            assert await answered(client, "GET", path) == (404, {"message": "Not Found"})
        assert (await answered(client, "POST", "/api/admin/customers", json={"email": "a@b.test"}))[0] == 404
        sku = (await store.rows("products"))[0]["sku"]
        status, body = await answered(client, "POST", "/api/admin/products", json={"title": "Again", "sku": sku})
        assert (status, body["field"], type(body["error"])) == (409, "sku", str)
        order = await store.place_order()
        status, body = await answered(client, "DELETE", f"/api/admin/products/{order['line_items'][0]['product_id']}")
        assert (status, body["activeOrders"] >= 1, type(body["error"])) == (409, True, str)
        status, body = await answered(client, "PATCH", f"/api/admin/orders/{order['id']}", content=b"{")
        assert (status, body.keys()) == (400, {"message"})
        await store.fail(status=500)
        assert await answered(client, "GET", "/api/admin/orders") == (500, {"error": "Internal Server Error"})
        await store.configure(limit=1)
        response = await client.get("/api/admin/orders")
        assert (response.status_code, response.json().keys()) == (429, {"error", "retryAfter"})
        assert 0 < response.json()["retryAfter"] <= 3601
        assert not [name for name in response.headers if name.startswith("x-ratelimit")]


async def test_writes() -> None:
    """PATCH is partial, creating is 200, deleting 204; names are the live ones, ids and strangers are left aside."""
    async with StoreApi(profile="v2") as store, calling(store, API_KEY, V2) as client:
        order = (await store.rows("orders"))[0]
        path = f"/api/admin/orders/{order['id']}"
        status, body = await answered(
            client, "PATCH", path, json={"status": "on_hold", "comment": "ERP S001", "id": "x"}
        )
        assert (status, body["status"], body["comment"], body["id"]) == (200, "on_hold", "ERP S001", order["id"])
        made = await client.post(
            "/api/admin/products", json={"title": "Cup", "sku": "CUP", "costPerItem": 2, "stock": 9}
        )
        assert (made.status_code, made.json()["title"], made.json()["costPerItem"]) == (200, "Cup", 2)
        product = f"/api/admin/products/{made.json()['id']}"
        assert (await answered(client, "PATCH", product, json={"stock": 4}))[1]["stock"] == 4
        shelf = next(row for row in await store.rows("inventory") if row["sku"] == "CUP")
        assert shelf["stock"] == 4
        inventory = f"/api/admin/inventory/{shelf['id']}"
        assert (await answered(client, "PATCH", inventory, json={"stock": 11, "lowStockThreshold": 2}))[0] == 200
        assert (await store.row("products", made.json()["id"]))["stock"] == 11
        variant = await client.post(f"{product}/variants", json={"title": "Cup, blue", "price": 4, "stock": 3})
        assert variant.json().keys() >= {"id", "productId", "title", "sku"}
        value = {"productId": made.json()["id"], "variantValue": "red", "stock": 8}
        red = (await answered(client, "POST", "/api/admin/variants", json=value))[1]
        again = value | {"id": red["id"], "stock": 5}
        assert (await answered(client, "POST", "/api/admin/variants", json=again))[1]["stock"] == 5
        assert [one["stock"] for one in (await got(client, product))["variants"]] == [3, 5]
        assert (await answered(client, "POST", "/api/admin/variants", json={"stock": 1}))[0] == 422
        assert (await client.delete(product)).status_code == 204
        customer = (await store.rows("customers"))[0]["id"]
        await client.patch(f"/api/admin/users/{customer}", json={"firstName": "Zoë"})
        assert (await store.row("customers", customer))["first_name"] == "Zoë"
        tag = (await answered(client, "POST", "/api/admin/orders-tags", json={"orderId": order["id"], "tag": "erp"}))[1]
        assert (await answered(client, "POST", "/api/admin/orders-tags", json={"orderId": order["id"]}))[0] == 422
        assert (await client.delete(f"/api/admin/orders-tags/{tag['id']}")).status_code == 204
        parcel = {"orderId": order["id"], "trackingNumber": "T1", "trackingUrl": "https://parcels.example.test/T1"}
        await client.post("/api/admin/orders/tracking", json=parcel)
        assert (await got(client, path))["tracking"][-1].items() >= parcel.items()
        assert (await got(client, f"/api/admin/orders/payment-status/{order['id']}")).keys() >= {"paymentStatus"}
        cart = (await answered(client, "POST", "/api/carts", json={"userId": customer, "lineItems": []}))[1]
        assert (await answered(client, "POST", "/api/admin/orders", json={}))[0] == 422
        placed = (await answered(client, "POST", "/api/admin/orders", json={"cartId": cart["id"]}))[1]
        assert (placed["userId"], placed["cartId"]) == (customer, cart["id"])
    async with StoreApi(profile="v2") as store, calling(store, READ_KEY, V2) as client:
        order_id = (await store.rows("orders"))[0]["id"]
        assert (await answered(client, "PATCH", f"/api/admin/orders/{order_id}", json={"status": "x"}))[0] == 403


async def test_an_id_says_when_its_row_was_made() -> None:
    """The live API lists customers without a time of their own."""
    async with StoreApi(profile="v2", orders=5) as store:
        await store.register_customer()
        rows = await store.rows("customers")
        made = [row["id"][: len("cus_") + 10] for row in sorted(rows, key=lambda row: row["created_at"])]
        assert made == sorted(made)
        assert len(set(made)) > 10


async def test_webhooks_go_to_their_registrations() -> None:
    """One event each, with the `password` as the secret; changed, switched off and removed through the API."""
    async with HttpSink() as sink, StoreApi(profile="v2") as store, calling(store, API_KEY, V2) as client:
        await store.register_customer()
        hooks = [
            {"event": event, "url": f"{sink.url}/{place}", "password": place, "name": place, "active": True}
            for place, event in enumerate_names("customer.registered", "customer.registered", "order.placed")
        ]
        made = [(await answered(client, "POST", "/api/admin/webhooks", json=hook))[1] for hook in hooks]
        assert [hook.items() <= one.items() for hook, one in zip(hooks, made, strict=True)] == [True] * 3
        await store.register_customer()
        assert [request.path for request in sink.received] == ["/a", "/b"]
        assert len({request.headers["X-Litekart-Signature"] for request in sink.received}) == 2
        assert {json.loads(request.body)["event"] for request in sink.received} == {"customer.registered"}
        await client.patch(f"/api/admin/webhooks/{made[0]['id']}", json={"active": False})
        await client.delete(f"/api/admin/webhooks/{made[1]['id']}")
        await store.register_customer()
        assert len(sink.received) == 2
        assert (await answered(client, "POST", "/api/admin/webhooks", json={"url": "nowhere"}))[0] == 422
        fired = await got(client, "/api/admin/webhooks/history")
        assert [row["id"] for row in fired["data"]] == [made[0]["id"]]


def enumerate_names(*events: str) -> list[tuple[str, str]]:
    return list(zip("abcdefgh", events, strict=False))
