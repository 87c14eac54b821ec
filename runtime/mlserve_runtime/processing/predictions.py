"""From output tensors to answers people can read: class, confidence, the best few, or a value.

Kept as arrays over the batch; rows become JSON objects only for the protocols that ask for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlserve_core.model_spec import ModelSpec
    from mlserve_runtime.processing.tensors import Array, Tensors


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of a batch of n rows over c classes, or n values of a regression."""

    labels: tuple[str, ...]
    """Names of the classes; empty for a regression."""
    classes: Array | None = None
    """Index of the predicted class, int64 [n]."""
    probabilities: Array | None = None
    """Float [n, c]; what the first output holds, a single column completed to two."""
    confidence: Array | None = None
    """Probability of the predicted class, float [n]."""
    values: Array | None = None
    """Regression: float [n] or [n, k]."""
    top_k: int = 3

    def __getitem__(self, rows: slice) -> Predictions:
        """The predictions of some rows, without copying."""
        return Predictions(
            labels=self.labels,
            classes=None if self.classes is None else self.classes[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            confidence=None if self.confidence is None else self.confidence[rows],
            values=None if self.values is None else self.values[rows],
            top_k=self.top_k,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One JSON object per row: `label`, `class`, `confidence`, `top`; or `value`. Non-finite numbers are None."""
        if self.values is not None:
            return [{"value": value} for value in _json(self.values)]
        if self.classes is None or self.probabilities is None or self.confidence is None:
            return []
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, : self.top_k]
        best = _json(np.take_along_axis(self.probabilities, order, axis=1))
        labels, confidence = self.labels, _json(self.confidence)
        return [
            {
                "label": labels[index],
                "class": index,
                "confidence": confidence[row],
                "top": [{"label": labels[i], "probability": p} for i, p in zip(positions, best[row], strict=True)],
            }
            for row, (index, positions) in enumerate(zip(self.classes.tolist(), order.tolist(), strict=True))
        ]


@dataclass(frozen=True)
class Outcome:
    """What came of a batch."""

    outputs: Tensors
    """Output tensors as the signature names them, after the activation."""
    read: Callable[[], Predictions | None]
    """Reads the predictions from the outputs; called when somebody wants them."""
    all_finite: bool
    """Whether no output holds NaN or infinity."""

    @cached_property
    def finite(self) -> Array:
        """Bool [n]: rows whose outputs hold neither NaN nor infinity."""
        return _finite_rows(self.outputs)

    @cached_property
    def predictions(self) -> Predictions | None:
        """None where the first output is neither scores per class nor values per row."""
        return self.read()


def postprocess(spec: ModelSpec, outputs: Tensors) -> Outcome:
    """Apply the declared activation to the first output and read the predictions from it."""
    name = spec.outputs[0].name
    all_finite = _sums_are_finite(outputs)
    post = spec.postprocessing
    first = outputs[name]
    if post.activation == "softmax":
        first = softmax(_as_floats(first))
    elif post.activation == "sigmoid":
        first = sigmoid(_as_floats(first))
    elif spec.task == "regression" and (post.scale, post.offset) != (1.0, 0.0):
        first = _as_floats(first)
        first = first * first.dtype.type(post.scale) + first.dtype.type(post.offset)
    outputs = {**outputs, name: first}
    all_finite = all_finite or bool(_finite_rows(outputs).all())
    return Outcome(outputs, lambda: read_predictions(spec, first), all_finite)


def read_predictions(spec: ModelSpec, first: Array) -> Predictions | None:
    """The predictions in the first output tensor (after the activation); None where it is none of scores and values."""
    return _values(first) if spec.task == "regression" else _classes(spec, first)


def softmax(scores: Array) -> Array:
    """Over the last axis, shifted by the maximum so that large scores do not overflow."""
    with np.errstate(invalid="ignore"):
        shifted: Array = scores - scores.max(axis=-1, keepdims=True)
        np.exp(shifted, out=shifted)
        shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def sigmoid(scores: Array) -> Array:
    """1 / (1 + exp(-x)) by way of tanh, which does not overflow."""
    half = scores.dtype.type(0.5)
    result: Array = np.tanh(scores * half) * half + half
    return result


def _as_floats(array: Array) -> Array:
    """Of integers, for which a factor of 0.5 would be 0, the floats that hold them."""
    return array if array.dtype.kind == "f" else array.astype(np.result_type(array.dtype, np.float32))


def _values(first: Array) -> Predictions | None:
    if first.dtype.kind not in "fiu" or first.ndim > 2:
        return None
    return Predictions(labels=(), values=first[:, 0] if first.ndim == 2 and first.shape[1] == 1 else first)


def _classes(spec: ModelSpec, first: Array) -> Predictions | None:
    probabilities = first[:, np.newaxis] if first.ndim == 1 else first
    if probabilities.ndim != 2 or probabilities.dtype.kind != "f" or probabilities.shape[1] == 0:
        return None
    if probabilities.shape[1] == 1:
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    threshold = spec.postprocessing.threshold
    over_threshold = None if threshold is None else probabilities[:, 1] >= threshold
    classes = probabilities.argmax(axis=1) if over_threshold is None else over_threshold.astype(np.int64)
    return Predictions(
        labels=spec.classes or tuple(str(index) for index in range(probabilities.shape[1])),
        classes=classes,
        probabilities=probabilities,
        confidence=probabilities[np.arange(len(classes)), classes],
        top_k=spec.postprocessing.top_k,
    )


def _sums_are_finite(outputs: Tensors) -> bool:
    """Cheaper than looking at every value, and never True by mistake: NaN and infinity survive a sum."""
    with np.errstate(over="ignore", invalid="ignore"):
        return all(math.isfinite(np.add.reduce(a, axis=None)) for a in outputs.values() if a.dtype.kind == "f")


def _finite_rows(outputs: Tensors) -> Array:
    rows = len(next(iter(outputs.values())))
    finite = np.ones(rows, dtype=np.bool_)
    for array in outputs.values():
        if array.dtype.kind == "f":
            finite &= np.isfinite(array).reshape(rows, -1).all(axis=1)
    return finite


def _json(array: Array) -> list[Any]:
    """Nested lists with None in place of NaN and infinity, which JSON does not have."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = array.astype(np.object_)
        values[~np.isfinite(array)] = None
        return list(values.tolist())
    return list(array.tolist())
