"""Secrets out of texts: the whole of each, what of a URL tells as much, and the ways in which a server echoes it."""

import base64
import html
import json
from collections.abc import Callable, Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "****"
# Shorter parts of a URL are words such as `v1` and `true`, which every other text holds too.
SHORTEST_PART = 6
# A step of a path without a digit, as `services` and `webhooks` are, is a word up to this length.
LONGEST_WORD = 20


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces these secrets in a text by ****, also where only a telling part of one is echoed."""
    texts = {text for secret in secrets for part in telling_parts(secret) for text in echoes(part)}
    # Longest first, so that a secret inside another leaves no rest.
    ordered = sorted(texts, key=lambda text: (-len(text), text))

    def redact(value: str) -> str:
        for text in ordered:
            if text in value:
                value = value.replace(text, MASK)
        return value

    return redact


def telling_parts(secret: str) -> set[str]:
    """The secret, and what of it gives access by itself.

    Of `Bearer abc…` the words; of a URL its password, path, query and their unguessable steps.
    """
    found = {secret, *(word for word in secret.split() if len(word) > SHORTEST_PART)}
    try:
        parts = urlsplit(secret)
    except ValueError:
        return found - {""}
    if "://" not in secret:
        return found - {""}
    pairs = parse_qsl(parts.query)
    target = f"{parts.path}?{parts.query}"
    steps = [step for step in parts.path.split("/") if any(map(str.isdigit, step)) or len(step) >= LONGEST_WORD]
    shown = [target if parts.query else "", parts.path, parts.query, *steps, *(value for _, value in pairs)]
    found |= {part for part in shown if len(part) >= SHORTEST_PART}
    if parts.password:
        userinfo = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
        found |= {parts.password, unquote(parts.password), base64.b64encode(userinfo.encode()).decode()}
    return found - {""}


def echoes(part: str) -> set[str]:
    """`part` as servers say it back: as it is, decoded, percent-encoded, in JSON and in HTML."""
    forms = {part, unquote(part), part.replace("/", "\\/")}
    for text in (part, unquote(part)):
        forms |= {quote(text), quote(text, safe=""), html.escape(text)}
        forms |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return forms
