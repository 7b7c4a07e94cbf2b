"""A merchant with a store, a hub of its own process and a real Odoo; and Odoo's books beside the store's.

What Odoo holds is read in its database, beside the API that the connector uses.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import httpx
from starlette.requests import Request
from starlette.responses import Response

from hub.config import Config, load_config
from hub.process import Caller, local_hub
from hub.testing.store import API_KEY, StoreApi
from tests.erp.odoo import Odoo
from tests.erp.recording import ANSWERS_WITHIN, Recorder, listening_at
from tests.hubs import SECRET, config_of, write_config
from tests.servers import eventually, free_port

# A busy machine, an Odoo that starts again, a breaker that tries every thirty seconds.
PATIENCE = 300.0
# Each look costs the hub that is looked at.
LOOK_EVERY = 0.25
PLENTY = 1_000_000
WAITS = ["500ms", "1s", "2s", "2s", "4s", "4s", "8s", "8s", "15s", "15s", "30s"]
ORDERS = ["order.*", "payment.completed"]
Json = dict[str, Any]

SALES = """
SELECT o.id, o.name, o.state, o.client_order_ref AS ref, o.amount_untaxed AS untaxed, o.create_date AS made,
    p.email, (SELECT count(*) FROM sale_order_line l WHERE l.order_id = o.id) AS lines
FROM sale_order o JOIN res_partner p ON p.id = o.partner_id WHERE o.id > $1 ORDER BY o.id
"""
LAST = "SELECT coalesce(max(id), 0) AS id FROM sale_order"
PEOPLE = "SELECT email FROM res_partner WHERE email LIKE '%@example.test' AND type NOT IN ('delivery', 'invoice')"
PRODUCTS = "SELECT default_code AS sku FROM product_product WHERE default_code IS NOT NULL"
NOTES = "SELECT count(*) AS count FROM mail_message WHERE model = 'sale.order' AND res_id = $1 AND body LIKE '%[paid%'"


def erp_route(url: str, key: str, odoo: Json | None = None, **more: Any) -> Json:
    """A route that carries orders into the Odoo at `url`; `odoo`: more of those settings."""
    settings = {"odoo": {"url": url, "api_key": key} | (odoo or {})}
    base = {
        "connector": "erp",
        "events": ORDERS,
        "timeout": "60s",
        "retry": {"schedule": WAITS},
        "settings": settings,
    }
    return base | more


@dataclass
class Merchant:
    """`store` is a double with nothing ordered yet; the hub listens at `port`, if the test has one started.

    `before` is the last sales order that Odoo had at the beginning, `twins` what stood there twice already (other tests
    want that); `caller` asks hubs that share a database.
    """

    store: StoreApi
    odoo: Odoo
    folder: Path
    before: int
    twins: frozenset[str] = frozenset()
    port: int = field(default_factory=free_port)
    config: Path = Path()
    caller: Caller | None = None
    _loaded: Config | None = None

    def configure(self, routes: Json, rate: int = PLENTY, **more: Any) -> Path:
        """Write the config of its hub. The store is not polled: what is asked of it the deliveries ask."""
        shop = {
            "url": self.store.url, "api_key": API_KEY, "webhook_secrets": [SECRET], "catch_up": "off",
            "rate": {"limit": rate},
        }  # fmt: skip
        config = config_of(routes, **{"server": {"port": self.port}, "stores": {"main": shop}, **more})
        self.config = write_config(self.folder, config)
        return self.config

    async def tells(self, url: str = "") -> None:
        """From now on the store's webhooks go to the hub, at `url` if not at its own port."""
        await self.store.configure(webhooks=f"{url or f'http://127.0.0.1:{self.port}'}/webhooks/main")

    async def ask(self, operation: str, **arguments: Any) -> Any:
        """What the running hub answers to a command's question."""
        if self.caller is not None:
            return await self.caller(operation, arguments)
        self._loaded = self._loaded or load_config(self.config)
        async with local_hub(self._loaded) as caller:
            return await caller(operation, arguments)

    async def route(self, name: str = "erp") -> Json:
        """What `hub status` says of a route."""
        found: Json = (await self.ask("status"))["routes"][name]
        return found

    async def deliveries(self, **of: Any) -> list[Json]:
        """The newest, each with its type and entity."""
        found: list[Json] = (await self.ask("deliveries", **of))["deliveries"]
        return found

    async def done(self, patience: float = PATIENCE) -> None:
        """Returns once nothing is to be done any more on any route. AssertionError where something died."""
        last: Json = {}

        async def nothing_left() -> bool:
            nonlocal last
            last = await self.ask("status")
            left = [one["pending"] + one["held"] for one in last["routes"].values()]
            if not last["waiting_for_fan_out"] and not any(left):
                return True
            await asyncio.sleep(LOOK_EVERY)
            return False

        try:
            await eventually(nothing_left, patience)
        except AssertionError:
            raise AssertionError(f"after {patience} s: {last['routes']}") from None
        assert not last["dead"], last["dead"]

    async def sales(self) -> list[Json]:
        """The sales orders that came into Odoo since the beginning, oldest first."""
        return await self.odoo.sql(SALES, self.before)

    async def sale(self, order: Json) -> Json:
        """The one sales order of an order of the store. AssertionError where there is none, or a second."""
        [found] = [one for one in await self.sales() if one["ref"] == str(order["order_no"])]
        return found

    async def assert_once(self) -> None:
        """One whole sales order for each order of the store and none besides, its customer and products not doubled."""
        orders, sales = await self.store.rows("orders"), await self.sales()
        wanted = {str(one["order_no"]): one for one in orders}
        assert Counter(one["ref"] for one in sales) == Counter(wanted.keys())
        wrong = [one for one in sales if amounts(one) != whole(wanted[one["ref"]])]
        assert not wrong, wrong
        assert not await doubled(self.odoo) - self.twins

    async def notes(self, sale: Json) -> int:
        """How many notes of a payment a sales order has."""
        return int((await self.odoo.sql(NOTES, sale["id"]))[0]["count"])


async def doubled(odoo: Odoo) -> frozenset[str]:
    """E-mails of several contacts, and SKUs of several products."""
    people, products = await odoo.sql(PEOPLE), await odoo.sql(PRODUCTS)
    names = Counter([one["email"] for one in people] + [one["sku"] for one in products])
    return frozenset(name for name, count in names.items() if count > 1)


def amounts(sale: Json) -> tuple[str, Decimal, int]:
    return sale["email"], sale["untaxed"], sale["lines"]


def whole(order: Json) -> tuple[str, Decimal, int]:
    """The same of an order of the store: a discount and shipping are rows of their own."""
    rows = len(order["line_items"]) + bool(order["shipping"]) + bool(order["discount"])
    return order["email"], Decimal(str(order["total"])).quantize(Decimal("0.01")), rows


@asynccontextmanager
async def open_merchant(folder: Path, odoo: Odoo, **settings: Any) -> AsyncIterator[Merchant]:
    """A merchant whose store has customers and products, and sells in the currency of Odoo's company."""
    shop: Json = {"orders": 0, "currency": "USD", "limit": PLENTY, "secret": SECRET}
    async with StoreApi(**shop | settings) as store:
        yield Merchant(store, odoo, folder, int((await odoo.sql(LAST))[0]["id"]), await doubled(odoo))


@dataclass
class Meeting:
    """Requests to one place that wait for each other, until they are `count`."""

    count: int
    came: int = 0
    complete: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Gate(Recorder):
    """A proxy at `url` before a real Odoo; what is called is named as `sale.order/load`.

    `hold`: the next answer to that call stays here until `let_go`, while Odoo has done what it was asked.
    `gather`: calls of that name wait until they are so many, and go on all at once.
    """

    holding: str = ""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    meetings: dict[str, Meeting] = field(default_factory=dict)

    def hold(self, call: str) -> None:
        self.holding, self.held, self.free = call, asyncio.Event(), asyncio.Event()

    def let_go(self) -> None:
        self.holding = ""
        self.free.set()

    def gather(self, call: str, count: int) -> Meeting:
        self.meetings[call] = Meeting(count)
        return self.meetings[call]

    def calls(self) -> Sequence[tuple[str, int]]:
        """What was called, and the status of its answer, in the order of the answers."""
        return [(call_of(one.path), one.status) for one in self.exchanges]

    async def answer(self, request: Request) -> Response:
        call = call_of(request.url.path)
        if (meeting := self.meetings.get(call)) is not None and meeting.came < meeting.count:
            meeting.came += 1
            if meeting.came == meeting.count:
                meeting.complete.set()
            await meeting.complete.wait()
        response = await super().answer(request)
        if call == self.holding:
            self.holding = ""
            free = self.free
            self.held.set()
            await free.wait()
        return response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.let_go()
        for meeting in self.meetings.values():
            meeting.complete.set()


def call_of(path: str) -> str:
    return path.removeprefix("/json/2/")


@asynccontextmanager
async def open_gate(odoo: Odoo) -> AsyncIterator[Gate]:
    async with httpx.AsyncClient(base_url=odoo.url, trust_env=False, timeout=ANSWERS_WITHIN) as client:
        gate = Gate(client, {})
        async with listening_at(gate.answer) as gate.url, gate:
            yield gate
