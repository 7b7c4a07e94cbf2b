"""Lines to paste into another terminal: a signed webhook by curl, and the hub's own commands."""

import json
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from hub.testing.samples import SIGNATURE_HEADER, sign


def curl_command(url: str, secret: str) -> str:
    """A POST of one large order, over several lines. The line breaks within its body are signed too."""
    order = {"orderId": "ord_pasted", "orderNo": 2001, "total": 250, "currency": "EUR"}
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = f'{{"event": "order.placed", "timestamp": "{moment}",\n"data": {json.dumps(order)}}}'
    return " \\\n".join(
        [
            f"curl {shlex.quote(url)}",
            "  -H 'Content-Type: application/json'",
            f"  -H '{SIGNATURE_HEADER}: {sign(body.encode(), secret)}'",
            f"  --data-raw {shlex.quote(body)}",
        ]
    )


def hub_command(words: str, config: Path) -> str:
    """`hub WORDS --config …` with the hub as this shell finds it."""
    beside = Path(sys.executable).parent / "hub"
    found = shutil.which("hub")
    program = "hub" if found is not None and Path(found) == beside else _from_here(beside)
    return f"{shlex.quote(program)} {words} --config {shlex.quote(str(config))}"


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
