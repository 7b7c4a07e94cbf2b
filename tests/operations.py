"""Asking a lab's hub for operations, as commands do."""

import json
from typing import Any

from hub.web.api import OPERATIONS
from tests.hubdb import Lab


async def ask(lab: Lab, operation: str, **arguments: Any) -> Any:
    """One operation, its answer as JSON brings it."""
    return json.loads(json.dumps(await OPERATIONS[operation](lab.hub, arguments)))


async def listed(lab: Lab, **found: Any) -> list[str]:
    """The ids of the events that `hub events` finds."""
    return [one["id"] for one in (await ask(lab, "events", **found))["events"]]


async def delivered(lab: Lab, **found: Any) -> list[str]:
    """The ids of the deliveries that `hub deliveries` finds."""
    return [one["id"] for one in (await ask(lab, "deliveries", **found))["deliveries"]]


async def explained(lab: Lab, event_id: str, route: str = "one") -> str:
    """What `hub explain` says of the event on that route."""
    found = await ask(lab, "explain", id=event_id)
    (text,) = [one["text"] for one in found["deliveries"] if one["route"] == route]
    return str(text)
