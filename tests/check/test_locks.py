"""What is installed is what was locked: each release by its number and the hashes of its files (S36)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock"]
ERPS = ["tests/erp/odoo.lock", "tests/erp/tryton.lock"]
PIN = re.compile(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.+!]+( ; .+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def pins(lock: str) -> dict[str, list[str]]:
    """Each requirement of a lock and its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.M).replace("\\\n", " ")
    found = [line.split(" --hash=") for line in text.splitlines() if line.strip()]
    return {name.strip(): [f"--hash={one.split('#')[0].strip()}" for one in hashes] for name, *hashes in found}


@pytest.mark.parametrize("lock", LOCKS + ERPS)
def test_s36_every_requirement_is_one_release_with_its_hashes(lock: str) -> None:
    """S36: no range, no address, no repository, nothing without a hash."""
    found = pins(lock)
    assert len(found) > 30
    assert [name for name in found if PIN.fullmatch(name) is None] == []
    assert [name for name, hashes in found.items() if not hashes or not all(map(HASH.fullmatch, hashes))] == []


def test_s36_both_locks_agree() -> None:
    """S36: what tests run with is what is run with."""
    first, second = ({name.split("==")[0]: name for name in pins(lock)} for lock in LOCKS)
    assert {name: second[name] for name in first if name in second and second[name] != first[name]} == {}


def test_s36_nothing_is_installed_past_the_locks() -> None:
    """S36: each `pip install` asks for hashes, or for nothing but the hub itself; CI makes a fresh environment so."""
    for file in ("Makefile", "Dockerfile"):
        commands = re.findall(r"(?:\bpip|\$\(PIP\)) install[^\n]*", (ROOT / file).read_text())
        assert commands
        for command in commands:
            alone = "--no-deps --no-build-isolation" in command
            # Makes the next lock, which a person looks at.
            assert "--require-hashes -r requirements" in command or alone or command.endswith("install pip-tools"), (
                command
            )
