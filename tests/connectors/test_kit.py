"""The kit fails for a connector that breaks a rule: one bad connector for each."""

import contextlib
import logging
from typing import Any, ClassVar

import httpx
import pytest

from hub.connector import Connector, Context, Event, Preview, Receipt, Secret
from hub.errors import Outcome, Rejected, TryAgain
from hub.testing import ConnectorTests, HttpSink


class Good(Connector):
    """The least that passes; each bad one differs in a single thing."""

    class Settings(Connector.Settings):
        url: str
        token: Secret

    settings: Settings

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        if done := await ctx.effects.get("sent"):
            return Receipt(f"already sent: {done.value}")
        response = await self.send(ctx, self.body(event, ctx))
        response.raise_for_status()
        await ctx.effects.put("sent", ctx.key)
        return self.receipt()

    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.settings.token.reveal()}", "Idempotency-Key": ctx.key}
        return await ctx.http.post(self.settings.url, content=body, headers=headers)

    def body(self, event: Event, ctx: Context) -> bytes:
        return event.body

    def receipt(self) -> Receipt:
        return Receipt("sent")

    async def preview(self, event: Event, ctx: Context) -> Preview:
        return Preview("what is sent", event.body.decode(), "application/json")


class KitOfGood(ConnectorTests):
    connector_class: ClassVar[type[Connector]] = Good

    def settings(self, url: str) -> dict[str, Any]:
        return {"url": url, "token": "canary-token"}


class Retries(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        response = await super().send(ctx, body)
        return await super().send(ctx, body) if response.is_server_error else response


class Twice(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        response = await super().send(ctx, body)
        await super().send(ctx, body)
        return response


class Forgets(Good):
    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        (await self.send(ctx, event.body)).raise_for_status()
        return Receipt("sent")


class NoKey(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        return await ctx.http.post(self.settings.url, content=body)


class CountsAttempts(Good):
    def body(self, event: Event, ctx: Context) -> bytes:
        return event.body + b" " * ctx.attempt


class Boasts(Good):
    def receipt(self) -> Receipt:
        return Receipt(f"sent with {self.settings.token.reveal()}")


class Chatters(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        logging.getLogger("chatters").info("sending with %s", self.settings.token.reveal())
        return await super().send(ctx, body)


class LogsSecrets(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        ctx.log.info("sending", token=self.settings.token.reveal())
        return await super().send(ctx, body)


class Swallows(Good):
    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        with contextlib.suppress(httpx.HTTPError):
            return await super().deliver(event, ctx)
        return Receipt("sent, probably")


class RecordsFirst(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        await ctx.effects.put("sent", ctx.key)
        return await super().send(ctx, body)


class SendsInPreview(Good):
    async def preview(self, event: Event, ctx: Context) -> Preview:
        await self.send(ctx, event.body)
        return await super().preview(event, ctx)


class SendsInCheck(Good):
    async def check(self, ctx: Context) -> str:
        await self.send(ctx, b"hello?")
        return "it works"


class Stumbles(Good):
    def body(self, event: Event, ctx: Context) -> bytes:
        return {"order.placed": event.body}[event.type]


def kit_of(connector: type[Connector]) -> ConnectorTests:
    class Kit(KitOfGood):
        connector_class = connector

    return Kit()


def names_in(kit: ConnectorTests) -> list[str]:
    return [name for name in dir(kit) if name.startswith("test_")]


@pytest.mark.parametrize("test", names_in(KitOfGood()))
async def test_a_good_connector_passes(test: str) -> None:
    await getattr(kit_of(Good), test)()


@pytest.mark.parametrize(
    ("bad", "test", "says"),
    [
        (Retries, "test_500", "delivered all the same, after 2 requests"),
        (Twice, "test_400", "must send once"),
        (Forgets, "test_a_replay_finds_the_effect_and_sends_nothing", "nothing was recorded"),
        (NoKey, "test_attempts_send_the_same_under_one_key", "key is not in"),
        (CountsAttempts, "test_attempts_send_the_same_under_one_key", "something else"),
        (Boasts, "test_it_delivers_and_says_so", r"a secret is shown: sent with \*{4}"),
        (Chatters, "test_500", "a secret is shown"),
        (LogsSecrets, "test_500", "a secret is shown"),
        (Swallows, "test_400", "it was delivered"),
        (RecordsFirst, "test_dropped_answer", "recorded as done what was not"),
        (SendsInPreview, "test_preview_sends_nothing", "the preview sent something"),
        (SendsInCheck, "test_check_sends_no_message", "the check sent a message"),
    ],
)
async def test_a_bad_connector_fails(bad: type[Connector], test: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        await getattr(kit_of(bad), test)()


async def test_a_connector_that_stumbles_over_a_type_fails() -> None:
    with pytest.raises(KeyError):
        await kit_of(Stumbles).test_every_type_of_event()


async def test_an_error_of_its_own_is_no_outcome() -> None:
    class Breaks(Good):
        async def send(self, ctx: Context, body: bytes) -> httpx.Response:
            raise KeyError("oops")

    with pytest.raises(AssertionError, match="KeyError"):
        await kit_of(Breaks).test_400()


async def test_expectations_can_be_told_apart_by_status() -> None:
    class Patient(KitOfGood):
        outcomes: ClassVar[dict[str, type[Outcome]]] = {"400": TryAgain}

    assert Patient().expected("400") is TryAgain
    assert KitOfGood().expected("400") is Rejected
    assert KitOfGood().expected("dropped") is TryAgain
    with pytest.raises(AssertionError, match="400"):
        await Patient().test_400()


async def test_the_kit_uses_a_real_counterpart() -> None:
    assert isinstance(KitOfGood().counterpart(), HttpSink)
