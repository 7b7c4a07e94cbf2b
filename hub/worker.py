"""The loops that do the work: fan-out, one for each route, replays; and the process around them.

A loop takes its work from the database, wakes by its bell, and by itself: at the next due time, and within a second
whatever happens to Redis. What it finished rings its own bell, so that the next claim follows at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from math import ceil

import structlog
from sqlalchemy import Connection

from hub import catch_up, registrations
from hub.alerts import raise_alerts
from hub.database import Conflict
from hub.deliver import Line, attempt, open_line
from hub.errors import Unavailable
from hub.fan_out import fan_out_waiting
from hub.jobs import Periodic, run_worker
from hub.keeping import Place, drop_old
from hub.reorders import make_orders
from hub.replay import advance_replays
from hub.runtime import Hub
from hub.store.claims import Claim, ClaimRequest, claim, settle_gone
from hub.store.workers import due_bells, forget, gone, seen

TICK = 1.0
# Of a route's slots, what one claim fills at most. What was claimed together ends together: were it all of them, the
# attempts would wait for their record's commit, and the commits for the attempts, in turn.
SHARE = 1 / 2
HEARTBEAT = timedelta(seconds=5)
FORGET_EVERY = timedelta(hours=1)
KEEPING_EVERY = timedelta(hours=1)
STOP_EXTRA = 5.0
LONGEST_STOP = 90.0
log = structlog.get_logger()


class Quiet:
    """Lets one loop have the process to itself, for a delivery that ended two processes before."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._under_way = 0

    async def may_start(self) -> None:
        """Returns when nobody has the process to itself."""
        await self._open.wait()

    def enter(self) -> None:
        """Something is under way: a claim, or an attempt."""
        self._under_way += 1
        self._idle.clear()

    def leave(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Returns when nothing else is under way; nothing else starts until it ends."""
        async with self._turn:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()


class Worker:
    """The loops of one process. `async with running(hub)` starts and stops them in good order."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.stopping = asyncio.Event()
        self.lines = {name: open_line(hub, name) for name in hub.config.routes}
        self.attempts: set[asyncio.Task[None]] = set()
        self._quiet = Quiet()

    def loops(self) -> list[Awaitable[None]]:
        deliveries = [self._deliver_forever(line) for line in self.lines.values()]
        return [
            *deliveries,
            self._repeat("fan_out", lambda: fan_out_waiting(self.hub)),
            self._repeat("replay", lambda: advance_replays(self.hub)),
            self._repeat("reorders", lambda: make_orders(self.hub)),
            self._tick(),
            self._watch(),
            self._heartbeat(),
        ]

    async def _repeat(self, bell: str, work: Callable[[], Awaitable[int]]) -> None:
        """Do `work` while there is some, then wait for the bell, which the tick rings too."""
        ringing = self.hub.bells.listen(bell)
        while not self.stopping.is_set():
            ringing.clear()
            if not await self._patiently(bell, work):
                await ringing.wait()

    async def _patiently(self, name: str, work: Callable[[], Awaitable[int]]) -> int:
        try:
            return await work()
        except (Unavailable, Conflict) as trouble:
            log.warning("loop.waiting", loop=name, reason=str(trouble))
        except Exception:
            log.exception("loop.fault", loop=name)
        return 0

    async def _deliver_forever(self, line: Line) -> None:
        ringing = self.hub.bells.listen(f"deliver:{line.name}")
        due = self.hub.now()
        while not self.stopping.is_set():
            if not ringing.is_set():
                await self._sleep(ringing, (due - self.hub.now()).total_seconds())
            ringing.clear()
            # Where nothing better is known: the tick rings within a second of anything due.
            due = self.hub.now() + timedelta(days=1)
            free = line.route.concurrency - line.trying
            if free <= 0 or self.stopping.is_set():
                continue
            try:
                due = await self._claim(line, min(free, ceil(line.route.concurrency * SHARE)))
            except Unavailable as trouble:
                log.warning("loop.waiting", loop=line.name, reason=str(trouble))
            except Exception:
                log.exception("loop.fault", loop=line.name)

    async def _claim(self, line: Line, free: int) -> datetime:
        await self._quiet.may_start()
        self._quiet.enter()
        try:
            claimed = await self.hub.writer.put(claim, self._request(line, free))
            for one in claimed.claims:
                self._start(line, one)
        finally:
            self._quiet.leave()
        if claimed.suspect:
            await self._try_alone(line)
        return claimed.next_due

    def _request(self, line: Line, limit: int, *, alone: bool = False) -> ClaimRequest:
        route = line.route
        return ClaimRequest(
            route=line.name,
            worker=self.hub.worker_id,
            limit=limit,
            concurrency=route.concurrency,
            lease=route.timeout + self.hub.config.worker.lease_margin,
            interval=timedelta(seconds=route.rate.interval) if route.rate else None,
            ordered=route.ordered,
            max_age=route.max_age,
            alone=alone,
            recording=line.recording,
        )

    def _start(self, line: Line, one: Claim) -> asyncio.Task[None]:
        task = asyncio.create_task(self._attempt(line, one))
        line.trying += 1
        self._quiet.enter()
        self.attempts.add(task)
        task.add_done_callback(partial(self._ended, line))
        return task

    def _ended(self, line: Line, task: asyncio.Task[None]) -> None:
        self.attempts.discard(task)
        self._quiet.leave()
        # A record that came after its claim, as where storage was away, has freed a lease too.
        self.hub.bells.listen(f"deliver:{line.name}").set()

    async def _attempt(self, line: Line, one: Claim) -> None:
        def tried() -> None:
            # The next claim goes with this attempt's record: no slot is empty for longer than one commit.
            line.trying -= 1
            self.hub.bells.listen(f"deliver:{line.name}").set()

        try:
            await attempt(self.hub, line, one, tried)
        except Exception:
            # Its lease runs out and it is tried again; this line is what ops see of it.
            log.exception("delivery.unrecorded", route=line.name, delivery=one.delivery.id)
        if line.route.ordered:
            # The next of its entity may be any worker's.
            self.hub.bells.ring(f"deliver:{line.name}")

    async def _try_alone(self, line: Line) -> None:
        """One delivery that two processes did not survive, with nothing else beside it."""
        async with self._quiet.alone():
            if self.stopping.is_set():
                return
            claimed = await self.hub.writer.put(claim, self._request(line, 1, alone=True))
            for one in claimed.claims:
                log.warning("delivery.alone", route=line.name, delivery=one.delivery.id)
                await asyncio.wait({self._start(line, one)})

    async def _tick(self) -> None:
        """The loops' own waking: whatever is due rings, whether or not anybody rang for it."""
        routes = list(self.lines)
        while not self.stopping.is_set():
            await self._patiently("tick", lambda: self._ring_due(routes))
            await self._sleep(self.stopping, TICK)

    async def _watch(self) -> None:
        """Look once a second whether somebody must be told of something; at once again while there is more."""
        while not self.stopping.is_set():
            if not await self._patiently("alerts", lambda: raise_alerts(self.hub)):
                await self._sleep(self.stopping, TICK)

    async def _heartbeat(self) -> None:
        while not self.stopping.is_set():
            await self._patiently("heartbeat", self._seen)
            await self._sleep(self.stopping, HEARTBEAT.total_seconds())

    async def _seen(self) -> int:
        await self.hub.database.write(self._live)
        return 1

    def _live(self, connection: Connection) -> None:
        seen(connection, self.hub.now(), self.hub.worker_id)
        settle_gone(connection, self.hub.now(), self.hub.worker_id, list(self.lines))

    async def _ring_due(self, routes: list[str]) -> int:
        bells = await self.hub.database.read(lambda connection: due_bells(connection, self.hub.now(), routes))
        for bell in bells:
            self.hub.bells.listen(bell).set()
        return len(bells)

    async def _sleep(self, ringing: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await ringing.wait()
        except TimeoutError:
            return

    async def stop(self, loops: Sequence[asyncio.Future[None]]) -> None:
        """Take nothing more; give what is under way its grace, and give the rest back."""
        self.stopping.set()
        for bell in ("fan_out", "replay", "reorders", *(f"deliver:{name}" for name in self.lines)):
            self.hub.bells.listen(bell).set()
        longest = max((line.timeout for line in self.lines.values()), default=0.0)
        ends = time.monotonic() + min(longest + STOP_EXTRA, LONGEST_STOP)
        # First the loops: a claim that is being written now still starts its attempts.
        await _end(loops, ends)
        # What is cut short gives its delivery back; where storage is away it cannot, and the lease runs out.
        await _end(self.attempts, ends)


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Worker]:
    """A worker at work beside the caller; stopped in good order at the end."""
    worker = Worker(hub)
    await hub.database.write(lambda connection: seen(connection, hub.now(), hub.worker_id))

    async def forget_workers() -> None:
        await hub.database.write(lambda connection: forget(connection, hub.now()))

    await catch_up.begin(hub)
    place = Place()

    async def drop_what_is_old() -> None:
        await drop_old(hub, place)

    periodic = [
        Periodic("forget_workers", FORGET_EVERY, forget_workers),
        Periodic("keeping", KEEPING_EVERY, drop_what_is_old),
        *catch_up.periodic(hub),
        *registrations.periodic(hub),
    ]
    tasks = [asyncio.ensure_future(loop) for loop in worker.loops()]
    arq = asyncio.create_task(run_worker(hub.bells, periodic, worker.stopping), name="arq")
    try:
        yield worker
    finally:
        await worker.stop(tasks)
        await arq
        with suppress(Unavailable):
            await hub.database.write(lambda connection: gone(connection, hub.worker_id))
        await asyncio.gather(*(_close(line) for line in worker.lines.values()))


async def _end(tasks: Iterable[asyncio.Future[None]], deadline: float) -> None:
    """Wait for tasks until `deadline` (monotonic); cancel what is left, twice if the first takes too long."""
    left = set(tasks)
    for patience in (max(deadline - time.monotonic(), 0.0), STOP_EXTRA, STOP_EXTRA):
        if left:
            _, left = await asyncio.wait(left, timeout=patience)
        for task in left:
            task.cancel()


async def _close(line: Line) -> None:
    """Close a line; a connector that cannot is told of, and keeps no other from it."""
    # In a task of its own: what it awaits may be cancelled, and it may not let itself be cancelled.
    closing = asyncio.create_task(line.close())
    await _end({closing}, time.monotonic() + STOP_EXTRA)
    ended = closing.done() and not closing.cancelled()
    error = closing.exception() if ended else RuntimeError("it was cancelled, or did not end in time")
    if error is not None:
        log.error("connector.fault", route=line.name, at="close", exc_info=error)
