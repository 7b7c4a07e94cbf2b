"""One event is one line of the log, whatever stands in it (S29)."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from hub.testing.samples import sample, sign
from hub.testing.sink import Answer, HttpSink
from tests.hubs import SECRET, config_of, hub_process, route, write_config
from tests.security.wire import Client, request

FORGED = '{"event": "forged", "level": "info", "timestamp": "2026-11-23T12:00:00Z"}'
HOSTILE = [
    f"a\n{FORGED}\nb", f"a\r\n{FORGED}\r\n", f"a\r{FORGED}", f"a\u2028{FORGED}\u2029", f"a\x85{FORGED}",
    f"a\x0b\x0c{FORGED}",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07", "\x9b31m", "nul\x00byte", "\x7f\x08\x08", "half \ud800 pair", "\u202etxt.exe",
    "%n%s{0.__class__}{{ 7 * 7 }}", '"}\n', "\\n" + FORGED, "x" * 20_000,
]  # fmt: skip
# Whatever some reader of logs takes for the end of a line, or a terminal for a command.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
SAYS = """
import json, logging, sys
import structlog
from hub.logs import configure_logs
configure_logs("debug", sys.argv[1], lambda text: text)
log, library = structlog.get_logger(), logging.getLogger("uvicorn.error")
for text in json.load(sys.stdin):
    log.info("step.done", store=text, values={"a": text, text: [text]}, error=ValueError(text), raw=text.encode("utf-8",
    "replace"))
    log.info(text)
    library.warning("said: %s", text)
    library.warning(text)
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_s29_as_many_lines_as_events(form: str) -> None:
    """S29: by our own log and by a library's, in each form: no line more, none forged, no raw control character."""
    done = subprocess.run([sys.executable, "-c", SAYS, form], input=json.dumps(HOSTILE).encode(), capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")
    said = done.stderr.decode()
    assert said.endswith("\n")
    lines = said[:-1].split("\n")
    assert len(lines) == 4 * len(HOSTILE)
    assert CONTROLS.findall(said) == []
    if form == "json":
        parsed = [json.loads(line) for line in lines]
        assert [line for line in parsed if line["event"] == "forged"] == []
        assert {line["level"] for line in parsed} == {"info", "warning"}


async def test_s29_in_a_hub_as_it_runs(tmp_path: Path) -> None:
    """S29: in paths, headers, types, ids, answers of a destination, names at the login: nothing forges a line."""
    angry = [Answer(422, text.encode("utf-8", "replace")) for text in HOSTILE]
    async with HttpSink(*angry, default=angry[0]) as sink:
        config = config_of({"one": route(sink.url)}, log={"format": "json", "level": "debug"})
        async with hub_process(write_config(tmp_path, config), "up") as hub:
            dashboard = (await hub.said("dashboard.listening"))["url"]
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                for text in HOSTILE:
                    await send_everywhere(client, hub.url, dashboard, text)
            await hub.said("delivery.attempted", len(HOSTILE))
            await hub.stop()
        lines = hub.lines
    assert [line for line in lines if line["event"] == "forged" or "level" not in line] == []
    # A traceback keeps its lines, which JSON writes as \\n.
    texts = [str(value) for line in lines for name, value in line.items() if name != "exception"]
    assert [text for text in texts if CONTROLS.search(text) or "\n" in text] == []


async def send_everywhere(client: httpx.AsyncClient, url: str, dashboard: str, text: str) -> None:
    """Signed and not, in body, header, path and login. A hub may well cut a connection at such a header."""
    raw = text.encode("utf-8", "replace")
    agent = b"User-Agent: " + bytes(one for one in raw if one not in b"\r\n\0")[:200]
    wire = Client(url)
    for event in (
        sample("order.placed", orderNo=text, note=text),
        sample("order.placed", orderId=text[:200]),
        sample("order.placed") | {"event": text[:100]},
    ):
        body = json.dumps(event, default=float).encode()
        signature = sign(body, SECRET).encode()
        await wire.ask(request([signature], body))
        await wire.ask(request([signature], body, b"/webhooks/main", agent))
    await wire.ask(request([], b"{}", b"/webhooks/" + quote(raw[:100], safe="").encode(), agent))
    await wire.ask(request([agent], b"{}"))
    wire.close()
    form = {"name": raw[:200], "password": raw[:200], "token": raw[:200]}
    await client.post(f"{dashboard}/login", data=form, headers={"Sec-Fetch-Site": "same-origin"})
