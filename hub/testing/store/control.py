"""The control surface, `POST /_double/VERB` with JSON: what tests and the demo ask of a double in another process.

It is no part of the vendor's API: it needs no key, counts in no budget and is not recorded. StoreHandle speaks it.
"""

import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub.testing.store.access import Role, make_token
from hub.testing.store.errors import ApiError
from hub.testing.store.faults import Fault
from hub.testing.store.happenings import HAPPENINGS
from hub.testing.store.profiles import encoded
from hub.testing.store.records import shown
from hub.testing.store.sending import Target, reserialised, restamped
from hub.testing.store.shop import Shop

CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, "reserialised": reserialised, "restamped": restamped, "forged": bytes,
}  # fmt: skip
Verb = Callable[..., Any | Awaitable[Any]]


class Control:
    """Each public method is a verb; its arguments are the request's JSON object."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def calls(self, method: str = "*", path: str = "*", since: int = 0) -> Any:
        return [shown(call) for call in self._shop.records.calls_to(method, path) if call.number > since]

    def fail(self, method: str = "*", path: str = "*", **rule: Any) -> None:
        self._shop.faults.rules.append(Fault(method, path, **rule))

    def heal(self) -> None:
        self._shop.faults.rules.clear()

    def state(self, resource: str, id: str | None = None) -> Any:
        if id is None:
            return list(self._shop.state.rows(resource))
        return self._shop.state.find(resource, id)

    def configure(self, **changes: Any) -> None:
        self._shop.configure(changes)

    async def reset(self) -> None:
        await self._shop.reset()

    def refill(self) -> None:
        self._shop.limiter.reset()

    def token(self, person: str, seconds: float = 3600.0) -> str:
        state = self._shop.state
        customer = person in state.tables["customers"]
        role: Role = "customer" if customer else state.find("users", person)["role"]
        return make_token(person, role, self._shop.settings.token_secret, seconds)

    def sent(self, event: str | None = None) -> Any:
        return [shown(one) for one in self._shop.records.sent if event in (None, one.event)]

    async def happen(self, what: str, wait: bool = True, **arguments: Any) -> Any:
        if what not in HAPPENINGS:
            raise ValueError(f"there is no {what}; there are {', '.join(HAPPENINGS)}")
        made = HAPPENINGS[what](self._shop, **arguments)
        if wait:
            await self._shop.sender.settled()
        return made

    async def send(self, event: str, data: Any, wait: bool = True) -> None:
        self._shop.send(event, data)
        if wait:
            await self._shop.sender.settled()

    async def resend(self, number: int, change: str = "") -> Any:
        known = next((one for one in self._shop.records.sent if one.number == number), None)
        if known is None or change not in CHANGES:
            raise ValueError(f"no webhook has the number {number}, or {change} is none of {', '.join(CHANGES)}")
        secret = self._shop.settings.secret
        if known.webhook:
            secret = self._shop.state.find("webhooks", known.webhook)["password"] or ""
        body = CHANGES[change](known.body.encode())
        again = self._shop.sender.post(
            self._shop.records, Target(known.url, secret, known.webhook), change or "repeat", known.event, body,
            self._shop.settings.travel,
        )  # fmt: skip
        await self._shop.sender.settled()
        return shown(again)

    async def settle(self) -> None:
        await self._shop.sender.settled()

    async def release(self) -> None:
        self._shop.sender.release(self._shop.settings.travel)
        await self._shop.sender.settled()


def control_routes(shop: Shop) -> list[Route]:
    control = Control(shop)

    async def act(request: Request) -> Response:
        verb: Verb | None = getattr(control, request.path_params["verb"], None)
        if verb is None or request.path_params["verb"].startswith("_"):
            return JSONResponse({"error": "there is no such verb"}, 404)
        try:
            result = verb(**json.loads(await request.body() or b"{}"))
            if inspect.isawaitable(result):
                result = await result
        except (ApiError, TypeError, ValueError, KeyError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
        return Response(encoded({"result": result}, "microseconds"), media_type="application/json")

    return [Route("/_double/{verb}", act, methods=["POST"])]
