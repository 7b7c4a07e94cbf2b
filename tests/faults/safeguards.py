"""The safeguards that can be taken out of a hub, to see that something is lost, doubled or stuck without them.

Each is one small change to the running product, made before it starts; a change that finds nothing to change fails.
"""

import asyncio
import dataclasses
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import sqlalchemy

import hub.database
import hub.deliver
import hub.process
import hub.receive
import hub.runtime
import hub.store.events
import hub.store.records
import hub.valkey
import hub.worker
import hub.writer
from hub.event import parse
from hub.store import EVENT
from hub.store.events import Kept


def put_in(holder: Any, name: str, value: Any) -> None:
    """Replace what the product has under that name. Raises SystemExit where it has nothing."""
    if not hasattr(holder, name):
        raise SystemExit(f"{holder.__name__}.{name}: there is nothing of that name to take out")
    setattr(holder, name, value)


def synchronous() -> None:
    """Commits are not flushed to the disk."""
    pragmas = tuple(one for one in hub.database.PRAGMAS if not one.startswith("synchronous"))
    assert len(pragmas) < len(hub.database.PRAGMAS)
    put_in(hub.database, "PRAGMAS", (*pragmas, "synchronous=NORMAL"))
    put_in(hub.runtime, "assert_durable", lambda connection: None)


def begin_immediate() -> None:
    """A transaction takes SQLite's write lock at its first write, not at its begin."""
    engine = hub.database.sqlite_engine
    put_in(hub.database, "sqlite_engine", lambda url, begin, **options: engine(url, "BEGIN", **options))


def unique_keys() -> None:
    """An event's key may stand in the database twice."""
    (unique,) = [
        one for one in EVENT.constraints if isinstance(one, sqlalchemy.UniqueConstraint) and one.name == "event_once"
    ]
    EVENT.constraints.remove(unique)
    put_in(hub.store.events, "ONCE", "")


def lease_token() -> None:
    """Whoever finishes writes the outcome, however old its attempt is."""
    change = hub.store.records._change

    def anyone(connection: Any, now: Any, item: Any, row: Any) -> Any:
        present = dataclasses.replace(item, attempt=row.attempts, key_no=row.key_no, look=row.look)
        open_again: Any = SimpleNamespace(**{**row._mapping, "status": "pending"})
        return change(connection, now, present, open_again)

    put_in(hub.store.records, "_change", anyone)


def own_waking() -> None:
    """The loops wake only when somebody rings for them."""

    async def only_at_the_end(worker: Any) -> None:
        await worker.stopping.wait()

    put_in(hub.worker.Worker, "_tick", only_at_the_end)


def commit_before_answer() -> None:
    """The answer does not wait for the commit."""

    def begin(receiving: Any, incoming: Any) -> "asyncio.Future[Kept]":
        fingerprint = hub.receive.authenticate(receiving.hub, incoming)
        event = hub.receive.new_event(receiving.hub, incoming, parse(incoming.body), fingerprint)
        # By its name there, which a failpoint may have wrapped.
        receiving.hub.writer.submit(vars(hub.receive)["keep_events"], event)
        answered: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        answered.set_result(Kept(event.id, False))
        return answered

    put_in(hub.receive.Receiving, "begin", begin)


def row_by_row() -> None:
    """A commit that fails fails for all that share it."""

    async def all_fail(writer: Any, items: Any, error: Exception) -> None:
        hub.writer._fail(items, error)

    put_in(hub.writer.Writer, "_one_by_one", all_fail)


def own_session() -> None:
    """The embedded Valkey stands in the hub's own group of processes, which a Ctrl-C goes to."""

    def popen(command: Any, **options: Any) -> "subprocess.Popen[bytes]":
        options.pop("start_new_session")
        return subprocess.Popen(command, **options)

    put_in(hub.valkey, "subprocess", SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE, run=subprocess.run))


WITHOUT: dict[str, Callable[[], None]] = {
    "synchronous": synchronous,
    "begin_immediate": begin_immediate,
    "unique_keys": unique_keys,
    "lease_token": lease_token,
    "own_waking": own_waking,
    "commit_before_answer": commit_before_answer,
    "row_by_row": row_by_row,
    "own_session": own_session,
}


def take_out(name: str) -> None:
    """Take that safeguard out of this process's hub. Raises SystemExit for a name that there is not."""
    if name not in WITHOUT:
        raise SystemExit(f"HUB_WITHOUT={name}: there are {', '.join(WITHOUT)}")
    WITHOUT[name]()
