"""No secret is to be seen anywhere but where it is meant to go (S28): not in a log, a page, the database, an answer.

Every secret that a config can hold has a mark in it. A hub lives through good and bad moments with counterparts that
say all they hear back, and a connector that tells what it knows. Then everything that it wrote or said is searched
for the mark.
"""

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, Row, Table, select
from sqlmodel import SQLModel

from hub.testing.samples import SIGNATURE_HEADER, sample, sign, to_bytes
from hub.testing.sink import Answer, HttpSink, Received
from hub.testing.slack import SlackServer
from hub.testing.smtp import MailServer
from hub.web.api import OPERATIONS
from tests.browsers import CHEAP, OPERATOR, VIEWER, browser, log_in
from tests.console import Console
from tests.hubdb import opened
from tests.hubs import HubProcess, config_of, hub_process, make_schema, write_config
from tests.security.telling import Telling
from tests.servers import ValkeyServer, eventually, free_port
from tests.whole import WHOLE, at_length

MARK = "k7Qx93vTz"
TELLING = f"{Telling.__module__}:Telling"
ONCE = {"retry": {"schedule": ["50ms"]}}


def secret(name: str) -> str:
    """A secret that is known by its mark, whole or in part."""
    return f"{MARK}-{name}-{MARK}"


def traces() -> dict[str, bytes]:
    """The mark as it may stand somewhere: as it is, in base64 at each place, in hex, backwards."""
    raw = MARK.encode()
    found = {"plain": raw, "hex": raw.hex().encode(), "backwards": raw[::-1], "utf-16": MARK.encode("utf-16-le")}
    for shift in range(3):
        # Only the letters that no neighbour takes part in.
        start = -(-shift * 8 // 6)
        whole = base64.b64encode(b"\0" * shift + raw)
        found[f"base64 at {shift}"] = whole[start : len(whole) - 4]
    return found


TRACES = traces()


def seen_in(where: str, what: bytes | str) -> Iterator[str]:
    """Each trace of a secret in it, with what stands around."""
    content = what.encode("utf-8", "surrogatepass") if isinstance(what, str) else what
    for form, trace in TRACES.items():
        for found in re.finditer(re.escape(trace), content, re.IGNORECASE if form == "hex" else 0):
            yield f"{where}, {form}: {content[max(0, found.start() - 80) : found.end() + 40]!r}"


def test_s28_a_secret_would_be_found() -> None:
    """S28: the search itself, on what it must find."""
    for said in (
        secret("x"), f"Bearer {secret('x')}", base64.b64encode(f"user:{secret('x')}".encode()).decode(),
        base64.b64encode(f"user1:{secret('x')}".encode()).decode(),
        base64.b64encode(f"user11:{secret('x')}".encode()).decode(),
        secret("x").encode().hex(), MARK,
    ):  # fmt: skip
        assert list(seen_in("here", said)), said
    assert list(seen_in("here", "k7Qx93 vTz k7qx93vtz")) == []


class Parrot(HttpSink):
    """Answers with all that it was sent, as some servers' error pages do."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status

    async def respond(self, request: Received) -> Answer:
        heard = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        said = f"Cannot {request.method} {request.path}\n{heard}\n\n".encode() + request.body
        spoken = {"X-Heard": request.path, "X-Request-Id": request.headers.get("authorization", "")}
        return Answer(self.status, said, spoken)


class Counterparts:
    """Those that take, and those that refuse and say why."""

    def __init__(self) -> None:
        self.sink = HttpSink()
        self.angry, self.down = Parrot(422), Parrot(500)
        self.slack = SlackServer(webhook_secret=secret("slack"))
        self.mail = MailServer(users={"shop": secret("mail")})
        self.strict = MailServer(users={"shop": "another"})

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Counterparts"]:
        async with AsyncExitStack() as stack:
            for one in (self.sink, self.angry, self.down, self.slack, self.mail, self.strict):
                await stack.enter_async_context(one)
            self.strict.reply("AUTH", *[f"535 5.7.8 {secret('mail')} is wrong for shop"] * 20)
            yield self

    def routes(self) -> dict[str, Any]:
        def webhook(url: str) -> dict[str, Any]:
            settings = {
                "url": f"{url}/hooks/{secret('path')}?key={secret('query')}",
                "headers": {"Authorization": f"Bearer {secret('header')}", "X-Key": secret("key")},
                "signing_secrets": [secret("signing"), secret("signing-old")],
            }
            return {"connector": "webhook", "settings": settings, **ONCE}

        def mail(port: int) -> dict[str, Any]:
            settings: dict[str, Any] = {"host": "127.0.0.1", "port": port, "security": "none", "username": "shop"}
            settings |= {"password": secret("mail"), "from": "shop@example.test", "to": ["ops@example.test"]}
            return {"connector": "email", "settings": settings, **ONCE}

        def telling(how: str) -> dict[str, Any]:
            return {"connector": TELLING, "settings": {"key": secret("telling"), "how": how}, **ONCE}

        token = {"token": secret("slack-token"), "channel": "C0123456", "api_url": self.slack.api_url}
        wrong = f"{self.slack.url}/services/T000/B000/{secret('slack-wrong')}"
        with_user = f"http://user:{secret('userinfo')}@127.0.0.1:{self.angry.port}/"
        return {
            "taken": webhook(self.sink.url),
            "angry": webhook(self.angry.url),
            "down": webhook(self.down.url),
            "nobody": webhook(f"http://127.0.0.1:{free_port()}"),
            "no-tls": webhook(f"https://127.0.0.1:{self.sink.port}"),
            "with-user": {"connector": "webhook", "settings": {"url": with_user}, **ONCE},
            "slack": {"connector": "slack", "settings": {"webhook_url": self.slack.webhook_url}, **ONCE},
            "slack-wrong": {"connector": "slack", "settings": {"webhook_url": wrong}, **ONCE},
            "slack-token": {"connector": "slack", "settings": token, **ONCE},
            "mail": mail(self.mail.port),
            "mail-wrong": mail(self.strict.port),
            "tells": telling("receipt"),
            "faulty": telling("fault"),
        }


def config_for(counterparts: Counterparts, **more: Any) -> dict[str, Any]:
    users = [
        {"name": OPERATOR, "role": "operator", "password": CHEAP.hash(secret("dashboard"))},
        {"name": VIEWER, "role": "viewer", "password": CHEAP.hash(secret("dashboard"))},
    ]
    return config_of(
        counterparts.routes(),
        log={"format": "json", "level": "debug"},
        dashboard={"port": 0, "users": users, "metrics_token": secret("metrics")},
        stores={
            "main": {
                "url": "http://shop.test",
                "webhook_secrets": [secret("webhook-new"), secret("webhook-old")],
                "api_key": secret("api"),
            }
        },
        **more,
    )


class Search:
    """Everything that was said, looked through as it comes."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.looked: dict[str, int] = {}

    def look(self, kind: str, where: str, what: bytes | str) -> None:
        self.looked[kind] = self.looked.get(kind, 0) + 1
        self.found += [f"{kind} {one}" for one in seen_in(where, what)]


async def events_come(url: str, search: Search) -> None:
    """Taken under each secret; refused for each reason; over HTTP as all the world may send it."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for kind, key, body in (
            ("order.placed", secret("webhook-new"), None),
            ("order.placed", secret("webhook-old"), None),
            ("order.updated", "wrong", None),
            ("order.updated", secret("webhook-new"), b"no JSON"),
            ("order.updated", secret("webhook-new"), b'{"event":1}'),
        ):
            sent = to_bytes(sample(kind)) if body is None else body
            answer = await client.post(
                f"{url}/webhooks/main", content=sent, headers={SIGNATURE_HEADER: sign(sent, key)}
            )
            search.look("receiver", kind, f"{answer.headers} {answer.text}")
        for method, path in (("GET", "/webhooks/main"), ("POST", "/webhooks/none"), ("GET", "/readyz"), ("GET", "/")):
            answer = await client.request(method, f"{url}{path}")
            search.look("receiver", path, f"{answer.headers} {answer.text}")


# Pages that differ by what they show, not by a filter.
MOST_PAGES = 200 if WHOLE else 60


async def pages_are_looked_at(url: str, search: Search) -> None:
    """Whatever links lead to, as operator and viewer; every route tested; logins that go wrong."""
    for name in (OPERATOR, VIEWER) if WHOLE else (OPERATOR,):
        async with browser(url) as client:
            wrong = await log_in(client, name, f"{secret('dashboard')}x")
            search.look("page", "wrong login", wrong.text)
            assert (await log_in(client, name, secret("dashboard"))).status_code == 303
            if name == OPERATOR:
                await routes_are_tested(client, search)
            await crawled(client, search)


async def routes_are_tested(client: httpx.AsyncClient, search: Search) -> None:
    for route in Counterparts().routes():
        answer = await client.post(f"/routes/{route}/test", follow_redirects=True)
        assert answer.status_code == 200, route
        search.look("page", f"test of {route}", answer.text)


async def crawled(client: httpx.AsyncClient, search: Search) -> None:
    waiting = ["/", "/account", "/routes", "/refused", "/audit", "/replays", "/deliveries", "/events"]
    seen: set[str] = set()
    while waiting and len(seen) < MOST_PAGES:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        answer = await client.get(path)
        assert answer.status_code < 500, path
        search.look("page", path, f"{answer.headers} {answer.text}")
        links = [link.replace("&amp;", "&") for link in re.findall(r'href="(/[^"#]*)', answer.text)]
        waiting += [link for link in links if not link.endswith("/live") and (WHOLE or "?" not in link)]


async def metrics_are_read(url: str, search: Search) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for token, status in ((secret("metrics"), 200), (f"{secret('metrics')}x", 401)):
            headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.9"}
            answer = await client.get(f"{url}/metrics", headers=headers)
            assert answer.status_code == status
            search.look("metrics", token[:5], f"{answer.headers} {answer.text}")


def commands_are_given(console: Console, folder: Path, search: Search) -> None:
    """All that a person at the terminal asks, as text and as JSON; also what fails."""

    def give(*words: str) -> Any:
        for more in ((), ("--json",)):
            ran = console.hub(folder, *words, *more)
            search.look("command", " ".join(words), ran.out + ran.err)
        return ran

    events = give("events").json["events"]
    deliveries = give("deliveries").json["deliveries"]
    refusals = give("refused").json["refused"]
    shown = deliveries if WHOLE else {one["route"]: one for one in deliveries}.values()
    for one in (*events, *shown, *refusals):
        give("show", one["id"])
    for event in events[:2]:
        give("explain", event["id"])
    for words in (
        ("status",), ("replays",), ("check",), ("connectors",), ("sessions", "end", OPERATOR), ("login",),
        ("refused", "accept", refusals[0]["id"]), ("pause", "taken", "--reason", "x"), ("resume", "taken"),
        ("replay", "--status", "dead", "--dry-run"), ("replay", "--status", "dead", "--yes"), ("show", "evt_none"),
        ("send", "order.placed", "--url", "http://127.0.0.1:1"), ("backup", str(folder / "backup.db"), "--force"),
    ):  # fmt: skip
        give(*words)
    for words in (("config", "example"), ("config", "schema")):
        ran = console.hub(folder, *words)
        search.look("command", " ".join(words), ran.out + ran.err)


async def every_route_was_tried(console: Console, folder: Path) -> None:
    async def tried() -> bool:
        ran = await asyncio.to_thread(console.hub, folder, "deliveries", "--json", "--limit", "200")
        rows = ran.json["deliveries"]
        return {row["route"] for row in rows if row["attempts"]} == Counterparts().routes().keys()

    await eventually(tried, 90)


async def rows_are_read(url: str, search: Search) -> None:
    async with opened(url) as database:
        for table in SQLModel.metadata.tables.values():
            for row in await database.read(partial(all_of, table)):
                search.look("row", table.name, " ".join(as_text(value) for value in row))


def all_of(table: Table, connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(select(table)))


def as_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def folder_is_read(folder: Path, search: Search) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            search.look("file", path.name, path.read_bytes())


def process_is_looked_at(hub: HubProcess, search: Search) -> None:
    """Its log, its arguments, and those of the Valkey that it started."""
    for line in hub.lines:
        search.look("log", "line", json.dumps(line, ensure_ascii=False))
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if hub.pid in (int(path.name), parent):
                search.look("arguments", path.name, path.joinpath("cmdline").read_bytes())


def everything_was_used(there: Counterparts, search: Search) -> None:
    """The secrets went where they belong, or nothing would be shown by their absence elsewhere."""
    (taken, *_) = there.sink.received
    assert secret("path") in taken.path
    assert taken.headers["authorization"] == f"Bearer {secret('header')}"
    assert there.angry.received
    assert there.slack.messages
    assert there.mail.mails
    assert there.strict.visits
    assert set(search.looked) >= {"receiver", "page", "metrics", "row", "log", "arguments"}
    assert min(search.looked[kind] for kind in ("page", "row", "log")) > 30, search.looked


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    made = Console()
    yield made
    made.close()


@at_length
async def test_s28_no_secret_of_one_hub_is_seen_anywhere(console: Console, tmp_path: Path) -> None:
    """S28: `hub up` on SQLite: log, database file, backup, pages, answers of the local socket, metrics, commands."""
    search, there = Search(), Counterparts()
    async with there.open():
        config = write_config(tmp_path, config_for(there))
        async with hub_process(config, "up") as hub:
            dashboard = (await hub.said("dashboard.listening"))["url"]
            await events_come(hub.url, search)
            await every_route_was_tried(console, tmp_path)
            await pages_are_looked_at(dashboard, search)
            await metrics_are_read(dashboard, search)
            await asyncio.to_thread(commands_are_given, console, tmp_path, search)
            await operations_are_asked(tmp_path, search)
            process_is_looked_at(hub, search)
            folder_is_read(tmp_path, search)
            await hub.stop()
        for line in hub.lines:
            search.look("log", "end", json.dumps(line))
        await rows_are_read(f"sqlite:///{tmp_path}/data/hub.db", search)
        folder_is_read(tmp_path, search)
        everything_was_used(there, search)
    assert search.looked["command"] > 30
    assert not search.found, "\n".join(sorted(set(search.found)))[:20000]


async def operations_are_asked(folder: Path, search: Search) -> None:
    """The local socket's own answers: each operation, with arguments that make no sense, and without any."""
    path = json.loads((folder / "data" / "hub.json").read_text())["socket"]
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=60) as client:
        for name in (*OPERATIONS, "none"):
            for body in (b"{}", b"no JSON", b'{"id": "evt_none"}', b'{"route": "tells"}'):
                answer = await client.post(f"/{name}", content=body)
                search.look("socket", name, f"{answer.headers} {answer.text}")


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A Valkey whose password is known by its mark too."""
    server = ValkeyServer()
    server.password = secret("valkey")
    try:
        server.start()
        yield server
    finally:
        server.close()


@at_length
async def test_s28_no_secret_of_several_processes_is_seen_anywhere(
    console: Console, tmp_path: Path, postgres_url: str, own_valkey: ValkeyServer
) -> None:
    """S28: `hub serve`, `hub work` and `hub dashboard` on PostgreSQL, and all that ever was in Valkey."""
    search, there = Search(), Counterparts()
    address = postgres_url.replace("postgres@", f"postgres:{secret('database')}@")
    assert secret("database") in address
    async with there.open(), watched(own_valkey, search):
        config = write_config(tmp_path, config_for(there, database=address, redis=own_valkey.url))
        await make_schema(config)
        async with (
            hub_process(config, "serve") as serving,
            hub_process(config, "work") as working,
            hub_process(config, "dashboard") as showing,
        ):
            dashboard = (await showing.said("dashboard.listening"))["url"]
            await events_come(serving.url, search)
            await every_route_was_tried(console, tmp_path)
            await pages_are_looked_at(dashboard, search)
            await metrics_are_read(dashboard, search)
            # The same commands, which open the database themselves here.
            if WHOLE:
                await asyncio.to_thread(commands_are_given, console, tmp_path, search)
            keys_are_read(own_valkey, search)
            own_valkey.kill()
            await events_come(serving.url, search)
            for hub in (serving, working, showing):
                process_is_looked_at(hub, search)
                await hub.stop()
                for line in hub.lines:
                    search.look("log", "end", json.dumps(line))
        await rows_are_read(postgres_url, search)
        folder_is_read(tmp_path, search)
        everything_was_used(there, search)
    assert search.looked["valkey"] > 10
    assert not search.found, "\n".join(sorted(set(search.found)))[:20000]


@asynccontextmanager
async def watched(server: ValkeyServer, search: Search) -> AsyncIterator[None]:
    """Every command that Valkey is given meanwhile, by its own MONITOR."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"AUTH {server.password}\r\nMONITOR\r\n".encode())
    assert [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+OK\r\n"]

    async def listen() -> None:
        async for line in reader:
            search.look("valkey", "MONITOR", line)

    listening = asyncio.create_task(listen())
    yield
    writer.close()
    await asyncio.wait({listening}, timeout=10)
    listening.cancel()


def keys_are_read(server: ValkeyServer, search: Search) -> None:
    with server.client() as client:
        for key in client.scan_iter():
            search.look("valkey", str(key), key + (client.dump(key) or b""))


STARTS = {
    "database: 'postgresql://postgres:SECRET@127.0.0.1:1/hub'": (
        "up",
        "serve",
        "work",
        "db upgrade",
        "status",
        "check",
    ),
    "redis: 'redis://:SECRET@127.0.0.1:1/0'": ("check", "status"),
    "redis: 'redis://user:SECRET@no host:x/0'": ("up", "check"),
    "database: 'postgresql://postgres:SECRET@/hub?host=/nowhere'": ("up", "events"),
    "dashboard: {users: [{name: a, password: SECRET}], metrics_token: 'SECRET space'}": ("up", "check"),
    "routes: {a: {connector: webhook, settings: {url: 'SECRET', headers: {'X Y': SECRET}}}}": ("up", "check"),
    "routes: {a: {connector: slack, settings: {token: 'SECRET\\n', webhook_url: SECRET}}}": ("up", "check"),
}


@pytest.mark.parametrize("line", STARTS)
def test_s28_no_start_that_fails_shows_one(console: Console, tmp_path: Path, line: str) -> None:
    """S28: what is said where database, Redis or config are wrong, with a traceback or without."""
    stores = f"stores: {{main: {{url: 'http://shop.test', webhook_secrets: [{secret('webhook')}]}}}}\n"
    (tmp_path / "config.yaml").write_text(stores + line.replace("SECRET", secret("start")) + "\n")
    for words in STARTS[line]:
        ran = console.hub(tmp_path, *words.split())
        assert list(seen_in(words, ran.out + ran.err)) == []
        assert "Traceback" not in ran.err
        assert ran.out + ran.err
