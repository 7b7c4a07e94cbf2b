"""All that a connector author imports.

A connector is one class in one file: it says what it needs (`Settings`), sends once (`deliver`), tells whether
it could (`check`) and what it would send (`preview`). It never retries: the hub does, under one key.
docs/connector.md is the guide, `hub.testing.ConnectorTests` the proof.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, ClassVar, Protocol

import httpx
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hub.errors import (
    Conflict,
    Hold,
    HoldRoute,
    LitekartError,
    NotFound,
    NotNow,
    NotOffered,
    Rejected,
    Skip,
    TemplateError,
    TryAgain,
    ValidationFailed,
)
from hub.money import amount_text
from hub.units import Duration

__all__ = [
    "REORDER_CLOSES_AFTER", "REORDER_DUE", "REORDER_WINDOW", "Conflict", "Connector", "Context", "Duration",
    "Event", "Hold", "HoldRoute", "LitekartError", "NotFound", "NotNow", "NotOffered", "Preview", "Receipt",
    "Rejected", "Released", "Reorder", "ReorderLine", "ReorderOrder", "Reorders", "Secret", "Skip", "Template",
    "TemplateError", "TryAgain", "ValidationFailed", "amount_text", "answer_text",
]  # fmt: skip


SMALLEST_EXPONENT = -400
REORDER_DUE = "hub.reorder.due"
"""The type of the event that an order to a supplier is sent by."""
REORDER_WINDOW = timedelta(minutes=10)
REORDER_CLOSES_AFTER = timedelta(days=30)


class Secret:
    """A value that shows itself only to `reveal()`: not in a log, an error, a page or a dump."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(****)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema(min_length=1))
        masked = core_schema.plain_serializer_function_ser_schema(lambda _: "****")
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=masked,
        )


class Template(str):
    """Text in the hub's template language (Jinja's, sandboxed), checked at start; `ctx.render` fills it in."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


@dataclass(frozen=True)
class Event:
    """One webhook as the store sent it. Times are aware, in UTC; `entity` reads `order:ord_123456`.

    A connector that reads the state may get one whose body was dropped meanwhile: `body` is empty then, `data` too.
    """

    id: str
    store: str
    type: str
    entity: str | None
    occurred_at: datetime
    received_at: datetime
    body: bytes

    @cached_property
    def data(self) -> dict[str, Any]:
        """The body's `data`, money and other decimals as Decimal."""
        if not self.body:
            return {}
        data: dict[str, Any] = json.loads(self.body, parse_float=_decimal)["data"]
        return data


def _decimal(text: str) -> Decimal:
    """A number as it was written; one too small for a float is 0, as for every other reader.

    Written out, 1e-999999999 is a gigabyte of zeros.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        return Decimal(0)
    return number if number.adjusted() > SMALLEST_EXPONENT else Decimal(0)


@dataclass(frozen=True)
class Receipt:
    """What was done: a sentence (`sent to #orders`), where to see it, what the other side answered.

    `effects` are this delivery's, name and value: they are committed with the outcome itself, at the cost of none,
    where `ctx.effects.put` has a commit of its own and is for what is done before an attempt's last step.
    """

    text: str
    url: str | None = None
    answer: str | None = None
    effects: Mapping[str, str] = field(default_factory=dict)


def answer_text(response: httpx.Response) -> str:
    """What the other side answered, as text. Never raises, whatever charset the answer names."""
    kind = response.headers.get("content-type", "").lower()
    if "charset" not in kind or kind.endswith("charset=utf-8"):
        # httpx would come to the same, by way of a parser for mail headers that costs more than the answer did.
        return response.content.decode("utf-8", "replace")
    try:
        return response.text
    except Exception:
        # `charset=base64` names a codec that Python knows and that decodes no text: each fails in its own way.
        return response.content.decode("utf-8", "replace")


@dataclass(frozen=True)
class Preview:
    """What would be sent, for a person to read. `content_type` is that of `body`."""

    title: str
    body: str
    content_type: str = "text/plain"


@dataclass(frozen=True)
class Released:
    """Who let a held delivery go, and when."""

    by: str
    at: datetime


@dataclass(frozen=True)
class Effect:
    """A fact about the world out there: its value (a mail id, an order number) and where to see it."""

    value: str
    url: str | None = None


class Effects(Protocol):
    """What this delivery has done already. `put` returns once it is committed. Survives attempts and replays."""

    async def get(self, name: str) -> Effect | None: ...
    async def put(self, name: str, value: str, url: str | None = None) -> None: ...


class EntityEffects(Effects, Protocol):
    """The same for the event's entity on this route, over all its events (an ERP's order number)."""

    async def once(self, name: str, make: Callable[[], Awaitable[Effect]]) -> Effect:
        """The effect of that name, made by `make` and kept if there is none yet. Needs `ordered: true`."""
        found = await self.get(name)
        if found is None:
            found = await make()
            await self.put(name, found.value, found.url)
        return found


@dataclass(frozen=True)
class ReorderLine:
    """What shall be ordered: of a SKU at a location so much from that supplier, and why.

    `location` is the store's id of a warehouse, "" where it has one place; `reason` a sentence (`stock 4 ≤ 10; target
    60; pack of 12; ordered 60`); `more` plain JSON values of the connector's own (the supplier's SKU, its lead time).
    """

    sku: str
    location: str
    name: str
    supplier: str
    quantity: int
    reason: str
    stock: int | None = None
    threshold: int | None = None
    unit_price: Decimal | None = None
    currency: str | None = None
    product_id: str | None = None
    variant_id: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reorder(ReorderLine):
    """A line as it is kept. Times are aware, in UTC.

    `state`: `open` (waits for others of its supplier until `due_at`), `ordering` (its order `order_id` is under way),
    `sent` (under `number`) or `closed` (`why`). `new`: the call that returned it has opened it.
    """

    id: str
    route: str
    state: str
    opened_at: datetime
    due_at: datetime
    order_id: str | None = None
    number: str | None = None
    url: str | None = None
    closed_at: datetime | None = None
    why: str | None = None
    new: bool = False


@dataclass(frozen=True)
class ReorderOrder:
    """One order to one supplier: what a delivery of `hub.reorder.due` is about.

    `id` never changes, so an order's number can be made of it. `lines` are those still to be ordered, or, where
    `number` is set, those that were sent under it; none where all were dropped or closed.
    """

    id: str
    supplier: str
    currency: str | None
    lines: tuple[Reorder, ...]
    opened_at: datetime
    number: str | None = None
    url: str | None = None


class Reorders(Protocol):
    """Reorders of the event's store: of a SKU at a location there is one at most that is not closed, on any route.

    The location "" is the store's only place: what is open there is open for any other, and the other way round.
    Each call returns once what it did is committed.
    """

    async def open(
        self,
        line: ReorderLine,
        *,
        window: timedelta = REORDER_WINDOW,
        close_after: timedelta = REORDER_CLOSES_AFTER,
    ) -> Reorder:
        """The one that is not closed yet, as it was opened, or this one (`new`).

        `window` after the first of a supplier and currency, what this route has opened of them becomes one order: a
        delivery of `hub.reorder.due` along this route. `close_after` that long without another end it is closed.
        """

    async def current(self, sku: str, location: str) -> Reorder | None:
        """The one that is not closed, if there is one."""

    async def seen(self, sku: str, location: str, stock: int | None, threshold: int | None) -> None:
        """Remember what stock was seen, for the chart. It closes nothing."""

    async def close(self, sku: str, location: str, why: str) -> Reorder | None:
        """Close the open one of just that location, for the reason `why` (`stock 40 > 10`): it, or None."""

    async def order(self) -> ReorderOrder:
        """The order that this delivery's event is about. Raises Rejected where it is another event, or route."""

    async def dropped_from(self, ids: Sequence[str], why: str) -> None:
        """Close these lines of this delivery's order, which turned out to be needless."""

    async def spend(self, most: Decimal) -> bool:
        """Count this delivery's order into what its route spends today (UTC), in the order's currency.

        False, and it is not counted, where all would then come to more than `most`. Once counted it stays so.
        """

    async def spent_today(self) -> Mapping[str, Decimal]:
        """By currency ("" where none is known): what orders of this route come to that were counted or sent today."""

    async def sent(self, number: str, url: str | None = None) -> None:
        """The lines of this delivery's order are sent under that number."""


class Log(Protocol):
    """Structured: `ctx.log.info("draft.made", number="S00042")`."""

    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...


@dataclass(frozen=True)
class Context:
    """What the hub gives a connector.

    `key` is the same for all attempts and replays of a delivery: send it wherever the other side can tell doubles.
    `http` sends once, guarded: private addresses only as the config allows, answers capped, no redirects;
    `raise_for_status()` is enough, the hub decides what a status means. `connect(host, port)` gives a connected,
    equally guarded socket for other protocols. `effects` and `entity_effects` remember; `reorders` are those of the
    event's store. `released` is set when a person let a held delivery go. `render(template, **more)` fills a template
    with `event`, `data`, `store` and more; raises TemplateError. `evaluate(template, **more)` gives a value with its
    type (a number, a list, null) where the template is one `{{ expression }}`, else the text that `render` gives.
    `timeout` is the attempt's whole time in seconds. `now()` is the hub's time, aware and in UTC: right even where the
    machine's clock is not.

    `litekart` is the client of the event's store (hub.litekart); it sends once too, and what it raises the hub reads.
    Without an API key any use of it raises Rejected, which says so. `fetched` holds those of `order`, `customer` and
    `product` that the route's `with` names and the store has, as plain values; `admin_url` is where the store's admin
    shows what the event is about, if the config says how. What the store says is as little to be trusted as an event.
    """

    route: str
    store: str
    key: str
    attempt: int
    timeout: float
    http: httpx.AsyncClient
    connect: Callable[[str, int], Awaitable[Any]]
    effects: Effects
    entity_effects: EntityEffects
    reorders: Reorders
    render: Callable[..., str]
    evaluate: Callable[..., Any]
    log: Log
    now: Callable[[], datetime]
    litekart: Any
    fetched: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    admin_url: str | None = None
    public_url: str | None = None
    released: Released | None = None


class Connector(ABC):
    """One instance for each route, alive as long as the worker. Only `deliver` must be written."""

    class Settings(BaseModel):
        """What the route's `settings` may hold: unknown keys are errors, values never change."""

        model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

        def doubts(self) -> list[str]:
            """What is allowed but looks like a mistake, a sentence each; `hub check` says it. Without secrets."""
            return []

    reads_state: ClassVar[bool] = False
    """True: it fetches the present state before it acts, so a repeated state event makes it look again."""

    route_defaults: ClassVar[Mapping[str, Any]] = {}
    """What a route of this connector has where the config says nothing: `{"ordered": True, "timeout": "60s"}`."""

    max_answer: ClassVar[int] = 65536
    """Bytes of an answer that `ctx.http` reads; a longer one is cut, and `response.extensions["cut"]` tells."""

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def open(self, ctx: Context) -> None:
        """Called once before the first delivery, for what lives as long as the route."""

    @abstractmethod
    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        """Send once. Raise an outcome, or let the HTTP error fly: the hub decides what it means."""

    async def check(self, ctx: Context) -> str:
        """Can it work? A sentence for a person; raise with the remedy if not. `hub check` runs it."""
        return "nothing to check"

    async def preview(self, event: Event, ctx: Context) -> Preview:
        """What `deliver` would send. Sends nothing."""
        return Preview("no preview", f"{type(self).__name__} does not say what it would send")

    async def plan(self, ctx: Context) -> Sequence[ReorderLine] | None:
        """What it would order now, from the store's present stock, without ordering. None: it orders nothing ever.

        A line of the quantity 0 is low and could not be ordered, for its `reason`.
        """
        return None

    async def close(self) -> None:
        """Called once when the worker stops."""
