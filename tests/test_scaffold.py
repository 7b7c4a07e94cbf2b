"""`hub connectors new`: what it makes is a package that installs, passes its own tests, and carries an event."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub.config import find_connector
from hub.errors import CommandError, ConfigError
from hub.scaffold import new_connector
from hub.testing import ConnectorTests, HttpSink, StoreDouble
from tests.hubs import SECRET, command, config_of, hub_process, route, write_config
from tests.whole import at_length

WITHIN = 120.0
PIP = "-m pip --disable-pip-version-check -q install --no-deps --no-build-isolation --no-index"
PYTEST = "-m pytest -q -p no:cacheprovider -p no:xdist"


def python(folder: Path, words: str, *more: str, **environ: str) -> str:
    """Run Python in that folder; its output. It must succeed."""
    ran = subprocess.run(
        [sys.executable, *words.split(), *more], cwd=folder, capture_output=True, text=True, timeout=WITHIN,
        env={**os.environ, **environ},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@at_length
async def test_a_new_connector_installs_passes_its_tests_and_delivers(tmp_path: Path) -> None:
    site, made = tmp_path / "site", tmp_path / "my-fax"
    paths = os.pathsep.join([str(site), str(Path(__file__).parents[1])])
    python(tmp_path, "-m hub.cli connectors new my-fax")
    python(tmp_path, PIP, "--target", str(site), str(made))
    kit = [name for name in dir(ConnectorTests) if name.startswith("test_")]
    assert f"{len(kit) + 1} passed" in python(made, PYTEST, PYTHONPATH=paths)
    async with HttpSink() as sink:
        settings = {"url": f"{sink.url}/in", "token": "a token for this test"}
        config = write_config(tmp_path, config_of({"fax": route("") | {"connector": "my-fax", "settings": settings}}))
        environ = {"PYTHONPATH": paths}
        code, found, _ = await command(config, "check", "--json", env=environ)
        assert (code, found["checks"][-1]["text"]) == (0, "127.0.0.1 answers (200)")
        async with hub_process(config, "up", env=environ) as hub:
            url = (await hub.said("hub.listening"))["url"]
            async with StoreDouble(f"{url}/webhooks/main", SECRET) as store:
                await store.send("order.placed", orderId="ord_1")
            await sink.received.until(lambda all: any(one.method == "POST" for one in all), WITHIN)
    (request,) = [one for one in sink.received if one.method == "POST"]
    assert request.json()["entity"] == "order:ord_1"
    assert (request.headers["authorization"], request.key is None) == ("Bearer a token for this test", False)


@pytest.mark.parametrize("name", ["fax", "my-erp", "slack2", "a_b"])
def test_what_is_made_is_named_for_it_and_compiles(tmp_path: Path, name: str) -> None:
    made = new_connector(name, tmp_path / name)
    assert all("$" not in path.read_text().replace("${TOKEN}", "") for path in made)
    for path in made:
        if path.suffix == ".py":
            compile(path.read_text(), path.name, "exec")
    assert f'\n{name} = "litekart_' in made[0].read_text()
    assert len((tmp_path / name / "README.md").read_text().splitlines()) <= 12


@pytest.mark.parametrize("name", ["Fax", "../fax", "fax/1", "", "1fax", "fax-", "class", "f" * 41, "fax\n"])
def test_names_that_cannot_be_a_package_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match="cannot be a connector's name"):
        new_connector(name, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def installed(site: Path, package: str, name: str, target: str) -> None:
    """A package that an installer has left in `site`, with that connector."""
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[litekart_hub.connectors]\n{name} = {target}\n")


@pytest.mark.parametrize("name", ["slack", "email", "webhook", "hub"])
def test_the_hubs_own_names_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match=f"litekart-hub.*; choose another name, such as my-{name}"):
        new_connector(name, tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["my-fax", "my_fax"])
def test_the_name_of_an_installed_connector_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    installed(tmp_path / "site", "fax-of-others", "my_fax", "fax_of_others:Fax")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(CommandError, match="my_fax is installed already, by fax-of-others; choose another"):
        new_connector(name, tmp_path / "made")


def test_a_connector_installed_twice_is_an_error_that_names_both_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, target in (("fax-one", "fax_one:Fax"), ("fax-two", "fax_two:Fax")):
        installed(tmp_path / package, package, "twice", target)
        monkeypatch.syspath_prepend(tmp_path / package)
    with pytest.raises(
        ConfigError, match="twice is installed twice, by fax-one and fax-two: uninstall one, or"
    ) as caught:
        find_connector("twice")
    assert str(caught.value).endswith("name the class itself: fax_one:Fax or fax_two:Fax")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(CommandError, match="is there already"):
        new_connector("fax", tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
