"""The seam between serving and computing.

Everything above it speaks of named NumPy arrays with the batch first; everything below it of one framework. A
backend is a callable: tensors in the order of the model's arguments, outputs by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]


class LoadError(Exception):
    """The weights cannot become a model here; the text says what is wrong and what to do."""


class Backend(Protocol):
    """A loaded model."""

    def __call__(self, inputs: Tensors) -> Tensors:
        """One forward pass. Called by one thread at a time; raises whatever the model raises."""

    def tune(self, samples: Mapping[int, Tensors]) -> None:
        """Warm up on inputs of several batch sizes (rows -> tensors) and choose the fastest executable of each."""

    def describe(self) -> dict[str, Any]:
        """What runs where, as plain JSON, for /v2/models/M/config and the page."""

    def release_thread(self) -> None:
        """Called once on the thread that will run the model, for settings that are per thread."""


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Where and how to compute."""

    device: str = "cpu"
    threads: int = 1
    half_precision: bool = False
    cuda_graphs: bool = False


def named_outputs(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Give the results of a model their declared names.

    A mapping is taken by name, a sequence by position, a single tensor as the first. Raises LoadError if something
    declared is missing: it is the artifact that is wrong, not the request.
    """
    if isinstance(values, Mapping):
        missing = [name for name in names if name not in values]
        if missing:
            raise LoadError(f"the model returns {', '.join(values)}, but outputs declare {', '.join(missing)}")
        return {name: values[name] for name in names}
    sequence = values if isinstance(values, tuple | list) else (values,)
    if len(sequence) < len(names):
        raise LoadError(f"the model returns {len(sequence)} tensors, but outputs declare {', '.join(names)}")
    return dict(zip(names, sequence, strict=False))
