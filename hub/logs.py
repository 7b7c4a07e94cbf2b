"""The log: one wide structured line a step, to standard error; no line shows a secret or a control character."""

import asyncio
import atexit
import json
import logging
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from hub.models import harmless

LONGEST = 8_000
# Ends of lines for some readers of logs; they are no controls.
LINE_ENDS = re.compile("[\u2028\u2029]")
TOLD_EVERY = 1.0
PLAIN = {str, int, float, bool, type(None)}
ENCODER = json.JSONEncoder(separators=(",", ":"))
# Libraries speak here only when something is wrong; what the hub did, it says itself.
LIBRARIES = ("uvicorn", "arq", "aiohttp", "asyncio", "aiosmtplib", "httpx")


def configure_logs(level: str, form: str, redact: Callable[[str], str]) -> None:
    """Send the hub's and its libraries' lines to standard error; `form` is text, json, or auto by the terminal."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        cleaner(redact),
    ]
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    renderer: Processor = (
        structlog.processors.JSONRenderer(_as_json)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


class Lines:
    """Where lines go, called as structlog calls the factory of its loggers and then the logger itself.

    What a round of the event loop says comes out in one piece at the round's end, a warning or worse at once: each
    writing gives the GIL away, which a thread at the database keeps for as long as a delivery takes, and a commit's
    deliveries are told one after the other.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.RLock()
        self._gathered: list[str] = []
        self._waits_for: asyncio.AbstractEventLoop | None = None
        atexit.register(self.write)

    def __call__(self, *_: Any) -> "Lines":
        return self

    def debug(self, line: str) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.warning(line)
            return
        with self._lock:
            self._gathered.append(line)
            if self._waits_for is not loop:
                self._waits_for = loop
                loop.call_soon(self.write)

    info = debug

    def warning(self, line: str) -> None:
        with self._lock:
            self._gathered.append(line)
            self.write()

    warn = error = exception = critical = fatal = warning

    def write(self) -> None:
        """Write what was gathered."""
        with self._lock:
            lines, self._gathered, self._waits_for = self._gathered, [], None
            if lines:
                self._file.write("\n".join([*lines, ""]))
                self._file.flush()


def cleaner(redact: Callable[[str], str]) -> Processor:
    """Every text of a line without secrets and controls, cut to a bound."""

    def clean(logger: Any, method: str, line: EventDict) -> EventDict:
        # Hardly a line needs it, and one look at all its texts costs a fraction of a look at each.
        if PLAIN.issuperset(map(type, line.values())):
            whole = "\t".join([value for value in line.values() if type(value) is str])
            if "\n" not in whole and _clean(whole, redact) == whole:
                return line
        # A traceback keeps its lines; anything else is one.
        return {
            name: _clean(value if name == "exception" else on_one_line(value), redact) for name, value in line.items()
        }

    return clean


def _as_json(line: EventDict, **more: Any) -> str:
    """A clean line, in ASCII whatever the terminal's or the file's encoding is."""
    with suppress(orjson.JSONEncodeError):
        text = orjson.dumps(line)
        if text.isascii():
            return text.decode()
    return ENCODER.encode(line)


def on_one_line(value: Any) -> Any:
    return value.replace("\n", " ") if isinstance(value, str) else value


def _clean(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return LINE_ENDS.sub(" ", harmless(redact(value), LONGEST))
    return value if value is None or isinstance(value, bool | int | float) else _clean(str(value), redact)


class Tally:
    """Counts by name what anybody may cause, and tells it once a second: never a line for each.

    `tell` gets the number of all and the numbers by name.
    """

    def __init__(self, tell: Callable[[int, dict[str, int]], None], every: float = TOLD_EVERY) -> None:
        self._tell = tell
        self._every = every
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """One more; names must be few, so never a stranger's."""
        if not self._counts:
            asyncio.get_running_loop().call_later(self._every, self._tell_all)
        self._counts[name] += 1

    def _tell_all(self) -> None:
        counts, self._counts = self._counts, Counter()
        self._tell(counts.total(), dict(counts))
