"""The config file: what it may say, how it says what is wrong, and that no text shows a secret."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, TypeAdapter, field_validator

from hub.config import (
    EVENT_TYPES,
    Config,
    Retry,
    Route,
    Store,
    Worker,
    config_schema,
    find_connector,
    load_config,
    route_fingerprint,
)
from hub.connector import Connector, Context, Event, Receipt, Secret, Template
from hub.errors import ConfigError
from hub.example import example_yaml
from hub.units import Duration, Rate, RateSetting, duration_text, parse_duration, parse_rate
from hub.yamlfile import read_environment, read_yaml

CANARY = "canary-5c7e-not-to-be-seen"
ROOT = Path(__file__).parents[1]
STORES = f"stores: {{main: {{url: 'https://shop.example', webhook_secrets: [{CANARY}]}}}}\n"
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = TypeAdapter(Duration)
RATE = TypeAdapter(RateSetting)


class Part(Connector.Settings):
    line: Template = Template("x")
    key: Secret | None = None


class Probe(Connector):
    """A connector for these tests, named in the config as package.module:Class."""

    class Settings(Connector.Settings):
        model_config = ConfigDict(populate_by_name=True)

        url: Secret
        sender: str = Field("shop@example.com", alias="from")
        text: Template | None = None
        parts: tuple[Part, ...] = ()
        more: dict[str, Template] = Field(default_factory=dict)
        headers: dict[str, Secret] = Field(default_factory=dict)
        ca_file: Path | None = None
        odd: str = ""

        @field_validator("odd")
        @classmethod
        def _even(cls, odd: str) -> str:
            if odd:
                raise ValueError(f"{odd} is odd")
            return odd

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        return Receipt(f"{event.id} under {ctx.key}")


class NoDeliver(Connector):
    pass


PROBE = f"{__name__}:Probe"
NOT_A_CLASS = 3
ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcde", "bcdef", strict=True)
)


def route(*lines: str) -> str:
    return STORES + "routes:\n  one:\n    connector: " + PROBE + "\n" + "".join(f"    {line}\n" for line in lines)


def with_url(*lines: str) -> str:
    return route("settings: {url: x}", *lines)


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return load_config(folder / "config.yaml", environ or {})


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.problems == str(caught.value).split("\n")
    return caught.value.problems


def test_the_issues_example_loads(tmp_path: Path) -> None:
    text = """\
server: {host: 127.0.0.1, port: 8600, public_url: null, trusted_proxies: []}
database: sqlite:///data/hub.db          # or postgresql://…
redis: embedded                          # or redis://…
network: {allow: ["erp.local:8069"]}     # private addresses
stores:
  main:
    url: https://shop.example
    api_key: "${LITEKART_API_KEY}"
    webhook_secrets: ["${LITEKART_WEBHOOK_SECRET}"]   # several while rotating
routes:
  big-orders:
    connector: slack
    stores: [main]
    events: [order.placed, "payment.*"]
    when: data.total >= 100
    settings: {webhook_url: "${SLACK_URL}"}
    timeout: 15s
    concurrency: 10
    rate: 1/s
    ordered: false
    max_age: null
    retry: {schedule: [5s, 1m, 5m, 30m, 2h, 5h, 10h, 24h, 24h]}
"""
    environ = {
        "LITEKART_API_KEY": "lk_1",
        "LITEKART_WEBHOOK_SECRET": CANARY,
        "SLACK_URL": "https://hooks.slack.com/services/T/B/x",
    }
    config = load(tmp_path, text, environ)
    big = config.routes["big-orders"]
    assert big.connector_class is find_connector("slack")
    assert isinstance(big.settings, find_connector("slack").Settings)
    assert big.condition is not None
    assert big.condition.fields == ["data.total"]
    assert (big.timeout, big.concurrency, big.rate) == (timedelta(seconds=15), 10, Rate(1, "s"))
    assert [duration_text(wait) for wait in big.retry.schedule][-2:] == ["1d", "1d"]
    assert big.retry == Retry()
    assert config.sqlite_path == tmp_path / "data/hub.db"
    assert config.data_dir == tmp_path / "data"
    assert config.redis_url is None
    assert config.network.allow == ("erp.local:8069",)
    assert config.secrets() == sorted(environ.values())
    assert config.warnings == []
    assert CANARY not in repr(config) + config.model_dump_json()


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, route("settings: {url: https://x.example}"))
    one = config.routes["one"]
    assert (one.stores, one.events, one.when, one.condition) == (None, ("*",), None, None)
    assert (one.ordered, one.max_age, one.rate) == (False, None, None)
    assert one.timeout == timedelta(seconds=15)
    assert config.worker == Worker(lease_margin="20s")
    assert (config.server.port, config.log.level, config.log.format) == (8600, "info", "auto")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "config.yaml:1: stores: is missing: The shops, by a name of your choice."),
        ("- a", "config.yaml:1: must be keys with values"),
        (STORES + "srever: {}\n", "config.yaml:2: srever: unknown; did you mean server?"),
        (
            STORES + "server:\n  port: 8600\n  prot: 1\n",
            "config.yaml:4: server.prot: unknown; did you mean port?",
        ),
        (
            route("settings: {url: x, txt: y}"),
            "config.yaml:5: routes.one.settings.txt: unknown; did you mean text?",
        ),
        (
            route("settings: {url: x, parts: [{key: a}, {keey: a}]}"),
            "config.yaml:5: routes.one.settings.parts[1].keey: unknown; did you mean key?",
        ),
        (route("settings: {url: x, form: y}"), "config.yaml:5: routes.one.settings.form: unknown; did you mean from?"),
        (route(), "config.yaml:3: routes.one.settings.url: is missing"),
        (route("settings:", "  url: 12"), "config.yaml:6: routes.one.settings.url: must be text: put it in quotes"),
        (route("settings: {url: ''}"), "config.yaml:5: routes.one.settings.url: must not be empty"),
        (
            route("settings:", "  url: x", "  more:", "    a: '{{ data. }}'"),
            "config.yaml:8: routes.one.settings.more.a: expected name or number",
        ),
        (
            route("settings:", "  url: x", "  parts:", "    - line: '{{ 1 | mony }}'"),
            "config.yaml:8: routes.one.settings.parts[0].line: no filter named mony; there is money",
        ),
        (with_url("when: data.totl >"), "config.yaml:6: routes.one.when: unexpected 'end of template'"),
        (with_url("when: dta.total > 1"), "config.yaml:6: routes.one.when: no name dta; there is data"),
        (
            with_url("stores: [mian]"),
            "config.yaml:6: routes.one.stores[0]: no store named mian; there is main",
        ),
        (
            with_url("timeout: 15"),
            "config.yaml:6: routes.one.timeout: must be a whole number and a unit, such as 500ms, 15s, 5m, 2h or 90d",
        ),
        (with_url("timeout: 11m"), "config.yaml:6: routes.one.timeout: must be from 1 s to 600 s"),
        (with_url("timeout: 0s"), "config.yaml:6: routes.one.timeout: must be from 1 s to 600 s"),
        (
            with_url("rate: 1"),
            "config.yaml:6: routes.one.rate: must be a number for each second, minute or hour, such as 1/s, "
            "30/m or 500/h",
        ),
        (
            with_url("events: order.placed"),
            "config.yaml:6: routes.one.events: must be a list: [one, another]",
        ),
        (with_url("events: []"), "config.yaml:6: routes.one.events: needs at least 1"),
        (
            STORES + "routes: {a: {connector: slak}}\n",
            "config.yaml:2: routes.a.connector: no connector named slak is installed; there is slack",
        ),
        (
            STORES + "routes: {a: {connector: 'no.such:Thing'}}\n",
            "config.yaml:2: routes.a.connector: connector no.such:Thing: no.such:Thing cannot be imported: "
            "ModuleNotFoundError: No module named 'no'",
        ),
        (
            STORES + f"routes: {{a: {{connector: '{__name__}:NoDeliver'}}}}\n",
            f"config.yaml:2: routes.a.connector: connector {__name__}:NoDeliver: {__name__}:NoDeliver has no deliver",
        ),
        (
            STORES + f"routes: {{a: {{connector: '{__name__}:NOT_A_CLASS'}}}}\n",
            f"config.yaml:2: routes.a.connector: connector {__name__}:NOT_A_CLASS: {__name__}:NOT_A_CLASS is not "
            "a Connector",
        ),
        (
            STORES + "routes: {A b: {connector: '" + PROBE + "', settings: {url: x}}}\n",
            "config.yaml:2: routes.A b: a name has small letters, digits, - and _, starts with a letter or digit, "
            "and has at most 63 characters",
        ),
        (
            f"stores:\n  hub: {{url: 'https://a.example', webhook_secrets: [{CANARY}]}}\n",
            "config.yaml:2: stores.hub: is the hub's own name; choose another",
        ),
        ("stores: {}\n", "config.yaml:1: stores: needs at least 1"),
        (
            "stores: {a: {url: 'https://a.example', webhook_secrets: []}}\n",
            "config.yaml:1: stores.a.webhook_secrets: needs at least 1",
        ),
        (
            "stores: {a: {url: 'https://a.example', webhook_secrets: [fifteen-letters]}}\n",
            "config.yaml:1: stores.a.webhook_secrets[0]: a webhook secret has at least 16 characters",
        ),
        (STORES + "database: mysql://x\n", "config.yaml:2: database: must be sqlite:///FILE or postgresql://user:password@host/name"),
        (STORES + "database: 'sqlite://'\n", "config.yaml:2: database: must be sqlite:///FILE or postgresql://user:password@host/name"),
        (STORES + "redis: valkey\n", "config.yaml:2: redis: must be embedded or redis://host:6379/0"),
        (
            STORES + "network: {allow: [erp.local]}\n",
            "config.yaml:2: network.allow[0]: must be host:port, such as erp.local:8069 or 10.1.0.0/16:*; "
            "an IPv6 host in brackets",
        ),
        (
            STORES + "server: {trusted_proxies: [proxy.local]}\n",
            "config.yaml:2: server.trusted_proxies[0]: must be an IP address or a network such as 10.0.0.0/8",
        ),
        (STORES + "log: {level: loud}\n", "config.yaml:2: log.level: must be 'debug', 'info', 'warning' or 'error'"),
        (STORES + "server: {port: 70000}\n", "config.yaml:2: server.port: must be less than or equal to 65535"),
    ],
)  # fmt: skip
def test_each_mistake_names_its_line_and_what_to_do(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [", "config.yaml:2: not YAML: expected the node content, but found '<stream end>'"),
        ("stores:\n  a: 1\n  a: 2\n", "config.yaml:3: stores.a: is already on line 2"),
        (
            f"stores: {{a: {{api_key: *{CANARY}}}}}",
            "config.yaml:1: not YAML: found undefined alias …; text that starts with * needs quotes",
        ),
        (
            f"stores: {{a: {{api_key: !{CANARY} x}}}}",
            "config.yaml:1: stores.a.api_key: a tag is not used here; text that starts with ! needs quotes",
        ),
        ("a: !!python/object/apply:os.system [x]", "config.yaml:1: a: a tag is not used here"),
        ("a: {url: ${X}}", "config.yaml:1: not YAML: expected ',' or '}', but got '{'; put \"${NAME}\" in quotes"),
        ("? [a]\n: 1\n", "config.yaml:1: a key must be plain text"),
        ("a: 1\n---\nb: 2\n", "config.yaml:2: not YAML: but found another document"),
        ("a: \x00", "config.yaml: not YAML: it has a character that text files do not have"),
        ("a: &a [*a]", "config.yaml:1: a[0][0]"),
        ("[" * 5000, "config.yaml: nested too deeply"),
        (
            ALIAS_BOMB,
            "config.yaml:1: e[5]",
        ),
        ("a: x" + " " * 1024 * 1024, "config.yaml: larger than 1024 KiB"),
    ],
)  # fmt: skip
def test_what_is_not_plain_yaml_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text)[0].startswith(expected)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: there is no such file; `hub init` writes one"):
        load_config(tmp_path / "config.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})
    (tmp_path / "config.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"^config\.yaml: not UTF-8 text"):
        load_config(tmp_path / "config.yaml", {})


def test_all_problems_are_told_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = route("settings: {urrl: x}", "when: data..x", "rate: often", "stores: [other]") + "servr: {}\n"
    places = [line.split(": ")[0:2] for line in problems(tmp_path, text)]
    assert places == [
        ["config.yaml:5", "routes.one.settings.url"],
        ["config.yaml:5", "routes.one.settings.urrl"],
        ["config.yaml:6", "routes.one.when"],
        ["config.yaml:7", "routes.one.rate"],
        ["config.yaml:8", "routes.one.stores[0]"],
        ["config.yaml:9", "servr"],
    ]


def test_plain_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    config = load(tmp_path, route("settings: {url: on, from: 2024-01-15, more: {a: no, b: 1:30, c: 12e3, d: =}}"))
    found = config.routes["one"].settings
    assert isinstance(found, Probe.Settings)
    assert (found.url.reveal(), found.sender, dict(found.more)) == (
        "on",
        "2024-01-15",
        {"a": "no", "b": "1:30", "c": "12e3", "d": "="},
    )


def test_aliases_may_be_used(tmp_path: Path) -> None:
    text = (
        with_url("retry: &r {schedule: [1s]}") + f"  two: {{connector: '{PROBE}', retry: *r, settings: {{url: y}}}}\n"
    )
    config = load(tmp_path, text)
    assert config.routes["two"].retry.schedule == (timedelta(seconds=1),)


def test_variables_come_from_the_environment_before_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"A=from-file\nB={CANARY}\nEMPTY=\nPORT=81\n")
    text = (
        "server: {port: '${PORT}', public_url: 'http://${A}.example'}\n"
        "stores: {main: {url: 'https://${C:-shop.example}', webhook_secrets: ['${B}'], api_key: '${EMPTY:-none}'}}\n"
        f"routes: {{one: {{connector: '{PROBE}', settings: {{url: '$${{A}} $$ $A {{}}', from: '${{B:-x}}'}}}}}}\n"
    )
    config = load(tmp_path, text, {"A": "from-environment", "PORT": ""})
    assert config.server.public_url == "http://from-environment.example"
    assert config.server.port == 81
    assert config.stores["main"].url == "https://shop.example"
    assert config.stores["main"].api_key == Secret("none")
    assert config.stores["main"].webhook_secrets == (Secret(CANARY),)
    found = config.routes["one"].settings
    assert isinstance(found, Probe.Settings)
    assert found.url.reveal() == "${A} $$ $A {}"


def test_a_variable_is_not_filled_in_twice_nor_in_keys_nor_read_as_yaml(tmp_path: Path) -> None:
    value = "[a, ${OTHER}]: 'x' # not yaml"
    config = load(tmp_path, route("settings: {url: '${X}', headers: {'${X}': y}}"), {"X": value, "OTHER": "no"})
    found = config.routes["one"].settings
    assert isinstance(found, Probe.Settings)
    assert found.url.reveal() == value
    assert list(found.headers) == ["${X}"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${SLACK_URL}", "SLACK_URL is not set or empty: set it in the environment or in .env; SLACK_URLS is set"),
        ("${EMPTY}", "EMPTY is not set or empty: set it in the environment or in .env"),
        ("a${}b", 'write "${NAME}" or "${NAME:-default}", and $${ for a plain ${'),
        ("${1X}", 'write "${NAME}" or "${NAME:-default}", and $${ for a plain ${'),
        ("${X", 'write "${NAME}" or "${NAME:-default}", and $${ for a plain ${'),
    ],
)
def test_a_variable_that_is_missing_or_misspelled(tmp_path: Path, written: str, expected: str) -> None:
    environ = {"SLACK_URLS": CANARY, "EMPTY": ""}
    assert problems(tmp_path, route(f"settings: {{url: '{written}'}}"), environ) == [
        f"config.yaml:5: routes.one.settings.url: {expected}"
    ]


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_characters="$", exclude_categories=["C", "Z"]), max_size=8)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(name=NAMES, value=VALUES, before=PLAIN, after=PLAIN, is_set=st.booleans(), default=PLAIN)
def test_substitution_puts_in_the_value_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str, before: str, after: str, is_set: bool, default: str
) -> None:
    default = default.replace("}", "")
    path = tmp_path_factory.getbasetemp() / "substitution.yaml"
    written = json.dumps(f"{before}${{{name}:-{default}}}{after}|")
    path.write_text(f"a: {{b: [{written}]}}\n", encoding="utf-8")
    file = read_yaml(path, {name: value} if is_set else {})
    assert file.value == {"a": {"b": [f"{before}{value if is_set else default}{after}|"]}}
    assert file.filled == ({value} if is_set else set())


def test_the_env_file(tmp_path: Path) -> None:
    text = (
        "# a comment\n\nPLAIN=value # note\nexport EXPORTED=yes\n SPACED = a b \nEMPTY=\nHASH=a#b\nONLY= # nothing\n"
        'SINGLE=\'a "b" $c \\n # d\' # e\nDOUBLE="a \'b\' \\"c\\" \\\\ \\n # d"\nEQUALS=a=b==\nURL=redis://:p@h/0\n'
    )
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_environment(tmp_path / ".env") == {
        "PLAIN": "value",
        "EXPORTED": "yes",
        "SPACED": "a b",
        "EMPTY": "",
        "HASH": "a#b",
        "ONLY": "",
        "SINGLE": 'a "b" $c \\n # d',
        "DOUBLE": "a 'b' \"c\" \\ \n # d",
        "EQUALS": "a=b==",
        "URL": "redis://:p@h/0",
    }
    assert read_environment(tmp_path / "none") == {}


def test_a_broken_env_file_names_the_line_and_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f'A=1\nPASSWORD {CANARY}\nB="{CANARY}\n2={CANARY}\n')
    assert problems(tmp_path, STORES) == [f".env:{line}: not KEY=VALUE, or a quote is not closed" for line in (2, 3, 4)]


@pytest.mark.parametrize(
    "text",
    [
        STORES + f"database: mysql://user:{CANARY}@host/x\n",
        STORES + f"database: 'postgresql://user:{CANARY}@host:no/x'\n",
        STORES + f"redis: {CANARY}\n",
        STORES + f"redis: [{CANARY}]\n",
        f"stores: {{main: {{url: 'https://u:{CANARY}@shop.example', webhook_secrets: [{CANARY}]}}}}\n",
        f"stores: {{main: {{url: x, api_key: [{CANARY}], webhook_secrets: {CANARY}}}}}\n",
        f"stores: {{main: {{url: x, api_key: {{a: {CANARY}}}, webhook_secrets: [{{a: {CANARY}}}]}}}}\n",
        route(f"settings: {CANARY}"),
        route(f"settings: [{CANARY}]"),
        route(f"settings: {{url: [{CANARY}]}}"),
        route(f"settings: {{url: x, headers: {{A: [{CANARY}]}}}}"),
        route(f"settings: {{url: x, headers: {CANARY}}}"),
        route(f"settings: {{url: x, odd: {CANARY}}}"),
        route(f"settings: {{url: x, parts: [{{key: [{CANARY}]}}]}}"),
        route("settings: {url: x, odd: 'it is ${CANARY}'}"),
        with_url("timeout: '${CANARY}'", "rate: '${CANARY}'", "when: '${CANARY} +'"),
        route("settings: {url: x, text: '{{ ${CANARY} '}"),
        STORES.replace(CANARY, "'${CANARY}'").replace("https", "${CANARY}"),
        STORES + f"server: {CANARY}\nworker: [{CANARY}]\nlog: {{level: {CANARY}}}\n",
        STORES + f'server: "{CANARY}\n',
        STORES + f"server: '{CANARY}' '{CANARY}'\n",
        STORES + f"server: @{CANARY}\n",
        STORES + f"server: &{CANARY} &{CANARY} x\n",
        STORES + f"server: %{CANARY}\n",
        STORES + f'server: "\\q{CANARY}"\n',
        STORES + f"server: !<{CANARY} x\n",
        STORES + f"  {CANARY}\n",
    ],
)  # fmt: skip
def test_no_error_shows_a_secret(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text, {"CANARY": CANARY})


def test_secrets_are_found_everywhere(tmp_path: Path) -> None:
    text = (
        "database: 'postgresql://user:p%40ss-db@host/hub'\nredis: 'redis://:pass-redis@host:6379/0'\n"
        + STORES.replace("[", "[second-secret-0123, ").replace("main: {", "main: {api_key: api-key, ")
        + f"routes: {{one: {{connector: '{PROBE}', settings: "
        "{url: url-secret, parts: [{key: part-key}], headers: {A: header-secret}}}}\n"
    )
    config = load(tmp_path, text)
    assert config.secrets() == sorted(
        ["p%40ss-db", "p@ss-db", "pass-redis", CANARY, "second-secret-0123", "api-key", "url-secret", "part-key",
         "header-secret"]
    )  # fmt: skip
    shown = repr(config) + config.model_dump_json() + str(config.model_dump())
    assert [secret for secret in config.secrets() if secret in shown] == []
    assert config.redis_url == "redis://:pass-redis@host:6379/0"
    assert config.database.reveal() == "postgresql://user:p%40ss-db@host/hub"
    assert config.sqlite_path is None


def test_paths_are_relative_to_the_config_file(tmp_path: Path) -> None:
    text = route("settings: {url: x, ca_file: certs/ca.pem}") + "data_dir: files\ndatabase: sqlite:///files/x.db\n"
    config = load(tmp_path, text)
    found = config.routes["one"].settings
    assert isinstance(found, Probe.Settings)
    assert found.ca_file == tmp_path / "certs/ca.pem"
    assert config.data_dir == tmp_path / "files"
    assert config.database.reveal() == f"sqlite:///{tmp_path}/files/x.db"
    assert load(tmp_path, STORES + "database: sqlite:////srv/x.db\n").sqlite_path == Path("/srv/x.db")


def test_near_misses_are_warned_of(tmp_path: Path) -> None:
    events = '[order.place, "orders.*", order.placed, "order.*", "*", custom.thing, "*.updated", hub.alert, "hub.*"]'
    config = load(tmp_path, route("settings: {url: x}", f"events: {events}"))
    at = "config.yaml:6: routes.one.events"
    own = "matches nothing: the hub's own events go only to the routes named for them"
    assert config.warnings == [
        f"{at}[0]: order.place is no known type; did you mean order.placed?",
        f"{at}[1]: orders.* is no known type; did you mean order.*?",
        f"{at}[7]: {own}",
        f"{at}[8]: {own}",
    ]
    assert len(set(EVENT_TYPES)) == 8


def test_the_fingerprint_follows_the_settings(tmp_path: Path) -> None:
    def of(*lines: str) -> str:
        return route_fingerprint(load(tmp_path, route(*lines)).routes["one"])

    same = of("settings: {url: x, headers: {A: b, C: d}}")
    assert re.fullmatch("[0-9a-f]{8}", same)
    assert of("settings: {headers: {C: d, A: b}, url: '${U:-x}'}", "when: data.a", "concurrency: 3") == same
    assert of("settings: {url: y, headers: {A: b, C: d}}") != same
    assert of("settings: {url: x, headers: {A: b, C: e}}") != same
    assert of("settings: {url: x, from: a, headers: {A: b, C: d}}") != same


def test_a_connector_is_imported_only_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "lazy_connector.py").write_text("raise RuntimeError('imported')\n")
    sys.path.insert(0, str(tmp_path))
    try:
        load(tmp_path, STORES)
        assert problems(tmp_path, STORES + "routes: {a: {connector: 'lazy_connector:A'}}\n") == [
            "config.yaml:2: routes.a.connector: connector lazy_connector:A: lazy_connector:A cannot be imported: "
            "RuntimeError: imported"
        ]
    finally:
        sys.path.remove(str(tmp_path))


@settings(max_examples=300)
@given(count=st.integers(0, 10**9), unit=st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_round_trip(count: int, unit: str) -> None:
    if count * SECONDS[unit] > 3650 * 86400:
        with pytest.raises(ValueError, match=r"^must be at most 3650d$"):
            parse_duration(f"{count}{unit}")
        return
    value = parse_duration(f"{count}{unit}")
    assert value.total_seconds() == pytest.approx(count * SECONDS[unit])
    text = duration_text(value)
    assert parse_duration(text) == value
    assert duration_text(parse_duration(text)) == text
    assert len(text) <= len(f"{count}{unit}") or count == 0
    assert DURATION.validate_python(json.loads(DURATION.dump_json(value))) == value


@settings(max_examples=300)
@given(count=st.integers(1, 999_999), unit=st.sampled_from(["s", "m", "min", "h"]))
def test_rates_round_trip(count: int, unit: str) -> None:
    rate = parse_rate(f"{count}/{unit}")
    assert parse_rate(str(rate)) == rate
    assert rate.interval * count == pytest.approx({"s": 1, "m": 60, "min": 60, "h": 3600}[unit])
    assert RATE.validate_python(json.loads(RATE.dump_json(rate))) == rate


@settings(max_examples=300)
@given(text=st.text(max_size=8) | st.from_regex(r"-?\d{1,3}[.,]?\d? ?(ms|s|m|/s|/d|x)?", fullmatch=True))
def test_anything_else_is_no_duration_and_no_rate(text: str) -> None:
    for pattern, parse in ((r"[0-9]+(ms|s|m|h|d)", parse_duration), (r"0*[1-9][0-9]*/(s|m|min|h)", parse_rate)):
        if not re.fullmatch(pattern, text):
            refused: Callable[[Any], object] = parse
            with pytest.raises(ValueError, match=r"^must be "):
                refused(text)


def test_the_example_file_is_what_the_models_say() -> None:
    assert (ROOT / "config.example.yaml").read_text(encoding="utf-8") == example_yaml(), (
        "python -c \"from hub.example import example_yaml; print(example_yaml(), end='')\" > config.example.yaml"
    )


def test_the_example_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    text = example_yaml()
    assert "True" not in text
    variables = dict.fromkeys(
        re.findall(r'^ .*"\$\{([A-Z_]+)\}"', text, re.MULTILINE), "https://hooks.slack.com/services/T/B/x"
    )
    assert sorted(variables) == [
        "LITEKART_API_KEY", "LITEKART_WEBHOOK_SECRET", "SLACK_URL", "SMTP_PASSWORD", "WEBHOOK_SIGNING_SECRET",
        "WEBHOOK_URL",
    ]  # fmt: skip
    config = load(tmp_path, text, variables)
    assert config.warnings == []
    assert list(config.routes) == ["big-orders", "order-mail", "everything"]
    bare = load(tmp_path, STORES)
    for section in ("server", "database", "redis", "data_dir", "network", "worker", "log"):
        assert getattr(config, section) == getattr(bare, section)
    assert config.routes["everything"].retry == Retry()


def test_the_example_names_every_setting() -> None:
    shown = yaml.safe_load(example_yaml())
    assert list(shown) == list(Config.model_fields)
    assert list(shown["stores"]["main"]) == list(Store.model_fields)
    assert list(shown["routes"]["big-orders"]) == list(Route.model_fields)
    for route_shown in shown["routes"].values():
        fields = find_connector(route_shown["connector"]).Settings.model_fields
        left_out = {name for name in fields if (fields[name].alias or name) not in route_shown["settings"]}
        assert all(isinstance(fields[name].default, Template) for name in left_out)


def test_the_schema_has_every_setting_with_its_meaning() -> None:
    schema = config_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == set(Config.model_fields)
    parts = [schema, *schema["$defs"].values()]
    settings_of_hub = [one for part in parts if part.get("title") != "Settings" for one in part["properties"].values()]
    assert all("description" in one or "$ref" in one for one in settings_of_hub)
    assert all("description" in part for part in parts)
