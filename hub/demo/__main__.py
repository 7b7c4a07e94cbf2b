"""`python -m hub.demo [--once]`; its exit code is 0 when all was delivered or it was stopped, else 1."""

import asyncio
import io
import sys

from hub.demo.play import demo
from hub.demo.screen import Screen

if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names and lines are not ASCII; a terminal that is shows a mark instead.
        sys.stdout.reconfigure(errors="replace")
    raise SystemExit(asyncio.run(demo("--once" in sys.argv[1:], Screen())))
