"""A shop beside a running hub: its events name the case they are for, and each case has a route of that name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from hub.config import load_config
from hub.process import Caller, local_hub
from tests.e2e.ledger import PATIENCE, Load
from tests.hubs import HubProcess, command, config_of, hub_process, write_config
from tests.servers import eventually

Json = dict[str, Any]


@dataclass
class Shop:
    config: Path
    hub: HubProcess
    load: Load
    ask: Caller
    numbers: "count[int]" = field(default_factory=count)

    async def place(self, case: str, **data: Any) -> str:
        """One order for this case, acknowledged; its event's id."""
        marker = await self.load.post_one(next(self.numbers), "order.placed", case=case, **data)
        return self.load.acked[marker]

    async def run(self, *words: str) -> Any:
        """`hub WORDS --json`, which must work; what it printed."""
        code, output, errors = await command(self.config, *words, "--json")
        assert code == 0, f"hub {' '.join(words)}: {code}: {errors}"
        return output

    async def delivery(self, event_id: str, route: str) -> Json | None:
        """That event's delivery on that route, whole; None before fan-out."""
        event = await self.ask("show", {"id": event_id})
        return next((delivery for delivery in event["deliveries"] if delivery["route"] == route), None)

    async def became(self, event_id: str, status: str, route: str, attempts: int = 0) -> Json:
        """The delivery, once it has that status and at least so many attempts."""

        async def found() -> Any:
            one = await self.delivery(event_id, route)
            return one if one and one["status"] == status and one["attempts"] >= attempts else None

        delivery: Json = await eventually(found, PATIENCE, f"{route}: {event_id} did not become {status}")
        return delivery

    async def state(self, route: str) -> Json:
        """What `hub status` says of a route."""
        state: Json = (await self.ask("status", {}))["routes"][route]
        return state


@asynccontextmanager
async def open_shop(folder: Path, routes: dict[str, Json], **more: Any) -> AsyncIterator[Shop]:
    """`hub up` in `folder`; each route takes the events of the case of its name."""
    routes = {name: {"when": f'data.case == "{name}"'} | route for name, route in routes.items()}
    config = write_config(folder, config_of(routes, **more))
    async with hub_process(config, "up") as hub, Load([hub.url]) as load, local_hub(load_config(config)) as caller:
        yield Shop(config, hub, load, caller)
