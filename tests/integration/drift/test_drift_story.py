"""Drift on a cluster with real digits: silence on clean traffic, an alert when the world turned, a report of both."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[3]
NAME = "digits"
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
    """All digits over and over through the front door, from four threads, until stopped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(4)
        self.bodies = bodies(turned=False)
        self.failed: list[str] = []
        for seed in range(4):
            self._pool.submit(self._send, seed)

    def _send(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while not self._stop.is_set():
                mine = self.bodies
                answer = client.post("/predict", content=mine[random.integers(len(mine))])
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text[:80]}")
                self._stop.wait(0.01)

    def stop(self) -> None:
        self._stop.set()
        self._pool.shutdown()


@pytest.fixture
def served(operator_cluster, operator_namespace) -> tuple[Any, str]:
    document = yaml.safe_load((ROOT / "models/digits/modeldeployment.yaml").read_text())
    # The digits are few (1,797), so only a large effect can be told from chance; turned digits are one.
    document["spec"]["drift"] = {
        "windowSeconds": 5,
        "minRows": 400,
        "effectPercent": 25,
        "falseAlarmEveryWindows": 1000,
    }
    operator_cluster.apply(document, namespace=operator_namespace)
    operator_cluster.kubectl(
        "wait", "-n", operator_namespace, "--for=condition=Ready", f"mdep/{NAME}", "--timeout=60s", timeout=90
    )
    return operator_cluster, operator_namespace


def condition(cluster: Any, namespace: str, kind: str) -> dict[str, Any]:
    resource = cluster.get("mdep", NAME, "-n", namespace)
    return next((c for c in resource["status"]["conditions"] if c["type"] == kind), {})


def command(cluster: Any, namespace: str, *arguments: str) -> str:
    answer = subprocess.run(
        [MLSERVE, *arguments, "--namespace", namespace],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_turned_digits_alert_and_are_told_of(served, tmp_path) -> None:
    cluster, namespace = served
    url = cluster.get("service", NAME, "-n", namespace)["metadata"]["annotations"]["mlserve.io/local-url"]
    traffic = Traffic(url)
    try:

        def windows() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(
                command(cluster, namespace, "drift", "history", NAME, "--output", "json")
            )
            return found

        clean = cluster.wait(lambda: len(found := windows()) >= 3 and found, seconds=60, what="three clean windows")
        assert {window["verdict"] for window in clean} == {"NoDrift"}
        assert condition(cluster, namespace, "DriftDetected").get("status") in {None, "False"}

        traffic.bodies = bodies(turned=True)
        cluster.wait(
            lambda: condition(cluster, namespace, "DriftDetected").get("status") == "True",
            seconds=60,
            what="DriftDetected=True",
        )
    finally:
        traffic.stop()
    assert traffic.failed == []
    assert condition(cluster, namespace, "Available")["status"] == "True"
    events = cluster.get("events", "-n", namespace)["items"]
    assert any("rift" in event["reason"] for event in events)
    assert "mlserve_drift" in httpx.get(f"{cluster.operator_url}/metrics").text
    shown = command(cluster, namespace, "drift", "summary", NAME)
    assert "projection_" in shown
    page = tmp_path / "report.html"
    command(cluster, namespace, "drift", "report", NAME, "--html", str(page))
    text = page.read_text()
    assert "Drift in the newest window" in text
    assert text.count("<svg") > 10


def test_image_bytes_and_rows_are_counted_alike(served) -> None:
    cluster, namespace = served
    url = cluster.get("service", NAME, "-n", namespace)["metadata"]["annotations"]["mlserve.io/local-url"]
    pixels = np.round(load_digits().images[0] * (255 / 16)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    by_image = httpx.post(f"{url}/predict", files={"image": ("0.png", buffer.getvalue(), "image/png")}).json()
    by_row = httpx.post(f"{url}/predict", json={"features": pixels.ravel().tolist()}).json()
    assert by_image["top"] == by_row["top"]
