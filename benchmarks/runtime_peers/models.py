"""The two models every server of the comparison serves, with the same weights."""

from __future__ import annotations

import os

import torch
from torch import nn


def build() -> tuple[nn.Module, tuple[int, ...]]:
    """The module named by BENCH_MODEL with the weights of BENCH_WEIGHTS, and the shape of one row."""
    torch.set_num_threads(1)
    module: nn.Module
    if os.environ["BENCH_MODEL"] == "tabular":
        module, shape = (
            nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)),
            (30,),
        )
    else:
        module, shape = SmallCNN(), (1, 28, 28)
    module.load_state_dict(torch.load(os.environ["BENCH_WEIGHTS"], weights_only=True))
    return module.eval(), shape


class SmallCNN(nn.Module):
    """Two blocks of 3x3 convolution and pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        result: torch.Tensor = self.classifier(self.features(x))
        return result
