"""Connectors that only tests need; a config names them as `tests.e2e.connectors:Name`."""

from hub.connector import Connector, Context, Event, Hold, Receipt


class Approved(Connector):
    """Sends only what a person has released."""

    class Settings(Connector.Settings):
        url: str

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        if ctx.released is None:
            raise Hold("somebody must approve this")
        await send(self.settings.url, event, ctx)
        return Receipt(f"approved by {ctx.released.by}")


class Noting(Connector):
    """Notes an effect whatever becomes of its request, even when its time is over."""

    class Settings(Connector.Settings):
        url: str

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        try:
            await send(self.settings.url, event, ctx)
        finally:
            await ctx.effects.put(f"attempt-{ctx.attempt}", "done")
        return Receipt("sent")


async def send(url: str, event: Event, ctx: Context) -> None:
    body = {"data": {"marker": event.data["marker"]}}
    response = await ctx.http.post(url, json=body, headers={"Idempotency-Key": ctx.key})
    response.raise_for_status()


class Mirror(Connector):
    """Sends on the state that it reads there and then, as a stock sync does."""

    reads_state = True

    class Settings(Connector.Settings):
        url: str

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        state = (await ctx.http.get(f"{self.settings.url}/state")).raise_for_status().json()
        headers = {"Idempotency-Key": ctx.key}
        (await ctx.http.post(f"{self.settings.url}/seen", json=state, headers=headers)).raise_for_status()
        return Receipt(f"saw {state}")


class StoreMirror(Connector):
    """Reads the order, product or customer that an event is about from its store, and sends on what it is now."""

    reads_state = True

    class Settings(Connector.Settings):
        url: str

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        kind, _, identity = (event.entity or "").partition(":")
        found = await getattr(ctx.litekart, f"{kind}s").get(identity)
        state = {name: getattr(found, name, None) for name in MIRRORED}
        seen = {"entity": event.entity, "state": {name: str(value) for name, value in state.items()}}
        headers = {"Idempotency-Key": ctx.key}
        (await ctx.http.post(f"{self.settings.url}/seen", json=seen, headers=headers)).raise_for_status()
        return Receipt(f"saw {state}")


MIRRORED = ("status", "comment", "payment_status")
