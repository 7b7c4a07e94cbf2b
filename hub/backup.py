"""Copies of a SQLite database: of one moment, while the hub writes on; checked, flushed and whole before they count.

A copy is read inside one read transaction. Without it SQLite begins anew after each commit of the hub's writer, and
under load never ends. It goes in small steps, each flushed and followed by a rest: else the disk is busy with the
copy when a webhook waits for its commit. 100 MB take two seconds.
"""

import asyncio
import os
import re
import shlex
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError

from hub.config import Config, Disk
from hub.database import looking_at
from hub.errors import CommandError
from hub.store.contents import Contents, contents

STEP = 256
REST = 0.005
# Above this size the check leaves out whether each index agrees with its table.
QUICK_CHECK_ABOVE = 2**30
BESIDE = ("-wal", "-shm", "-journal")
BEFORE_MIGRATION = re.compile(r"hub-\w+-\d{8}T\d{6}Z\.db")
KEPT = 3
PARTIAL = ".partial"
FROM_ELSEWHERE = "(the password comes from PGPASSWORD or ~/.pgpass)"


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished copy: its file, its size in bytes, and what it holds."""

    file: Path
    bytes: int
    contents: Contents


async def back_up(config: Config, target: Path, *, force: bool = False) -> Copy:
    """Copy the hub's SQLite database to `target`, one file that only its owner may read, while the hub works on.

    `force`: a file that is there already is replaced. Raises CommandError, and leaves nothing behind.
    """
    if config.sqlite_path is None:
        remedy = postgres_command("pg_dump", config.database.reveal(), "--format=custom", f"--file={target}")
        raise CommandError(f"PostgreSQL makes its own backups, also while the hub runs. Run: {remedy} {FROM_ELSEWHERE}")
    if not config.sqlite_path.exists():
        raise CommandError(f"{config.sqlite_path}: there is no database yet; `hub up` makes it")
    return await copy_database(config.sqlite_path, target, force=force, disk=config.disk, rest=REST)


def postgres_command(program: str, url: str, *options: str) -> str:
    """A command line of PostgreSQL's own tools for the database at `url`, ready to be typed, without its password."""
    parsed = make_url(url)
    host = parsed.host or parsed.query.get("host")
    port = parsed.port or parsed.query.get("port")
    given = {"--host": host, "--port": port, "--username": parsed.username, "--dbname": parsed.database}
    return shlex.join([program, *options, *(f"{name}={value}" for name, value in given.items() if value)])


async def copy_database(
    source: Path, target: Path, *, force: bool = False, disk: Disk | None = None, rest: float = 0
) -> Copy:
    """Copy in a thread of its own. `disk`: what must stay free on the hub's; `rest`: seconds after each step."""
    stop = threading.Event()

    def copy() -> Copy:
        refuse_target(source, target, force=force)
        with checked_copy(source, target, disk=disk, rest=rest, stop=stop) as copied:
            refuse_target(source, target, force=force)
            put_in_place(copied.file, target)
        return Copy(target, copied.bytes, copied.contents)

    copying = asyncio.create_task(asyncio.to_thread(copy))
    try:
        return await asyncio.shield(copying)
    except asyncio.CancelledError:
        # The thread ends at its next step, and takes its half of a file with it.
        stop.set()
        await asyncio.gather(copying, return_exceptions=True)
        raise


def refuse_target(source: Path, target: Path, *, force: bool) -> None:
    """Raises CommandError where `target` may not be written."""
    if target.resolve() in {source.resolve(), *(beside(source.resolve(), end) for end in BESIDE)}:
        raise CommandError(f"{target} is the database itself; name another file")
    if not target.parent.is_dir():
        raise CommandError(f"{target}: there is no folder {target.parent}")
    if target.is_dir() or (target.exists() and not force):
        remedy = "name a file" if target.is_dir() else "name another file, or say --force"
        raise CommandError(f"{target} is there already; {remedy}")


@contextmanager
def checked_copy(
    source: Path, target: Path, *, disk: Disk | None = None, rest: float = 0, stop: threading.Event | None = None
) -> Iterator[Copy]:
    """A copy beside `target`, checked and flushed, for as long as nobody moves it. Raises CommandError."""
    try:
        refuse_lack(source, target, disk)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent)
        partial = Path(name)
        try:
            found = copied(source, partial, descriptor, rest, stop or threading.Event())
            check(partial)
            os.fsync(descriptor)
            yield Copy(partial, partial.stat().st_size, found)
        finally:
            # Only now: to close any descriptor of a file ends the locks that SQLite holds on it.
            os.close(descriptor)
            for path in (partial, *(beside(partial, end) for end in BESIDE)):
                path.unlink(missing_ok=True)
    except DBAPIError as error:
        raise CommandError(f"{source} cannot be copied: {error.orig}") from None
    except sqlite3.Error as error:
        raise CommandError(f"{source} cannot be copied to {target}: {error}") from None
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}") from None


def progress(source: Path, target: Path) -> str | None:
    """How much of a copy is written, by whichever process, as a sentence; None where none is being made."""
    try:
        files = [path for path in target.parent.iterdir() if path.name.startswith(f".{target.name}.")]
        states = [path.stat() for path in files if path.suffix == PARTIAL]
        whole = source.stat().st_size
    except OSError:
        # Finished just now, or a folder that the copy itself will complain of.
        return None
    if not states:
        return None
    newest = max(states, key=lambda state: state.st_mtime)
    return f"{megabytes(newest.st_size)} of {megabytes(whole)} are copied"


def refuse_lack(source: Path, target: Path, disk: Disk | None) -> None:
    """Raises CommandError where there is too little room: on a full disk the hub would refuse its webhooks."""
    needed = size_on_disk(source)
    usage = shutil.disk_usage(target.parent)
    leave = 0
    if disk is not None and source.stat().st_dev == target.parent.stat().st_dev:
        leave = max(disk.min_free, int(usage.total * disk.min_free_percent / 100))
    if usage.free < needed + leave:
        kept = f", of which {megabytes(leave)} must stay free (disk.min_free)" if leave else ""
        raise CommandError(
            f"{target} needs {megabytes(needed)}, and {megabytes(usage.free)} are free{kept}; use another disk"
        )


def copied(source: Path, partial: Path, descriptor: int, rest: float, stop: threading.Event) -> Contents:
    """Copy all pages, as they are at one moment; what they hold."""

    def step(status: int, remaining: int, total: int) -> None:
        if stop.is_set():
            raise CommandError("the hub stops, so the copy was given up")
        if rest:
            os.fsync(descriptor)
            time.sleep(rest)

    with looking_at(source) as connection, closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        found = contents(connection)
        if found is None:
            raise CommandError(f"{source} is not a hub's database")
        # A copy that breaks off is thrown away, so it needs no journal.
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=OFF")
        plain(connection).backup(copy, pages=STEP, progress=step)
    return found


def plain(connection: Connection) -> sqlite3.Connection:
    """The sqlite3 module's own connection, inside the same transaction."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def check(partial: Path) -> None:
    """Make the copy one single file, and let SQLite look through it. Raises CommandError."""
    depth = "quick_check" if partial.stat().st_size > QUICK_CHECK_ABOVE else "integrity_check"
    with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode=DELETE")
        (found,) = copy.execute(f"PRAGMA {depth}(1)").fetchone()
    if found != "ok":
        raise CommandError(f"the database is damaged: {found}; it was not copied")


def put_in_place(partial: Path, target: Path) -> None:
    """Rename, and flush the folder, so that a power cut finds the one or the other."""
    partial.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def size_on_disk(database: Path) -> int:
    """Bytes of a SQLite database and its log."""
    return sum(path.stat().st_size for path in (database, beside(database, "-wal")) if path.exists())


def beside(database: Path, end: str) -> Path:
    """One of SQLite's own files of a database."""
    return database.with_name(database.name + end)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB"


def stamp(now: datetime) -> str:
    """A moment in a file's name."""
    return f"{now:%Y%m%dT%H%M%SZ}"


async def before_migration(source: Path, folder: Path, schema: str, now: datetime) -> Copy:
    """A copy in `folder`, of which the newest KEPT stay. Raises CommandError or OSError."""
    made_folder(folder)
    copy = await copy_database(source, folder / f"hub-{schema}-{stamp(now)}.db", force=True)
    drop_oldest(folder)
    return copy


def made_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def drop_oldest(folder: Path) -> None:
    """Remove all but the newest copies from before migrations; a person may keep others beside them."""
    mine = [path for path in folder.iterdir() if BEFORE_MIGRATION.fullmatch(path.name)]
    for old in sorted(mine, key=lambda path: path.stem.rpartition("-")[2])[:-KEPT]:
        old.unlink()


def restore(file: Path, database: Path, now: datetime) -> Path | None:
    """Put a copy of `file` in the place of `database`, which nobody has open.

    Where the present database is kept now; None where there was none. Raises CommandError, with all as it was.
    """
    # Where it is a link, what it leads to is replaced.
    database = database.resolve()
    made_folder(database.parent)
    with checked_copy(file, database) as copy:
        aside = set_aside(database, now)
        put_in_place(copy.file, database)
    return aside


def is_readable(database: Path) -> bool:
    """Whether it is there and a hub's. SQLite removes the log of what it takes for no database, so it asks first."""
    try:
        with looking_at(database) as connection:
            return contents(connection) is not None
    except DBAPIError:
        return False


def set_aside(database: Path, now: datetime) -> Path | None:
    """A second name for the database, and its log moved out of the way of the next one."""
    aside = database.with_name(f"{database.name}.before-restore-{stamp(now)}")
    if aside.exists():
        raise CommandError(f"{aside} is there already, from a moment ago; nothing was done")
    if is_readable(database):
        with suppress(sqlite3.Error), closing(sqlite3.connect(database, isolation_level=None)) as present:
            present.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for end in BESIDE:
        with suppress(FileNotFoundError):
            beside(database, end).rename(beside(aside, end))
    if not database.exists():
        return None
    try:
        # At no moment is there no database: a hub that starts then would begin an empty one.
        os.link(database, aside)
    except OSError:
        database.rename(aside)
    return aside
