"""Reorders: what `ctx.reorders` is for a delivery, and the orders that become due."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from hub.connector import (
    REORDER_CLOSES_AFTER,
    REORDER_WINDOW,
    Rejected,
    Reorder,
    ReorderLine,
    ReorderOrder,
    Reorders,
)

NO_ORDER = "this event is about no order of this route"


class NoReorders(Reorders):
    """For a check: there are none, and none can be opened."""

    async def open(
        self,
        line: ReorderLine,
        *,
        window: timedelta = REORDER_WINDOW,
        close_after: timedelta = REORDER_CLOSES_AFTER,
    ) -> Reorder:
        raise Rejected("nothing is reordered by a check")

    async def current(self, sku: str, location: str) -> Reorder | None:
        return None

    async def seen(self, sku: str, location: str, stock: int | None, threshold: int | None) -> None:
        return None

    async def close(self, sku: str, location: str, why: str) -> Reorder | None:
        return None

    async def order(self) -> ReorderOrder:
        raise Rejected(NO_ORDER)

    async def dropped_from(self, ids: Sequence[str], why: str) -> None:
        return None

    async def spend(self, most: Decimal) -> bool:
        raise Rejected(NO_ORDER)

    async def spent_today(self) -> Mapping[str, Decimal]:
        return {}

    async def sent(self, number: str, url: str | None = None) -> None:
        raise Rejected(NO_ORDER)
