"""The config file as plain values that know their line: YAML, then `${NAME}` inside single scalars.

PyYAML's composer reads the text; the values are built here, because its constructors forget the line, take the
last of two equal keys, and expand aliases without bound. No error shows a value: it may be a secret.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from hub.errors import ConfigError
from hub.sandbox import shortened

Place = tuple[str | int, ...]

MAX_FILE = 1024 * 1024
MAX_VALUES = 50_000
MAX_DEPTH = 40
VARIABLE = re.compile(r"\$(\$?)\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*", re.DOTALL)
DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?', re.DOTALL)
SINGLE_QUOTED = re.compile(r"'([^']*)'\s*(?:#.*)?", re.DOTALL)
TAGS = {"map", "seq", "str", "null", "bool", "int", "float"}
ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: `on`, `1:30` and `2024-01-15` are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


@dataclass
class YamlFile:
    """What the file says. `lines` has the line of every value; `filled` what `${}` put in, for scrubbing errors."""

    name: str
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def at(self, place: Place, text: str) -> str:
        """`config.yaml:12: routes.big-orders.timeout: text`; the line of the nearest thing around if it has none."""
        dotted = dotted_place(place)
        return f"{self.name}:{self.line(place)}: {dotted + ': ' if dotted else ''}{text}"

    def line(self, place: Place) -> int:
        return self.lines.get(self.known(place), 1)

    def known(self, place: Place) -> Place:
        """`place`, or the nearest thing around it that the file has."""
        while place and place not in self.lines:
            place = place[:-1]
        return place


def dotted_place(place: Place) -> str:
    """`stores.main.webhook_secrets[0]`."""
    parts = [f"[{step}]" if isinstance(step, int) else f".{shortened(step, 80)}" for step in place]
    return "".join(parts).removeprefix(".")


def read_yaml(path: Path, environ: Mapping[str, str]) -> YamlFile:
    """The file at `path`, filled in from `environ` and then from `.env` beside it. Raises ConfigError, all at once."""
    file = YamlFile(path.name)
    source = read_text(path, "`hub init` writes one")
    environment = {
        **read_environment(path.with_name(".env")),
        **{key: value for key, value in environ.items() if value},
    }
    try:
        root = yaml.compose(source, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(_syntax(path.name, source, error)) from None
    except RecursionError:
        raise ConfigError(f"{path.name}: nested too deeply") from None
    if root is not None:
        file.value = _Builder(file, environment).value(root, ())
    if file.problems:
        raise ConfigError(*file.problems)
    return file


def read_text(path: Path, remedy: str) -> str:
    """A text file's contents. Raises ConfigError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; {remedy}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name}: not UTF-8 text; save it as UTF-8") from None
    if len(raw) > MAX_FILE:
        raise ConfigError(f"{path.name}: larger than {MAX_FILE // 1024} KiB")
    return text


def _syntax(name: str, source: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{name}: not YAML: it has a character that text files do not have"
    # A secret may stand where PyYAML expects a name: what it quotes is shown only where it is punctuation.
    problem = re.sub(r"'([^']*)'|(?<=alias ).*", _punctuation, getattr(error, "problem", None) or "not YAML")
    hint = ""
    line = "".join(source.splitlines()[mark.line : mark.line + 1])
    if "\t" in line[: len(line) - len(line.lstrip())]:
        problem = "the line begins with a tab: indent with spaces"
    elif "alias" in problem:
        hint = "; text that starts with * needs quotes"
    elif "{{" in line or "{%" in line:
        hint = "; text that starts with { needs quotes, and a condition is written without {{ }}"
    elif "${" in line:
        hint = '; put "${NAME}" in quotes'
    return f"{name}:{mark.line + 1}: not YAML: {problem}{hint}"


def _punctuation(found: re.Match[str]) -> str:
    shown = found[1] is not None and (len(found[1]) == 1 or found[1].startswith("<"))
    return found[0] if shown else "…"


class _Builder:
    """Builds values from nodes, noting lines and problems. A value under an alias counts as often as it is used."""

    def __init__(self, file: YamlFile, environment: Mapping[str, str]) -> None:
        self.file = file
        self.environment = environment
        self.left = MAX_VALUES

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.file.lines[place] = node.start_mark.line + 1
        self.left -= 1
        if self.left < 0 or len(place) > MAX_DEPTH:
            raise ConfigError(self.file.at(place, "too many values, or nested too deeply"))
        if node.tag.removeprefix("tag:yaml.org,2002:") not in TAGS:
            self.problem(place, "a tag is not used here; text that starts with ! needs quotes")
            return None
        if isinstance(node, yaml.MappingNode):
            return {key: self.value(item, (*place, key)) for key, item in self.pairs(node, place)}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, place)

    def pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                hint = "; text that starts with { needs quotes" if isinstance(key, yaml.MappingNode) else ""
                self.file.problems.append(f"{self.file.name}:{line}: a key must be plain text{hint}")
                continue
            if key.value in seen:
                where = dotted_place((*place, key.value))
                self.file.problems.append(f"{self.file.name}:{line}: {where}: is already on line {seen[key.value]}")
                continue
            seen[key.value] = line
            yield key.value, item
            # The key's line, not that of the block below it.
            self.file.lines[(*place, key.value)] = line

    def scalar(self, node: yaml.Node, place: Place) -> Any:
        text: str = node.value
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" if len(text) <= 18:
                return int(text)
            case "float":
                return float(text)
        return self.filled(self.characters(text, place), place)

    def characters(self, text: str, place: Place) -> str:
        """Two escapes make one character beyond U+FFFF, as in JSON; half of one is no character."""
        try:
            return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.problem(place, "has half a character: a \\u escape is missing its other half")
            return ""

    def filled(self, text: str, place: Place) -> str:
        return VARIABLE.sub(lambda found: self.variable(found, place), text) if "${" in text else text

    def variable(self, found: re.Match[str], place: Place) -> str:
        escaped, name, default = found.groups()
        if escaped:
            return found[0][1:]
        if name is None:
            self.problem(place, 'write "${NAME}" or "${NAME:-default}", and $${ for a plain ${')
            return ""
        value = self.environment.get(name)
        if value:
            self.file.filled.add(value)
            return value
        if default is None:
            like = get_close_matches(name, self.environment, 1, 0.8)
            hint = f"; {like[0]} is set" if like and name not in self.environment else ""
            self.problem(place, f"{name} is not set or empty: set it in the environment or in .env{hint}")
        return default or ""

    def problem(self, place: Place, text: str) -> None:
        self.file.problems.append(self.file.at(place, text))


def read_environment(path: Path) -> dict[str, str]:
    """A `.env` file's KEY=VALUE lines; empty if there is none. Quotes, `export` and comments as in a shell."""
    if not path.exists():
        return {}
    values = {}
    problems = []
    for number, line in enumerate(read_text(path, "").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = ASSIGNMENT.fullmatch(line)
        value = _unquoted(found[2]) if found else None
        if found is None or value is None:
            problems.append(f"{path.name}:{number}: not KEY=VALUE, or a quote is not closed")
        else:
            values[found[1]] = value
    if problems:
        raise ConfigError(*problems)
    return values


def _unquoted(text: str) -> str | None:
    if text.startswith('"'):
        double = DOUBLE_QUOTED.fullmatch(text)
        return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), double[1]) if double else None
    if text.startswith("'"):
        single = SINGLE_QUOTED.fullmatch(text)
        return single[1] if single else None
    return re.split(r"\s+#|^#", text, maxsplit=1)[0].rstrip()
