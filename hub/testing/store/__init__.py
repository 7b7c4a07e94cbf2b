"""A Litekart store to develop against: its REST API in both profiles, and what happens in it.

`StoreApi` runs one in this process, `hub store-double` in its own; `StoreHandle` speaks to either. It behaves as the
vendor's page says (`seed`) or as the live API does (`v2`), and shares no code with the hub's client of that API.
docs/store-double.md tells the rest.
"""

from hub.testing.store.faults import Fault
from hub.testing.store.handle import StoreHandle
from hub.testing.store.records import Call, Sent
from hub.testing.store.server import StoreApi, serving
from hub.testing.store.settings import API_KEY, READ_KEY, STORE_ID, StoreSettings, Travel
from hub.testing.store.shop import Shop

__all__ = [
    "API_KEY", "READ_KEY", "STORE_ID", "Call", "Fault", "Sent", "Shop", "StoreApi", "StoreHandle", "StoreSettings",
    "Travel", "serving",
]  # fmt: skip
