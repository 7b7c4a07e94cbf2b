"""What commands share: their common options, the config, and asking the hub for an operation."""

import asyncio
from collections.abc import Awaitable, Callable
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from hub.clock import system_time
from hub.config import Config, load_config
from hub.logs import configure_logs
from hub.process import Caller, local_hub
from hub.redaction import redactor
from hub.web.api import Arguments, Listed, ReplayWanted, WrongUsage, moment_of, wanted

T = TypeVar("T")

ConfigPath = Annotated[Path, typer.Option("--config", envvar="HUB_CONFIG", help="The config file.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
CONFIG = Path("config.yaml")
# Options that are called otherwise than what they stand for.
OPTIONS = {"error_key": "error", "q": "search", "to_route": "to"}


def command_config(path: Path) -> Config:
    """The config, for a command that shows its own words: only errors are logged."""
    config = load_config(path)
    level = "debug" if config.log.level == "debug" else "error"
    configure_logs(level, "text", redactor(config.secrets()))
    return config


def with_hub(path: Path, work: Callable[[Caller], Awaitable[T]]) -> T:
    """Run `work` with whom commands ask: the running hub, else the database itself."""
    config = command_config(path)

    async def run() -> T:
        async with local_hub(config) as caller:
            return await work(caller)

    return asyncio.run(run())


def ask(path: Path, operation: str, arguments: dict[str, Any]) -> Any:
    """One operation of the hub."""
    return with_hub(path, lambda caller: caller(operation, arguments))


def ask_listed(path: Path, operation: str, arguments: dict[str, Any], listed: str) -> Any:
    """One operation that lists. Where it finds nothing, the names in its filter must be known: else CommandError."""

    async def work(caller: Caller) -> Any:
        found = await caller(operation, arguments)
        if not found[listed]:
            await caller("named", named(arguments))
        return found

    return with_hub(path, work)


def named(arguments: dict[str, Any]) -> dict[str, Any]:
    """The names of things that a filter speaks of."""
    return {name: arguments[name] for name in ("route", "store", "error_key") if name in arguments}


def checked(model: type[Arguments], **arguments: Any) -> dict[str, Any]:
    """The arguments of an operation without those not given; WrongUsage before anything is opened."""
    given = {name: value for name, value in arguments.items() if not (value is None or value is False or value == [])}
    try:
        asked = wanted(model, given)
    except WrongUsage as error:
        name, _, what = str(error).partition(": ")
        raise WrongUsage(f"--{OPTIONS.get(name, name).replace('_', '-')}: {what}") from None
    if isinstance(asked, Listed | ReplayWanted):
        for name, moment in (("since", asked.since), ("until", asked.until)):
            try:
                moment_of(moment, system_time())
            except WrongUsage as error:
                raise WrongUsage(f"--{name}: {error}") from None
    return given


def me() -> str:
    """Who is at the keyboard, for the audit."""
    try:
        return getuser()
    except (OSError, KeyError):
        return "local"
