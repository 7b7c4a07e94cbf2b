"""Bells and periodic work over a real Valkey that is away, killed, paused, emptied and lied to.

Two sets of bells that are both `in_process` hear nothing of each other's publications: what passes between them
there, passed through an arq job.
"""

import asyncio
import gc
import json
import os
import pickle
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from arq.connections import RedisSettings
from structlog.testing import capture_logs

from hub.errors import ConfigError, Unavailable
from hub.jobs import JOBS_PACE, PACE, QUEUE, Bells, Periodic, open_bells, run_worker, settings_of
from tests.servers import PATIENCE, ValkeyServer, eventually, free_port

RINGER = """\
import asyncio, sys
import hub.jobs
from hub.jobs import open_bells, settings_of

# Which is given up after 0.2 s, as it should be, and would be lost on a busy machine.
hub.jobs.SEND_WITHIN = 20

async def main():
    async with open_bells(settings_of(sys.stdin.readline().strip()), in_process=False) as bells:
        bells.ring("replay")

asyncio.run(main())
"""
NOWHERE = RedisSettings(port=1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Redis refuses or is there, and never hangs: it is not taken for away because this process stood still."""
    for name in ("SEND_WITHIN", "PROBE_WITHIN", "SOCKET_TIMEOUT"):
        monkeypatch.setattr(f"hub.jobs.{name}", PATIENCE)


@asynccontextmanager
async def at_work(bells: Bells, *work: Periodic) -> AsyncIterator[None]:
    """arq's worker and all that belongs to it run meanwhile, and end by themselves."""
    stopping = asyncio.Event()
    running = asyncio.create_task(run_worker(bells, work, stopping))
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(PATIENCE):
            await running


async def arrives(ringing: Bells, name: str, heard: asyncio.Event) -> None:
    """Ring until it is heard elsewhere."""
    heard.clear()

    def rings() -> bool:
        ringing.ring(name)
        return heard.is_set()

    await eventually(rings, message=f"{name} is not heard")


def calls(server: ValkeyServer, command: str) -> int:
    """How often the server was given a command since it started."""
    with server.client() as client:
        stats: dict[str, dict[str, int]] = client.info("commandstats")
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]


def subscribers(client: redis.Redis) -> set[str]:
    """The connections that are subscribed to something."""
    found: Any = client.client_list(_type="pubsub")
    return {str(one["id"]) for one in found}


def events(logs: Sequence[Any]) -> list[str]:
    return [line["event"] for line in logs]


async def test_a_ring_wakes_its_own_process_at_once_whether_or_not_redis_is_there() -> None:
    async with open_bells(NOWHERE, in_process=True) as bells:
        fan_out, other = bells.listen("fan_out"), bells.listen("deliver:other")
        bells.ring("fan_out")
        assert fan_out.is_set()
        assert not other.is_set()
        assert bells.listen("fan_out") is fan_out


async def test_bells_without_redis_ring_here_only_and_do_periodic_work() -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async with open_bells(None, in_process=True) as bells, at_work(bells, Periodic("w", timedelta(hours=1), work)):
        bells.ring("fan_out", "deliver:a")
        assert bells.listen("fan_out").is_set() is False
        await eventually(done.is_set)
        assert bells.away_since is None


@pytest.mark.usefixtures("patient")
async def test_a_publication_wakes_the_loops_of_another_process(valkey_server: ValkeyServer) -> None:
    async with (
        open_bells(valkey_server.settings, in_process=False) as ringing,
        open_bells(valkey_server.settings, in_process=False) as hearing,
        at_work(hearing),
    ):
        heard = hearing.listen("replay")
        await arrives(ringing, "replay", heard)
        took = []
        for _ in range(20):
            heard.clear()
            ringing.ring("replay")
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                await heard.wait()
            took.append(time.monotonic() - began)
        # Whatever looks now and then only takes half a second each time; the slow ones here are the machine's.
        assert sorted(took)[5] < 0.2


async def test_a_bell_rung_last_thing_still_reaches_other_processes(valkey_server: ValkeyServer) -> None:
    async with open_bells(valkey_server.settings, in_process=False) as bells, at_work(bells):
        heard = bells.listen("replay")
        with valkey_server.client() as client:
            await eventually(lambda: client.pubsub_numsub("litekart-hub:bells")[0][1] == 1)
        heard.clear()
        ringer = await asyncio.create_subprocess_exec(sys.executable, "-c", RINGER, stdin=asyncio.subprocess.PIPE)
        await ringer.communicate(valkey_server.url.encode())
        assert ringer.returncode == 0
        async with asyncio.timeout(PATIENCE):
            await heard.wait()


@pytest.mark.usefixtures("patient")
async def test_an_arq_job_of_a_fixed_id_wakes_a_worker(valkey_server: ValkeyServer) -> None:
    async with (
        open_bells(valkey_server.settings, in_process=True) as ringing,
        open_bells(valkey_server.settings, in_process=True) as hearing,
    ):
        fan_out, deliver = hearing.listen("fan_out"), hearing.listen("deliver:big-orders")
        ringing.ring("fan_out", "deliver:big-orders", "replay")
        with valkey_server.client() as client:
            await eventually(lambda: client.zcard(QUEUE) == 2)
            assert set(client.zrange(QUEUE, 0, -1)) == {b"fan_out", b"deliver:big-orders"}
            job = json.loads(client.get("arq:job:deliver:big-orders"))
            assert (job["f"], job["a"]) == ("deliver", ["big-orders"])
            async with at_work(hearing):
                await eventually(fan_out.is_set)
                await eventually(deliver.is_set)
                await eventually(lambda: client.zcard(QUEUE) == 0)
                assert not client.keys("arq:result:*")


@pytest.mark.usefixtures("patient")
async def test_ten_thousand_rings_are_a_handful_of_commands(valkey_server: ValkeyServer) -> None:
    async with open_bells(valkey_server.settings, in_process=False) as bells, at_work(bells):
        before = {command: calls(valkey_server, command) for command in ("zadd", "publish")}
        began = time.monotonic()
        for number in range(10_000):
            bells.ring("fan_out", f"deliver:{number % 3}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert time.monotonic() - began < 10
        with valkey_server.client() as client:
            await eventually(lambda: calls(valkey_server, "zadd") - before["zadd"] >= 4)
            await eventually(lambda: client.zcard(QUEUE) == 0)
        sent = {command: calls(valkey_server, command) - before[command] for command in before}
        seconds = time.monotonic() - began
        assert sent["publish"] <= seconds / PACE + 2
        # Four names a round at most.
        assert sent["zadd"] <= 4 * (seconds / JOBS_PACE + 2)


@pytest.mark.usefixtures("patient")
async def test_redis_away_at_the_start_is_said_once_and_its_return_once(valkey_server: ValkeyServer) -> None:
    valkey_server.kill()
    with capture_logs() as logs:
        async with (
            open_bells(valkey_server.settings, in_process=True) as ringing,
            open_bells(valkey_server.settings, in_process=True) as hearing,
            at_work(hearing),
        ):
            heard = hearing.listen("fan_out")
            began = time.monotonic()
            for _ in range(1000):
                ringing.ring("fan_out")
            assert time.monotonic() - began < 5
            await eventually(lambda: ringing.away_since and hearing.away_since)
            since = ringing.away_since
            await eventually(lambda: len([line for line in logs if line["event"] == "bells.redis_away"]) == 2)
            valkey_server.start()
            # What was rung while it was away arrives without another ring.
            await eventually(heard.is_set)
            await eventually(lambda: ringing.away_since is None and hearing.away_since is None)
            assert since is not None
            assert since.utcoffset() == timedelta()
    assert sorted(events(logs)) == ["bells.redis_away"] * 2 + ["bells.redis_back"] * 2


@pytest.mark.parametrize("blow", ["killed", "paused", "emptied"])
async def test_the_worker_recovers_by_itself(valkey_server: ValkeyServer, blow: str) -> None:
    async with (
        open_bells(valkey_server.settings, in_process=True) as ringing,
        open_bells(valkey_server.settings, in_process=True) as hearing,
        at_work(hearing),
    ):
        heard = hearing.listen("deliver:r")
        await arrives(ringing, "deliver:r", heard)
        ringing.ring("deliver:r")
        if blow == "emptied":
            valkey_server.flush()
        else:
            getattr(valkey_server, {"killed": "kill", "paused": "pause"}[blow])()
            ringing.ring("deliver:r")
            await eventually(lambda: ringing.away_since)
            valkey_server.start() if blow == "killed" else valkey_server.resume()
        await arrives(ringing, "deliver:r", heard)


async def test_the_subscription_recovers_by_itself(valkey_server: ValkeyServer) -> None:
    async with (
        open_bells(valkey_server.settings, in_process=False) as ringing,
        open_bells(valkey_server.settings, in_process=False) as hearing,
        at_work(hearing),
    ):
        heard = hearing.listen("replay")
        await arrives(ringing, "replay", heard)
        valkey_server.kill()
        ringing.ring("replay")
        await eventually(lambda: ringing.away_since is not None)
        heard.clear()
        valkey_server.start()
        # Nobody rings: what was missed meanwhile is made good by waking everybody.
        await eventually(heard.is_set)
        await arrives(ringing, "replay", heard)


async def test_a_redis_that_hangs_holds_nothing_up_and_piles_nothing_up(valkey_server: ValkeyServer) -> None:
    async with open_bells(valkey_server.settings, in_process=False) as bells, at_work(bells):
        await arrives(bells, "deliver:r", bells.listen("deliver:r"))
        valkey_server.pause()
        bells.ring("deliver:r")
        await eventually(lambda: bells.away_since)
        tasks, files = len(asyncio.all_tasks()), len(os.listdir("/dev/fd"))
        longest = 0.0
        until = time.monotonic() + 3
        while time.monotonic() < until:
            began = time.monotonic()
            bells.ring("fan_out", "deliver:r")
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.001)
        # What waited for Redis would wait for ever; the rest is how long this process may stand still itself.
        assert longest < 2
        assert len(asyncio.all_tasks()) <= tasks + 3
        assert len(os.listdir("/dev/fd")) <= files + 5
        began = time.monotonic()
    # Everything ended while Redis still hung.
    assert time.monotonic() - began < 30


async def test_stopping_leaves_no_task_and_no_connection(valkey_server: ValkeyServer) -> None:
    tasks = asyncio.all_tasks()
    async with open_bells(valkey_server.settings, in_process=False) as bells, at_work(bells):
        await arrives(bells, "fan_out", bells.listen("fan_out"))
    assert asyncio.all_tasks() == tasks
    with valkey_server.client() as client:
        await eventually(lambda: len(client.client_list()) == 1)


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function Redis.__del__:pytest.PytestUnraisableExceptionWarning"
)
async def test_stopping_at_any_moment_takes_no_time(valkey_server: ValkeyServer) -> None:
    """Some cancellations are swallowed on the way: then nothing ended any more.

    A pipeline of arq's that is cancelled while it gives its connection back complains when it is collected, although
    the connection is closed with its pool: here, and not in the midst of another test.
    """
    for number in range(60):
        async with open_bells(valkey_server.settings, in_process=False) as bells, at_work(bells):
            bells.ring("fan_out", "deliver:r")
            await asyncio.sleep(number * 0.0003)
            began = time.monotonic()
        assert time.monotonic() - began < 30
    gc.collect()


@pytest.mark.usefixtures("patient")
async def test_a_full_redis_is_as_good_as_away(valkey_server: ValkeyServer) -> None:
    with valkey_server.client() as client, capture_logs() as logs:
        client.config_set("maxmemory", 1)
        try:
            async with open_bells(valkey_server.settings, in_process=True) as bells:
                bells.ring("fan_out")
                await eventually(lambda: bells.away_since)
                client.config_set("maxmemory", 0)
                await eventually(lambda: client.zcard(QUEUE) == 1)
        finally:
            client.config_set("maxmemory", 0)
    assert events(logs) == ["bells.redis_away", "bells.redis_back"]
    assert "OutOfMemory" in logs[0]["reason"]


@pytest.mark.usefixtures("patient")
async def test_a_wrong_password_is_a_reason_without_the_password(valkey_server: ValkeyServer) -> None:
    settings = settings_of(valkey_server.url.replace(valkey_server.password, "wrong-but-secret"))
    with capture_logs() as logs:
        async with open_bells(settings, in_process=True) as bells, at_work(bells):
            await eventually(lambda: bells.away_since)
    assert events(logs) == ["bells.redis_away"]
    assert "invalid username-password" in logs[0]["reason"]
    assert "secret" not in str(logs)


class Planted:
    """Unpickling it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


async def test_a_planted_pickle_is_not_executed(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """S34: it is thrown away."""
    trap = tmp_path / "executed"
    with valkey_server.client() as client:
        client.set("arq:job:x", pickle.dumps(Planted(str(trap))))
        client.zadd(QUEUE, {"x": 1})
        async with open_bells(valkey_server.settings, in_process=True) as bells, at_work(bells):
            await eventually(lambda: client.zcard(QUEUE) == 0)
            await arrives(bells, "fan_out", bells.listen("fan_out"))
        assert not client.exists("arq:job:x")
    assert not trap.exists()


@pytest.mark.parametrize(
    "planted",
    [b"{}", b"[]", b'{"t":1,"f":"os.system","a":["id"],"k":{},"et":1}', b'{"t":1,"f":"deliver","a":[],"k":{},"et":1}'],
)
async def test_a_planted_job_that_is_none_of_ours_is_thrown_away(valkey_server: ValkeyServer, planted: bytes) -> None:
    with valkey_server.client() as client:
        client.set("arq:job:x", planted)
        client.zadd(QUEUE, {"x": 1})
        async with (
            open_bells(valkey_server.settings, in_process=True) as ringing,
            open_bells(valkey_server.settings, in_process=True) as hearing,
            at_work(hearing),
        ):
            await eventually(lambda: client.zcard(QUEUE) == 0)
            await arrives(ringing, "fan_out", hearing.listen("fan_out"))


@pytest.mark.usefixtures("patient")
async def test_a_publication_that_makes_no_sense_is_passed_over(valkey_server: ValkeyServer) -> None:
    async with (
        open_bells(valkey_server.settings, in_process=False) as ringing,
        open_bells(valkey_server.settings, in_process=False) as hearing,
        at_work(hearing),
    ):
        heard = hearing.listen("replay")
        await arrives(ringing, "replay", heard)
        with valkey_server.client() as client, capture_logs() as logs:
            subscribed = subscribers(client)
            for nonsense in (b"\xff", b"[]", b"1", b'{"from": "x"}', b'{"from": "x", "names": 1}'):
                assert client.publish("litekart-hub:bells", nonsense) == 1
            await eventually(lambda: events(logs) == ["bells.not_understood"] * 5)
            await arrives(ringing, "replay", heard)
            assert subscribers(client) == subscribed, "it subscribed anew"


async def test_a_job_that_a_killed_worker_left_in_progress_runs_at_the_next_start(valkey_server: ValkeyServer) -> None:
    with valkey_server.client() as client:
        client.set("arq:in-progress:deliver:r", b"1", ex=300)
        async with (
            open_bells(valkey_server.settings, in_process=True) as ringing,
            open_bells(valkey_server.settings, in_process=True) as hearing,
        ):
            heard = hearing.listen("deliver:r")
            async with at_work(hearing):
                await arrives(ringing, "deliver:r", heard)


@pytest.mark.usefixtures("patient")
async def test_one_worker_of_two_does_periodic_work(valkey_server: ValkeyServer) -> None:
    done: list[str] = []

    def work(who: str, hours: int) -> Periodic:
        async def note() -> None:
            done.append(who)

        return Periodic("note", timedelta(hours=hours), note)

    async with (
        open_bells(valkey_server.settings, in_process=False) as one,
        open_bells(valkey_server.settings, in_process=False) as two,
        at_work(one, work("one", 1)),
    ):
        await eventually(lambda: done == ["one"])
        async with at_work(two, work("two", 1)):
            await eventually(lambda: len(done) == 2)
            with valkey_server.client() as client:
                await eventually(lambda: client.zcard(QUEUE) == 0)
    assert len(done) == 2


@pytest.mark.parametrize("state", ["away", "hung"])
async def test_periodic_work_goes_on_without_redis(valkey_server: ValkeyServer, state: str) -> None:
    runs: list[float] = []

    async def work() -> None:
        runs.append(time.monotonic())

    valkey_server.kill() if state == "away" else valkey_server.pause()
    async with (
        open_bells(valkey_server.settings, in_process=True) as bells,
        at_work(bells, Periodic("work", timedelta(seconds=0.2), work)),
    ):
        await eventually(lambda: len(runs) >= 3)


@pytest.mark.usefixtures("patient")
async def test_periodic_work_is_done_though_arq_cannot(valkey_server: ValkeyServer) -> None:
    """An id that is no text ends arq's worker at each look: nothing of the hub may hang by it."""
    runs: list[float] = []

    async def work() -> None:
        runs.append(time.monotonic())

    with valkey_server.client() as client, capture_logs() as logs:
        client.zadd(QUEUE, {b"\xff": 1})
        async with (
            open_bells(valkey_server.settings, in_process=True) as bells,
            at_work(bells, Periodic("work", timedelta(seconds=0.3), work)),
        ):
            await eventually(lambda: len(runs) >= 2)
    assert events(logs) == ["arq.fault"]


async def test_periodic_work_that_fails_is_logged_and_done_again() -> None:
    troubles = [Unavailable("the disk is full"), KeyError("a mistake")]
    done = asyncio.Event()

    async def work() -> None:
        if troubles:
            raise troubles.pop(0)
        done.set()

    with capture_logs() as logs:
        async with (
            open_bells(None, in_process=True) as bells,
            at_work(bells, Periodic("work", timedelta(seconds=0.01), work)),
        ):
            await eventually(done.is_set)
    assert events(logs) == ["periodic.waiting", "periodic.fault"]
    assert logs[0]["reason"] == "the disk is full"


def test_a_redis_url_is_read_as_it_is_meant() -> None:
    settings = settings_of("rediss://us%40er:p%2Fw%3A@cache.example:6380/2")
    assert (settings.username, settings.password) == ("us@er", "p/w:")
    assert (settings.host, settings.port, settings.database) == ("cache.example", 6380, 2)
    assert settings.ssl
    assert settings.ssl_check_hostname
    assert settings_of("unix:///run/redis.sock?db=1").unix_socket_path == "/run/redis.sock"


@pytest.mark.parametrize("url", ["", "cache.example", "http://cache.example", "redis://cache:port", "redis://h/zero"])
def test_a_redis_url_that_is_none_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="redis: not a usable URL"):
        settings_of(url)


async def test_bells_at_a_port_that_nobody_has(valkey_server: ValkeyServer) -> None:
    settings = settings_of(f"redis://127.0.0.1:{free_port()}/0")
    async with open_bells(settings, in_process=False) as bells, at_work(bells):
        await eventually(lambda: bells.away_since)
