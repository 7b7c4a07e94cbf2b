"""A process that lets the language do its worst with a payload's worst: `python -m tests.burning`.

It reads one JSON line for each thing that the environment has, `["filter", "sort"]`, and answers with the seconds
and the MiB that the most expensive template took, and with that template.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

from hub import sandbox
from hub.errors import TemplateError
from hub.language import compile_template

PRIME = 2**61 - 1
DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP, 1]
DATA: dict[str, Any] = {
    "numbers": list(range(60_000)),
    "others": list(range(-1, -60_001, -1)),
    "alike": [number * PRIME for number in range(1, 20_001)],
    "pairs": [[number * PRIME, 1] for number in range(1, 15_001)],
    "rows": [[0] * 300 for _ in range(300)],
    "texts": ["a" * 3000 for _ in range(300)],
    "object": {f"field{number}": number for number in range(10_000)},
    "digits": Decimal("1." + "7" * 500_000),
    "divisor": Decimal("3." + "1" * 250_000),
    "text": "b" * 250_000,
    "letters": "a" * 249_999 + "b",
    "wide": "\u4e01" * 100_000 + "\u4e02",
    "format": "%1000000000d",
    "deep": DEEP,
    "range": [range(10_000)] * 300,
}
VALUES = [name for name in DATA if name not in {"others", "divisor", "letters", "texts", "wide"}]
ARGUMENTS = {"numbers": "others", "digits": "divisor", "text": "letters", "format": "format"}
LOOP = "{% for again in range(10000) %}{% if STEP %}{% endif %}{% endfor %}"
CALLS = ["", "(ARG)"]


def templates(kind: str, name: str) -> Iterator[str]:
    """Each thing by itself on every value, with the worst arguments, and once for each item of a list."""
    for value in VALUES:
        own, other = f"data.{value}", f"data.{ARGUMENTS.get(value, value)}"
        match kind:
            case "filter":
                used = [f"{own} | {name}{call}".replace("ARG", other) for call in CALLS]
                yield from (f"{{{{ {use} | list | length }}}}" for use in used)
                yield f"{{{{ {own} | map('{name}', {other}) | list | length }}}}"
            case "test":
                yield from (f"{{{{ {own} is {name}{call} }}}}".replace("ARG", other) for call in CALLS)
                yield f"{{{{ {own} | select('{name}', {other}) | list | length }}}}"
            case "operator":
                yield LOOP.replace("STEP", f"{own} {name} {other}")
            case "slice":
                yield LOOP.replace("STEP", f"{own}[{name}]")
                yield "".join(f"{{% set kept{number} = {own}[{name}] %}}" for number in range(40))
            case "global":
                yield from (f"{{{{ {name}({stars}{own}) }}}}" for stars in ("", "*", "**"))
            case "loop":
                yield LOOP.replace("STEP", f"loop.{name}({own}, *{other})")
    if kind == "method":
        for own in ("text", "letters", "wide", "format"):
            for call in (
                "()",
                "(data.text)",
                "(data.letters)",
                "(data.wide)",
                "(data.text, data.letters)",
                "(data.texts)",
            ):
                yield f"{{% for x in data.{own}.{name}{call} %}}{{% endfor %}}"
                yield LOOP.replace("STEP", f"data.{own}.{name}{call}")


def burn(source: str) -> tuple[float, float]:
    """The seconds and MiB that a template takes."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    with suppress(TemplateError):
        compile_template(source).render({"data": DATA})
    seconds = time.thread_time() - started
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    # What one step takes is measured here: the budget itself would hide it.
    sandbox.MAX_SECONDS = 0.003
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for line in sys.stdin:
        kind, name = json.loads(line)
        runs = {source: burn(source) for source in templates(kind, name)}
        slowest = max(runs, key=lambda source: runs[source][0])
        largest = max(runs, key=lambda source: runs[source][1])
        print(json.dumps([runs[slowest][0], runs[largest][1], slowest[:200], largest[:200]]), flush=True)


if __name__ == "__main__":
    main()
