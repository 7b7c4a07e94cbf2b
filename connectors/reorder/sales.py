"""What was sold of each SKU lately, by the store's own orders: as many of the newest as an hour's requests allow.

The list of orders is read anew, an order's lines once: where the list leaves them out (v2), each order is one request.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors.erp.reading import CANCELLED
from connectors.reorder.quantity import Sold
from hub.connector import Context, NotFound

MOST_ORDERS = 300
FRESH_FOR = timedelta(minutes=10)
LEAST = timedelta(days=7)
"""What sold in a shorter time tells no pace."""


@dataclass
class Book:
    """The orders of one store, newest first: when placed, and what of. `reaches`: back to when they are all here."""

    lane: asyncio.Lock = field(default_factory=asyncio.Lock)
    read_at: datetime | None = None
    reaches: datetime | None = None
    back: timedelta = timedelta()
    lines: dict[str, Mapping[str, int]] = field(default_factory=dict)
    placed: dict[str, datetime] = field(default_factory=dict)


class Sales:
    """Reads the sales of stores; lives as long as its route."""

    def __init__(self) -> None:
        self._books: dict[str, Book] = {}

    async def of(self, sku: str, back: timedelta, made_at: datetime | None, ctx: Context) -> Sold:
        """What was sold of it in the time `back`, or in as much of that as could be read, and as there was of it.

        `made_at`: when the product was made. Of a time before product or store were there, nothing is concluded.
        """
        book = await self._read(back, ctx)
        now = ctx.now()
        first = min(book.placed.values(), default=now)
        if made_at is not None and made_at < now:
            first = max(first, made_at)
        since = max(now - back, book.reaches or now - back)
        return Sold(_units(book, sku, since), min(now - since, max(now - first, LEAST)))

    async def since(self, sku: str, moment: datetime, ctx: Context) -> int:
        """What was sold of it since then, as far as is known."""
        return _units(await self._read(ctx.now() - moment, ctx), sku, moment)

    async def _read(self, back: timedelta, ctx: Context) -> Book:
        book = self._books.setdefault(ctx.store, Book())
        async with book.lane:
            now = ctx.now()
            if book.read_at is None or back > book.back or not timedelta() <= now - book.read_at < FRESH_FOR:
                await _fill(book, max(back, book.back), ctx)
        return book


async def _fill(book: Book, back: timedelta, ctx: Context) -> None:
    now = ctx.now()
    lines: dict[str, Mapping[str, int]] = {}
    placed: dict[str, datetime] = {}
    reaches = now - back
    async for order in ctx.litekart.orders.iter(sort=["-created_at"], created_after=reaches):
        if (order.status or "").lower() in CANCELLED or order.created_at is None:
            continue
        if len(lines) >= MOST_ORDERS:
            reaches = min(placed.values())
            break
        lines[order.id] = await _lines(book, order, ctx)
        placed[order.id] = order.created_at
    book.lines, book.placed, book.reaches = lines, placed, reaches
    book.read_at, book.back = now, back


async def _lines(book: Book, order: Any, ctx: Context) -> Mapping[str, int]:
    if order.items is None:
        if order.id in book.lines:
            return book.lines[order.id]
        try:
            order = await ctx.litekart.orders.get(order.id)
        except NotFound:
            return {}
    found: dict[str, int] = {}
    for line in order.items or ():
        if line.sku and (line.status or "").lower() not in CANCELLED:
            found[line.sku] = found.get(line.sku, 0) + (line.quantity or 0)
    return found


def _units(book: Book, sku: str, since: datetime) -> int:
    return sum(lines.get(sku, 0) for order, lines in book.lines.items() if book.placed[order] >= since)
