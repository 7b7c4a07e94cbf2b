"""`hub init`: a config.yaml after a few questions, and its secrets in a `.env` that only its owner may read."""

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter, ValidationError

from hub.commands.asking import CONFIG, AsJson, ConfigPath, Yes
from hub.commands.output import complain, say, show_json
from hub.config import WebUrl, header_text, load_config
from hub.errors import CommandError, ConfigError

CONFIG_TEXT = """\
# The hub's config. `hub config example` shows every setting; "${{NAME}}" comes from the environment, or from .env.
server: {{host: 127.0.0.1, port: 8600}}
database: sqlite:///data/hub.db
redis: embedded
stores:
  main:
    url: {url}
    api_key: {api_key}
    webhook_secrets: ["${{LITEKART_WEBHOOK_SECRET}}"]
routes:{routes}
"""
WEB_URL: TypeAdapter[str] = TypeAdapter(WebUrl)
API_KEY = '"${LITEKART_API_KEY}"'
NO_API_KEY = "null  # a key to its API, to find webhooks that never came and for routes that read the store"
SLACK_ROUTE = """
  orders-to-slack:
    connector: slack
    events: [order.placed, order.cancelled, inventory.low]
    settings: {webhook_url: "${SLACK_URL}"}"""
NO_ROUTES = """ {}
# A route says what goes where. This one would post every event to an address of yours:
#   everything:
#     connector: webhook
#     settings: {url: "https://example.com/hook"}"""


@dataclass(frozen=True)
class Answers:
    """What a new config is made from; empty where there is none yet."""

    url: str = "https://shop.example"
    api_key: str = ""
    slack_url: str = ""


def init(yes: Yes = False, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Write config.yaml and .env, with fresh random secrets, after a few questions."""
    environment = config.with_name(".env")
    for path in (config, environment):
        if path.exists():
            raise CommandError(f"{path} is there already and stays as it is; move it away, or say --config")
    answers = Answers() if yes or as_json else _ask()
    files = texts(answers)
    _try_out(files)
    config.parent.mkdir(parents=True, exist_ok=True)
    write_new(environment, files[".env"], 0o600)
    write_new(config, files["config.yaml"], 0o644)
    steps = next_steps(config)
    if as_json:
        show_json({"written": [str(config), str(environment)], "next": steps})
    else:
        say(f"{config} and {environment} are written. Next:", *(f"{n}. {step}" for n, step in enumerate(steps, 1)))


def _ask() -> Answers:
    slack_question = "A Slack incoming webhook's URL for messages about orders (empty: none yet)"
    try:
        return Answers(
            _asked("The shop's address", shop_url, default=Answers.url),
            _asked("Key to its API (empty: none yet)", header_text, default="", show_default=False, hide_input=True),
            _asked(slack_question, web_url, default="", show_default=False),
        )
    except typer.Abort:
        raise CommandError("nobody answered, so nothing was written; --yes asks nothing") from None


def _asked(question: str, take: Callable[[str], str], **options: Any) -> str:
    """The answer as `take` makes it; asked again at once where it raises ValueError."""
    while True:
        answer = typer.prompt(question, err=True, **options).strip()
        try:
            return take(answer) if answer else answer
        except ValueError as error:
            complain(error)


def shop_url(answer: str) -> str:
    """The shop's address; https where none is said. Raises ValueError."""
    return web_url(answer if "://" in answer else f"https://{answer}")


def web_url(answer: str) -> str:
    """An address as the config takes it. Raises ValueError."""
    try:
        WEB_URL.validate_python(answer)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    return answer


def texts(answers: Answers) -> dict[str, str]:
    """The two files: the config without a secret, and `.env` with all of them."""
    variables = {
        "LITEKART_WEBHOOK_SECRET": secrets.token_urlsafe(32),
        "LITEKART_API_KEY": answers.api_key.strip(),
        "SLACK_URL": answers.slack_url,
    }
    config = CONFIG_TEXT.format(
        url=json.dumps(answers.url.replace("${", "$${")),
        api_key=API_KEY if variables["LITEKART_API_KEY"] else NO_API_KEY,
        routes=SLACK_ROUTE if variables["SLACK_URL"] else NO_ROUTES,
    )
    lines = [f"{name}={quoted(name, value)}" for name, value in variables.items() if value]
    return {"config.yaml": config, ".env": "# Secrets: keep this file to yourself.\n" + "\n".join(lines) + "\n"}


def quoted(name: str, value: str) -> str:
    """A value as `.env` reads it back."""
    if not value.isprintable():
        raise CommandError(f"{name}: it has a character that cannot be typed; copy it again")
    if "'" not in value:
        return f"'{value}'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _try_out(files: dict[str, str]) -> None:
    """Raises CommandError if the hub would not start with these."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            write_new(Path(folder) / name, text, 0o600)
        try:
            load_config(Path(folder) / "config.yaml", {})
        except ConfigError as error:
            raise CommandError(f"nothing was written: {'; '.join(error.problems)}") from None


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that is not there yet. Raises CommandError."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def next_steps(config: Path) -> list[str]:
    """What to do now."""
    option = "" if config == CONFIG else f" --config {config}"
    return [
        "In the shop, add a webhook to https://YOUR-HOST/webhooks/main,"
        " with LITEKART_WEBHOOK_SECRET from .env as its secret.",
        f"Run `hub check{option}`, then `hub up{option}`.",
        f"In another terminal run `hub send order.placed{option}`, then `hub events{option}`.",
    ]
