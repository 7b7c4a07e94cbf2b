"""Who calls, whether they may, and how many requests they have left: API keys, JWTs, and the hour's budget."""

import base64
import hashlib
import hmac
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hub.testing.store.settings import StoreSettings

Role = Literal["admin", "reader", "vendor", "customer", "nobody"]
Access = Literal["public", "read", "own", "write"]
ALLOWED: dict[Access, frozenset[Role]] = {
    "public": frozenset({"admin", "reader", "vendor", "customer", "nobody"}),
    "own": frozenset({"admin", "reader", "vendor", "customer"}),
    "read": frozenset({"admin", "reader", "vendor"}),
    "write": frozenset({"admin"}),
}
"""Who may do what. `own`: customers too, each seeing only what is theirs."""
TOKEN_SECONDS = 3600.0


@dataclass(frozen=True)
class Who:
    """The caller as records show it: `key main`, `key read-only`, `customer cus_1`, `nobody`; `id` of a person."""

    name: str
    role: Role
    id: str | None = None


NOBODY = Who("nobody", "nobody")


def identify(settings: StoreSettings, authorization: str) -> Who | None:
    """The caller by their `Authorization` header; None where it says something that is not valid."""
    if not authorization:
        return NOBODY
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    if _same(given, settings.api_key):
        return Who("key main", "admin")
    if _same(given, settings.read_key):
        return Who("key read-only", "reader")
    claims = read_token(given, settings.token_secret)
    if claims is None:
        return None
    return Who(f"{claims['role']} {claims['sub']}", claims["role"], claims["sub"])


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def make_token(subject: str, role: Role, secret: str, seconds: float = TOKEN_SECONDS) -> str:
    """A JWT (HS256) for a person, valid that long; a negative number makes one that has run out."""
    claims = {"sub": subject, "role": role, "exp": int(time.time() + seconds)}
    signed = f"{_packed({'alg': 'HS256', 'typ': 'JWT'})}.{_packed(claims)}"
    return f"{signed}.{_mark(signed, secret)}"


def read_token(text: str, secret: str) -> dict[str, Any] | None:
    """The claims of a JWT that is rightly signed and still valid."""
    signed, _, mark = text.rpartition(".")
    if signed.count(".") != 1 or not _same(mark, _mark(signed, secret)):
        return None
    packed = signed.partition(".")[2]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    return claims if claims["exp"] > time.time() else None


def _packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


def _mark(signed: str, secret: str) -> str:
    digest = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True)
class Budget:
    """What a caller has after this request. `reset` in seconds since 1970; `allowed`: this one was within it."""

    limit: int
    remaining: int
    reset: int
    allowed: bool

    @property
    def headers(self) -> Mapping[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }

    @property
    def seconds(self) -> int:
        return max(math.ceil(self.reset - time.time()), 1)


class Limiter:
    """Counts requests by caller in windows that begin with a caller's first one."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[float, int]] = {}

    def take(self, who: Who, settings: StoreSettings) -> Budget:
        limit = settings.public_limit if who.role == "nobody" else settings.limit
        now = time.time()
        ends, used = self._used.get(who.name, (0.0, 0))
        if ends <= now:
            ends, used = now + settings.window, 0
        allowed = used < limit
        used += allowed
        self._used[who.name] = ends, used
        return Budget(limit, max(limit - used, 0), math.ceil(ends), allowed)

    def reset(self) -> None:
        self._used.clear()
