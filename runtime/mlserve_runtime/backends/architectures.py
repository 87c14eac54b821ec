"""The architectures that weights can name without bringing code.

Parameter names are those of the obvious torch.nn modules, for the ResNet family those of torchvision, so that weights
trained elsewhere load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import nn

_ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (64, 32), activation: str = "relu", dropout: float = 0.0
) -> nn.Module:
    """A multilayer perceptron: [rows, inputs] -> [rows, outputs]; an nn.Sequential of Linear, activation, Dropout.

    The Dropout stands there only when `dropout` is above 0, as in training.
    """
    make = _activation(activation)
    layers: list[nn.Module] = []
    width = inputs
    for size in hidden:
        layers += [nn.Linear(width, size), make()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    layers.append(nn.Linear(width, outputs))
    return nn.Sequential(*layers)


class SmallCNN(nn.Module):
    """Convolutions of 3x3 with pooling, then a linear head: [rows, channels, height, width] -> [rows, classes].

    `widths` are the channels after each block of convolution, ReLU and 2x2 max pooling. Parameters:
    `features.{0,3,6,...}` and `classifier.{1,3}`.
    """

    def __init__(
        self,
        classes: int,
        height: int,
        width: int,
        channels: int = 1,
        widths: Sequence[int] = (16, 32),
        hidden: int = 64,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        depth = channels
        for size in widths:
            blocks += [nn.Conv2d(depth, size, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            depth, height, width = size, height // 2, width // 2
        if height == 0 or width == 0:
            raise ValueError(f"{len(widths)} blocks halve the image to nothing; use fewer widths")
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(depth * height * width, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = _conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape, halved by the stride."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        result: torch.Tensor = self.relu(y + shortcut)
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; four times as many channels come out."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = _conv(planes, planes * 4, 1)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inputs, planes * 4, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape, halved by the stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        result: torch.Tensor = self.relu(y + shortcut)
        return result


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Deep residual network (He et al. 2015): [rows, channels, height, width] -> [rows, classes]."""

    def __init__(
        self, block: type[BasicBlock | Bottleneck], depths: Sequence[int], classes: int, channels: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        width = 64
        for index, depth in enumerate(depths):
            planes = 64 * 2**index
            layers: list[nn.Module] = []
            for position in range(depth):
                layers.append(block(width, planes, 2 if index and position == 0 else 1))
                width = planes * block.expansion
            self.add_module(f"layer{index + 1}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[operator]
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _resnet(block: type[BasicBlock | Bottleneck], *depths: int) -> Callable[..., nn.Module]:
    def build(classes: int = 1000, channels: int = 3) -> nn.Module:
        return ResNet(block, depths, classes, channels)

    return build


def _activation(name: str) -> Callable[[], nn.Module]:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; use one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


ARCHITECTURES: Final[dict[str, Callable[..., Any]]] = {
    "mlp": mlp,
    "small_cnn": SmallCNN,
    "resnet18": _resnet(BasicBlock, 2, 2, 2, 2),
    "resnet34": _resnet(BasicBlock, 3, 4, 6, 3),
    "resnet50": _resnet(Bottleneck, 3, 4, 6, 3),
    "resnet101": _resnet(Bottleneck, 3, 4, 23, 3),
    "resnet152": _resnet(Bottleneck, 3, 8, 36, 3),
}
