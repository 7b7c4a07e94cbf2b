"""A connector whose author means well and shows its secrets wherever a connector can show something."""

from hub.connector import Connector, Context, Event, Preview, Receipt, Secret


class Telling(Connector):
    """`how`: what it does with its key besides."""

    class Settings(Connector.Settings):
        key: Secret
        how: str = "receipt"

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        key = self.settings.key.reveal()
        ctx.log.warning(f"signing in with {key}", key=key, secret=self.settings.key, settings=self.settings)
        if self.settings.how == "fault":
            raise ValueError(f"no such key: {key}")
        await ctx.effects.put("ticket", f"T1 by {key}", f"https://tickets.test/T1?key={key}")
        return Receipt(f"opened with {key}", f"https://tickets.test/T1?key={key}", f"X-Key: {key}")

    async def check(self, ctx: Context) -> str:
        raise ValueError(f"no such key: {self.settings.key.reveal()} of {self.settings!r}")

    async def preview(self, event: Event, ctx: Context) -> Preview:
        return Preview("a ticket", f"Authorization: {self.settings.key.reveal()}")
