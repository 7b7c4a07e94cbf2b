"""The kit fails for a connector that breaks a rule: one bad connector for each."""

import contextlib
import logging
import time
from typing import Any, ClassVar

import httpx
import pytest

from hub.connector import Connector, Context, Effect, Event, Preview, Receipt, Secret
from hub.errors import Outcome, Rejected, Skip, TryAgain
from hub.testing import ConnectorTests, HttpSink, Received


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


class LosesTheWait(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        response = await super().send(ctx, body)
        if response.status_code in {429, 503}:
            raise TryAgain("it is busy", destination=True)
        return response


class TriesA503Again(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        response = await super().send(ctx, body)
        return await super().send(ctx, body) if response.status_code == 503 else response


class StampsTheMachinesSecond(Good):
    def body(self, event: Event, ctx: Context) -> bytes:
        return event.body + str(int(time.time())).encode()


class StampsTheHubsMinute(Good):
    def body(self, event: Event, ctx: Context) -> bytes:
        return event.body + ctx.now().strftime("%H:%M").encode()


class StampsTheKey(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        headers = {"Idempotency-Key": f"{ctx.key}-{int(time.time())}"}
        return await ctx.http.post(self.settings.url, content=body, headers=headers)


class KeepsTheFirstBody(Good):
    kept: bytes | None = None

    def body(self, event: Event, ctx: Context) -> bytes:
        self.kept = self.kept or event.body
        return self.kept


class KeepsTheKey(Good):
    key = ""

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        self.key = ctx.key
        return await super().deliver(event, ctx)

    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        return await ctx.http.post(self.settings.url, content=body, headers={"Idempotency-Key": self.key})


class TakesARedirectForSuccess(Good):
    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        if done := await ctx.effects.get("sent"):
            return Receipt(f"already sent: {done.value}")
        response = await self.send(ctx, event.body)
        if response.is_error:
            response.raise_for_status()
        await ctx.effects.put("sent", ctx.key)
        return self.receipt()


class SkipsWhatIsRefused(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        response = await super().send(ctx, body)
        if response.status_code in {403, 404, 409, 422}:
            raise Skip("it does not want this")
        return response


class BringsItsOwnClient(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as http:
            return await http.post(self.settings.url, content=body, headers={"Idempotency-Key": ctx.key})


class ChecksByItsOwnClient(Good):
    async def check(self, ctx: Context) -> str:
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.head(self.settings.url)
        return "it is there"


class CountsItsEffects(Good):
    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        (await self.send(ctx, event.body)).raise_for_status()
        await ctx.effects.put("sent", 1)  # type: ignore[arg-type]
        return self.receipt()


class CountsItsEntitysEffects(Good):
    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        await ctx.entity_effects.once("order", self.make)
        return await super().deliver(event, ctx)

    async def make(self) -> Effect:
        return Effect(1)  # type: ignore[arg-type]


class RecordsInPreview(Good):
    async def preview(self, event: Event, ctx: Context) -> Preview:
        await ctx.entity_effects.put("order", "S1")
        return await super().preview(event, ctx)


class RecordsForTheEntityFirst(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        await ctx.entity_effects.put("order", "S1")
        return await super().send(ctx, body)


class Parrots(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        response = await super().send(ctx, body)
        if response.status_code == 404:
            raise Rejected(f"it answered {response.text}")
        return response


class SendsASecondTimeMore(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        for _ in range(ctx.attempt - 1):
            await super().send(ctx, body)
        return await super().send(ctx, body)


class ChatsAsMailer(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        logging.getLogger("mailer").info("sending with %s", self.settings.token.reveal())
        return await super().send(ctx, body)


class SeesNothingWrong(Good):
    async def check(self, ctx: Context) -> str:
        response = await ctx.http.head(self.settings.url)
        return f"it answers {response.status_code}"


class ReadsTheText(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        response = await super().send(ctx, body)
        ctx.log.info("answered", text=response.text)
        return response


class HidesTheUrl(Good):
    """Its address is a secret, of which the query holds another."""

    class Settings(Connector.Settings):
        url: Secret

    settings: Settings  # type: ignore[assignment]

    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        headers = {"Idempotency-Key": ctx.key}
        return await ctx.http.post(self.settings.url.reveal(), content=body, headers=headers)


class TellsTheQuerysValue(HidesTheUrl):
    def receipt(self) -> Receipt:
        return Receipt(f"sent with {httpx.URL(self.settings.url.reveal()).params['token']}")


class SignsByTheSecond(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        headers = {"Idempotency-Key": ctx.key, "X-Signed-At": ctx.now().isoformat()}
        return await ctx.http.post(self.settings.url, content=body, headers=headers)


def kit_of(connector: type[Connector]) -> ConnectorTests:
    class Kit(KitOfGood):
        connector_class = connector

    return Kit()


def names_in(kit: ConnectorTests) -> list[str]:
    return [name for name in dir(kit) if name.startswith("test_")]


ANSWERED = [name for name in names_in(KitOfGood()) if name != "test_no_answer"]
"""All but the one that takes three seconds."""


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
        (LosesTheWait, "test_429", "the Retry-After of the 429 is lost"),
        (LosesTheWait, "test_503", "the Retry-After of the 503 is lost"),
        (TriesA503Again, "test_503", "delivered all the same, after 2 requests"),
        (StampsTheMachinesSecond, "test_attempts_send_the_same_under_one_key", "some time later, sent something else"),
        (StampsTheHubsMinute, "test_attempts_send_the_same_under_one_key", "some time later, sent something else"),
        (StampsTheKey, "test_attempts_send_the_same_under_one_key", "some time later, sent something else"),
        (KeepsTheFirstBody, "test_one_instance_serves_many_deliveries", "mixed up"),
        (KeepsTheKey, "test_one_instance_serves_many_deliveries", "mixed up"),
        (TakesARedirectForSuccess, "test_302", "it was delivered all the same"),
        (SkipsWhatIsRefused, "test_403", "403: Skip"),
        (SkipsWhatIsRefused, "test_404", "404: Skip"),
        (SkipsWhatIsRefused, "test_409", "409: Skip"),
        (SkipsWhatIsRefused, "test_422", "422: Skip"),
        (BringsItsOwnClient, "test_nothing_goes_around_the_guard", "past network.allow"),
        (ChecksByItsOwnClient, "test_nothing_goes_around_the_guard", "past network.allow"),
        (RecordsInPreview, "test_preview_sends_nothing", "the preview recorded something as done, for the entity"),
        (RecordsForTheEntityFirst, "test_500", "recorded as done what was not, for the entity"),
        (RecordsForTheEntityFirst, "test_refused_connection", "recorded as done what was not, for the entity"),
        (Parrots, "test_an_answer_that_echoes_the_request", r"(?s)a secret is shown: it answered Cannot POST .*\*{4}"),
        (SendsASecondTimeMore, "test_attempts_send_the_same_under_one_key", "two attempts sent 3 messages, not two"),
        (ChatsAsMailer, "test_500", "a secret is shown"),
        (SeesNothingWrong, "test_a_check_that_is_refused_raises", "answered 401 and found nothing wrong"),
        (ReadsTheText, "test_an_answer_in_no_known_charset", "an error that says nothing to the hub"),
        (SignsByTheSecond, "test_attempts_send_the_same_under_one_key", "sent something else"),
    ],
)
async def test_a_bad_connector_fails(bad: type[Connector], test: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        await getattr(kit_of(bad), test)()


async def test_a_connector_that_stumbles_over_a_type_fails() -> None:
    with pytest.raises(KeyError):
        await kit_of(Stumbles).test_every_type_of_event()


@pytest.mark.parametrize("bad", [CountsItsEffects, CountsItsEntitysEffects])
async def test_an_effect_that_is_no_text_is_told_as_the_hub_tells_it(bad: type[Connector]) -> None:
    with pytest.raises(TypeError, match="an effect's value is text, not int"):
        await kit_of(bad).test_it_delivers_and_says_so()


class KitOfHidden(KitOfGood):
    connector_class = HidesTheUrl

    def settings(self, url: str) -> dict[str, Any]:
        return {"url": f"{url}/in?store=main&token=canary%2Dtoken"}


@pytest.mark.parametrize("test", ANSWERED)
async def test_a_connector_whose_address_is_secret_passes(test: str) -> None:
    await getattr(KitOfHidden(), test)()


async def test_a_value_of_a_secret_addresss_query_is_a_secret_without_its_name() -> None:
    class Kit(KitOfHidden):
        connector_class = TellsTheQuerysValue

    with pytest.raises(AssertionError, match=r"a secret is shown: sent with \*{4}"):
        await Kit().test_it_delivers_and_says_so()


async def test_a_header_that_may_change_is_named_in_any_case() -> None:
    class Kit(KitOfGood):
        connector_class = SignsByTheSecond
        changing_headers = frozenset({"X-Signed-At"})

    await Kit().test_attempts_send_the_same_under_one_key()


class Fetches(Good):
    async def send(self, ctx: Context, body: bytes) -> httpx.Response:
        (await ctx.http.get(self.settings.url)).raise_for_status()
        return await super().send(ctx, body)


@pytest.mark.parametrize("test", ANSWERED)
async def test_situations_are_arranged_for_the_message_where_others_go_before_it(test: str) -> None:
    class Kit(KitOfGood):
        connector_class = Fetches

        def is_message(self, request: Received) -> bool:
            return request.method == "POST"

    await getattr(Kit(), test)()


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
