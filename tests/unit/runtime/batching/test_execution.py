"""One batch: joining, splitting, and finding the row that breaks it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.batching.execution import execute
from mlserve_runtime.batching.queue import Answer, Job, Slice
from mlserve_runtime.errors import InvalidInputError, ModelFailedError


def slices(values: list[float]) -> list[Slice]:
    made = []
    for value in values:
        inputs = {"x": np.array([[value]], dtype=np.float32)}
        made.append(Slice(Job(inputs=inputs, rows=1, deadline=1.0, on_done=lambda _: None), 0, 1))
    return made


class Poisonable:
    """A model that raises on negative values and counts its passes."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, inputs: dict[str, Any]) -> Any:
        self.passes += 1
        if (inputs["x"] < 0).any():
            raise RuntimeError("index out of range in self")
        return inputs["x"] * 2


def values_of(result: Any) -> list[float]:
    assert isinstance(result, Answer)
    return list(result.result[result.start : result.stop, 0])


def test_one_pass_serves_all() -> None:
    model = Poisonable()
    outcome = execute(slices([1, 2, 3]), model)
    assert [values_of(result) for result in outcome.results] == [[2], [4], [6]]
    assert model.passes == outcome.passes == 1
    assert outcome.inputs["x"].tolist() == [[1], [2], [3]]


def test_one_poisoned_row_among_32_fails_alone() -> None:
    model = Poisonable()
    values = [float(i) for i in range(1, 33)]
    values[19] = -1.0
    outcome = execute(slices(values), model)
    failures = [i for i, result in enumerate(outcome.results) if isinstance(result, Exception)]
    assert failures == [19]
    assert model.passes <= 11
    error = outcome.results[19]
    assert isinstance(error, ModelFailedError)
    assert "index out of range" in str(error)


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40))
def test_exactly_the_bad_fail(values: list[float]) -> None:
    model = Poisonable()
    outcome = execute(slices(values), model)
    assert len(outcome.results) == len(values)
    for value, result in zip(values, outcome.results, strict=True):
        if value < 0:
            assert isinstance(result, ModelFailedError)
        else:
            assert values_of(result) == [pytest.approx(value * 2)]
    assert model.passes <= 2 * len(values) - 1


def test_a_client_error_keeps_its_class() -> None:
    def refuse(_: Any) -> Any:
        raise InvalidInputError("category 'x' is unknown")

    (result,) = execute(slices([1.0]), refuse).results
    assert isinstance(result, InvalidInputError)


def test_paths_of_the_server_are_not_told() -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("cannot open /var/lib/mlserve/model/extra.bin")

    (result,) = execute(slices([1.0]), fail).results
    assert "/var/lib" not in str(result)


def test_a_model_that_exits_only_fails_its_rows() -> None:
    def leave(_: Any) -> Any:
        raise SystemExit(3)

    (result,) = execute(slices([1.0]), leave).results
    assert isinstance(result, ModelFailedError)
