"""From a prediction's id to a count in the telemetry, with rotation, replicas and forgery."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as triton_grpc

from mlserve_core.wire import HEADER_PREDICTION_ID, HEADER_PREVIEW

from .conftest import FEATURES, RuntimeServer
from .test_lifecycle import until

ROW = {"features": [0.5] * FEATURES}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir()
    (directory / "current").write_text("0123456789abcdef0123456789abcdef")
    return directory


def test_feedback(start: Callable[..., RuntimeServer], tabular: Path, keys: Path) -> None:
    flags = ("--feedback-keys-dir", str(keys), "--revision")
    server = start(tabular, *flags, "r1").wait_ready()
    replica_of_other_revision = start(tabular, *flags, "r2").wait_ready()

    def report(body: object, to: RuntimeServer = server) -> httpx.Response:
        return httpx.post(f"{to.url}/feedback", json=body)

    prediction = httpx.post(f"{server.url}/predict", json=ROW).json()
    assert report({"id": prediction["id"], "label": "yes"}).json() == {"counted": True, "revision": "r1"}
    assert report({"id": prediction["id"], "label": "no"}).json()["counted"] is False
    confusion = {"yes": {prediction["label"]: 1}}
    assert server.telemetry()["live"]["feedback"]["confusion"] == confusion

    oip = httpx.post(
        f"{server.url}/v2/models/tabular/infer",
        json={"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": ROW["features"]}]},
    )
    assert report({"id": oip.headers[HEADER_PREDICTION_ID], "reward": 0.25}).status_code == 200
    feedback = server.telemetry()["live"]["feedback"]
    assert (feedback["rewards"], feedback["rewardSumMilli"], feedback["rewardSumSquareMilli"]) == (1, 250, 62)

    batch = httpx.post(f"{server.url}/predict/batch", json={"features": [ROW["features"]] * 3}).json()
    ids = [row["id"] for row in batch["predictions"]]
    assert len(set(ids)) == 3
    assert report({"id": ids[0], "label": 1}, to=replica_of_other_revision).json()["revision"] == "r1"
    elsewhere = replica_of_other_revision.telemetry()
    assert elsewhere["live"]["feedback"]["confusion"] == {}
    assert list(elsewhere["otherFeedback"]) == ["r1"]

    preview = httpx.post(f"{server.url}/predict", json=ROW, headers={HEADER_PREVIEW: "canary"}).json()
    assert report({"id": preview["id"], "label": "no"}).status_code == 200
    assert server.telemetry()["live"]["feedback"]["confusion"] == confusion

    forged = ids[1][:-3] + ("AAA" if not ids[1].endswith("AAA") else "BBB")
    assert report({"id": forged, "label": "no"}).status_code == 404
    assert report({"id": "", "label": "no"}).status_code == 404
    assert report({"id": ids[1], "label": "maybe"}).json()["error"].startswith("label 'maybe' is none of no, yes")
    assert report({"id": ids[1]}).status_code == 400
    assert report({"id": ids[1], "label": "no", "reward": 1.0}).status_code == 400
    assert report({"id": ids[1], "rewards": 1.0}).status_code == 400

    (keys / "previous").write_text((keys / "current").read_text())
    (keys / "fresh").write_text("fedcba9876543210fedcba9876543210")
    (keys / "fresh").rename(keys / "current")
    until(lambda: report({"id": ids[1], "label": "no"}).status_code == 200)
    (keys / "previous").unlink()
    until(lambda: report({"id": ids[2], "label": "no"}).status_code == 404)

    client = triton_grpc.InferenceServerClient(server.grpc)
    try:
        import numpy as np

        tensor = triton_grpc.InferInput("x", [1, FEATURES], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, FEATURES), dtype=np.float32))
        client.infer("tabular", [tensor])
    finally:
        client.close()


def test_without_a_key_there_are_no_ids(server: RuntimeServer) -> None:
    answer = httpx.post(f"{server.url}/predict", json=ROW)
    assert "id" not in answer.json()
    refused = httpx.post(f"{server.url}/feedback", json={"id": "x", "label": "no"})
    assert refused.status_code == 404
    assert "not set up" in refused.json()["error"]


def test_response_cache_and_payload_log(start: Callable[..., RuntimeServer], tabular: Path, tmp_path: Path) -> None:
    log = tmp_path / "payloads.jsonl"
    server = start(
        tabular,
        "--response-cache-bytes=100000",
        "--payload-log",
        str(log),
        "--payload-sample-per-mille=1000",
        "--payload-redact=x_1,x_2",
    ).wait_ready()
    first = httpx.post(f"{server.url}/predict", json=ROW).json()
    again = httpx.post(f"{server.url}/predict", json=ROW).json()
    v2 = httpx.post(
        f"{server.url}/v2/models/tabular/infer",
        json={
            "id": "mine",
            "inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": ROW["features"]}],
        },
    ).json()
    other = httpx.post(f"{server.url}/predict", json={"features": [0.25] * FEATURES}).json()
    assert again == first
    assert v2["id"] == "mine"
    assert max(v2["outputs"][0]["data"]) == pytest.approx(first["confidence"], rel=1e-6)
    assert other["confidence"] != first["confidence"]
    metrics = httpx.get(f"{server.management}/metrics").text
    assert 'mlserve_response_cache_requests_total{result="hit"} 2.0' in metrics
    telemetry = server.telemetry()["live"]
    assert telemetry["requests"] == telemetry["rows"] == 4
    until(lambda: log.exists() and len(log.read_text().splitlines()) == 4)
    line = json.loads(log.read_text().splitlines()[0])
    assert line["inputs"]["x"][0]["x_0"] == 0.5
    assert line["inputs"]["x"][0]["x_1"] == "[redacted]"
    assert line["predictions"][0]["label"] == first["label"]
