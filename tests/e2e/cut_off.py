"""`python -m tests.e2e.cut_off COMMAND …`: the hub's command line, whose migration is killed after its first column.

The product knows nothing of it: the process that migrates is started as this module, with one step wrapped.
"""

import os
import runpy
import signal
import sys
from typing import Any

import alembic.op

add_column = alembic.op.add_column


def last_step(*arguments: Any, **options: Any) -> None:
    add_column(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate"]:
        vars(alembic.op)["add_column"] = last_step
        runpy.run_module("hub.migrations", run_name="__main__")
    else:
        # Imported only here: the process that migrates needs nothing of it.
        import hub.schema
        from hub.cli import main

        vars(hub.schema)["MIGRATION"] = ("-m", "tests.e2e.cut_off", "migrate")
        main()
