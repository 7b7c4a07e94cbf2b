"""The arq seam: bells, which say "look now", and periodic work. Nothing here holds work; the database does.

`bells.ring("fan_out")` wakes the loop of that name in this process at once, publishes the name for other processes,
and enqueues an arq job of a fixed id, which wakes the loop in whichever worker takes it. All arq jobs only set events
in their process, so that one run twice, orphaned or lost does no harm; every loop also wakes by itself.
Redis may be away, empty, full or hung at any time: nothing here fails, waits or needs a person because of it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import in_progress_key_prefix
from arq.worker import Worker
from redis.exceptions import RedisError

from hub.errors import ConfigError, HubError

QUEUE = "litekart-hub"
JOBS = ("fan_out", "deliver", "periodic")
CHANNEL = "litekart-hub:bells"
# A send that takes longer is given up. The next one may take longer before Redis counts as away, since a stall of
# this process for an instant looks the same from here.
SEND_WITHIN = 0.2
PROBE_WITHIN = 1.0
PROBE_EVERY = 1.0
# With nothing to send, Redis is still looked at, so that `away_since` is true.
LOOK_EVERY = 5.0
# Between two publications, and between two rounds of arq jobs, which nobody waits for and which cost most.
PACE = 0.01
JOBS_PACE = 0.5
SOCKET_TIMEOUT = 1.0
RECONNECT_EVERY = 0.25
POLL_DELAY = 0.5
JOB_TIMEOUT = 1
MAX_JOBS = 50
READ_LIMIT = 1000
UNLIMITED_TRIES = 1_000_000
MOST_BACKOFF = 0.5
LIVED = 10.0

FAILURES = (RedisError, OSError, TimeoutError)
log = structlog.get_logger()


def settings_of(url: str) -> RedisSettings:
    """How to reach the Redis at `redis://`, `rediss://` or `unix://`. Raises ConfigError.

    arq takes user and password as they stand in the URL, where some characters must be written as %xx, and would
    take any host's certificate for `rediss://`.
    """
    try:
        settings = RedisSettings.from_dsn(url)
    except (ValueError, RuntimeError):
        raise ConfigError("redis: not a usable URL; write redis://user:password@host:6379/0") from None
    settings.username = settings.username and unquote(settings.username)
    settings.password = settings.password and unquote(settings.password)
    settings.ssl_check_hostname = settings.ssl
    return settings


def client(settings: RedisSettings) -> ArqRedis:
    """A client that connects when used, never waits for ever on its connection, and never reads a pickle."""
    return ArqRedis(
        host=settings.host,
        port=settings.port,
        unix_socket_path=settings.unix_socket_path,
        db=settings.database,
        username=settings.username,
        password=settings.password,
        ssl=settings.ssl,
        ssl_cert_reqs=settings.ssl_cert_reqs,
        ssl_check_hostname=settings.ssl_check_hostname,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        job_serializer=to_json,
        job_deserializer=json.loads,
        default_queue_name=QUEUE,
    )


def to_json(job: dict[str, Any]) -> bytes:
    """What arq keeps of a job. An exception, which arq would like to keep of a failed one, becomes its text."""
    return json.dumps(job, default=repr).encode()


async def hang_up(redis: ArqRedis) -> None:
    """Close all connections, whatever state they are in."""
    with suppress(*FAILURES):
        await redis.aclose(close_connection_pool=True)


async def end(tasks: Iterable["asyncio.Task[Any]"], again: float = 0.5) -> None:
    """Cancel tasks until they end, every `again` seconds.

    Once is not enough: on Python 3.11 `asyncio.wait_for`, and in redis the clean-up of a pipeline, can swallow one.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=again)
        for task in ended:
            # Looked at, so that asyncio does not complain that nobody did.
            _ = task.cancelled() or task.exception()


class Bells:
    """Wakes loops by name, in this process and in others. `open_bells` makes one; one event loop uses it.

    Names: `fan_out`, `deliver:<route>`, `periodic:<name>`, of which each has an arq job; others are only published.
    `away_since` (aware) is since when Redis does not answer, None while it does.
    """

    def __init__(self, settings: RedisSettings | None, in_process: bool) -> None:
        self.settings = settings
        self.in_process = in_process
        self.away_since: datetime | None = None
        self._me = uuid4().hex
        self.listeners: dict[str, asyncio.Event] = {}
        # Dicts for their order: first rung, first sent.
        self._to_publish: dict[str, None] = {}
        self._to_enqueue: dict[str, None] = {}
        self._something = asyncio.Event()
        self._enqueued_at = 0.0
        self._closing = False
        self._trouble = ""

    def ring(self, *names: str) -> None:
        """Wake who listens to these names: here at once, elsewhere as soon as Redis can. Never fails nor waits."""
        for name in names:
            self.wake(name)
            self._to_publish[name] = None
            if name.partition(":")[0] in JOBS:
                self._to_enqueue[name] = None
        self._something.set()

    def wake(self, name: str) -> None:
        """Wake who listens to `name` in this process only."""
        if name in self.listeners:
            self.listeners[name].set()

    def hand_out(self, name: str) -> None:
        """Wake who listens to `name` in one process, whichever takes the job; in this one while Redis is away."""
        if self.settings is None or self.away_since is not None:
            self.wake(name)
        else:
            self._to_enqueue[name] = None
            self._something.set()

    def listen(self, name: str) -> asyncio.Event:
        """The event of that name, one for the process. Whoever waits for it clears it before looking for work."""
        return self.listeners.setdefault(name, asyncio.Event())

    async def send_forever(self, settings: RedisSettings) -> None:
        """Send what was rung until `close`; what is rung meanwhile shares the next send."""
        redis = client(settings)
        try:
            while not self._closing:
                if not await self._sent(redis, SEND_WITHIN):
                    redis = await self._send_when_back(redis, settings)
                await asyncio.sleep(PACE)
                await self._until_something()
        finally:
            await hang_up(redis)

    async def _until_something(self) -> None:
        pause = self._enqueued_at + JOBS_PACE - time.monotonic() if self._to_enqueue else LOOK_EVERY
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._something.wait()

    async def _send_when_back(self, redis: ArqRedis, settings: RedisSettings) -> ArqRedis:
        """Try again until it works. Each time with a new client: an interrupted one may keep connections."""
        while not self._closing:
            await hang_up(redis)
            redis = client(settings)
            if await self._sent(redis, PROBE_WITHIN):
                break
            if self.away_since is None:
                self._went_away()
            await asyncio.sleep(PROBE_EVERY)
        if self.away_since is not None and not self._closing:
            log.info("bells.redis_back", seconds=round((datetime.now(UTC) - self.away_since).total_seconds(), 1))
            self.away_since = None
        return redis

    def _went_away(self) -> None:
        self.away_since = datetime.now(UTC)
        log.warning("bells.redis_away", reason=self._trouble, effect="loops look by themselves, every second")
        for name in self._to_enqueue:
            self.wake(name)

    async def _sent(self, redis: ArqRedis, within: float) -> bool:
        """Send what waits, or look whether Redis answers. What was not sent goes on waiting."""
        self._something.clear()
        try:
            async with asyncio.timeout(within):
                await self._publish(redis)
                await self._enqueue(redis)
        except FAILURES as failure:
            self._trouble = f"{type(failure).__name__}: {failure}".rstrip(": ")
            return False
        except Exception:
            log.exception("bells.fault", dropped=[*self._to_publish, *self._to_enqueue])
            self._to_publish.clear()
            self._to_enqueue.clear()
        return True

    async def _publish(self, redis: ArqRedis) -> None:
        names, self._to_publish = self._to_publish, {}
        try:
            if names:
                await redis.publish(CHANNEL, json.dumps({"from": self._me, "names": list(names)}))
            else:
                await redis.ping()
        except BaseException:
            self._to_publish = {**names, **self._to_publish}
            raise

    async def _enqueue(self, redis: ArqRedis) -> None:
        if not self._closing and time.monotonic() < self._enqueued_at + JOBS_PACE:
            return
        for name in list(self._to_enqueue):
            # Taken out before the send: what is rung during it may be news that the job's run no longer sees.
            del self._to_enqueue[name]
            job, _, argument = name.partition(":")
            try:
                # None comes back where the job is queued already, which is as good.
                await redis.enqueue_job(job, *([argument] if argument else []), _job_id=name)
            except BaseException:
                self._to_enqueue[name] = None
                raise
            self._enqueued_at = time.monotonic()

    async def close(self, sending: "asyncio.Task[None]") -> None:
        """Stop sending; what still waits is sent once more, if Redis is there."""
        self._closing = True
        self._something.set()
        await end([sending])
        if self.settings is not None and self.away_since is None and (self._to_publish or self._to_enqueue):
            redis = client(self.settings)
            await self._sent(redis, SEND_WITHIN)
            await hang_up(redis)

    async def subscribe_forever(self, settings: RedisSettings) -> None:
        """What other processes publish wakes the listeners of this one. Connects again for ever."""
        while True:
            redis = client(settings)
            try:
                await self._hear(redis)
            except FAILURES as failure:
                log.debug("bells.deaf", reason=type(failure).__name__)
            finally:
                await hang_up(redis)
            await asyncio.sleep(RECONNECT_EVERY)

    async def _hear(self, redis: ArqRedis) -> None:
        async with redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            silent = False
            while True:
                message = await channel.get_message(timeout=SOCKET_TIMEOUT if silent else LOOK_EVERY)
                if message is not None:
                    self._heard(message)
                elif silent:
                    raise TimeoutError
                else:
                    await channel.ping()
                silent = message is None

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            # What was published before is lost to us, so every loop looks once.
            for name in self.listeners:
                if not name.startswith("periodic:"):
                    self.wake(name)
        if message["type"] != "message":
            return
        try:
            said = json.loads(message["data"])
            names = [] if said["from"] == self._me else [str(name) for name in said["names"]]
        except (ValueError, TypeError, KeyError):
            log.warning("bells.not_understood")
            return
        for name in names:
            self.wake(name)


@asynccontextmanager
async def open_bells(settings: RedisSettings | None, in_process: bool) -> AsyncIterator[Bells]:
    """Bells that ring through the Redis of `settings`, whether or not it is there; without settings only here.

    `in_process`: nobody else rings, so the worker of this process need not listen to what others publish.
    """
    bells = Bells(settings, in_process)
    if settings is None:
        yield bells
        return
    sending = asyncio.create_task(bells.send_forever(settings), name="bells")
    try:
        yield bells
    finally:
        await bells.close(sending)


@dataclass(frozen=True)
class Periodic:
    """Work to be done every so often, by some worker; twice at once does no harm. `name` is unique."""

    name: str
    every: timedelta
    run: Callable[[], Awaitable[None]]


async def fan_out(context: dict[str, Any]) -> None:
    """arq job: events wait to be fanned out."""
    context["bells"].wake("fan_out")


async def deliver(context: dict[str, Any], route: str) -> None:
    """arq job: deliveries of a route are due."""
    context["bells"].wake(f"deliver:{route}")


async def periodic(context: dict[str, Any], name: str) -> None:
    """arq job: periodic work is due."""
    context["bells"].wake(f"periodic:{name}")


async def forget_orphans(context: dict[str, Any]) -> None:
    """Before arq's worker starts: a job that a former one left "in progress" would be skipped for seconds."""
    keys = [in_progress_key_prefix + name for name in context["bells"].listeners]
    if keys:
        await context["redis"].delete(*keys)


async def run_worker(bells: Bells, work: Sequence[Periodic], stopping: asyncio.Event) -> None:
    """Run arq's worker, the subscription and periodic work until `stopping`. Redis may come and go meanwhile."""
    running: list[Coroutine[Any, Any, None]] = [_periodically(bells, one) for one in work]
    if bells.settings is not None:
        running.append(_supervise(bells, bells.settings))
        if not bells.in_process:
            running.append(bells.subscribe_forever(bells.settings))
    tasks = [asyncio.create_task(one) for one in running]
    try:
        await stopping.wait()
    finally:
        await end(tasks)


async def _periodically(bells: Bells, work: Periodic) -> None:
    """Every period, the first time at once, hand the job out; do the work whenever the job comes here.

    One worker of many gets it. While Redis is away each does it; and where no job came for two periods it is done
    here too, so that nothing that happens to Redis or arq keeps it from being done.
    """
    bell = f"periodic:{work.name}"
    turn = bells.listen(bell)
    without = 0
    while True:
        until = asyncio.get_running_loop().time() + work.every.total_seconds()
        if without < 2:
            bells.hand_out(bell)
        else:
            bells.wake(bell)
        without += 1
        while await _rung(turn, until):
            turn.clear()
            without = 0
            await _run(work)


async def _rung(turn: asyncio.Event, until: float) -> bool:
    try:
        async with asyncio.timeout_at(until):
            return await turn.wait()
    except TimeoutError:
        return False


async def _run(work: Periodic) -> None:
    try:
        await work.run()
    except HubError as trouble:
        log.warning("periodic.waiting", work=work.name, reason=str(trouble))
    except Exception:
        log.exception("periodic.fault", work=work.name)


async def _supervise(bells: Bells, settings: RedisSettings) -> None:
    """Run arq's worker, which ends whenever Redis fails it, again and again."""
    pause, said = 0.0, ""
    while True:
        since = time.monotonic()
        fault = await _work(bells, settings)
        if fault and fault != said:
            log.warning("arq.fault", reason=fault, next="its worker is started again")
        said = fault
        pause = 0.0 if time.monotonic() - since > LIVED else min(MOST_BACKOFF, 2 * pause + 0.1)
        await asyncio.sleep(pause)


async def _work(bells: Bells, settings: RedisSettings) -> str:
    """One life of arq's worker. Returns what ended it, or nothing where that was Redis."""
    redis = client(settings)
    # arq's types ask for a coroutine function of any arguments, which no one function is.
    functions: list[Any] = [fan_out, deliver, periodic]
    on_startup: Any = forget_orphans
    worker = Worker(
        functions,
        queue_name=QUEUE,
        redis_pool=redis,
        burst=False,
        on_startup=on_startup,
        handle_signals=False,
        max_jobs=MAX_JOBS,
        job_timeout=JOB_TIMEOUT,
        keep_result=0,
        poll_delay=POLL_DELAY,
        queue_read_limit=READ_LIMIT,
        max_tries=UNLIMITED_TRIES,
        ctx={"bells": bells},
        job_serializer=to_json,
        job_deserializer=json.loads,
    )
    working = asyncio.create_task(worker.main(), name="arq")
    try:
        await asyncio.wait({working})
        fault = working.exception()
        return "" if fault is None or isinstance(fault, FAILURES) else repr(fault)
    finally:
        await end([working], again=0.1)
        jobs = list(worker.tasks.values())
        if jobs:
            # They take no time, unless Redis hangs.
            await asyncio.wait(jobs, timeout=SOCKET_TIMEOUT)
        await end(jobs)
        await hang_up(redis)
