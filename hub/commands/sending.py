"""`hub send`: a signed sample event, posted as the store would."""

import json
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from hub.commands.asking import CONFIG, AsJson, ConfigPath, command_config
from hub.commands.output import complain, say, show_json
from hub.config import Config
from hub.errors import CommandError
from hub.event import EVENT_TYPES
from hub.guard import place_of
from hub.routing import OWN_EVENTS
from hub.testing.samples import SIGNATURE_HEADER, sample, sign, to_bytes
from hub.web.api import WrongUsage

TIMEOUT = 30.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be replaced by what can be connected to


def send(
    event: Annotated[str, typer.Argument(help=f"The type: {', '.join(EVENT_TYPES)}; or one of your own.")],
    store: Annotated[str | None, typer.Option(help="The store; needed if there are several.")] = None,
    data: Annotated[str | None, typer.Option(help="JSON that goes over the sample's data.")] = None,
    url: Annotated[str | None, typer.Option(help="Where to post, if not to this config's hub.")] = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Post a signed sample event, with fresh ids each time."""
    if event.startswith(OWN_EVENTS):
        raise WrongUsage(f"{event} is an event of the hub's own: it makes them, and takes none from outside")
    more = _data(data)
    loaded = command_config(config)
    name = _store(loaded, store)
    _doubt(event)
    document = sample(event)
    document["data"] |= more
    body = to_bytes(document)
    address = webhook_url(loaded, name, url)
    answer = _post(address, body, sign(body, loaded.stores[name].webhook_secrets[0].reveal()))
    try:
        said = answer.json()
    except ValueError:
        said = answer.text[:500]
    if as_json:
        show_json({"url": address, "status": answer.status_code, "answer": said, "sent": json.loads(body)})
    else:
        say(f"{answer.status_code} {json.dumps(said, ensure_ascii=False)}")
    if answer.status_code != 200:
        raise typer.Exit(1)


def _doubt(event: str) -> None:
    """Say that a type is nearly a known one. Unknown types are kept, so it is sent all the same."""
    like = [] if event in EVENT_TYPES else get_close_matches(event, EVENT_TYPES, 1, 0.8)
    if like:
        complain(f"{event} is no known type and goes out as it is; did you mean {like[0]}?")


def _data(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        data = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"--data is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise WrongUsage("--data must be a JSON object, such as '{\"total\": 120}'")
    return data


def _store(config: Config, wanted: str | None) -> str:
    if wanted is None and len(config.stores) == 1:
        return next(iter(config.stores))
    if wanted not in config.stores:
        names = ", ".join(config.stores)
        raise WrongUsage(f"--store: say which of {names}" if wanted is None else f"--store: there is {names}")
    return wanted


def webhook_url(config: Config, store: str, given: str | None) -> str:
    """Where the store's webhooks go: this config's hub, or a given one; without a path, that of its store."""
    path = f"/webhooks/{store}"
    if given is not None:
        try:
            parts = urlsplit(given)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            httpx.URL(given)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable or " " in given:
            raise WrongUsage("--url must be a whole address, such as http://127.0.0.1:8600/webhooks/main")
        return given if parts.path.strip("/") else given.rstrip("/") + path
    if not config.server.port:
        raise WrongUsage("server.port is 0, so the hub's port is not known: say --url")
    host = EVERYWHERE.get(config.server.host, config.server.host)
    return f"http://{place_of(host, config.server.port)}{path}"


def _post(url: str, body: bytes, signature: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature}
    try:
        with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
            return client.post(url, content=body, headers=headers)
    except httpx.ConnectError:
        raise CommandError(f"nothing listens at {url}: start the hub with `hub up`, or say --url") from None
    except httpx.HTTPError as error:
        raise CommandError(f"{url} did not answer ({type(error).__name__}); it may have been kept") from None
