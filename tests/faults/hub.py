"""`python -m tests.faults.hub COMMAND …`: the hub's command line, with a failpoint in it or a safeguard taken out.

HUB_FAILPOINT=name[:nth]:kill|raise|sleep=n and HUB_WITHOUT=name say what (tests.faults.points and .safeguards have
the names). The product knows nothing of it. A hub started so leads a group of processes of its own, which a test may
signal as a terminal does, and ends with the process that started it.
"""

import ctypes
import os
import runpy
import signal
import sys

import hub.cli
import hub.schema
from tests.faults.points import plant, read_failpoint
from tests.faults.safeguards import take_out

PR_SET_PDEATHSIG = 1
MIGRATE = "migrate"


def main() -> None:
    failpoint = read_failpoint(os.environ["HUB_FAILPOINT"]) if "HUB_FAILPOINT" in os.environ else None
    if sys.argv[1:] == [MIGRATE]:
        assert failpoint is not None
        plant(failpoint)
        runpy.run_module("hub.migrations", run_name="__main__")
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    if "HUB_WITHOUT" in os.environ:
        take_out(os.environ["HUB_WITHOUT"])
    if failpoint is not None and failpoint.name == "M1":
        vars(hub.schema)["MIGRATION"] = ("-m", "tests.faults.hub", MIGRATE)
    elif failpoint is not None:
        plant(failpoint)
    hub.cli.main()


if __name__ == "__main__":
    main()
