"""Output tensors to classes, confidences and values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from mlserve_core.artifact import parse_model_spec
from mlserve_runtime.processing.predictions import Outcome, postprocess, sigmoid, softmax


def outcome(
    array: Any,
    *,
    width: int | None = None,
    extra: dict[str, Any] | None = None,
    datatype: Any = np.float32,
    **more: Any,
) -> Outcome:
    array = np.asarray(array, dtype=datatype)
    shape = [-1, *array.shape[1:]] if width is None else [-1, width]
    document = {
        "name": "m",
        "format": "onnx",
        "weights": "m.onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": shape}],
    }
    return postprocess(parse_model_spec(yaml.safe_dump(document | more)), {"y": array} | (extra or {}))


scores = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e4, 1e4, width=32))


@given(scores)
def test_softmax_agrees_with_scipy(array: np.ndarray) -> None:
    np.testing.assert_allclose(softmax(array), special.softmax(array, axis=-1), atol=1e-5)


@given(scores)
def test_sigmoid_agrees_with_scipy(array: np.ndarray) -> None:
    np.testing.assert_allclose(sigmoid(array), special.expit(array), atol=1e-6)


def test_classes_by_softmax() -> None:
    found = outcome(
        [[0, 2, 1], [3, 0, 0]], classes=["a", "b", "c"], postprocessing={"activation": "softmax", "topK": 2}
    )
    assert found.predictions is not None
    rows = found.predictions.rows()
    assert [row["label"] for row in rows] == ["b", "a"]
    assert [entry["label"] for entry in rows[0]["top"]] == ["b", "c"]
    assert rows[0]["confidence"] == pytest.approx(float(special.softmax([0, 2, 1])[1]))
    np.testing.assert_allclose(found.outputs["y"].sum(axis=1), 1, rtol=1e-6)


def test_one_column_of_sigmoid_is_two_classes() -> None:
    found = outcome([[-2.0], [2.0]], classes=["no", "yes"], postprocessing={"activation": "sigmoid"})
    assert found.predictions is not None
    assert [row["label"] for row in found.predictions.rows()] == ["no", "yes"]
    assert found.outputs["y"].shape == (2, 1), "the protocol's output keeps its declared shape"


@pytest.mark.parametrize(("threshold", "label"), [(0.2, "yes"), (0.4, "no")])
def test_a_threshold_moves_the_decision(threshold: float, label: str) -> None:
    found = outcome([[0.7, 0.3]], classes=["no", "yes"], postprocessing={"threshold": threshold})
    assert found.predictions is not None
    row = found.predictions.rows()[0]
    assert row["label"] == label
    assert row["confidence"] == pytest.approx(0.3 if label == "yes" else 0.7)


def test_regression_undoes_the_scaling_of_its_target() -> None:
    found = outcome([[1.0], [2.0]], task="regression", postprocessing={"scale": 10, "offset": 5})
    assert found.predictions is not None
    assert found.predictions.rows() == [{"value": 15.0}, {"value": 25.0}]
    assert found.outputs["y"].tolist() == [[15.0], [25.0]]


@pytest.mark.parametrize("datatype", [np.int8, np.int32, np.int64, np.uint8])
def test_integers_are_scaled_as_numbers(datatype: Any) -> None:
    """In their own type a factor of a half would be none at all."""
    found = outcome([[4], [7]], task="regression", postprocessing={"scale": 0.5, "offset": 0.25}, datatype=datatype)
    assert found.predictions is not None
    assert [row["value"] for row in found.predictions.rows()] == [2.25, 3.75]
    found = outcome([[0], [2]], postprocessing={"activation": "sigmoid"}, datatype=datatype)
    assert found.outputs["y"][:, 0].tolist() == pytest.approx([0.5, 0.8808], abs=1e-4)


def test_rows_with_nan_are_marked_and_still_json() -> None:
    found = outcome([[0.5, 0.5], [np.nan, 0.5], [np.inf, 0.5]], extra={"z": np.array([0, 0, 0], np.float32)})
    assert found.finite.tolist() == [True, False, False]
    assert found.predictions is not None
    text = json.dumps(found.predictions.rows(), allow_nan=False)
    assert json.loads(text)[1]["confidence"] is None


@pytest.mark.parametrize(
    ("row", "finite"),
    [([3e38, 3e38], True), ([np.inf, -np.inf], False), ([np.nan, 1], False), ([0, 1], True)],
    ids=["a sum that overflows", "infinities that cancel", "nan", "ordinary"],
)
def test_whether_all_is_finite_is_told_without_a_warning(row: list[float], finite: bool) -> None:
    found = outcome([[0.5, 0.5], row])
    assert found.all_finite is finite
    assert found.finite.tolist() == [True, finite]


def test_any_output_makes_a_row_not_finite() -> None:
    found = outcome([[0.5, 0.5]], extra={"z": np.array([[[np.nan]]], np.float32)})
    assert found.finite.tolist() == [False]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 0)], ids=str)
def test_outputs_that_are_no_scores_have_no_predictions(shape: tuple[int, ...]) -> None:
    assert outcome(np.zeros(shape), width=-1).predictions is None


def test_a_slice_of_predictions_is_the_predictions_of_a_slice() -> None:
    found = outcome(np.eye(4), postprocessing={"activation": "softmax"})
    assert found.predictions is not None
    assert found.predictions[1:3].rows() == found.predictions.rows()[1:3]


@given(hnp.arrays(np.float32, (5, 4), elements=st.floats(0, 1, width=32)))
def test_the_best_few_are_sorted_and_begin_with_the_prediction(array: np.ndarray) -> None:
    found = outcome(array, postprocessing={"topK": 3})
    assert found.predictions is not None
    for row in found.predictions.rows():
        probabilities = [entry["probability"] for entry in row["top"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert row["top"][0]["label"] == row["label"]
