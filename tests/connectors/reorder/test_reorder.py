"""The connector `reorder`: from low stock to one order at the supplier, over a store double in both profiles."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.reorder.mail import csv_of
from connectors.reorder.order import Order, Row
from hub.connector import Receipt, Released, ReorderOrder
from hub.errors import Hold, Outcome, Rejected, Skip, TryAgain
from hub.testing import Answer, event_of, sample
from hub.testing.bench import Bench
from hub.testing.smtp import MailServer
from hub.testing.store import StoreApi
from tests.connectors.reorder.shop import KETTLE, attempted, delivered, low, open_shop, reordering, updated

NOW = datetime(2026, 1, 5, tzinfo=UTC)
PROFILES = pytest.mark.parametrize("profile", ["seed", "v2"])


def acme(bench: Bench, **more: Any) -> dict[str, Any]:
    """A supplier that takes JSON at the bench's counterpart, and has everything."""
    return {"suppliers": {"Acme": {"post": {"url": f"{bench.url}/orders"}, **more}}, "supplier": "Acme"}


def by_mail(bench: Bench) -> dict[str, Any]:
    server = {"host": "127.0.0.1", "port": bench.counterpart.port, "security": "none", "from": "shop@example.test"}
    return {"suppliers": {"Acme": {"email": "orders@acme.example"}}, "supplier": "Acme", "mail": server}


def open_now(bench: Bench) -> list[tuple[str, str]]:
    return [(one.sku, one.state) for one in bench.reorders.kept.values() if one.state != "closed"]


def reason_of(outcome: Receipt | Outcome, kind: type[Outcome]) -> str:
    assert isinstance(outcome, kind), outcome
    return outcome.reason


@PROFILES
async def test_low_stock_becomes_one_order_as_json(profile: str) -> None:
    async with open_shop(profile) as (store, bench):
        kettle = await store.create_product(**KETTLE)
        connector = reordering(**acme(bench, pack=12))
        seen = await delivered(connector, bench, low(kettle))
        assert isinstance(seen, Receipt)
        assert seen.text.startswith("opened: 60 of KET-1 from Acme, goes out at ")
        (line,) = bench.reorders.kept.values()
        assert line.reason == "stock 4 ≤ 10; target 60; pack of 12; ordered 60"
        for event in (low(kettle), updated(kettle)):
            again = reason_of(await delivered(connector, bench, event), Skip)
            assert again.startswith("KET-1: already to be ordered, 60 from Acme, goes out at ")
        (due,) = bench.reorders.due()
        sent = await delivered(connector, bench, due)
        (request,) = bench.counterpart.received
        assert isinstance(sent, Receipt)
        assert request.key == bench.key
        order = request.json()["data"]
        assert order["number"] in sent.text
        assert order["lines"] == [
            {
                "sku": "KET-1", "supplier_sku": "", "name": "Kettle", "quantity": 60, "price": 12.5, "amount": 750,
                "location": line.location, "location_name": "",
            }
        ]  # fmt: skip
        assert (order["total"], order["currency"], order["supplier"]) == (750, "EUR", "Acme")
        replayed = await attempted(connector, bench, due)
        assert isinstance(replayed, Receipt)
        assert replayed.text == f"already sent: {order['number']}"
        later = reason_of(await delivered(connector, bench, low(kettle)), Skip)
        assert later == f"KET-1: already ordered, {order['number']}, 60 from Acme"
        assert len(bench.counterpart.received) == 1


async def test_an_order_by_mail_has_its_number_a_table_and_the_lines_as_csv() -> None:
    async with open_shop(counterpart=MailServer()) as (store, bench):
        for name, sku in (("=Kettle <b>", "KET-1"), ("Café crème", "CAF-1")):
            product = await store.create_product(**KETTLE | {"name": name, "sku": sku})
            rows = {"KET-1": {"supplier_sku": "AC-99", "price": 11}}
            connector = reordering(**by_mail(bench), skus=rows)
            await delivered(connector, bench, low(product))
        (due,) = bench.reorders.due()
        sent = await delivered(connector, bench, due)
        (mail,) = bench.counterpart.mails
    assert isinstance(sent, Receipt)
    number = mail.message["Subject"].removeprefix("Purchase order ")
    assert mail.to == ("orders@acme.example",)
    assert mail.message["Message-ID"] == f"<{number}@example.test>"
    assert number in sent.text
    kinds = [part.get_content_type() for part in mail.message.walk()]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/csv"]
    text = mail.message.get_body(("plain",)).get_content()
    assert "56 × AC-99  =Kettle <b>, EUR 11.00 each" in text
    assert "Total: EUR 1,316.00" in text
    page = mail.message.get_body(("html",)).get_content()
    assert "=Kettle &lt;b&gt;" in page
    (attached,) = mail.message.iter_attachments()
    assert attached.get_filename() == f"{number}.csv"
    lines = attached.get_content().splitlines()
    assert lines[1].startswith(f"{number},,CAF-1,Café crème,56,12.50,EUR,wrh_")
    assert lines[2].startswith(f"{number},AC-99,KET-1,'=Kettle <b>,56,11.00,EUR,wrh_")


def test_no_cell_of_the_csv_is_a_formula() -> None:
    texts = ("=1+1", "+1", "-1", "@SUM(A1)")
    rows = tuple(Row("reo_1", text, text, text, 5, None, text, "", "") for text in texts)
    order = Order("pur_1", "PO-1", "main", "Acme", "=CMD()", rows, ReorderOrder("pur_1", "Acme", None, (), NOW))
    for line, text in zip(csv.DictReader(io.StringIO(csv_of(order))), texts, strict=True):
        assert {line[name] for name in ("supplier_sku", "sku", "name", "location")} == {f"'{text}"}
        assert (line["currency"], line["quantity"], line["unit_price"]) == ("'=CMD()", "5", "")


async def test_a_mail_that_was_sent_and_not_recorded_goes_again_as_the_same_mail() -> None:
    async with open_shop(counterpart=MailServer()) as (store, bench):
        kettle = await store.create_product(**KETTLE)
        connector = reordering(**by_mail(bench))
        await delivered(connector, bench, low(kettle))
        (due,) = bench.reorders.due()
        bench.counterpart.reply("DATA", "451 4.3.0 Local error in processing")
        first = await delivered(connector, bench, due)
        assert isinstance(first, TryAgain)
        await store.restock("KET-1", 30)
        again = await attempted(connector, bench, due)
        assert isinstance(again, Receipt)
        refused, taken = bench.counterpart.visits
        assert refused.content == taken.content, "what has risen meanwhile makes no other mail of it"
        replayed = await attempted(connector, bench, due)
        assert isinstance(replayed, Receipt)
        assert len(bench.counterpart.mails) == 1


@PROFILES
async def test_an_order_that_may_have_arrived_goes_again_under_its_key_with_the_same_bytes(profile: str) -> None:
    async with open_shop(profile) as (store, bench):
        kettle = await store.create_product(**KETTLE)
        connector = reordering(**acme(bench))
        await delivered(connector, bench, low(kettle))
        (due,) = bench.reorders.due()
        bench.counterpart.answer(Answer(drop=True))
        assert isinstance(await delivered(connector, bench, due), TryAgain)
        await store.restock("KET-1", 100)
        assert isinstance(await attempted(connector, bench, due), Receipt)
        first, second = bench.counterpart.received
    assert (first.key, first.body) == (second.key, second.body)


@PROFILES
async def test_stock_that_wobbles_is_ordered_once_and_after_the_goods_came_again(profile: str) -> None:
    async with open_shop(profile, threshold=4) as (store, bench):
        kettle = await store.create_product(**KETTLE | {"stock": 5})
        connector = reordering(**acme(bench), threshold=9, skus={"KET-1": {"threshold": 4}})
        outcomes = []
        for stock in (5, 4, 5, 4):
            await store.restock("KET-1", stock)
            outcomes.append(await delivered(connector, bench, updated(kettle)))
        assert [type(one) for one in outcomes] == [Skip, Receipt, Skip, Skip]
        (due,) = bench.reorders.due()
        assert isinstance(await delivered(connector, bench, due), Receipt)
        for stock in (5, 4, 6, 3):
            await store.restock("KET-1", stock)
            assert isinstance(await delivered(connector, bench, updated(kettle)), Skip)
        assert open_now(bench) == [("KET-1", "sent")]
        await store.restock("KET-1", 60)
        come = reason_of(await delivered(connector, bench, updated(kettle)), Skip)
        assert come.startswith("KET-1: stock 60: PO-")
        assert come.endswith(" has come")
        assert open_now(bench) == []
        await store.sell("KET-1", 56)
        assert isinstance(await delivered(connector, bench, low(kettle)), Receipt)
        assert open_now(bench) == [("KET-1", "open")]


async def test_after_the_time_of_delivery_any_rise_above_the_threshold_means_the_goods_came() -> None:
    async with open_shop() as (store, bench):
        kettle = await store.create_product(**KETTLE)
        connector = reordering(**acme(bench, lead_time="1d"))
        await delivered(connector, bench, low(kettle))
        await delivered(connector, bench, bench.reorders.due()[0])
        await store.restock("KET-1", 11)
        assert "stock 11 > 10" in reason_of(await delivered(connector, bench, updated(kettle)), Skip)
        assert open_now(bench) == [("KET-1", "sent")]
        await bench.later()
        assert "has come" in reason_of(await delivered(connector, bench, updated(kettle)), Skip)


@PROFILES
async def test_variants_and_warehouses_are_lines_of_their_own(profile: str) -> None:
    async with open_shop(profile) as (store, bench):
        variants = [{"name": "Red", "sku": "CUP-R", "stock": 3}, {"name": "Blue", "sku": "CUP-B", "stock": 2}]
        cup = await store.create_product(**KETTLE | {"name": "Cup", "sku": "CUP", "variants": variants})
        kettle = await store.create_product(**KETTLE | {"stock": 50})
        store.shop.state.add("inventory", store.shop.state.shelf("KET-1") | {
            "id": "inv_2", "warehouse_id": "wrh_2", "stock": 1,
        })  # fmt: skip
        connector = reordering(**acme(bench), locations={"wrh_2": "Galway"})
        one = await delivered(connector, bench, low(cup, sku="CUP-B", variantId=cup["variants"][1]["id"]))
        assert isinstance(one, Receipt)
        assert open_now(bench) == [("CUP-B", "open")]
        await delivered(connector, bench, updated(cup))
        await delivered(connector, bench, updated(kettle))
        await delivered(connector, bench, bench.reorders.due()[0])
        (request,) = bench.counterpart.received
    lines = {
        (row["sku"], row["name"], row["location_name"], row["quantity"]) for row in request.json()["data"]["lines"]
    }
    assert lines == {("CUP-R", "Cup, Red", "", 57), ("CUP-B", "Cup, Blue", "", 58), ("KET-1", "Kettle", "Galway", 59)}


@pytest.mark.parametrize(
    ("data", "entity"),
    [({}, None), ({"sku": "KET-1"}, None), ({"id": "{row}"}, None), ({"id": "{product}"}, None), (None, "{product}")],
)
async def test_an_event_that_holds_but_one_id_is_enough(data: Any, entity: str | None) -> None:
    async with open_shop() as (store, bench):
        kettle = await store.create_product(**KETTLE)
        (row,) = await store.rows("inventory")
        names = {"row": row["id"], "product": kettle["id"]}
        filled = {name: value.format(**names) for name, value in (data or {"productId": "{product}"}).items()}
        event = event_of({**sample("inventory.low"), "data": filled})
        if data is None:
            # Its body was dropped, for it is long ago.
            event = replace(event, body=b"", entity=f"inventory:{kettle['id']}")
        assert isinstance(await delivered(reordering(**acme(bench)), bench, event), Receipt)


async def test_what_is_not_to_be_ordered_is_left_alone_with_its_reason() -> None:
    async with open_shop() as (store, bench):
        connector = reordering(**acme(bench), backorders="skip", skus={"OLD-1": {"order": False}})
        told = {}
        for sku, fields in (
            ("UNC-1", {"manage_inventory": False}),
            ("BCK-1", {"allow_backorder": True}),
            ("OLD-1", {}),
            ("MUC-1", {"stock": 99}),
        ):
            product = await store.create_product(**KETTLE | {"sku": sku} | fields)
            told[sku] = reason_of(await delivered(connector, bench, low(product)), Skip)
        assert told == {
            "UNC-1": "UNC-1: the store does not count its stock",
            "BCK-1": "BCK-1: it is sold without being in stock, and `backorders` is skip",
            "OLD-1": "OLD-1: `order: false`",
            "MUC-1": "MUC-1: stock 99 > 10",
        }
        assert not bench.reorders.kept


async def test_what_cannot_be_ordered_has_one_clear_outcome() -> None:
    async with open_shop() as (store, bench):
        connector = reordering(suppliers=acme(bench)["suppliers"])
        kettle = await store.create_product(**KETTLE)
        unknown = reason_of(await delivered(connector, bench, low(kettle)), Rejected)
        assert unknown.startswith("nobody is known to deliver KET-1: name its supplier in `skus`")
        gone = reason_of(await delivered(connector, bench, low({"id": "prd_gone", "sku": "GON-1"})), Rejected)
        assert gone == "the store has no product prd_gone any more: nothing is ordered"
        nameless = await store.create_product(**KETTLE | {"sku": None})
        unclear = reason_of(await delivered(connector, bench, low(nameless, threshold=None)), Rejected)
        assert unclear == "Kettle: neither store nor settings say when it is low: set `threshold`"
        assert isinstance(await delivered(connector, bench, updated(nameless)), Skip)
        told = reason_of(await delivered(connector, bench, low(nameless, threshold=5)), Rejected)
        assert told == "Kettle has no SKU of its own in the store, so it cannot be ordered"
        assert not bench.reorders.kept


async def test_a_supplier_that_refuses_the_key_holds_its_own_order_and_no_other() -> None:
    async with open_shop() as (store, bench):
        connector = reordering(**acme(bench))
        due = await ordered(store, bench, connector, "KET-1")
        bench.counterpart.answer(Answer(401, b"who are you"))
        held = reason_of(await delivered(connector, bench, due), Hold)
        assert held == "Acme answered 401: mend the supplier's `post`, then approve the order"
        released = Released("asha", datetime.now(UTC))
        assert isinstance(await attempted(connector, bench, due, released=released), Receipt)
        assert len(bench.counterpart.received) == 2


async def ordered(store: StoreApi, bench: Bench, connector: Any, sku: str, **fields: Any) -> Any:
    """A product that is low, opened, and the event by which its order is due."""
    product = await store.create_product(**KETTLE | {"sku": sku} | fields)
    await delivered(connector, bench, low(product))
    return bench.reorders.due()[0]


async def test_above_a_limit_a_person_must_approve_and_then_it_goes() -> None:
    async with open_shop() as (store, bench):
        limits = {"currency": "EUR", "limits": {"order": 800, "day": 1400}}
        connector = reordering(**acme(bench), **limits)
        first = await ordered(store, bench, connector, "A-1")
        assert isinstance(await delivered(connector, bench, first), Receipt)
        large = await ordered(store, bench, connector, "B-1", cost=20)
        held = reason_of(await delivered(connector, bench, large), Hold)
        assert held == ("to be approved, above the limit of 800.00 EUR an order: 56 of B-1 from Acme, 1,120.00 EUR")
        third = await ordered(store, bench, connector, "C-1", cost=14)
        held = reason_of(await delivered(connector, bench, third), Hold)
        assert held.startswith("to be approved, above the limit of 1,400.00 EUR a day: 56 of C-1 from Acme, 784.00 EUR")
        unpriced = await ordered(store, bench, connector, "D-1", cost=None)
        held = reason_of(await delivered(connector, bench, unpriced), Hold)
        assert held.startswith("to be approved, as the price of D-1 is not known: 56 of D-1")
        released = Released("asha", datetime.now(UTC))
        assert isinstance(await attempted(connector, bench, unpriced, released=released), Receipt)
        assert len(bench.counterpart.received) == 2
        less = await ordered(store, bench, connector, "E-1", cost=-100)
        held = reason_of(await delivered(connector, bench, less), Hold)
        assert held.startswith("to be approved, as the price of E-1 is not known"), "no sum is lowered by it"


async def test_with_approval_each_order_waits_for_a_person_and_the_stock_is_looked_at_again() -> None:
    async with open_shop() as (store, bench):
        connector = reordering(**acme(bench), approval="always")
        due = await ordered(store, bench, connector, "KET-1")
        assert reason_of(await delivered(connector, bench, due), Hold).startswith(
            "to be approved: 56 of KET-1 from Acme"
        )
        await store.restock("KET-1", 40)
        released = Released("asha", datetime.now(UTC))
        told = reason_of(await attempted(connector, bench, due, released=released), Skip)
        assert told == "nothing is ordered: KET-1: stock 40 > 10"
        (line,) = bench.reorders.kept.values()
        assert (line.state, line.why) == ("closed", "KET-1: stock 40 > 10")
        assert not bench.counterpart.received


@PROFILES
async def test_of_an_order_that_is_due_only_what_is_still_low_goes_out(profile: str) -> None:
    async with open_shop(profile) as (store, bench):
        connector = reordering(**acme(bench))
        for sku in ("KET-1", "CUP-1", "POT-1"):
            product = await store.create_product(**KETTLE | {"sku": sku})
            await delivered(connector, bench, low(product))
        (due,) = bench.reorders.due()
        await store.restock("CUP-1", 60)
        risen = event_of({**sample("inventory.low"), "data": {"sku": "CUP-1"}})
        assert reason_of(await delivered(connector, bench, risen), Skip) == "CUP-1: stock 60 > 10"
        assert ("CUP-1", "ordering") in open_now(bench), "what is under way is looked at once more when it is sent"
        store.shop.state.remove("products", product)
        assert isinstance(await delivered(connector, bench, due), Receipt)
        (request,) = bench.counterpart.received
        assert [row["sku"] for row in request.json()["data"]["lines"]] == ["KET-1"]
        closed = {one.sku: one.why for one in bench.reorders.kept.values() if one.state == "closed"}
        assert closed == {"CUP-1": "CUP-1: stock 60 > 10", "POT-1": "POT-1 is no longer in the store"}


async def test_preview_and_plan_say_what_would_be_ordered_and_order_nothing() -> None:
    async with open_shop() as (store, bench):
        connector = reordering(**acme(bench), skus={"POT-1": {"supplier": "Acme", "quantity": {"target": 5}}})
        kettle = await store.create_product(**KETTLE)
        for sku, stock in (("CUP-1", 80), ("POT-1", 1)):
            await store.create_product(**KETTLE | {"sku": sku, "stock": stock})
        shown = await connector.preview(low(kettle), bench.context(low(kettle)))
        assert shown.body == "56 of KET-1 from Acme: stock 4 ≤ 10; target 60; ordered 56"
        lines = await connector.plan(bench.context(low(kettle)))
        assert [(one.sku, one.quantity, one.supplier) for one in lines] == [("KET-1", 56, "Acme"), ("POT-1", 0, "")]
        assert lines[1].reason.startswith("not ordered: the target 5 is not above the threshold 10")
        assert not bench.reorders.kept
        await delivered(connector, bench, low(kettle))
        (due,) = bench.reorders.due()
        order = json.loads((await connector.preview(due, bench.context(due))).body)
        assert order["data"]["lines"][0]["quantity"] == 56
        assert [one.sku for one in await connector.plan(bench.context(due))] == ["POT-1"]
        assert not bench.counterpart.received


async def test_a_store_without_an_inventory_is_read_by_its_products() -> None:
    async with open_shop("seed") as (store, bench):
        kettle = await store.create_product(**KETTLE)
        await store.fail("GET", "/api/inventory*", status=404, times=None)
        connector = reordering(**acme(bench), threshold=10)
        assert isinstance(await delivered(connector, bench, low(kettle)), Receipt)
        assert [one.sku for one in await connector.plan(bench.context(low(kettle)))] == []
        lines = [(one.sku, one.location) for one in bench.reorders.kept.values()]
        assert lines == [("KET-1", "")]
        await store.heal()
        for later in (connector, reordering(**acme(bench), threshold=10)):
            again = reason_of(await delivered(later, bench, low(kettle)), Skip)
            assert again.startswith("KET-1: already to be ordered"), (
                "the inventory is there again, the goods are the same"
            )
        await store.fail("GET", "/api/inventory*", status=404, times=None)
        strict = reordering(**acme(bench), stock_from="inventory")
        assert "stock_from: products" in reason_of(await delivered(strict, bench, low(kettle)), Rejected)


async def test_while_the_inventory_cannot_be_read_nothing_is_ordered_twice_nor_forgotten() -> None:
    async with open_shop("seed") as (store, bench):
        kettle = await store.create_product(**KETTLE)
        assert isinstance(await delivered(reordering(**acme(bench), threshold=10), bench, low(kettle)), Receipt)
        (due,) = bench.reorders.due()
        await store.fail("GET", "/api/inventory*", status=404, times=None)
        connector = reordering(**acme(bench), threshold=10)
        assert isinstance(await delivered(connector, bench, due), Receipt)
        for event in (low(kettle), updated(kettle)):
            again = reason_of(await delivered(connector, bench, event), Skip)
            assert again.startswith("KET-1: already ordered, ")
        await store.restock("KET-1", 60)
        reason_of(await delivered(connector, bench, updated(kettle)), Skip)
        assert open_now(bench) == [("KET-1", "sent")], "the sum of all places tells nothing of one"


async def test_a_threshold_that_only_the_event_tells_holds_until_the_goods_have_come() -> None:
    async with open_shop() as (store, bench):
        connector = reordering(**acme(bench), stock_from="products")
        first, second = [await store.create_product(**KETTLE | {"sku": sku}) for sku in ("KET-1", "CUP-1")]
        for product in (first, second):
            assert isinstance(await delivered(connector, bench, low(product, threshold=10)), Receipt)
        (due,) = bench.reorders.due()
        await store.restock("CUP-1", 40)
        assert isinstance(await delivered(connector, bench, due), Receipt)
        (request,) = bench.counterpart.received
        assert [row["sku"] for row in request.json()["data"]["lines"]] == ["KET-1"]
        await store.restock("KET-1", 60)
        bench.litekart = bench.litekart.acting_for("route:reorder", newer_than=bench.now())
        assert "has come" in reason_of(await delivered(connector, bench, updated(first)), Skip)
        assert open_now(bench) == []


@PROFILES
async def test_variants_that_share_a_sku_are_not_taken_for_one_another(profile: str) -> None:
    async with open_shop(profile) as (store, bench):
        variants = [{"name": "Blue", "sku": "CUP-B", "stock": 50}, {"name": "Red", "sku": "CUP-R", "stock": 3}]
        cup = await store.create_product(**KETTLE | {"name": "Cup", "sku": "CUP", "variants": variants})
        for row in [*store.shop.state.find("products", cup["id"])["variants"], *store.shop.state.rows("inventory")]:
            row["sku"] = "CUP"
        connector = reordering(**acme(bench), threshold=10)
        said = "Cup, Red has no SKU of its own in the store, so it cannot be ordered"
        for event in (updated(cup), low(cup), low(cup, variantId=cup["variants"][1]["id"])):
            assert reason_of(await delivered(connector, bench, event), Rejected) == said
        (line,) = await connector.plan(bench.context(low(cup)))
        assert (line.quantity, line.reason) == (0, f"not ordered: {said}")
        assert not bench.reorders.kept


async def test_in_a_large_store_an_event_costs_but_a_few_requests() -> None:
    async with open_shop(products=220) as (store, bench):
        rows = await store.rows("inventory")
        assert len(rows) > 300
        connector = reordering(**acme(bench))
        asked = []
        for row in (rows[5], rows[-5], rows[150]):
            store.shop.state.set_stock(row_of(store, row), 2)
            before = len(await store.calls())
            event = event_of({**sample("inventory.low"), "data": {"sku": row["sku"], "productId": row["product_id"]}})
            assert isinstance(await delivered(connector, bench, event), Receipt)
            asked.append(len(await store.calls()) - before)
    assert asked[0] > 4, "the first walks along all rows"
    assert asked[1:] == [2, 2]


def row_of(store: StoreApi, row: dict[str, Any]) -> Any:
    return store.shop.state.find("inventory", row["id"])
