"""Some calls at a time: one after the other they would not be done within an attempt."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
SIDE_BY_SIDE = 4


async def side_by_side(call: Callable[[Key], Awaitable[Value]], keys: Sequence[Key]) -> list[Value]:
    """What the call gives for each key, in their order. The first error flies as it is, once those beside it have
    ended; no further call is begun then."""
    found: list[Value] = []
    for start in range(0, len(keys), SIDE_BY_SIDE):
        some = map(call, keys[start : start + SIDE_BY_SIDE])
        for one in await asyncio.gather(*some, return_exceptions=True):
            if isinstance(one, BaseException):
                raise one
            found.append(one)
    return found
