"""Commands that change something: replay, pause, resume, release, cancel, refused accept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.clock import system_time
from hub.commands.asking import CONFIG, AsJson, ConfigPath, Yes, ask, checked, me, with_hub
from hub.commands.looking import Entity, Since, Store, Until
from hub.commands.output import say, show_json
from hub.errors import CommandError
from hub.process import Caller
from hub.units import parse_rate
from hub.web.api import Cancelled, ReplayStarted, ReplayWanted, RouteWanted, WrongUsage, filter_of

Ids = Annotated[list[str] | None, typer.Argument(help="Deliveries, or events for all their deliveries.")]


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
    pace: Annotated[str | None, typer.Option(help="At most so many in a time: 5/s, 30/m, 500/h.")] = None,
    as_new: Annotated[bool, typer.Option("--as-new", help="Send again what was sent before, under a new key.")] = False,
    stop: Annotated[str | None, typer.Option(help="Stop this replay: what has not started is as before.")] = None,
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
    filter_of(ReplayWanted(**found), system_time())
    options = checked(ReplayStarted, as_new=as_new, pace=_pace(pace))
    _replay(config, found, options, dry_run=dry_run, yes=yes, as_json=as_json)


def _replay(
    config: Path, found: dict[str, Any], options: dict[str, Any], *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    preview = ask(config, "replay.preview", found)
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
    result = with_hub(config, lambda caller: _through(caller, wanted))
    if as_json:
        show_json(result | {"preview": preview})
    else:
        say(f"{result['id']}: {result['done']} of {result['total']} are set going ({result['state']});"
            f" `hub replay --stop {result['id']}` stops it")  # fmt: skip


def _nothing(preview: dict[str, Any], to_route: str | None) -> str:
    if preview["dropped"]:
        return f"nothing to replay; {preview['why_dropped']}"
    if to_route is None:
        return "nothing to replay: no delivery that is delivered, dead or skipped matches"
    return f"nothing to send: no event matches that is not on its way along {to_route} already"


async def _through(caller: Caller, wanted: dict[str, Any]) -> dict[str, Any]:
    """Start it and write all its batches. Where a hub runs, it does the same beside us, and goes on without us."""
    result: dict[str, Any] = await caller("replay.start", wanted)
    while result["state"] == "running":
        result = await caller("replay.advance", {"id": result["id"]})
    return result


def _previewed(preview: dict[str, Any], to_route: str | None, *, as_new: bool) -> Iterator[str]:
    exact = ", ".join(
        f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in preview["filter"].items()
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
    route: Annotated[str, typer.Argument(help="The route.")], config: ConfigPath = CONFIG, as_json: AsJson = False
) -> None:
    """Go on with a paused route; an open breaker is probed at once."""
    result = ask(config, "resume", checked(RouteWanted, route=route, who=me()))
    _tell(result, as_json, f"{route} goes on", f"{route} was not held by anything")


def _tell(result: dict[str, Any], as_json: bool, changed: str, same: str) -> None:
    if as_json:
        show_json(result)
    else:
        say(changed if result["changed"] else same)


def release(
    ids: Annotated[list[str], typer.Argument(help="Held deliveries.")],
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let held deliveries go."""

    async def work(caller: Caller) -> list[str]:
        return [(await caller("release", {"id": one, "who": me()}))["id"] for one in ids]

    released = with_hub(config, work)
    if as_json:
        show_json({"released": released})
    else:
        say(f"released: {', '.join(released)}")


def cancel(
    ids: Annotated[list[str] | None, typer.Argument(help="Pending or held deliveries.")] = None,
    route: Annotated[str | None, typer.Option(help="All that is open on this route, also on one that is gone.")] = None,
    yes: Yes = False,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Skip deliveries that are not done. One under way runs to its end."""
    if bool(ids) == (route is not None):
        raise WrongUsage("name deliveries by id, or one --route")
    if route is not None and not yes:
        counts = ask(config, "status", {})["routes"].get(route, {})
        ask_person(f"Cancel all {counts.get('pending', 0) + counts.get('held', 0)} open deliveries of {route}?")
    result = ask(config, "cancel", checked(Cancelled, ids=ids, route=route, who=me()))
    if as_json:
        show_json(result)
    elif result["cancelled"]:
        say(f"{len(result['cancelled'])} cancelled")
    if result["untouched"]:
        raise CommandError(f"not pending or held, so not cancelled: {', '.join(result['untouched'])}")


def accept(
    id: Annotated[str, typer.Argument(help="The refused request, as `hub refused` lists it.")],
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let a refused request in after all: verified and parsed again with today's config."""
    result = ask(config, "refused.accept", {"id": id})
    if as_json:
        show_json(result)
    else:
        say(f"{result['id']}: {'was accepted before' if result['duplicate'] else 'accepted'}")
