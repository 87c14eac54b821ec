"""Gathered rows are counted as if one by one; a profile that does not fit is dropped and told of."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlserve_core.artifact import parse_model_spec
from mlserve_core.statistics import ProfileCounter, ReferenceProfile, build_profile
from mlserve_runtime.processing import Pipeline, Tensors, build_pipeline
from mlserve_runtime.telemetry.budget import Budget
from mlserve_runtime.telemetry.histogram import Histogram
from mlserve_runtime.telemetry.profiles import LaneProfiles, read_profile

RANDOM = np.random.default_rng(4)
TABLE = RANDOM.standard_normal((2_000, 3)).astype(np.float32)
SURE = RANDOM.random(2_000).astype(np.float32)
SCORES = np.column_stack([SURE, 1 - SURE])


def pipeline(**changed: object) -> Pipeline:
    document = {
        "name": "m", "format": "onnx", "weights": "m.onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "features": ["a", "b", "c"]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 2]}],
    }  # fmt: skip
    return build_pipeline(parse_model_spec(yaml.safe_dump(document | changed)))


def profile(*names: str) -> ReferenceProfile:
    return build_profile(TABLE[:, : len(names)], feature_names=names, probabilities=SCORES)


@pytest.mark.parametrize("rows", [1, 7, 512, 700])
def test_gathered_rows_are_counted_like_all_at_once(rows: int) -> None:
    lane = LaneProfiles(profile("a", "b", "c"), pipeline(), Histogram.fractions())
    for start in range(0, len(TABLE), rows):
        lane.update({"x": TABLE[start : start + rows]}, SCORES[start : start + rows])
    own, comparison = lane.counts()
    whole = ProfileCounter(profile("a", "b", "c"))
    whole.update(TABLE, probabilities=SCORES)
    assert (own, comparison) == (whole.counts(), None)


@pytest.mark.parametrize(
    "names", [pytest.param(("pixel_0", "pixel_1"), id="another model"), pytest.param(("a", "b", "C"), id="renamed")]
)
def test_a_profile_that_does_not_fit_is_dropped_with_a_word_and_confidence_goes_on(names, caplog) -> None:
    confidence = Histogram.fractions()
    lane = LaneProfiles(profile(*names), pipeline(), confidence)
    for _ in range(3):
        lane.update({"x": TABLE}, SCORES)
    assert lane.counts() == (None, None)
    assert [record.message for record in caplog.records if "does not fit the model" in record.message] == [
        caplog.records[0].message
    ]
    assert confidence.count == 3 * len(TABLE)


def test_strings_and_any_number_of_categories_are_counted_in_bounded_memory() -> None:
    inputs = [
        {"name": "age", "datatype": "FP32", "shape": [-1], "missing": "allow"},
        {"name": "city", "datatype": "BYTES", "shape": [-1]},
    ]
    known = build_profile({"age": TABLE[:, 0], "city": ["Bonn", "Kiel"] * 1_000})
    lane = LaneProfiles(known, pipeline(inputs=inputs), Histogram.fractions())
    batch: Tensors = {"age": np.full(1_000, np.nan, dtype=np.float32)}
    tracemalloc.start()
    try:
        for start in range(0, 100_000, 1_000):
            names = np.array([f"city-{i}" for i in range(start, start + 1_000)], dtype=object)
            lane.update({**batch, "city": names}, SCORES[:1_000])
        own, _ = lane.counts()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert own is not None
    assert (own.rows, own.features["age"].missing, own.features["city"].unseen) == (100_000,) * 3
    assert taken < 512_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"schemaVersion": 9}, "schema version 9", id="schema version"),
        pytest.param({"features": "x"}, "features: Input should be a valid array", id="inconsistent"),
    ],
)
def test_a_profile_that_cannot_be_read_is_said_and_not_used(tmp_path: Path, caplog, change, message: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(json.loads(profile("a").to_json()) | change))
    assert read_profile(path) is None
    assert message in caplog.text
    path.write_text("")
    assert read_profile(path) is None
    assert "it is no JSON" in caplog.text


def test_beyond_the_budget_passes_are_left_out_whole_and_those_counted_are_a_fair_sample() -> None:
    now = spent = 0.0

    def clock() -> float:
        return now

    def processor() -> float:
        nonlocal spent
        spent += 0.01  # between two readings
        return spent

    confidence = Histogram.fractions()
    budget = Budget(0.1, 0.0, clock=clock, spent=processor)
    lane = LaneProfiles(profile("a", "b", "c"), pipeline(), confidence, budget)
    for start in range(0, len(TABLE), 10):
        if budget.allows():
            lane.update({"x": TABLE[start : start + 10]}, SCORES[start : start + 10])
            lane.flush()
        now += 0.0501  # half of what a flush of 10 ms has to wait for
    own, _ = lane.counts()
    assert own is not None
    assert own.rows == confidence.count == len(TABLE) / 2
    whole = ProfileCounter(profile("a", "b", "c"))
    whole.update(TABLE, probabilities=SCORES)
    for name, counted in own.features.items():
        expected = np.array(whole.counts().features[name].counts) / 2
        assert np.abs(np.cumsum(counted.counts - expected)).max() < 1.63 * np.sqrt(own.rows)  # Kolmogorov, 1 %
