"""The demo as a merchant runs it: a process of its own, read line by line, and nothing left when it ends."""

import asyncio
import contextlib
import io
import itertools
import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from hub.config import load_config
from hub.demo import folder as demo_folder
from hub.demo import play
from hub.demo.counterparts import Arrival, open_counterparts
from hub.demo.folder import fresh_secrets, throwaway_folder, usual_port, write_config
from hub.demo.ledger import Ledger
from hub.demo.screen import ROUTES, WIDEST, Answered, Screen
from hub.demo.shop import DemoShop
from hub.demo.story import ENDPOINT, MAIL, SLACK, first_scene, later, told
from hub.errors import CommandError
from hub.event import EVENT_TYPES, entity_of
from hub.testing.store import serving

DEMO = [sys.executable, "-m", "hub.cli", "demo"]
# Longer than the demo gives itself.
WITHIN = 120.0


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo makes its folder; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield Path(folder)


def environment(temporary: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "COLUMNS"}}
    return kept | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"} | more


def processes_in(temporary: Path) -> set[str]:
    """The command lines of all that runs below a folder: it inherits where temporary files go, or names it.

    Valkey's title stands where its environment stood.
    """
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(temporary) in command or f"TMPDIR={temporary}".encode() in (process / "environ").read_bytes():
                found.add(command)
    return found


def processes_end(temporary: Path) -> None:
    deadline = time.monotonic() + WITHIN
    while found := processes_in(temporary):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def nothing_is_left(temporary: Path) -> None:
    processes_end(temporary)
    assert files_in(temporary) == []


def files_in(temporary: Path, pattern: str = "*") -> list[Path]:
    return list(temporary.glob(pattern))


class Demo:
    """A demo that runs; its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, part: str) -> str:
        """Reads on to the first line that holds `part`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN):
            async for raw in self.process.stdout:
                self.lines.append(raw.decode().rstrip("\n"))
                if part in self.lines[-1]:
                    return self.lines[-1]
        raise AssertionError("\n".join([f"the demo did not say {part!r}:", *self.lines]))

    async def rest(self) -> int:
        """Reads to the end; the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN):
            self.lines += (await self.process.stdout.read()).decode().splitlines()
            return await self.process.wait()


@asynccontextmanager
async def running_demo(temporary: Path, *words: str) -> AsyncIterator[Demo]:
    process = await asyncio.create_subprocess_exec(
        *DEMO, *words, cwd=temporary, env=environment(temporary), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    demo = Demo(process)
    try:
        yield demo
    finally:
        if process.returncode is None:
            process.kill()
        await demo.rest()


def test_once_delivers_everything_and_leaves_nothing(temporary: Path) -> None:
    ended = subprocess.run(
        [*DEMO, "--once"], cwd=temporary, env=environment(temporary), capture_output=True, text=True, timeout=WITHIN
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for type in EVENT_TYPES:
        assert f" {type} " in ended.stdout
    failed = [line for line in ended.stdout.splitlines() if "503 unavailable" in line]
    assert ["attempt 1 failed" in failed[0], "attempt 2 failed" in failed[1]] == [True, True]
    key = failed[0].split("…")[1][:8]
    (taken,) = [line for line in ended.stdout.splitlines() if "attempt 3 taken" in line]
    assert [f"key …{key}" in line for line in (*failed, taken)] == [True] * 3
    assert "Slack     New order 1042 from Zoë Ångström: 179.70 EUR" in ended.stdout
    assert "Mail      New order 1043 from 李 雷: 17.40 EUR" in ended.stdout
    assert "9 events, 16 messages, 2 retries" in ended.stdout
    # What the webhook does not say, the hub asks for, and says so before the message.
    (placed, *_), (asked, *_), (mailed, *_) = (
        [place for place, line in enumerate(ended.stdout.splitlines()) if part in line]
        for part in ("#2 order.placed ", "#2   Store     is asked: GET /api/orders/", "#2   Mail ")
    )
    assert placed < asked < mailed
    assert "a duplicate: nothing is sent twice" in ended.stdout
    assert any(line.startswith("  http://127.0.0.1:") and "/login?token=" in line for line in ended.stdout.splitlines())
    assert max(cell_len(line) for line in ended.stdout.splitlines()) <= WIDEST
    assert "\x1b" not in ended.stdout
    nothing_is_left(temporary)


async def test_what_it_prints_can_be_pasted_and_ctrl_c_ends_it_in_good_order(temporary: Path) -> None:
    async with running_demo(temporary) as demo:
        await demo.until("Ctrl-C ends the demo")
        assert len([line for line in processes_in(temporary) if "hub.cli up" in line or "valkey-server" in line]) == 2
        curl = "\n".join(
            demo.lines[demo.lines.index(next(line for line in demo.lines if line.startswith("curl "))) :][:5]
        )
        (link,) = [line.strip() for line in demo.lines if "/login?token=" in line]
        assert "logs you in once" in await pasted(f"curl -s {shlex.quote(link)}")
        first, second = await pasted(curl), await pasted(curl)
        assert [json.loads(answer)["data"]["duplicate"] for answer in (first, second)] == [False, True]
        assert " you " in await demo.until("Slack     New order 2001: 250.00 EUR")
        commands = [line for line in demo.lines if "--config" in line]
        assert [line.split(" --config")[0].split("hub ")[1] for line in commands] == [
            "send order.placed", "events", "deliveries", "status",
        ]  # fmt: skip
        assert all(await asyncio.gather(*(pasted(command) for command in commands)))
        await demo.until("#10 ")
        demo.process.send_signal(signal.SIGINT)
        assert await demo.rest() == 0
        assert "Everything is stopped and removed." in demo.lines[-1]
    nothing_is_left(temporary)


async def pasted(line: str) -> str:
    """What a shell says to a line as it was printed; it must succeed."""
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await shell.communicate()
    assert shell.returncode == 0, f"{line}\n{out.decode()}\n{err.decode()}"
    return out.decode()


async def test_a_killed_demo_takes_its_processes_along_and_the_next_one_removes_its_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_demo(temporary) as demo:
        await demo.until("The hub listens on")
        assert len(processes_in(temporary)) >= 3
        demo.process.kill()
        await demo.rest()
    processes_end(temporary)
    (left,) = files_in(temporary)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with throwaway_folder() as fresh:
        assert files_in(temporary) == [fresh]
        assert fresh != left
        with throwaway_folder():
            assert fresh in files_in(temporary)
    assert files_in(temporary) == []


async def test_when_the_hub_dies_its_last_words_are_shown(temporary: Path) -> None:
    async with running_demo(temporary) as demo:
        await demo.until("The hub listens on")
        (note,) = files_in(temporary, "*/data/hub.json")
        os.kill(json.loads(note.read_text())["pid"], signal.SIGKILL)
        assert await demo.rest() == 1
        assert any("The demo failed: the hub ended by itself (SIGKILL)" in line for line in demo.lines)
        assert any("hub.listening" in line for line in demo.lines[-15:])
    nothing_is_left(temporary)


def test_a_hub_that_cannot_start_is_a_failure_with_a_reason(temporary: Path) -> None:
    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))

    ended = subprocess.run(
        [*DEMO, "--once"], cwd=temporary, env=environment(temporary), capture_output=True, text=True,
        timeout=WITHIN, preexec_fn=full_disk,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "The demo failed: the hub ended by itself (exit code 1)" in ended.stdout
    assert "Traceback" not in ended.stderr
    nothing_is_left(temporary)


def test_when_nobody_reads_on_it_ends_in_good_order(temporary: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"{shlex.join(DEMO)} --once | head -n 2"], cwd=temporary,
        env=environment(temporary, PYTHONIOENCODING="ascii"), capture_output=True, text=True, timeout=WITHIN,
    )  # fmt: skip
    assert "litekart-hub demo" in ended.stdout
    assert ended.stderr == ""
    nothing_is_left(temporary)


async def test_once_that_is_stopped_is_a_failure(temporary: Path) -> None:
    async with running_demo(temporary, "--once") as demo:
        await demo.until("The hub listens on")
        demo.process.send_signal(signal.SIGTERM)
        assert await demo.rest() == 1
        assert "The demo failed: it was stopped before all was delivered" in demo.lines
    nothing_is_left(temporary)


async def test_past_its_deadline_it_ends_with_a_reason(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(play, "DEADLINE", 0.2)
    shown = io.StringIO()
    assert await play.demo(True, Screen(Console(file=shown))) == 1
    assert "The demo failed: not all was done within" in shown.getvalue()
    nothing_is_left(temporary)


async def test_a_port_that_is_taken_meanwhile_is_left_to_its_owner(temporary: Path) -> None:
    known = fresh_secrets()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with (
            open_counterparts(lambda arrival: None, known.slack) as counterparts,
            play.started_hub(temporary, counterparts, "http://127.0.0.1:1", known, port) as hub,
        ):
            assert hub.url != f"http://127.0.0.1:{port}"
            assert await hub.deliveries() == []


def test_where_the_usual_port_is_taken_it_uses_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(demo_folder, "USUAL_PORT", port)
        assert usual_port() not in {0, port}
    assert usual_port() == port


async def test_its_secrets_stand_in_a_private_file_alone(temporary: Path) -> None:
    known = fresh_secrets()
    async with open_counterparts(lambda arrival: None, known.slack) as counterparts:
        config = write_config(temporary, counterparts, "http://127.0.0.1:1", known, 8600)
        loaded = load_config(config, {})
    private = temporary / ".env"
    assert private.stat().st_mode & 0o777 == 0o600
    for secret in (known.webhook, known.slack, known.signing, known.api_key):
        assert secret in private.read_text()
        assert secret not in config.read_text()
    assert loaded.warnings == []
    assert set(loaded.routes) == {route for route, _, _ in ROUTES}


def test_the_first_scene_has_every_type_and_the_rest_goes_on_with_fresh_ones() -> None:
    shop = DemoShop("key")
    assert {step.type for step in first_scene(shop)} == set(EVENT_TYPES)
    documents = list(itertools.islice(later(shop), 400))
    assert {document["event"] for document in documents} == set(EVENT_TYPES)
    placed = [entity_of(one["event"], one["data"]) for one in documents if one["event"] == "order.placed"]
    assert len(set(placed)) == len(placed) > 0


def test_a_store_that_tells_of_something_else_is_found_out() -> None:
    with pytest.raises(CommandError, match="the store told of nothing, and "):
        told(DemoShop("key"), "order.placed")


async def test_calls_are_shown_in_order_once_they_are_answered() -> None:
    shop = DemoShop("key")
    async with serving(shop) as url, httpx.AsyncClient(base_url=url, headers={"Authorization": "Bearer key"}) as http:
        for path in ("/api/orders", "/api/products"):
            await http.get(path)
        assert [call.path for call in shop.fresh_calls()] == ["/api/orders", "/api/products"]
        assert list(shop.fresh_calls()) == []


def played() -> Ledger:
    """A ledger of the first scene as it should end."""
    ledger = Ledger()
    for number, step in enumerate(first_scene(DemoShop("key")), 1):
        event_id = f"evt_{number}"
        ledger.answers[event_id] = Answered(number, step.type, "", 200, event_id, False, 0.0)
        ledger.expected[event_id] = step
        ledger.arrivals += [arrival(event_id, place) for place in sorted(step.reaches)]
        if step.type == "order.placed":
            ledger.asked.append(f"/api/orders/{step.document['data']['orderId']}")
    tried = ledger.arrivals.index(arrival("evt_2", ENDPOINT))
    failed = [arrival("evt_2", ENDPOINT, attempt, "503") for attempt in (1, 2)]
    ledger.arrivals[tried : tried + 1] = [*failed, arrival("evt_2", ENDPOINT, 3)]
    return ledger


def arrival(event_id: str, place: str, attempt: int = 1, refusal: str | None = None) -> Arrival:
    return Arrival(place, event_id, f"{event_id} {place}", attempt, "text", refusal, 1.0)


def test_a_scene_that_went_well_has_no_mistakes() -> None:
    ledger = played()
    assert ledger.mistakes(16) == []
    assert [(row.place, row.messages, row.retries) for row in ledger.rows()] == [
        (MAIL, 5, 0), (SLACK, 2, 0), (ENDPOINT, 9, 2),
    ]  # fmt: skip


def test_what_is_missing_doubled_or_misled_is_found_out() -> None:
    lost = played()
    lost.arrivals.remove(arrival("evt_2", SLACK))
    assert lost.mistakes(16) == ["#2 order.placed did not reach Slack"]
    doubled = played()
    doubled.arrivals.append(arrival("evt_1", MAIL))
    assert doubled.mistakes(16) == ["#1 customer.registered reached Mail 2 times"]
    unasked = played()
    unasked.asked.pop()
    assert unasked.mistakes(16) == ["#8 order.placed: the store was not asked for the order"]
    misled = played()
    misled.arrivals.append(arrival("evt_8", SLACK))
    assert misled.mistakes(16) == ["#8 order.placed reached Slack, which no route says"]
    assert played().mistakes(17) == ["the hub lists 17 deliveries, and 16 were meant"]


def test_failures_that_were_not_retried_under_one_key_are_found_out() -> None:
    never = played()
    never.arrivals = [one for one in never.arrivals if one.refusal is None]
    changed = played()
    changed.arrivals = [replace(one, key="another") if one.attempt == 2 else one for one in changed.arrivals]
    for ledger in (never, changed):
        (mistake,) = ledger.mistakes(16)
        assert "attempts were refused" in mistake


def test_what_others_send_is_no_mistake() -> None:
    ledger = played()
    ledger.arrivals.append(arrival("evt_of_somebody", SLACK))
    assert ledger.mistakes(16) == []
    assert ledger.number_of("evt_of_somebody") is None


def shown(*arrivals: Arrival, **options: Any) -> str:
    file = io.StringIO()
    screen = Screen(Console(file=file, **options))
    for one in arrivals:
        screen.arrival(one, None)
    return file.getvalue()


def test_what_came_from_outside_is_shown_as_it_is_and_obeyed_in_nothing() -> None:
    text = "[red]:smile:[/] [link=http://x.test]\x1b[2Jback\rslash\u202e\nnext"
    for options in ({}, {"force_terminal": True, "color_system": "truecolor", "width": 300}):
        lines = shown(replace(arrival("evt_1", SLACK), text=text), **options).splitlines()
        assert len(lines) == 1
        assert "[red]:smile:[/] [link=http://x.test]\ufffd[2Jback\ufffdslash\ufffd\ufffdnext" in lines[0]


def test_a_line_is_cut_where_the_screen_ends_whatever_its_letters_are_wide() -> None:
    long = replace(arrival("evt_1", MAIL), text="李雷" * 80)
    for width in (60, 300):
        (line,) = shown(long, force_terminal=True, no_color=True, width=width).splitlines()
        assert cell_len(Text.from_ansi(line).plain) in {min(width, WIDEST) - 1, min(width, WIDEST)}
        assert "…" in line


@pytest.mark.parametrize("width", [40, 80])
def test_on_a_narrow_screen_no_instruction_is_cut(width: int) -> None:
    file = io.StringIO()
    screen = Screen(Console(file=file, force_terminal=True, no_color=True, width=width))
    screen.introduce(
        "http://127.0.0.1:8600/webhooks/main",
        "http://127.0.0.1:8700",
        "http://127.0.0.1:8601/login?token=x",
        Path("/tmp/litekart-demo-12345678"),
        1.2,
    )
    screen.invite(Path("/tmp/litekart-demo-12345678/config.yaml"), "http://127.0.0.1:8600/webhooks/main", "s" * 43)
    told = " ".join(Text.from_ansi(file.getvalue()).plain.split())
    assert "beside it a store, a mail server, a Slack and an HTTP endpoint, all on this machine." in told
    assert "it refuses it 2 times, then takes it." in told
    assert "yours are marked `you`. Ctrl-C ends the demo." in told
    assert "s" * 43 in told
    assert width < 80 or "…" not in told
