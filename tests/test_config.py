"""What the config may say, how it says what is wrong, and that no text shows a secret."""

import json
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from hub.config import (
    Config,
    Retry,
    Route,
    Store,
    Worker,
    config_schema,
    find_connector,
    route_fingerprint,
)
from hub.connector import Template
from hub.event import EVENT_TYPES
from hub.example import example_yaml
from hub.routing import route_event
from hub.testing.samples import event_of, sample
from hub.units import Rate, duration_text, parse_size, size_text
from tests.config_files import CANARY, PROBE, STORES, Probe, load, problems, route, with_url

HERE = Probe.__module__
ROOT = Path(__file__).parents[1]


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
        (
            with_url("when: data.totl >"),
            "config.yaml:6: routes.one.when: it is incomplete: something is missing at its end",
        ),
        (
            with_url("when: '{{ data.total > 1 }}'"),
            "config.yaml:6: routes.one.when: a condition is written without {{ }}: data.total >= 100",
        ),
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
            STORES + f"routes: {{a: {{connector: '{HERE}:NoDeliver'}}}}\n",
            f"config.yaml:2: routes.a.connector: connector {HERE}:NoDeliver: {HERE}:NoDeliver has no deliver",
        ),
        (
            STORES + f"routes: {{a: {{connector: '{HERE}:NOT_A_CLASS'}}}}\n",
            f"config.yaml:2: routes.a.connector: connector {HERE}:NOT_A_CLASS: {HERE}:NOT_A_CLASS is not "
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
    """S28: wherever in the file the mistake is."""
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


def test_a_connector_may_doubt_its_settings(tmp_path: Path) -> None:
    mail = "connector: email, settings: {host: m.example, from: a@shop.example, to: [b@shop.example]"
    ways = {
        "a": "port: 465", "b": "port: 465, security: tls", "c": "port: 587, security: tls", "d": "port: 587",
        "e": "port: 25, security: none",
    }  # fmt: skip
    routes = "".join(f"  {name}: {{{mail}, {way}}}}}\n" for name, way in ways.items())
    assert [warning.partition(": port")[0] for warning in load(tmp_path, f"{STORES}routes:\n{routes}").warnings] == [
        "config.yaml:3: routes.a.settings",
        "config.yaml:5: routes.c.settings",
    ]


def test_what_a_variable_filled_in_does_not_blot_out_the_remedy(tmp_path: Path) -> None:
    text = f"stores: {{main: {{url: '${{SHOP}}', webhook_secrets: [{CANARY}]}}}}\n"
    (problem,) = problems(tmp_path, text, {"SHOP": "https://"})
    assert "must be an address such as https://shop.example" in problem


def test_alerts_that_tell_nobody_are_warned_of(tmp_path: Path) -> None:
    alone = load(tmp_path, route("settings: {url: x}", "alerts: [one]"))
    told = "of this route's own trouble nobody is told: name another one too"
    assert alone.warnings == [f"config.yaml:6: routes.one.alerts: {told}"]
    reads = load(tmp_path, STORES + "routes: {one: {connector: 'tests.hubdb:Looks'}}\nalerts: [one]\n")
    about = "one acts on the store's orders or products; an alert is about neither"
    assert [warning.partition("alerts[0]: ")[2] for warning in reads.warnings] == [about]


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


def test_the_examples_condition_answers_for_orders_and_payments(tmp_path: Path) -> None:
    variables = dict.fromkeys(re.findall(r"(?<!\$)\$\{(\w+)\}", example_yaml()), f"https://x.example/{CANARY}")
    big = load(tmp_path, example_yaml(), variables).routes["big-orders"]
    assert f"    when: {big.when} " in (ROOT / "README.md").read_text()
    for kind in ("order.placed", "payment.completed", "payment.failed"):
        field = "total" if kind == "order.placed" else "amount"
        taken = []
        for amount in (99.5, 100):
            document = sample(kind)
            document["data"][field] = amount
            event = event_of(document)
            routing = route_event({"big": big}, event, event.data)
            assert routing.broken == {}
            taken.append(routing.taken)
        assert taken == [[], ["big"]]


def test_the_example_names_every_setting() -> None:
    shown = yaml.safe_load(example_yaml())
    assert list(shown) == list(Config.model_fields)
    assert list(shown["stores"]["main"]) == list(Store.model_fields)
    assert list(shown["routes"]["big-orders"]) == [field.alias or name for name, field in Route.model_fields.items()]
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


def test_two_stores_have_no_secret_in_common(tmp_path: Path) -> None:
    """What one shop signed would be another's event too."""
    text = "\n".join(
        f"  {name}: {{url: 'https://{name}.example', webhook_secrets: [{name}-{'x' * 16}, {CANARY}]}}"
        for name in ("one", "two")
    )
    (problem,) = problems(tmp_path, f"stores:\n{text}\n")
    assert problem.startswith("config.yaml:3: stores.two.webhook_secrets[1]: is store one's too")
    assert CANARY not in problem


def test_alerts_name_routes_that_exist(tmp_path: Path) -> None:
    found = problems(tmp_path, with_url("alerts: [two]") + "alerts: [one, onne]\n")
    assert found == [
        "config.yaml:6: routes.one.alerts[0]: no route named two; there is one",
        "config.yaml:7: alerts[1]: no route named onne; there is one",
    ]


def test_a_password_in_place_of_its_hash_is_refused_and_not_shown(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, STORES + f"dashboard: {{users: [{{name: ana, password: {CANARY}}}]}}\n")
    assert "`hub passwd` makes one" in problem
    assert CANARY not in problem


@pytest.mark.parametrize(("text", "size"), [("1GiB", 2**30), ("1536MiB", 3 * 2**29), ("0B", 0), ("7B", 7)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize("text", ["1GB", "1.5GiB", "-1B", "GiB", "", True, -1, None])
def test_what_is_no_size_says_what_one_is(text: object) -> None:
    with pytest.raises(ValueError, match="500MiB"):
        parse_size(text)
