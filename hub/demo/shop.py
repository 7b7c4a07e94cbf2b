"""The demo's shop: the store's double, whose webhooks the demo posts itself, so that it sees each answer."""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from typing import Any

from hub.testing.store import Call, Shop, StoreSettings
from hub.testing.store.sending import body_of

FIRST_ORDER_NO = 1042


class DemoShop(Shop):
    """What happens in it waits in `outbox` as a webhook's document, `{event, data, timestamp}`."""

    def __init__(self, api_key: str) -> None:
        self.outbox: deque[dict[str, Any]] = deque()
        self._shown = 0
        super().__init__(StoreSettings(api_key=api_key, products=12, customers=8, orders=6))
        self.state.next_order_no = FIRST_ORDER_NO

    def send(self, event: str, data: Any, entity: str = "", lane: asyncio.Semaphore | None = None) -> None:
        self.outbox.append(json.loads(body_of(event, data)))

    def fresh_calls(self) -> Iterator[Call]:
        """The calls of its API that were answered since the last time, in the order in which they came."""
        for call in list(self.records.calls):
            if call.number <= self._shown:
                continue
            if call.status is None:
                return
            self._shown = call.number
            yield call
