"""`model.yaml`: names of features, and the mistakes that are caught before a model is ever loaded."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mlserve_core.artifact import ArtifactError, parse_model_spec

if TYPE_CHECKING:
    from mlserve_core.model_spec import ModelSpec

BASE: dict[str, Any] = {
    "name": "tiny",
    "format": "torchscript",
    "weights": "model.pt",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}
TWO_INPUTS = [
    {"name": "age", "datatype": "FP32", "shape": [-1]},
    {"name": "city", "datatype": "BYTES", "shape": [-1]},
]


def spec(**changes: Any) -> ModelSpec:
    document = copy.deepcopy(BASE) | changes
    return parse_model_spec(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        pytest.param([{"name": "x", "datatype": "FP32", "shape": [-1, 2]}], ("x_0", "x_1"), id="numbered"),
        pytest.param(
            [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "features": ["a", "b"]}], ("a", "b"), id="named"
        ),
        pytest.param(TWO_INPUTS, ("age", "city"), id="columns"),
        pytest.param([{"name": "x", "datatype": "FP32", "shape": [-1, 3, 224, 224]}], (), id="too many"),
        pytest.param([{"name": "x", "datatype": "INT64", "shape": [-1, -1]}], (), id="varying"),
    ],
)
def test_feature_names(inputs: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    assert spec(inputs=inputs).feature_names == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"wieghts": "x"}, "wieghts", id="misspelt field"),
        pytest.param({"format": "pickle"}, "format", id="unknown format"),
        pytest.param({"format": "safetensors"}, "needs architecture", id="no architecture"),
        pytest.param({"architecture": {"name": "mlp"}}, "takes no architecture", id="superfluous architecture"),
        pytest.param(
            {"format": "safetensors", "architecture": {"name": "a", "factory": "b:c"}}, "either", id="name and factory"
        ),
        pytest.param({"weights": "../model.pt"}, "plain relative path", id="weights outside"),
        pytest.param({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}]}, "begin with -1", id="no batch"),
        pytest.param({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 0]}]}, "positive", id="size zero"),
        pytest.param({"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [-1]}]}, "FP32", id="datatype"),
        pytest.param(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "features": ["a"]}]},
            "1 features named",
            id="feature count",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "features": ["a", "a"]}]},
            "named twice",
            id="feature twice",
        ),
        pytest.param({"inputs": [BASE["inputs"][0]] * 2}, "occurs twice", id="input twice"),
        pytest.param({"classes": ["a", "b"]}, "tells 3 apart", id="class count"),
        pytest.param({"task": "regression", "classes": ["a"]}, "no classes", id="regression with classes"),
        pytest.param({"postprocessing": {"threshold": 0.5}}, "needs two classes", id="threshold"),
        pytest.param(
            {
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
                "classes": [],
                "postprocessing": {"activation": "softmax"},
            },
            "use sigmoid",
            id="softmax of one column",
        ),
        pytest.param({"preprocessing": [{"op": "normalise"}]}, "normalize", id="unknown step lists the steps"),
        pytest.param(
            {"preprocessing": [{"op": "normalize", "mean": [0], "std": [1, 2]}]}, "one std per mean", id="mean, std"
        ),
        pytest.param({"preprocessing": [{"op": "normalize", "mean": [0], "std": [0]}]}, "greater than 0", id="std 0"),
        pytest.param({"preprocessing": [{"op": "scale", "input": "z"}]}, "unknown input 'z'", id="step's input"),
        pytest.param(
            {"inputs": TWO_INPUTS, "preprocessing": [{"op": "scale"}]}, "say which", id="step without input of two"
        ),
        pytest.param({"preprocessing": [{"op": "clip"}]}, "min, max or both", id="clip nothing"),
        pytest.param({"preprocessing": [{"op": "clip", "min": 2, "max": 1}]}, "greater than max", id="clip reversed"),
        pytest.param({"preprocessing": [{"op": "reshape", "shape": [2, -1]}]}, "followed by", id="reshape"),
        pytest.param({"preprocessing": [{"op": "transpose", "axes": [1, 0]}]}, "leaves 0", id="transpose the batch"),
        pytest.param({"preprocessing": [{"op": "encode", "categories": ["a", "a"]}]}, "twice", id="category twice"),
        pytest.param({"image": {"input": "y", "width": 8, "height": 8}}, "unknown input 'y'", id="image's input"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        spec(**changes)


def test_steps_may_use_what_concatenate_made() -> None:
    steps = [
        {"op": "encode", "input": "city", "categories": ["Bonn", "Rome"]},
        {"op": "concatenate", "inputs": ["age", "city"], "output": "row"},
        {"op": "clip", "input": "row", "min": 0},
    ]
    assert len(spec(inputs=TWO_INPUTS, preprocessing=steps).preprocessing) == 3


def test_torchscript_counts_as_code() -> None:
    assert spec().is_code
    assert not spec(format="onnx").is_code


def test_the_input_is_found_by_name_or_by_being_alone() -> None:
    assert spec().input().name == "x"
    with pytest.raises(KeyError, match="age, city"):
        spec(inputs=TWO_INPUTS).input()
