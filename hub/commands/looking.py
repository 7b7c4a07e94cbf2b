"""Commands that look: status, stores, events, deliveries, replays, show, explain, refused. They change nothing."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from hub.commands.asking import CONFIG, AsJson, ConfigPath, ask, ask_listed, checked
from hub.commands.output import moment, say, show_json, show_pairs, show_table, told_moment
from hub.web.api import DeliveriesWanted, EventsWanted, RefusedWanted, ReplaysWanted

Since = Annotated[str | None, typer.Option(help="Only newer: a time, or an age such as 2d.")]
Until = Annotated[str | None, typer.Option(help="Only older: a time, or an age such as 2d.")]
Store = Annotated[str | None, typer.Option(help="Only of this store.")]
Entity = Annotated[str | None, typer.Option(help="Only about this, such as order:ord_123456.")]
Limit = Annotated[int, typer.Option(help="At most so many, newest first.")]


def status(config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Is all well? ok, or degraded with reasons and remedies. Exit code 1 when degraded."""
    found = ask(config, "status", {})
    if as_json:
        show_json(found)
    else:
        _show_status(found)
    if found["status"] != "ok":
        raise typer.Exit(1)


def _show_status(found: dict[str, Any]) -> None:
    show_pairs([("status", found["status"]), *(("because", reason) for reason in found["reasons"])])
    show_pairs([("note", note) for note in found["notes"]])
    for store, polled in found["catch_up"].items():
        last = moment(polled["polled_at"]) or "not yet"
        say(f"store {store}: {polled['missing_24h']} {polled['missing_words']}, last polled {last}")
    if found["waiting_for_fan_out"]:
        say(f"{found['waiting_for_fan_out']} events wait for fan-out")
    rows = [
        (name, route["connector"], route["state"], route["pending"], route["held"], route["dead"])
        for name, route in found["routes"].items()
    ]
    show_table(["route", "connector", "state", "pending", "held", "dead"], rows, "no routes are configured")
    # Without a key nothing is ever asked there.
    asked = {name: store for name, store in found["stores"].items() if store["api_key"]}
    if asked:
        say("")
        left = [(name, _left(store), moment(store["resets_at"]), _spent(store)) for name, store in asked.items()]
        show_table(["store", "requests left", "resets", "spent by"], left, "")


def stores(config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """The stores, what is left of the hour's requests to each, and who spent most."""
    found = ask(config, "stores", {})
    if as_json:
        show_json(found)
        return
    rows = [
        (
            name,
            store["url"],
            store["profile"],
            "yes" if store["api_key"] else "no",
            _left(store) if store["api_key"] else "",
            moment(store["resets_at"]),
            _spent(store),
        )
        for name, store in found["stores"].items()
    ]
    show_table(["store", "url", "profile", "key", "requests left", "resets", "spent by"], rows, "no stores")


def _left(store: dict[str, Any]) -> str:
    return f"{store['left']} of {store['limit']}"


def _spent(store: dict[str, Any]) -> str:
    return ", ".join(f"{one['who']} {one['count']}" for one in store["spent"])


def events(
    store: Store = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only of this type; order.* for a group.")] = None,
    entity: Entity = None,
    since: Since = None,
    until: Until = None,
    search: Annotated[
        str | None, typer.Option("--search", "-q", help="An id, order number, customer, e-mail, SKU or payment.")
    ] = None,
    limit: Limit = 50,
    before: Annotated[int | None, typer.Option(help="The next page, as the last one said.")] = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """The events that came, newest first."""
    wanted = checked(
        EventsWanted, store=store, type=type_, entity=entity, since=since, until=until, q=search, limit=limit,
        before=before,
    )  # fmt: skip
    found = ask_listed(config, "events", wanted, "events")
    if as_json:
        show_json(found)
        return
    rows = [
        (
            moment(one["received_at"]),
            one["id"],
            one["store"],
            one["type"],
            one["entity"],
            one["repeats"] or "",
            _went(one),
        )
        for one in found["events"]
    ]
    show_table(["time", "id", "store", "type", "entity", "repeats", "deliveries"], rows, "no events")
    _more(found["before"])


def _went(event: dict[str, Any]) -> str:
    if event["fanned_out_at"] is None:
        return "not fanned out yet"
    return ", ".join(f"{one['route']}: {one['status']}" for one in event["deliveries"]) or "no route takes it"


def _more(before: Any) -> None:
    if before is not None:
        say(f"more with --before {before}")


def deliveries(
    status: Annotated[
        str | None,
        typer.Option(help="pending, held, delivered, dead or skipped; or held by a paused, broken or gone route."),
    ] = None,
    route: Annotated[str | None, typer.Option(help="Only along this route.")] = None,
    store: Store = None,
    entity: Entity = None,
    error: Annotated[str | None, typer.Option(help="Only with this error, as `hub status --json` names it.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    before: Annotated[str | None, typer.Option(help="The next page, as the last one said.")] = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """The deliveries, newest first."""
    wanted = checked(
        DeliveriesWanted, status=status, route=route, store=store, entity=entity, error_key=error, since=since,
        until=until, limit=limit, before=before,
    )  # fmt: skip
    found = ask_listed(config, "deliveries", wanted, "deliveries")
    if as_json:
        show_json(found)
        return
    rows = [
        (moment(one["created_at"]), one["id"], one["route"], one["type"], one["entity"], one["status"], _note(one))
        for one in found["deliveries"]
    ]
    show_table(["time", "id", "route", "type", "entity", "status", "note"], rows, "no deliveries")
    _more(found["before"])


def _note(delivery: dict[str, Any]) -> str:
    tried = f"{delivery['attempts']} of {delivery['budget']}" if delivery["attempts"] else ""
    held = f"route is {delivery['held_by']}" if delivery["held_by"] else ""
    return "; ".join(part for part in (held, _next_try(delivery), tried, delivery["last_error"]) if part)


def _next_try(delivery: dict[str, Any]) -> str:
    if delivery["status"] != "pending":
        return ""
    if delivery["lease_until"] is not None:
        return f"attempt {delivery['attempts']} is under way"
    return f"next try {moment(delivery['next_attempt_at'])}"


def replays(
    limit: Limit = 50,
    before: Annotated[str | None, typer.Option(help="The next page, as the last one said.")] = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """The replays, releases and cancels of many, newest first: whose, of what, and how far each has come."""
    found = ask(config, "replay.list", checked(ReplaysWanted, limit=limit, before=before))
    if as_json:
        show_json(found)
        return
    rows = [
        (
            moment(one["at"]),
            one["id"],
            one["action"],
            one["who"],
            replay_state(one),
            f"{one['done']} of {one['total']}",
            _meant(one),
        )
        for one in found["replays"]
    ]
    show_table(["time", "id", "what", "who", "state", "how far", "which"], rows, "no replays")
    _more(found["before"])


def replay_state(replay: dict[str, Any]) -> str:
    """`running`, `stopped` or `done`; of a paced one until when it is spread."""
    # What is released is due at once: such a one is over when all are.
    goes_on = replay["state"] == "running" or (replay["state"] == "done" and replay["action"] == "replay")
    spread = replay["last_due"] is not None and goes_on and replay["total"] > 1
    return f"{replay['state']}, spread until {moment(replay['last_due'])}" if spread else str(replay["state"])


def _meant(replay: dict[str, Any]) -> str:
    to = f"to {replay['to_route']}" if replay["to_route"] else ""
    found = (f"{name} {_joined(value)}" for name, value in replay["filter"].items())
    return ", ".join(part for part in (*found, to, "as new" if replay["as_new"] else "") if part)


def _joined(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(told_moment(value))


def show(
    id: Annotated[str, typer.Argument(help="An event's, delivery's, replay's, repeat's or refusal's id.")],
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """One thing whole."""
    found = ask(config, "show", {"id": id})
    if as_json:
        show_json(found)
        return
    lists = {"deliveries", "attempted", "effects", "keys", "differing_repeats", "body", "not_taken", "became"}
    show_pairs((name, _text(value)) for name, value in found.items() if name not in lists)
    show_pairs((f"not taken by {route}", reason) for route, reason in found.get("not_taken", {}).items())
    show_pairs([("became", _became(found))])
    show_pairs([("found by", ", ".join(f"{key['kind']} {key['value']}" for key in found.get("keys", [])))])
    for delivery in found.get("deliveries", [found] if found["kind"] == "delivery" else []):
        _show_tried(delivery)
    for repeat in found.get("differing_repeats", []):
        say("", f"repeat {repeat['id']} at {moment(repeat['at'])}, with other content:", repeat["body"])
    if found.get("body"):
        say("", *found["body"].splitlines())


def _became(found: dict[str, Any]) -> str:
    """What a replay's deliveries have come to: sent, waiting, dead."""
    names = {"delivered": "sent", "pending": "waiting"}
    return ", ".join(f"{count} {names.get(status, status)}" for status, count in found.get("became", {}).items())


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) and value else told_moment(value)


def _show_tried(delivery: dict[str, Any]) -> None:
    say("", f"{delivery['id']} on route {delivery['route']}: {delivery['status']} {delivery['last_error'] or ''}")
    rows = [
        (
            one["number"],
            moment(one["started_at"]),
            "" if one["duration_ms"] is None else f"{one['duration_ms']} ms",
            one["outcome"] or "under way",
            one["status_code"],
            one["note"],
        )
        for one in delivery["attempted"]
    ]
    show_table(["attempt", "time", "took", "outcome", "code", "note"], rows, "not tried yet")
    for one in delivery["attempted"]:
        for part in ("request", "response"):
            if one[part]:
                say(f"attempt {one['number']}, {part}:", *(f"  {line}" for line in one[part].splitlines()))
    for effect in delivery["effects"]:
        say(f"done: {effect['name']} {effect['value']} {effect['url'] or ''} at {moment(effect['at'])}")


def explain(
    event: Annotated[str, typer.Argument(help="Its id, a delivery's, or an order number, customer, e-mail, …")],
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """What happened to an event, in sentences: where it went, where not and why, what it waits for."""
    found = ask(config, "explain", {"id": event})
    if as_json:
        show_json(found)
    else:
        say(*_told(found))


def _told(found: dict[str, Any]) -> Iterator[str]:
    event = found["event"]
    about = f" about {event['entity']}" if event["entity"] else ""
    yield f"{event['id']}: {event['type']}{about} at {event['store']}, received {moment(event['received_at'])}"
    for part in ("repeats", "waiting", "dropped"):
        if found[part]:
            yield f"  {found[part]}"
    for one in found["deliveries"]:
        yield f"  {one['route']}: {one['text']}"
    for one in found["not_taken"]:
        yield f"  {one['route']}: not taken, {one['reason']}"
    if found["not_taken"] and not found["dropped"]:
        yield f"  `hub replay {event['id']} --to ROUTE` sends it along one of them all the same"
    elif not (found["waiting"] or found["deliveries"] or found["not_taken"]):
        yield "  no routes are configured"


def refused(context: typer.Context, limit: Limit = 50, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """The requests that did not become events, newest first."""
    if context.invoked_subcommand is not None:
        return
    found = ask(config, "refused", checked(RefusedWanted, limit=limit))
    if as_json:
        show_json(found)
        return
    rows = [
        (moment(one["at"]), one["id"], one["store"], one["status"], _cause(one), one["remote"], one["event_id"])
        for one in found["refused"]
    ]
    show_table(["time", "id", "store", "status", "reason", "from", "let in as"], rows, "no refused requests")


def _cause(refusal: dict[str, Any]) -> str:
    details = [f"{one['field']}: {one['message']}" for one in refusal["details"] or []]
    return "; ".join([refusal["reason"], *details])
