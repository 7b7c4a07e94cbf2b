"""`hub connectors new`: a small package with a connector that works, its test on the kit, and its entry point.

The files stand in hub/templates/connector, with `$name` where a name goes.
"""

import keyword
import re
from importlib.metadata import entry_points
from pathlib import Path
from string import Template

from hub.config import CONNECTORS
from hub.errors import CommandError

TEMPLATES = Path(__file__).with_name("templates") / "connector"
NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST = 40
OWN = "hub"
"""`litekart-hub` is the hub's own package."""


def new_connector(name: str, folder: Path) -> list[Path]:
    """Make the package `litekart-NAME` in `folder`, which must not be there yet; the files made."""
    if not NAME.fullmatch(name) or len(name) > LONGEST or keyword.iskeyword(name):
        raise CommandError(f"{name!r} cannot be a connector's name: small letters, digits and -, such as fax or my-erp")
    if taken := _taken(name):
        raise CommandError(f"{taken}; choose another name, such as my-{name}")
    if folder.exists():
        raise CommandError(f"{folder} is there already and stays as it is; choose another name, or move it away")
    words = re.split("[_-]", name)
    module = f"litekart_{'_'.join(words)}"
    names = {
        "name": name,
        "package": f"litekart-{'-'.join(words)}",
        "module": module,
        "title": "".join(word.capitalize() for word in words),
    }
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        f"{module}.py": "connector.py.txt",
        f"test_{module}.py": "test.py.txt",
        "README.md": "README.md.txt",
    }
    try:
        folder.mkdir(parents=True)
        for target, source in sources.items():
            text = Template((TEMPLATES / source).read_text(encoding="utf-8")).substitute(names)
            (folder / target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{folder} cannot be made: {error.strerror}") from None
    return [folder / target for target in sources]


def _taken(name: str) -> str | None:
    """Why a package of that name would stand in another's way, or None."""
    if name == OWN:
        return "litekart-hub is the hub's own package"
    for point in entry_points(group=CONNECTORS):
        # my_fax and my-fax are one name to Python's installers.
        if point.name.replace("_", "-") == name.replace("_", "-"):
            owner = f", by {point.dist.name}" if point.dist else ""
            return f"a connector named {point.name} is installed already{owner}"
    return None
