"""Every error of the hub, named by what happens next.

HubError
├── ConfigError           the hub does not start; names the line and the remedy
├── CommandError          a command could not do what was asked; exit 1
├── Unavailable           storage is in trouble: 503 now, tried again by whoever can
│   └── Stopping              this process is ending: another one goes on
├── TemplateError         a condition or template failed; names the field
├── Refusal               a request that does not become an event
│   ├── NotAuthenticated      401
│   ├── UnknownStore          404
│   └── NotAnEvent            400, 405, 408, 413, 415, 422
├── LitekartError         what the store's REST API answered, or that it did not; read by hub.outcome
│   ├── ValidationFailed      400, 422, or refused here before any request
│   ├── AuthenticationFailed  401: the API key
│   ├── NotAllowed            403
│   ├── NotFound              404
│   ├── Conflict              409
│   ├── RateLimited           429
│   ├── ServerError           5xx
│   ├── Unreachable           no answer: nothing was sent, or it may have arrived
│   ├── BadAnswer             an answer that cannot be read: HTML, half a JSON, too long, an error inside a 200
│   └── NotOffered            this profile of the API has no such call
└── Outcome               what a connector may raise; each takes a reason for a person
    ├── TryAgain              next by the schedule
    ├── NotNow                later, no attempt used up
    ├── Hold                  waits until a person releases it
    ├── HoldRoute             the route's breaker opens now
    │   └── AddressRefused        a private address that the config does not allow
    ├── Skip                  nothing to do
    └── Rejected              dead at once
"""

from dataclasses import dataclass


class HubError(Exception):
    """The root of everything the hub raises on purpose."""


class ConfigError(HubError):
    """The config cannot be used. `problems` has one line for each mistake, with its place and remedy."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class CommandError(HubError):
    """What a command could not do, as a sentence that says what to do instead."""


class Unavailable(HubError):
    """The database cannot be written or read just now (gone, full, locked). Nothing was kept."""


class Stopping(Unavailable):
    """This process is ending and writes nothing more; another one will."""


class TemplateError(HubError):
    """A condition or a template failed; the text says on which field."""


@dataclass(frozen=True)
class FieldProblem:
    """One entry of a refusal's `details`: the field's path (`data.orderId`) and what is wrong with it."""

    field: str
    message: str


class Refusal(HubError):
    """A request that does not become an event: HTTP status, the vendor's error code, text, details."""

    status = 400
    code = "VALIDATION_ERROR"

    def __init__(self, message: str, *details: FieldProblem, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)
        if status is not None:
            self.status = status


class NotAuthenticated(Refusal):
    """The signature is missing or wrong. One answer for all cases, so that it tells nothing."""

    status = 401
    code = "AUTHENTICATION_ERROR"


class UnknownStore(Refusal):
    """No store of that name is configured."""

    status = 404
    code = "NOT_FOUND"


class NotAnEvent(Refusal):
    """The request is malformed, too large, too slow, or its JSON is no event."""


class LitekartError(HubError):
    """What came of a call to the store's API, by its meaning.

    `status` is that of HTTP (None: no answer, or nothing was asked), `code` the store's own word for it, `message`
    its sentence, `details` the fields it names, `after` the seconds that it asked to wait, `call` the call as
    `GET /api/orders/{id}`. No text holds the API key, and none but the store's own an id or a query; that of an answer
    about another object has both ids.
    """

    def __init__(
        self,
        message: str,
        *details: FieldProblem,
        status: int | None = None,
        code: str | None = None,
        after: float | None = None,
        call: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)
        self.status = status
        self.code = code
        self.after = after
        self.call = call

    def said(self) -> str:
        """What there is to tell besides the status: the call, the store's code, its sentence and the fields."""
        fields = "; ".join(": ".join(filter(None, (one.field, one.message))) for one in self.details)
        return ": ".join(part for part in (self.call, self.code, self.message, fields) if part)

    def __str__(self) -> str:
        return self.said() if self.status is None else f"HTTP {self.status}: {self.said()}"


class ValidationFailed(LitekartError):
    """The store does not take this data; or it was refused here (an id that is none), with no status."""


class AuthenticationFailed(LitekartError):
    """The store does not know the API key."""


class NotAllowed(LitekartError):
    """The API key may not do this."""


class NotFound(LitekartError):
    """There is no such thing in the store."""


class Conflict(LitekartError):
    """It contradicts what is in the store."""


class RateLimited(LitekartError):
    """More requests than the store allows; `after` says when it takes the next."""


class ServerError(LitekartError):
    """The store failed."""


class Unreachable(LitekartError):
    """No answer. Its cause says why; `sent` is False where surely nothing was sent."""

    def __init__(self, message: str, *, sent: bool = True, call: str = "") -> None:
        super().__init__(message, call=call)
        self.sent = sent


class BadAnswer(LitekartError):
    """The store answered with something that cannot be read. After a write, it may have been done."""


class NotOffered(LitekartError):
    """This profile of the store's API has no such call or filter. Nothing was asked."""


class Outcome(HubError):
    """How an attempt ended, when it did not end with a Receipt. `reason` is a sentence for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def with_reason(self, reason: str) -> "Outcome":
        """The same outcome with another text."""
        other = type(self).__new__(type(self), reason)
        other.__dict__ |= self.__dict__ | {"reason": reason}
        return other


class TryAgain(Outcome):
    """Try by the schedule. `after`: seconds it asked for; `destination`: its fault, for the breaker.

    `status` is its HTTP or SMTP code. 429 and 503 with `after` stop the whole route for that time.
    """

    def __init__(
        self, reason: str, after: float | None = None, *, status: int | None = None, destination: bool = False
    ) -> None:
        super().__init__(reason)
        self.after = after
        self.status = status
        self.destination = destination


class NotNow(Outcome):
    """Try again `after` seconds; uses up no attempt."""

    def __init__(self, reason: str, after: float) -> None:
        super().__init__(reason)
        self.after = after


class Hold(Outcome):
    """Held until a person releases it."""


class HoldRoute(Outcome):
    """The whole route cannot work (a wrong key, say): its breaker opens now."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class AddressRefused(HoldRoute):
    """The destination resolves to a private address that `network.allow` does not name."""


class Skip(Outcome):
    """There is nothing to do for this event."""


class Rejected(Outcome):
    """The destination will never take it: dead at once."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
