"""What stops a whole route: pause, Retry-After, the breaker and its probes; and what starts it again."""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row, update

from hub.connector import Receipt
from hub.errors import Hold, HoldRoute, NotNow, Outcome, Rejected, Skip, TryAgain
from hub.replay import pause_route, resume_route
from hub.store import DELIVERY
from tests import hubdb
from tests.hubdb import Lab, open_lab, route

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab
DOWN = TryAgain("no connection", destination=True)


async def fail(lab: Lab, count: int, result: Outcome = DOWN) -> Sequence[Row[Any]]:
    """That many fresh deliveries fail, one after the other; all else waits."""
    rows = await lab.orders(count)
    for _ in rows:
        await lab.finish(await lab.claim_one(limit=1), result)
    return rows


async def until_probe(lab: Lab) -> float:
    """Time passes until the next probe may go; how many seconds that was."""
    wait: float = ((await lab.state()).probe_at - lab.hub.now()).total_seconds()
    await lab.claim_none()
    lab.later(wait)
    return wait


async def test_a_pause_changes_no_delivery_and_resume_goes_on(lab: Lab) -> None:
    await lab.orders(3)
    before = await lab.rows(DELIVERY)
    assert await pause_route(lab.hub, "asha", "one", "stocktaking")
    assert not await pause_route(lab.hub, "lei", "one", None)
    state = await lab.state()
    assert (state.paused_by, state.paused_reason) == ("asha", "stocktaking")
    lab.later(100_000)
    await lab.claim_none()
    assert await lab.rows(DELIVERY) == before
    assert await resume_route(lab.hub, "asha", "one")
    assert not await resume_route(lab.hub, "asha", "one")
    assert len((await lab.claim()).claims) == 3


async def test_retry_after_on_429_and_503_stops_the_whole_route(lab: Lab) -> None:
    await lab.orders(2)
    await lab.finish(await lab.claim_one(limit=1), TryAgain("HTTP 429", 60, status=429, destination=True))
    claimed = await lab.claim_none()
    assert (claimed.next_due - lab.hub.now()).total_seconds() == 60
    lab.later(60)
    assert len((await lab.claim()).claims) == 2


async def test_retry_after_stops_for_two_hours_at_most_and_resume_ends_it(lab: Lab) -> None:
    await lab.orders(2)
    await lab.finish(await lab.claim_one(limit=1), TryAgain("HTTP 503", 1e12, status=503, destination=True))
    state = await lab.state()
    assert state.stopped_until - lab.hub.now() <= timedelta(hours=2)
    assert await resume_route(lab.hub, "asha", "one")
    assert len((await lab.claim()).claims) == 1


async def test_retry_after_elsewhere_concerns_its_delivery_alone(lab: Lab) -> None:
    await lab.orders(2)
    await lab.finish(await lab.claim_one(limit=1), TryAgain("HTTP 409", 600, status=409))
    assert len((await lab.claim()).claims) == 1


async def test_ten_failures_of_the_destination_in_a_row_open_the_breaker(lab: Lab) -> None:
    await fail(lab, 9)
    await fail(lab, 3, TryAgain("HTTP 404", status=404))
    assert ((await lab.state()).failures, (await lab.state()).opened_at) == (9, None)
    await fail(lab, 1)
    state = await lab.state()
    assert (state.failures, state.open_reason) == (10, "no connection")
    assert state.probe_at - lab.hub.now() == timedelta(seconds=30)
    fresh = await lab.orders(3)
    await lab.claim_none()
    assert [await lab.delivery(row.id) for row in fresh] == fresh


async def test_a_success_in_between_starts_the_count_anew(lab: Lab) -> None:
    await fail(lab, 9)
    await lab.order()
    await lab.finish(await lab.claim_one(), Receipt("done"))
    await fail(lab, 9)
    assert (await lab.state()).opened_at is None


async def test_hold_route_opens_it_at_once_and_uses_up_no_attempt(lab: Lab) -> None:
    (row,) = await fail(lab, 1, HoldRoute("HTTP 401: wrong key", status=401))
    assert (await lab.state()).open_reason == "HTTP 401: wrong key"
    now = await lab.delivery(row.id)
    assert (now.status, now.budget - now.attempts, now.error_key) == ("pending", row.budget, "hold_route")


async def test_probes_go_one_by_one_ever_further_apart_another_delivery_each_time(lab: Lab) -> None:
    await lab.orders(3)
    await lab.finish(await lab.claim_one(limit=1), HoldRoute("wrong key"))
    waits, probed = [], []
    for _ in range(7):
        waits.append(round(await until_probe(lab)))
        probe = await lab.claim_one()
        assert probe.probe
        await lab.claim_none()
        probed.append(probe.delivery.id)
        await lab.finish(probe, DOWN)
        lab.later(10)
        await lab.write(lambda c: c.execute(DELIVERY.update().values(next_attempt_at=lab.hub.now())))
    assert waits == [30, *(w - 10 for w in (60, 120, 240, 480, 900, 900))]
    assert all(one != other for one, other in itertools.pairwise(probed))


async def test_the_only_delivery_is_probed_again(lab: Lab) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), HoldRoute("wrong key"))
    for _ in range(3):
        await until_probe(lab)
        probe = await lab.claim_one()
        assert probe.delivery.id == row.id
        await lab.finish(probe, HoldRoute("wrong key"))


async def test_a_failed_probe_raises_its_budget_by_one(lab: Lab) -> None:
    row = await lab.order()
    await lab.finish(await lab.claim_one(), HoldRoute("wrong key"))
    for _ in range(12):
        await until_probe(lab)
        lab.later(60)
        await lab.finish(await lab.claim_one(), DOWN)
    now = await lab.delivery(row.id)
    assert (now.status, now.budget - now.attempts, now.attempts) == ("pending", row.budget, 13)


async def test_success_closes_it_and_all_that_waited_goes(lab: Lab) -> None:
    await lab.orders(5)
    await lab.finish(await lab.claim_one(limit=1), HoldRoute("wrong key"))
    await until_probe(lab)
    await lab.finish(await lab.claim_one(), Receipt("done"))
    state = await lab.state()
    assert (state.opened_at, state.failures, state.probe_at, state.open_reason, state.probe_id) == (
        None, 0, None, None, None,
    )  # fmt: skip
    assert len((await lab.claim()).claims) == 4


async def test_a_probe_that_was_refused_closes_it(lab: Lab) -> None:
    """The destination is there and means what it says, about that one delivery."""
    for answer in (Rejected("no such channel"), TryAgain("HTTP 404", status=404)):
        await lab.orders(2)
        await lab.finish(await lab.claim_one(limit=1), HoldRoute("wrong key"))
        await until_probe(lab)
        await lab.finish(await lab.claim_one(), answer)
        assert (await lab.state()).opened_at is None
        for one in (await lab.claim()).claims:
            await lab.finish(one, Receipt("done"))
        lab.later(100)
        for one in (await lab.claim()).claims:
            await lab.finish(one, Receipt("done"))


async def test_a_probe_that_asked_nothing_is_followed_by_another_at_once(lab: Lab) -> None:
    await lab.orders(4)
    await lab.finish(await lab.claim_one(limit=1), HoldRoute("wrong key"))
    await until_probe(lab)
    for result in (NotNow("busy", 60), Hold("over limit"), Skip("nothing to do")):
        probe = await lab.claim_one()
        assert probe.probe
        await lab.finish(probe, result)
        assert (await lab.state()).opened_at is not None
    assert (await lab.claim_one()).probe


async def test_what_was_under_way_when_it_opened_does_not_prolong_it(lab: Lab) -> None:
    await lab.orders(3)
    first, second, third = (await lab.claim()).claims
    await lab.finish(first, HoldRoute("wrong key"))
    probe_at = (await lab.state()).probe_at
    await lab.finish(second, HoldRoute("wrong key"))
    assert (await lab.state()).probe_at == probe_at
    await lab.finish(third, Receipt("done"))
    assert (await lab.state()).opened_at is None


async def test_while_some_are_under_way_no_probe_is_added(lab: Lab) -> None:
    await lab.orders(3)
    first, second = (await lab.claim(limit=2)).claims
    await lab.finish(first, HoldRoute("wrong key"))
    await resume_route(lab.hub, "asha", "one")
    await lab.claim_none()
    await lab.finish(second, Hold("over limit"))
    await lab.claim_one()


async def test_resume_probes_at_once_and_the_wait_starts_small_again(lab: Lab) -> None:
    await lab.orders(2)
    await lab.finish(await lab.claim_one(limit=1), HoldRoute("wrong key"))
    for _ in range(3):
        await until_probe(lab)
        await lab.finish(await lab.claim_one(), HoldRoute("wrong key"))
    await lab.claim_none()
    assert await resume_route(lab.hub, "asha", "one")
    probe = await lab.claim_one()
    assert probe.probe
    await lab.finish(probe, HoldRoute("wrong key"))
    assert round(await until_probe(lab)) == 30


async def test_a_start_with_changed_settings_probes_at_once(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        await lab.orders(2)
        await lab.finish(await lab.claim_one(limit=1), HoldRoute("wrong key"))
    async with open_lab(tmp_path, database_url) as lab:
        await lab.claim_none()
    async with open_lab(tmp_path, database_url, {"one": route("Looks")}) as lab:
        assert (await lab.claim_one()).probe


async def broken_with_all_far_off(lab: Lab) -> None:
    """An open breaker, and everything on the route at a late step of its schedule."""
    await lab.orders(2)
    for claimed in (await lab.claim()).claims:
        await lab.finish(claimed, TryAgain("no connection", 7000, destination=True))
    await lab.orders(1)
    await lab.finish(await lab.claim_one(), HoldRoute("wrong key"))
    await lab.write(lambda c: c.execute(update(DELIVERY).values(next_attempt_at=lab.hub.now() + timedelta(hours=5))))


async def test_resume_probes_at_once_also_where_nothing_is_due(lab: Lab) -> None:
    await broken_with_all_far_off(lab)
    await lab.claim_none()
    assert await resume_route(lab.hub, "asha", "one")
    oldest = min(await lab.rows(DELIVERY), key=lambda row: row.event_seq)
    probe = await lab.claim_one()
    assert (probe.probe, probe.delivery.id) == (True, oldest.id)
    await lab.claim_none()


async def test_a_start_with_changed_settings_probes_at_once_also_where_nothing_is_due(
    tmp_path: Path, database_url: str
) -> None:
    async with open_lab(tmp_path, database_url) as lab:
        await broken_with_all_far_off(lab)
    async with open_lab(tmp_path, database_url, {"one": route("Looks")}) as lab:
        assert (await lab.claim_one()).probe


async def test_another_route_goes_on(tmp_path: Path, database_url: str) -> None:
    async with open_lab(tmp_path, database_url, {"one": route(), "two": route()}) as lab:
        await lab.orders(2)
        await lab.finish(await lab.claim_one("one", limit=1), HoldRoute("wrong key"))
        await lab.claim_none("one")
        assert len((await lab.claim("two")).claims) == 2
