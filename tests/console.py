"""Many commands in one process, so that only the first waits for Python's imports.

`python -m tests.console` runs `hub.cli.run` for each line of JSON that it reads, as if typed in that folder.
"""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from hub.cli import run


@dataclass(frozen=True)
class Ran:
    """A command's exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Console:
    """A terminal's worth of commands, one at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def hub(self, folder: Path, *words: str, typed: str = "", **environ: str) -> Ran:
        """Run `hub WORDS` in that folder; `typed` is what a person answers."""
        asked = {"words": words, "folder": str(folder), "typed": typed, "environ": environ}
        stdin, stdout = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        return Ran(**json.loads(stdout.readline()))

    def close(self) -> None:
        cast(IO[str], self._process.stdin).close()
        self._process.wait(60)
        cast(IO[str], self._process.stdout).close()


def fails(ran: Ran, code: int, says: str) -> None:
    """It ended with that code, printed nothing, and said one thing, which is no traceback."""
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert [line[:5] for line in ran.err.splitlines()] == ["hub: "]


def main() -> None:
    """Serve one Console."""
    clean = dict(os.environ)
    for line in sys.stdin:
        asked = json.loads(line)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(clean | asked["environ"])
        typed, sys.stdin = sys.stdin, io.StringIO(asked["typed"])
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = run(asked["words"])
        sys.stdin = typed
        print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}), flush=True)


if __name__ == "__main__":
    main()
