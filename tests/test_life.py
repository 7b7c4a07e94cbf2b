"""The life of a delivery as a state machine: whatever happens in whatever order, what must hold holds."""

from datetime import timedelta
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Row, String, cast, literal, update

from hub.connector import Receipt
from hub.deliver import delivery_key
from hub.errors import Hold, HoldRoute, NotNow, Outcome, Rejected, Skip, TryAgain
from hub.store import ATTEMPT, DELIVERY, EVENT, changes, replays, routes
from hub.store.claims import ALIVE_WITHIN, Claim
from hub.store.meant import DONE, Filter
from hub.store.workers import seen
from tests.hubdb import document, route
from tests.memory import Memory

STATUSES = {"pending", "held", "delivered", "dead", "skipped"}
LEASE = timedelta(seconds=35)
DOWN = TryAgain("no connection", destination=True)
RESULTS = [
    Receipt("done"), TryAgain("HTTP 404", status=404), DOWN, TryAgain("HTTP 429", 60, status=429, destination=True),
    NotNow("busy", 5), Hold("over limit"), HoldRoute("wrong key"), Skip("nothing to do"), Rejected("no"),
]  # fmt: skip
ROUTES = {"one": route("Looks", concurrency=2), "two": route(concurrency=3, ordered=True)}
MEMORY = Memory(ROUTES)
PLAIN_ID = literal("dlv_e") + cast(DELIVERY.c.event_seq, String) + "_" + DELIVERY.c.route

results = st.sampled_from(RESULTS)
places = st.integers(0, 1000)
names = st.sampled_from(list(ROUTES))
WAITS = [1.0, 9.0, 36.0, 100.0, 8_000.0]


def check_row(row: Row[Any]) -> None:
    assert row.status in STATUSES
    assert (row.next_attempt_at is not None) == (row.status == "pending")
    assert row.status != "pending" or row.lease_until in {None, row.next_attempt_at}
    assert row.status != "pending" or row.attempts <= row.budget
    assert row.status not in {"delivered", "held"} or row.lease_until is None
    assert (row.error_key is None) == (row.last_error is None)


def check_attempt(attempt: Row[Any], delivery: Row[Any]) -> None:
    """One without an outcome is the last, and under a lease."""
    if attempt.outcome is None:
        assert attempt.number == delivery.attempts
        assert delivery.lease_until is not None


class Life(RuleBasedStateMachine):
    """`under_way`: claims whose process lives; `silent`: those whose process ended or hangs, and may yet speak."""

    @initialize()
    def begin(self) -> None:
        MEMORY.clear()
        self.under_way: list[Claim] = []
        self.silent: list[Claim] = []
        self.events = 0
        self.before: dict[str, Row[Any]] = {}
        self.delivered: set[tuple[str, int]] = set()
        self.owed: set[str] = set()
        self.replays: list[str] = []
        self.event(0)
        self.event(0)

    def changed(self) -> None:
        """What a rule did to the deliveries is looked at once, here: numbers only grow."""
        rows = {row.id: row for row in MEMORY.rows()}
        for row in rows.values():
            old = self.before.get(row.id)
            assert old is None or old.attempts <= row.attempts <= old.attempts + 1
            assert old is None or (old.look <= row.look and row.attempts >= old.attempts)
        self.before = rows

    def act(self, work: Any) -> Any:
        return MEMORY.write(work)

    @rule(entity=st.integers(0, 1))
    @precondition(lambda self: self.events < 4)
    def event(self, entity: int) -> None:
        self.events += 1
        MEMORY.keep(document("order.updated", orderId=f"ord_{entity}", number=self.events))
        MEMORY.fan_out()
        # Ids made of time and chance would make the same steps end differently.
        self.act(lambda c: c.execute(update(DELIVERY).where(DELIVERY.c.id.not_like("dlv_e%")).values(id=PLAIN_ID)))
        self.changed()

    @rule(number=places)
    def repeat(self, number: int) -> None:
        """A repeat of a state event: what reads state must look once more after it."""
        which = number % self.events + 1
        body = next(row for row in self.sent() if f'"number":{which}'.encode() in row.body)
        before = {row.id: row for row in MEMORY.rows() if row.event_id == body.id and row.reads_state}
        kept = MEMORY.keep(orjson.loads(body.body))
        assert kept.duplicate
        for row in MEMORY.rows():
            old = before.get(row.id)
            if old is not None and (old.status == "delivered" or (old.status == "skipped" and old.error_key == "skip")):
                assert (row.status, row.look) == ("pending", old.look + 1)
                assert delivery_key(row) != delivery_key(old)
                self.owed.add(row.id)
            elif old is not None and (old.status == "pending" or old.lease_until is not None):
                assert (row.again, row.look) == (True, old.look)
                self.owed.add(row.id)
            elif old is not None:
                assert row == old
        self.changed()

    def sent(self) -> list[Row[Any]]:
        return MEMORY.rows(EVENT)

    @rule(name=names, limit=st.integers(1, 3), dead=st.booleans())
    def claim(self, name: str, limit: int, dead: bool) -> None:
        """By a worker that beats, or by one that ended without a word."""
        worker = f"dead-{len(self.silent)}" if dead else "alive"
        self.act(lambda c: seen(c, MEMORY.now, worker))
        live = self.live()
        claims = MEMORY.claim(name, limit, worker, alone=limit == 1 and dead).claims
        assert not live & {one.delivery.id for one in claims}
        assert all(one.attempt <= one.delivery.budget for one in claims if not one.probe)
        (self.silent if dead else self.under_way).extend(claims)
        self.owed -= {one.delivery.id for one in claims}
        self.changed()

    def live(self) -> set[str]:
        """Deliveries that somebody holds just now."""
        return {row.id for row in MEMORY.rows() if row.lease_until is not None and row.lease_until > MEMORY.now}

    @rule(name=names, number=places, result=results)
    def finish(self, name: str, number: int, result: Receipt | Outcome) -> None:
        """One under way ends; where there is none, one is claimed first."""
        if not self.under_way:
            self.claim(name, 3, dead=False)
        if self.under_way:
            self.record(self.under_way.pop(number % len(self.under_way)), result)

    @rule(name=names, number=places, result=results)
    def speak_at_last(self, name: str, number: int, result: Receipt | Outcome) -> None:
        """A process speaks that ended or was stopped: before or after its lease, before or after another's claim."""
        if not self.silent:
            self.claim(name, 3, dead=True)
            self.time_passes(WAITS[number % len(WAITS)])
            self.claim(name, 3, dead=False)
        if self.silent:
            self.record(self.silent.pop(number % len(self.silent)), result)

    def record(self, claimed: Claim, result: Receipt | Outcome) -> None:
        (before,) = [row for row in MEMORY.rows() if row.id == claimed.delivery.id]
        status = MEMORY.finish(claimed, result)
        (after,) = [row for row in MEMORY.rows() if row.id == claimed.delivery.id]
        if before.attempts != claimed.attempt:
            assert status == "late"
        if status == "late":
            assert after == before
        else:
            assert after.lease_until is None
        if status == "delivered" or (isinstance(result, Receipt) and status == "pending"):
            self.delivered.add((after.id, claimed.attempt))
        self.changed()

    @rule(number=places)
    @precondition(lambda self: self.under_way)
    def hang(self, number: int) -> None:
        """A process is stopped, or ends, during an attempt."""
        self.silent.append(self.under_way.pop(number % len(self.under_way)))

    @rule(wait=st.sampled_from(WAITS))
    def time_passes(self, wait: float) -> None:
        MEMORY.later(wait)
        ended = [one for one in self.under_way if one.lease_until <= MEMORY.now]
        self.silent += ended
        self.under_way = [one for one in self.under_way if one not in ended]

    @rule(name=names, pause=st.booleans())
    def pause_or_resume(self, name: str, pause: bool) -> None:
        before = MEMORY.rows()
        if pause:
            self.act(lambda c: routes.pause(c, MEMORY.now, name, "asha", None))
        else:
            self.act(lambda c: routes.resume(c, MEMORY.now, name, "asha"))
        changed = [(old, new) for old, new in zip(before, MEMORY.rows(), strict=True) if old != new]
        assert len(changed) <= (not pause)
        for old, new in changed:
            # Something must be there for the probe of an open breaker, however far off all is.
            assert (old.route, old.status, old.lease_until) == (name, "pending", None)
            assert old.next_attempt_at > MEMORY.now
            assert dict(new._mapping) == dict(old._mapping) | {"next_attempt_at": MEMORY.now}

    @rule(number=places, cancel=st.booleans())
    def cancel_or_release(self, number: int, cancel: bool) -> None:
        rows = MEMORY.rows()
        row = rows[number % len(rows)]
        if cancel:
            done = self.act(lambda c: routes.cancel(c, MEMORY.now, [row.id], "asha"))
            assert bool(done) == (row.status in {"pending", "held"})
            self.owed.discard(row.id)
        else:
            released = self.act(lambda c: routes.release(c, MEMORY.now, row.id, "asha"))
            assert released == (row.route if row.status == "held" else None)
        self.changed()

    @rule(as_new=st.booleans(), pace=st.sampled_from([None, 0.1]), status=st.sampled_from([None, "dead", "delivered"]))
    def replay(self, as_new: bool, pace: float | None, status: str | None) -> None:
        before = {row.id: row for row in MEMORY.rows()}
        found = Filter(status=status)
        replay_id = self.act(lambda c: replays.start(c, MEMORY.now, "asha", found, total=0, as_new=as_new, pace=pace))
        self.act(lambda c: replays.advance(c, MEMORY.now, replays.lock(c, replay_id), MEMORY.hub.terms()))
        for row in MEMORY.rows():
            old = before[row.id]
            meant = old.status in DONE and old.lease_until is None and status in {None, old.status}
            if meant:
                assert (row.status, row.key_no) == ("pending", old.key_no + as_new)
                assert row.budget == row.attempts + row.span
            else:
                assert row == old
        self.replays.append(replay_id)
        self.changed()

    @rule()
    @precondition(lambda self: self.replays)
    def stop_replay(self) -> None:
        replay_id = self.replays.pop()
        before = {row.id: row for row in MEMORY.rows()}
        self.act(lambda c: replays.stop(c, MEMORY.now, replay_id, "asha"))
        for row in MEMORY.rows():
            old = before[row.id]
            untried = old.replay_id == replay_id and old.status == "pending" and old.lease_until is None
            assert row == old or (untried and row.replay_id != replay_id)
        self.changed()

    @rule(later=st.booleans())
    def replay_and_stop(self, later: bool) -> None:
        """Stopped before anything was tried, all is exactly as before."""
        before = [dict(row._mapping) | {"before": None} for row in MEMORY.rows()]
        replay_id = self.act(lambda c: replays.start(c, MEMORY.now, "asha", Filter(), total=0, pace=1.0))
        self.act(lambda c: replays.advance(c, MEMORY.now, replays.lock(c, replay_id), MEMORY.hub.terms()))
        if later:
            MEMORY.later(1)
        self.act(lambda c: replays.stop(c, MEMORY.now, replay_id, "asha"))
        assert [dict(row._mapping) | {"before": None} for row in MEMORY.rows()] == before

    @rule(action=st.sampled_from(["release", "cancel"]), stopped=st.booleans())
    def change_many(self, action: str, stopped: bool) -> None:
        """All that is open is released or cancelled; a release that is stopped at once leaves all as it was."""
        before = {row.id: row for row in MEMORY.rows()}
        found, routes_now = Filter(route="one"), ["one"]
        total = self.act(lambda c: changes.count_open(c, action, found, routes_now))
        change_id = self.act(lambda c: replays.start(c, MEMORY.now, "asha", found, action=action, total=total))
        self.act(lambda c: changes.advance(c, MEMORY.now, replays.lock(c, change_id), routes_now))
        after = {row.id: row for row in MEMORY.rows()}
        changed = {row_id for row_id, row in after.items() if row != before[row_id]}
        meant = {"held"} if action == "release" else {"pending", "held"}
        assert changed == {row_id for row_id, row in before.items() if row.route == "one" and row.status in meant}
        assert len(changed) == total
        assert {after[one].status for one in changed} <= {"pending" if action == "release" else "skipped"}
        if action == "cancel":
            self.owed -= changed
        elif stopped:
            self.act(lambda c: replays.stop(c, MEMORY.now, change_id, "asha"))
            rows = [dict(row._mapping) | {"before": None} for row in MEMORY.rows()]
            assert rows == [dict(before[row["id"]]._mapping) | {"before": None} for row in rows]
        self.changed()

    @invariant()
    def all_that_must_hold(self) -> None:
        rows = {row.id: row for row in MEMORY.rows()}
        for row in rows.values():
            check_row(row)
            answered = row.status == "delivered" or row.error_key == "skip"
            assert not (answered and row.id in self.owed), "a repeat was dropped"
        numbers: dict[str, list[int]] = {}
        for attempt in MEMORY.rows(ATTEMPT):
            numbers.setdefault(attempt.delivery_id, []).append(attempt.number)
            check_attempt(attempt, rows[attempt.delivery_id])
            if (attempt.delivery_id, attempt.number) in self.delivered:
                assert attempt.outcome == "delivered"
        for row in rows.values():
            assert numbers.get(row.id, []) == list(range(1, row.attempts + 1))

    def teardown(self) -> None:
        """Nothing is stuck: once all is resumed and time passes, each pending one is claimed, and can be delivered."""
        MEMORY.fan_out()
        for _ in range(400):
            open_rows = [row for row in MEMORY.rows() if row.status == "pending"]
            held = [row.id for row in MEMORY.rows() if row.status == "held"]
            if not open_rows and not held:
                return
            for of in held:
                self.act(lambda c, of=of: routes.release(c, MEMORY.now, of, "asha"))
            MEMORY.later(max(ALIVE_WITHIN, LEASE).total_seconds() + 1)
            for name in ROUTES:
                self.act(lambda c, name=name: routes.resume(c, MEMORY.now, name, "asha"))
                for alone in (False, True):
                    for one in MEMORY.claim(name, alone=alone).claims:
                        MEMORY.finish(one, Receipt("done"))
        assert not [row for row in MEMORY.rows() if row.status in {"pending", "held"}]


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
