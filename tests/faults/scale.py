"""How long and how much: scaled down so that all cases run in half an hour, or (FULL=1) as the table of faults says."""

import os
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Scale:
    """Seconds, unless said: `rate` is events a second, `kills` and `stops` are counts.

    `load` is under a fault that lasts, `short` around one that is over in a moment; `outage` a server is away, `storm`
    a destination fails; a lease lasts `timeout` + `margin`.
    """

    load: float = 20.0
    short: float = 3.0
    rate: float = 20.0
    kills: int = 10
    stops: int = 8
    timeout: int = 2
    margin: int = 2
    outage: float = 5.0
    storm: float = 30.0
    partition: float = 5.0
    reader: float = 10.0

    @property
    def lease(self) -> float:
        return float(self.timeout + self.margin)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in asdict(self).items())


FULL = Scale(
    load=150,
    rate=50,
    short=100,
    kills=50,
    stops=20,
    timeout=10,
    margin=20,
    outage=60,
    storm=600,
    partition=60,
    reader=300,
)


def chosen() -> Scale:
    return FULL if os.environ.get("FULL") == "1" else Scale()
