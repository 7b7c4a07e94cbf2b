"""`hub` with a dashboard whose server breaks when the file that HUB_BREAKS names is there."""

import os
from pathlib import Path
from typing import Any

import uvicorn

from hub import process
from hub.cli import main

BREAKS = Path(os.environ["HUB_BREAKS"])


class Breaking(process.Server):
    """uvicorn with a fault in it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_dashboard = hasattr(getattr(config.app, "state", None), "door")

    async def on_tick(self, counter: int) -> bool:
        if self.is_dashboard and BREAKS.exists():  # noqa: ASYNC240 - a fault may block
            raise RuntimeError("broken on purpose")
        return await super().on_tick(counter)


if __name__ == "__main__":
    changed: Any = process
    changed.Server = Breaking
    main()
