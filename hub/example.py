"""config.example.yaml, written from the models: every setting, its default, a line of meaning, and three routes."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hub.config import Config, Route, Store, find_connector
from hub.connector import Secret, Template

__all__ = ["example_yaml"]

HEAD = """\
# Every setting of litekart-hub, its default, and what it means. Copy this file to config.yaml and leave out what
# you do not change. Folders and files are relative to it.
#
# "${NAME}" and "${NAME:-default}" stand for a variable of the environment, or of the file .env beside this one;
# write $${ for a plain ${. Times are 500ms, 15s, 5m, 2h, 90d.
# Conditions and templates are Jinja's language: {{ data.total | money("INR") }}.
"""
STORES = {
    "main": {
        "url": "https://shop.example",
        "api_key": "${LITEKART_API_KEY}",
        "webhook_secrets": ["${LITEKART_WEBHOOK_SECRET}"],
    }
}
ROUTES: dict[str, dict[str, Any]] = {
    "big-orders": {
        "connector": "slack",
        "stores": ["main"],
        "events": ["order.placed", "payment.*"],
        "when": "data.total | default(data.amount) >= 100",
        "settings": {"webhook_url": "${SLACK_URL}"},
        "rate": "1/s",
    },
    "order-mail": {
        "connector": "email",
        "events": ["order.placed", "order.cancelled"],
        "settings": {
            "host": "smtp.example.com",
            "username": "shop@example.com",
            "password": "${SMTP_PASSWORD}",
            "from": "shop@example.com",
            "to": ["orders@example.com"],
        },
    },
    "everything": {
        "connector": "webhook",
        "settings": {"url": "${WEBHOOK_URL}", "signing_secrets": ["${WEBHOOK_SIGNING_SECRET}"]},
    },
}
SHOWN = 90
BARE = re.compile(r"(?![0-9]*[.]?[0-9]*$)[A-Za-z0-9](?:[\w./@*-]|:(?=\S)| (?=\S)|[>=]){0,60}", re.ASCII)


def example_yaml() -> str:
    """The text of config.example.yaml. It loads once the variables that it names are set."""
    return "\n".join([HEAD, *_section(Config, {"stores": STORES, "routes": ROUTES}, "")]).rstrip() + "\n"


def _section(model: type[BaseModel], given: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield f"{indent}# {field.description}"
        yield from _setting(key, field, given, indent)
        if not indent:
            yield ""


def _setting(key: str, field: FieldInfo, given: Mapping[str, Any], indent: str) -> Iterator[str]:
    deeper = indent + "  "
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and key not in given:
        yield f"{indent}{key}:"
        yield from _section(field.annotation, {}, deeper)
    elif given.get(key) is STORES:
        yield f"{indent}{key}:"
        for name, store in STORES.items():
            yield f"{deeper}{name}:"
            yield from _section(Store, store, deeper + "  ")
    elif given.get(key) is ROUTES:
        yield f"{indent}{key}:"
        for number, (name, route) in enumerate(ROUTES.items()):
            yield f"{deeper}{name}:"
            yield from _route(route, deeper + "  ", whole=number == 0)
    else:
        value = given.get(key, field.get_default(call_default_factory=True))
        own = isinstance(value, Template) and ("\n" in value or len(value) > SHOWN)
        yield f"{indent}# {key}: the connector's own" if own else f"{indent}{key}: {_text(value)}"


def _route(given: Mapping[str, Any], indent: str, *, whole: bool) -> Iterator[str]:
    """A route: the first with every setting, the others with what differs and their connector's settings."""
    for name, field in Route.model_fields.items():
        key = field.alias or name
        if not (whole or key in given):
            continue
        if whole:
            yield f"{indent}# {field.description}"
        if key == "settings":
            yield f"{indent}settings:"
            yield from _section(find_connector(given["connector"]).Settings, given["settings"], indent + "  ")
        else:
            yield from _setting(key, field, given, indent)


def _text(value: Any) -> str:
    """A value as YAML on one line; text is quoted unless it is plainly text."""
    match value:
        case Secret():
            return _text(value.reveal())
        case Path():
            return _text(value.as_posix())
        case list() | tuple():
            return f"[{', '.join(map(_text, value))}]"
        case str() if BARE.fullmatch(value) and value not in {"null", "true", "false"}:
            return value
    return json.dumps(value, ensure_ascii=False)
