"""The hour's budget of requests, as the client spends it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class RateLimit:
    """What an answer's `X-RateLimit-*` said; `refused`: the answer was a 429."""

    limit: int | None
    remaining: int | None
    reset_at: datetime | None
    refused: bool = False


class Budget(Protocol):
    """The requests that a store allows in an hour."""

    async def spend(self, who: str, *, background: bool) -> float:
        """Takes one request of the hour: 0.0 when it may go now, else the seconds until it may; nothing is taken."""

    async def correct(self, answer: RateLimit) -> None:
        """What an answer said of the hour."""
