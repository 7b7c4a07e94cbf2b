"""The load: signed webhooks made beforehand, as bytes that wrk only has to send.

An HMAC for each request would make wrk the slowest part, so a file of whole requests is made first. No body stands
in it twice: types are mixed, ids random, timestamps move on.
"""

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub.testing.samples import EVENT_TYPES, SIGNATURE_HEADER, sample, sign, to_bytes
from tests.hubs import SECRET

SCRIPT = Path(__file__).with_name("load.lua")
PATH = "/webhooks/main"
STEP = timedelta(milliseconds=1)
WRK_MISSING = "make bench sends its load with wrk, which is not installed. On Debian and Ubuntu: apt install wrk"


class BadRun(Exception):
    """A measurement that does not count: answers other than 200, duplicates, or events that are missing."""


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers, the seconds they took, answers a second, and latencies in milliseconds."""

    answers: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


def bodies() -> Iterator[bytes]:
    """Bodies of all types in turn, for ever, none like another."""
    moment = datetime.now(UTC)
    for kind in itertools.cycle(EVENT_TYPES):
        moment += STEP
        yield to_bytes(sample(kind, timestamp=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")))


def request(body: bytes) -> bytes:
    """The whole request of a webhook, as a store's Node.js posts it."""
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        "User-Agent: Litekart-Webhooks/1.0",
        f"{SIGNATURE_HEADER}: {sign(body, SECRET)}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def write_requests(path: Path, count: int) -> Path:
    """A file of `count` requests for the script."""
    with path.open("wb") as file:
        for body in itertools.islice(bodies(), count):
            whole = request(body)
            file.write(b"%06d%b" % (len(whole), whole))
    return path


def wrk() -> str:
    """Where wrk is. Raises SystemExit(2) with the remedy where it is not."""
    found = shutil.which("wrk")
    if found is None:
        print(WRK_MISSING)
        raise SystemExit(2)
    return found


def run_wrk(url: str, requests: Path, *, connections: int, seconds: int, pause: int = 0, again: bool = False) -> Load:
    """Send the file's requests for some seconds. `pause`: mean milliseconds of a connection between two.

    Raises BadRun for any answer but 200, and, unless `again`, where the file's end was met.
    """
    command = [wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT), url]
    done = subprocess.run([*command, "--", str(requests), str(pause)], capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if done.returncode != 0 or line is None:
        raise BadRun(f"wrk failed: {done.stdout}{done.stderr}")
    result = json.loads(line.removeprefix("RESULT "))
    if result["not_ok"] or result["broken"]:
        raise BadRun(f"{result['not_ok']} answers were not 200, {result['broken']} did not come")
    if result["begun_again"] and not again:
        raise BadRun("the requests ran out, so that some were sent twice")
    return Load(result["answers"], result["microseconds"] / 1e6, result["p50_us"] / 1000, result["p99_us"] / 1000)
