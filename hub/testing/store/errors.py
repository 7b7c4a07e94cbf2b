"""What the double's API refuses. The profiles put it into their shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The vendor's page has no code for a 500, and for a 400 only that of invalid input.
CODES = {
    400: "VALIDATION_ERROR", 401: "AUTHENTICATION_ERROR", 403: "AUTHORIZATION_ERROR", 404: "NOT_FOUND",
    405: "NOT_FOUND", 409: "CONFLICT", 422: "VALIDATION_ERROR", 429: "RATE_LIMITED",
}  # fmt: skip
MESSAGES = {
    400: "Bad Request", 401: "Invalid credentials", 403: "Insufficient permissions", 404: "Not Found",
    409: "Resource conflict", 422: "Validation failed", 429: "Too many requests", 500: "Internal Server Error",
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field."""

    field: str
    message: str


class ApiError(Exception):
    """An answer that is no success. `extra` stands in v2's body beside the message: `{error, field}`."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        problems: Sequence[Problem] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.message = message or MESSAGES.get(status, "Error")
        self.problems = tuple(problems)
        self.extra = dict(extra or {})
        super().__init__(f"{status} {self.message}")

    @property
    def code(self) -> str:
        return CODES.get(self.status, "INTERNAL_ERROR")
