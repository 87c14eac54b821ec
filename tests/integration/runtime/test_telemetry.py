"""What is counted, in which lane, over real requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlserve_core.statistics.build import build_profile
from mlserve_core.wire import HEADER_PREVIEW, HEADER_UNIT, TelemetrySnapshot

from .conftest import FEATURES, RuntimeServer
from .test_lifecycle import until

ROW = {"features": [0.5] * FEATURES}
Start = Callable[..., RuntimeServer]


@pytest.fixture
def counted(start: Start, tabular: Path, tmp_path: Path) -> tuple[RuntimeServer, Path]:
    comparison = tmp_path / "comparison"
    comparison.mkdir()
    return start(tabular, "--comparison-dir", str(comparison)).wait_ready(), comparison


def snapshot(server: RuntimeServer) -> TelemetrySnapshot:
    return TelemetrySnapshot.model_validate(server.telemetry())


def predict(server: RuntimeServer, headers: dict[str, str] | None = None, body: Any = ROW) -> int:
    return httpx.post(f"{server.url}/predict", json=body, headers=headers).status_code


def test_lanes(counted: tuple[RuntimeServer, Path]) -> None:
    server, _ = counted
    assert predict(server) == 200
    assert predict(server, body={"features": [1]}) == 400
    assert predict(server, {"Host": "tabular-shadow:8080"}) == 200
    assert predict(server, {HEADER_PREVIEW: "canary"}) == 200
    for _ in range(3):
        assert predict(server, {HEADER_UNIT: "user-1"}) == 200
    assert predict(server, {HEADER_UNIT: "user-2"}) == 200
    seen = snapshot(server)
    assert seen.live.requests == 4  # plain, bad, and one of each user
    assert seen.live.client_errors == 1
    assert seen.live.rows == 3
    assert sum(seen.live.latency) == 3
    assert seen.mirror.requests == seen.mirror.rows == 1
    assert seen.in_flight == 0
    assert snapshot(server).sequence == seen.sequence + 1


def test_metadata_and_health_are_no_evidence(counted: tuple[RuntimeServer, Path]) -> None:
    server, _ = counted
    for path in ("/health", "/stats", "/model/info", "/v2", "/v2/models/tabular", "/nowhere"):
        httpx.get(server.url + path)
    assert snapshot(server).live.requests == 0


def test_comparison_counts_on_stables_edges_and_a_new_rollout_judges_units_anew(
    counted: tuple[RuntimeServer, Path],
) -> None:
    server, directory = counted
    rows = np.random.default_rng(0).normal(size=(500, FEATURES)).astype(np.float32)
    profile = build_profile(rows, feature_names=[f"x_{i}" for i in range(FEATURES)])

    def begin(rollout: str) -> None:
        text = f'{{"rolloutId": "{rollout}", "profile": {profile.to_json()}}}'
        partial = directory / "partial"
        partial.write_text(text)
        partial.rename(directory / "comparison.json")

    predict(server, {HEADER_UNIT: "user-1"})
    begin("r1")
    until(lambda: snapshot(server).live.comparison is not None)
    predict(server, {HEADER_UNIT: "user-1"})
    predict(server, {HEADER_UNIT: "user-1"})
    counts = until(lambda: (c := snapshot(server).live.comparison) and c.rows == 1 and c)
    assert counts.profile_digest == profile.digest()
    assert all(sum(feature.counts) == 1 for feature in counts.features.values())
    assert snapshot(server).live.requests == 2
    (directory / "comparison.json").unlink()
    until(lambda: snapshot(server).live.comparison is None)


def test_metrics_are_prometheus_and_complete(server: RuntimeServer) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from mlserve_runtime.telemetry.metrics import METRICS

    httpx.post(f"{server.url}/predict", json=ROW)
    text = httpx.get(f"{server.management}/metrics").raise_for_status().text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert METRICS.keys() <= families.keys()
    assert "process_resident_memory_bytes" in families
    requests = {tuple(s.labels.values()): s.value for s in families["mlserve_requests"].samples}
    assert requests["predict", "200"] >= 1


def test_management_is_not_on_the_public_port(server: RuntimeServer) -> None:
    for path in ("/metrics", "/telemetry"):
        assert httpx.get(server.url + path).status_code == 404
