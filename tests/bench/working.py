"""The processes of the delivering rows: `python -m tests.bench.working TASK --config FILE --count N …`.

TASK is `seed` (fills the database with events and fans them out), `worker` (one worker delivers them all) or `bare`
(the same calls of the same client in a loop that keeps nothing). Each says what it did in its log, in seconds.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import structlog
import uvloop

from connectors.webhook import Webhook, event_as_json
from hub.client import open_client
from hub.clock import new_id
from hub.config import Config, load_config
from hub.event import parse
from hub.fan_out import fan_out_waiting
from hub.guard import Guard
from hub.logs import configure_logs
from hub.receive import Incoming, new_event
from hub.redaction import redactor
from hub.runtime import Hub
from hub.store.events import keep_events
from hub.testing.samples import event_of
from hub.worker import running
from tests.bench.load import bodies
from tests.bench.serving import bare_hub, collect_rarely

# Each look costs the worker half a millisecond: fifty a second were 4 % of what is measured.
LOOK_EVERY = 0.05
OPEN = "SELECT 1 FROM delivery WHERE route = 'sink' AND status = 'pending' LIMIT 1"
log = structlog.get_logger()


class Stopwatch:
    """`seconds` and `cpu_seconds` (of this process) since it was made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        seconds, cpu_seconds = self._begun
        return {"seconds": time.perf_counter() - seconds, "cpu_seconds": time.process_time() - cpu_seconds}


async def seed(hub: Hub, count: int) -> None:
    """`count` events as receiving keeps them, and their deliveries as fan-out makes them."""
    headers = [(b"content-type", b"application/json"), (b"user-agent", b"Litekart-Webhooks/1.0")]
    for body in itertools.islice(bodies(), count):
        event = new_event(hub, Incoming("main", body, headers, None), parse(body), "00000000")
        last = hub.writer.submit(keep_events, event)
    await last
    watch = Stopwatch()
    while await fan_out_waiting(hub):
        pass
    log.info("bench.seeded", **watch.read())


async def work(hub: Hub, begin_at: float) -> None:
    """Deliver all there is, from that moment (since 1970) on; the seconds until every outcome is recorded."""
    collect_rarely()
    if begin_at:
        log.info("bench.ready", early=begin_at - time.time())
        await asyncio.sleep(begin_at - time.time())
    watch = Stopwatch()
    async with running(hub):
        # The database alone knows when the last outcome is written.
        while await hub.database.read(lambda connection: connection.exec_driver_sql(OPEN).first()):  # noqa: ASYNC110 - only it can tell
            await asyncio.sleep(LOOK_EVERY)
        log.info("bench.delivered", **watch.read())


def calls(count: int) -> Iterator[tuple[bytes, httpx.Headers]]:
    """What the webhook connector sends: bodies and headers like those of the deliveries."""
    for body in itertools.islice(bodies(), count):
        key = new_id("dlv")
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "webhook-id": key}
        yield event_as_json(event_of(parse(body).document)), httpx.Headers(headers)


async def call_all(config: Config, count: int, at_once: int) -> None:
    """The same calls of the same client, `at_once` at a time."""
    settings = config.routes["sink"].settings
    assert isinstance(settings, Webhook.Settings)
    url = httpx.URL(settings.url.reveal())
    prepared = iter(list(calls(count)))
    collect_rarely()

    async def caller(client: httpx.AsyncClient) -> None:
        for body, headers in prepared:
            response = await client.request("POST", url, content=body, headers=headers)
            response.raise_for_status()

    async with open_client(Guard(config.network.allow), timeout=15) as client:
        watch = Stopwatch()
        await asyncio.gather(*(caller(client) for _ in range(at_once)))
        log.info("bench.called", **watch.read())


async def main(task: str, config: Config, count: int, at_once: int, begin_at: float) -> None:
    configure_logs(config.log.level, config.log.format, redactor(config.secrets()))
    if task == "bare":
        await call_all(config, count, at_once)
        return
    async with bare_hub(config) as hub:
        await (seed(hub, count) if task == "seed" else work(hub, begin_at))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=("seed", "worker", "bare"))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--begin-at", type=float, default=0.0)
    given = parser.parse_args()
    uvloop.run(main(given.task, load_config(given.config, {}), given.count, given.at_once, given.begin_at))
