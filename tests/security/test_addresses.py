"""No private address is reached that `network.allow` does not name, by whatever a config or an answer says (S17).

tests/test_guard.py shows it of the client; here it is shown of the connectors and of the hub that runs them. Nothing
leaves loopback: what is public is asked of the guard alone, or ends in `dialled`.
"""

import re
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.email import Email
from connectors.slack import Slack
from connectors.webhook import Webhook
from hub.client import Guard
from hub.connector import Connector
from hub.errors import AddressRefused
from hub.testing.bench import open_bench
from hub.testing.samples import event_of, sample, sign, to_bytes
from tests import test_guard
from tests.hostile import Hostile, answer, hostile
from tests.hubs import SECRET, command, config_of, hub_process, route, write_config
from tests.security.wire import Client, request
from tests.servers import eventually
from tests.test_guard import PUBLIC, SPELLINGS
from tests.whole import WHOLE, at_length

canary, dialled = test_guard.canary, test_guard.dialled
# The client beneath is shown all of them in any case.
SPELT = SPELLINGS if WHOLE else SPELLINGS[::4]


@pytest.fixture(autouse=True)
def no_name_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are not this machine's own are looked up nowhere."""
    truly = socket.getaddrinfo

    def looked_up(host: Any, *more: Any, **options: Any) -> Any:
        name = (host.decode() if isinstance(host, bytes) else host or "").rstrip(".").lower()
        if name in {"", "localhost"} or re.fullmatch(r"[0-9a-fx.:%lo]+", name):
            return truly(host, *more, **options)
        raise socket.gaierror(socket.EAI_NONAME, "nobody is asked here")

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)


# Addresses that some reader of URLs takes for another host than some other does.
CONFUSING = [
    "http://example.com@127.0.0.1:PORT/", "http://example.com:80@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT#@example.com/",
    "http://127.0.0.1:PORT\\@example.com/", "http://127.0.0.1:PORT?@example.com/",
    "http://example.com\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT/\r\nHost: example.com", "http://example.com\r\n@127.0.0.1:PORT/", "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/", "http:///127.0.0.1:PORT/", "http:\\\\127.0.0.1:PORT\\", "//127.0.0.1:PORT/",
    "\thttp://127.0.0.1:PORT/", "ht\ntp://127.0.0.1:PORT/", "http://127.0.0.1\t:PORT/", "http://%31%32%37.0.0.1:PORT/",
    "http://127.0.0.1%20:PORT/", "http://127.0.0.1%00.example.com:PORT/", "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::1%25lo]:PORT/", "http://①②⑦.⓪.⓪.①:PORT/", "http://127。0。0。1:PORT/", "http://loc\u00adalhost:PORT/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/", "http://localhost.:PORT/", "http://LOCALHOST:PORT/", "http://0x7f000001:PORT/",
    "http://0/", "http://:PORT/", "http://@127.0.0.1:PORT/", "http://user:pw@[::1]:PORT/", "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/_x", "ftp://127.0.0.1:PORT/", "dict://127.0.0.1:PORT/", "ws://127.0.0.1:PORT/",
    "unix:///tmp/socket", "http+unix://%2Ftmp%2Fsocket/", "javascript:alert(1)", "data:text/plain,x",
    "jar:http://127.0.0.1!/",
    "ldap://127.0.0.1:PORT/", "tftp://127.0.0.1:PORT/", "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/", "http://metadata.invalid@169.254.169.254/", "",
]  # fmt: skip


def webhook(url: str) -> dict[str, Any]:
    return {"url": url}


def slack(url: str) -> dict[str, Any]:
    return {"webhook_url": url}


def slack_api(url: str) -> dict[str, Any]:
    return {"token": "xoxb-x", "channel": "C0123456", "api_url": url}


BY_URL: list[tuple[Any, Any]] = [(Webhook, webhook), (Slack, slack), (Slack, slack_api)]


async def tried(connector: Any, settings: dict[str, Any]) -> None:
    """Delivered, checked and previewed with these settings by a hub that allows nothing private."""
    try:
        made: Connector = connector(connector.Settings.model_validate(settings))
    except ValidationError:
        # Refused when the config is read, which is as good.
        return
    event = event_of(sample("order.placed"))
    async with open_bench(nullcontext(FakeCounterpart()), allow=()) as bench:
        for work in (made.deliver, made.preview):
            with pytest.raises(Exception) if work == made.deliver else nullcontext():
                await work(event, bench.context(event))
        with pytest.raises(Exception):  # noqa: B017
            await made.check(bench.context(event))


class FakeCounterpart:
    """Nobody: what a bench is told of where there is no counterpart."""

    url = "http://127.0.0.1:9"


@pytest.mark.parametrize("url", [*CONFUSING, *(f"http://{one}:PORT/hook" for one in SPELT)])
async def test_s17_no_connector_reaches_one_by_any_url(url: str, canary: Hostile, dialled: list[str]) -> None:
    """S17: each spelling in each setting that holds an address: nothing is dialled, also by check and preview."""
    for connector, settings in BY_URL:
        await tried(connector, settings(url.replace("PORT", str(canary.port))))
    assert dialled == []


@pytest.mark.parametrize("spelling", [one.strip("[]") for one in SPELT])
async def test_s17_nor_a_mail_server(spelling: str, canary: Hostile, dialled: list[str]) -> None:
    """S17: the same in `host` of a mail route."""
    for security in ("none", "starttls", "tls"):
        settings = {"host": spelling, "port": canary.port, "security": security}
        await tried(Email, settings | {"from": "shop@example.test", "to": ["ops@example.test"]})
    assert dialled == []


@pytest.mark.parametrize("port", [22, 25, 587, 3306, 5432, 6379, 9200, 11211])
def test_s17_another_port_of_an_allowed_host_stays_shut(port: int) -> None:
    """S17: an entry of `network.allow` is a host and a port; what is public is not the guard's to judge by its port."""
    guard = Guard(["127.0.0.1:8069", "erp.local:8069", "10.0.0.0/8:8069"])
    for host, address in (("127.0.0.1", "127.0.0.1"), ("erp.local", "10.0.0.5"), ("10.0.0.7", "10.0.0.7")):
        guard.check(host, 8069, [address])
        with pytest.raises(AddressRefused):
            guard.check(host, port, [address])
    guard.check("example.com", port, [PUBLIC])


REDIRECTS = ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]


@at_length
async def test_s17_a_hub_reaches_none_by_settings_or_redirects(tmp_path: Path, canary: Hostile) -> None:
    """S17: `hub up` with routes into the machine,
    and to a destination that sends on there: the canary hears nothing."""
    onwards = [canary.url, "http://169.254.169.254/latest/", f"//127.0.0.1:{canary.port}/", "file:///etc/passwd"]
    behaviours = [answer(b"", status, f"Location: {to}") for status, to in zip(REDIRECTS, onwards * 2, strict=False)]
    quick = {"retry": {"schedule": ["10ms"] * (len(behaviours) - 1)}}
    mail = {"host": "127.0.0.1", "port": canary.port, "security": "none", "from": "a@b.test", "to": ["c@d.test"]}
    async with hostile(*behaviours) as server:
        routes = {
            "sent-on": route(server.url, **quick),
            "inside": route(canary.url),
            "metadata": route("http://169.254.169.254/latest/meta-data/"),
            "slack": {"connector": "slack", "settings": {"webhook_url": canary.url}},
            "mail": {"connector": "email", "settings": mail},
        }
        config = write_config(tmp_path, config_of(routes, network={"allow": [server.authority]}))
        async with hub_process(config, "up") as hub:
            body = to_bytes(sample("order.placed"))
            client = Client(hub.url)
            assert await client.status(request([sign(body, SECRET).encode()], body)) == 200
            client.close()

            async def told() -> dict[str, Any] | None:
                _, said, _ = await command(config, "deliveries", "--json")
                found = {one["route"]: one for one in said["deliveries"]}
                return found if len(found) == len(routes) and all(one["last_error"] for one in found.values()) else None

            await eventually(lambda: len(server.asked) >= len(behaviours), 90)
            found = await eventually(told, 90)
            assert found is not None
            for name in ("inside", "metadata", "slack", "mail"):
                assert "is a private address; add" in found[name]["last_error"], name
            ran, said, _ = await command(config, "check", "--json")
            assert (ran, said["ok"]) == (1, False)
    assert canary.asked == []
