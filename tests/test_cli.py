"""The command line as a person meets it: answers, errors, exit codes, a new config, and a hub at work."""

import asyncio
import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.config import load_config
from hub.errors import ConfigError
from hub.event import EVENT_TYPES
from hub.process import bound
from hub.testing import Answer, HttpSink, StoreDouble
from tests.console import Console, Ran, fails
from tests.hubs import config_of, hub_process, route, write_config

ROOT = Path(__file__).parents[1]
PATIENCE = 90.0
ESCAPES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    made = Console()
    yield made
    made.close()


def test_init_writes_a_config_that_works_and_keeps_its_secrets(console: Console, tmp_path: Path) -> None:
    ran = console.hub(tmp_path, "init", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert [line[:2] for line in ran.out.splitlines()[1:]] == ["1.", "2.", "3."]
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    (secret,) = load_config(tmp_path / "config.yaml", {}).stores["main"].webhook_secrets
    assert secret.reveal() in (tmp_path / ".env").read_text()
    assert secret.reveal() not in (tmp_path / "config.yaml").read_text() + ran.out
    assert console.hub(tmp_path, "check", "--offline").code == 0
    (tmp_path / "other").mkdir()
    console.hub(tmp_path / "other", "init", "--yes")
    assert load_config(tmp_path / "other" / "config.yaml", {}).stores["main"].webhook_secrets != (secret,)


def test_init_takes_answers_as_they_are(console: Console, tmp_path: Path) -> None:
    key, slack = """it's"a\\key"${HOME}""", "https://hooks.slack.test/services/T0/B0/x"
    ran = console.hub(tmp_path, "init", "--config", "hub/my.yaml", typed=f"https://shop.test\nno key\n{key}\n{slack}\n")
    assert (ran.code, key in ran.out + ran.err) == (0, False)
    config = load_config(tmp_path / "hub" / "my.yaml", {})
    store = config.stores["main"]
    assert (store.url, store.api_key and store.api_key.reveal()) == ("https://shop.test", key)
    assert config.routes["orders-to-slack"].settings.model_dump()["webhook_url"] == "****"
    assert {key, slack} < set(config.secrets())
    assert "hub up --config hub/my.yaml" in ran.out


@pytest.mark.parametrize("there", ["config.yaml", ".env"])
def test_init_overwrites_nothing(console: Console, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    fails(console.hub(tmp_path, "init", "--yes"), 1, f"{there} is there already")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize("typed", ["", "ftp://shop\n"])
def test_init_without_good_answers_writes_nothing(console: Console, tmp_path: Path, typed: str) -> None:
    ran = console.hub(tmp_path, "init", typed=typed)
    assert ran.code == 1
    assert "nobody answered" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_init_asks_again_at_once_and_takes_an_address_without_its_scheme(console: Console, tmp_path: Path) -> None:
    ran = console.hub(tmp_path, "init", typed="ftp://shop\nmy.shop\n\nhooks.slack.test\nhttps://hooks.slack.test/x\n")
    assert ran.code == 0
    assert ran.err.count("must be an address such as https://") == 2
    config = load_config(tmp_path / "config.yaml", {})
    assert (config.stores["main"].url, list(config.routes)) == ("https://my.shop", ["orders-to-slack"])


def test_the_config_is_shown_as_schema_and_as_example(console: Console, tmp_path: Path) -> None:
    assert "stores" in console.hub(tmp_path, "config", "schema").json["properties"]
    example = (ROOT / "config.example.yaml").read_text()
    assert console.hub(tmp_path, "config", "example").out == example
    console.hub(tmp_path, "config", "example", "--output", "all.yaml")
    assert (tmp_path / "all.yaml").read_text() == example
    (tmp_path / "all.yaml").write_text("mine")
    fails(console.hub(tmp_path, "config", "example", "--output", "all.yaml"), 1, "all.yaml is there already")
    assert (tmp_path / "all.yaml").read_text() == "mine"
    assert console.hub(tmp_path, "config", "example", "--output", "all.yaml", "--force").code == 0
    assert (tmp_path / "all.yaml").read_text() == example


def test_connectors_are_listed(console: Console, tmp_path: Path) -> None:
    found = console.hub(tmp_path, "connectors", "list", "--json").json["connectors"]
    assert {"email", "slack", "webhook"} <= {one["name"] for one in found}
    assert all(one["about"] for one in found)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a config of one route."""
    write_config(tmp_path, config_of({"one": route("http://127.0.0.1:9/")}, server={"port": 9}))
    return tmp_path


WRONG = {
    "bogus": "No such command 'bogus'",
    "events --bogus": "No such option: --bogus",
    "events --since yesterday": "--since: 'yesterday' is neither an age",
    "events --limit 0": "--limit: must be greater",
    "events --before nope": "--before",
    "deliveries --before nope": "--before: must be an id as the last page said it, dlv_…",
    "replays --before dlv_1": "--before: must be an id as the last page said it, rpl_…",
    "deliveries --status lost": "status: must be 'pending'",
    "show": "Missing argument",
    "replay": "say which: ids, or one of --status, --route, --entity, --error, --since",
    "replay --status dead --limit 0": "--limit: must be greater",
    "replay --status dead --pace 100000/s": "--pace: must be less",
    "replay --status pending": "status: must be",
    "replay --status dead --pace fast": "--pace must be",
    "replay --stop rpl_1 --status dead": "--stop goes with nothing else",
    "cancel": "name deliveries by id, or one --route",
    "cancel dlv_1 --route one": "name deliveries by id, or one --route",
    "cancel dlv_1 --pace 1/s": "--pace goes with --route",
    "release": "name deliveries by id, or one --route",
    "release --route one --pace never": "--pace must be",
    "send order.placed --store other": "--store: there is main",
    "send order.placed --data []": "--data must be a JSON object",
    "send order.placed --data {": "--data is not JSON",
    "send order.placed --url shop": "--url must be a whole address",
    "send order.placed --url http://[::1": "--url must be a whole address",
    "send order.placed --url http://shop:99999": "--url must be a whole address",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_is_code_2_and_opens_nothing(console: Console, shop: Path, words: str) -> None:
    fails(console.hub(shop, *words.split()), 2, WRONG[words])
    assert [path.name for path in shop.iterdir()] == ["config.yaml"]


def test_without_a_command_it_tells_them_all(console: Console, tmp_path: Path) -> None:
    ran = console.hub(tmp_path)
    assert (ran.code, ran.out) == (2, "")
    listed = re.findall(r"^  (\w+) ", ran.err.partition("Commands:")[2], re.MULTILINE)
    asked = (
        "up serve work init check send status events deliveries replays show explain replay pause resume release cancel"
    )
    of_the_dashboard = {"dashboard", "passwd", "login", "sessions"}
    more = {"backup", "restore", "refused", "reorders", "db", "config", "connectors", "demo", "store", "stores"}
    assert set(listed) == {*asked.split(), *of_the_dashboard, *more}


FAILED = {
    "show evt_none": "evt_none: there is nothing of that id",
    "explain ord_none": "ord_none: no event is found by that",
    "pause none": "there is no route none; there is one",
    "release dlv_none": "dlv_none: there is no such delivery",
    "cancel dlv_none": "dlv_none: there is no such delivery",
    "cancel --route one": "nothing to cancel: nothing is pending or held on route one",
    "cancel --route onne": "there is no route onne; there is one",
    "deliveries --route onne": "there is no route onne; there is one",
    "deliveries --error tmeout": "there is no error tmeout; there are none",
    "events --store mian": "there is no store mian; there is main",
    "replay --status dead --route onne": "there is no route onne; there is one",
    "replay --status gone --route onne --to one": "there is no route onne; there is one",
    "replay --status dead --json": "nothing to replay",
    "refused accept ref_none": "ref_none: there is no such refusal",
    "reorders --store mian": "there is no store mian; there is main",
    "reorders approve pur_none": "pur_none: there is no such order; `hub reorders --state waiting`",
    "reorders drop pur_none --why no": "pur_none: there is no such order",
    "reorders close reo_none --why no": "reo_none: there is no open reorder of that id",
    "reorders plan --route one": "route one orders nothing; there is no route that does",
    "replay --stop rpl_none": "rpl_none: there is no such replay",
    "send order.placed": "nothing listens at http://127.0.0.1:9/webhooks/main: start the hub with `hub up`",
    "serve": "SQLite serves one process, `hub up`",
    "events --config none.yaml": "none.yaml: there is no such file; `hub init` writes one",
}


@pytest.mark.parametrize("words", FAILED)
def test_what_fails_is_code_1_and_one_line(console: Console, shop: Path, words: str) -> None:
    fails(console.hub(shop, *words.split()), 1, FAILED[words])


def test_the_config_comes_from_the_environment_too(console: Console, shop: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    fails(console.hub(elsewhere, "events"), 1, "config.yaml: there is no such file")
    assert console.hub(elsewhere, "events", "--json", HUB_CONFIG=str(shop / "config.yaml")).json["events"] == []


def test_every_mistake_of_the_config_has_its_line(console: Console, shop: Path) -> None:
    config = yaml.safe_load((shop / "config.yaml").read_text())
    config["routes"]["one"] |= {"timeout": "soon", "conector": "x"}
    write_config(shop, config)
    ran = console.hub(shop, "status")
    assert (ran.code, ran.out) == (1, "")
    assert sorted(re.findall(r"^hub: config.yaml:\d+: (\S+):", ran.err, re.MULTILINE)) == [
        "routes.one.conector", "routes.one.timeout",
    ]  # fmt: skip
    checks = console.hub(shop, "check", "--json")
    assert (checks.code, len(checks.json["checks"]), checks.json["ok"]) == (1, 2, False)


def a_file(shop: Path) -> str:
    (shop / "data").write_text("a file")
    return f"data folder {shop / 'data'} cannot be written (a file is in its place): move it away, or set `data_dir`"


def inside_a_file(shop: Path) -> str:
    change(shop, data_dir="config.yaml/data", database="sqlite:///hub.db")
    return f"data folder {shop / 'config.yaml/data'} cannot be written (a file is in its place)"


def where_nothing_can_be_made(shop: Path) -> str:
    change(shop, data_dir="/proc/hub")
    return "data folder /proc/hub cannot be written (No such file or directory): let the user who runs the hub write"


def garbage(shop: Path) -> str:
    (shop / "data").mkdir()
    (shop / "data" / "hub.db").write_text("certainly no database at all")
    return f"database: {shop / 'data' / 'hub.db'} is no SQLite database: move it away"


def a_folder(shop: Path) -> str:
    (shop / "data" / "hub.db").mkdir(parents=True)
    return f"database: {shop / 'data' / 'hub.db'} is a folder"


def change(shop: Path, **more: Any) -> None:
    write_config(shop, yaml.safe_load((shop / "config.yaml").read_text()) | more)


@pytest.mark.parametrize("spoil", [a_file, inside_a_file, where_nothing_can_be_made, garbage, a_folder])
def test_a_data_folder_that_cannot_be_used_is_named_by_every_command(
    console: Console, shop: Path, spoil: Callable[[Path], str]
) -> None:
    says = spoil(shop)
    fails(console.hub(shop, "status"), 1, says)
    fails(console.hub(shop, "up"), 1, says)
    found = {one["name"]: one for one in console.hub(shop, "check", "--json").json["checks"]}
    assert (found["database"]["ok"], says in found["database"]["text"]) == (False, True)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("no-such-host.invalid", "server: no-such-host.invalid cannot be resolved"),
        ("192.0.2.7", "server: 192.0.2.7 is no address of this machine"),
    ],
)
def test_a_host_that_cannot_be_listened_on_is_named(host: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}.*server.host"):
        bound(host, 8600)


def test_without_a_hub_status_says_so(console: Console, shop: Path) -> None:
    ran = console.hub(shop, "status")
    assert ran.code == 1
    assert "no hub runs on this folder, so nothing is received or delivered: start `hub up`" in ran.out


def test_a_type_that_is_nearly_known_is_doubted_and_the_help_lists_them_all(console: Console, shop: Path) -> None:
    ran = console.hub(shop, "send", "order.place")
    assert "order.place is no known type and goes out as it is; did you mean order.placed?" in ran.err
    assert "did you mean" not in console.hub(shop, "send", "loyalty.earned").err
    told = " ".join(console.hub(shop, "send", "--help").out.split())
    assert [kind for kind in EVENT_TYPES if kind not in told] == []


async def test_check_asks_each_connector(console: Console, tmp_path: Path) -> None:
    async with HttpSink() as sink:
        routes = {"good": route(sink.url), "bad": route("http://127.0.0.1:9/secret-path?token=canary")}
        write_config(tmp_path, config_of(routes))
        ran = await asyncio.to_thread(console.hub, tmp_path, "check", "--json")
        found = {one["name"]: one for one in ran.json["checks"]}
    assert ran.code == 1
    assert {name: one["ok"] for name, one in found.items()} == {
        "config": True, "database": True, "redis": True, "route good": True, "route bad": False,
    }  # fmt: skip
    assert "no connection to 127.0.0.1:9" in found["route bad"]["text"]
    assert "canary" not in ran.out + ran.err
    assert not (tmp_path / "data" / "hub.db").exists()
    assert len(sink.received) == 0


class Desk:
    """A person at the terminal of a hub's folder, while the hub runs."""

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self._folder = folder

    async def hub(self, *words: str, typed: str = "") -> Ran:
        return await asyncio.to_thread(self._console.hub, self._folder, *words, typed=typed)

    async def ask(self, *words: str) -> Any:
        """What it answers with --json; it must succeed."""
        ran = await self.hub(*words, "--json")
        said = [line for line in ran.err.splitlines() if not re.fullmatch(r"hub: rpl_\w+ begins", line)]
        assert (ran.code, said) == (0, [])
        return ran.json

    async def settled(self, count: int) -> list[dict[str, Any]]:
        """The deliveries, once `count` are neither pending nor held."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found: list[dict[str, Any]] = (await self.ask("deliveries"))["deliveries"]
                if sum(one["status"] not in {"pending", "held"} for one in found) >= count:
                    return found


async def test_a_persons_day_with_a_running_hub(console: Console, tmp_path: Path) -> None:
    """Sends, looks, pauses, cancels, replays: each command against one `hub up`."""
    refusing = Answer(400, b"\x1b[31mno\x9b2J [red]total[/red] \xe2\x80\xaewrong")
    async with HttpSink() as good, HttpSink(default=refusing) as bad:
        routes = {"good": route(good.url), "bad": route(bad.url, when="data.total > 1000")}
        config = write_config(tmp_path, config_of(routes))
        desk = Desk(console, tmp_path)
        async with hub_process(config, "up") as hub:
            url = (await hub.said("hub.listening"))["url"]
            await _sends(desk, url)
            await _looks(desk)
            await _pauses(desk, url)
            await _replays(desk, good)
            status = await desk.ask("status")
            assert (status["status"], status["routes"]["bad"]["dead"]) == ("ok", 1)
            assert (await desk.ask("check"))["ok"]


async def _sends(desk: Desk, url: str) -> None:
    data = json.dumps({"orderId": "[red]7[/red]", "orderNo": 1042, "total": 2000.5})
    sent = await desk.ask("send", "order.placed", "--url", url, "--data", data)
    assert (sent["sent"]["data"]["total"], sent["answer"]["data"]["duplicate"]) == (2000.5, False)
    ran = await desk.hub("send", "order.placed", "--url", f"{url}/webhooks/main")
    assert ran.out.startswith('200 {"success": true')
    assert len(await desk.settled(3)) == 3
    own = await desk.hub("send", "hub.behind", "--url", url)
    assert (own.code, "takes none from outside" in own.err) == (2, True)


async def _looks(desk: Desk) -> None:
    """Text from outside is shown, and does nothing: no markup, no escape sequence."""
    (event,) = (await desk.ask("events", "-q", "1042"))["events"]
    assert {one["route"]: one["status"] for one in event["deliveries"]} == {"good": "delivered", "bad": "dead"}
    (dead,) = (await desk.ask("deliveries", "--status", "dead"))["deliveries"]
    for words in (("explain", "1042"), ("show", event["id"]), ("show", dead["id"]), ("deliveries",), ("status",)):
        ran = await desk.hub(*words)
        assert ran.code == 0
        assert "[31mno" in ran.out
        assert "[red]total[/red]" in ran.out
        assert ESCAPES.search(ran.out) is None
        assert "\u202e" not in ran.out
    assert "order:[red]7[/red]" in (await desk.hub("events")).out
    assert (await desk.hub("show", event["id"], "--json")).out.isascii()


async def _pauses(desk: Desk, url: str) -> None:
    assert (await desk.ask("pause", "good", "--reason", "stock-taking"))["changed"]
    assert (await desk.hub("pause", "good")).out == "good was paused already\n"
    await desk.hub("send", "order.placed", "--url", url)
    async with asyncio.timeout(PATIENCE):
        while not (held := (await desk.ask("deliveries", "--status", "held"))["deliveries"]):
            pass
    assert "is paused since" in (await desk.hub("explain", held[0]["event_id"])).out
    assert (await desk.hub("cancel", "--route", "good", typed="n\n")).code == 1
    begun = await desk.ask("cancel", "--route", "good", "--yes")
    assert (begun["action"], begun["state"], begun["done"]) == ("cancel", "done", 1)
    assert (await desk.ask("show", held[0]["id"]))["last_error"].startswith("cancelled by ")
    assert (await desk.hub("resume", "good")).out == "good goes on\n"


async def _replays(desk: Desk, good: HttpSink) -> None:
    """Nothing is replayed without a yes; what was sent is found; as new it is asked twice and sent again."""
    preview = await desk.ask("replay", "--route", "good", "--dry-run")
    assert (preview["by_status"], preview["already_sent"]) == ({"delivered": 2, "skipped": 1}, 2)
    for typed in ("", "n\n"):
        ran = await desk.hub("replay", "--route", "good", typed=typed)
        assert ran.code == 1
        assert "2 were sent before" in ran.out
    done = await desk.ask("replay", "--route", "good", "--status", "delivered", "--yes", "--pace", "1000/s")
    assert (done["done"], done["state"], done["pace"]) == (2, "done", 1000)
    await desk.settled(4)
    assert len(good.received) == 2
    ran = await desk.hub("replay", "--route", "good", "--status", "delivered", "--as-new", typed="y\nn\n")
    assert (ran.code, "WILL BE SENT AGAIN" in ran.out) == (1, True)
    assert (await desk.hub("replay", "--route", "good", "--status", "delivered", "--as-new", typed="y\ny\n")).code == 0
    await good.wait(4, PATIENCE)
    assert len({request.key for request in good.received}) == 4


async def test_without_a_hub_commands_work_on_the_database_themselves(console: Console, tmp_path: Path) -> None:
    """What is accepted and replayed while no hub runs is sent by the next one."""
    async with HttpSink(default=Answer(400, b"no")) as sink:
        config = write_config(tmp_path, config_of({"one": route(sink.url)}))
        async with hub_process(config, "up") as hub:
            url = (await hub.said("hub.listening"))["url"]
            async with StoreDouble(f"{url}/webhooks/main", "not the secret of that shop") as other:
                assert (await other.send("order.placed")).status_code == 401
            desk = Desk(console, tmp_path)
            await desk.hub("send", "order.placed", "--url", url)
            assert (await desk.hub("send", "order.placed", "--url", f"{url}/webhooks/other")).code == 1
            await desk.settled(1)
        refused = (await desk.ask("refused"))["refused"][-1]
        assert "still refused: the signature" in (await desk.hub("refused", "accept", refused["id"])).err
        config.write_text(
            config.read_text().replace("webhook_secrets:", "webhook_secrets:\n    - not the secret of that shop")
        )
        accepted = await desk.ask("refused", "accept", refused["id"])
        assert accepted["duplicate"] is False
        assert accepted["id"] in (await desk.hub("refused")).out
        assert (await desk.hub("replay", "--status", "dead", "--yes")).code == 0
        sink.default = Answer()
        async with hub_process(config, "up"):
            await sink.wait(3, PATIENCE)
            assert {one["status"] for one in await desk.settled(2)} == {"delivered"}


async def test_what_waits_for_a_route_that_is_gone_goes_along_another(console: Console, tmp_path: Path) -> None:
    """The hub says at its start that it waits, and the remedy that it names works; also for what no route took."""
    old = {"old": route("http://127.0.0.1:9/", events=["order.*"])}
    async with HttpSink() as sink:
        desk = Desk(console, tmp_path)
        async with hub_process(write_config(tmp_path, config_of(old)), "up") as hub:
            await desk.ask("pause", "old")
            for kind in ("order.placed", "order.updated", "product.created"):
                await desk.hub("send", kind, "--url", hub.url)
            await hub.said("hub.listening")
        config = write_config(tmp_path, config_of({"new": route(sink.url, events=["none"])}))
        async with hub_process(config, "up") as hub:
            said = await hub.said("route.gone", route="old")
            assert (said["waiting"], "hub replay --status gone --route old --to OTHER" in said["remedy"]) == (2, True)
            assert (
                "2 events would be sent along route new"
                in (await desk.hub("replay", "--status", "gone", "--route", "old", "--to", "new", "--yes")).out
            )
            await sink.wait(2)
            (left,) = (await desk.ask("events", "--type", "product.created"))["events"]
            told = (await desk.hub("explain", left["id"])).out
            assert f"`hub replay {left['id']} --to ROUTE`" in told
            assert (await desk.ask("replay", left["id"], "--to", "new", "--yes"))["total"] == 1
            await sink.wait(3)
            ran = await desk.hub("replay", "--route", "old", "--to", "nowhere", "--yes")
            assert (ran.code, "there is no route nowhere; there is new" in ran.err) == (1, True)


async def test_on_postgresql_commands_open_the_database_beside_the_others(
    console: Console, tmp_path: Path, postgres_url: str, valkey_server: Any
) -> None:
    shared = {"database": postgres_url, "redis": valkey_server.url}
    write_config(tmp_path, config_of({"one": route("http://127.0.0.1:9/")}, **shared))
    fails(console.hub(tmp_path, "events"), 1, "Run: hub db upgrade")
    checks = {one["name"]: one for one in console.hub(tmp_path, "check", "--json").json["checks"]}
    assert (checks["database"]["ok"], checks["redis"]["ok"]) == (False, True)
    assert console.hub(tmp_path, "db", "upgrade").code == 0
    assert console.hub(tmp_path, "events", "--json").json["events"] == []
    valkey_server.kill()
    (away, nobody) = console.hub(tmp_path, "status", "--json").json["reasons"]
    assert "Redis does not answer" in away
    assert "no worker was seen" in nobody
    assert valkey_server.password not in away


@pytest.mark.parametrize(("words", "code"), [("config schema", 0), ("status", 1), ("bogus", 2)])
def test_a_process_ends_with_that_code(tmp_path: Path, words: str, code: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "hub.cli", *words.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ran.returncode, bool(ran.stdout), bool(ran.stderr)) == (code, code == 0, code != 0)
