"""The profile `seed`: the API as the vendor's page (litekart-overview.txt) describes it."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from hub.testing.store.errors import ApiError, Problem
from hub.testing.store.profiles import Page, Profile, Query, order_parts
from hub.testing.store.resources import Row, moment_of
from hub.testing.store.settings import StoreSettings
from hub.testing.store.state import State

TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[(),])")
PERSON = ("first_name", "last_name", "email", "phone")
MOMENTS = {"created_after": "created_at", "updated_after": "updated_at"}
Fields = dict[str, "Fields"]


class Seed(Profile):
    name = "seed"
    created = 201
    size_names = ("limit",)
    rate_headers = True
    retry_after = "none"

    def view(self, state: State, resource: str, row: Row, *, whole: bool) -> Row:
        shown = dict(row)
        if resource == "orders":
            shown["customer"] = {"id": row["customer_id"]} | {name: shown.pop(name) for name in PERSON}
            shown["tags"], shown["tracking"] = order_parts(state, row)
        if resource == "products":
            for field, table in (("category", "categories"), ("brand", "brands")):
                other = state.tables[table].get(row[f"{field}_id"])
                shown[field] = other["name"] if other else None
        return shown

    def single(self, shown: Any, message: str) -> Any:
        return {"success": True, "data": shown, "message": message}

    def listing(self, page: Page, style: str = "") -> Any:
        pagination = {
            "page": page.number, "limit": page.size, "total": page.total, "totalPages": page.pages,
            "hasNext": page.number < page.pages, "hasPrev": 1 < page.number <= page.pages + 1,
        }  # fmt: skip
        return {"success": True, "data": page.rows, "pagination": pagination}

    def error(self, error: ApiError, settings: StoreSettings) -> Any:
        found: Row = {"code": error.code, "message": error.message}
        if error.problems:
            as_list = settings.details == "list" or (settings.details == "auto" and len(error.problems) > 1)
            first = error.problems[0]
            found["details"] = (
                [{"field": one.field, "message": one.message} for one in error.problems]
                if as_list
                else {"field": first.field, "issue": first.message}
            )
        return {"success": False, "error": found}

    def limited(self, seconds: int, in_body: bool) -> Any:
        error = {"code": "RATE_LIMITED", "message": "Too many requests"}
        return {"success": False, "error": error} | ({"retryAfter": seconds} if in_body else {})

    def order_of(self, query: Query) -> list[tuple[str, bool]]:
        order = []
        for part in filter(None, query.get("sort", "").split(",")):
            name, _, direction = part.strip().partition(":")
            if direction not in {"", "asc", "desc"} or not re.fullmatch(r"\w+", name):
                raise ApiError(422, problems=[Problem("sort", "sort must be field:asc or field:desc, with commas")])
            order.append((name, direction == "desc"))
        return order

    def filters(self, state: State, resource: str, query: Query) -> Iterable[Callable[[Row], bool]]:
        if status := query.get("status"):
            yield lambda row: bool(row.get("status") == status)
        if (category := query.get("category")) and resource == "products":
            yield _in_category(state, category)
        if resource == "products":
            yield from _prices(query)
        for parameter, name in MOMENTS.items():
            if parameter in query:
                yield _after(parameter, name, query[parameter])

    def own_names(self, resource: str, body: Row) -> Row:
        return dict(body)

    def own_field(self, resource: str, name: str) -> str:
        return name

    def shown_field(self, resource: str, name: str) -> str:
        return name

    def selected(self, shown: Row, query: Query) -> Row:
        wanted = query.get("fields")
        return _of(shown, read_fields(wanted)) if wanted else shown


def _in_category(state: State, wanted: str) -> Callable[[Row], bool]:
    """By its id, slug or name, in any case."""
    ids = {
        row["id"]
        for row in state.rows("categories")
        if wanted.casefold() in (row["id"].casefold(), row["slug"].casefold(), row["name"].casefold())
    }
    return lambda row: row["category_id"] in ids


def _prices(query: Query) -> Iterator[Callable[[Row], bool]]:
    """Both bounds belong to the range."""
    if "price_min" in query:
        least = _number("price_min", query["price_min"])
        yield lambda row: bool(row["price"] >= least)
    if "price_max" in query:
        most = _number("price_max", query["price_max"])
        yield lambda row: bool(row["price"] <= most)


def _number(name: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ApiError(422, problems=[Problem(name, f"{name} must be a number")])
    return number


def _after(parameter: str, name: str, text: str) -> Callable[[Row], bool]:
    """Rows from that moment on; a day begins at midnight, UTC.

    What is shown has whole seconds, so a row of the named second counts too: nothing hides behind what is not shown.
    """
    moment = moment_of(text.replace(" ", "+"))
    if moment is None:
        raise ApiError(422, problems=[Problem(parameter, f"{parameter} must be a date such as 2024-01-01")])
    second: datetime = moment.replace(microsecond=0)
    return lambda row: bool(row[name] >= second)


def read_fields(text: str) -> Fields:
    """`id,variants(id,price)` as `{id: {}, variants: {id: {}, price: {}}}`. ApiError 422."""
    tokens = [match[1] for match in TOKEN.finditer(text)]
    if "".join(tokens) != "".join(text.split()):
        raise _unreadable()
    fields = _fields(tokens)
    if tokens:
        raise _unreadable()
    return fields


def _fields(tokens: list[str]) -> Fields:
    found: Fields = {}
    while tokens and tokens[0] not in {",", "(", ")"}:
        name = tokens.pop(0)
        found[name] = {}
        if tokens and tokens[0] == "(":
            tokens.pop(0)
            found[name] = _fields(tokens)
            if not tokens or tokens.pop(0) != ")":
                raise _unreadable()
        if not tokens or tokens[0] == ")":
            return found
        if tokens.pop(0) != ",":
            raise _unreadable()
    raise _unreadable()


def _unreadable() -> ApiError:
    return ApiError(
        422, problems=[Problem("fields", "fields must be names with commas, such as id,variants(id,price)")]
    )


def _of(shown: Any, fields: Fields) -> Any:
    if isinstance(shown, list):
        return [_of(one, fields) for one in shown]
    if not isinstance(shown, dict):
        return shown
    return {name: _of(shown[name], below) if below else shown[name] for name, below in fields.items() if name in shown}
