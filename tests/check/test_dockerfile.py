"""The Dockerfile, as text: there is no engine to build it with where this project is made, and the README says so."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = [
    line.strip()
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]
STAGES = "\n".join(LINES).split("FROM ")[1:]


def arguments(word: str, stage: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in stage.splitlines() if line.startswith(f"{word} ")]


def test_it_is_built_in_stages_and_the_last_has_no_build_tools() -> None:
    assert len(STAGES) == 2
    assert "pip install" in STAGES[0]
    assert "pip" not in STAGES[1]


def test_it_installs_what_the_lock_pins() -> None:
    assert any("--require-hashes -r requirements.lock" in run for run in arguments("RUN", STAGES[0]))


def test_everything_it_copies_is_here_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for copied in arguments("COPY", STAGES[0]):
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists()
            assert source not in ignored


def test_s37_its_base_has_a_version() -> None:
    """S37: no `latest`, and the same one for both stages."""
    bases = {stage.split()[0] for stage in STAGES}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim", bases.pop())


def test_it_does_not_run_as_root() -> None:
    """S37: a user of its own, by a number."""
    (user,) = arguments("USER", STAGES[1])
    assert any(
        f"useradd --uid 10001 --create-home --home-dir /data {user}" in run for run in arguments("RUN", STAGES[1])
    )


def test_it_runs_the_hub_and_looks_after_its_health() -> None:
    """S37: with a HEALTHCHECK."""
    assert [json.loads(command) for command in arguments("CMD", STAGES[1])] == [["hub", "up"]]
    (check,) = arguments("HEALTHCHECK", STAGES[1])
    found = re.search(r"CMD (\[.*\])$", check)
    assert found is not None
    assert "/healthz" in json.loads(found[1])[-1]


def test_no_secret_stands_in_it() -> None:
    """S37: neither as a variable nor as an argument of the build."""
    assert not re.search(r"(?i)(password|secret|token|api_key)\s*=", "\n".join(LINES))
    assert arguments("ARG", "\n".join(LINES)) == []


def test_the_readme_says_that_it_was_not_built() -> None:
    assert "not been built" in (ROOT / "README.md").read_text()
