"""`python -m hub.demo [--once]`; its exit code is 0 when all was delivered or it was stopped, else 1."""

import asyncio
import sys

from hub.demo.play import demo
from hub.demo.screen import Screen

if __name__ == "__main__":
    raise SystemExit(asyncio.run(demo("--once" in sys.argv[1:], Screen())))
