"""Time and ids. `Clock` is the only clock of the hub, so that every process goes by the database's.

Moments are aware datetimes in UTC; the database keeps them as whole microseconds since 1970, the same on
SQLite and PostgreSQL.
"""

import os
import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def system_time() -> datetime:
    """This machine's idea of the time."""
    return datetime.now(UTC)


class Clock:
    """`now()` is the machine's time plus `offset`, the measured difference to the database's."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return system_time() + self.offset


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)


def new_id(prefix: str) -> str:
    """A fresh id such as `evt_18ab…`: 64 bits of nanoseconds, so that ids sort by their making, and 64 random ones."""
    return f"{prefix}_{time.time_ns():016x}{os.urandom(8).hex()}"


def id_at(prefix: str, moment: datetime) -> str:
    """What ids made at that moment begin with."""
    return f"{prefix}_{max(to_micros(moment) * 1000, 0):016x}"
