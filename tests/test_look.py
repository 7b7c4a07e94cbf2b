"""`again` and `look`: a repeat of a state event makes connectors that read the state look once more."""

from pathlib import Path
from typing import Any

import pytest

from hub.connector import Context, Event, Receipt
from hub.deliver import delivery_key
from hub.errors import Hold, NotNow, Rejected, Skip, TryAgain
from hub.replay import cancel_deliveries, release_held, start_replay
from hub.store import DELIVERY, EVENT
from hub.store.meant import Filter
from hub.worker import running
from tests import hubdb
from tests.hubdb import Lab, Puppet, document, open_lab, route
from tests.servers import eventually

shared_url, database_url = hubdb.shared_url, hubdb.database_url
ROUTES = {"one": route("Looks"), "plain": route()}
CHANGED = document("order.updated", orderId="ord_1")


class Watching(Puppet):
    """A puppet that reads the state."""

    reads_state = True


async def delivered(lab: Lab, event: dict[str, Any] = CHANGED) -> Any:
    await lab.keep(event)
    await lab.fan_out()
    claimed = await lab.claim_one()
    await lab.finish(claimed, Receipt("done"))
    return await lab.delivery(claimed.delivery.id)


async def test_before_fan_out_there_is_nothing_to_do(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await lab.keep(CHANGED)
        assert (await lab.keep(CHANGED)).duplicate
        await lab.fan_out()
        (row,) = await lab.rows(DELIVERY, DELIVERY.c.route == "one")
        assert (row.look, row.again, row.status) == (0, False, "pending")
        assert (await lab.row(EVENT)).repeats == 1


async def test_a_pending_one_clears_it_at_its_claim(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await lab.deliver_events(CHANGED)
        await lab.keep(CHANGED)
        (row,) = await lab.rows(DELIVERY, DELIVERY.c.route == "one")
        assert row.again
        claimed = await lab.claim_one()
        assert not (await lab.delivery(row.id)).again
        assert await lab.finish(claimed, Receipt("done")) == "delivered"
        assert (await lab.delivery(row.id)).look == 0


async def test_one_under_way_looks_again_after_its_end(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        lab.stand_still()
        await lab.deliver_events(CHANGED)
        claimed = await lab.claim_one()
        await lab.keep(CHANGED)
        await lab.keep(CHANGED)
        assert await lab.finish(claimed, Receipt("done")) == "pending"
        row = await lab.delivery(claimed.delivery.id)
        assert (row.look, row.again, row.error_key, row.budget) == (1, False, None, 1 + row.span)
        assert (row.next_attempt_at - lab.hub.now()).total_seconds() == 10
        assert (await lab.attempts(row.id))[0].outcome == "delivered"
        await lab.claim_none()
        lab.later(10)
        assert delivery_key((await lab.claim_one()).delivery) == f"{row.id}-l1"


@pytest.mark.parametrize(
    ("result", "status", "look"), [(Receipt("done"), "pending", 1), (TryAgain("no"), "skipped", 0)]
)
async def test_one_that_was_cancelled_under_way_looks_again_only_where_it_was_delivered_after_all(
    tmp_path: Path, database_url: str, result: Any, status: str, look: int
) -> None:
    """The repeat was answered meanwhile: it must not be dropped, and what stays cancelled needs none."""
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await lab.deliver_events(CHANGED)
        claimed = await lab.claim_one()
        await cancel_deliveries(lab.hub, "asha", [claimed.delivery.id])
        await lab.keep(CHANGED)
        assert await lab.finish(claimed, result) == status
        row = await lab.delivery(claimed.delivery.id)
        assert (row.status, row.look, row.again, row.lease_until) == (status, look, False, None)


async def test_one_under_way_that_fails_looks_with_its_next_attempt(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await lab.deliver_events(CHANGED)
        claimed = await lab.claim_one()
        await lab.keep(CHANGED)
        assert await lab.finish(claimed, TryAgain("HTTP 500")) == "pending"
        lab.later(13)
        second = await lab.claim_one()
        assert await lab.finish(second, Receipt("done")) == "delivered"
        assert delivery_key(second.delivery) == claimed.delivery.id


@pytest.mark.parametrize("result", [Receipt("done"), Skip("nothing changed")])
async def test_what_was_delivered_or_skipped_by_its_connector_looks_again(
    tmp_path: Path, database_url: str, result: Receipt | Skip
) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await lab.deliver_events(CHANGED)
        claimed = await lab.claim_one()
        await lab.finish(claimed, result)
        lab.later(60)
        await lab.keep(CHANGED)
        again = await lab.claim_one()
        assert delivery_key(again.delivery) == f"{claimed.delivery.id}-l1"
        assert again.delivery.budget - again.attempt == again.delivery.span - 1
        await lab.finish(again, Receipt("done"))
        lab.later(60)
        await lab.keep(CHANGED)
        assert delivery_key((await lab.claim_one()).delivery) == f"{claimed.delivery.id}-l2"


async def test_within_ten_seconds_of_the_last_look_it_waits_for_their_end(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        lab.stand_still()
        row = await delivered(lab)
        lab.later(4)
        await lab.keep(CHANGED)
        now = await lab.delivery(row.id)
        assert (now.next_attempt_at - row.looked_at).total_seconds() == 10
        await lab.keep(CHANGED)
        assert (await lab.delivery(row.id)).look == 1
        lab.later(6)
        assert (await lab.claim_one()).delivery.id == row.id


async def test_the_pause_is_of_the_entity_whichever_event_looked(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        lab.stand_still()
        first = await delivered(lab)
        lab.later(100)
        second = await delivered(lab, document("order.updated", orderId="ord_1", more=True))
        await delivered(lab, document("order.updated", orderId="ord_2"))
        lab.later(4)
        await lab.keep(CHANGED)
        now = await lab.delivery(first.id)
        assert (now.next_attempt_at - second.looked_at).total_seconds() == 10


@pytest.mark.parametrize(("result", "status"), [(Rejected("no"), "dead"), (Hold("over limit"), "held")])
async def test_dead_and_held_stay(tmp_path: Path, database_url: str, result: Rejected | Hold, status: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await lab.deliver_events(CHANGED)
        claimed = await lab.claim_one()
        await lab.finish(claimed, result)
        before = await lab.delivery(claimed.delivery.id)
        await lab.keep(CHANGED)
        assert await lab.delivery(before.id) == before
        assert before.status == status


async def test_cancelled_and_aged_ones_stay(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route("Looks", max_age="1m")}) as lab:
        (row,) = await lab.deliver_events(CHANGED)
        await cancel_deliveries(lab.hub, "asha", [row.id])
        (aged,) = await lab.deliver_events(document("order.updated", orderId="ord_2"))
        lab.later(61)
        await lab.claim_none()
        before = await lab.rows(DELIVERY)
        await lab.keep(CHANGED)
        await lab.keep(document("order.updated", orderId="ord_2"))
        assert await lab.rows(DELIVERY) == before
        assert (await lab.delivery(aged.id)).error_key == "max_age"


async def test_held_with_a_repeat_under_way_looks_when_it_is_released(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        await lab.deliver_events(CHANGED)
        claimed = await lab.claim_one()
        await lab.keep(CHANGED)
        assert await lab.finish(claimed, Hold("over limit")) == "held"
        await release_held(lab.hub, "asha", claimed.delivery.id)
        assert await lab.finish(await lab.claim_one(), Receipt("done")) == "delivered"


async def test_connectors_that_read_no_state_and_events_that_are_none_are_left_alone(
    tmp_path: Path, database_url: str
) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        placed = document("order.placed", orderId="ord_1")
        for event in (CHANGED, placed):
            await lab.deliver_events(event)
        for name in ROUTES:
            for one in (await lab.claim(name)).claims:
                await lab.finish(one, Receipt("done"))
        assert (await lab.keep(placed)).duplicate
        await lab.keep(CHANGED)
        assert {row.route for row in await lab.rows(DELIVERY, DELIVERY.c.status == "pending")} == {"one"}
        assert len(await lab.rows(DELIVERY, DELIVERY.c.status == "pending")) == 1


async def test_as_new_and_look_are_both_in_the_key(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        row = await delivered(lab)
        lab.later(60)
        await lab.keep(CHANGED)
        await lab.finish(await lab.claim_one(), Receipt("done"))
        await start_replay(lab.hub, "asha", Filter(ids=(row.id,)), as_new=True)
        assert delivery_key((await lab.claim_one()).delivery) == f"{row.id}-n1-l1"


async def test_an_attempt_put_off_keeps_its_look(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, ROUTES) as lab:
        row = await delivered(lab)
        lab.later(60)
        await lab.keep(CHANGED)
        await lab.finish(await lab.claim_one(), NotNow("busy", 5))
        lab.later(5)
        assert delivery_key((await lab.claim_one()).delivery) == f"{row.id}-l1"


async def test_a_worker_looks_at_what_is_there_after_the_last_repeat(tmp_path: Path, database_url: str) -> None:
    """The state changes twice within a second: both webhooks have equal bytes, and the last state is what is seen."""
    shop, seen = {"ord_1": "packed"}, []

    async def look(event: Event, ctx: Context) -> Receipt:
        seen.append((ctx.key.partition("-")[2], shop["ord_1"]))
        return Receipt("seen")

    Puppet.acts["watch"] = look
    watch = {"watch": route() | {"connector": f"{__name__}:Watching"}}
    async with open_lab(tmp_path, database_url, watch) as lab, running(lab.hub):
        await lab.keep(CHANGED)
        lab.hub.bells.ring("fan_out")
        await eventually(lambda: seen)
        shop["ord_1"] = "shipped"
        assert (await lab.keep(CHANGED)).duplicate
        lab.later(10)
        lab.hub.bells.ring("deliver:watch")
        await eventually(lambda: len(seen) == 2)
        await eventually(lambda: settled(lab))
    assert seen == [("", "packed"), ("l1", "shipped")]


async def settled(lab: Lab) -> bool:
    return {row.status for row in await lab.rows(DELIVERY)} == {"delivered"}
