"""What the templates of `rest` can name: the records as plain values."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from connectors.erp.records import Line, Order

Names = Mapping[str, Any]


class Omitted(str):
    """The value of `omit`: an entry of a body that comes to it is left out."""

    __slots__ = ()


OMIT = Omitted()


def plain(value: Any) -> Any:
    """A record as names and values, lists of them as lists; `amount` is there where the record works it out."""
    if is_dataclass(value):
        made = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return made | {"amount": value.amount} if isinstance(value, Line | Order) else made
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
