"""Drift on a cluster with real digits: silence on clean traffic, an alert when the world turned, a report of both."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[3]
MLSERVE = str(Path(sys.executable).parent / "mlserve")


def bodies(*, turned: bool) -> list[bytes]:
    """Multipart-free bodies of all digits, upright or turned by a quarter."""
    images = load_digits().images
    found = []
    for pixels in images:
        picture = np.rot90(pixels) if turned else pixels
        row = np.round(picture * (255 / 16)).astype(int).ravel().tolist()
        found.append(json.dumps({"features": row}).encode())
    return found


class Traffic:
    """All digits over and over through the front door, from three threads, until stopped."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(3)
        self.bodies = bodies(turned=False)
        self.failed: list[str] = []
        for seed in range(3):
            self._pool.submit(self._send, seed)

    def _send(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self._stop.is_set():
                mine = self.bodies
                answer = client.post("/predict", content=mine[random.integers(len(mine))])
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text[:80]}")
                self._stop.wait(0.01)

    def stop(self) -> None:
        self._stop.set()
        self._pool.shutdown()


NAMES = ("digits-a", "digits-b", "digits-c")
"""Three models close three windows at a time."""


def manifest(name: str, version: str) -> dict[str, Any]:
    """A version of the digits with short windows, and one step at which half of the traffic is compared."""
    file = "modeldeployment.yaml" if version == "1" else f"modeldeployment-v{version}.yaml"
    document: dict[str, Any] = yaml.safe_load((ROOT / "models/digits" / file).read_text())
    document["metadata"]["name"] = name
    # The digits are few (1,797), so only a large effect can be told from chance; turned digits are one.
    document["spec"]["drift"] = {
        "windowSeconds": 5,
        "minRows": 200,
        "effectPercent": 25,
        "falseAlarmEveryWindows": 1000,
    }
    document["spec"]["rollout"] = {
        "steps": [{"weight": 50, "holdSeconds": 10}],
        "analysis": {"intervalSeconds": 2, "minRequests": 200},
    }
    return document


@dataclass(frozen=True)
class Served:
    """Models under clean traffic, until a test changes it."""

    cluster: Any
    namespace: str
    traffic: dict[str, Traffic]

    def windows(self, name: str) -> list[dict[str, Any]]:
        """Closed windows of all revisions, newest first."""
        found: list[dict[str, Any]] = json.loads(self.command("drift", "history", name, "--output", "json"))
        return found

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get("mdep", name, "-n", self.namespace)["status"]
        return found

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        return next((c for c in self.status(name)["conditions"] if c["type"] == kind), {})

    def reasons(self, name: str) -> set[str]:
        """Of the Events so far."""
        events = self.cluster.get("events", "-n", self.namespace)["items"]
        return {event["reason"] for event in events if event["involvedObject"]["name"] == name}

    def command(self, *arguments: str) -> str:
        answer = subprocess.run(
            [MLSERVE, *arguments, "--namespace", self.namespace],
            env=self.cluster.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


@pytest.fixture(scope="module")
def served(operator_cluster) -> Iterator[Served]:
    namespace = "test-drift-story"
    operator_cluster.kubectl("create", "namespace", namespace)
    operator_cluster.apply(*(manifest(name, "1") for name in NAMES), namespace=namespace)
    models = [f"mdep/{name}" for name in NAMES]
    operator_cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", *models, "--timeout=90s", timeout=100)
    traffic = {}
    for name in NAMES:
        annotations = operator_cluster.get("service", name, "-n", namespace)["metadata"]["annotations"]
        traffic[name] = Traffic(annotations["mlserve.io/local-url"])
    yield Served(operator_cluster, namespace, traffic)
    for running in traffic.values():
        running.stop()
    operator_cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_thirty_clean_windows_are_silent(served) -> None:
    def clean() -> list[dict[str, Any]]:
        found = [window for name in NAMES for window in served.windows(name)]
        return found if len(found) >= 30 else []

    windows = served.cluster.wait(clean, seconds=180, what="thirty clean windows")
    assert {window["verdict"] for window in windows} == {"NoDrift"}
    for name in NAMES:
        assert served.condition(name, "DriftDetected").get("status") in {None, "False"}
        assert "DriftDetected" not in served.reasons(name)


def test_a_canary_whose_preprocessing_is_wrong_is_rolled_back(served) -> None:
    name = "digits-b"
    good = served.status(name)["stable"]["revision"]
    served.cluster.apply(manifest(name, "3"), namespace=served.namespace)
    status = served.cluster.wait(
        lambda: (found := served.status(name)).get("rejected") and found, seconds=90, what="a rejected revision"
    )
    assert [item["reason"] for item in status["rejected"]] == ["DriftRollback"]
    assert status["stable"]["revision"] == good
    assert served.traffic[name].failed == []


def test_a_turned_world_alerts_and_holds_the_rollout(served, tmp_path) -> None:
    name = "digits-a"
    served.cluster.apply(manifest(name, "2"), namespace=served.namespace)
    served.cluster.wait(lambda: (served.status(name).get("canary") or {}).get("weight"), seconds=60, what="a canary")
    served.traffic[name].bodies = bodies(turned=True)

    def both_drift() -> bool:
        newest = {window["revision"]: window["verdict"] for window in reversed(served.windows(name))}
        return len(newest) == 2 and set(newest.values()) == {"Drift"}

    served.cluster.wait(both_drift, seconds=90, what="drift of both revisions")
    looks = served.status(name)["canary"]["analysis"]["looks"]
    served.cluster.wait(
        lambda: served.status(name)["canary"]["analysis"]["looks"] >= looks + 5, seconds=60, what="five more looks"
    )
    status = served.status(name)
    assert (status["phase"], status.get("rejected", [])) == ("Progressing", [])
    assert served.condition(name, "DriftDetected")["status"] == "True"
    assert served.condition(name, "Available")["status"] == "True"
    assert "DriftDetected" in served.reasons(name)
    samples = httpx.get(f"{served.cluster.operator_url}/metrics").text.splitlines()
    effects = [line for line in samples if line.startswith("mlserve_drift_effect{") and f'name="{name}"' in line]
    assert max(float(line.rpartition(" ")[2]) for line in effects) > 0.25
    assert served.traffic[name].failed == []

    assert "projection_" in served.command("drift", "summary", name)
    page = tmp_path / "report.html"
    served.command("drift", "report", name, "--html", str(page))
    text = page.read_text()
    assert "Drift in the newest window" in text
    assert text.count("<svg") > 10


def test_image_bytes_and_rows_are_counted_alike(served) -> None:
    url = served.traffic["digits-c"].url
    pixels = np.round(load_digits().images[0] * (255 / 16)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    by_image = httpx.post(f"{url}/predict", files={"image": ("0.png", buffer.getvalue(), "image/png")}).json()
    by_row = httpx.post(f"{url}/predict", json={"features": pixels.ravel().tolist()}).json()
    # Not to the last digit: passes of different sizes may run different kernels.
    assert [entry["label"] for entry in by_image["top"]] == [entry["label"] for entry in by_row["top"]]
    assert [entry["probability"] for entry in by_image["top"]] == pytest.approx(
        [entry["probability"] for entry in by_row["top"]], rel=1e-4
    )
