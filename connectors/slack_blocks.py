"""Slack's message format: escaping, the blocks that the connector uses, and Slack's documented limits.

Limits and escaping are those of docs.slack.dev (Block Kit reference, "Formatting text"). Free text stands in
`plain_text` objects, where Slack reads no markup; what must be `mrkdwn` is escaped.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

Block = dict[str, Any]
Payload = dict[str, Any]

MOST_BLOCKS = 50
LONGEST_TEXT = 40_000
WISE_TEXT = 4_000
SECTION_TEXT = 3_000
HEADER_TEXT = 150
FIELD_TEXT = 2_000
MOST_FIELDS = 10
MOST_ELEMENTS = 10
LONGEST_ID = 255
ALL_BLOCKS = 13_200
"""Characters in all blocks together; Slack does not document where `msg_blocks_too_long` begins."""

ENTITY = re.compile(r"&[a-z]{0,3}$")


def escape(text: str) -> str:
    """`text` as Slack shows it literally in mrkdwn: these three characters, `&` first, and nothing else."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut_escaped(text: str, length: int) -> str:
    """Escaped text of at most `length` characters, never ending within an entity."""
    if len(text) <= length:
        return text
    return ENTITY.sub("", text[: length - 1]) + "…"


def plain(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": False}


def markdown(text: str) -> Block:
    """`text` must have been escaped."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def link(url: str, label: str) -> str:
    """A mrkdwn link; what would end it early is percent-encoded."""
    for character in '<>|" ':
        url = url.replace(character, f"%{ord(character):02X}")
    return f"<{url.replace('&', '&amp;')}|{escape(label)}>"


def problems(payload: Payload) -> list[str]:
    """What Slack would refuse in a message, one line each; empty when it is in order."""
    return list(_message_problems(payload))


def _message_problems(payload: Payload) -> Iterator[str]:
    text, blocks = payload.get("text"), payload.get("blocks", [])
    if not isinstance(text, str) or not text.strip():
        yield "text must stand beside the blocks, for notifications"
    elif len(text) > LONGEST_TEXT:
        yield f"text is longer than {LONGEST_TEXT}"
    if len(blocks) > MOST_BLOCKS:
        yield f"there are more than {MOST_BLOCKS} blocks"
    for place, block in enumerate(blocks):
        check = CHECKS.get(block.get("type"))
        found = check(block) if check else iter([f"is of the unknown type {block.get('type')!r}"])
        yield from (f"block {place} {problem}" for problem in found)
        if len(block.get("block_id", "")) > LONGEST_ID:
            yield f"block {place} has a block_id longer than {LONGEST_ID}"
    if _total(blocks) > ALL_BLOCKS:
        yield f"the blocks together hold more than {ALL_BLOCKS} characters"


def _header(block: Block) -> Iterator[str]:
    if block.get("text", {}).get("type") != "plain_text":
        yield "is a header that is not plain_text"
    yield from _text_problems(block.get("text"), HEADER_TEXT)


def _section(block: Block) -> Iterator[str]:
    fields = block.get("fields")
    if "text" not in block and not fields:
        yield "has neither text nor fields"
    if "text" in block:
        yield from _text_problems(block["text"], SECTION_TEXT)
    if len(fields or []) > MOST_FIELDS:
        yield f"has more than {MOST_FIELDS} fields"
    for item in fields or []:
        yield from _text_problems(item, FIELD_TEXT)


def _context(block: Block) -> Iterator[str]:
    elements = block.get("elements", [])
    if not 1 <= len(elements) <= MOST_ELEMENTS:
        yield f"must have 1 to {MOST_ELEMENTS} elements"
    for element in elements:
        yield from _text_problems(element, SECTION_TEXT)


def _text_problems(text: Any, longest: int) -> Iterator[str]:
    if not isinstance(text, dict) or text.get("type") not in {"plain_text", "mrkdwn"}:
        yield "holds something that is no text object"
    elif not text.get("text"):
        yield "holds an empty text"
    elif len(text["text"]) > longest:
        yield f"holds a text longer than {longest}"


CHECKS: dict[Any, Callable[[Block], Iterator[str]]] = {"header": _header, "section": _section, "context": _context}


def _total(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_total(item) for item in value.values())
    return sum(_total(item) for item in value) if isinstance(value, list) else 0
