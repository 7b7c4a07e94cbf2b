"""Passwords of the dashboard's users: made into argon2 hashes, and compared with them, two at a time."""

import asyncio
import os
import unicodedata
from base64 import b64encode
from collections.abc import Sequence

from argon2 import Parameters, PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from hub.config import User

# One takes 64 MiB and four threads for a moment.
AT_ONCE = 2
MOST_WAITING = 20


class Busy(Exception):
    """So many wait already that one more is not looked at."""


def hash_password(password: str) -> str:
    """The argon2id hash for the config."""
    return PasswordHasher().hash(normal(password))


def normal(password: str) -> str:
    """One spelling for what is typed the same: systems differ in how they write an accent."""
    return unicodedata.normalize("NFC", password)


class Passwords:
    """Whose password it is. A name that nobody has costs what a known one costs."""

    def __init__(self, users: Sequence[User]) -> None:
        self._users = {user.name: user for user in users}
        costs = extract_parameters(users[0].password.reveal()) if users else RFC_9106_LOW_MEMORY
        self._nobody = hash_of_nothing(costs)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def check(self, name: str, password: str) -> User | None:
        """The user of that name and password, or None. Raises Busy."""
        if self._waiting >= MOST_WAITING:
            raise Busy
        user = self._users.get(name)
        known = user.password.reveal() if user is not None else self._nobody
        self._waiting += 1
        try:
            async with self._turn:
                fits = await asyncio.to_thread(matches, known, password)
        finally:
            self._waiting -= 1
        return user if fits else None


def matches(known: str, password: str) -> bool:
    """Is `known` the hash of that password?"""
    try:
        return PasswordHasher().verify(known, normal(password))
    except (VerificationError, InvalidHashError):
        return False


def hash_of_nothing(costs: Parameters) -> str:
    """A hash that no password has, as costly as those of the config."""
    salt, digest = (b64encode(os.urandom(size)).decode().rstrip("=") for size in (costs.salt_len, costs.hash_len))
    cost = f"m={costs.memory_cost},t={costs.time_cost},p={costs.parallelism}"
    return f"$argon2id$v={costs.version}${cost}${salt}${digest}"
