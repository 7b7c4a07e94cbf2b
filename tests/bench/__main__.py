"""`python -m tests.bench [PART …]`: measures, prints a table, writes JSON into results/.

Exit codes: 0 measured, whether or not the goals are met; 1 a measurement that does not count; 2 wrong usage, or wrk
is missing.
"""

import argparse
import time

from tests.bench.delivering import delivering
from tests.bench.growing import growing
from tests.bench.idle import idle
from tests.bench.keeping import keeping
from tests.bench.large import large
from tests.bench.load import BadRun, wrk
from tests.bench.receiving import receiving
from tests.bench.report import RESULTS, load_text, print_table, write_results

PARTS = {
    "receiving": receiving,
    "keeping": keeping,
    "delivering": delivering,
    "growing": growing,
    "large": large,
    "idle": idle,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures the hub; ARGS='receiving' for a part.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; left out, all")
    chosen = parser.parse_args().parts or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    wrk()
    before, begun = load_text(), time.monotonic()
    try:
        rows = [row for name in chosen for row in PARTS[name]()]
    except BadRun as problem:
        print(f"This run does not count: {problem}")
        return 1
    seconds = time.monotonic() - begun
    print_table(rows, seconds, before)
    print(f"written to {write_results(rows, seconds).relative_to(RESULTS.parent)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
