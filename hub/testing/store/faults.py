"""Faults by rule: what the API does to a call instead of, or to the answer of, what it should."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hub.testing.store.records import matches

FaultKind = Literal[
    "status", "error_in_200", "html", "huge", "endless", "drop", "hang",
    "slow", "lost", "cut", "truncated", "nulls", "strings", "enums",
]  # fmt: skip
KINDS: frozenset[str] = frozenset(get_args(FaultKind))
# These let the request do its work first; what they change is the answer.
AFTERWARDS = frozenset({"slow", "lost", "cut", "truncated", "nulls", "strings", "enums"})
HUGE = 10_000_000
PAGE = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


@dataclass
class Fault:
    """One rule: calls with that method to that path (both may hold `*`) meet it, `times` often (None: always).

    `status` is the answer's where the kind is `status` or `html`; with it `body` (else the profile's error) and
    `headers`. `wait`: seconds before anything is answered. `size`: bytes of `huge`.

    Without the work being done: `status`; `error_in_200`, an error under the status 200; `html`, a proxy's page;
    `huge`, `size` bytes of JSON; `endless`, a body without end; `drop`, the connection is cut; `hang`, no answer.
    With the work done: `slow` (only `wait`); `lost`, the connection is cut before the answer; `cut`, it is cut
    within the answer; `truncated`, half of the JSON; `nulls`, `strings` and `enums`: in the rows all but ids is null,
    every number is text, every status is an unknown word.
    """

    method: str = "*"
    path: str = "*"
    kind: FaultKind = "status"
    times: int | None = 1
    status: int = 500
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    size: int = HUGE

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind}; there are {', '.join(sorted(KINDS))}")


class Faults:
    """The rules; the first that fits a call counts."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def take(self, method: str, path: str) -> Fault | None:
        for rule in self.rules:
            if matches(method, path, rule.method, rule.path):
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times <= 0:
                        self.rules.remove(rule)
                return rule
        return None


def spoilt(kind: str, body: bytes) -> bytes:
    """An answer's body as such a fault leaves it. The frame of a list stays as it is: it is about the rows."""
    if kind == "truncated":
        return body[: len(body) // 2]
    change = {"nulls": _nulled, "strings": _texts, "enums": _unknown}[kind]
    try:
        document = json.loads(body)
    except ValueError:
        return body
    if isinstance(document, dict) and "data" in document:
        document["data"] = change(document["data"])
    else:
        document = change(document)
    return json.dumps(document, ensure_ascii=False).encode()


def _nulled(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name for name in value if name == "id" or isinstance(value[name], dict | list)}
        return {name: _nulled(one) if name in kept else None for name, one in value.items()}
    return [_nulled(one) for one in value] if isinstance(value, list) else value


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _texts(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _unknown(value: Any) -> Any:
    if isinstance(value, dict):
        words = {name for name, one in value.items() if isinstance(one, str) and "status" in name.lower()}
        return {name: "quality_check_2" if name in words else _unknown(one) for name, one in value.items()}
    return [_unknown(one) for one in value] if isinstance(value, list) else value
