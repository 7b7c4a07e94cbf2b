"""Commands about a store itself: catching up on it, and where it sends its webhooks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.clock import system_time
from hub.commands.acting import ask_person
from hub.commands.asking import CONFIG, AsJson, ConfigPath, Yes, ask, checked, me
from hub.commands.output import complain, moment, say, show_json, show_table
from hub.web.api import CatchUpWanted, LookBackWanted, WrongUsage, moment_of

MOST_NAMED = 10
Name = Annotated[str, typer.Argument(help="The store, as the config names it.")]


def catch_up(
    store: Annotated[str | None, typer.Argument(help="Only this store.")] = None,
    since: Annotated[
        str | None, typer.Option(help="What is older than catch-up itself: from this time, or an age such as 2d, on.")
    ] = None,
    yes: Yes = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Ask the store now for what no webhook brought; with --since, after a question, also for what is older."""
    if since is not None:
        _look_back(config, store, since, yes=yes, as_json=as_json)
        return
    found = ask(config, "catch_up.now", checked(CatchUpWanted, store=store))
    if as_json:
        show_json(found)
    else:
        for name, one in found["stores"].items():
            say(*_told(name, one))
    if any(one and one["failed"] for one in found["stores"].values()):
        raise typer.Exit(1)


def _told(store: str, found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        yield f"{store}: it is being polled just now"
        return
    for resource, reason in found["failed"].items():
        yield f"{store}: its {resource} could not be polled: {reason}"
    if found["events"] or not found["failed"]:
        yield f"{store}: {_counted(found['events'])}"
    if found["unreadable"]:
        more = len(found["unreadable"]) - MOST_NAMED
        ids = ", ".join(found["unreadable"][:MOST_NAMED])
        yield f"{store}: no event can be made of {ids}{f' and {more} more' if more > 0 else ''}"


def _counted(events: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {type}" for type, count in sorted(events.items())) or "nothing was missing"


def _look_back(config: Path, store: str | None, since: str, *, yes: bool, as_json: bool) -> None:
    if store is None:
        raise WrongUsage("--since goes with the name of a store")
    # The same span in the question and in what is done.
    start = moment_of(since, system_time())
    assert start is not None
    wanted = checked(LookBackWanted, store=store, since=start.isoformat())
    preview = ask(config, "catch_up.preview", wanted)
    count = sum(preview["events"].values())
    if not as_json:
        say(*_told(store, preview))
    if not count:
        if as_json:
            show_json(preview)
        return
    if not yes:
        ask_person(f"Make {count} events of what is newer than {moment(start.isoformat())}? They go along all routes.")
    made = ask(config, "catch_up.start", wanted | {"who": me()})
    if as_json:
        show_json(made)
    else:
        say(f"{store}: made {_counted(made['events'])}")


def connect(store: Name, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Make or mend the store's webhook registrations; where its API has none, say what to enter by hand."""
    found = ask(config, "store.connect", {"store": store, "who": me()})
    if as_json:
        show_json(found)
    elif "by_hand" in found:
        say(*_by_hand(found["by_hand"]))
    else:
        _show(found)


def _by_hand(what: Mapping[str, Any]) -> Iterator[str]:
    yield "This store's registrations are made in its admin, one for each event:"
    yield f"  URL     {what['url']}"
    yield f"  secret  {what['secret']}"
    yield f"  events  {', '.join(what['events'])}"


def watch(store: Name, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Look whether the store's registrations still lead here. Exit code 1 where one does not."""
    found = ask(config, "store.watch", {"store": store})
    if as_json:
        show_json(found)
    else:
        _show(found)
    if found["wrong"]:
        if not as_json:
            complain(f"`hub store connect {store}` mends them")
        raise typer.Exit(1)
    if not as_json and any(one["id"] is None for one in found["registrations"]):
        say(f"`hub store connect {store}` makes those that there never were")


def _show(found: Mapping[str, Any]) -> None:
    say(found["url"])
    rows = [(one["event"], one["id"], one["state"]) for one in found["registrations"]]
    show_table(["event", "registration", "state"], rows, "no registrations")
