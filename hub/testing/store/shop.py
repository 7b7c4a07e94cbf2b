"""A store in memory: its settings, state and records, held together. The API and the control surface work on it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from hub.testing.store.access import Limiter
from hub.testing.store.faults import Faults
from hub.testing.store.profiles import Profile
from hub.testing.store.records import Records
from hub.testing.store.seed import Seed
from hub.testing.store.seeding import seeded
from hub.testing.store.settings import StoreSettings
from hub.testing.store.v2 import V2

PROFILES: dict[str, Profile] = {"seed": Seed(), "v2": V2()}


class Shop:
    """Everything that a double is. `reset` makes it as it was at its start, with the same data."""

    def __init__(self, settings: StoreSettings) -> None:
        self.first_settings = settings
        self.limiter = Limiter()
        self.reset()

    def reset(self) -> None:
        self.settings = self.first_settings
        self.state = seeded(self.settings)
        self.records = Records()
        self.faults = Faults()
        self.limiter.reset()

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Other settings from now on. TypeError for one that there is not, ValueError for the profile."""
        if changes.get("profile", self.settings.profile) != self.settings.profile:
            raise ValueError("the profile is chosen at the start")
        self.settings = self.settings.changed(changes)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While the double runs."""
        yield

    @property
    def profile(self) -> Profile:
        return PROFILES[self.settings.profile]
