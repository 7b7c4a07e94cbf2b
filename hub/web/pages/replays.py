"""`/replays`: replays, releases and cancels of many: how far each is, what became of it; and its stop half-way."""

from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from hub.store import replays
from hub.store.routes import audit_of_replay
from hub.web import api
from hub.web.pages.asked import action, hub_of, missing, page, path_of, query_of, see
from hub.web.pages.deliveries import START, in_words
from hub.web.pages.live import replay_mark, stream_of_one
from hub.web.people import person_of
from hub.web.plain import chosen
from hub.web.rendering import render

SHOWN = 50
# Of each action: what it is called, and what has been done to those that it has come to.
WORDS_OF = {
    "replay": ("Replay", "set going"), "release": ("Release", "released"), "cancel": ("Cancel", "cancelled"),
}  # fmt: skip


async def index(request: Request) -> Response:
    asked = query_of(request, "before")
    found = await api.replay_list(hub_of(request), asked | {"limit": SHOWN})
    rows = [one | {"words": in_words(one["filter"])} for one in found["replays"]]
    return render(request, "replays.html", asked=asked, replays=rows, words_of=WORDS_OF, before=found["before"])


async def one(request: Request) -> Response:
    replay_id = path_of(request)

    def read(connection: Connection) -> dict[str, Any] | None:
        row = replays.get(connection, replay_id)
        if row is None:
            return None
        # Ids begin with their time, and the line was written right after the replay.
        lines = audit_of_replay(connection, replay_id, f"aud_{replay_id[4:20]}")
        became = replays.became(connection, replay_id)
        return api.replay_json(row) | {
            "became": became,
            "mark": replay_mark(row, became),
            "audit": [chosen(line, api.AUDIT_SHOWN) for line in lines],
        }

    shown = await hub_of(request).database.read(read)
    if shown is None:
        raise missing("there is no replay of that id")
    waiting = shown["became"].get("pending", 0)
    return render(
        request,
        "replay.html",
        replay=shown,
        mark=shown["mark"],
        words=in_words(shown["filter"]),
        can_stop=shown["state"] == "running" or (shown["state"] == "done" and waiting > 0),
        words_of=WORDS_OF[shown["action"]],
        going_on=shown["state"] == "running" or waiting > 0,
        counted=replays.MOST_COUNTED,
    )


async def stop(request: Request) -> Response:
    arguments = {"id": path_of(request), "who": person_of(request).name}
    stopped = await api.replay_stop(hub_of(request), arguments)
    return see(f"/replays/{stopped['id']}", done="stopped", n=stopped["given_back"])


ROUTES = [
    page("/replays", index),
    START,
    page("/replays/{id}", one),
    page("/replays/{id}/live", stream_of_one),
    action("/replays/{id}/stop", stop),
]
