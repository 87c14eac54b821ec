"""A model whose features are looked up: one number and one category."""

from __future__ import annotations

import pytest
import yaml

from mlserve_core.artifact import parse_model_spec
from mlserve_core.model_spec import ModelSpec


@pytest.fixture
def spec() -> ModelSpec:
    document = {
        "name": "m",
        "format": "onnx",
        "weights": "m.onnx",
        "inputs": [
            {"name": "age", "datatype": "FP32", "shape": [-1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    return parse_model_spec(yaml.safe_dump(document))
