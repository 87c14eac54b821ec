"""A model of two inputs and two outputs of different datatypes, for what one tensor cannot show."""

from __future__ import annotations

from pathlib import Path

import torch

from .conftest import write_artifact

CODE = """
import torch


class TwoTensors(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, a, n):
        return (a * self.scale).sum(dim=1, keepdim=True), n + 1
"""


def write_two_tensors(directory: Path) -> tuple[Path, dict[str, str]]:
    """The artifact, and the environment in which a server finds its code."""
    (directory / "code").mkdir()
    (directory / "code" / "two_tensors_model.py").write_text(CODE)
    module = torch.nn.Module()
    module.scale = torch.nn.Parameter(torch.ones(1))
    spec = {
        "name": "two",
        "version": "7",
        "task": "regression",
        "format": "safetensors",
        "architecture": {"factory": "two_tensors_model:TwoTensors"},
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "n", "datatype": "INT64", "shape": [-1, 2]},
        ],
        "outputs": [
            {"name": "total", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "next", "datatype": "INT64", "shape": [-1, 2]},
        ],
    }
    return write_artifact(directory / "artifact", module, spec), {"PYTHONPATH": str(directory / "code")}
