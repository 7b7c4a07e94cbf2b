"""What happens in the double's store: state, webhooks, how they travel, and what is recorded of them."""

import json
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from hub.event import SigningKey, parse, verify
from hub.testing import Answer, HttpSink, Received
from hub.testing.store import Sent, StoreApi
from tests.servers import eventually
from tests.store_double.callers import calling

SECRET = "the secret of this test's store"
# A threshold that no stock falls through.
NEVER = -1_000_000


def double(sink: HttpSink, **settings: Any) -> StoreApi:
    return StoreApi(webhooks=f"{sink.url}/webhooks/main", secret=SECRET, **settings)


def events(sink: HttpSink) -> list[str]:
    return [json.loads(request.body)["event"] for request in sink.received]


async def test_an_orders_life() -> None:
    """placed, paid, updated, cancelled: each changes the state, each is told of, in that order."""
    async with HttpSink() as sink, double(sink) as store:
        shelf = (await store.rows("inventory"))[0]
        order = await store.place_order(items=[{"sku": shelf["sku"], "quantity": 2}], comment="Bitte klingeln")
        assert (order["status"], order["paid"], order["comment"]) == ("pending", False, "Bitte klingeln")
        assert (await store.row("inventory", shelf["id"]))["stock"] == shelf["stock"] - 2
        payment = await store.pay(order["id"])
        now = await store.row("orders", order["id"])
        assert (now["paid"], now["amount_due"], payment["amount"]) == (True, 0, order["total"])
        assert (await store.update(order["id"]))["status"] == "confirmed"
        assert (await store.update(order["id"], status="on_hold"))["status"] == "on_hold"
        assert (await store.cancel(order["id"], reason="Ordered twice"))["status"] == "cancelled"
        assert (await store.row("inventory", shelf["id"]))["stock"] == shelf["stock"]
        told = ["order.placed", "payment.completed", "order.updated", "order.updated", "order.cancelled"]
        assert events(sink) == told
        assert [(one.event, one.status, one.lost) for one in await store.sent()] == [(one, 200, False) for one in told]


async def test_stock_that_falls_through_its_threshold() -> None:
    """Told once, when it falls, by whichever way; again only after it was above."""
    async with HttpSink() as sink, double(sink, threshold=5) as store, calling(store) as client:
        shelf = (await store.rows("inventory"))[0]
        await store.sell(shelf["sku"], shelf["stock"] - 6)
        assert events(sink) == []
        await store.sell(shelf["sku"])
        await store.sell(shelf["sku"])
        assert events(sink) == ["inventory.low"]
        data = json.loads(sink.received[0].body)["data"]
        assert data.items() >= {"sku": shelf["sku"], "stock": 5, "threshold": 5}.items()
        await store.restock(shelf["sku"], 6)
        await store.place_order(items=[{"sku": shelf["sku"]}])
        await client.patch(f"/api/inventory/{shelf['id']}", json={"stock": 30})
        await client.patch(f"/api/inventory/{shelf['id']}", json={"stock": 1})
        await store.settle()
        assert Counter(events(sink)) == {"inventory.low": 3, "product.updated": 3, "order.placed": 1}


async def test_writes_through_the_api_are_told_too() -> None:
    """As a live store does (`echo`), so that a hub that writes hears its own echo; it can be switched off."""
    async with HttpSink() as sink, double(sink) as store, calling(store) as client:
        order = (await store.rows("orders"))[0]["id"]
        await client.patch(f"/api/orders/{order}", json={"comment": "S001"})
        await client.patch(f"/api/orders/{order}", json={"status": "cancelled"})
        await client.patch(f"/api/orders/{order}", json={"comment": "S001, cancelled"})
        await client.post("/api/customers", json={"email": "new@example.test"})
        await store.configure(echo=False)
        await client.patch(f"/api/orders/{order}", json={"comment": "S002"})
        await store.settle()
        assert events(sink) == ["order.updated", "order.cancelled", "order.updated", "customer.registered"]


async def test_another_address_takes_the_place_of_the_first() -> None:
    """A double often starts before the hub whose address it needs."""
    async with HttpSink() as first, HttpSink() as second:
        for profile in ("seed", "v2"):
            async with double(first, profile=profile) as store:
                await store.configure(webhooks=f"{second.url}/webhooks/main", secret="another")
                await store.register_customer()
                (sent,) = await store.sent()
            assert verify(sent.body.encode(), sent.signature.encode(), [SigningKey.of("another")])
        assert (len(first.received), len(second.received)) == (0, 2)


async def test_repeats_in_every_shape() -> None:
    """Each event 1 to 5 times: the same bytes, other bytes of the same JSON, another timestamp; rightly signed all.

    Forged copies, and they alone, are wrongly signed.
    """
    key = SigningKey.of(SECRET)
    async with HttpSink() as sink, double(sink) as store:
        travel = {"repeats": (1, 5), "restamped": 0.3, "reserialised": 0.3, "forged": 0.3, "shuffle": 1000}
        await store.configure(travel=travel)
        for _ in range(8):
            await store.sequence()
        assert events(sink) == []
        await store.release()
        sent = await store.sent()
        assert {one.kind for one in sent} == {"first", "repeat", "restamped", "reserialised", "forged"}
        assert len(sink.received) == len(sent) > 32
        for one in sent:
            right = verify(one.body.encode(), one.signature.encode(), [key]) is not None
            assert right == (one.kind != "forged")
            same_event(one, sent)
        arrived = [request.headers["X-Litekart-Signature"] for request in sink.received]
        assert arrived != [one.signature for one in sent]
        assert sorted(arrived) == sorted(one.signature for one in sent)


def same_event(one: Sent, sent: list[Sent]) -> None:
    """A copy says what its first says, but for what its kind changes."""
    first = next(other for other in sent if (other.event, other.entity) == (one.event, one.entity))
    said, wanted = json.loads(one.body), json.loads(first.body)
    assert parse(one.body.encode()).entity == parse(first.body.encode()).entity
    assert said["data"] == wanted["data"]
    assert (one.body == first.body) == (one.kind in {"first", "repeat", "forged"})
    assert (said["timestamp"] != wanted["timestamp"]) == (one.kind == "restamped")


async def test_delays_let_webhooks_overtake_one_another() -> None:
    async with HttpSink() as sink, double(sink, threshold=NEVER) as store:
        for travel in ({}, {"delay": (0.0, 0.3)}):
            await store.configure(travel=travel)
            orders = [order["id"] for order in await store.burst(12, together=1)]
            arrived = [json.loads(request.body)["data"].get("orderId") for request in sink.received[-12:]]
            assert sorted(arrived) == sorted(orders)
            assert (arrived == orders) == (not travel)


class Patient(HttpSink):
    """Answers nobody before five have come."""

    async def respond(self, request: Received) -> Answer:
        await self.received.wait(5, timeout=60)
        return Answer()


async def test_a_burst() -> None:
    """Many at once: the next comes while the one before it is unanswered."""
    async with Patient() as sink, double(sink, threshold=NEVER) as store:
        made = await store.burst(20)
        arrived = [json.loads(request.body)["data"]["orderId"] for request in sink.received]
        assert sorted(arrived) == sorted(order["id"] for order in made)
        assert {one.status for one in await store.sent()} == {200}


async def test_an_outage_loses_webhooks_and_keeps_the_state() -> None:
    async with HttpSink() as sink, double(sink) as store:
        await store.configure(outage=True)
        order = await store.place_order()
        await store.configure(outage=False)
        await store.pay(order["id"])
        assert events(sink) == ["payment.completed"]
        assert (await store.row("orders", order["id"]))["paid"] is True
        sent = await store.sent()
        assert [(one.event, one.lost, one.attempts) for one in sent] == [
            ("order.placed", True, 0), ("payment.completed", False, 1)
        ]  # fmt: skip


async def test_what_nobody_takes_is_tried_and_then_lost() -> None:
    async with HttpSink(Answer(503), Answer(503), Answer(500)) as sink:
        async with double(sink, travel={"tries": 2, "wait": 0.0}) as store:
            await store.register_customer()
            await store.register_customer()
            await store.configure(webhooks="http://127.0.0.1:9/")
            await store.register_customer()
            sent = await store.sent()
        assert [(one.attempts, one.status, one.lost) for one in sent] == [
            (2, 503, True),
            (2, 200, False),
            (2, None, True),
        ]
        assert "ConnectError" in (sent[-1].error or "")


async def test_an_earlier_webhook_again_and_one_of_its_own() -> None:
    async with HttpSink() as sink, double(sink) as store:
        await store.register_customer()
        (first,) = await store.sent()
        again = await store.resend(first.number)
        assert sink.received[1].body == sink.received[0].body
        assert (again.signature, again.status) == (first.signature, 200)
        forged = await store.resend(first.number, "forged")
        assert (forged.body, forged.signature == first.signature) == (first.body, False)
        stamped = await store.resend(first.number, "restamped")
        later, earlier = (datetime.fromisoformat(json.loads(one.body)["timestamp"]) for one in (stamped, first))
        assert later > earlier
        await store.send("loyalty.earned", {"points": 5, "who": "李"})
        assert json.loads(sink.received[-1].body)["data"] == {"points": 5, "who": "李"}
        with pytest.raises(RuntimeError, match="no webhook has the number"):
            await store.resend(99)


async def test_a_live_store_begins_with_nothing() -> None:
    async with StoreApi(products=0, customers=0, live=0.001) as store:
        await eventually(lambda: len(store.shop.state.tables["orders"]) > 2)


async def test_what_happened_earlier() -> None:
    """An order may be older than its webhook: it then stands where its time is."""
    async with StoreApi(orders=2) as store, calling(store) as client:
        order = await store.place_order(created_at="2024-01-15T10:30:00Z")
        response = await client.get("/api/orders?sort=created_at:asc&limit=1")
        (first,) = response.json()["data"]
        assert (first["id"], first["created_at"]) == (order["id"], "2024-01-15T10:30:00Z")


async def test_a_live_store() -> None:
    """Things happen by themselves, until they are told to stop."""
    async with HttpSink() as sink, double(sink, live=0.005) as store:
        await eventually(lambda: len(set(events(sink))) > 4)
        await store.configure(live=None)
        orders = await store.rows("orders")
        await store.settle()
        assert await store.rows("orders") == orders
        assert len(orders) > 150
