"""A store whose webhooks are lost, repeated and shuffled; what a hub's routes did; and whether both agree at last."""

import asyncio
from collections import Counter
from typing import Any

from hub.testing import HttpSink
from hub.testing.store import API_KEY, STORE_ID, StoreApi
from tests.e2e.connectors import MIRRORED
from tests.e2e.ledger import PATIENCE
from tests.hubs import QUICK, SECRET, route
from tests.servers import eventually

PLENTY = 1_000_000
MADE_ONCE = ["order.placed", "product.created", "customer.registered"]
WATCHED = ["order.*", "product.*", "customer.*", "payment.*"]
Json = dict[str, Any]


class Keeper(StoreApi):
    """A store in which things happen; `made` are the entities that were new, `touched` these and the changed ones."""

    def __init__(self, **settings: Any) -> None:
        few: Json = {"limit": PLENTY, "orders": 4, "customers": 5, "products": 4, "secret": SECRET}
        super().__init__(**few | settings)
        self.made: set[str] = set()
        self.touched: set[str] = set()

    def settings(self, **more: Any) -> Json:
        """How a hub's config names it."""
        profile, secret = self.shop.settings.profile, self.shop.settings.secret
        own = {"url": self.url, "api_key": API_KEY, "webhook_secrets": [secret], "profile": profile}
        return own | {"store_id": STORE_ID, "rate": {"limit": PLENTY}} | more

    async def day(self) -> None:
        """Orders come, are paid, shipped and cancelled; a product and a customer are new; others change."""
        old, *_ = await self.rows("orders")
        product, *_ = await self.rows("products")
        first, second, third = [await self.place_order() for _ in range(3)]
        await self.pay(first["id"])
        await self.update(second["id"], status="shipped", comment=f"parcel {second['order_no']}")
        await self.cancel(third["id"], reason="ordered twice")
        await self.update(old["id"], comment=f"asked about on the day of {third['order_no']}")
        new, customer = await self.create_product(), await self.register_customer()
        await self.change_product(product["id"], status="draft" if product["status"] == "published" else "published")
        made = {*(f"order:{one['id']}" for one in (first, second, third)), f"product:{new['id']}"}
        self.made |= made | {f"customer:{customer['id']}"}
        self.touched |= self.made | {f"order:{old['id']}", f"product:{product['id']}"}

    async def there_and_back(self, orders: int = 3) -> None:
        """Some orders change and change back within a second, without waiting for anything."""
        for order in (await self.rows("orders"))[:orders]:
            for status in ("confirmed", "shipped", "confirmed"):
                await self.happen("update", order_id=order["id"], status=status, wait=False)
            self.touched.add(f"order:{order['id']}")

    async def states(self) -> dict[str, Json]:
        """What everything touched is now."""
        rows = [(kind, row) for kind in ("order", "product", "customer") for row in await self.rows(f"{kind}s")]
        return {
            entity: {name: str(row.get(name)) for name in MIRRORED}
            for kind, row in rows
            if (entity := f"{kind}:{row['id']}") in self.touched
        }


class Books(HttpSink):
    """What two routes did: `mirror` sends the state that it reads, `acts` acts on what is made once."""

    def routes(self, **more: Any) -> Json:
        mirror = {
            "connector": "tests.e2e.connectors:StoreMirror", "settings": {"url": self.url}, "events": WATCHED,
            "ordered": True, "timeout": "30s", "retry": {"schedule": QUICK},
        }  # fmt: skip
        return {"mirror": mirror | more, "acts": route(f"{self.url}/acts", events=MADE_ONCE) | more}

    def last_seen(self) -> dict[str, Json]:
        """By entity, the state that was sent on last."""
        return {one["entity"]: one["state"] for one in (request.json() for request in self._to("/seen"))}

    def acted(self) -> Counter[str]:
        """By entity, how often there was an action, each of them counted once for its key."""
        keys = {request.key: request.json() for request in self._to("/acts")}
        return Counter(body["entity"] for body in keys.values())

    def same_key_twice(self) -> int:
        """How often a key came again."""
        return sum(count - 1 for count in Counter(request.key for request in self.received).values())

    def _to(self, path: str) -> list[Any]:
        return [request for request in self.received if request.path == path]


async def differences(keeper: Keeper, books: Books) -> list[str]:
    """The entities that are not as they were seen last."""
    seen, states = books.last_seen(), await keeper.states()
    return [
        f"{entity}: {state}, seen {seen.get(entity)}" for entity, state in states.items() if seen.get(entity) != state
    ]


async def even(keeper: Keeper, books: Books, patience: float = PATIENCE) -> None:
    """Returns once all is as it was seen last, and everything made was acted on once."""

    async def agreed() -> bool:
        return not await differences(keeper, books) and books.acted() == Counter(keeper.made)

    try:
        await eventually(agreed, patience)
    except (AssertionError, TimeoutError):
        twice, never = books.acted() - Counter(keeper.made), Counter(keeper.made) - books.acted()
        raise AssertionError(f"{await differences(keeper, books)}, twice {twice}, never {never}") from None


async def come_after_all(keeper: Keeper) -> list[int | None]:
    """All that was lost is sent once more; the answers."""
    lost = [one for one in await keeper.sent() if one.lost]
    return [one.status for one in await asyncio.gather(*(keeper.resend(one.number) for one in lost))]
