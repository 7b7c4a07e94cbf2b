"""`hub store-double`: a store to develop against, in a process of its own."""

import asyncio
import signal
from typing import Annotated

import typer

from hub.commands.output import say
from hub.commands.running import run
from hub.errors import CommandError
from hub.testing.store import Shop, StoreSettings, serving
from hub.testing.store.settings import Payload, ProfileName

SIGNALS = (signal.SIGINT, signal.SIGTERM)
OWN = StoreSettings()


def store_double(
    port: Annotated[int, typer.Option(help="The port on loopback; 0 is any free one.", min=0, max=65535)] = 8700,
    profile: Annotated[ProfileName, typer.Option(help="As the vendor's page says, or as the live API does.")] = "seed",
    seed: Annotated[int, typer.Option(help="The same number gives the same data.")] = OWN.seed,
    limit: Annotated[int, typer.Option(help="Requests that a key may make in a window.", min=1)] = OWN.limit,
    window: Annotated[float, typer.Option(help="Its length in seconds.", min=1)] = OWN.window,
    webhooks: Annotated[str | None, typer.Option(help="Where its webhooks go: a hub's …/webhooks/NAME.")] = None,
    secret: Annotated[str, typer.Option(help="What they are signed with.")] = OWN.secret,
    payload: Annotated[Payload, typer.Option(help="Their data: as little as on the vendor's page, or all.")] = "page",
    live: Annotated[float | None, typer.Option(help="Seconds between what happens by itself.", min=0.01)] = None,
) -> None:
    """A store to develop against: its REST API, and webhooks of what happens in it. Nothing is kept."""
    settings = StoreSettings(
        profile=profile, seed=seed, limit=limit, window=window, webhooks=webhooks, secret=secret, payload=payload,
        live=live,
    )  # fmt: skip
    run(_serve(settings, port))


async def _serve(settings: StoreSettings, port: int) -> None:
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with serving(Shop(settings), port=port) as url:
            say(*_introduction(settings, url))
            await stop.wait()
    except OSError as error:
        raise CommandError(f"port {port} cannot be used: {error.strerror}") from None


def _introduction(settings: StoreSettings, url: str) -> list[str]:
    lines = [f"A store that speaks {settings.profile} listens at {url}/api/", f"API key: {settings.api_key}"]
    if settings.profile == "v2":
        lines.append(f"x-litekart-store: {settings.store_id}")
    if settings.webhooks:
        lines.append(f"Webhooks go to {settings.webhooks}, signed with the secret: {settings.secret}")
    return [*lines, "Ctrl-C ends it."]
