"""Templates to pages: one Jinja environment that escapes everything, and what every page is given.

Text from outside goes through `outside`, `short` or `block`: characters that cannot be seen, or that turn the reading
direction, are named instead; long text is folded; its direction is its own.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

# Controls but tab and line feed, what turns the direction, breaks lines or has no width, and what is no character.
# Joiners stay: Hindi and emoji are written with them.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff]"
)
CODE = re.compile("`([^`]+)`")
ISO = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
# A first word that is no name of a field and no id.
WORD = re.compile("[a-z]+[ ,;]", re.ASCII)
LONGEST_COUNT = 9

FLASHES = {
    "replayed": "The replay has begun.",
    "stopped": "It was stopped. Given back as they were before: {n}.",
    "released": "{n} released.",
    "releasing": "The release has begun.",
    "cancelling": "The cancelling has begun.",
    "cancelled": "{n} cancelled. One under way runs to its end.",
    "order-approved": "Approved: the order goes now.",
    "order-dropped": "The order was dropped, and its lines are closed.",
    "reorder-closed": "Closed. The next low stock opens another.",
    "paused": "The route is paused. What comes for it waits.",
    "paused-before": "The route was paused already.",
    "resumed": "The route goes on.",
    "resumed-before": "Nothing held the route up.",
    "let-in": "Let in as an event of its own.",
    "let-in-before": "It had been let in before; this is its event.",
}
"""What a page says after something was done: `?done=NAME`, with a number in `n` where the text has one."""


@cache
def environment() -> Environment:
    """The dashboard's templates. Escaping does not hang on a file's name; a name that is missing is an error."""
    made = Environment(
        loader=PackageLoader("hub.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "outside": outside, "short": short, "block": block, "moment": moment, "age": age, "ticked": ticked,
        "took": took, "thousands": thousands, "web_link": web_link, "segment": segment, "pretty": pretty,
        "sentence": sentence,
    }  # fmt: skip
    made.globals["link"] = link
    return made


def render(request: Request, template: str, status: int = 200, **more: Any) -> HTMLResponse:
    """The page that `template` makes of `more`; it also knows `person` (None before login) and `flash`."""
    names = {"person": request.scope.get("person"), "flash": flash(request.query_params)}
    return HTMLResponse(environment().get_template(template).render(names | more), status)


def fragment(template: str, **names: Any) -> str:
    """A part of a page, for live updates."""
    return environment().get_template(template).render(names)


def flash(query: Mapping[str, str]) -> str | None:
    """What was just done, from the fixed texts; nothing of the query itself is shown but a number."""
    text = FLASHES.get(query.get("done", ""))
    number = query.get("n", "")
    counted = number if re.fullmatch("[0-9]+", number, re.ASCII) and len(number) <= LONGEST_COUNT else "0"
    return None if text is None else text.replace("{n}", thousands(int(counted)))


def visible(value: Any) -> Markup:
    """Text from outside as HTML: what cannot be seen is named."""
    text = str(escape(str(value).replace("\r\n", "\n")))
    # What is replaced is no character of HTML, so that escaping before it is safe.
    return Markup(UNSEEN.sub(_named, text))  # noqa: S704 - escaped above


def _named(found: re.Match[str]) -> str:
    return f'<span class="unseen">U+{ord(found[0]):04X}</span>'


def outside(value: Any, most: int = 300) -> Markup:
    """Text from outside, the part after `most` characters folded."""
    text = "" if value is None else str(value)
    shown = Markup("<bdi>{}</bdi>").format(visible(text[:most]))
    if len(text) <= most:
        return shown
    rest = Markup('<details class="more"><summary>… {} more</summary><bdi>{}</bdi></details>')
    return shown + rest.format(thousands(len(text) - most), visible(text[most:]))


def short(value: Any, most: int = 60) -> Markup:
    """Text from outside cut to `most` characters, for where nothing can be folded."""
    text = "" if value is None else str(value)
    return Markup("<bdi>{}{}</bdi>").format(visible(text[:most]), "…" if len(text) > most else "")


def block(value: Any, most: int = 65_536) -> Markup:
    """Text of several lines from outside, such as a body, at most `most` characters of it."""
    text = "" if value is None else str(value)
    cut = Markup("<p>Only the first {} characters are shown.</p>").format(thousands(most)) if len(text) > most else ""
    return Markup('<pre dir="auto" tabindex="0">{}</pre>{}').format(visible(text[:most]), cut)


def pretty(body: str) -> str:
    """JSON in lines; anything else as it is."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except (ValueError, RecursionError):
        return body


def read_moment(value: Any) -> datetime | None:
    """A moment, also from ISO 8601."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).astimezone(UTC)


def moment(value: Any) -> Markup:
    """A time in UTC; the script turns it into the viewer's zone."""
    at = read_moment(value)
    if at is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S} UTC")


def age(value: Any, now: datetime) -> str:
    """How long ago, or how long until: `14 min`."""
    at = read_moment(value)
    return "" if at is None else span(abs(now - at))


def span(length: timedelta) -> str:
    """A length of time in its largest unit: `14 min`."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit == "min"):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def ticked(value: Any) -> Markup:
    """A sentence of the hub's own, parts of it from outside; what stands in `ticks` is code, and times are times."""
    text = CODE.sub(r"<code>\1</code>", str(visible(value)))
    return Markup(ISO.sub(_time_or_text, text))  # noqa: S704 - escaped by visible


def sentence(text: str) -> str:
    """What went wrong as a sentence: a capital, unless it begins with a name or an id, and a full stop."""
    begun = text[:1].upper() + text[1:] if WORD.match(text) else text
    return begun if begun.endswith((".", "!", "?")) else f"{begun}."


def _time_or_text(found: re.Match[str]) -> str:
    try:
        return str(moment(found[0]))
    except ValueError:
        return found[0]


def took(milliseconds: int | None) -> str:
    """A duration for people: `7 ms`, `1.2 s`."""
    if milliseconds is None:
        return ""
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def thousands(number: int) -> str:
    return f"{number:,}"


def web_link(url: Any) -> str | None:
    """The address if a browser may be sent there: http or https, nothing else."""
    try:
        parts = urlsplit(str(url or ""))
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and str(url).isprintable()
    except ValueError:
        return None
    return str(url) if usable else None


def segment(value: Any) -> str:
    """A value as one segment of a path."""
    return quote(str(value), safe="")


def link(path: str, given: Mapping[str, Any] | None = None, **more: Any) -> str:
    """`path` with these as its query; what has no value is left out."""
    asked = dict(given or {}) | more
    query = urlencode({name: value for name, value in asked.items() if value not in (None, "", ())}, doseq=True)
    return f"{path}?{query}" if query else path
