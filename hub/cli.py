"""The command line: the table of all commands, and how errors and exit codes come out.

Exit codes: 0 it is done, 1 it failed, 2 wrong usage. An error is a clear line on standard error, never a traceback.
"""

import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import httpx
import typer
from typer.exceptions import TyperException

from hub.commands import (
    acting,
    beginning,
    checking,
    doubles,
    keeping,
    looking,
    people,
    reordering,
    running,
    sending,
    stores,
)
from hub.commands.asking import AsJson
from hub.commands.output import complain, say, show_json, show_table
from hub.config import CONNECTORS, config_schema, find_connector
from hub.errors import CommandError, ConfigError, HubError, Unavailable
from hub.example import example_yaml
from hub.scaffold import new_connector
from hub.web.api import WrongUsage

# What typer makes of Ctrl-C.
INTERRUPTED = 130

app = typer.Typer(
    name="hub", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Receives a Litekart store's webhooks, keeps them, and carries each to your other systems.",
)  # fmt: skip
database = typer.Typer(help="The database.", no_args_is_help=True)
settings = typer.Typer(help="The config file.", no_args_is_help=True)
connectors = typer.Typer(help="Connectors: those installed, and new ones.", no_args_is_help=True)
sessions = typer.Typer(help="Who is logged in to the dashboard.", no_args_is_help=True)
store = typer.Typer(help="A store's webhook registrations.", no_args_is_help=True)
reorders = typer.Typer(help="What was ordered anew because stock was low.", invoke_without_command=True)
refused = typer.Typer(help="Requests that did not become events.", invoke_without_command=True)


@settings.command("schema")
def show_schema() -> None:
    """The config's JSON schema, for editors."""
    show_json(config_schema())


@settings.command("example")
def show_example(
    output: Annotated[Path | None, typer.Option(help="Write it there instead of showing it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Every setting, its default and its meaning: config.example.yaml."""
    if output is None:
        print(example_yaml(), end="")
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(example_yaml())
    except FileExistsError:
        raise CommandError(f"{output} is there already and stays as it is; --force overwrites it") from None
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from None
    say(f"{output} is written")


@connectors.command("new")
def make_connector(
    name: Annotated[str, typer.Argument(help="What a route calls it, such as my-erp; also the folder's name.")],
    as_json: AsJson = False,
) -> None:
    """Make a small package with a connector that works, and its test."""
    made = new_connector(name, Path(name))
    if as_json:
        show_json({"made": [str(path) for path in made]})
    else:
        say(*made, f"Next: cd {name}, then pip install -e '.[test]' and pytest; README.md tells the rest.")


@connectors.command("list")
def list_connectors(as_json: AsJson = False) -> None:
    """The connectors that routes can use."""
    found = []
    for point in sorted(entry_points(group=CONNECTORS), key=lambda point: point.name):
        try:
            about = (find_connector(point.name).__doc__ or "").strip().partition("\n")[0]
        except ConfigError as error:
            about = f"cannot be used: {error}"
        origin = point.dist.name if point.dist else ""
        found.append({"name": point.name, "from": origin, "about": about})
    if as_json:
        show_json({"connectors": found})
    else:
        show_table(["name", "from", "about"], [list(one.values()) for one in found], "no connectors are installed")


app.command("up")(running.run_up)
app.command("serve")(running.run_serve)
app.command("work")(running.run_work)
app.command("dashboard")(running.run_dashboard)
app.command("init")(beginning.init)
app.command("check")(checking.check)
app.command("send")(sending.send)
app.command("status")(looking.status)
app.command("stores")(looking.stores)
app.command("events")(looking.events)
app.command("deliveries")(looking.deliveries)
app.command("replays")(looking.replays)
app.command("show")(looking.show)
app.command("explain")(looking.explain)
app.command("replay")(acting.replay)
app.command("pause")(acting.pause)
app.command("resume")(acting.resume)
app.command("release")(acting.release)
app.command("cancel")(acting.cancel)
app.command("backup")(keeping.backup)
app.command("restore")(keeping.restore)
app.command("passwd")(people.passwd)
app.command("login")(people.login)
app.command("demo")(running.demo)
app.command("catch-up")(stores.catch_up)
store.command("connect")(stores.connect)
store.command("watch")(stores.watch)
app.command("store-double")(doubles.store_double)
reorders.callback()(reordering.reorders)
reorders.command("plan")(reordering.plan)
reorders.command("approve")(reordering.approve)
reorders.command("drop")(reordering.drop)
reorders.command("close")(reordering.close)
refused.callback()(looking.refused)
refused.command("accept")(acting.accept)
database.command("upgrade")(running.db_upgrade)
sessions.command("end")(people.end_sessions)
app.add_typer(sessions, name="sessions")
app.add_typer(store, name="store")
app.add_typer(reorders, name="reorders")
app.add_typer(refused, name="refused")
app.add_typer(database, name="db")
app.add_typer(settings, name="config")
app.add_typer(connectors, name="connectors")


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="hub", standalone_mode=False)
    except WrongUsage as error:
        complain(error)
        return 2
    except ConfigError as error:
        complain(*error.problems)
    except Unavailable as error:
        complain(f"the database cannot be used just now: {error}; `hub check` looks closer")
    except HubError as error:
        complain(error)
    except TyperException as error:
        told = error.format_message()
        # Without a command it is the help, which keeps its lines.
        print(told, file=sys.stderr) if told.startswith("Usage:") else complain(told)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        complain("stopped")
    except httpx.HTTPError as error:
        complain(f"the running hub did not answer ({type(error).__name__}); `hub status` tells whether it is there")
    except OSError as error:
        complain(f"{error.filename or 'the system'}: {error.strerror or type(error).__name__}")
    except Exception as error:
        complain(f"a fault in the hub itself: {type(error).__name__} at {place_of(error)}")
    else:
        if code != INTERRUPTED:
            return code if isinstance(code, int) else 0
        complain("stopped")
    return 1


def place_of(error: Exception) -> str:
    """Where an error came up: a traceback may show data."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
