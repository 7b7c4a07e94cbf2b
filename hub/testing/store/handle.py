"""What a test holds of a store double, wherever it runs: every question and every order goes over HTTP."""

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from hub.testing.store.faults import FaultKind
from hub.testing.store.outgoing import plain_client
from hub.testing.store.records import Call, Sent
from hub.testing.store.resources import Row


class StoreHandle:
    """`async with StoreHandle(url) as store`: a double that listens at `url`.

    Rows come as dicts in the double's names (`created_at`, `line_items`, `customer_id`), numbers as numbers.
    RuntimeError with the reason for what the double refuses.
    """

    def __init__(self, url: str = "", *, timeout: float = 120.0) -> None:
        self.url = url
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        # A new connection each time: one that was idle for seconds may be closed just as it is used again.
        fresh = httpx.Limits(max_keepalive_connections=0)
        self._client = plain_client(base_url=self.url, timeout=self._timeout, limits=fresh)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """One verb of the control surface."""
        assert self._client is not None, "use it as `async with`"
        response = await self._client.post(f"/_double/{verb}", json=arguments)
        if response.status_code != 200:
            raise RuntimeError(f"{verb}: {response.text}")
        return response.json()["result"]

    # ---- looking

    async def calls(self, since: int = 0) -> list[Call]:
        """All calls of the API, oldest first; `since`: those after that number."""
        return await self.calls_to("*", "*", since)

    async def calls_to(self, method: str, path: str, since: int = 0) -> list[Call]:
        """The calls with that method to that path; both may hold `*`, which matches `/` too."""
        found = await self.ask("calls", method=method, path=path, since=since)
        return [Call(**one | {"at": datetime.fromisoformat(one["at"])}) for one in found]

    async def rows(self, resource: str) -> list[Row]:
        """All rows of a resource as they are now: products, orders, customers, inventory, webhooks, …"""
        found: list[Row] = await self.ask("state", resource=resource)
        return found

    async def row(self, resource: str, id: str) -> Row:
        """One row by its id, an order also by its number, a product by its slug."""
        found: Row = await self.ask("state", resource=resource, id=id)
        return found

    async def token(self, person: str, seconds: float = 3600.0) -> str:
        """A JWT for a customer or user, by id."""
        return str(await self.ask("token", person=person, seconds=seconds))

    async def sent(self, event: str | None = None) -> list[Sent]:
        """All webhooks, or those of one event: sent, answered, lost. Copies are records of their own."""
        found = await self.ask("sent", event=event)
        return [Sent(**one | {"at": datetime.fromisoformat(one["at"])}) for one in found]

    # ---- what happens; each returns once its webhooks were answered or given up

    async def happen(self, what: str, **arguments: Any) -> Any:
        """One of `hub.testing.store.happenings`, by name; `wait=False` does not wait for its webhooks."""
        return await self.ask("happen", what=what, **arguments)

    async def place_order(self, **arguments: Any) -> Row:
        """`customer_id`, `items` (`{sku, quantity}` each), and fields of the order."""
        return dict(await self.happen("place_order", **arguments))

    async def pay(self, order_id: str, **arguments: Any) -> Row:
        """The payment; `amount` where it is not all that is due."""
        return dict(await self.happen("pay", order_id=order_id, **arguments))

    async def update(self, order_id: str, **changes: Any) -> Row:
        """The order with these fields, or with the next status."""
        return dict(await self.happen("update", order_id=order_id, **changes))

    async def cancel(self, order_id: str, **arguments: Any) -> Row:
        """The order; `reason` becomes its comment."""
        return dict(await self.happen("cancel", order_id=order_id, **arguments))

    async def register_customer(self, **fields: Any) -> Row:
        return dict(await self.happen("register_customer", **fields))

    async def create_product(self, **fields: Any) -> Row:
        return dict(await self.happen("create_product", **fields))

    async def change_product(self, product_id: str, **fields: Any) -> Row:
        return dict(await self.happen("change_product", product_id=product_id, **fields))

    async def sell(self, sku: str, quantity: int = 1, **arguments: Any) -> Row:
        """The inventory row after so many were sold over the counter."""
        return dict(await self.happen("sell", sku=sku, quantity=quantity, **arguments))

    async def restock(self, sku: str, stock: int, **arguments: Any) -> Row:
        """The inventory row with so many in stock."""
        return dict(await self.happen("restock", sku=sku, stock=stock, **arguments))

    async def sequence(self, **arguments: Any) -> Row:
        """An order, placed, paid, updated and cancelled, or of these what `steps` names."""
        return dict(await self.happen("sequence", **arguments))

    async def burst(self, count: int, **arguments: Any) -> list[Row]:
        """So many orders at once, `together` webhooks under way at a time."""
        return list(await self.happen("burst", count=count, **arguments))

    async def send(self, event: str, data: Any, wait: bool = True) -> None:
        """A webhook about nothing that happened: an unknown event, odd data."""
        await self.ask("send", event=event, data=data, wait=wait)

    async def resend(self, number: int, change: str = "") -> Sent:
        """A webhook once more, byte for byte or `reserialised`, `restamped` or `forged`."""
        again = await self.ask("resend", number=number, change=change)
        return Sent(**again | {"at": datetime.fromisoformat(again["at"])})

    async def release(self) -> None:
        """Sends, in any order, what `Travel.shuffle` has gathered."""
        await self.ask("release")

    async def settle(self) -> None:
        """Returns once every webhook on its way was answered or given up."""
        await self.ask("settle")

    # ---- arranging

    async def fail(
        self,
        method: str = "*",
        path: str = "*",
        *,
        kind: FaultKind = "status",
        times: int | None = 1,
        status: int = 500,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        **more: Any,
    ) -> None:
        """The next `times` calls (None: all) with that method to that path meet a fault; see `Fault`."""
        rule = {"kind": kind, "times": times, "status": status, "body": body, "headers": dict(headers or {})}
        await self.ask("fail", method=method, path=path, wait=wait, **rule, **more)

    async def heal(self) -> None:
        """No more faults."""
        await self.ask("heal")

    async def configure(self, **settings: Any) -> None:
        """Other settings from now on; see `StoreSettings`. The profile and the seeded data stay."""
        await self.ask("configure", **settings)

    async def refill(self) -> None:
        """Everybody's budget of requests begins anew."""
        await self.ask("refill")

    async def reset(self) -> None:
        """As at its start: data, settings, budget; no records, no faults."""
        await self.ask("reset")
