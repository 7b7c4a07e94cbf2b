"""An order as JSON to a supplier's URL, by the connector `webhook`: its body, signature and headers."""

import json
from dataclasses import replace
from decimal import Decimal
from functools import partial

import httpx

from connectors.reorder.order import Order
from connectors.reorder.sending import Done, Sending
from connectors.reorder.settings import PostSettings
from connectors.webhook import Webhook
from hub.connector import Context, Event, Hold, HoldRoute, Preview

WRONG_KEY = {401, 407}
REMEDY = "mend the supplier's `post`, then approve the order"


class Post(Sending):
    """The delivery's key goes along as Idempotency-Key, the same at each attempt: a supplier that looks at it gets
    the order once."""

    def __init__(self, settings: PostSettings) -> None:
        self._webhook = Webhook(settings)

    async def send(self, order: Order, event: Event, ctx: Context) -> Done:
        try:
            receipt = await self._webhook.deliver(*_as_event(order, event, ctx))
        except httpx.HTTPStatusError as error:
            if error.response.status_code in WRONG_KEY:
                # Of one supplier: the others' orders must not wait for it.
                raise Hold(f"{order.supplier} answered {error.response.status_code}: {REMEDY}") from None
            raise
        except HoldRoute as refused:
            raise Hold(f"{order.supplier}: {refused.reason}: {REMEDY}") from None
        # Kept now: what follows is recorded apart from this attempt's outcome.
        for name, value in receipt.effects.items():
            await ctx.effects.put(name, value)
        return Done(receipt.text, order.number, answer=receipt.answer)

    async def preview(self, order: Order, event: Event, ctx: Context) -> Preview:
        return await self._webhook.preview(*_as_event(order, event, ctx))

    async def check(self, ctx: Context) -> str:
        return await self._webhook.check(ctx)


def _as_event(order: Order, event: Event, ctx: Context) -> tuple[Event, Context]:
    """The event with the order as its data, and templates that know `order`."""
    plain = order.plain()
    lines = [{name: value for name, value in line.items() if name != "price_text"} for line in plain["lines"]]
    data = json.dumps({"data": plain | {"lines": lines}}, default=_number, ensure_ascii=False)
    return replace(event, body=data.encode()), replace(ctx, render=partial(ctx.render, order=plain))


def _number(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)
