"""Fan-out: which routes an event takes, written with the reasons; and events that cannot be fanned out."""

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy.util import await_only

from hub.fan_out import fan_out_waiting, planner
from hub.store import DELIVERY, EVENT, EVENT_KEY
from hub.store.fan_out import waiting_events, write_plans
from tests import hubdb
from tests.hubdb import Lab, document, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
ROUTES = {
    "all": route(),
    "big": route(when="data.total >= 100"),
    "payments": route(events=["payment.*"]),
    "elsewhere": route(stores=["other"]),
    "broken": route(when="data.totl > 1", events=["order.placed"]),
}
STORES = {
    name: {"url": "http://shop.test", "webhook_secrets": [f"{hubdb.SECRET} {name}"]} for name in ("main", "other")
}


async def test_deliveries_and_the_reasons_for_routes_not_taken(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES, stores=STORES) as lab:
        kept = await lab.keep(document(orderId="ord_1", total=99))
        assert await fan_out_waiting(lab.hub) == 1
        event = await lab.row(EVENT)
        rows = {row.route: row for row in await lab.rows(DELIVERY)}
        assert rows.keys() == {"all", "broken"}
        row = rows["all"]
        assert (row.event_id, row.event_seq, row.store, row.entity) == (kept.id, event.seq, "main", "order:ord_1")
        assert (row.status, row.attempts, row.budget, row.span, row.look) == ("pending", 0, 4, 4, 0)
        assert row.next_attempt_at == row.created_at == event.fanned_out_at
        assert event.not_taken == {
            "big": "when: data.total is 99 (data.total >= 100)",
            "payments": "event: payment.*",
            "elsewhere": "store: only other",
        }
        assert await fan_out_waiting(lab.hub) == 0


async def test_a_broken_condition_is_a_dead_delivery_with_the_reason(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES, stores=STORES) as lab:
        await lab.deliver_events(document(orderId="ord_1", total=5))
        row = await lab.row(DELIVERY, DELIVERY.c.route == "broken")
        assert (row.status, row.next_attempt_at, row.error_key) == ("dead", None, "when")
        assert row.last_error == "when: no field totl; there is total"
        await lab.claim_none("broken")


async def test_search_keys_are_written_with_it(lab: Lab) -> None:
    data: dict[str, Any] = {
        "orderId": "ord_1", "orderNo": 1042, "customerId": "cus_1", "customer": {"email": "Zoë@Example.TEST"},
        "items": [{"sku": "KET-1"}, {"sku": "CAF-250"}, {"sku": "x" * 257}, {"sku": "a\x00b"}, "no line"],
        "paymentId": "pay_\ud7ff\uffff",
    }  # fmt: skip
    await lab.deliver_events(document(**data))
    found = {(row.kind, row.value) for row in await lab.rows(EVENT_KEY)}
    assert found == {
        ("order", "ord_1"), ("number", "1042"), ("customer", "cus_1"), ("email", "zoë@example.test"),
        ("sku", "KET-1"), ("sku", "CAF-250"),
    }  # fmt: skip


async def test_what_no_route_takes_is_fanned_out_too(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {}) as lab:
        assert await lab.deliver_events(document("of.tomorrow", id="x")) == []
        event = await lab.row(EVENT)
        assert event.fanned_out_at is not None
        assert event.not_taken is None


async def test_the_oldest_first_a_hundred_at_a_time(lab: Lab) -> None:
    for number in range(103):
        await lab.keep(document(orderId=f"ord_{number}"))
    assert await fan_out_waiting(lab.hub) == 100
    waiting = await lab.rows(EVENT, EVENT.c.fanned_out_at.is_(None))
    assert [row.entity for row in waiting] == [f"order:ord_{number}" for number in (100, 101, 102)]
    assert await fan_out_waiting(lab.hub) == 3


async def spoil(lab: Lab, event_id: str) -> None:
    """The event's stored body is no JSON any more, as after a fault of a disk."""
    await lab.write(lambda c: c.execute(EVENT.update().where(EVENT.c.id == event_id).values(body=b"\xff{")))


async def test_one_bad_event_does_not_stop_its_neighbours(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(), "two": route(events=["none"])}) as lab:
        ids = [(await lab.keep(document(orderId=f"ord_{number}"))).id for number in range(5)]
        await spoil(lab, ids[2])
        await lab.fan_out()
        rows = await lab.rows(DELIVERY)
        assert {(row.event_id, row.route): row.status for row in rows} == {
            **{(ids[number], "one"): "pending" for number in (0, 1, 3, 4)},
            (ids[2], "one"): "dead",
            (ids[2], "two"): "dead",
        }
        reasons = {row.last_error for row in rows if row.status == "dead"}
        assert reasons == {"fan-out failed: JSONDecodeError"}
        assert await lab.rows(EVENT, EVENT.c.fanned_out_at.is_(None)) == []


async def test_one_that_the_database_refuses_does_not_stop_its_neighbours(tmp_path: Path, shared_url: str) -> None:
    """A trigger stands for whatever a database may have against one event's rows."""
    async with open_lab(tmp_path, shared_url) as lab:
        ids = [(await lab.keep(document(orderId=f"ord_{number}"))).id for number in range(3)]
        await lab.write(lambda c: c.exec_driver_sql(REFUSING))
        await lab.write(lambda c: c.exec_driver_sql(TRIGGER))
        try:
            await lab.fan_out()
        finally:
            await lab.write(lambda c: c.exec_driver_sql("DROP FUNCTION refuse CASCADE"))
        statuses = {row.event_id: row.status for row in await lab.rows(DELIVERY)}
        assert statuses == {ids[0]: "pending", ids[1]: "dead", ids[2]: "pending"}


REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.value = 'ord_1' THEN RAISE EXCEPTION 'no such text'; END IF; RETURN NEW; END $$"""
TRIGGER = "CREATE TRIGGER refuse BEFORE INSERT ON event_key FOR EACH ROW EXECUTE FUNCTION refuse()"


async def test_an_event_is_fanned_out_once_also_when_it_is_done_again(lab: Lab) -> None:
    row = await lab.order()
    await lab.write(lambda c: c.execute(EVENT.update().values(fanned_out_at=None)))
    await lab.fan_out()
    assert [found.id for found in await lab.rows(DELIVERY)] == [row.id]


async def test_an_event_whose_deliveries_a_backup_lacks_gets_them_under_the_ids_they_had(lab: Lab) -> None:
    await lab.deliver_events(document(orderId="ord_1"), document(orderId="ord_2"))
    before = {(row.event_id, row.route): row.id for row in await lab.rows(DELIVERY)}
    assert len(set(before.values())) == len(before) >= 2
    await lab.write(lambda connection: connection.execute(DELIVERY.delete()))
    await lab.write(lambda connection: connection.execute(EVENT.update().values(fanned_out_at=None)))
    await fan_out_waiting(lab.hub)
    assert {(row.event_id, row.route): row.id for row in await lab.rows(DELIVERY)} == before


async def test_two_workers_share_what_waits(tmp_path: Path, shared_url: str) -> None:
    """While one holds the oldest events in its transaction, the other takes the next ones, and waits for nobody."""
    async with open_lab(tmp_path, shared_url) as first, open_lab(tmp_path, shared_url) as second:
        for number in range(20):
            await first.keep(document(orderId=f"ord_{number}"))
        held, go_on = asyncio.Event(), asyncio.Event()
        plan, terms = planner(first.hub), first.hub.terms()

        def hold(connection: Any) -> int:
            planned = [(row, plan(row)) for row in waiting_events(connection, 5)]
            write_plans(connection, first.hub.now(), planned, terms, first.hub.worker_id)
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            held.set()
            await_only(go_on.wait())
            return len(planned)

        holding = asyncio.create_task(first.hub.database.write(hold))
        await held.wait()
        assert await fan_out_waiting(second.hub) == 15
        assert not holding.done()
        go_on.set()
        assert await holding == 5
        assert len(await first.rows(DELIVERY)) == 20


async def test_two_workers_at_once_make_each_delivery_once(tmp_path: Path, shared_url: str) -> None:
    async with open_lab(tmp_path, shared_url) as first, open_lab(tmp_path, shared_url) as second:
        for number in range(150):
            await first.keep(document(orderId=f"ord_{number}"))
        while sum(await asyncio.gather(*(fan_out_waiting(lab.hub) for lab in (first, second) for _ in range(3)))):
            pass
        rows = await first.rows(DELIVERY)
        assert len(rows) == len({row.event_id for row in rows}) == 150


async def test_what_another_worker_fans_out_meanwhile_is_its_own(tmp_path: Path, database_url: str) -> None:
    """Events are planned outside of the transaction that writes: it looks again whether they still wait."""
    async with open_lab(tmp_path, database_url) as lab:
        for number in range(3):
            await lab.keep(document(orderId=f"ord_{number}"))
        rows = await lab.hub.database.read(lambda connection: waiting_events(connection, 10))
        planned = [(row, planner(lab.hub)(row)) for row in rows]
        await lab.write(lambda connection: write_plans(connection, lab.hub.now(), planned[:2], lab.hub.terms()))
        await lab.write(lambda c: c.execute(DELIVERY.delete()))
        written = await lab.write(lambda c: write_plans(c, lab.hub.now(), planned, lab.hub.terms()))
        again = await lab.write(lambda c: write_plans(c, lab.hub.now(), planned, lab.hub.terms()))
        assert (written, again) == ({"one"}, set())
        assert [row.event_id for row in await lab.rows(DELIVERY)] == [rows[2].id]


async def test_slow_conditions_do_not_stop_receiving(tmp_path: Path, database_url: str) -> None:
    slow = "(range(10000) | reject('in', data.known) | list | length) > 0"
    routes = {f"slow{number}": route(when=slow) for number in range(6)}
    async with open_lab(tmp_path, database_url, routes) as lab:
        await lab.keep(document(orderId="ord_0", known=[-1] * 60_000))
        fanning = asyncio.create_task(fan_out_waiting(lab.hub))
        kept = 0
        while not fanning.done():
            kept += 1
            await lab.keep(document(orderId=f"ord_{kept}"))
        assert await fanning == 1
        assert kept >= 4
        reasons = {row.last_error for row in await lab.rows(DELIVERY)}
        assert reasons == {"when: it does too much: loop over less"}
