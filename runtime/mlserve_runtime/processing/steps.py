"""The preprocessing steps as functions on whole batches.

Every step maps named tensors to named tensors and never writes into its input: the raw values stay available to
telemetry. Neighbouring `scale` and `normalize` steps on one tensor are fused into a single multiply and add.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlserve_core.processing import (
    Cast,
    Clip,
    Concatenate,
    Encode,
    Impute,
    Normalize,
    PreprocessingStep,
    Reshape,
    Scale,
    Transpose,
)
from mlserve_core.statistics.counter import category_name
from mlserve_runtime.processing.errors import InputError, PipelineError
from mlserve_runtime.processing.tensors import DTYPES, Array, Tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

ArrayFunction = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Affine:
    """x * factor + offset, computed in the tensor's float type (float32 for integers)."""

    factor: Array
    offset: Array
    axis: int | None
    """Axis along which factor and offset vary; None for one pair."""

    def then(self, later: Affine) -> Affine | None:
        """Both as one, or None where they vary along different axes."""
        if None not in (self.axis, later.axis) and self.axis != later.axis:
            return None
        axis = later.axis if self.axis is None else self.axis
        return Affine(self.factor * later.factor, self.offset * later.factor + later.offset, axis)

    def __call__(self, array: Array) -> Array:
        """Apply to a batch."""
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        result = np.multiply(array, self._aligned(self.factor, array).astype(dtype, copy=False), dtype=dtype)
        result += self._aligned(self.offset, array).astype(dtype, copy=False)
        return result

    def _aligned(self, values: Array, array: Array) -> Array:
        if self.axis is None or values.size == 1:
            return values.reshape(())
        axis = self.axis % array.ndim
        if array.shape[axis] != values.size:
            raise PipelineError(f"axis {self.axis} has {array.shape[axis]} entries, mean and std have {values.size}")
        return values.reshape([-1 if index == axis else 1 for index in range(array.ndim)])


@dataclass(frozen=True, slots=True)
class OnTensor:
    """A function applied to one tensor in place of it."""

    name: str
    function: ArrayFunction

    def __call__(self, tensors: Tensors) -> Tensors:
        """The tensors with that one replaced."""
        return {**tensors, self.name: self.function(tensors[self.name])}


@dataclass(frozen=True, slots=True)
class Join:
    """Several tensors become one, in the place of the first."""

    names: tuple[str, ...]
    output: str

    def __call__(self, tensors: Tensors) -> Tensors:
        """The tensors with these joined."""
        columns = [t[:, np.newaxis] if t.ndim == 1 else t for t in (tensors[name] for name in self.names)]
        joined = np.concatenate(columns, axis=-1)
        if joined.dtype == np.float64 and not any(column.dtype == np.float64 for column in columns):
            joined = joined.astype(np.float32)
        result: Tensors = {}
        for name, tensor in tensors.items():
            if name == self.names[0]:
                result[self.output] = joined
            elif name not in self.names:
                result[name] = tensor
        return result


Step = OnTensor | Join


def compile_steps(steps: Sequence[PreprocessingStep], default: str) -> tuple[Step, ...]:
    """Executable steps of declared ones; `default` is the tensor a step without a name works on."""
    compiled: list[Step] = []
    for step in steps:
        if isinstance(step, Concatenate):
            compiled.append(Join(tuple(name or default for name in step.inputs), step.output))
            default = step.output
            continue
        name = step.input or default
        function = _function(step)
        previous = compiled[-1] if compiled else None
        if isinstance(function, Affine) and isinstance(previous, OnTensor) and previous.name == name:
            fused = previous.function.then(function) if isinstance(previous.function, Affine) else None
            if fused:
                compiled[-1] = OnTensor(name, fused)
                continue
        compiled.append(OnTensor(name, function))
    return tuple(compiled)


def _function(step: Cast | Scale | Normalize | Clip | Impute | Reshape | Transpose | Encode) -> ArrayFunction:
    if isinstance(step, Cast):
        dtype = DTYPES[step.datatype]
        return lambda array: array.astype(dtype, copy=False)
    if isinstance(step, Scale):
        return Affine(np.asarray(step.factor), np.asarray(step.offset), None)
    if isinstance(step, Normalize):
        mean, std = np.asarray(step.mean), np.asarray(step.std)
        return Affine(1 / std, -mean / std, step.axis if mean.size > 1 else None)
    if isinstance(step, Clip):
        low, high = step.min, step.max
        return lambda array: np.clip(array, low, high)
    if isinstance(step, Impute):
        return _imputer(np.asarray(step.values))
    if isinstance(step, Reshape):
        sizes = step.shape[1:]
        return lambda array: array.reshape(array.shape[0], *sizes)
    if isinstance(step, Transpose):
        axes = step.axes
        return lambda array: np.ascontiguousarray(array.transpose(axes))
    return _encoder(step)


def _imputer(values: Array) -> ArrayFunction:
    def impute(array: Array) -> Array:
        if array.dtype.kind != "f":
            return array
        return np.where(np.isnan(array), values.astype(array.dtype), array)

    return impute


def _encoder(step: Encode) -> ArrayFunction:
    index = {category: position for position, category in enumerate(step.categories)}
    one_hot = np.vstack([np.eye(len(step.categories), dtype=np.float32), np.zeros(len(step.categories), np.float32)])

    def encode(array: Array) -> Array:
        column = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        codes = np.fromiter(
            (index.get(category_name(item) or "", -1) for item in column.tolist()), dtype=np.int64, count=len(column)
        )
        if step.unknown == "error" and (unknown := np.flatnonzero(codes < 0)).size:
            shown = ", ".join(step.categories[:10]) + (", ..." if len(step.categories) > 10 else "")
            name = step.input or "category"
            raise InputError(f"{name}: {_text(column[unknown[0]])!r} is none of {shown}", row=int(unknown[0]))
        # Code -1 picks the last row, which is all zeros.
        return one_hot[codes] if step.encoding == "one_hot" else codes.astype(np.float32)

    return encode


def _text(item: Any) -> str:
    text = str(item)
    return text if len(text) <= 60 else text[:60] + "..."
