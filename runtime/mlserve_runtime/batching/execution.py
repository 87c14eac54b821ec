"""Running one batch: join the rows, one pass, split the results; and when a pass fails, find out whose fault it was.

One bad row must not fail its 31 neighbours. A failed batch is therefore halved until the failing requests stand
alone: log2(n) extra passes for one culprit, at most 2n - 1 passes in all. Runs on the worker thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mlserve_runtime.batching.queue import Answer, Slice, Tensors
from mlserve_runtime.errors import ModelFailedError, ServingError

Run: TypeAlias = Callable[[Tensors], Any]
"""The model: batch-first tensors in, a result whose rows correspond to them out."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch; `results[i]` belongs to slice i: its rows of a result or its error."""

    results: list[Answer | ServingError]
    seconds: float = 0.0
    """Of all passes together."""
    passes: int = 0
    inputs: Tensors = field(default_factory=dict)
    """Joined inputs, where the whole batch ran in one pass; else empty."""
    result: Any = None


def execute(slices: Sequence[Slice], run: Run) -> Outcome:
    """Run slices of one bucket. Never raises for a failing model: errors are results."""
    began = time.perf_counter()
    outcome = Outcome(results=[])
    _execute(slices, run, outcome)
    outcome.seconds = time.perf_counter() - began
    return outcome


def _execute(slices: Sequence[Slice], run: Run, outcome: Outcome) -> None:
    outcome.passes += 1
    try:
        inputs = join([piece.inputs() for piece in slices])
        result = run(inputs)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model raises is the answer of its rows
        outcome.inputs, outcome.result = {}, None
        if len(slices) == 1:
            outcome.results.append(as_serving_error(error))
            return
        half = len(slices) // 2
        _execute(slices[:half], run, outcome)
        _execute(slices[half:], run, outcome)
        return
    if outcome.passes == 1:
        outcome.inputs, outcome.result = inputs, result
    start = 0
    for piece in slices:
        stop = start + piece.stop - piece.start
        outcome.results.append(Answer(result, start, stop, piece.start))
        start = stop


def join(parts: Sequence[Tensors]) -> Tensors:
    """Stack tensors row-wise; a single part is passed on as it is."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def as_serving_error(error: BaseException) -> ServingError:
    """The error a client sees: ours as they are, a model's with its type and first line, without paths."""
    if isinstance(error, ServingError):
        return error
    lines = str(error).strip().splitlines()
    first = lines[-1] if "Traceback" in str(error) and lines else lines[0] if lines else ""
    text = first[:200] if "/" not in first else "details are in the server's log"
    failure = ModelFailedError(f"the model failed on this input: {type(error).__name__}: {text}")
    failure.__cause__ = error
    return failure
