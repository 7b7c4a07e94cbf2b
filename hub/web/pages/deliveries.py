"""`/deliveries`: found by status, route, reason and time; and what is done to one, some or all that match.

Everything that changes many is previewed first: the very filter in words, with its times fixed, and the count. The
form on that page carries the same filter, so that what is confirmed is what was shown.
"""

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hub.clock import new_id
from hub.errors import CommandError
from hub.runtime import Hub
from hub.store.meant import DONE
from hub.web import api
from hub.web.pages.asked import (
    Form,
    action,
    clean,
    filled,
    form_of,
    hub_of,
    listed,
    operator_page,
    page,
    query_of,
    see,
)
from hub.web.pages.event import DELIVERY
from hub.web.people import person_of
from hub.web.rendering import render

PARTS = ("status", "route", "store", "entity", "error_key", "since", "until")
FILTERS = (*PARTS, "before")
STATUSES = (
    ("dead", "dead"), ("pending", "pending"), ("held", "held, for whatever reason"), ("paused", "held: route paused"),
    ("broken", "held: breaker open"), ("gone", "held: route gone from the config"), ("delivered", "delivered"),
    ("skipped", "skipped"),
)  # fmt: skip
# What may be done to deliveries that are listed by this status.
ACTIONS = {
    None: ("replay", "release", "cancel"),
    "held": ("release", "cancel"),
} | dict.fromkeys(DONE, ("replay",)) | dict.fromkeys(("pending", "paused", "broken", "gone"), ("cancel",))  # fmt: skip
WORDS = {
    "status": "that are", "route": "on route", "store": "of store", "entity": "about",
    "error_key": "with the reason", "since": "made since", "until": "made until",
}  # fmt: skip
STATUS_WORDS = {
    "held": "held, for whatever reason", "paused": "held by a paused route", "broken": "held by an open breaker",
    "gone": "held by a route that is gone from the config",
}  # fmt: skip
EVENT_ID = re.compile("evt_[0-9a-f]{1,64}", re.ASCII)
SHOWN = 50
MOST_IDS = 500


async def index(request: Request) -> Response:
    hub = hub_of(request)
    asked = query_of(request, *FILTERS)
    found, problem = await listed(request, api.deliveries, asked | {"limit": SHOWN})
    filters = {name: asked[name] for name in PARTS if name in asked}
    return render(
        request,
        "deliveries.html",
        422 if problem else 200,
        asked=asked,
        filters=filters,
        problem=problem,
        deliveries=found.get("deliveries", []),
        before=found.get("before"),
        actions=ACTIONS.get(asked.get("status"), ()),
        whole=filters.keys() - {"store", "until"},
        statuses=STATUSES,
        stores=[(name, name) for name in hub.config.stores],
        routes=[(name, name) for name in hub.config.routes],
    )


async def preview(request: Request) -> Response:
    """What a replay, release or cancel would do: of those that were ticked, or of all that match."""
    query = query_of(request, "action", "all", "event", *PARTS)
    verb = query.get("all") or query.get("action", "")
    ids = () if "all" in query else tuple(clean(one) for one in request.query_params.getlist("id")[:MOST_IDS])
    found: dict[str, Any] = {"ids": ids} if ids else {name: query[name] for name in PARTS if name in query}
    if not ids and "all" not in query:
        raise api.WrongUsage("none was ticked: tick some first, or choose what does it to all that match")
    if verb == "replay":
        return await preview_replay(request, found)
    if verb not in {"release", "cancel"}:
        raise api.WrongUsage("action: must be replay, release or cancel")
    shown = await api.open_preview(hub_of(request), found | {"action": verb})
    names = {"count": shown["count"], "event": event_of(query), "verb": verb, "replay_id": new_id("rpl")}
    return render(
        request, "preview_open.html", fields=fields_of(shown["filter"]), words=in_words(shown["filter"]), **names
    )


async def preview_replay(request: Request, found: Mapping[str, Any]) -> Response:
    if found.get("status", "dead") not in DONE:
        raise api.WrongUsage(f"what is {found['status']} is not done yet: release or cancel it, or resume its route")
    shown = await api.replay_preview(hub_of(request), dict(found))
    return render(
        request,
        "preview_replay.html",
        shown=shown,
        fields=fields_of(shown["filter"]),
        words=in_words(shown["filter"]),
        as_new=request.query_params.get("as_new") == "1",
        replay_id=new_id("rpl"),
        again=dict(found)
        | ({"all": "replay"} if "ids" not in found else {"action": "replay", "id": found["ids"], "ids": None}),
    )


def fields_of(exact: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The very filter as a form's fields."""
    ids = [("ids", one) for one in exact.get("ids", ())]
    return ids + [(name, exact[name]) for name in PARTS if exact.get(name)]


def in_words(exact: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The very filter in words: each part with what comes before its value."""
    ids = exact.get("ids", ())
    said = [(f"{len(ids)} chosen by id", "")] if ids else []
    for name in PARTS:
        if exact.get(name):
            value = STATUS_WORDS.get(exact[name], exact[name]) if name == "status" else exact[name]
            said.append((WORDS[name], str(value)))
    return said


def given(form: Form) -> dict[str, Any]:
    """The filter that a preview's form carries."""
    return filled(form, *PARTS) | {"ids": tuple(form.getlist("ids"))}


async def release(request: Request) -> Response:
    return await change(request, "release")


async def cancel(request: Request) -> Response:
    return await change(request, "cancel")


async def change(request: Request, verb: str) -> Response:
    """Begin it for all that match, and show how far it is; one that was asked for on its event's page ends there."""
    form = await form_of(request)
    who, ids = {"who": person_of(request).name}, form.getlist("ids")
    event = event_of(form)
    if event is not None and len(ids) == 1:
        await ONE[verb](hub_of(request), ids[0], who)
        return see(f"/events/{event}", done=ENDED[verb], n=1)
    arguments = given(form) | filled(form, "replay_id") | who | {"action": verb, "pace": pace_of(form)}
    begun = await api.open_start(hub_of(request), arguments)
    done = BEGUN[verb] if begun["state"] == "running" else ENDED[verb]
    return see(f"/replays/{begun['id']}", done=done, n=begun["done"])


async def release_one(hub: Hub, delivery_id: str, who: dict[str, str]) -> None:
    await api.release(hub, {"id": delivery_id} | who)


async def cancel_one(hub: Hub, delivery_id: str, who: dict[str, str]) -> None:
    if not (await api.cancel(hub, {"ids": (delivery_id,)} | who))["cancelled"]:
        raise CommandError(f"{delivery_id} is not pending or held any more, so it was not cancelled")


def event_of(values: Mapping[str, str]) -> str | None:
    """The event on whose page it was asked for."""
    event = values.get("event", "")
    return event if EVENT_ID.fullmatch(event) else None


async def start(request: Request) -> Response:
    """Begin the replay that was previewed."""
    form = await form_of(request)
    as_new = form.get("as_new") == "1"
    if as_new and form.get("sure") != "1":
        raise api.WrongUsage("to send again what was sent before, say that you are sure of it")
    arguments = (
        given(form)
        | filled(form, "replay_id")
        | {"as_new": as_new, "who": person_of(request).name, "pace": pace_of(form)}
    )
    started = await api.replay_start(hub_of(request), arguments)
    return see(f"/replays/{started['id']}", done="replayed")


def pace_of(form: Form) -> float | None:
    """Deliveries a second; None for as fast as it goes. Raises WrongUsage."""
    text = form.get("pace", "")
    try:
        return float(text) if text else None
    except ValueError:
        raise api.WrongUsage("pace: must be a number of deliveries a second, or empty") from None


ONE = {"release": release_one, "cancel": cancel_one}
BEGUN = {"release": "releasing", "cancel": "cancelling"}
ENDED = {"release": "released", "cancel": "cancelled"}
ROUTES = [
    page("/deliveries", index),
    operator_page("/deliveries/preview", preview),
    action("/deliveries/release", release),
    action("/deliveries/cancel", cancel),
    DELIVERY,
]
START = action("/replays", start)
