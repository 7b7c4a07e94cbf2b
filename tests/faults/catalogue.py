"""All cases in the order of the table of faults, and the runs in which a safeguard is taken out."""

from dataclasses import dataclass

from tests.faults.bell import BELL
from tests.faults.cases import Case
from tests.faults.destinations import DESTINATIONS
from tests.faults.killing import KILLING
from tests.faults.lasting import LASTING
from tests.faults.network import NETWORK
from tests.faults.order import ORDER
from tests.faults.stage import POSTGRESQL, SQLITE
from tests.faults.storage import STORAGE

CASES: list[Case] = sorted(
    [*KILLING, *BELL, *STORAGE, *DESTINATIONS, *NETWORK, *LASTING, *ORDER], key=lambda case: case.fault
)
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Run:
    """A case on a database, with a safeguard taken out or not."""

    case: Case
    kind: str
    without: str | None = None

    @property
    def name(self) -> str:
        return self.case.name


TAKEN_OUT = [
    Run(BY_NAME["F01 R4"], SQLITE, "unique_keys"),
    Run(BY_NAME["F01 R5"], POSTGRESQL, "own_waking"),
    Run(BY_NAME["F01 R3"], SQLITE, "commit_before_answer"),
    Run(BY_NAME["F11 writer"], SQLITE, "begin_immediate"),
    Run(BY_NAME["F04"], POSTGRESQL, "lease_token"),
    Run(BY_NAME["F20 ctrl-c"], SQLITE, "own_session"),
    *([Run(BY_NAME["strace"], SQLITE, "synchronous")] if "strace" in BY_NAME else []),
    Run(BY_NAME["shared"], SQLITE, "row_by_row"),
]
