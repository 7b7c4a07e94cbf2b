"""What both profiles must be able to say: rows, lists, errors, and what a query asks for."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hub.testing.store.errors import ApiError, Problem
from hub.testing.store.resources import Row
from hub.testing.store.settings import StoreSettings
from hub.testing.store.state import State

Query = Mapping[str, str]


@dataclass(frozen=True)
class Page:
    """One page of a list: its rows as they are shown, its number from 1, its size and how many there are in all."""

    rows: list[Row]
    number: int
    size: int
    total: int

    @property
    def pages(self) -> int:
        return -(-self.total // self.size)


class Profile(ABC):
    """One way of speaking: the vendor's page (`seed`) or the live API (`v2`)."""

    name: str
    created: int
    size_names: tuple[str, ...]
    rate_headers: bool
    retry_after: str

    @abstractmethod
    def view(self, state: State, resource: str, row: Row, *, whole: bool) -> Row:
        """A row as it is shown, in a list or `whole`."""

    @abstractmethod
    def single(self, shown: Any, message: str) -> Any: ...

    @abstractmethod
    def listing(self, page: Page, style: str = "") -> Any:
        """The body of a list; `style` is one of the shapes that only some of v2's lists have."""

    @abstractmethod
    def error(self, error: ApiError, settings: StoreSettings) -> Any: ...

    @abstractmethod
    def limited(self, seconds: int, in_body: bool) -> Any:
        """The body of a 429; `in_body`: with the seconds to wait."""

    @abstractmethod
    def order_of(self, query: Query) -> list[tuple[str, bool]]:
        """The fields to sort by and whether each falls; ApiError 422."""

    @abstractmethod
    def filters(self, state: State, resource: str, query: Query) -> Iterable[Callable[[Row], bool]]: ...

    @abstractmethod
    def own_names(self, resource: str, body: Row) -> Row:
        """A body's fields in the double's names."""

    @abstractmethod
    def own_field(self, resource: str, name: str) -> str:
        """One field's name as the double has it."""

    @abstractmethod
    def shown_field(self, resource: str, name: str) -> str:
        """One field's name as the profile has it."""

    @abstractmethod
    def selected(self, shown: Row, query: Query) -> Row:
        """Of a shown row what a query asks for."""

    def page_of(self, query: Query, settings: StoreSettings) -> tuple[int, int]:
        """The page's number and size. ApiError 422."""
        number = whole_number("page", query.get("page", "1"))
        name = next((one for one in self.size_names if one in query), self.size_names[0])
        size = whole_number(name, query.get(name, str(settings.page_size)))
        return number, min(size, settings.largest_page)


def whole_number(name: str, text: str) -> int:
    """ApiError 422 for what is not a whole number from 1."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise ApiError(422, problems=[Problem(name, f"{name} must be a whole number from 1")])
    return int(text)


def encoded(body: Any, decimals: str) -> bytes:
    """JSON as a store's JavaScript writes it; `decimals` of a moment's seconds: `seconds` or `milliseconds`."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=decimals) + "Z"
        if isinstance(value, Decimal):
            return int(value) if value == value.to_integral_value() else float(value)
        raise TypeError(type(value).__name__)

    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=plain).encode()


def sort_key(name: str) -> Callable[[Row], tuple[bool, Any]]:
    """Rows without the value come last when rising; text goes by its letters whatever their case."""

    def key(row: Row) -> tuple[bool, Any]:
        value = row.get(name)
        if isinstance(value, list | dict):
            value = len(value)
        return value is None, value.casefold() if isinstance(value, str) else (value if value is not None else 0)

    return key


def sorted_rows(rows: Iterable[Row], order: Iterable[tuple[str, bool]]) -> list[Row]:
    """By several fields, the first counting most."""
    found = list(rows)
    for name, falling in reversed(list(order)):
        found.sort(key=sort_key(name), reverse=falling)
    return found


def order_parts(state: State, order: Row) -> tuple[list[str], list[Row]]:
    """An order's tags and what is known of its parcels."""
    tags = [row["tag"] for row in state.rows("order_tags", order_id=order["id"])]
    return tags, list(state.rows("tracking", order_id=order["id"]))
