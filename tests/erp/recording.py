"""Exchanges between a connector and a real ERP, written down, and a server that answers from what was written.

`make test-erp` runs a scene against the real server through a proxy that records it, and compares that with the file
of the scene's name under `recorded/`; the fast tests play the same scene against the file. So they need no ERP, and
say so when a recording no longer is what a real ERP was asked.
"""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.process import bound, listening

RECORDED = Path(__file__).parent / "recorded"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
# No server answers so: what asks sees at once that it is not the ERP which speaks.
STALE = 599
# What belongs to one connection, or is worked out anew for the next.
OF_ONE_CONNECTION = {
    "accept-encoding", "connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding",
}  # fmt: skip
# In tracebacks, of whichever machine.
FOLDERS = re.compile(r'File (\\?")[^"\\\n]*/')
ANSWERS_WITHIN = 120.0


@dataclass(frozen=True)
class Exchange:
    """A request and its answer. Bodies are JSON values, or text where they are no JSON.

    `path` holds the query too. Headers are left out but for `kind`, the media type of an answer that is text.
    """

    method: str
    path: str
    request: Any
    status: int
    answer: Any
    kind: str | None = None

    @property
    def asked(self) -> dict[str, Any]:
        return {"method": self.method, "path": self.path, "request": self.request}

    def content(self) -> bytes:
        """The answer as bytes."""
        return (json.dumps(self.answer, ensure_ascii=False) if self.kind is None else str(self.answer)).encode()


def body_of(text: str) -> Any:
    """JSON as its value, other text as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def file_of(name: str, folder: Path = RECORDED) -> Path:
    return folder / f"{name}.json"


def read(name: str, folder: Path = RECORDED) -> list[Exchange]:
    """What was recorded under a name. AssertionError where nothing was."""
    file = file_of(name, folder)
    assert file.exists(), f"there is no recording {name}: `make test-erp ARGS=--record` makes it"
    return [Exchange(**one) for one in json.loads(file.read_text())]


def write(name: str, exchanges: list[Exchange], folder: Path = RECORDED) -> None:
    """One line for each exchange."""
    folder.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(asdict(one), ensure_ascii=False) for one in exchanges)
    file_of(name, folder).write_text(f"[\n{lines}\n]\n")


def stale(name: str, why: str) -> str:
    return f"the recording {name} is stale: `make test-erp ARGS=--record` makes it anew. {why}"


# ---- what differs


def difference(recorded: Any, real: Any, at: str = "") -> str | None:
    """Where two JSON values first differ, in words; None if they are the same."""
    match recorded, real:
        case dict(), dict() if recorded.keys() == real.keys():
            inner = [(recorded[key], real[key], f"{at}.{key}".lstrip(".")) for key in recorded]
        case dict(), dict():
            odd = ", ".join(sorted(map(str, recorded.keys() ^ real.keys())))
            return f"{at or 'it'} has these keys in one of the two alone: {odd}"
        case list(), list() if len(recorded) == len(real):
            inner = [(*both, f"{at}[{place}]") for place, both in enumerate(zip(recorded, real, strict=True))]
        case _:
            same = recorded == real and type(recorded) is type(real)
            return None if same else f"{at} was {short(recorded)} and is {short(real)}"
    return next(filter(None, (difference(*one) for one in inner)), None)


def short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:119]}…"


def shape(answer: Any) -> Any:
    """The keys in an answer, at each depth, whatever their values and however many rows."""
    match answer:
        case dict():
            return {key: shape(value) for key, value in answer.items()}
        case list():
            shapes = {json.dumps(shape(one), sort_keys=True) for one in answer if isinstance(one, dict | list)}
            return [json.loads(one) for one in sorted(shapes)]
    return None


def changed(recorded: list[Exchange], real: list[Exchange]) -> str | None:
    """What a real run did otherwise than the recorded one, in words; None where nothing of note is."""
    for number, (one, other) in enumerate(zip(recorded, real, strict=False), 1):
        found = difference(one.asked, other.asked)
        if found:
            return f"Request {number} ({other.method} {other.path}): {found}"
        before, now = ({"status": each.status, "kind": each.kind, "keys": shape(each.answer)} for each in (one, other))
        found = difference(before, now)
        if found:
            return f"The answer to request {number} ({other.method} {other.path}): {found}"
    if len(recorded) != len(real):
        return f"{len(recorded)} requests were recorded, {len(real)} were made"
    return None


# ---- the proxy


@dataclass
class Recorder:
    """A proxy at `url` before a real server; `exchanges` is what went through it, in the order of the answers.

    `stands_for` gives what is written in place of a secret, an address, a name: of what differs in each run.
    """

    upstream: httpx.AsyncClient
    stands_for: Mapping[str, str]
    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in OF_ONE_CONNECTION]
        asked = await request.body()
        try:
            real = await self.upstream.request(request.method, path_of(request), content=asked, headers=headers)
        except httpx.TransportError as error:
            return Response(f"the server behind the recorder does not answer: {error!r}", 502)
        self.exchanges.append(self._exchange(request, asked, real))
        kept = {name: value for name, value in real.headers.items() if name not in OF_ONE_CONNECTION}
        return Response(real.content, real.status_code, kept)

    def _exchange(self, request: Request, asked: bytes, real: httpx.Response) -> Exchange:
        kind = real.headers.get("content-type", "text/plain")
        answer = self._told(real.text)
        value = body_of(answer) if "json" in kind else answer
        plain = value is answer
        path, body = self._told(path_of(request)), body_of(self._told(asked.decode(errors="replace")))
        return Exchange(request.method, path, body, real.status_code, value, kind if plain else None)

    def _told(self, text: str) -> str:
        for real, other in self.stands_for.items():
            text = text.replace(real, other)
        return FOLDERS.sub(r"File \1", text)


def path_of(request: Request) -> str:
    """The path as it was asked for, with its query."""
    path: str = request.scope["raw_path"].decode("ascii")
    return f"{path}?{request.url.query}" if request.url.query else path


@asynccontextmanager
async def listening_at(answer: Callable[[Request], Awaitable[Response]]) -> AsyncIterator[str]:
    """The URL at which `answer` is asked whatever comes."""
    sock = bound("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    app = Starlette(routes=[Route("/{path:path}", answer, methods=METHODS)])
    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, lifespan="off", date_header=False)
    async with listening(config, [sock], url):
        yield url


@asynccontextmanager
async def recording(
    name: str, upstream: str, stands_for: Mapping[str, str] | None = None, *, anew: bool, folder: Path = RECORDED
) -> AsyncIterator[Recorder]:
    """A proxy for a scene: with `anew` it writes the scene's recording, else it compares with the one there is.

    AssertionError, naming the recording, where the scene has run to its end and its requests, or the answers' statuses
    and keys, are no longer those recorded.
    """
    async with httpx.AsyncClient(base_url=upstream, trust_env=False, timeout=ANSWERS_WITHIN) as client:
        made = Recorder(client, stands_for or {})
        async with listening_at(made.answer) as made.url:
            yield made
    if anew:
        write(name, made.exchanges, folder)
        return
    why = changed(read(name, folder), made.exchanges)
    assert why is None, stale(name, why)


# ---- the replay


@dataclass
class Replay:
    """A server at `url` that answers as was recorded; `stale` says where what it was asked first differed."""

    name: str
    left: list[Exchange]
    url: str = ""
    asked: int = 0
    stale: str | None = None

    async def answer(self, request: Request) -> Response:
        body = body_of((await request.body()).decode(errors="replace"))
        self.asked += 1
        if self.stale is None:
            self.stale = self._differs({"method": request.method, "path": path_of(request), "request": body})
        if self.stale is not None:
            return Response(self.stale, STALE, media_type="text/plain")
        exchange = self.left.pop(0)
        return Response(exchange.content(), exchange.status, media_type=exchange.kind or "application/json")

    def _differs(self, real: Mapping[str, Any]) -> str | None:
        where = f"Request {self.asked} ({real['method']} {real['path']})"
        if not self.left:
            return stale(self.name, f"{where}: only {self.asked - 1} were recorded")
        found = difference(self.left[0].asked, real)
        return stale(self.name, f"{where}: {found}") if found else None

    def check(self) -> None:
        """AssertionError if it was asked anything that is not recorded, or not all that is."""
        assert self.stale is None, self.stale
        assert not self.left, stale(self.name, f"{len(self.left)} recorded requests were not made")


@asynccontextmanager
async def replaying(name: str, folder: Path = RECORDED) -> AsyncIterator[Replay]:
    """A server that answers a scene from its recording, in order; at the end `check`, if the scene came to it."""
    made = Replay(name, read(name, folder))
    async with listening_at(made.answer) as made.url:
        yield made
    made.check()
