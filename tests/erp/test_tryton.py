"""docs/erp/tryton.yaml on a real Tryton: what the guide tells merchants to copy does what it says."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from connectors.erp.backend import Session
from connectors.erp.records import Order
from connectors.erp.rest.backend import RestBackend
from hub.connector import HoldRoute, Rejected
from hub.outcome import outcome_of
from hub.testing import Bench, HttpSink, event_of, open_bench, sample
from tests.connectors.erp.recipes import PAID, an_order, backend_of, recipe
from tests.erp.tryton import Tryton


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench(HttpSink(), timeout=120) as opened:
        yield opened


@pytest.fixture
def order() -> Order:
    return an_order(uuid.uuid4().hex[:12])


def backend(tryton: Tryton, key: str = "") -> RestBackend:
    address = f"{tryton.url}/{tryton.database}/rest/model"
    return backend_of(recipe("tryton", TRYTON_URL=address, TRYTON_KEY=key or tryton.key))


async def session(bench: Bench, tryton: Tryton, key: str = "") -> Session:
    return await backend(tryton, key).session(bench.context(event_of(sample("order.placed"))))


async def asked(bench: Bench, tryton: Tryton, path: str, method: str = "GET", body: Any = None) -> Any:
    """What Tryton itself says, or does."""
    headers = {"Authorization": f"Bearer {tryton.key}", "X-Tryton-Context": "eyJjb21wYW55IjogMX0="}
    address = f"{tryton.url}/{tryton.database}/rest/model/{path}"
    answer = await bench.http.request(method, address, headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_order_lives_in_tryton(tryton: Tryton, bench: Bench, order: Order) -> None:
    told = await backend(tryton).check(bench.context(event_of(sample("order.placed"))))
    assert "answers GET /company.company: Dunder Mifflin" in told
    first = await session(bench, tryton)
    assert await first.find_order(order, None) is None
    planned = await first.plan_order(order, None)
    assert [write.target for write in planned] == [
        "POST /party.party", *["POST /product.template"] * 3, "POST /sale.sale",
    ]  # fmt: skip
    made = await first.write_order(order, None, None)
    assert (made.record.state, made.record.number, made.remarks) == ("draft", f"LK-{order.id}", ())

    second = await session(bench, tryton)
    found = await second.find_order(order, None)
    assert found == made.record == await second.find_order(order, made.record.id)
    assert not (await second.write_order(order, found, made.fingerprint)).changed
    more = an_order(order.id.removeprefix("ord_"), quantity=5)
    assert [write.changes for write in await second.plan_order(more, found)] == [("update",)]
    changed = await second.write_order(more, found, made.fingerprint)
    assert changed.remarks == ()
    for _ in range(2):
        await second.note(changed.record, PAID)
        confirmed = await second.confirm(await second.find_order(more, made.record.id) or changed.record)
    assert (confirmed.state, confirmed.described) == ("confirmed", "processing")
    assert confirmed.number.isdigit()

    fields = "f=total_amount&f=lines.quantity&f=lines.unit_price&f=party.name&f=shipment_address.street"
    sale = await asked(bench, tryton, f"sale.sale/{made.record.id}?{fields}")
    assert sale["total_amount"]["decimal"] == str(more.total)
    assert [(line["quantity"], line["unit_price"]["decimal"]) for line in sale["lines"]] == [
        (5, "29.5000"), (1, "3.5000"), (1, "4.0000"),
    ]  # fmt: skip
    assert (sale["party"]["name"], sale["shipment_address"]["street"]) == ("Asha Rao", "1 MG Road")
    with pytest.raises(Rejected, match="you must cancel or reset to draft"):
        await second.write_order(order, confirmed, changed.fingerprint)
    with pytest.raises(Rejected, match='You can not call "cancel"'):
        await second.cancel(confirmed)


async def test_a_quotation_is_cancelled_once(tryton: Tryton, bench: Bench, order: Order) -> None:
    talk = await session(bench, tryton)
    made = await talk.write_order(order, None, None)
    assert (await talk.cancel(made.record)).state == "cancelled"
    found = await talk.find_order(order, made.record.id)
    assert found is not None
    assert await talk.cancel(found) == found


async def test_two_orders_of_a_new_customer_at_once_have_one(tryton: Tryton, bench: Bench, order: Order) -> None:
    """Tryton refuses the second of a code: what it says of that is read, and the one that is there is taken."""
    both = [order, replace(order, id=f"{order.id}b")]
    made = await asyncio.gather(*[(await session(bench, tryton)).write_order(one, None, None) for one in both])
    parties = [await asked(bench, tryton, f"sale.sale/{one.record.id}?f=party.code") for one in made]
    assert [party["party"]["code"] for party in parties] == [f"LK-{order.customer.key}"] * 2
    assert parties[0]["party"]["id"] == parties[1]["party"]["id"]


async def test_whom_tryton_knows_already_is_taken_and_two_are_named(tryton: Tryton, bench: Bench, order: Order) -> None:
    known = {
        "name": "Rao & Sons",
        "contact_mechanisms": [["create", [{"type": "email", "value": order.customer.email}]]],
    }
    party = await asked(bench, tryton, "party.party", "POST", known)
    talk = await session(bench, tryton)
    made = await talk.write_order(order, None, None)
    sale = await asked(bench, tryton, f"sale.sale/{made.record.id}?f=party.name")
    assert sale["party"]["name"] == "Rao & Sons"
    other = await asked(bench, tryton, "party.party", "POST", known)
    with pytest.raises(Rejected, match=f"is in the ERP twice: {party['id']} and {other['id']}"):
        await talk.write_customer(order.customer, None)


async def test_what_tryton_refuses_is_told(tryton: Tryton, bench: Bench, order: Order) -> None:
    wrong = await session(bench, tryton, "0" * 128)
    with pytest.raises(HoldRoute, match=r"the ERP does not take the key: GET /sale\.sale/1: HTTP 401"):
        await wrong.find_order(order, "1")
    talk = await session(bench, tryton)
    with pytest.raises(Exception, match="no field INR; there is USD") as caught:
        await talk.write_order(replace(order, currency="INR"), None, None)
    assert isinstance(outcome_of(caught.value, bench.now()), Rejected)
    assert await talk.find_order(order, "999999") is None
