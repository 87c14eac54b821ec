"""Every request is counted; its rows on the bins of a profile only while there is time for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlserve_core.artifact import write_manifest
from mlserve_core.statistics import build_profile
from mlserve_core.wire import TelemetrySnapshot
from mlserve_runtime.batching.execution import execute
from mlserve_runtime.batching.queue import Batch, Job, Slice
from mlserve_runtime.calls import Call
from mlserve_runtime.model import ServedModel, load_model
from mlserve_runtime.protocols.oip import InferRoute
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry import recorder as recorder_module
from mlserve_runtime.telemetry.budget import Budget
from mlserve_runtime.telemetry.recorder import Recorder


@pytest.fixture
def model(tmp_path: Path, write_mlp: Callable[..., Path]) -> ServedModel:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "features": ["a", "b"]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
    write_mlp(tmp_path, 2, name="small", inputs=inputs, outputs=outputs)
    rows = np.random.default_rng(0).random((500, 2), dtype=np.float32)
    profile = build_profile(rows, feature_names=["a", "b"], probabilities=np.full((500, 2), 0.5))
    (tmp_path / "profile.json").write_text(profile.model_dump_json(by_alias=True))
    write_manifest(tmp_path)
    return load_model(Settings(model_dir=tmp_path, threads=1))


def answer(recorder: Recorder, model: ServedModel, job: Job, received: float, decoded: float, sent: float) -> None:
    route = InferRoute(model.artifact.spec)
    recorder.answered(Call(route, {}, b"", print, received, lane=job.lane, decoded=decoded, job=job), sent)


def run(recorder: Recorder, model: ServedModel, lanes: list[Any]) -> TelemetrySnapshot:
    """One pass of one-row requests of these lanes, answered 2 ms after they came."""
    jobs = [
        Job(inputs={"x": np.full((1, 2), 0.5, np.float32)}, rows=1, deadline=9.0, on_done=print, lane=lane)
        for lane in lanes
    ]
    batch = Batch([Slice(job, 0, 1) for job in jobs], len(jobs), None)
    outcome = execute(batch.slices, model.run)
    for job in jobs:
        job.started, job.finished = 1.001, 1.002
        answer(recorder, model, job, received=1.0, decoded=1.0005, sent=1.002)
    recorder.batch_done(batch, outcome)
    return recorder.snapshot(model, ready=True, draining=False, in_flight=0, queue_rows=0)


def counted(told: TelemetrySnapshot) -> dict[str, tuple[int, int]]:
    """Requests, and rows on the bins, by lane."""
    lanes = {"live": told.live, "mirror": told.mirror}
    return {name: (lane.requests, lane.own.rows if lane.own else -1) for name, lane in lanes.items()}


def test_rows_of_a_pass_are_counted_in_their_lanes(model: ServedModel) -> None:
    recorder = Recorder(Settings())
    recorder.model_loaded(model)
    told = run(recorder, model, ["live", "mirror", None, "live"])
    assert counted(told) == {"live": (2, 2), "mirror": (1, 1)}
    assert told.live.own is not None
    assert sum(told.live.own.features["a"].counts) == 2
    assert told.live.latency_sum_micros == pytest.approx(4_000, abs=1)
    assert recorder.metrics.phase_seconds == pytest.approx(
        {"parse": 0.002, "queue": 0.002, "forward": 0.004, "encode": 0.0}, abs=1e-6
    )


def test_a_busy_server_counts_every_request_and_leaves_out_passes_on_the_bins(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = spent = 0.0

    def processor() -> float:
        nonlocal spent
        spent += 1.0  # a pass is counted between two readings
        return spent

    monkeypatch.setattr(recorder_module, "Budget", lambda: Budget(0.5, 0.0, clock=lambda: now, spent=processor))
    recorder = Recorder(Settings())
    recorder.model_loaded(model)
    expected = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]
    for requests, rows in expected:
        assert counted(run(recorder, model, ["live"]))["live"] == (requests, rows)
        now += 1.0  # half of what a pass that is counted takes to be paid for


def test_a_thousand_answers_are_counted_without_anybody_asking(model: ServedModel) -> None:
    recorder = Recorder(Settings())
    recorder.model_loaded(model)
    for _ in range(1025):
        job = Job(inputs={}, rows=3, deadline=9.0, on_done=print, lane="live", started=1.0, finished=1.0)
        answer(recorder, model, job, received=1.0, decoded=1.0, sent=1.0)
    assert (recorder.lanes.live.requests, recorder.lanes.live.rows) == (1024, 3072)
    recorder.flush()
    assert (recorder.lanes.live.requests, recorder.metrics.requests["v2", 200]) == (1025, 1025)
