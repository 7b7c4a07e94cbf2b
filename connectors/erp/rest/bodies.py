"""Bodies, paths and queries out of the config's trees and an order's names; JSON that keeps decimals exact."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from connectors.erp.rest.names import OMIT, Names
from connectors.erp.rest.settings import EXPRESSION, Each, Request
from hub.connector import Context, Rejected, Template, TemplateError

SAFE_IN_PATH = "!$&'()*+,;=:@~"
DOTS = re.compile(r"\.{1,2}")


def filled(ctx: Context, tree: Any, names: Names, place: str) -> Any:
    """The tree with its templates' values. Raises TemplateError, which names the place of the template."""
    if isinstance(tree, str):
        return evaluated(ctx, tree, names, place)
    if isinstance(tree, Each):
        return list(_kept(_items(ctx, tree, names, place)))
    if isinstance(tree, list):
        return list(_kept(filled(ctx, item, names, f"{place}[{number}]") for number, item in enumerate(tree)))
    if isinstance(tree, dict):
        made = {key: filled(ctx, item, names, f"{place}.{key}") for key, item in tree.items()}
        return {key: value for key, value in made.items() if value is not OMIT}
    return tree


def _kept(values: Iterator[Any]) -> Iterator[Any]:
    return (value for value in values if value is not OMIT)


def _items(ctx: Context, tree: Each, names: Names, place: str) -> Iterator[Any]:
    over = evaluated(ctx, tree.each, names, f"{place}.each")
    if not isinstance(over, list | tuple):
        raise TemplateError(f"{place}.each: is no list")
    for position, value in enumerate(over, 1):
        yield filled(ctx, tree.item, {**names, tree.name: value, "position": position}, f"{place}.item")


def evaluated(ctx: Context, template: str, names: Names, place: str) -> Any:
    try:
        return ctx.evaluate(template, **names)
    except TemplateError as error:
        raise TemplateError(f"{place}: {error}") from error


def path_of(ctx: Context, request: Request, names: Names, place: str) -> str:
    """The path with its expressions filled in, each kept within its own part of the path. Raises Rejected where a
    part comes to nothing: a path one level up would be another resource."""
    parts = []
    for part in _parts(request.path):
        text = str(evaluated(ctx, Template(part), names, f"{place}.path")) if "{{" in part else part
        if ("{{" in part and not text.strip()) or DOTS.fullmatch(text):
            raise Rejected(f"{place}.path: {part} comes to {text!r}, which is no part of a path")
        parts.append(quote(text, safe=SAFE_IN_PATH))
    return "/".join(parts)


def _parts(path: str) -> list[str]:
    """A path's parts between its slashes; those within an expression divide nothing."""
    parts = [""]
    for number, piece in enumerate(EXPRESSION.split(path)):
        first, *more = [piece] if number % 2 else piece.split("/")
        parts[-1] += first
        parts += more
    return parts


def query_of(ctx: Context, request: Request, names: Names, place: str) -> list[tuple[str, str]]:
    made = filled(ctx, request.query, names, f"{place}.query")
    pairs = [(name, value) for name, item in made.items() for value in (item if isinstance(item, list) else [item])]
    return [(name, value if isinstance(value, str) else as_json(value)) for name, value in pairs]


def as_json(value: Any) -> str:
    """JSON of it, Decimals as the numbers that they read like, times as ISO 8601. Raises TemplateError."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {as_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | range):
        return "[" + ", ".join(map(as_json, value)) + "]"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise TemplateError("JSON has no such number")
        return str(value)
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise TemplateError("JSON has no such value") from None


async def json_of(ctx: Context, tree: Any, names: Names, place: str) -> str:
    """The tree filled in, as JSON; in a thread, for an order of thousands of rows takes a good part of a second."""
    return await asyncio.to_thread(lambda: as_json(filled(ctx, tree, names, place)))


def fingerprint_of(*bodies: str) -> str:
    """The same for the same bodies: 32 hex digits."""
    return hashlib.sha256("\n".join(bodies).encode("utf-8", "replace")).hexdigest()[:32]
