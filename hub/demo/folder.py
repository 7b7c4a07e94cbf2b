"""The demo's throwaway folder: a config such as a merchant writes, and everything that the hub keeps."""

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hub.demo.counterparts import Counterparts

PREFIX = "litekart-demo-"
LOCK = "demo.lock"
# The hub's sockets lie below it, and a Unix socket's path has 104 bytes on macOS and 108 on Linux.
LONGEST_BASE = 45
USUAL_PORT = 8600


@dataclass(frozen=True)
class Secrets:
    """Fresh random secrets. They stand in `.env` beside the config, under these names."""

    webhook: str
    slack: str
    signing: str
    api_key: str


def fresh_secrets() -> Secrets:
    return Secrets(secrets.token_hex(24), secrets.token_hex(12), secrets.token_hex(24), secrets.token_hex(16))


@contextmanager
def throwaway_folder() -> Iterator[Path]:
    """A private folder that is removed at the end; those of demos that were killed are removed first."""
    base = tempfile.gettempdir()
    base = base if len(base) <= LONGEST_BASE else "/tmp"  # noqa: S108 - mkdtemp makes a private one in it
    _remove_leftovers(Path(base))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    try:
        # The lock goes with the process. It is there before its name is, so that nobody finds it unheld.
        with (folder / "new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "new").rename(folder / LOCK)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(base: Path) -> None:
    for lock in base.glob(f"{PREFIX}*/{LOCK}"):
        # Held: a demo that runs. Not ours to open: somebody else's.
        with contextlib.suppress(OSError), lock.open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def usual_port() -> int:
    """The usual port where it is free, else any."""
    return USUAL_PORT if is_free(USUAL_PORT) else free_port()


def free_port() -> int:
    """Any free port: a number, so that commands find the hub by its config."""
    return _bound_port(0)


def is_free(port: int) -> bool:
    try:
        return _bound_port(port) == port
    except OSError:
        return False


def _bound_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def write_config(folder: Path, counterparts: Counterparts, store_url: str, known: Secrets, port: int) -> Path:
    """`config.yaml`, and its secrets in `.env` of mode 600. Returns the config's path."""
    # Names of its own: the shell's variables go before .env, and a real SLACK_URL must not be taken.
    environment = {
        "DEMO_WEBHOOK_SECRET": known.webhook,
        "DEMO_SLACK_URL": counterparts.slack.webhook_url,
        "DEMO_SIGNING_SECRET": known.signing,
        "DEMO_API_KEY": known.api_key,
    }
    private = os.open(folder / ".env", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(private, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in environment.items())
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config_of(counterparts, store_url, port), sort_keys=False, allow_unicode=True))
    return path


def config_of(counterparts: Counterparts, store_url: str, port: int) -> dict[str, Any]:
    """The config's content; the routes are those that the first lines of the demo show."""
    return {
        "server": {"host": "127.0.0.1", "port": port},
        "dashboard": {"port": 0},
        "database": "sqlite:///data/hub.db",
        "redis": "embedded",
        "network": {"allow": [*counterparts.addresses, store_url.removeprefix("http://")]},
        # A throwaway folder: what is kept there matters to nobody.
        "disk": {"min_free": "0B", "min_free_percent": 0},
        "stores": {
            "main": {
                "url": store_url,
                "api_key": "${DEMO_API_KEY}",
                "webhook_secrets": ["${DEMO_WEBHOOK_SECRET}"],
                "admin_url": "https://shop.example/admin/{kind}/{id}",
                # What the demo shows are the calls that its routes make.
                "catch_up": "off",
            }
        },
        "routes": {
            "big-orders": {
                "connector": "slack",
                "events": ["order.placed"],
                "when": "data.total >= 100",
                "with": ["order", "customer"],
                "settings": {"webhook_url": "${DEMO_SLACK_URL}"},
            },
            "low-stock": {
                "connector": "slack",
                "events": ["inventory.low"],
                "with": ["product"],
                "settings": {"webhook_url": "${DEMO_SLACK_URL}"},
            },
            "shop-mail": {
                "connector": "email",
                "events": ["order.*", "customer.*"],
                "with": ["order", "customer"],
                "settings": {
                    "host": "127.0.0.1",
                    "port": counterparts.mail.port,
                    "security": "none",
                    "from": "shop@shop.example",
                    "to": ["owner@shop.example"],
                },
            },
            "everything": {
                "connector": "webhook",
                "settings": {
                    "url": f"{counterparts.endpoint.url}/events",
                    "signing_secrets": ["${DEMO_SIGNING_SECRET}"],
                },
                "retry": {"schedule": ["500ms", "1s", "2s", "5s"]},
            },
        },
    }
