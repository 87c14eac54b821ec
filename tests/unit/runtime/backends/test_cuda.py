"""What feeds a GPU, as far as a machine without one can tell.

Buffers, conversions, the choice of a recorded pass and padding are tested on ordinary memory. What records a pass is
replaced by a function that keeps CUDA graphs' contract - fixed inputs, fixed outputs, overwritten by a replay - so
capturing and replaying on a card are not tested here.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.backends.base import LoadError
from mlserve_runtime.backends.cuda import Call, DeviceTensors, Executor

CPU = torch.device("cpu")
SIZES = (1, 2, 4, 8)


class Recorder:
    """Records a pass by remembering it; counts replays by size."""

    def __init__(self) -> None:
        self.replayed: list[int] = []
        self.static: dict[int, DeviceTensors] = {}

    def __call__(self, call: Call, inputs: DeviceTensors) -> tuple[Callable[[], None], DeviceTensors]:
        outputs = call(inputs)
        rows = len(next(iter(inputs.values())))
        self.static[rows] = inputs

        def replay() -> None:
            self.replayed.append(rows)
            for name, value in call(inputs).items():
                outputs[name].copy_(value)

        return replay, outputs


def rows_of(count: int, seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)}


def linear() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2).eval().requires_grad_(False)


def recorded(module: Any, recorder: Any, sizes: tuple[int, ...] = SIZES, **options: Any) -> Executor:
    executor = Executor(CPU, ("y",), capture=recorder, **options)
    executor.record(module, {size: rows_of(size) for size in sizes})
    return executor


@torch.inference_mode()
def run(executor: Executor, module: Any, inputs: dict[str, Any]) -> Any:
    return executor.run(module, inputs)["y"]


@given(st.integers(1, 12), st.integers(0, 100))
def test_a_batch_is_padded_to_the_next_recorded_size(rows: int, seed: int) -> None:
    module, recorder = linear(), Recorder()
    executor = recorded(module, recorder)
    assert executor.captured_sizes == list(SIZES)
    inputs = rows_of(rows, seed)
    answer = run(executor, module, inputs)
    np.testing.assert_allclose(answer, module(torch.from_numpy(inputs["x"])).numpy(), rtol=1e-5, atol=1e-6)
    wanted = next((size for size in SIZES if size >= rows), None)
    assert recorder.replayed == ([] if wanted is None else [wanted])


def test_nothing_of_an_earlier_batch_stays_in_the_padding() -> None:
    module, recorder = linear(), Recorder()
    executor = recorded(module, recorder)
    run(executor, module, {"x": np.full((4, 3), 7, np.float32)})
    run(executor, module, {"x": np.ones((3, 3), np.float32)})
    assert recorder.static[4]["x"].tolist() == [[1, 1, 1]] * 3 + [[0, 0, 0]]


def test_an_answer_is_not_overwritten_by_the_next() -> None:
    module = linear()
    executor = recorded(module, Recorder())
    first = run(executor, module, rows_of(2, seed=1))
    kept = first.copy()
    run(executor, module, rows_of(2, seed=2))
    np.testing.assert_array_equal(first, kept)


class Sum(torch.nn.Module):
    """A row of any length; one number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    "inputs",
    [np.ones((2, 5), np.float32), np.ones((2, 3), np.float64)],
    ids=["shape", "datatype"],
)
def test_other_rows_than_recorded_run_launch_by_launch(inputs: Any) -> None:
    recorder = Recorder()
    executor = recorded(Sum(), recorder)
    np.testing.assert_allclose(run(executor, Sum(), {"x": inputs}), inputs.sum(axis=1, keepdims=True))
    assert recorder.replayed == []


def refuse(_call: Call, _inputs: DeviceTensors) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing\nCUDA error")


class FirstRow(torch.nn.Module):
    """Not a model: it answers one row, however many were asked."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:1]


@pytest.mark.parametrize(
    ("module", "recorder", "said"),
    [(linear(), refuse, "not permitted when stream is capturing"), (FirstRow(), Recorder(), "not as many rows")],
    ids=["cannot-be-recorded", "rows-lost"],
)
def test_without_a_recording_the_model_is_served_all_the_same(
    module: Any, recorder: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        executor = recorded(module, recorder)
    assert said in caplog.text
    assert executor.captured_sizes == []
    np.testing.assert_allclose(run(executor, module, rows_of(1)), module(torch.from_numpy(rows_of(1)["x"])).numpy())


def test_half_precision_ends_at_the_device() -> None:
    module = linear()
    wanted = module(torch.from_numpy(rows_of(4)["x"])).numpy()
    executor = Executor(CPU, ("y",), half=True)
    answer = run(executor, module.half(), rows_of(4))
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, wanted, atol=0.01)


def test_integers_keep_their_datatype_under_half_precision() -> None:
    class Embed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.int64
            return x * 2

    answer = run(Executor(CPU, ("y",), half=True), Embed(), {"x": np.array([[1], [2]])})
    assert answer.tolist() == [[2], [4]]
    assert answer.dtype == np.int64


def test_buffers_grow_to_the_largest_batch_and_are_reused() -> None:
    executor = Executor(CPU, ("y",))
    run(executor, linear(), rows_of(2))
    run(executor, linear(), rows_of(8))
    largest = dict(executor._buffers)
    run(executor, linear(), rows_of(3))
    assert all(executor._buffers[name] is buffer for name, buffer in largest.items())
    assert {name: len(buffer) for name, buffer in largest.items()} == {"input x": 8, "output y": 8}


def test_an_output_that_is_no_tensor_is_the_artifacts_fault() -> None:
    with pytest.raises(LoadError, match="returns float where a tensor is declared"):
        run(Executor(CPU, ("y",)), lambda _: (1.5,), rows_of(1))


def test_torch_still_has_what_recording_on_a_card_calls() -> None:
    assert {"pool", "stream", "capture_error_mode"} <= inspect.signature(torch.cuda.graph.__init__).parameters.keys()
    assert callable(torch.cuda.graph_pool_handle)
    assert callable(torch.cuda.CUDAGraph.replay)
