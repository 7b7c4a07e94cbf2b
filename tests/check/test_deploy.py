"""What docs/deploy starts: the config loads, the commands exist, nothing is open that need not be."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.config import load_config
from hub.errors import ConfigError
from hub.worker import LONGEST_STOP
from hub.yamlfile import read_environment
from tests.check.test_docs import commands

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CADDYFILE = (DEPLOY / "Caddyfile").read_text()
UNIT = (DEPLOY / "litekart-hub.service").read_text()
HUBS = {name: service for name, service in SERVICES.items() if service["image"] == "litekart-hub"}
VARIABLE = re.compile(r"(?<!\$)\$\{?([A-Z_]+)")
# What somebody fills in, for each variable of env.example.
FILLED = {
    "HUB_HOST": "hub.example.com",
    "DASHBOARD_HOST": "hub-dashboard.example.com",
    "POSTGRES_PASSWORD": "0a" * 24,
    "VALKEY_PASSWORD": "1b" * 24,
    "METRICS_TOKEN": "2c" * 24,
    "LITEKART_WEBHOOK_SECRET": "3d" * 24,
    "ADMIN_PASSWORD_HASH": f"$argon2id$v=19$m=65536,t=3,p=4${'A' * 22}${'A' * 43}",
    "STORE_URL": "https://shop.example.com",
    "WEBHOOK_URL": "https://erp.example.com/hook",
    "WEBHOOK_SIGNING_SECRET": "4e" * 24,
}


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


# ---- compose


def test_it_starts_what_it_says() -> None:
    run = sorted(" ".join(service["command"]) for service in HUBS.values())
    assert run == ["hub dashboard", "hub db upgrade", "hub serve", "hub serve", "hub work", "hub work"]
    assert {" ".join(service["command"][1:]) for service in HUBS.values()} <= commands()
    images = {name: service["image"] for name, service in SERVICES.items() if name not in HUBS}
    assert images == {"postgres": "postgres:18", "valkey": "valkey/valkey:9", "caddy": "caddy:2"}


def test_the_schema_is_current_before_anything_serves() -> None:
    for name, service in HUBS.items():
        needs = {other: how["condition"] for other, how in service["depends_on"].items()}
        if name == "migrate":
            assert (needs, service["restart"]) == ({"postgres": "service_healthy"}, "no")
        else:
            assert needs == {"migrate": "service_completed_successfully", "valkey": "service_healthy"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_more_than_it_needs(name: str) -> None:
    """S37: nothing is written but what is named, no capability, and nothing but Caddy is reached from outside."""
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])
    assert ("ports" in service) == (name == "caddy")
    assert service.keys().isdisjoint({"privileged", "devices", "pid", "ipc", "network_mode", "userns_mode"})


SIZE = re.compile(r"\d+[mg]")


@pytest.mark.parametrize("name", SERVICES)
def test_s37_every_service_has_its_bounds_and_no_root(name: str) -> None:
    """S37: memory and processes are bounded, /tmp is memory, the image has a version, and its user is not root.

    Caddy's own image runs as root, here with no capability but that for the ports below 1024.
    """
    service = SERVICES[name]
    assert SIZE.fullmatch(service["mem_limit"])
    assert service["pids_limit"] <= 512
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    if name in HUBS:
        # Its user is the Dockerfile's; tests/check/test_dockerfile.py looks at that.
        assert "user" not in service
    else:
        assert re.fullmatch(r"[\w./-]+:\d+(\.\d+)*", service["image"])
        assert name == "caddy" or service["user"].partition(":")[0] not in {"", "0", "root"}


def test_s37_no_secret_is_on_a_command_line_or_in_the_file() -> None:
    """S37: secrets come from .env alone, and no program's arguments hold one."""
    text = (DEPLOY / "compose.yaml").read_text()
    assert re.findall(r"(?im)^\s*\w*(?:password|secret|token)\w*: (?!\$\{\w+:\?)\S.*$", text) == []
    for service in SERVICES.values():
        # What a shell in the container reads from its own environment, compose writes with two.
        assert not re.search(r"(?<!\$)\$\{?\w*(PASSWORD|SECRET|TOKEN)", str(service.get("command")))
        assert not re.search(r"(?<!\$)\$\{?\w*(PASSWORD|SECRET|TOKEN)", str(service.get("healthcheck")))


def test_only_the_hub_reaches_the_database_and_valkey() -> None:
    assert COMPOSE["networks"]["inside"]["internal"]
    for name in ("postgres", "valkey"):
        assert SERVICES[name]["networks"] == ["inside"]
    assert SERVICES["caddy"]["networks"] == ["outside"]


def test_what_can_be_asked_is_asked_for_its_health() -> None:
    checked = {name for name, service in SERVICES.items() if "test" in service.get("healthcheck", {})}
    assert checked == {"receiver-1", "receiver-2", "dashboard", "postgres", "valkey"}
    # The image's own check asks a receiver, which these are not.
    assert all(SERVICES[name]["healthcheck"] == {"disable": True} for name in ("worker-1", "worker-2", "migrate"))


def test_deliveries_get_their_time_to_end() -> None:
    assert all(seconds(SERVICES[f"worker-{n}"]["stop_grace_period"]) > LONGEST_STOP for n in (1, 2))


def test_valkey_has_a_password_and_forgets_nothing_by_itself() -> None:
    script = SERVICES["valkey"]["command"][-1]
    assert "requirepass %s" in script
    assert '"$$VALKEY_PASSWORD" > ' in script
    assert "maxmemory-policy noeviction" in script


def test_every_file_that_is_mounted_is_here() -> None:
    mounted = [volume for service in SERVICES.values() for volume in service.get("volumes", []) if volume[0] == "."]
    assert len(mounted) == len(HUBS) + 1
    for volume in mounted:
        source, _, how = volume.split(":")
        assert (DEPLOY / source).is_file()
        assert how == "ro"
    assert (DEPLOY / HUBS["migrate"]["build"]["context"] / "Dockerfile").is_file()


def test_every_variable_is_in_the_example_and_no_secret_is() -> None:
    example = read_environment(DEPLOY / "env.example")
    texts = [(DEPLOY / name).read_text() for name in ("compose.yaml", "config.compose.yaml")]
    used = {name for text in texts for name in VARIABLE.findall(re.sub(r"#.*", "", text))} - {"NAME"}
    assert used == set(example) == set(FILLED)
    assert set(example.values()) == {""}


# ---- the config


def test_the_config_loads_once_the_example_is_filled_in() -> None:
    config = load_config(DEPLOY / "config.compose.yaml", FILLED)
    assert config.warnings == []
    assert (config.sqlite_path, config.dashboard.users[0].role) == (None, "operator")
    assert f":{FILLED['VALKEY_PASSWORD']}@valkey:" in str(config.redis_url)
    for name in ("postgres", "valkey"):
        assert name in SERVICES
    (subnet,) = COMPOSE["networks"]["outside"]["ipam"]["config"]
    assert config.server.trusted_proxies == (subnet["subnet"],)
    mounted = {volume.split(":")[1] for volume in HUBS["worker-1"]["volumes"]}
    assert HUBS["worker-1"]["environment"]["HUB_CONFIG"] in mounted


def test_it_does_not_start_before_the_example_is_filled_in() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(DEPLOY / "config.compose.yaml", {})
    told = "\n".join(caught.value.problems)
    assert [name for name in FILLED if name not in told] == []


# ---- Caddy


def test_caddy_passes_on_to_services_at_their_ports() -> None:
    config = load_config(DEPLOY / "config.compose.yaml", FILLED)
    ports = {"hub serve": config.server.port, "hub dashboard": config.dashboard.port}
    expected = {
        f"{name}:{ports[' '.join(service['command'])]}"
        for name, service in HUBS.items()
        if " ".join(service["command"]) in ports
    }
    upstreams = re.findall(r"reverse_proxy ([^{\n]*)", CADDYFILE)
    assert {one for line in upstreams for one in line.split()} == expected
    assert CADDYFILE.count("{") == CADDYFILE.count("}")
    assert set(re.findall(r"^\{\$([A-Z_]+)\}", CADDYFILE, re.M)) == set(SERVICES["caddy"]["environment"])


# ---- systemd


def unit_settings() -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.M))


def test_the_unit_runs_the_hub_as_nobody_else() -> None:
    unit = unit_settings()
    _, *words = unit["ExecStart"].split()
    assert words[0] in commands()
    assert words[-1].startswith(f"/var/lib/{unit['StateDirectory']}/")
    assert (unit["User"], unit["Restart"]) == ("litekart-hub", "always")
    assert int(unit["TimeoutStopSec"]) > LONGEST_STOP
    # Else commands do not find the socket of the running hub.
    assert unit["Environment"] == f"TMPDIR=/run/{unit['RuntimeDirectory']}"
    hardened = {"NoNewPrivileges": "true", "ProtectSystem": "strict", "PrivateTmp": "true", "CapabilityBoundingSet": ""}
    assert hardened.items() <= unit.items()


# Where the programs that read these files are installed; the tests above hold everywhere.
SYSTEMD = shutil.which("systemd-analyze")
DOCKER = shutil.which("docker")
HAS_COMPOSE = DOCKER is not None and subprocess.run([DOCKER, "compose", "version"], capture_output=True).returncode == 0

if SYSTEMD is not None:

    def test_systemd_takes_the_unit(tmp_path: Path) -> None:
        unit = tmp_path / "litekart-hub.service"
        # The hub is not installed there on this machine.
        unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT, flags=re.M))
        done = subprocess.run([str(SYSTEMD), "verify", str(unit)], capture_output=True, text=True)
        assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])


if HAS_COMPOSE:

    def test_compose_takes_its_file(tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in FILLED.items()))
        for name in ("compose.yaml", "config.compose.yaml", "Caddyfile"):
            shutil.copy(DEPLOY / name, tmp_path)
        done = subprocess.run([str(DOCKER), "compose", "config", "-q"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
