"""A store in memory: its settings, state and records, held together. The API and the control surface work on it."""

import asyncio
from collections.abc import Mapping
from typing import Any

from hub.testing.store.access import Limiter
from hub.testing.store.faults import Faults
from hub.testing.store.payloads import data_of, entity_id
from hub.testing.store.profiles import Profile
from hub.testing.store.records import Records
from hub.testing.store.resources import Row
from hub.testing.store.seed import Seed
from hub.testing.store.seeding import register, seeded
from hub.testing.store.sending import Sender, body_of, targets
from hub.testing.store.settings import StoreSettings
from hub.testing.store.v2 import V2

PROFILES: dict[str, Profile] = {"seed": Seed(), "v2": V2()}


class Shop:
    """Everything that a double is. `reset` makes it as it was at its start, with the same data."""

    def __init__(self, settings: StoreSettings) -> None:
        self.first_settings = settings
        self.limiter = Limiter()
        self.sender = Sender(settings.seed)
        self._fill()

    def _fill(self) -> None:
        self.settings = self.first_settings
        self.state = seeded(self.settings)
        self.records = Records()
        self.faults = Faults()
        self.limiter.reset()

    async def reset(self) -> None:
        await self.sender.stop()
        self._fill()

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Other settings from now on. TypeError for one that there is not, ValueError for the profile.

        Another address or secret of `webhooks` takes, in v2, the place of all registrations.
        """
        if changes.get("profile", self.settings.profile) != self.settings.profile:
            raise ValueError("the profile is chosen at the start")
        self.settings = self.settings.changed(changes)
        if changes.keys() & {"webhooks", "secret"} and self.settings.profile == "v2":
            self.state.tables["webhooks"].clear()
            if self.settings.webhooks:
                register(self.state, self.settings.webhooks, self.settings.secret)

    def tell(self, event: str, row: Row, lane: asyncio.Semaphore | None = None) -> None:
        """Starts the webhooks of what has happened to a row."""
        data = data_of(self.state, event, row, self.settings.payload)
        self.send(event, data, entity_id(event, row), lane)

    def send(self, event: str, data: Any, entity: str = "", lane: asyncio.Semaphore | None = None) -> None:
        """Starts the webhooks of an event with that data, whatever it is."""
        to = list(targets(self.state, self.settings, event))
        self.sender.tell(self.records, self.settings, to, event, entity, body_of(event, data), lane)

    @property
    def profile(self) -> Profile:
        return PROFILES[self.settings.profile]
