"""Commands about who may use the dashboard: passwd, login, sessions end."""

import json
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from hub.commands.asking import CONFIG, AsJson, ConfigPath, ask, me
from hub.commands.output import moment, say, show_json
from hub.config import User
from hub.connector import Secret
from hub.errors import CommandError
from hub.web.api import WrongUsage
from hub.web.passwords import hash_password

PLACEHOLDER = f"$argon2id$v=19$m=8,t=1,p=1${'A' * 22}${'A' * 43}"
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1_000


def passwd(
    name: Annotated[str, typer.Argument(help="What they log in as.")] = "admin",
    role: Annotated[str, typer.Option(help="viewer may look; operator also replay, pause and let in.")] = "operator",
    as_json: AsJson = False,
) -> None:
    """Make a user of the dashboard: asks for a password, and prints the lines for the config."""
    _acceptable(name, role, PLACEHOLDER)
    made = hash_password(_new_password())
    if as_json:
        show_json({"name": name, "role": role, "password": made})
        return
    print("# Under dashboard.users in config.yaml; then start the hub again:")
    print(f"- name: {json.dumps(name)}\n  role: {role}\n  password: {json.dumps(made)}")


def _acceptable(name: str, role: str, password: str) -> None:
    """Raises WrongUsage where the config would not take it, before anybody types a password."""
    try:
        User.model_validate({"name": name, "role": role, "password": Secret(password)})
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise WrongUsage(f"{wrong['loc'][0]}: {wrong['msg'].replace('Input should', 'must')}") from None


def _new_password() -> str:
    """Typed twice and not shown; or one line of standard input where that is no terminal. Raises CommandError."""
    if sys.stdin.isatty():
        password, again = (_typed(prompt) for prompt in ("Password", "Once more"))
        if password != again:
            raise CommandError("the two are not the same, so nothing was made")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise CommandError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; nothing was made")
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise CommandError("the password is not UTF-8, so it could not be typed in a browser; nothing was made")
    return password


def _typed(prompt: str) -> str:
    try:
        return str(typer.prompt(prompt, hide_input=True, default="", show_default=False, err=True))
    except typer.Abort:
        raise CommandError("nobody answered, so nothing was made") from None


def login(config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """A link that logs in to the dashboard once, within ten minutes; for a hub without users."""
    link = ask(config, "login.link", {})
    if as_json:
        show_json(link)
    else:
        say(link["url"], f"It works once, until {moment(link['until'])}.")


def end_sessions(
    name: Annotated[str, typer.Argument(help="A user; local for who came by a link.")],
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """End all sessions of a user, wherever they are logged in."""
    ended = ask(config, "sessions.end", {"user": name, "who": me()})
    if as_json:
        show_json(ended)
    else:
        say(f"{ended['ended']} of {name} ended" if ended["ended"] else f"{name} was not logged in")
