"""The steps at which a hub can be made to die, stall or fail: one table, from a step's name to the function that is it.

R are receiving's steps, W a delivery's, S the fan-out's, M the migration's (reliability: "Failpoints").
"""

import functools
import importlib
import inspect
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[..., Any]


@dataclass(frozen=True)
class Step:
    """A function of the product, by its dotted name, and whether the step lies `before` or `after` its run."""

    target: str
    where: str
    what: str


STEPS = {
    "R1": Step("hub.receive.authenticate", "before", "body read"),
    "R2": Step("hub.receive.authenticate", "after", "verified"),
    "R3": Step("hub.receive.keep_events", "after", "before commit"),
    "R4": Step("hub.receive.Receiving._after_commit", "before", "after commit, before response"),
    "R5": Step("hub.receive.Receiving._ring", "before", "after response, before ring"),
    "R6": Step("hub.jobs.ArqRedis.enqueue_job", "after", "after ring"),
    "W1": Step("hub.worker.Worker._start", "before", "claimed"),
    "W2": Step("hub.client._send_once", "before", "before send"),
    "W3": Step("aiohttp.client_proto.ResponseHandler.data_received", "before", "sent, no answer read"),
    "W4": Step("hub.deliver.written", "before", "answer read, not recorded"),
    "W5": Step("hub.deliver.record", "after", "recorded, before commit"),
    "W6": Step("hub.deliver.written", "after", "record committed"),
    "S1": Step("hub.store.fan_out._insert_new", "after", "fan-out mid-batch"),
    "M1": Step("alembic.op.add_column", "after", "migration half way"),
}


@dataclass
class Failpoint:
    """What happens the `nth` time that a step is reached: `kill`, `raise`, or `sleep=SECONDS` of the whole thread."""

    name: str
    nth: int
    action: str

    @property
    def step(self) -> Step:
        return STEPS[self.name]

    def set_off(self) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "raise":
            raise RuntimeError(f"failpoint {self.name}")
        time.sleep(float(self.action.removeprefix("sleep=")))


def read_failpoint(text: str) -> Failpoint:
    """`name[:nth]:kill|raise|sleep=n`. Raises SystemExit where it is anything else."""
    name, *nth, action = text.split(":") if ":" in text else (text, "")
    sound = name in STEPS and (action in {"kill", "raise"} or action.startswith("sleep="))
    if not sound or len(nth) > 1 or not all(number.isdigit() for number in nth):
        raise SystemExit(f"HUB_FAILPOINT={text}: write name[:nth]:kill|raise|sleep=n, a name of {', '.join(STEPS)}")
    return Failpoint(name, int(nth[0]) if nth else 1, action)


def found(target: str) -> tuple[Any, str, Call]:
    """The module or class that holds a dotted name, the name there, and what it stands for. Raises SystemExit."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            holder: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:-1]:
            holder = getattr(holder, part, None)
        function = getattr(holder, parts[-1], None)
        if callable(function):
            return holder, parts[-1], function
    raise SystemExit(f"{target}: there is no such function any more; the table of the steps must name another")


def plant(failpoint: Failpoint) -> None:
    """Wrap the step's function, so that the failpoint is set off there."""
    step = failpoint.step
    holder, name, function = found(step.target)
    reached = 0
    # Steps are reached on the writer's thread and on the loop's.
    turn = threading.Lock()

    def reach() -> None:
        nonlocal reached
        with turn:
            reached += 1
            now = reached == failpoint.nth
        if now:
            failpoint.set_off()

    setattr(holder, name, _wrapped(function, step.where, reach))


def _wrapped(function: Call, where: str, reach: Callable[[], None]) -> Call:
    before, after = (reach, _nothing) if where == "before" else (_nothing, reach)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waiting(*arguments: Any, **options: Any) -> Any:
            before()
            result = await function(*arguments, **options)
            after()
            return result

        return waiting

    @functools.wraps(function)
    def plain(*arguments: Any, **options: Any) -> Any:
        before()
        result = function(*arguments, **options)
        after()
        return result

    return plain


def _nothing() -> None:
    """The side of a step on which nothing happens."""
