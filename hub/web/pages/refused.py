"""`/refused`: requests that did not become events, with what is likely wrong, what to do, and a way to let one in."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hub.errors import CommandError
from hub.receive import UNREAD
from hub.web import api
from hub.web.pages.asked import accepted, action, form_of, hub_of, listed, missing, page, path_of, query_of
from hub.web.pages.events import webhook_url
from hub.web.rendering import render

SHOWN = 50
SIGNATURE = "x-litekart-signature"
RINGS = (("1", "rightly signed"), ("0", "not signed, or wrongly"))
CAUSES = {
    400: "Not JSON", 401: "Wrong signature", 404: "Unknown store", 405: "Not posted", 408: "Too slow", 413: "Too large",
    415: "Compressed", 422: "No event",
}  # fmt: skip
REMEDIES = {
    400: ("The body is not JSON.", "Look at the body below: something on its way may have changed it."),
    404: (
        "The address names a store that the config does not have.",
        "Correct the webhook's address in the store, or add the store to the config.",
    ),
    405: ("It was not posted.", "Webhooks are posted. A browser or a check that asks with GET can be ignored."),
    408: ("The body came too slowly.", "Look at the network between the store and the hub; the store sends it again."),
    413: ("The body is larger than 1 MiB.", "No event of a store is: look at what sends this."),
    415: ("The body is compressed.", "Turn compression off for what the proxy in front passes on to the hub."),
    422: (
        "It is JSON and rightly signed, but no event of a store.",
        "The details name the field. A store's update may have changed it.",
    ),
}  # fmt: skip


def cause_of(status: int) -> str:
    """Why a request was refused, in a word or two."""
    return CAUSES.get(status, "No event")


def likely(refusal: dict[str, Any], has_signature: bool) -> tuple[str, str]:
    """What is likely wrong, and what to do about it."""
    if refusal["status"] == 401 and not has_signature:
        return (
            "There was no signature.",
            f"The store signs with {SIGNATURE}. Set a webhook secret there; a proxy must pass that header on.",
        )
    if refusal["status"] == 401:
        return (
            "The signature fits none of the store's secrets, or the body was changed on its way.",
            "Compare the store's webhook secret with webhook_secrets; while a secret changes, keep both there.",
        )
    return REMEDIES.get(refusal["status"], ("It was no event.", "The reason and the details say what was expected."))


async def index(request: Request) -> Response:
    asked = query_of(request, "signed", "store", "before")
    found, problem = await listed(request, api.refused, asked | {"limit": SHOWN})
    hub = hub_of(request)
    return render(
        request,
        "refused.html",
        422 if problem else 200,
        asked=asked,
        problem=problem,
        refused=[one | {"cause": cause_of(one["status"])} for one in found.get("refused", [])],
        before=found.get("before"),
        rings=RINGS,
        webhook_url=webhook_url(hub),
    )


async def one(request: Request) -> Response:
    refused_id = path_of(request)
    try:
        shown = await api.show(hub_of(request), {"id": refused_id})
    except CommandError:
        shown = {"kind": None}
    if shown["kind"] != "refused":
        raise missing("there is no refused request of that id; the oldest make room for new ones")
    wrong, remedy = likely(shown, SIGNATURE in (shown["headers"] or {}))
    return render(
        request,
        "refusal.html",
        one=shown,
        cause=cause_of(shown["status"]),
        wrong=wrong,
        remedy=remedy,
        can=shown["status"] not in UNREAD and not shown["cut"] and shown["event_id"] is None,
    )


async def let_in(request: Request) -> Response:
    await form_of(request)
    return await accepted(request, path_of(request))


ROUTES = [page("/refused", index), page("/refused/{id}", one), action("/refused/{id}/let-in", let_in)]
