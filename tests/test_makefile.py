"""What `make` misses on a machine it names, with the remedy."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"


def made(folder: Path, python: str) -> str:
    """`make` up to the environment, in a copy of the Makefile; what it said. It must fail."""
    shutil.copy(MAKEFILE, folder)
    ran = subprocess.run(
        ["make", "-s", ".venv/.python", f"PYTHON={python}"], cwd=folder, capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert ran.returncode != 0
    assert not (folder / ".venv" / ".python").exists()
    return ran.stdout


def stand_in(folder: Path, answers: str) -> str:
    """A `python3` that lacks something: a script that answers make's questions as such a one does."""
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{answers}\n")
    path.chmod(0o755)
    return str(path)


def test_no_python(tmp_path: Path) -> None:
    assert "Install Python 3.11 or newer" in made(tmp_path, "no-such-python")


@pytest.mark.parametrize(
    ("lacking", "said"),
    [("version_info", "is older than 3.11"), ("ensurepip", "apt install python3-venv")],
)
def test_a_python_that_lacks_something(tmp_path: Path, lacking: str, said: str) -> None:
    python = stand_in(tmp_path, f'case "$2" in *{lacking}*) exit 1;; esac')
    assert said in made(tmp_path, python)
