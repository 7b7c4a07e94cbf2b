"""`python -m tests.e2e.told FILE COMMAND …`: the hub's command line, whose embedded Valkey's URL is written to FILE.

Its password is in no file and on no command line, as it should be; a test that empties a running one needs it.
"""

import asyncio
import sys
from pathlib import Path

import hub.valkey
from hub.valkey import EmbeddedValkey

file = Path(sys.argv.pop(1))


class Told(EmbeddedValkey):
    async def start(self) -> str | None:
        await asyncio.to_thread(file.write_text, self.url)
        return await super().start()


if __name__ == "__main__":
    # Imported only here, as what is started beside the hub needs nothing of it.
    from hub.cli import main

    vars(hub.valkey)["EmbeddedValkey"] = Told
    main()
