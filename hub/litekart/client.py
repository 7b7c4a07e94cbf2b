"""The store's API as the vendor's page shows its SDK, async."""

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Self

import httpx

from hub.client import Guard, open_client
from hub.clock import system_time
from hub.connector import Secret
from hub.errors import ConfigError, ValidationFailed
from hub.litekart import resources
from hub.litekart.answers import unwrapped
from hub.litekart.budget import Budget
from hub.litekart.calls import ANYTHING, MAX_ANSWER, Calls, Request, wire_text
from hub.litekart.profiles import PROFILES

TIMEOUT = 30.0
DEADLINE = 120.0
BACKOFF = 0.5
RETRIES = 3
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


class Litekart:
    """A store's REST API: `async with Litekart(api_key="…", base_url="https://shop.example") as client`.

    `profile`: `seed` (the vendor's page) or `v2` (the live API, which may want a `store_id`). Without `http` it opens
    a guarded client of its own, that reaches public addresses and those that `allow` names; with it, `async with` is
    not needed. `timeout`: seconds for one request. `retries`: how often a read is tried again, and a write of which
    surely nothing was sent; 0: never, as where a connector calls. `deadline`: seconds of a call past which nothing is
    waited for any more; what would have to be is raised at once. `budget`: the hour's requests, of which `who`
    spends; `background` leaves others a reserve.

    Calls raise a LitekartError by its meaning, NotNow with the budget spent, AddressRefused, and ConfigError for an
    address or key that cannot be used.
    """

    def __init__(
        self,
        api_key: str | Secret,
        base_url: str,
        *,
        profile: str = "seed",
        store_id: str | None = None,
        http: httpx.AsyncClient | None = None,
        budget: Budget | None = None,
        retries: int = RETRIES,
        who: str = "client",
        background: bool = False,
        clock: Callable[[], datetime] = system_time,
        timeout: float = TIMEOUT,
        deadline: float = DEADLINE,
        backoff: float = BACKOFF,
        allow: Iterable[str] = (),
    ) -> None:
        if profile not in PROFILES:
            raise ConfigError(f"profile: {' or '.join(PROFILES)}")
        calls = Calls(
            api_key,
            base_url,
            PROFILES[profile],
            store_id=store_id,
            budget=budget,
            clock=clock,
            timeout=timeout,
            backoff=backoff,
        )
        calls.http = http
        self._own: httpx.AsyncClient | None = None
        self._guard, self._timeout = Guard(allow), timeout
        self._calls = calls.acting_for(who, background=background, retries=retries, deadline=deadline, newer_than=None)

    def __repr__(self) -> str:
        return f"Litekart({self._calls.base_url!r}, profile={self._calls.profile.name!r})"

    async def __aenter__(self) -> Self:
        if self._calls.http is None:
            self._own = open_client(self._guard, timeout=self._timeout, max_answer=MAX_ANSWER)
            self._calls.http = self._own
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what is under way, and close what was opened here."""
        await self._calls.close()
        if self._own is not None:
            await self._own.aclose()
            self._own = self._calls.http = None

    def acting_for(
        self,
        who: str,
        *,
        background: bool = False,
        retries: int = 0,
        deadline: float = DEADLINE,
        newer_than: datetime | None = None,
    ) -> Self:
        """The same client for another caller: it shares connections, budget, and reads that are under way or kept.

        `newer_than`: the caller's reads are from requests begun after that moment. Close the first one, not this.
        """
        other = copy.copy(self)
        other._own = None
        other._calls = self._calls.acting_for(
            who, background=background, retries=retries, deadline=deadline, newer_than=newer_than
        )
        return other

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Any other call: `await client.request("POST", "/api/returns", json={…})`; what is inside the envelope.

        `path` is yours to quote; it begins with /. Decimals come as Decimal. A write forgets all reads that are kept.
        """
        verb = method.upper()
        if verb not in METHODS or not _is_usable_path(path):
            raise ValidationFailed("needs a method such as POST and a path such as /api/returns, without query or ..")
        pairs = tuple((name, wire_text(value)) for name, value in (params or {}).items())
        return unwrapped(await self._calls.exchange(Request(verb, path, verb, ANYTHING, pairs, json)))

    @property
    def products(self) -> resources.Products:
        return resources.Products(self._calls)

    @property
    def orders(self) -> resources.Orders:
        return resources.Orders(self._calls)

    @property
    def order_tags(self) -> resources.OrderTags:
        return resources.OrderTags(self._calls)

    @property
    def tracking(self) -> resources.TrackingEntries:
        return resources.TrackingEntries(self._calls)

    @property
    def customers(self) -> resources.Customers:
        return resources.Customers(self._calls)

    @property
    def carts(self) -> resources.Carts:
        return resources.Carts(self._calls)

    @property
    def users(self) -> resources.Users:
        return resources.Users(self._calls)

    @property
    def categories(self) -> resources.Categories:
        return resources.Categories(self._calls)

    @property
    def brands(self) -> resources.Brands:
        return resources.Brands(self._calls)

    @property
    def coupons(self) -> resources.Coupons:
        return resources.Coupons(self._calls)

    @property
    def settings(self) -> resources.StoreSettings:
        return resources.StoreSettings(self._calls)

    @property
    def payments(self) -> resources.Payments:
        return resources.Payments(self._calls)

    @property
    def content(self) -> resources.Content:
        return resources.Content(self._calls)

    @property
    def inventory(self) -> resources.InventoryItems:
        return resources.InventoryItems(self._calls)

    @property
    def webhooks(self) -> resources.Webhooks:
        return resources.Webhooks(self._calls)


def _is_usable_path(path: str) -> bool:
    return (
        bool(re.fullmatch(r"/[!-~]*", path))
        and not re.search(r"[?#\\]|//", path)
        and not {".", ".."} & {step.lower().replace("%2e", ".") for step in path.split("/")}
    )
