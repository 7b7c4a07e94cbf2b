"""All cases in the order of the table of faults, and the runs in which a safeguard is taken out."""

from dataclasses import dataclass

from tests.faults.bell import BELL
from tests.faults.cases import Case, Line
from tests.faults.catching import CATCHING
from tests.faults.destinations import DESTINATIONS
from tests.faults.killing import KILLING
from tests.faults.lasting import LASTING
from tests.faults.network import NETWORK
from tests.faults.order import ORDER
from tests.faults.pairs import PAIRS
from tests.faults.stage import POSTGRESQL, SQLITE
from tests.faults.storage import STORAGE

CASES: list[Case] = sorted(
    [*KILLING, *BELL, *STORAGE, *DESTINATIONS, *NETWORK, *LASTING, *CATCHING, *ORDER, *PAIRS],
    key=lambda case: case.fault,
)
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Run:
    """A case on a database; or with a safeguard taken out, whose line must then say `because`."""

    case: Case
    kind: str
    without: str | None = None
    because: str = ""

    @property
    def name(self) -> str:
        return self.case.name

    def as_it_must_be(self, line: Line) -> bool:
        """Passed; or, without a safeguard, failed for the very reason that it is there for."""
        return line.passed if self.without is None else not line.passed and self.because in str(line)


MISSED = [
    ("strace", SQLITE, "synchronous", "answered before it was flushed"),
    ("F11 writer", SQLITE, "begin_immediate", "transactions overtaken"),
    ("F01 R4", SQLITE, "unique_keys", "stored twice"),
    ("F04", POSTGRESQL, "lease_token", "NOT SO: late 0"),
    ("F01 R5", POSTGRESQL, "own_waking", "NOT SO: not delivered within 20 s without a bell"),
    ("F01 R3", SQLITE, "commit_before_answer", "NOT SO: one event alone: acked, not stored"),
    ("shared", SQLITE, "row_by_row", "NOT SO: 10 events that the database refuses"),
    ("F20 ctrl-c", SQLITE, "own_session", "NOT SO: its Redis was ended with it"),
]
TAKEN_OUT = [Run(BY_NAME[name], kind, without, because) for name, kind, without, because in MISSED if name in BY_NAME]
