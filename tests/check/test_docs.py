"""The docs are true where a machine can tell: commands, links, names, and no trace of the machine they were made on."""

import re
import subprocess
from pathlib import Path

import pytest
import typer.main

import hub.connector
from hub.cli import app
from hub.config import Config

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
README = DOCS[0].read_text()


def commands() -> set[str]:
    """Every command, also those below another: `db upgrade`."""
    root = typer.main.get_command(app)
    found = set()
    for name, command in getattr(root, "commands", {}).items():
        below = getattr(command, "commands", {})
        found |= {f"{name} {inner}" for inner in below} if below else set()
        if not below or getattr(command, "invoke_without_command", False):
            found.add(name)
    return found


def consoles(path: Path) -> list[str]:
    """The command lines that a document tells its reader to type."""
    blocks = re.findall(r"```console\n(.*?)```", path.read_text(), re.DOTALL)
    return [
        line[2:].partition("#")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    known = commands()
    for line in consoles(path):
        words = line.split()
        if words[0] == "hub":
            assert words[1] in known or " ".join(words[1:3]) in known, line
        if words[0] == "make":
            target = re.escape(words[1].replace(".venv", "$(VENV)"))
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


def test_every_command_is_in_the_readme() -> None:
    assert {name for name in commands() if f"`hub {name}" not in README} == set()


def test_every_section_of_the_config_is_in_the_example() -> None:
    example = (ROOT / "config.example.yaml").read_text()
    assert {name for name in Config.model_fields if f"\n{name}:" not in example} == set()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_no_table_falls_in_two(path: Path) -> None:
    """Each block of rows has a head: after a blank line the rest would be shown as plain text."""
    blocks = re.findall(r"(?:^\|.*\n)+", path.read_text(), re.MULTILINE)
    assert [block for block in blocks if not re.match(r".*\n\|[ :-]+\|", block)] == []


def test_what_a_connector_author_imports_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "connector.md").read_text()
    assert {name for name in hub.connector.__all__ if name not in guide} == set()


def test_every_module_says_what_lives_in_it() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for folder in ("hub", "connectors", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if "templates" not in path.parts
        and path.read_text().strip()
        and not path.read_text().lstrip().startswith('"""')
    ]
    assert silent == []


def test_no_file_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    hosts = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|deb\.debian\.org|--index-url|" + re.escape(f"{ROOT}/"))
    named = [
        name
        for name in listed.split("\0")
        if name and name != "tests/check/test_docs.py" and hosts.search((ROOT / name).read_text(errors="replace"))
    ]
    assert named == []
