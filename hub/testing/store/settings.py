"""What can be set at the double: how much data, which rules, where its webhooks go and how badly they travel."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

ProfileName = Literal["seed", "v2"]
Details = Literal["auto", "object", "list"]
Payload = Literal["page", "full"]
RetryAfter = Literal["none", "header", "body", "both"]

API_KEY = "lk_test_key"
READ_KEY = "lk_test_read_only_key"
STORE_ID = "store_01JFY3G9F5NVT0R930JNKGQXRT"


@dataclass(frozen=True)
class Travel:
    """How webhooks travel. All is quiet by default: each once, at once, in order, rightly signed.

    `repeats`: least and most times that each is sent. `delay`: least and most seconds before each, so that they
    overtake one another. `shuffle`: that many are gathered, then sent in any order (`release` sends the rest).
    The others are shares from 0 to 1: of repeats `reserialised` (other spacing and order of keys) and `restamped`
    (another timestamp), of webhooks that a `forged` copy with a wrong signature goes with, and of those `lost`.
    `tries`: how often one is tried that is not answered 2xx, `wait` seconds apart; `timeout` of each in seconds.
    """

    repeats: tuple[int, int] = (1, 1)
    delay: tuple[float, float] = (0.0, 0.0)
    shuffle: int = 0
    reserialised: float = 0.0
    restamped: float = 0.0
    forged: float = 0.0
    lost: float = 0.0
    tries: int = 1
    wait: float = 0.2
    timeout: float = 30.0


@dataclass(frozen=True)
class StoreSettings:
    """All settings of a double; `StoreApi` takes them by name, and `configure` changes them while it runs.

    `limit` and `public_limit`: requests in `window` seconds with and without authentication. `rate_headers`: the
    `X-RateLimit-*` headers, by default as the profile has them (seed yes, v2 no). `retry_after`: where a 429 says
    how long to wait, by default nowhere in seed, in the body in v2. `details`: how validation errors look in seed;
    `auto` is an object for one problem and a list for several, as the vendor's page shows them. `payload`: what a
    webhook's data holds, the few fields of the vendor's page or many. `echo`: a write through the API sends
    webhooks too. `threshold`: stock at or below which it is low. `live`: seconds between what happens by itself.
    """

    profile: ProfileName = "seed"
    seed: int = 1
    products: int = 60
    customers: int = 80
    orders: int = 150
    limit: int = 1000
    public_limit: int = 100
    window: float = 3600.0
    rate_headers: bool | None = None
    retry_after: RetryAfter | None = None
    details: Details = "auto"
    payload: Payload = "page"
    echo: bool = True
    threshold: int = 5
    currency: str = "EUR"
    page_size: int = 20
    largest_page: int = 100
    api_key: str = API_KEY
    read_key: str = READ_KEY
    token_secret: str = "the double signs its tokens with this"
    store_id: str = STORE_ID
    webhooks: str | None = None
    secret: str = "the double's webhook secret"
    outage: bool = False
    live: float | None = None
    travel: Travel = field(default_factory=Travel)

    def changed(self, changes: Mapping[str, Any]) -> "StoreSettings":
        """With these; `travel` may be a mapping. Raises TypeError for a name that there is not."""
        given = dict(changes)
        if isinstance(travel := given.get("travel"), Mapping):
            pairs = {name: tuple(travel[name]) for name in ("repeats", "delay") if name in travel}
            given["travel"] = replace(self.travel, **{**travel, **pairs})
        return replace(self, **given)


NAMES = frozenset(one.name for one in fields(StoreSettings))
