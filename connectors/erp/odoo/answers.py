"""What an answer of Odoo means: its statuses mislead, and over JSON-RPC there is but one.

The rule, seen on real servers: go by the name of the exception, by the status only where there is none. A `debug`
member holds a traceback of the server and is never read.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx

from connectors.messages import clean
from hub.connector import HoldRoute, Rejected, TryAgain

LONGEST = 900
"""Characters of Odoo's own words in a reason: they name fields, groups and records."""

WRONG_KEY = (
    "the API key is wrong, has expired or was revoked: make a new one in Odoo (Preferences, Account Security) and put "
    "it into `api_key`"
)
NOT_THERE = (
    "no Odoo database answers at this address: look at `url`, and at `database` where the server has several; the "
    "same is said while Odoo's PostgreSQL is away"
)
KEY_ERRORS = {"Unauthorized", "AccessDenied", "SessionExpiredException"}
DENIED = {"AccessError", "Forbidden"}
# Another transaction was faster; Odoo has itself tried five times.
COLLISIONS = {
    "SerializationFailure", "LockNotAvailable", "DeadlockDetected", "ConcurrencyError", "LockError",
    "TransactionRollbackError",
}  # fmt: skip
DATABASE_AWAY = {
    "OperationalError", "InterfaceError", "AdminShutdown", "CrashShutdown", "CannotConnectNow", "TooManyConnections",
    "QueryCanceled", "ReadOnlySqlTransaction", "DiskFull", "OutOfMemory", "PoolError", "MemoryError", "TimeoutError",
    "ConnectionError", "ConnectionResetError", "BrokenPipeError", "OSError",
}  # fmt: skip
COLLISION_WORDS = ("could not serialize access", "deadlock")
REFUSALS = {"UserError", "ValidationError", "RedirectWarning", "UnprocessableEntity", "BadRequest", "NotFound"}
CLIENT_MISTAKES = ("builtins.", "psycopg2.", "werkzeug.exceptions.")
GONE = {"MissingError"}
NOTHING = object()
TOLD = re.compile(r'"(?P<key>name|message)":\s*(?P<value>"(?:[^"\\]|\\.)*")')


class Refused(Rejected):
    """Odoo said no. `name` is that of its exception, `odoo.exceptions.UserError` say."""

    def __init__(self, reason: str, *, name: str = "", status: int | None = None) -> None:
        super().__init__(reason, status=status)
        self.name = name


class Denied(Refused):
    """The user lacks a right, or a rule keeps a record from it: which of the two, only another question tells."""


class TooLong(TryAgain):
    """The answer went beyond what this client takes. Of a read, less can be asked for."""


class Missing(TryAgain):
    """A record was deleted meanwhile: what is known of it is no longer true."""


def of_json2(response: httpx.Response, worked: bool) -> Any:
    """The value that a method gave back. `worked`: this server has answered rightly before."""
    document = _document(response)
    if response.status_code == 401:
        raise HoldRoute(WRONG_KEY, status=401)
    if response.is_success and document is not NOTHING:
        return document
    if isinstance(document, dict) and "name" in document:
        raise outcome_of(str(document["name"]), document.get("message"), response.status_code)
    raise _cut_open(response, response.status_code) or not_odoo(response, worked)


def of_rpc(response: httpx.Response, worked: bool) -> Any:
    """The `result` of a JSON-RPC answer, None where it has none; `error.code` says nothing and is not read."""
    document = _document(response)
    if not response.is_success or not isinstance(document, dict):
        raise _cut_open(response, None) or not_odoo(response, worked)
    if (error := document.get("error")) is None:
        return document.get("result")
    data = error.get("data") if isinstance(error, dict) else None
    data = data if isinstance(data, Mapping) else {}
    raise outcome_of(str(data.get("name", "")), data.get("message") or "an error without a word")


def outcome_of(name: str, message: object, status: int | None = None) -> HoldRoute | Rejected | TryAgain:
    """What one of Odoo's exceptions means; `status` is that of the answer where it tells something."""
    short, said = name.rpartition(".")[2], f"Odoo: {clean(message or name, LONGEST)}"
    if short in KEY_ERRORS:
        return HoldRoute(WRONG_KEY, status=status)
    if short in DENIED:
        return Denied(said, name=name, status=status)
    if short in GONE:
        return Missing(said, status=status)
    if short in COLLISIONS or status == 409:
        return TryAgain(said, status=status)
    if short in DATABASE_AWAY:
        return TryAgain(said, status=status, destination=True)
    if short in REFUSALS or name.startswith(CLIENT_MISTAKES) or (status is not None and 400 <= status < 500):
        return Refused(said, name=name, status=status)
    return TryAgain(said, status=status, destination=True)


def _cut_open(response: httpx.Response, status: int | None) -> HoldRoute | Rejected | TryAgain | None:
    """What an answer means of which only the beginning was taken: an exception's name and words stand there."""
    if not response.extensions.get("cut"):
        return None
    text = response.content.decode("utf-8", "replace")
    begun = text.partition('"data":')[2] if status is None and '"error":' in text[:100] else text
    told = {one["key"]: json.loads(one["value"], strict=False) for one in reversed([*TOLD.finditer(begun)])}
    if status == 200 or "name" not in told or "message" not in told:
        return TooLong("Odoo's answer is longer than what is taken of one", status=status)
    return outcome_of(told["name"], told["message"], status)


def not_odoo(response: httpx.Response, worked: bool) -> HoldRoute | TryAgain:
    """For an answer that is none of Odoo's methods. Lets the HTTP error fly where its status is enough."""
    status = response.status_code
    if status == 404:
        return _unless(worked, NOT_THERE, status)
    if response.is_redirect:
        return _unless(worked, "the address leads elsewhere: put the one that it leads to into `url`", status)
    if response.is_success:
        return TryAgain("a web page came instead of Odoo's answer", status=status, destination=True)
    response.raise_for_status()
    return TryAgain(f"HTTP {status}", status=status, destination=True)


def loaded(answer: Any) -> list[int]:
    """The ids that `load` made or found. Raises Refused with the rows' errors, TryAgain for a collision."""
    if isinstance(answer, dict) and isinstance(ids := answer.get("ids"), list):
        return ids
    messages = answer.get("messages") if isinstance(answer, dict) else None
    errors = [one for one in messages or [] if isinstance(one, dict) and one.get("type") == "error"]
    said = clean("; ".join(dict.fromkeys(str(one.get("message")) for one in errors)) or "no word why", LONGEST)
    if any(words in said for words in COLLISION_WORDS):
        raise TryAgain(f"Odoo: {said}")
    raise Refused(f"Odoo: {said}", name="load")


def _unless(worked: bool, reason: str, status: int) -> HoldRoute | TryAgain:
    return TryAgain(reason, status=status, destination=True) if worked else HoldRoute(reason, status=status)


def _document(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return NOTHING
