"""A model small enough to be made for every test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mlserve_core.artifact import write_manifest
from mlserve_runtime.backends.architectures import ARCHITECTURES


@pytest.fixture(scope="session")
def write_mlp() -> Callable[..., Path]:
    """`write_mlp(directory, columns, **spec)`."""
    return _write_mlp


def _write_mlp(directory: Path, columns: int, **spec: Any) -> Path:
    """An artifact in `directory`: a perceptron with random weights from so many columns to the softmax of two outputs.

    Args:
        directory: There already, and empty.
        columns: What the network sees, after preprocessing.
        spec: Further fields of model.yaml; name, inputs and outputs at least.
    """
    arguments = {"inputs": columns, "outputs": 2, "hidden": [3]}
    torch.manual_seed(0)
    save_file(ARCHITECTURES["mlp"](**arguments).state_dict(), directory / "model.safetensors")
    document = {
        "format": "safetensors",
        "weights": "model.safetensors",
        "architecture": {"name": "mlp", "arguments": arguments},
        "postprocessing": {"activation": "softmax"},
    }
    (directory / "model.yaml").write_text(yaml.safe_dump(document | spec))
    write_manifest(directory)
    return directory
