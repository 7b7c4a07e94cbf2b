"""What is in stock now: of which SKU, where, how much, and at how much it is low; read from the store, as plain values.

A store keeps stock in inventory rows (a SKU in a warehouse each) or with its products. No call of its API finds rows
by SKU or product, so their ids are learned from a walk along all of them; where that is but a few pages, the walk is
the reading. Rows that are known are got one by one.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from connectors.messages import clean
from connectors.reorder.settings import Settings
from hub.connector import Context, Event, NotFound, NotOffered, Rejected

PAGE = 100
FEW_PAGES = 3
KNOWN_FOR = timedelta(minutes=30)
"""How long rows that are not there count as not there, in a store whose rows are many."""
TRUE_FOR = timedelta(hours=6)
"""How long the rows that are known of a product count as all of them: it may come into another warehouse."""
NAME_LENGTH = 200
PRODUCT = "product"


@dataclass(frozen=True)
class Stock:
    """The present stock of one SKU in one place. `location` is the store's id of a warehouse, "" for its only place.

    `stock` and `threshold` are None where neither store nor settings say. `places`: in how many places it is kept.
    `cost` is what one costs the merchant, `currency` the product's. `counted`: the store counts it at all.
    `made_at` is when the product was made.
    """

    sku: str
    name: str
    stock: int | None
    threshold: int | None
    location: str = ""
    places: int = 1
    counted: bool = True
    backorders: bool = False
    cost: Decimal | None = None
    currency: str | None = None
    product_id: str | None = None
    variant_id: str | None = None
    vendor_id: str | None = None
    lead_time: timedelta | None = None
    active: bool = True
    made_at: datetime | None = None

    @property
    def low(self) -> bool:
        return self.stock is not None and self.threshold is not None and self.stock <= self.threshold


@dataclass(frozen=True)
class About:
    """What an event names: `key` is its most exact word (variant, SKU, product or row), `product` the product."""

    key: str
    product: str | None
    whole: bool
    threshold: int | None = None


def about(event: Event) -> About:
    """Raises Rejected where it names nothing."""
    kind, _, value = (event.entity or "").partition(":")
    data = event.data
    product = _text(data, "productId", "product_id") or (value if kind == PRODUCT else None)
    if not value and not product:
        raise Rejected(f"this {event.type} names nothing by an id")
    whole = kind == PRODUCT
    return About(value or product or "", product, whole, _count(data, "threshold", "lowStockThreshold", "reorderPoint"))


@dataclass
class Shelves:
    """The inventory rows of one store, as far as their ids are known. `missing_until`: it has no inventory."""

    lane: asyncio.Lock = field(default_factory=asyncio.Lock)
    ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pages: int = 0
    walked_at: datetime | None = None
    rows: Sequence[Any] = ()
    missing_until: datetime | None = None

    def is_missing(self, asked: datetime) -> bool:
        return self.missing_until is not None and asked < self.missing_until


class Reading:
    """Reads the stock of stores; lives as long as its route."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shelves: dict[str, Shelves] = {}

    async def of_event(self, event: Event, ctx: Context) -> list[Stock]:
        """All that the event is about. Raises Rejected for a product that is gone, or is none."""
        what = about(event)
        rows = await self._rows(what.product or what.key if what.whole else what.key, ctx)
        if not rows and not what.whole and what.product:
            rows = await self._rows(what.product, ctx)
        identity = what.product or next((row.product_id for row in rows if row.product_id), None) or what.key
        product = await self._product(identity, ctx)
        found = list(self._of(product, rows, what.threshold))
        exact = [one for one in found if not what.whole and what.key in (one.sku, one.variant_id)]
        return exact or found

    async def of_sku(
        self, sku: str, location: str, product_id: str | None, told: int | None, ctx: Context, asked: datetime
    ) -> Stock | None:
        """The stock of what a reorder is about, as it was at `asked` or later; None: the store no longer has it.

        `told`: the threshold by which it was opened, which may be the event's alone.
        """
        rows = await self._rows(product_id or sku, ctx, asked)
        identity = product_id or next((row.product_id for row in rows if row.product_id), None)
        if identity is None:
            return None
        try:
            product = await ctx.litekart.products.get(identity, newer_than=None if rows else asked)
        except NotFound:
            return None
        # Where the inventory cannot be read just now, the product's own stock is all there is.
        places = {location, ""} if self._of_store(ctx).is_missing(asked) else {location}
        found = (one for one in self._of(product, rows, told) if one.sku == sku and one.location in places)
        return next(found, None)

    async def all_low(self, ctx: Context) -> list[Stock]:
        """All that is low in the store now, and what cannot be told (no threshold) is left out."""
        rows = await self._walk(ctx, ctx.now())
        if rows is None:
            products = [await self._product(one.id, ctx) async for one in ctx.litekart.products.iter()]
            return [one for product in products for one in self._of(product, (), None) if one.low]
        wanted: dict[str, list[Any]] = {}
        for row in rows:
            if row.product_id:
                wanted.setdefault(row.product_id, []).append(row)
        low = []
        for identity, own in wanted.items():
            if any(self._may_be_low(row) for row in own):
                try:
                    product = await ctx.litekart.products.get(identity)
                except NotFound:
                    continue
                low += [one for one in self._of(product, own, None) if one.low]
        return low

    def _may_be_low(self, row: Any) -> bool:
        threshold = self._threshold(row.sku or "", row, None, None)
        return row.stock is not None and (threshold is None or row.stock <= threshold)

    async def _product(self, identity: str, ctx: Context) -> Any:
        try:
            return await ctx.litekart.products.get(identity)
        except NotFound:
            raise Rejected(f"the store has no product {identity} any more: nothing is ordered") from None

    def _of(self, product: Any, rows: Sequence[Any], told: int | None) -> Iterator[Stock]:
        """Each SKU of a product in each place. One that several variants share is none: the stock of one of them would
        end what was ordered of another, and no supplier could tell which is meant."""
        variants = {one.id: one.sku or product.sku for one in product.variants or () if one.id}
        shared = {_line(sku) for sku in variants.values() if [*variants.values()].count(sku) > 1}
        for stock in self._each(product, rows, told):
            yield replace(stock, sku="") if stock.sku in shared and stock.variant_id in variants else stock

    def _each(self, product: Any, rows: Sequence[Any], told: int | None) -> Iterator[Stock]:
        """By inventory rows, or by the product where it has none."""
        variants = {one.id: one for one in product.variants or () if one.id}
        if rows:
            places: dict[str, int] = {}
            for row in rows:
                places[row.sku or ""] = places.get(row.sku or "", 0) + 1
            for row in rows:
                own = variants.get(row.variant_id) or product
                yield self._stock(product, own, row, told, places[row.sku or ""])
        else:
            for own in product.variants or [product]:
                yield self._stock(product, own, None, told, 1)

    def _stock(self, product: Any, own: Any, row: Any, told: int | None, places: int) -> Stock:
        sku = _line((row.sku if row else None) or own.sku or product.sku)
        is_variant = own is not product
        return Stock(
            sku=sku,
            name=_name(product, own if is_variant else None) or sku,
            stock=row.stock if row else own.stock,
            threshold=self._threshold(sku, row, own if is_variant else None, told),
            location=(row.warehouse_id or "") if row else "",
            places=places,
            counted=first(own.manage_inventory, product.manage_inventory) is not False,
            backorders=first(own.allow_backorder, product.allow_backorder) is True,
            cost=first(row.cost_price if row else None, getattr(own, "cost_per_item", None), product.cost_per_item),
            currency=(product.currency or "").upper() or None,
            product_id=product.id,
            variant_id=own.id if is_variant else (row.variant_id if row else None),
            vendor_id=first(row.vendor_id if row else None, product.vendor_id),
            lead_time=timedelta(days=row.lead_time) if row and row.lead_time is not None else None,
            active=row is None or row.active is not False,
            made_at=product.created_at,
        )

    def _threshold(self, sku: str, row: Any, variant: Any, told: int | None) -> int | None:
        """The SKU's own in the settings; the store's reorder point, else its mark of low stock; the event's; the
        route's. A reorder point of 0 is none."""
        own = self._settings.row(sku).threshold
        if own is not None:
            return own
        of_row = (row.reorder_point or row.low_stock_threshold) if row else None
        of_variant = variant.reorder_level if variant else None
        found: int | None = first(of_row, of_variant, told, self._settings.threshold)
        return found

    async def _rows(self, key: str, ctx: Context, asked: datetime | None = None) -> Sequence[Any]:
        """The inventory rows that the id or SKU `key` belongs to, as they are now; none where there is no inventory."""
        if self._settings.stock_from == "products":
            return ()
        shelves, asked = self._of_store(ctx), asked or ctx.now()
        if shelves.walked_at is not None and shelves.pages > FEW_PAGES:
            known, age = shelves.ids.get(key), asked - shelves.walked_at
            if known and age < TRUE_FOR:
                return await _got(known, ctx)
            if not known and age < KNOWN_FOR:
                return ()
        rows = await self._walk(ctx, asked)
        return [row for row in rows or () if key in _keys(row)]

    async def _walk(self, ctx: Context, asked: datetime) -> Sequence[Any] | None:
        """All rows, by a walk that was begun after `asked`; None where the store has no inventory."""
        shelves = self._of_store(ctx)
        if self._settings.stock_from == "products" or shelves.is_missing(asked):
            return None
        async with shelves.lane:
            if shelves.rows and shelves.walked_at is not None and shelves.walked_at > asked:
                return shelves.rows
            began = ctx.now()
            try:
                rows = [row async for row in ctx.litekart.inventory.iter()]
            except (NotFound, NotOffered):
                if self._settings.stock_from == "inventory":
                    raise Rejected("the store has no inventory: set `stock_from: products`") from None
                shelves.missing_until = began + KNOWN_FOR
                return None
            shelves.walked_at, shelves.pages = began, -(-len(rows) // PAGE)
            shelves.rows = rows if shelves.pages <= FEW_PAGES else ()
            shelves.ids = _by_key(rows) if shelves.pages > FEW_PAGES else {}
        return rows

    def _of_store(self, ctx: Context) -> Shelves:
        return self._shelves.setdefault(ctx.store, Shelves())


async def _got(ids: Sequence[str], ctx: Context) -> list[Any]:
    found = []
    for identity in ids:
        try:
            found.append(await ctx.litekart.inventory.get(identity))
        except NotFound:
            continue
    return found


def _by_key(rows: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        for key in _keys(row):
            found[key] = (*found.get(key, ()), row.id)
    return found


def _keys(row: Any) -> set[str]:
    return {key for key in (row.id, row.sku, row.variant_id, row.product_id) if key}


def _name(product: Any, variant: Any) -> str:
    name = _line(product.name)
    if variant is not None and variant.name and variant.name != product.name:
        name = f"{name}, {_line(variant.name)}" if name else _line(variant.name)
    return name


def first(*values: Any) -> Any:
    """The first of them that is said at all."""
    return next((value for value in values if value is not None), None)


def _line(text: str | None) -> str:
    return clean(text or "", NAME_LENGTH)


def _text(data: dict[str, Any], *names: str) -> str | None:
    values = (data.get(name) for name in names)
    found = (str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool))
    return next((value for value in found if value), None)


def _count(data: dict[str, Any], *names: str) -> int | None:
    values = (data.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)
