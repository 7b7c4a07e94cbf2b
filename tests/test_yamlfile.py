"""The file as text: YAML, variables, .env; what is refused and with which words."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.config import (
    load_config,
)
from hub.connector import Secret
from hub.errors import ConfigError
from hub.yamlfile import read_environment, read_yaml
from tests.config_files import CANARY, PROBE, STORES, Probe, load, problems, route, with_url

ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcde", "bcdef", strict=True)
)


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
        ("a:\n\tb: 1\n", "config.yaml:2: not YAML: the line begins with a tab: indent with spaces"),
        (
            "a: 1\nwhen: {{ data.total }} >= 100\n",
            "config.yaml:2: not YAML: expected chomping or indentation indicators, but found '='; text that starts with"
            " { needs quotes, and a condition is written without {{ }}",
        ),
        ("when: {{ data.total }}\n", "config.yaml:1: a key must be plain text; text that starts with { needs quotes"),
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
