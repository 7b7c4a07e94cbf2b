"""What the double remembers: every call of its API, every webhook it sent or lost."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

KEPT = 100_000


@dataclass
class Call:
    """One request to the store's API. `path` without its query; `body` as JSON, or text where it is none.

    `status` is None where no answer was given, `fault` the kind of fault that it met. `headers` hold no secrets.
    """

    number: int
    method: str
    path: str
    query: dict[str, str]
    body: Any
    who: str
    headers: dict[str, str]
    at: datetime
    status: int | None = None
    fault: str | None = None


@dataclass
class Sent:
    """One webhook on its way: `kind` is first, repeat, reserialised, restamped or forged.

    `entity` is an id, for `inventory.low` a SKU; `webhook` the registration, if it went to one. `status` is the
    answer's, `error` the reason where there was none. `lost`: nobody has taken it, or it was never sent (then
    `attempts` is 0).
    """

    number: int
    event: str
    entity: str
    kind: str
    url: str
    body: str
    signature: str
    webhook: str | None
    at: datetime
    attempts: int = 0
    status: int | None = None
    error: str | None = None
    lost: bool = False


class Records:
    """The two lists, oldest first. Of each the last 100,000 are kept."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=KEPT)
        self.sent: deque[Sent] = deque(maxlen=KEPT)
        self.counted = 0

    def next_number(self) -> int:
        self.counted += 1
        return self.counted

    def calls_to(self, method: str = "*", path: str = "*") -> list[Call]:
        """The calls with that method to that path; both may hold `*`, and `*` matches `/` too."""
        return [call for call in self.calls if matches(call.method, call.path, method, path)]


def matches(method: str, path: str, wanted_method: str, wanted_path: str) -> bool:
    return fnmatchcase(method, wanted_method.upper()) and fnmatchcase(path, wanted_path)


def shown(record: Call | Sent) -> Mapping[str, Any]:
    return asdict(record)
