"""What an answer of the store means: its document, its list, or which error. Pure.

Both styles of the API are read by their shape and not by the profile, so that a store that mixes them is understood:
`{success, data, message}` and bare bodies, `pagination` and `count`, and every shape of error that litekart stores
are known to send.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

import httpx

from hub.clock import EPOCH
from hub.errors import (
    AuthenticationFailed,
    BadAnswer,
    Conflict,
    FieldProblem,
    LitekartError,
    NotAllowed,
    NotFound,
    RateLimited,
    ServerError,
    ValidationFailed,
)
from hub.event import DEEPEST, HALF_CHARACTER, depth_of
from hub.litekart.budget import RateLimit
from hub.models import harmless
from hub.outcome import retry_after

LONGEST_TEXT = 500
MOST_DETAILS = 50
MOST_STEPS = 10
LONGEST_WAIT = 86_400.0
# As for webhooks, in proportion: an answer of the smallest arrays would be half a gigabyte of objects.
MOST_CONTAINERS = 200_000
MOST_VALUES = 1_000_000
# Each item of a page is read before anything else has its turn.
MOST_ITEMS = 10_000
# What no other reader of JSON takes either. Written out, 1e999999999 is a gigabyte of zeros.
LARGEST_EXPONENT = 308
LISTS = ("data", "results", "items", "products")
BY_CODE: dict[str, type[LitekartError]] = {
    "VALIDATION_ERROR": ValidationFailed,
    "INVALID_REQUEST": ValidationFailed,
    "AUTHENTICATION_ERROR": AuthenticationFailed,
    "AUTHORIZATION_ERROR": NotAllowed,
    "NOT_FOUND": NotFound,
    "CONFLICT": Conflict,
    "RATE_LIMITED": RateLimited,
}
BY_STATUS: dict[int, type[LitekartError]] = {
    401: AuthenticationFailed,
    403: NotAllowed,
    404: NotFound,
    407: AuthenticationFailed,
    408: ServerError,
    409: Conflict,
    410: NotFound,
    421: ServerError,
    423: Conflict,
    425: ServerError,
    429: RateLimited,
}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; `cut`: it was longer than the hub reads."""

    status: int
    headers: httpx.Headers
    body: bytes
    cut: bool = False

    @classmethod
    def of(cls, response: httpx.Response) -> "Answer":
        return cls(response.status_code, response.headers, response.content, bool(response.extensions.get("cut")))


class Unfit(ValueError):
    """JSON that the hub does not read to objects; its text says why."""


@dataclass(frozen=True)
class Listing:
    """One page of a list: its documents, and what it says of the whole (None: it does not say)."""

    items: list[dict[str, Any]]
    page: int | None = None
    size: int | None = None
    total: int | None = None
    has_next: bool | None = None


# ---- documents


def document_of(answer: Answer, call: str, now: datetime, redact: Callable[[str], str]) -> Any:
    """The answer's JSON, decimals as Decimal; None for an empty one. Raises the LitekartError that it stands for.

    `call` is named in errors; `now` (aware) turns dates into seconds; `redact` takes secrets out of the store's texts.
    """
    if not 200 <= answer.status < 300:
        raise _failure(answer, call, now, redact)
    if answer.cut:
        raise BadAnswer(f"an answer longer than {len(answer.body)} bytes", status=answer.status, call=call)
    if not answer.body.strip():
        return None
    try:
        document = parsed(answer.body)
    except ValueError as error:
        raise BadAnswer(_no_json(answer, error), status=answer.status, call=call) from None
    if _holds_error(document):
        problem = _Problem.of(document, redact)
        text = f"an error inside a {answer.status}: {problem.message or 'it says no more'}"
        raise BadAnswer(text, *problem.details, status=answer.status, code=problem.code, call=call)
    return document


def parsed(body: bytes) -> Any:
    """JSON with its decimals as written; a number that no float holds is None, half of a character is U+FFFD.

    Raises ValueError for what is none, and Unfit for what is nested too deep or has too much in it.
    """
    containers = body.count(b"[") + body.count(b"{")
    if containers > MOST_CONTAINERS or body.count(b",") > MOST_VALUES:
        raise Unfit(f"JSON with more than {MOST_CONTAINERS:,} arrays and objects or {MOST_VALUES:,} values")
    too_deep = Unfit(f"JSON nested more than {DEEPEST} deep")
    try:
        document = json.loads(
            body.decode("utf-8-sig"), parse_float=_decimal, parse_int=_whole_number, parse_constant=lambda _: None
        )
    except RecursionError:
        raise too_deep from None
    if containers > DEEPEST and depth_of([document]) > DEEPEST:
        raise too_deep
    return _whole_characters(document) if rb"\ud" in body.lower() else document


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if abs(number.adjusted()) < LARGEST_EXPONENT else None


def _whole_number(text: str) -> int | None:
    number = int(text)
    return number if len(text) <= LARGEST_EXPONENT else None


def _whole_characters(value: Any) -> Any:
    """The same without halves of characters, which no database and no other side takes."""
    if isinstance(value, str):
        return HALF_CHARACTER.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_whole_characters(name): _whole_characters(item) for name, item in value.items()}
    return [_whole_characters(item) for item in value] if isinstance(value, list) else value


def _holds_error(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    if document.get("success") is False:
        return True
    return bool(document.get("error")) and not {"id", "_id", "data"} & document.keys()


def _no_json(answer: Answer, error: ValueError) -> str:
    if isinstance(error, Unfit):
        return str(error)
    if answer.body.lstrip()[:1] == b"<":
        return "HTML or XML in place of JSON"
    return "an answer that is no JSON, or half of one"


def single_of(document: Any, call: str) -> dict[str, Any]:
    """The object of an answer, out of its envelope. Raises BadAnswer if there is none."""
    found = unwrapped(document)
    if not isinstance(found, dict):
        raise BadAnswer("an answer without the object asked for", status=200, call=call)
    return found


def unwrapped(document: Any) -> Any:
    """What is inside `{success, data, message}`; bare documents are themselves."""
    if not isinstance(document, dict):
        return document
    if isinstance(document.get("success"), bool) and not {"id", "_id"} & document.keys():
        return document.get("data")
    if isinstance(document.get("data"), dict) and not {"id", "_id"} & document.keys():
        return document["data"]
    return document


def listing_of(document: Any, call: str) -> Listing:
    """The page that an answer holds. Raises BadAnswer if it holds no list, or one of anything but objects."""
    described: dict[str, Any] = document if isinstance(document, dict) else {}
    items: Any = document
    if described:
        items = next((described[name] for name in LISTS if isinstance(described.get(name), list)), None)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadAnswer("an answer without the list asked for", status=200, call=call)
    if len(items) > MOST_ITEMS:
        raise BadAnswer(f"a page of more than {MOST_ITEMS:,} items", status=200, call=call)
    pagination = described.get("pagination")
    about = pagination if isinstance(pagination, dict) else described
    page, total = whole(about.get("page")), whole(about.get("total", about.get("count")))
    size = whole(about.get("limit", about.get("pageSize")))
    return Listing(items, page, size, total, _has_next(about, page, size, total, len(items)))


def _has_next(about: dict[str, Any], page: int | None, size: int | None, total: int | None, here: int) -> bool | None:
    """Whether more follows: as it says, else by the number of pages, else by the count."""
    if isinstance(about.get("hasNext"), bool):
        return bool(about["hasNext"])
    pages = whole(about.get("totalPages", about.get("noOfPage")))
    if page is None:
        return None
    if pages is not None:
        return page < pages
    if total is not None and (size or here):
        return page * (size or here) < total
    return None


def whole(value: Any) -> int | None:
    """A whole number from zero on, as number or text; None for anything else."""
    if isinstance(value, bool):
        return None
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


# ---- errors


@dataclass(frozen=True)
class _Problem:
    """What an error's body says, whatever its shape."""

    code: str | None = None
    message: str = ""
    details: tuple[FieldProblem, ...] = ()
    retry_after: Any = None

    @classmethod
    def of(cls, document: Any, redact: Callable[[str], str]) -> "_Problem":
        def text(value: Any) -> str:
            if not isinstance(value, str | int | Decimal):
                return ""
            return harmless(redact(" ".join(str(value).split())), LONGEST_TEXT)

        if not isinstance(document, dict):
            return cls()
        error = document.get("error")
        inner = error if isinstance(error, dict) else {}
        rest = {key: value for key, value in document.items() if key not in {"success", "error", "message", "data"}}
        told = inner.get(
            "details", inner.get("issues", document.get("details", rest if isinstance(error, str) else None))
        )
        code = text(inner.get("code") or inner.get("name") or document.get("code"))
        return cls(
            code=code or None,
            message=text(inner.get("message")) or text(error) or text(document.get("message")),
            details=tuple(islice(_details(told, text), MOST_DETAILS)),
            retry_after=document.get("retryAfter", inner.get("retryAfter")),
        )


def _details(told: Any, text: Callable[[Any], str]) -> Iterator[FieldProblem]:
    """`{field, issue}`, `[{field, message}]`, `[{path, message}]` or anything else, as one list."""
    for entry in (told if isinstance(told, list) else [told])[:MOST_DETAILS]:
        if not isinstance(entry, dict):
            if text(entry):
                yield FieldProblem("", text(entry))
            continue
        path = entry.get("path")
        place = ".".join(map(text, path[:MOST_STEPS])) if isinstance(path, list) else text(entry.get("field"))
        said = text(entry.get("message")) or text(entry.get("issue"))
        if place or said:
            yield FieldProblem(place, said)
        else:
            yield from (FieldProblem(text(key), text(value)) for key, value in [*entry.items()][:MOST_DETAILS])


def _failure(answer: Answer, call: str, now: datetime, redact: Callable[[str], str]) -> LitekartError:
    problem = _problem(answer, redact)
    return _kind(answer.status, problem.code)(
        problem.message or ("" if problem.details else "no reason given"),
        *problem.details,
        status=answer.status,
        code=problem.code,
        after=_after(answer, problem.retry_after, now),
        call=call,
    )


def _problem(answer: Answer, redact: Callable[[str], str]) -> _Problem:
    if not answer.body.strip():
        return _Problem()
    try:
        return _Problem.of(None if answer.cut else parsed(answer.body), redact)
    except ValueError as error:
        return _Problem(message=_no_json(answer, error))


def _kind(status: int, code: str | None) -> type[LitekartError]:
    if not 400 <= status < 600:
        return BadAnswer
    if status >= 500:
        return ServerError
    return BY_CODE.get(code or "") or BY_STATUS.get(status) or ValidationFailed


def _after(answer: Answer, told: Any, now: datetime) -> float | None:
    """Seconds to wait: `Retry-After`, else the body's `retryAfter`, else, for a 429, until `X-RateLimit-Reset`."""
    header = retry_after(answer.headers, now)
    if header is not None:
        return header
    if isinstance(told, int | Decimal | str) and not isinstance(told, bool):
        try:
            seconds = float(told)
        except (ValueError, OverflowError):
            seconds = math.nan
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    reset = _moment(answer.headers.get("x-ratelimit-reset")) if answer.status == 429 else None
    return max((reset - now).total_seconds(), 0.0) if reset else None


def rate_limit_of(answer: Answer, now: datetime) -> RateLimit:
    """What the answer says of the hour, which may be nothing.

    A key that the store does not know is counted as a stranger's, so that such an answer tells of another hour.
    """
    if answer.status == 401:
        return RateLimit(None, None, None)
    refused = answer.status == 429
    reset_at = _moment(answer.headers.get("x-ratelimit-reset"))
    if refused and reset_at is None:
        after = _after(answer, _problem(answer, str).retry_after, now)
        reset_at = None if after is None else now + timedelta(seconds=min(after, LONGEST_WAIT))
    return RateLimit(
        limit=whole(answer.headers.get("x-ratelimit-limit", "").strip()),
        remaining=whole(answer.headers.get("x-ratelimit-remaining", "").strip()),
        reset_at=reset_at,
        refused=refused,
    )


def _moment(text: str | None) -> datetime | None:
    seconds = whole((text or "").strip())
    try:
        return None if seconds is None else EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
