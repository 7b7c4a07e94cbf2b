"""Commands that run: up, serve, work, dashboard, db upgrade, demo."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from hub.commands.asking import CONFIG, ConfigPath, command_config
from hub.commands.output import say
from hub.config import load_config
from hub.errors import CommandError
from hub.process import dashboard, exclusive, opened_database, serve, up, upgraded, work


def run_up(config: ConfigPath = CONFIG) -> None:
    """The whole hub in one process: receives, delivers, with an embedded Valkey and SQLite unless told otherwise."""
    run(up(load_config(config)))


def run_serve(config: ConfigPath = CONFIG) -> None:
    """A receiver, beside others; needs PostgreSQL and a Redis URL."""
    run(serve(load_config(config)))


def run_work(config: ConfigPath = CONFIG) -> None:
    """A worker, beside others; needs PostgreSQL and a Redis URL."""
    run(work(load_config(config)))


def run_dashboard(config: ConfigPath = CONFIG) -> None:
    """The dashboard, beside receivers and workers; needs PostgreSQL and a Redis URL."""
    run(dashboard(load_config(config)))


def run(process: Coroutine[Any, Any, None]) -> None:
    """Run a process to its end, on the faster event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(process)


def db_upgrade(config: ConfigPath = CONFIG) -> None:
    """Bring the database's schema up to date, or make it."""
    say(asyncio.run(_upgraded(config)))


async def _upgraded(path: Path) -> str:
    config = command_config(path)
    async with AsyncExitStack() as stack:
        if config.sqlite_path is not None:
            await stack.enter_async_context(exclusive(config))
        database = await stack.enter_async_context(opened_database(config))
        return await upgraded(config, database)


def demo(once: Annotated[bool, typer.Option("--once", help="End when all was delivered: 0, else 1.")] = False) -> None:
    """The hub with real counterparts on loopback and a store that sends events. Nothing is kept."""
    if find_spec("aiosmtpd") is None:
        raise CommandError("the demo's mail server is missing: pip install 'litekart-hub[testing]'")
    # A process of its own: its counterparts and their libraries are no part of the hub.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "hub.demo", *(["--once"] if once else [])])  # noqa: S606 - no shell is wanted
