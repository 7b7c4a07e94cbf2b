"""The tables, and the column types that keep what comes from outside harmless.

A change here needs a migration in hub/migrations and the next number in SCHEMA; a test compares the two.
"""

import re
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from hub.clock import from_micros, to_micros

SCHEMA = "0006"

UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
LONGEST_TEXT = 2_000
LONGEST_EXCERPT = 4_096
LONGEST_SKU = 256


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as whole microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_micros(value)


class Outside(TypeDecorator[str]):
    """Text from outside: what no database or page should meet is replaced, the rest is cut to its length."""

    impl = Text
    cache_ok = True

    def __init__(self, length: int = LONGEST_TEXT) -> None:
        super().__init__()
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else harmless(value, self.length)


class Json(TypeDecorator[Any]):
    """A small JSON value, kept as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


def harmless(value: str, length: int = LONGEST_TEXT) -> str:
    """`value` without NUL, controls and lone surrogates, at most `length` characters."""
    return UNFIT.sub("\ufffd", value[:length])


def moment(**options: Any) -> Any:
    return Field(sa_type=Moment, **options)


def outside(length: int = LONGEST_TEXT, **options: Any) -> Any:
    return Field(sa_column=Column(Outside(length), **options))


class Event(SQLModel, table=True):
    """One webhook as received. `headers` are the allow-listed ones; `not_taken` maps routes to reasons."""

    __table_args__ = (
        UniqueConstraint("store", "dedupe_key", name="event_once"),
        Index("event_waiting", "seq", sqlite_where=text("fanned_out_at IS NULL"),
              postgresql_where=text("fanned_out_at IS NULL")),
    )  # fmt: skip
    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )
    id: str = Field(sa_column=Column(String, unique=True, nullable=False))
    store: str
    type: str
    entity: str | None = None
    dedupe_key: bytes = Field(sa_type=LargeBinary)
    content_hash: bytes = Field(sa_type=LargeBinary)
    body: bytes | None = Field(default=None, sa_type=LargeBinary)
    headers: Any = Field(default=None, sa_column=Column(Json))
    occurred_at: datetime = moment()
    received_at: datetime = moment()
    origin: str
    secret: str | None = None
    repeats: int = 0
    last_repeat_at: datetime | None = moment(default=None)
    fanned_out_at: datetime | None = moment(default=None)
    not_taken: Any = Field(default=None, sa_column=Column(Json))


class Repeat(SQLModel, table=True):
    """A repeat of an event with other content, kept whole, once; it can be let in as an event of its own."""

    __table_args__ = (UniqueConstraint("event_id", "body_hash", name="repeat_once"),)
    id: str = Field(primary_key=True)
    event_id: str
    body_hash: bytes = Field(sa_type=LargeBinary)
    headers: Any = Field(default=None, sa_column=Column(Json))
    body: bytes = Field(sa_type=LargeBinary)
    at: datetime = moment()


def open_only(name: str, *columns: str, where: str) -> Index:
    """An index over the few rows that still have something to come."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class Delivery(SQLModel, table=True):
    """One event on its way along one route.

    `attempts` is the number of the last attempt and the token of its claim; `budget` the highest number allowed,
    `span` how many it gets when it starts anew. `alerted`: the attempt after which its death was told, -1 if never.
    While an attempt is under way `lease_until` is set, and `next_attempt_at` equals it.
    """

    __table_args__ = (
        UniqueConstraint("event_id", "route", name="delivery_once"),
        open_only("delivery_due", "route", "next_attempt_at", where="status = 'pending'"),
        open_only("delivery_leased", "route", "lease_until", where="lease_until IS NOT NULL"),
        open_only("delivery_order", "route", "entity", "event_seq", where="status IN ('pending', 'held')"),
        open_only("delivery_looked", "route", "entity", where="looked_at IS NOT NULL"),
        open_only("delivery_stuck", "status", "route", "id", where="status IN ('dead', 'held')"),
        open_only("delivery_replayed", "replay_id", where="replay_id IS NOT NULL"),
        open_only("delivery_untold", "route", where="status = 'dead' AND alerted <> attempts"),
    )
    id: str = Field(primary_key=True)
    event_id: str
    event_seq: int = Field(sa_type=BigInteger)
    store: str
    route: str
    entity: str | None = None
    status: str
    attempts: int = 0
    budget: int
    span: int
    key_no: int = 0
    look: int = 0
    again: bool = False
    reads_state: bool = False
    looked_at: datetime | None = moment(default=None)
    lost: int = 0
    created_at: datetime = moment()
    next_attempt_at: datetime | None = moment(default=None)
    lease_until: datetime | None = moment(default=None)
    error_key: str | None = None
    last_error: str | None = outside(default=None)
    released_by: str | None = outside(200, default=None)
    released_at: datetime | None = moment(default=None)
    replay_id: str | None = None
    before: Any = Field(default=None, sa_column=Column(Json))
    # The database's own default too: receivers and workers of the version before write beside this one's.
    alerted: int = Field(default=-1, sa_column_kwargs={"server_default": "-1"})


class Attempt(SQLModel, table=True):
    """One try. `outcome` is None while it is under way; request and answer are excerpts without secrets."""

    delivery_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    worker: str
    started_at: datetime = moment()
    duration_ms: int | None = None
    outcome: str | None = None
    status_code: int | None = None
    request: str | None = outside(LONGEST_EXCERPT, default=None)
    response: str | None = outside(LONGEST_EXCERPT, default=None)
    note: str | None = outside(default=None)
    url: str | None = outside(default=None)


class Effect(SQLModel, table=True):
    """What was really done out there. `scope` is a delivery's key, or store, route and entity."""

    scope: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    delivery_id: str = Field(index=True)
    value: str = outside(nullable=False)
    url: str | None = outside(default=None)
    at: datetime = moment()


class RouteState(SQLModel, table=True):
    """What a route's deliveries share: pause, breaker, and the next moment its rate allows.

    `alerted_at` is the `opened_at` of which an alert was made.
    """

    __tablename__ = "route_state"
    route: str = Field(primary_key=True)
    fingerprint: str | None = None
    paused_at: datetime | None = moment(default=None)
    paused_by: str | None = outside(200, default=None)
    paused_reason: str | None = outside(default=None)
    resumed_at: datetime | None = moment(default=None)
    failures: int = 0
    opened_at: datetime | None = moment(default=None)
    open_reason: str | None = outside(default=None)
    probe_at: datetime | None = moment(default=None)
    probe_wait: float = 0
    probe_id: str | None = None
    stopped_until: datetime | None = moment(default=None)
    next_free_at: datetime | None = moment(default=None)
    alerted_at: datetime | None = moment(default=None)


class EventKey(SQLModel, table=True):
    """What an event can be found by, written at fan-out."""

    __tablename__ = "event_key"
    value: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    store: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)


class Refused(SQLModel, table=True):
    """A request that did not become an event. Two rings, of the rightly signed and of all others."""

    id: str = Field(primary_key=True)
    signed: bool = Field(index=True)
    store: str = outside(200, nullable=False)
    status: int
    reason: str = outside(nullable=False)
    details: Any = Field(default=None, sa_column=Column(Json))
    remote: str | None = outside(200, default=None)
    headers: Any = Field(default=None, sa_column=Column(Json))
    body: bytes = Field(sa_type=LargeBinary)
    cut: bool = False
    at: datetime = moment()
    event_id: str | None = None


class Replay(SQLModel, table=True):
    """A sending again of many, on purpose, or a release or cancel of many: its filter, and how far it has come.

    `action` is `replay`, `release` or `cancel`; `state` `running` (of the other two `changing`), `done`, `stopping`
    or `stopped`.
    """

    id: str = Field(primary_key=True)
    action: str = Field(default="replay", sa_column_kwargs={"server_default": "replay"})
    who: str = outside(200, nullable=False)
    at: datetime = moment()
    filter: Any = Field(sa_column=Column(Json))
    to_route: str | None = None
    as_new: bool = False
    pace: float | None = None
    most: int | None = None
    state: str
    cursor: str = ""
    total: int = 0
    done: int = 0
    next_at: datetime | None = moment(default=None)
    """When the next of a release or cancel that keeps a pace may be done."""


class Audit(SQLModel, table=True):
    """Who did what on purpose."""

    id: str = Field(primary_key=True)
    at: datetime = moment()
    who: str = outside(200, nullable=False)
    action: str
    detail: Any = Field(default=None, sa_column=Column(Json))


class Stat(SQLModel, table=True):
    """Hourly counts of events, refusals and attempts; hub.store.stats says what each kind counts."""

    hour: datetime = Field(sa_column=Column(Moment, primary_key=True))
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    count: int = Field(sa_type=BigInteger)


class Alert(SQLModel, table=True):
    """What was told of one matter, and what has come since: `count` and some `entities`, until `summary_at`.

    `kind` is the type of the hub's own event, `name` a route or store, `label` the reason's key. `seen` is how far
    the source was read, where it is a running count.
    """

    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    reason: str | None = outside(default=None)
    first_at: datetime = moment()
    summary_at: datetime | None = moment(default=None)
    count: int = 0
    seen: int = 0
    entities: Any = Field(default=None, sa_column=Column(Json))


class Session(SQLModel, table=True):
    """Someone who is logged in, or (`kind` link) a link that logs in once. `id` is the hash of what they hold.

    `mark` changes with the user's password hash and role: a session with another one has ended.
    """

    id: str = Field(primary_key=True)
    kind: str
    user: str = outside(200, nullable=False)
    role: str
    mark: str
    created_at: datetime = moment()
    seen_at: datetime = moment()
    expires_at: datetime = moment()
    remote: str | None = outside(200, default=None)
    agent: str | None = outside(200, default=None)


class CatchUp(SQLModel, table=True):
    """How far a store's orders, products or customers (`resource`) are polled for what no webhook brought.

    What was made or changed before `since`, the moment that catch-up was first on, is never looked at by itself;
    up to `seen_to` all is. `polled_at` is when the last poll ended well, `failing_since` since when none did, with
    `error`. `lease_by` polls until `lease_until`. `alerted_at` is the `failing_since` of which an alert was made.
    """

    __tablename__ = "catch_up"
    store: str = Field(primary_key=True)
    resource: str = Field(primary_key=True)
    since: datetime = moment()
    seen_to: datetime = moment()
    polled_at: datetime | None = moment(default=None)
    failing_since: datetime | None = moment(default=None)
    error: str | None = outside(default=None)
    lease_by: str | None = None
    lease_until: datetime | None = moment(default=None)
    alerted_at: datetime | None = moment(default=None)


class Registrations(SQLModel, table=True):
    """A store's webhook registrations that lead here: `ours` maps types of event to their ids at the store.

    `wrong` is what was found wrong with them when they were last looked at, since `wrong_since`; `alerted_at` the
    `wrong_since` of which an alert was made.
    """

    store: str = Field(primary_key=True)
    ours: Any = Field(sa_column=Column(Json))
    looked_at: datetime | None = moment(default=None)
    wrong: str | None = outside(default=None)
    wrong_since: datetime | None = moment(default=None)
    alerted_at: datetime | None = moment(default=None)


class Reorder(SQLModel, table=True):
    """Of a SKU at a location what shall be ordered, or was. One at most that is not closed, whatever route opened it.

    It waits for others of its supplier until `due_at`; then it belongs to the order `order_id`, and from `sent_at` on
    it was sent in it. Closed for the reason `why`; at `closes_at` at the latest. `unit_price` is a decimal as text.
    """

    __table_args__ = (
        Index("reorder_once", "store", "sku", "location", unique=True, sqlite_where=text("closed_at IS NULL"),
              postgresql_where=text("closed_at IS NULL")),
        open_only("reorder_waiting", "due_at", where="order_id IS NULL AND closed_at IS NULL"),
        open_only("reorder_closing", "closes_at", where="closed_at IS NULL"),
        Index("reorder_of_order", "order_id"),
    )  # fmt: skip
    id: str = Field(primary_key=True)
    store: str
    sku: str = outside(LONGEST_SKU, nullable=False)
    location: str = outside(LONGEST_SKU, nullable=False)
    route: str
    name: str = outside(nullable=False)
    supplier: str = outside(LONGEST_SKU, nullable=False)
    quantity: int = Field(sa_type=BigInteger)
    reason: str = outside(nullable=False)
    stock: int | None = Field(default=None, sa_type=BigInteger)
    threshold: int | None = Field(default=None, sa_type=BigInteger)
    unit_price: str | None = outside(default=None)
    currency: str | None = outside(LONGEST_SKU, default=None)
    product_id: str | None = outside(LONGEST_SKU, default=None)
    variant_id: str | None = outside(LONGEST_SKU, default=None)
    more: Any = Field(default=None, sa_column=Column(Json))
    opened_at: datetime = moment()
    due_at: datetime = moment()
    closes_at: datetime = moment()
    order_id: str | None = None
    sent_at: datetime | None = moment(default=None)
    closed_at: datetime | None = moment(default=None)
    closed_by: str | None = outside(200, default=None)
    why: str | None = outside(default=None)


class ReorderOrder(SQLModel, table=True):
    """An order to one supplier, and the event and delivery that send it.

    `counted_at` is when `amount`, a decimal as text, was counted into what its route spends that day; `ended_at` when
    it was sent, or nothing of it was left. `told_at` and `reminded_at`: that it is held was told, and told once more.
    """

    __tablename__ = "reorder_order"
    __table_args__ = (
        open_only("reorder_order_open", "delivery_id", where="ended_at IS NULL"),
        open_only("reorder_order_spent", "route", "counted_at", where="counted_at IS NOT NULL"),
    )
    id: str = Field(primary_key=True)
    store: str
    route: str
    supplier: str = outside(LONGEST_SKU, nullable=False)
    currency: str | None = outside(LONGEST_SKU, default=None)
    event_id: str = Field(sa_column=Column(String, unique=True, nullable=False))
    delivery_id: str = Field(sa_column=Column(String, unique=True, nullable=False))
    opened_at: datetime = moment()
    made_at: datetime = moment()
    amount: str | None = outside(default=None)
    counted_at: datetime | None = moment(default=None)
    ended_at: datetime | None = moment(default=None)
    number: str | None = outside(default=None)
    url: str | None = outside(default=None)
    told_at: datetime | None = moment(default=None)
    reminded_at: datetime | None = moment(default=None)


class StockSeen(SQLModel, table=True):
    """What stock of a SKU at a location was seen when, for the chart. Kept for a while only."""

    __tablename__ = "stock_seen"
    __table_args__ = (Index("stock_seen_at", "at"),)
    store: str = Field(primary_key=True)
    sku: str = outside(LONGEST_SKU, primary_key=True)
    location: str = outside(LONGEST_SKU, primary_key=True)
    at: datetime = Field(sa_column=Column(Moment, primary_key=True))
    stock: int | None = Field(default=None, sa_type=BigInteger)
    threshold: int | None = Field(default=None, sa_type=BigInteger)


class Worker(SQLModel, table=True):
    """A process that delivers; one whose `seen_at` is old has ended."""

    id: str = Field(primary_key=True)
    started_at: datetime = moment()
    seen_at: datetime = moment()


class StoreBudget(SQLModel, table=True):
    """A store's hour of requests, which all processes share; hub.hour says what the columns mean.

    `held`: what each process may still send, and when it said so, in microseconds. `spent`: how many, by who sent them.
    """

    __tablename__ = "store_budget"
    store: str = Field(primary_key=True)
    number: int = 0
    allowed: int | None = None
    ends_at: datetime | None = moment(default=None)
    told: bool = False
    refused: bool = False
    given: int = 0
    remaining: int | None = None
    held: Any = Field(default=None, sa_column=Column(Json))
    spent: Any = Field(default=None, sa_column=Column(Json))


class SchemaVersion(SQLModel, table=True):
    """Alembic's own table, so that a new database can be made without loading Alembic."""

    __tablename__ = "alembic_version"
    version_num: str = Field(sa_column=Column(String(32), primary_key=True))
