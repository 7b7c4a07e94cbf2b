"""JSON pointers (RFC 6901): where a value stands in an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

INDEX = "0123456789"
SHOWN = 8


class Astray(Exception):
    """Nothing stands at a pointer; the text says where the way ended and what is there."""


def checked(pointer: str) -> str:
    """The pointer, if it is one. Raises ValueError."""
    if pointer and not pointer.startswith("/"):
        raise ValueError('is a JSON pointer: "" for the whole answer, else /name/0/name')
    if any(not part.startswith(("0", "1")) for part in pointer.split("~")[1:]):
        raise ValueError("is a JSON pointer: ~ is written ~0 in it, and / in a name ~1")
    return pointer


def value_at(document: Any, pointer: str) -> Any:
    """What stands there. Raises Astray."""
    value, way = document, ""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif _is_list(value) and _is_index(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            raise Astray(f"nothing at {pointer}: {_held(value, way)}")
        way += f"/{step}"
    return value


def value_or_none(document: Any, pointer: str) -> Any:
    """The same, None where nothing stands."""
    try:
        return value_at(document, pointer)
    except Astray:
        return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_index(name: str) -> bool:
    return 0 < len(name) < 10 and set(name) <= set(INDEX) and (name == "0" or not name.startswith("0"))


def _held(value: Any, way: str) -> str:
    place = way or "the answer"
    if isinstance(value, Mapping):
        names = [str(name)[:40] for name in value]
        more = ", …" if len(names) > SHOWN else ""
        return f"{place} holds {', '.join(names[:SHOWN])}{more}" if names else f"{place} is empty"
    if _is_list(value):
        return f"{place} is a list of {len(value)}"
    return f"{place} is null" if value is None else f"{place} is a single value"
