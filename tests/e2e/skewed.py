"""`python -m tests.e2e.skewed HOURS COMMAND …`: the hub's command line on a machine whose clock is that far off.

The product knows nothing of it: its one reading of the machine's clock is replaced before anything else loads.
"""

import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import hub.clock

off = timedelta(hours=float(sys.argv.pop(1)))


def system_time() -> datetime:
    return datetime.now(UTC) + off


def time_ns() -> int:
    return time.time_ns() + int(off.total_seconds()) * 10**9


vars(hub.clock).update(system_time=system_time, time=SimpleNamespace(time_ns=time_ns))

if __name__ == "__main__":
    # Imported only now, so that every module takes the replaced clock.
    from hub.cli import main

    main()
