"""The models every server of the comparison serves, with the same weights."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import nn


def build() -> tuple[nn.Module, tuple[int, ...]]:
    """The module named by BENCH_MODEL with the weights of BENCH_WEIGHTS, and the shape of one row."""
    torch.set_num_threads(1)
    make, shape = MODULES[os.environ["BENCH_MODEL"]]
    module = make()
    module.load_state_dict(torch.load(os.environ["BENCH_WEIGHTS"], weights_only=True))
    return module.eval(), shape


def perceptron() -> nn.Module:
    """30 features, two classes."""
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))


def pooled_classifier() -> nn.Module:
    """A cheap look at a large image: what remains of a request is reading 150,528 numbers."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten(), nn.Linear(3 * 16 * 16, 10))


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


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "tabular": (perceptron, (30,)),
    "cnn": (SmallCNN, (1, 28, 28)),
    "image": (pooled_classifier, (3, 224, 224)),
}
