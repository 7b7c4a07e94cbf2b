"""`hub check`: can it work? The config, the database, Redis, the stores, and what each route's connector says."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hub.commands.asking import CONFIG, AsJson, ConfigPath, command_config
from hub.commands.output import show_json, show_table
from hub.config import Config
from hub.database import assert_durable
from hub.errors import ConfigError
from hub.jobs import FAILURES, client, hang_up, settings_of
from hub.models import SCHEMA
from hub.process import asking, exclusive, opened_database, require_writable, running_socket
from hub.redaction import redactor
from hub.store.contents import version
from hub.trying import Finding, check_route, check_store, told
from hub.valkey import binary

BRIEFLY = 0.5


def check(
    offline: Annotated[bool, typer.Option("--offline", help="Only what needs no network and no database.")] = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Can it work? Config, database, Redis, stores with a key, routes' connectors. Exit code 1 if anything fails."""
    findings = asyncio.run(look(config, offline))
    if as_json:
        show_json({"ok": all(one.ok for one in findings), "checks": [asdict(one) for one in findings]})
    else:
        show_table(
            ["what", "is", "because"], [(one.name, "ok" if one.ok else "failed", one.text) for one in findings], ""
        )
    if not all(one.ok for one in findings):
        raise typer.Exit(1)


async def look(path: Path, offline: bool) -> list[Finding]:
    """All findings. A config that cannot be read is the only one."""
    try:
        config = command_config(path)
    except ConfigError as error:
        return [Finding("config", False, problem) for problem in error.problems]
    findings = [
        Finding("config", True, f"stores: {', '.join(config.stores)}; routes: {', '.join(config.routes) or 'none'}"),
        *(Finding("config", True, f"doubtful: {warning}") for warning in config.warnings),
    ]
    if offline:
        return [*findings, await told("redis", embedded(config))]
    outside = [told("database", database(config)), told("redis", redis(config))]
    keyed = [name for name, store in config.stores.items() if store.api_key is not None]
    outside += [told(f"store {name}", check_store(config, name)) for name in keyed]
    outside += [told(f"route {name}", check_route(config, name, route)) for name, route in config.routes.items()]
    redact = redactor(config.secrets())
    return [*findings, *(Finding(one.name, one.ok, redact(one.text)) for one in await asyncio.gather(*outside))]


async def database(config: Config) -> str:
    """Can it be reached, is it durable, is its schema of this version?"""
    path = running_socket(config)
    if path is not None and config.sqlite_path is not None:
        async with asking(path) as caller:
            await caller("status", {})
        return "the running hub works with it"
    if config.sqlite_path is not None or config.redis_url is None:
        require_writable("data folder", config.data_dir)
    if config.sqlite_path is None:
        return await _opened(config)
    require_writable("the database's folder", config.sqlite_path.parent)
    if not config.sqlite_path.exists():
        return f"{config.sqlite_path.name} is made by `hub up`"
    async with exclusive(config, wait=BRIEFLY):
        return await _opened(config)


async def _opened(config: Config) -> str:
    async with opened_database(config) as opened:
        await opened.read(assert_durable)
        found = await opened.read(version)
    if found == SCHEMA:
        return f"can be reached; its schema is {found}"
    remedy = "`hub up` or `hub db upgrade`"
    if config.sqlite_path is None:
        raise ConfigError(f"its schema is {found or 'not made yet'}, this version needs {SCHEMA}: {remedy}")
    return f"its schema is {found or 'not made yet'}; {remedy} makes it {SCHEMA}"


async def embedded(config: Config) -> str:
    """Is the embedded Valkey's binary there, where it is wanted?"""
    return "not asked (offline)" if config.redis_url else f"embedded: {binary().name} is there"


async def redis(config: Config) -> str:
    path = running_socket(config)
    if path is not None:
        async with asking(path) as caller:
            if not (await caller("status", {}))["redis"]["answers"]:
                raise ConfigError("the running hub's Redis does not answer; nothing is lost, its log says more")
        return "answers the running hub"
    if config.redis_url is None:
        return await embedded(config)
    asked = client(settings_of(config.redis_url))
    try:
        await asked.ping()
    except FAILURES as error:
        raise ConfigError(f"does not answer ({type(error).__name__}): start it, or correct `redis`") from None
    finally:
        await hang_up(asked)
    return "answers"
