"""Commands that change something: replay, pause, resume, release, cancel, refused accept."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.clock import system_time
from hub.commands.asking import CONFIG, AsJson, ConfigPath, Yes, ask, ask_listed, checked, me, with_hub
from hub.commands.looking import Entity, Since, Store, Until, replay_state
from hub.commands.output import complain, say, show_json, told_moment
from hub.errors import CommandError
from hub.process import Caller
from hub.units import parse_rate
from hub.web.api import Cancelled, OpenStarted, ReplayStarted, ReplayWanted, RouteWanted, WrongUsage, filter_of

Ids = Annotated[list[str] | None, typer.Argument(help="Deliveries, or events for all their deliveries.")]

Pace = Annotated[str | None, typer.Option(help="At most so many in a time: 5/s, 30/m, 500/h.")]


def replay(
    ids: Ids = None,
    status: Annotated[
        str | None, typer.Option(help="dead, skipped or delivered; gone, with --to: what waits for a gone route.")
    ] = None,
    route: Annotated[str | None, typer.Option(help="Only along this route.")] = None,
    store: Store = None,
    entity: Entity = None,
    error: Annotated[str | None, typer.Option(help="Only with this error, as `hub status --json` names it.")] = None,
    since: Since = None,
    until: Until = None,
    to: Annotated[str | None, typer.Option(help="Send along this route, whatever its conditions.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many, oldest first.")] = None,
    pace: Pace = None,
    as_new: Annotated[bool, typer.Option("--as-new", help="Send again what was sent before, under a new key.")] = False,
    stop: Annotated[
        str | None, typer.Option(help="Stop this replay, release or cancel: what has not started is as before.")
    ] = None,
    yes: Yes = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Send again, one or many. What was sent before is found and not sent twice, unless --as-new."""
    found = checked(
        ReplayWanted, ids=ids, status=status, route=route, store=store, entity=entity, error_key=error, since=since,
        until=until, limit=limit, to_route=to,
    )  # fmt: skip
    if stop is not None:
        if found or pace or as_new or dry_run:
            raise WrongUsage("--stop goes with nothing else")
        _stop(config, stop, as_json)
        return
    if not found.keys() & {"ids", "status", "route", "entity", "error_key", "since"}:
        raise WrongUsage("say which: ids, or one of --status, --route, --entity, --error, --since")
    filter_of(ReplayWanted(**found), system_time())
    options = checked(ReplayStarted, as_new=as_new, pace=_pace(pace))
    _replay(config, found, options, dry_run=dry_run, yes=yes, as_json=as_json)


def _replay(
    config: Path, found: dict[str, Any], options: dict[str, Any], *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    preview = ask_listed(config, "replay.preview", found, "by_status")
    if as_json and dry_run:
        show_json(preview)
    elif not as_json:
        say(*_previewed(preview, found.get("to_route"), as_new="as_new" in options))
    if dry_run:
        return
    if not preview["would_replay"]:
        raise CommandError(_nothing(preview, found.get("to_route")))
    if not yes:
        _confirm(preview, options)
    bounds = {name: found[name] for name in ("to_route", "limit") if name in found}
    wanted = preview["filter"] | bounds | options | {"who": me()}
    result = _run_through(config, "replay.start", wanted, as_json=as_json)
    if as_json:
        show_json(result | {"preview": preview})
    else:
        say(_told(result, "set going"))


def _told(result: dict[str, Any], done: str) -> str:
    return (
        f"{result['id']}: {result['done']} of {result['total']} are {done} ({replay_state(result)});"
        f" `hub replay --stop {result['id']}` stops it, `hub show {result['id']}` tells how far it is"
    )


def _nothing(preview: dict[str, Any], to_route: str | None) -> str:
    if preview["dropped"]:
        return f"nothing to replay; {preview['why_dropped']}"
    if to_route is None:
        return "nothing to replay: no delivery that is delivered, dead or skipped matches"
    return f"nothing to send: no event matches that is not on its way along {to_route} already"


def _run_through(config: Path, start: str, wanted: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    return with_hub(config, lambda caller: _through(caller, start, wanted, begun=complain if as_json else say))


async def _through(caller: Caller, start: str, wanted: dict[str, Any], begun: Callable[[str], None]) -> dict[str, Any]:
    """Start it and write all its batches. Where a hub runs, it does the same beside us.

    Interrupted, it is stopped: what is under way ends first, so that nothing goes on that nobody knows of. A release
    or cancel that keeps a pace is left to the hub.
    """
    step = asyncio.ensure_future(caller(start, wanted))
    try:
        result: dict[str, Any] = await asyncio.shield(step)
        begun(f"{result['id']} begins")
        while result["state"] == "running" and not (result["pace"] and result["action"] != "replay"):
            step = asyncio.ensure_future(caller("replay.advance", {"id": result["id"]}))
            result = await asyncio.shield(step)
        # Where Ctrl-C came while nothing was waited for, it is heard here.
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        replay_id = (await step)["id"]
        stopped = await caller("replay.stop", {"id": replay_id, "who": me()})
        raise CommandError(f"{replay_id}: stopped; {stopped['given_back']} are as before") from None
    return result


def _previewed(preview: dict[str, Any], to_route: str | None, *, as_new: bool) -> Iterator[str]:
    exact = ", ".join(
        f"{name} {' '.join(value) if isinstance(value, list) else told_moment(value)}"
        for name, value in preview["filter"].items()
    )
    yield f"deliveries with {exact}"
    counts = ", ".join(f"{count} {status}" for status, count in sorted(preview["by_status"].items()))
    going = preview["would_replay"]
    events = f"{going} event{'' if going == 1 else 's'} would be sent along route {to_route}"
    yield f"found: {counts or 'none'}; {events if to_route else f'{going} would be replayed'}"
    if preview["dropped"]:
        yield preview["why_dropped"]
    untouched = sum(preview["by_status"].get(status, 0) for status in ("pending", "held"))
    if untouched and to_route is None:
        yield f"{untouched} are pending or held and stay as they are"
    before = f"{preview['already_sent']} were sent {'there ' if to_route else ''}before"
    if preview["already_sent"] and as_new:
        yield f"{before} and WILL BE SENT AGAIN under a new key"
    elif preview["already_sent"]:
        yield f"{before}: what is found as done is not done again"
    if preview["out_of_order"]:
        yield f"{preview['out_of_order']} belong to ordered routes and come after what overtook them: out of order"
    for route, why in preview["held_up"].items():
        until = f"until `hub resume {route}`" if why != "gone" else "until it is in the config again"
        yield f"route {route} is {why}: along it they wait {until}"
    if preview["unknown"]:
        yield f"there is no {', '.join(preview['unknown'])}"


def _confirm(preview: dict[str, Any], options: dict[str, Any]) -> None:
    ask_person(f"Replay {preview['would_replay']}?")
    if options.get("as_new"):
        ask_person("As new: whatever these have done is done AGAIN, under a new key. Are you sure?")


def ask_person(question: str) -> None:
    """Go on only after a yes; where nobody answers, say what to do instead."""
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        raise CommandError("nobody answered, so nothing was done; --yes does it without asking") from None
    if not agreed:
        raise CommandError("nothing was done")


def _pace(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return 1 / parse_rate(text).interval
    except ValueError as error:
        raise WrongUsage(f"--pace {error}") from None


def _stop(config: Path, replay_id: str, as_json: bool) -> None:
    result = ask(config, "replay.stop", {"id": replay_id, "who": me()})
    if as_json:
        show_json(result)
    else:
        say(f"{replay_id} is stopped; {result['given_back']} that had not started are as before")


def pause(
    route: Annotated[str, typer.Argument(help="The route.")],
    reason: Annotated[str | None, typer.Option(help="Why, for others to read.")] = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Hold a route: its deliveries wait, none is lost."""
    result = ask(config, "pause", checked(RouteWanted, route=route, reason=reason, who=me()))
    _tell(result, as_json, f"{route} is paused; `hub resume {route}` goes on", f"{route} was paused already")


def resume(
    route: Annotated[str, typer.Argument(help="The route.")],
    reason: Annotated[str | None, typer.Option(help="Why, for the audit.")] = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Go on with a paused route; an open breaker is probed at once."""
    result = ask(config, "resume", checked(RouteWanted, route=route, reason=reason, who=me()))
    _tell(result, as_json, f"{route} goes on", f"{route} was not held by anything")


def _tell(result: dict[str, Any], as_json: bool, changed: str, same: str) -> None:
    if as_json:
        show_json(result)
    else:
        say(changed if result["changed"] else same)


def release(
    ids: Annotated[list[str] | None, typer.Argument(help="Held deliveries.")] = None,
    route: Annotated[str | None, typer.Option(help="All that a person must release on this route.")] = None,
    pace: Pace = None,
    yes: Yes = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let held deliveries go. One that cannot keeps none of the others."""
    if _is_of_all(ids, route, pace):
        _change_all(config, "release", str(route), pace, yes=yes, as_json=as_json)
        return

    async def work(caller: Caller) -> tuple[list[str], list[str]]:
        released, failed = [], []
        for one in ids or ():
            try:
                released.append((await caller("release", {"id": one, "who": me()}))["id"])
            except WrongUsage:
                raise
            except CommandError as error:
                failed.append(str(error))
        return released, failed

    released, failed = with_hub(config, work)
    if as_json:
        show_json({"released": released, "failed": failed})
    elif released:
        say(f"released: {', '.join(released)}")
    if failed:
        complain(*failed)
        raise typer.Exit(1)


def cancel(
    ids: Annotated[list[str] | None, typer.Argument(help="Pending or held deliveries.")] = None,
    route: Annotated[str | None, typer.Option(help="All that is open on this route, also on one that is gone.")] = None,
    pace: Pace = None,
    yes: Yes = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Skip deliveries that are not done. One under way runs to its end."""
    if _is_of_all(ids, route, pace):
        _change_all(config, "cancel", str(route), pace, yes=yes, as_json=as_json)
        return
    result = ask(config, "cancel", checked(Cancelled, ids=ids, who=me()))
    if as_json:
        show_json(result)
    elif result["cancelled"]:
        say(f"{len(result['cancelled'])} cancelled")
    problems = [f"{one}: there is no such delivery" for one in result["unknown"]]
    if result["untouched"]:
        problems.append(f"not pending or held, so not cancelled: {', '.join(result['untouched'])}")
    if problems:
        complain(*problems)
        raise typer.Exit(1)


def _is_of_all(ids: list[str] | None, route: str | None, pace: str | None) -> bool:
    """Whether all on a route is meant, and not some by id. Raises WrongUsage where it is both or neither."""
    if bool(ids) == (route is not None):
        raise WrongUsage("name deliveries by id, or one --route")
    if pace is not None and route is None:
        raise WrongUsage("--pace goes with --route")
    return route is not None


def _change_all(config: Path, action: str, route: str, pace: str | None, *, yes: bool, as_json: bool) -> None:
    """Release or cancel all that is open on a route. CommandError where there is nothing, or no such route."""
    found = checked(OpenStarted, action=action, route=route, pace=_pace(pace), who=me())
    preview = ask_listed(config, "open.preview", {"action": action, "route": route}, "count")
    if not preview["count"]:
        state = "held for a person" if action == "release" else "pending or held"
        raise CommandError(f"nothing to {action}: nothing is {state} on route {route}")
    if not yes:
        meant = "held" if action == "release" else "open"
        ask_person(f"{action.capitalize()} all {preview['count']} {meant} deliveries of {route}?")
    result = _run_through(config, "open.start", found | {"until": preview["filter"]["until"]}, as_json=as_json)
    if as_json:
        show_json(result)
    else:
        say(_told(result, "released" if action == "release" else "cancelled"))


def accept(
    id: Annotated[str, typer.Argument(help="The refused request, as `hub refused` lists it.")],
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let a refused request in after all: verified and parsed again with today's config."""
    result = ask(config, "refused.accept", {"id": id, "who": me()})
    if as_json:
        show_json(result)
    else:
        say(f"{result['id']}: {'was accepted before' if result['duplicate'] else 'accepted'}")
