"""Commands that keep a hub's data: backup and restore."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from hub.backup import FROM_ELSEWHERE, back_up, megabytes, postgres_command, progress
from hub.backup import restore as put_copy_in_place
from hub.clock import system_time
from hub.commands.acting import ask_person
from hub.commands.asking import CONFIG, AsJson, ConfigPath, Yes, command_config, me
from hub.commands.output import complain, moment, say, show_json
from hub.config import Config
from hub.database import looking_at
from hub.errors import CommandError, ConfigError
from hub.process import asking, exclusive, opened_database, running_socket, upgraded
from hub.schema import refuse_newer
from hub.store.contents import Contents, contents
from hub.store.routes import audit
from hub.web.api import backup_json, contents_json

LOCK_WAIT = 1.0
TELL_EVERY = 5.0


def backup(
    file: Annotated[Path, typer.Argument(help="The file to make.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Copy the database to one file, also while the hub runs; for PostgreSQL, say how."""
    loaded = command_config(config)
    result = asyncio.run(_watched(_backed_up(loaded, file.absolute(), force), loaded.sqlite_path, file.absolute()))
    if as_json:
        show_json(result)
    else:
        say(f"{result['file']} is written and checked: {megabytes(result['bytes'])}, {_held(result)}")


async def _watched(copying: Coroutine[Any, Any, Any], source: Path | None, target: Path) -> Any:
    """Tell a person at a terminal how far a long copy is."""
    if source is None or not sys.stderr.isatty():
        return await copying
    watching = asyncio.create_task(tell_progress(source, target, complain, TELL_EVERY))
    try:
        return await copying
    finally:
        watching.cancel()


async def tell_progress(source: Path, target: Path, tell: Callable[[str], None], every: float) -> None:
    """Say how far a copy is, each `every` seconds, until cancelled."""
    while True:
        await asyncio.sleep(every)
        said = progress(source, target)
        if said is not None:
            tell(said)


async def _backed_up(config: Config, file: Path, force: bool) -> Any:
    path = running_socket(config)
    if path is not None:
        async with asking(path) as caller:
            return await caller("backup", {"file": str(file), "force": force})
    if config.sqlite_path is None:
        return backup_json(await back_up(config, file, force=force))
    # Not through `local_hub`, which would bring an old schema up to date first.
    async with exclusive(config):
        return backup_json(await back_up(config, file, force=force))


def _held(found: dict[str, Any]) -> str:
    newest = f", the newest of {moment(found['newest'])}" if found["newest"] else ""
    return f"{found['events']} events{newest}; {found['pending']} deliveries pending, {found['held']} held"


def restore(
    file: Annotated[Path, typer.Argument(help="A backup, as `hub backup` or a migration made it.")],
    yes: Yes = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of the database, which is kept beside it; for PostgreSQL, say how."""
    loaded = command_config(config)
    if loaded.sqlite_path is None:
        options = ("--clean", "--if-exists", "--no-owner", "--single-transaction")
        remedy = postgres_command("pg_restore", loaded.database.reveal(), *options, str(file.absolute()))
        raise CommandError(
            "PostgreSQL restores its own backups. Stop `hub up`, `hub serve` and `hub work`,"
            f" run: {remedy} {FROM_ELSEWHERE}, then: hub db upgrade"
        )
    result = asyncio.run(_restored(loaded, loaded.sqlite_path, file, ask=not yes))
    show_json(result) if as_json else say(*_told(result))


async def _restored(config: Config, database: Path, file: Path, *, ask: bool) -> dict[str, Any]:
    async with exclusive(config, LOCK_WAIT):
        found = fit_to_restore(file, database)
        if ask:
            ask_person(f"{file} holds {_held(contents_json(found))}. {present(database)} Restore?")
        aside = await asyncio.to_thread(put_copy_in_place, file, database, system_time())
        kept = None if aside is None else str(aside)
        try:
            schema = await _made_current(config, file=str(file), aside=kept)
        except ConfigError as error:
            before = f", and what was there is kept in {kept}" if kept else ""
            raise CommandError(f"{file} is restored{before}; but {error}") from None
    return {"file": str(file), "database": str(database), "aside": kept, "upgrade": schema} | contents_json(found)


async def _made_current(config: Config, **detail: str | None) -> str:
    """Bring what was restored up to date, and note in its audit where it came from; what was done."""
    now, who = system_time(), me()
    async with opened_database(config) as database:
        done = await upgraded(config, database)
        await database.write(lambda connection: audit(connection, now, who, "restore", **detail))
    return done


def fit_to_restore(file: Path, database: Path) -> Contents:
    """What the backup holds. Raises CommandError or ConfigError where it cannot be restored by this version."""
    if not file.is_file():
        raise CommandError(f"{file}: there is no such file")
    if database.exists() and file.samefile(database):
        raise CommandError(f"{file} is the present database itself")
    try:
        with looking_at(file) as connection:
            found = contents(connection)
    except DBAPIError as error:
        raise CommandError(f"{file} is not a hub's database: {error.orig}") from None
    if found is None:
        raise CommandError(f"{file} is not a hub's database")
    refuse_newer(found.schema, str(file))
    return found


def present(database: Path) -> str:
    """What would be set aside, for a person to compare."""
    if not database.exists():
        return "There is no database yet."
    try:
        with looking_at(database) as connection:
            found = contents(connection)
    except DBAPIError as error:
        return f"The present database cannot be read ({error.orig}); it is set aside."
    return f"The present database holds {_held(contents_json(found)) if found else 'nothing'}; it is set aside."


def _told(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['file']} is restored to {result['database']}: {_held(result)}"
    if result["aside"]:
        yield f"the database as it was is kept in {result['aside']}"
    yield result["upgrade"]
    yield (
        f"`hub up` goes on with {result['pending']} pending deliveries under their keys; what was delivered after the"
        " backup was made is sent again, under the same key"
    )
    yield "events that came after it are not in it: let the store send them again"
