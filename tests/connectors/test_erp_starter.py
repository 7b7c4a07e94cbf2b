"""What starts real ERPs reads the machine's own sources, keeps what it made, and says what a machine lacks."""

from pathlib import Path

import pytest

from tests.erp.packages import Lacking, made_once, program, run, sources_of
from tests.erp.servers import main

NEW = """\
Types: deb
URIs: https://mirror.example/debian
Suites: stable stable-updates
Components: main contrib
# a comment

Types: deb-src
URIs: https://sources.example/debian
Suites: stable
Components: main
"""
OLD = """\
# deb https://old.example/debian stable main
deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian stable main contrib
deb-src https://sources.example/debian stable main
deb https://other.example/apt stable
"""


def test_both_formats_of_apts_sources_are_read() -> None:
    both = ("https://mirror.example/debian", ["main", "contrib"])
    assert [(address, components) for address, _, components in sources_of(NEW)] == [both]
    assert [(address, components) for address, _, components in sources_of(OLD)][:1] == [both]
    assert [suites for _, suites, _ in sources_of(NEW + "\n" + OLD)] == [
        ["stable"],
        ["stable"],
        ["stable", "stable-updates"],
    ]


def test_what_is_made_once_is_made_again_when_it_failed_or_what_it_is_made_of_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERP_HOME", str(tmp_path))
    made = []

    def make(of: str, fails: bool = False) -> None:
        with made_once("thing", of) as (folder, missing):
            made.append(missing)
            assert missing == (not (folder / "part").exists())
            (folder / "part").write_text(of)
            if fails:
                raise Lacking("the network")

    with pytest.raises(Lacking):
        make("one", fails=True)
    for of in ("one", "one", "two"):
        make(of)
    assert made == [True, True, False, True]


def test_what_a_machine_lacks_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Lacking, match=r"^there is no no-such-program here, which brings peace$"):
        program("no-such-program", "brings peace")
    with pytest.raises(Lacking, match=r"^it cannot be had: E: no such thing$"):
        run(["sh", "-c", "echo first; echo E: no such thing >&2; exit 3"], "it cannot be had")
    assert main("no-such-erp") == 2
    assert "usage: python -m tests.erp.servers odoo|tryton" in capsys.readouterr().out
