"""`/events/{id}`: all that became of one event, and its replay along any routes, previewed first."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.clock import new_id
from hub.runtime import Hub
from hub.store import reading
from hub.store.meant import DONE
from hub.store.reading import WholeDelivery, WholeEvent
from hub.web import api
from hub.web.explain import Surroundings, explained, not_taken, surroundings
from hub.web.pages.asked import accepted, action, filled, form_of, hub_of, missing, operator_page, page, path_of, see
from hub.web.pages.events import webhook_url
from hub.web.pages.live import event_mark, stream_of_one
from hub.web.people import person_of
from hub.web.plain import held_by, whole_event_json
from hub.web.rendering import render

LONGEST_COMMAND = 8_192
OUTCOMES = {
    None: "is under way", "delivered": "delivered", "try_again": "failed", "rejected": "failed for good",
    "hold": "held it", "hold_route": "opened the breaker", "skip": "skipped it", "not_now": "not now", "lost": "lost",
    "late": "ended late",
}  # fmt: skip
HINT = re.compile("; `hub [^`]+`$")

GONE_BODY = "cannot be sent again: its body was dropped when it was old"


@dataclass(frozen=True)
class Along:
    """A route along which an event may be sent: what is there, and what sending it (again) would do.

    `can`: whether it would do anything. `sent`: what was done there already, so that a replay that is not as new
    sends nothing.
    """

    route: str
    status: str | None
    can: bool
    sent: str | None
    late: bool
    text: str


async def index(request: Request) -> Response:
    hub = hub_of(request)
    whole, around, mark = await found(hub, path_of(request))
    told = explained(whole, around)
    shown = whole_event_json(whole, api.keys_of(whole.event), reading.blocked(around.states.values(), around.routes))
    texts = {one["id"]: one["text"] for one in told["deliveries"]}
    for delivery in shown["deliveries"]:
        delivery["text"] = standing_text(delivery, texts[delivery["id"]])
    routes = along_routes(whole, around)
    return render(
        request,
        "event.html",
        event=shown,
        mark=mark,
        told=told,
        secret=secret_text(hub, whole),
        command=command(hub, whole),
        size=len(whole.event.body or b""),
        routes=routes,
        replayable={one.route for one in routes if one.can},
        configured=set(hub.config.routes),
        outcomes=OUTCOMES,
        summary=summary(shown["deliveries"]),
    )


async def found(hub: Hub, event_id: str) -> tuple[WholeEvent, Surroundings, str]:
    """The event, what decides about it, and the mark of how it stands. Raises HTTPException 404."""
    now = hub.now()

    def read(connection: Connection) -> tuple[WholeEvent, Surroundings, str] | None:
        whole = reading.get_event(connection, event_id)
        if whole is None:
            return None
        around = surroundings(connection, now, hub.config, whole)
        return whole, around, event_mark(one.delivery for one in whole.deliveries)

    all_of_it = await hub.database.read(read)
    if all_of_it is None:
        raise missing("there is no event of that id")
    return all_of_it


def standing_text(delivery: dict[str, Any], text: str) -> str:
    """A delivery's state in words, without the commands that buttons stand for here."""
    done = [attempt for attempt in delivery["attempted"] if attempt["outcome"] == "delivered"]
    match delivery["status"], delivery["held_by"]:
        case "delivered", _:
            return str(done[-1]["note"] or "delivered") if done else "delivered"
        case ("dead" | "skipped", _) | ("held", None):
            return str(delivery["last_error"] or delivery["status"])
    # The route's state stands beside it, with its own page and buttons.
    return HINT.sub("", text.removeprefix("held: "))


def summary(deliveries: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """How many deliveries stand how, the worst first."""
    statuses = [delivery["status"] for delivery in deliveries]
    return [
        (one, statuses.count(one)) for one in ("dead", "held", "pending", "delivered", "skipped") if one in statuses
    ]


def secret_text(hub: Hub, whole: WholeEvent) -> str:
    """Which secret signed it, by its fingerprint, and whether that one is still taken."""
    if whole.event.secret is None:
        return "not signed: it did not come as a webhook"
    known = {key.fingerprint for key in hub.keys.get(whole.event.store, ())}
    still = "still configured" if whole.event.secret in known else "not configured any more"
    return f"the one with fingerprint {whole.event.secret}, {still}"


def command(hub: Hub, whole: WholeEvent) -> str | None:
    """The request as a command to paste, without its signature; None for a body too long to paste."""
    body = bytes(whole.event.body or b"")
    if not body or len(body) > LONGEST_COMMAND:
        return None
    url = webhook_url(hub, whole.event.store) if whole.event.store in hub.config.stores else webhook_url(hub)
    return (
        f"BODY={shlex.quote(body.decode('utf-8', 'replace'))}\n"
        'SIGNATURE=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -r | cut -c1-64)\n'
        f"curl {shlex.quote(url)} -H 'Content-Type: application/json' \\\n"
        '  -H "X-Litekart-Signature: $SIGNATURE" --data-binary "$BODY"'
    )


def along_routes(whole: WholeEvent, around: Surroundings) -> list[Along]:
    """Every configured route, with what sending the event along it would mean."""
    taken = {one.delivery.route: one for one in whole.deliveries}
    reasons = not_taken(whole, around.routes)
    held_up = reading.blocked(around.states.values(), around.routes)
    return [
        along(taken[name], around, held_up) if name in taken else left_out(name, reasons.get(name), around, held_up)
        for name in sorted(around.routes)
    ]


def along(one: WholeDelivery, around: Surroundings, held_up: dict[str, str]) -> Along:
    row = one.delivery
    done = next((effect for effect in reversed(one.effects)), None)
    can = row.status in DONE and row.lease_until is None
    late = can and around.routes[row.route].ordered and row.entity is not None
    sent = None if done is None else f"{done.name} {done.value}"
    text = "goes again, under the same key" if can else "is under way or waits, and stays as it is"
    if can and around.dropped and not row.reads_state:
        can, text = False, GONE_BODY
    elif can and row.status == "delivered":
        # Nothing was remembered of what it did, so that nothing but the key can keep it from being done twice.
        text = "was delivered and goes again under the same key; the other side may do it a second time"
    shown = "held" if held_by(row, held_up) else row.status
    return Along(row.route, shown, can, sent, late, text + waits_text(row.route, can, held_up))


def left_out(route: str, reason: str | None, around: Surroundings, held_up: dict[str, str]) -> Along:
    if around.dropped and not around.routes[route].connector_class.reads_state:
        return Along(route, None, False, None, False, GONE_BODY)
    text = "goes there although it was not taken: conditions and max_age do not count" if reason else "goes there"
    return Along(route, None, True, None, False, text + waits_text(route, True, held_up))


def waits_text(route: str, can: bool, held_up: dict[str, str]) -> str:
    """That it will wait there, and why, where it goes at all."""
    why = {"paused": "; it waits while the route is paused", "broken": "; it waits while the route's breaker is open"}
    return why.get(held_up.get(route, ""), "") if can else ""


async def raw(request: Request) -> Response:
    """The body's very bytes, as a file."""
    whole, _, _ = await found(hub_of(request), path_of(request))
    if whole.event.body is None:
        raise missing("the body was dropped when it was old")
    headers = {
        "content-disposition": f'attachment; filename="{whole.event.id}.json"',
        "x-content-type-options": "nosniff",
    }
    return Response(bytes(whole.event.body), media_type="application/octet-stream", headers=headers)


async def preview(request: Request) -> Response:
    """What a replay along these routes would do; with `all`, also along all that the event took."""
    whole, around, _ = await found(hub_of(request), path_of(request))
    chosen, every = set(request.query_params.getlist("routes")), "all" in request.query_params
    routes = [one for one in along_routes(whole, around) if one.route in chosen or (every and one.status)]
    as_new = bool(request.query_params.get("as_new"))
    return render(
        request,
        "event_replay.html",
        event=whole_event_json(whole, set(), {}),
        routes=routes,
        going=[one.route for one in routes if one.can],
        as_new=as_new,
        replay_id=new_id("rpl"),
    )


async def replay(request: Request) -> Response:
    form = await form_of(request)
    arguments = {"id": path_of(request), "routes": form.getlist("routes"), "who": person_of(request).name}
    as_new = form.get("as_new") == "1"
    if as_new and form.get("sure") != "1":
        raise api.WrongUsage("to send again what was sent before, say that you are sure of it")
    started = await api.replay_event(hub_of(request), arguments | filled(form, "replay_id") | {"as_new": as_new})
    return see(f"/replays/{started['id']}", done="replayed")


async def let_in(request: Request) -> Response:
    """Let a repeat with other content in as an event of its own."""
    form = await form_of(request)
    repeat_id = form.get("repeat", "")
    if not repeat_id.startswith("rpt_"):
        raise api.WrongUsage("name the repeat to let in")
    return await accepted(request, repeat_id)


async def delivery(request: Request) -> Response:
    """A delivery's address: its place on its event's page."""
    delivery_id = path_of(request)
    whole = await hub_of(request).database.read(lambda connection: reading.get_delivery(connection, delivery_id))
    if whole is None:
        raise missing("there is no delivery of that id")
    return RedirectResponse(f"/events/{whole.delivery.event_id}#{whole.delivery.id}", 302)


ROUTES = [
    page("/events/{id}", index),
    page("/events/{id}/raw", raw),
    page("/events/{id}/live", stream_of_one),
    operator_page("/events/{id}/replay", preview),
    action("/events/{id}/replay", replay),
    action("/events/{id}/let-in", let_in),
]
DELIVERY = page("/deliveries/{id}", delivery)
