"""Everything that the language has, with a payload's worst values: none may take long, or much memory.

What is tried is asked of the environments themselves, so that what a new version of Jinja brings is tried too.
"""

import json
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest
from jinja2.compiler import operators

from hub import language, sandbox

SECONDS = 0.3
PATIENCE = 60.0
MEMORY = 150
ENVIRONMENT = language._TEXTS
THINGS = [
    *(("filter", name) for name in sorted(ENVIRONMENT.filters)),
    *(("test", name) for name in sorted(ENVIRONMENT.tests) if name.isidentifier()),
    *(("global", name) for name in sorted(ENVIRONMENT.globals)),
    *(("method", name) for name in sorted(sandbox.TEXT_METHODS)),
    *(("loop", name) for name in ("changed", "cycle")),
    *(("operator", name) for name in sorted({*ENVIRONMENT.binop_table, *operators.values(), "~", "and", "or"})),
    *(("slice", name) for name in ("0:", "::2", "0")),
]


class Burning:
    """The other process, started again where it had to be killed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, kind: str, name: str) -> tuple[float, float, str, str]:
        if self.process is None:
            command = [sys.executable, "-m", "tests.burning"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([kind, name]), file=self.process.stdin, flush=True)
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        answer = self.process.stdout.readline() if ready else ""
        if not answer:
            self.close()
            pytest.fail(f"{kind} {name} takes longer than {PATIENCE:.0f} s, or ends the process")
        seconds, memory, slowest, largest = json.loads(answer)
        return seconds, memory, slowest, largest

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def burning() -> Iterator[Burning]:
    burning = Burning()
    yield burning
    burning.close()


@pytest.mark.parametrize(("kind", "name"), THINGS)
def test_nothing_in_the_language_takes_long(burning: Burning, kind: str, name: str) -> None:
    seconds, memory, slowest, largest = burning.ask(kind, name)
    assert seconds < SECONDS, slowest
    assert memory < MEMORY, largest
