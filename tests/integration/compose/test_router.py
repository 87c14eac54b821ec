"""The compose stack without containers: its router's very files before two real servers, on loopback addresses.

Only addresses and paths are replaced. What a container engine adds (images, start order by health) is not seen here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy" / "compose"
BIN = Path(sys.executable).parent
BLOCK = f"127.63.{os.getpid() % 250 + 1}"
ADDRESSES = {"stable": f"{BLOCK}.2", "canary": f"{BLOCK}.3", "router": f"{BLOCK}.4"}
VERSIONS = {"stable": "v1", "canary": "v2"}


def wait(probe: Callable[[], Any], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if probe():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def router_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("router")
    text = (COMPOSE / "router" / "envoy.yaml").read_text().replace("/etc/mlserve/router", str(folder))
    for name in VERSIONS:
        text = text.replace(f"address: {name},", f"address: {ADDRESSES[name]},")
    text = text.replace("0.0.0.0", ADDRESSES["router"]).replace("127.0.0.1", ADDRESSES["router"])
    (folder / "envoy.yaml").write_text(text)
    (folder / "routes.yaml").write_text((COMPOSE / "router" / "routes.yaml").read_text())
    return folder


@pytest.fixture(scope="module")
def front_door(router_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Both revisions and the router; the address of the front door."""
    logs = tmp_path_factory.mktemp("logs")
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, command: list[str | Path], environment: dict[str, str]) -> None:
        with (logs / f"{name}.log").open("wb") as log:
            environment = {**os.environ, **environment}
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=logs))

    try:
        for name, version in VERSIONS.items():
            environment = {
                "MLSERVE_MODEL_DIR": str(ROOT / "models" / "digits" / "artifacts" / version),
                "MLSERVE_MODEL_NAME": "digits",
                "MLSERVE_REVISION": name,
                "MLSERVE_BIND_HOST": ADDRESSES[name],
                "MLSERVE_DRAIN_SOCKET": str(logs / f"{name}.sock"),
                "MLSERVE_TERMINATION_LOG": str(logs / f"{name}.end"),
            }
            start(name, [BIN / "mlserve-runtime", "serve"], environment)
        config = router_files / "envoy.yaml"
        command: list[str | Path] = [BIN / "envoy", "--config-path", config, "--log-level", "warning"]
        start("router", [*command, "--concurrency", "1", "--use-dynamic-base-id"], {})
        door = f"http://{ADDRESSES['router']}:8080"
        wait(lambda: {answering(door) for _ in range(50)} == {"stable", "canary"}, f"both revisions (see {logs})")
        yield door
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=40)


def answering(door: str) -> str:
    """The revision that answered a prediction; empty when none did."""
    sample = next((ROOT / "models" / "digits" / "samples").glob("*.png")).read_bytes()
    answer = httpx.post(f"{door}/predict", content=sample, headers={"Content-Type": "image/png"}, timeout=10)
    return answer.headers["x-mlserve-revision"] if answer.status_code == 200 else ""


def shares(door: str, requests: int) -> Counter[str]:
    sample = next((ROOT / "models" / "digits" / "samples").glob("*.png")).read_bytes()
    found: Counter[str] = Counter()
    with httpx.Client(timeout=10, headers={"Content-Type": "image/png"}) as client:
        for _ in range(requests):
            answer = client.post(f"{door}/predict", content=sample)
            found[answer.headers["x-mlserve-revision"] if answer.status_code == 200 else str(answer.status_code)] += 1
    return found


def test_requests_are_split_as_the_file_says(front_door):
    found = shares(front_door, 600)
    assert set(found) == {"stable", "canary"}
    assert 30 <= found["canary"] <= 90  # 60 expected; beyond four standard deviations otherwise


def test_a_replaced_file_moves_the_weights_without_a_failed_request(front_door, router_files):
    text = (router_files / "routes.yaml").read_text()
    new = router_files / "routes.new"
    new.write_text(text.replace("weight: 90", "weight: 0").replace("weight: 10}", "weight: 100}"))
    try:
        new.replace(router_files / "routes.yaml")
        seen: Counter[str] = Counter()
        wait(lambda: seen.update(last := shares(front_door, 20)) or last == {"canary": 20}, "all weight at the canary")
        assert set(seen) <= {"stable", "canary"}
    finally:
        new.write_text(text)
        new.replace(router_files / "routes.yaml")


def test_both_protocols_go_through_the_same_door(front_door):
    from tritonclient.grpc import InferenceServerClient

    assert httpx.get(f"{front_door}/v2/models/digits/ready", timeout=10).status_code == 200
    with InferenceServerClient(front_door.removeprefix("http://")) as client:
        assert client.is_model_ready("digits")


def test_the_management_port_has_readiness_and_metrics_and_is_not_the_front_door(front_door):
    management = f"http://{ADDRESSES['router']}:9090"
    assert httpx.get(f"{management}/readyz", timeout=10).status_code == 200
    assert "envoy_cluster_upstream_rq_total" in httpx.get(f"{management}/metrics", timeout=10).text
    assert httpx.get(f"{front_door}/telemetry", timeout=10).status_code == 404
