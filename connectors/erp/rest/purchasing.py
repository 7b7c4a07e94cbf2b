"""Purchase orders in an ERP with a JSON REST API: one more action, written as a sales order is."""

from collections.abc import Sequence

from connectors.erp.purchasing import Purchase, Purchasing, Vendor
from connectors.erp.records import Product, Record, Write
from connectors.erp.rest.names import OMIT, plain
from connectors.erp.rest.pointer import value_or_none
from connectors.erp.rest.server import Server
from connectors.erp.rest.session import RestSession, Subject, matching
from connectors.erp.rest.settings import OrderThing, RestSettings
from connectors.messages import clean
from connectors.reach import reach
from hub.connector import Context, Rejected


class PurchaseSession(RestSession):
    """A session whose orders are purchase orders."""

    kind = "purchase"

    async def find(self, purchase: Purchase) -> Record | None:
        hit = await self._hit(self._orders(), _about(purchase))
        return None if hit is None else self._record(hit.id, hit.found)

    async def write(self, purchase: Purchase) -> Record:
        return await self.find(purchase) or await self._as_told(await self._made(self._orders(), _about(purchase)))

    async def plan(self, purchase: Purchase) -> list[Write]:
        thing, about = self._orders(), _about(purchase)
        return await self._plan(thing, about, await self._hit(thing, about))

    def _orders(self) -> OrderThing:
        if self._settings.purchase is None:
            raise Rejected("rest.purchase is not set: no purchase orders are written")
        return self._settings.purchase


class RestPurchasing(Purchasing):
    """Purchase orders as the settings describe them. Vendors are not asked for: suppliers are named in the settings."""

    def __init__(self, settings: RestSettings) -> None:
        self._server = Server(settings)
        self._settings = settings

    @property
    def tells_open(self) -> bool:
        return self._settings.open_purchase is not None

    async def vendors_of(self, product: Product, ctx: Context) -> Sequence[Vendor]:
        return ()

    async def open_line(self, product: Product, ctx: Context) -> str | None:
        asked = self._settings.open_purchase
        if asked is None:
            return None
        names = {"product": plain(product), "ids": {}}
        place = "rest.open_purchase"
        answer = await self._server.send(ctx, asked, {**names, "omit": OMIT}, place)
        hits = [] if answer.nothing else matching(ctx, asked, answer, names, place)
        return clean(value_or_none(hits[0], asked.number) or "open") if hits else None

    async def find_purchase(self, purchase: Purchase, ctx: Context) -> Record | None:
        return await PurchaseSession(self._server, ctx).find(purchase)

    async def write_purchase(self, purchase: Purchase, confirm: bool, ctx: Context) -> Record:
        return await PurchaseSession(self._server, ctx).write(purchase)

    async def plan_purchase(self, purchase: Purchase, ctx: Context) -> list[Write]:
        return await PurchaseSession(self._server, ctx).plan(purchase)

    async def check(self, ctx: Context) -> str:
        if self._settings.check is None:
            return f"{await reach(ctx, self._settings.url)} can be reached; only a real order shows whether it works"
        answer = await self._server.send(ctx, self._settings.check, {"omit": OMIT}, "rest.check")
        return f"the ERP answers {answer.asked}"


def _about(purchase: Purchase) -> Subject:
    return Subject("purchase", purchase.id, f"the purchase {purchase.number}", {"purchase": plain(purchase), "ids": {}})
