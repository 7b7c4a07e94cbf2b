"""What was acknowledged is delivered, once each and under one key, whatever is killed meanwhile."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from hub.testing import EVENT_TYPES, SlackServer
from hub.testing.smtp import MailServer
from tests.e2e.ledger import PATIENCE, Destination, Load, balance
from tests.hubs import HubProcess, cluster, config_of, hub_process, route, write_config
from tests.servers import ValkeyServer, eventually, free_port
from tests.whole import at_length

SENDER = "shop@example.test"
# Whom nobody answers is not given up before a hub is killed meanwhile, and a new attempt does not overtake the news
# that the client of the one before has hung up.
PATIENT = {"timeout": "8s", "retry": {"schedule": ["1s", "1s", "2s", "2s", "2s", "2s"]}}
# The one reason for a 503 that is the machine's fault alone.
SLOW = {"more than 4 seconds of work wait to be written"}


@dataclass
class Counterparts:
    """Where events go: two sinks that take all, and Slack and a mailbox for those that are to be `shown`."""

    first: Destination
    second: Destination
    slack: SlackServer
    mail: MailServer

    def routes(self) -> dict[str, Any]:
        mail = {"host": "127.0.0.1", "port": self.mail.port, "security": "none", "from": SENDER, "to": [SENDER]}
        shown = {"when": "data.shown | default(false)"}
        return {
            "first": route(self.first.url, **PATIENT),
            "second": route(self.second.url, **PATIENT),
            "slack": shown | {"connector": "slack", "settings": {"webhook_url": self.slack.webhook_url}},
            "mail": shown | {"connector": "email", "settings": mail},
        }


@pytest.fixture
async def counterparts() -> AsyncIterator[Counterparts]:
    async with Destination() as first, Destination() as second, SlackServer() as slack, MailServer() as mail:
        yield Counterparts(first, second, slack, mail)


async def every_type_arrives(load: Load, counterparts: Counterparts) -> None:
    """One event of each type, from the signed post to each kind of counterpart."""
    markers = [await load.post_one(-number, type, shown=True) for number, type in enumerate(EVENT_TYPES, 1)]
    await counterparts.first.took(markers)
    bodies = [request.json() for request in counterparts.first.taken]
    messages = await counterparts.slack.messages.wait(len(EVENT_TYPES), PATIENCE)
    mails = await counterparts.mail.wait(len(EVENT_TYPES), PATIENCE)
    assert {body["data"]["marker"]: body["type"] for body in bodies} == dict(zip(markers, EVENT_TYPES, strict=True))
    footers = "\n".join(message.blocks[-1]["elements"][0]["text"] for message in messages)
    assert all(footers.count(f" · {type} · ") == 1 for type in EVENT_TYPES), footers
    assert sorted(mail.message["X-Litekart-Event-Type"] for mail in mails) == sorted(EVENT_TYPES)
    assert {mail.message["X-Litekart-Event"] for mail in mails} == {body["id"] for body in bodies}


async def leave_mid_delivery(victim: HubProcess, destination: Destination) -> None:
    """kill -9 while the destination has requests that it has not answered."""
    destination.hanging = True
    await destination.hung.wait(len(destination.hung) + 3, PATIENCE)
    await victim.kill()
    destination.hanging = False


def assert_nothing_refused(load: Load, *receivers: HubProcess) -> None:
    """Whatever was killed, storage was there: each event had its 200, and a 503 only where commits took seconds."""
    refused = [line["reason"] for hub in receivers for line in hub.lines if line.get("event") == "event.unavailable"]
    assert set(refused) <= SLOW
    assert load.answers[200] == len(load.sent)
    assert load.answers[503] <= len(refused)


def valkey_pid(folder: Path) -> int:
    return int(json.loads((folder / "data" / "valkey.json").read_text())["pid"])


async def test_a_hub_killed_again_and_again_loses_nothing(tmp_path: Path, counterparts: Counterparts) -> None:
    port, first, second = free_port(), counterparts.first, counterparts.second
    config = write_config(tmp_path, config_of(counterparts.routes(), server={"port": port}))
    async with AsyncExitStack() as stack:
        began = time.monotonic()
        hub = await stack.enter_async_context(hub_process(config, "up"))
        started = [hub]
        first_start = time.monotonic() - began
        load = await stack.enter_async_context(Load([f"http://127.0.0.1:{port}"]))
        await every_type_arrives(load, counterparts)
        running = asyncio.create_task(load.run())

        await load.more(50)
        await leave_mid_delivery(hub, first)
        began = time.monotonic()
        hub = await stack.enter_async_context(hub_process(config, "up"))
        started.append(hub)
        # At once: it waits for no lease, no lock and no leftover of the one before.
        assert time.monotonic() - began < 3 * first_start + 5

        await load.more(50)
        pid = valkey_pid(tmp_path)
        # It keeps nothing on disk, so this is FLUSHALL too.
        os.kill(pid, signal.SIGKILL)
        await hub.said("valkey.ended")
        await load.more(50)
        await eventually(lambda: valkey_pid(tmp_path) != pid, PATIENCE)

        os.kill(valkey_pid(tmp_path), signal.SIGKILL)
        await leave_mid_delivery(hub, second)
        started.append(await stack.enter_async_context(hub_process(config, "up")))
        await load.more(50)
        load.enough.set()
        await running

        for destination in (first, second):
            await destination.took(set(load.acked))
            balance(load, destination).assert_even()
        assert_nothing_refused(load, *started)
        assert load.indeterminate, "no post met a hub that was away, so nothing was tried"


async def test_an_embedded_valkey_emptied_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """FLUSHALL on its own socket, each time with something in it, while events come in and go out."""
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(Destination()) for _ in range(2)]
        config = write_config(tmp_path, config_of({"first": route(first.url), "second": route(second.url)}))
        told = ("tests.e2e.told", str(tmp_path / "valkey"))
        hub = await stack.enter_async_context(hub_process(config, "up", module=told))
        pid, valkey = valkey_pid(tmp_path), redis.Redis.from_url((tmp_path / "valkey").read_text())
        stack.callback(valkey.close)
        load = await stack.enter_async_context(Load([hub.url]))
        running = asyncio.create_task(load.run())
        for _ in range(5):
            await load.more(20)
            await eventually(valkey.dbsize, PATIENCE)
            valkey.flushall()
        await load.more(20)
        load.enough.set()
        await running

        for destination in (first, second):
            await destination.took(set(load.acked))
            balance(load, destination).assert_even()
            assert set(destination.taken_markers.values()) == {1}
        assert valkey_pid(tmp_path) == pid
        assert_nothing_refused(load, hub)
        assert not load.indeterminate


@at_length
async def test_a_killed_worker_and_a_lost_redis_lose_nothing(
    tmp_path: Path, postgres_url: str, valkey_server: ValkeyServer, counterparts: Counterparts
) -> None:
    first, second = counterparts.first, counterparts.second
    servers = {"database": postgres_url, "redis": valkey_server.url}
    shared = config_of(counterparts.routes(), worker={"lease_margin": "4s"}, **servers)
    config = write_config(tmp_path, shared)
    async with AsyncExitStack() as stack:
        hubs = await stack.enter_async_context(cluster(config))
        load = await stack.enter_async_context(Load(hubs.urls))
        await every_type_arrives(load, counterparts)
        running = asyncio.create_task(load.run())

        await load.more(50)
        await leave_mid_delivery(hubs.workers[0], first)
        await load.more(30)
        valkey_server.flush()
        await load.more(30)
        valkey_server.kill()
        await asyncio.gather(*(hub.said("bells.redis_away") for hub in (*hubs.receivers, hubs.workers[1])))
        meanwhile = set(load.acked)
        await load.more(50)
        await first.took(meanwhile)
        valkey_server.start()
        await asyncio.gather(*(hub.said("bells.redis_back") for hub in (*hubs.receivers, hubs.workers[1])))
        await load.more(30)
        valkey_server.flush()
        await load.more(30)
        assert not load.indeterminate

        await hubs.receivers[0].kill()
        await load.more(30)
        second.hanging = True
        await second.hung.wait(len(second.hung) + 3, PATIENCE)
        load.enough.set()
        await running
        # Now nobody is left, and what the second has not answered is still to come.
        await asyncio.gather(hubs.receivers[1].kill(), hubs.workers[1].kill())
        second.hanging = False
        assert second.taken_markers.keys() < load.acked.keys()
        await stack.enter_async_context(hub_process(config, "work"))

        for destination in (first, second):
            await destination.took(set(load.acked))
            balance(load, destination).assert_even()
        assert_nothing_refused(load, *hubs.receivers)
