"""The one place that decides what an exception out of a connector means.

Connectors raise outcomes where they know better; everything else that flies through is read here.
"""

import email.utils
import ssl
from datetime import UTC, datetime

import aiosmtplib
import httpx

from hub.connector import answer_text
from hub.errors import (
    BadAnswer,
    HoldRoute,
    HubError,
    LitekartError,
    NotNow,
    Outcome,
    Rejected,
    TemplateError,
    TryAgain,
    Unavailable,
    Unreachable,
    ValidationFailed,
)

WRONG_KEY = {401, 407}
WORTH_ANOTHER_TRY = {403, 404, 408, 409, 421, 423, 425, 429}
SMTP_WRONG_KEY = {530, 534, 535}
# More than a reason keeps: secrets are replaced before the rest is cut off, so none is cut in two.
EXCERPT = 4_000
STORAGE_BACK_AFTER = 1.0
FAULT = "a fault in the connector"
KNOWN = (
    HubError,
    httpx.HTTPError,
    httpx.InvalidURL,
    TimeoutError,
    ConnectionError,
    aiosmtplib.SMTPException,
    ssl.SSLCertVerificationError,
)


def outcome_of(error: BaseException, now: datetime) -> Outcome:
    """The outcome that `error` stands for. `now` (aware) turns a Retry-After date into seconds."""
    match error:
        case Outcome():
            return error
        case httpx.HTTPStatusError():
            return _of_answer(error.response, now)
        case httpx.ConnectTimeout():
            return TryAgain("no connection within the time allowed", destination=True)
        case httpx.TimeoutException() | TimeoutError() | aiosmtplib.SMTPTimeoutError():
            return TryAgain("no answer in time; it may have arrived", destination=True)
        case httpx.ConnectError():
            return _of_connect_error(error)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return Rejected(f"not a usable address: {error}")
        case httpx.TransportError():
            return TryAgain("the connection broke before the answer; it may have arrived", destination=True)
        case aiosmtplib.SMTPResponseException():
            return of_smtp_code(error.code, error.message)
        case ssl.SSLCertVerificationError():
            return HoldRoute(f"the server's certificate is not trusted: {error.verify_message}")
        case aiosmtplib.SMTPException() | ConnectionError():
            return TryAgain("the connection broke before the answer; it may have arrived", destination=True)
        case HubError():
            return _of_hub_error(error, now)
    return TryAgain(f"{FAULT}: {type(error).__name__}")


def _of_hub_error(error: HubError, now: datetime) -> Outcome:
    if isinstance(error, LitekartError):
        return _of_litekart_error(error, now)
    if isinstance(error, Unavailable):
        return NotNow("the hub's own storage could not be used during this attempt", STORAGE_BACK_AFTER)
    if isinstance(error, TemplateError):
        return Rejected(str(error))
    return TryAgain(f"{FAULT}: {type(error).__name__}")


def _of_litekart_error(error: LitekartError, now: datetime) -> Outcome:
    """As the bare answer would be read, for the store's API is a destination like others; but see is_about_store_id."""
    if isinstance(error, Unreachable):
        known = outcome_of(error.__cause__, now) if isinstance(error.__cause__, KNOWN) else None
        return known or TryAgain(str(error), destination=True)
    if error.status is None:
        return Rejected(str(error))
    if isinstance(error, BadAnswer) and error.status < 300:
        return TryAgain(str(error), status=error.status, destination=True)
    if is_about_store_id(error):
        return HoldRoute(str(error)[:EXCERPT], status=error.status)
    return of_status(error.status, error.said()[:EXCERPT], error.after)


def is_about_store_id(error: LitekartError) -> bool:
    """Whether a host of several stores asks for another store id: it answers so to every call, whatever it is about.

    A complaint about fields (`details`) is about what was sent.
    """
    said = error.message.casefold()
    return isinstance(error, ValidationFailed) and error.status == 400 and not error.details and "store id" in said


def is_fault(error: BaseException) -> bool:
    """Whether `error` is the connector's own mistake, worth a traceback."""
    return not isinstance(error, KNOWN)


def _of_connect_error(error: httpx.ConnectError) -> Outcome:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return HoldRoute(f"the server's certificate is not trusted: {cause.verify_message}")
        cause = cause.__cause__ or getattr(cause, "certificate_error", None)
    return TryAgain(f"no connection: {error}", destination=True)


def _of_answer(response: httpx.Response, now: datetime) -> Outcome:
    return of_status(response.status_code, excerpt(response), retry_after(response.headers, now))


def of_status(status: int, text: str = "", after: float | None = None) -> Outcome:
    """The outcome of an HTTP status: `text` is what the other side said, `after` its Retry-After in seconds."""
    reason = f"HTTP {status}: {text}" if text else f"HTTP {status}"
    if status in WRONG_KEY:
        return HoldRoute(reason, status=status)
    if status in WORTH_ANOTHER_TRY or not 400 <= status < 500:
        ours = status in {403, 404, 409} or 300 <= status < 400
        return TryAgain(reason, after, status=status, destination=not ours)
    return Rejected(reason, status=status)


def of_smtp_code(code: int, text: str) -> Outcome:
    """The outcome of an SMTP reply (RFC 5321 4.2.1): 4yz is worth another try, 5yz is not."""
    reason = f"SMTP {code}: {' '.join(text.split())[:EXCERPT]}"
    if code in SMTP_WRONG_KEY:
        return HoldRoute(reason, status=code)
    if code < 500:
        return TryAgain(reason, status=code, destination=True)
    return Rejected(reason, status=code)


def excerpt(response: httpx.Response) -> str:
    """The beginning of an answer's text, on one line."""
    return " ".join(answer_text(response).split())[:EXCERPT]


def retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Seconds that `Retry-After` asks for, as seconds or as a date; None if absent, past or unreadable."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return None
    return seconds.total_seconds() if seconds.total_seconds() > 0 else None
