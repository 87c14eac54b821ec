"""The compose stack: valid by the specification, hardened, without default passwords, its router accepted by Envoy."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy" / "compose"
SECRETS = {"REDIS_PASSWORD": "a", "GRAFANA_PASSWORD": "b"}
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\})")


def interpolated(variables: dict[str, str]) -> str:
    """The file as compose reads it with these variables set."""

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "$"
        if name in variables:
            return variables[name]
        if match["kind"] == "?":
            raise KeyError(match["text"])
        return match["text"] or ""

    return VARIABLE.sub(value, (COMPOSE / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated(SECRETS))
    return found


def test_follows_the_compose_specification(stack):
    # Read and written once by the YAML library, which resolves merge keys as compose does.
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(stack))
    parsed.validate()
    assert set(parsed.service_names()) == {"stable", "canary", "router", "redis", "prometheus", "grafana"}


@pytest.mark.parametrize("name", SECRETS)
def test_every_password_must_be_given(name):
    with pytest.raises(KeyError, match=r"deploy\.sh"):
        interpolated({key: value for key, value in SECRETS.items() if key != name})


def test_every_service_is_hardened(stack):
    for name, service in stack["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name


def test_start_order_waits_for_health(stack):
    services = stack["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            # The runtime's own check is in its image (Dockerfile.runtime).
            assert "healthcheck" in services[needed] or needed in {"stable", "canary"}, needed


def test_only_the_outside_network_publishes_and_on_loopback(stack):
    for service in stack["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
            assert "outside" in service["networks"]


def test_images_are_pinned(stack):
    for service in stack["services"].values():
        assert re.search(r":(v?\d+|compose)", service["image"]), service["image"]


def test_mounted_files_exist(stack):
    for service in stack["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and "artifacts" not in source:
                assert (COMPOSE / source).exists(), source


def test_router_is_accepted_by_envoy(tmp_path):
    shutil.copytree(COMPOSE / "router", tmp_path, dirs_exist_ok=True)
    config = tmp_path / "envoy.yaml"
    config.write_text(config.read_text().replace("/etc/mlserve/router", str(tmp_path)))
    envoy = Path(sys.executable).parent / "envoy"
    command = [envoy, "--mode", "validate", "--config-path", config]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr


def test_weights_sum_to_a_hundred_for_both_protocols():
    (routes,) = yaml.safe_load((COMPOSE / "router" / "routes.yaml").read_text())["resources"]
    (host,) = routes["virtual_hosts"]
    for route in host["routes"]:
        weights = [cluster["weight"] for cluster in route["route"]["weighted_clusters"]["clusters"]]
        assert sum(weights) == 100


def run_deploy(folder: Path, path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", folder / "deploy.sh", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env={"PATH": path}, timeout=60, cwd=folder
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder elsewhere, since deploy.sh writes passwords into it."""
    ignored = shutil.ignore_patterns(".env")
    return Path(shutil.copytree(COMPOSE, tmp_path / "compose", ignore=ignored))


@pytest.fixture
def path_without_docker(tmp_path: Path) -> str:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", "grep", "head", "tail", "tr", "cat"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


def test_deploy_says_what_is_missing(copy, path_without_docker):
    answer = run_deploy(copy, path_without_docker, "check")
    assert answer.returncode == 1
    assert "docker is missing: install Docker Engine" in answer.stderr


def test_deploy_makes_passwords_once_for_the_owner_only(copy, path_without_docker):
    run_deploy(copy, path_without_docker, "check")
    first = (copy / ".env").read_text()
    run_deploy(copy, path_without_docker, "check")
    assert (copy / ".env").read_text() == first
    assert stat.S_IMODE((copy / ".env").stat().st_mode) == 0o600
    passwords = dict(line.split("=") for line in first.split())
    assert set(passwords) == set(SECRETS)
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", value) for value in passwords.values())
    assert len(set(passwords.values())) == len(passwords)


def test_deploy_refuses_unknown_commands(copy, path_without_docker):
    answer = run_deploy(copy, path_without_docker, "destroy")
    assert answer.returncode == 1
    assert "unknown command 'destroy': up, check or down" in answer.stderr
