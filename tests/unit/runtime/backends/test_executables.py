"""Which of several executables of the same weights is used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mlserve_runtime.backends import torch_backend
from mlserve_runtime.backends.torch_backend import TorchBackend, _Executable

SAMPLES = {rows: {"x": np.ones((rows, 3), np.float32)} for rows in (1, 2, 4, 8)}


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def tuned(monkeypatch: pytest.MonkeyPatch, *candidates: Callable[..., Any]) -> list[str]:
    """The executables that came into the comparison with the model itself."""
    backend = TorchBackend(module(), ("y",), torch.device("cpu"), form="safetensors", traceable=True)
    others = [_Executable(f"candidate-{index}", call) for index, call in enumerate(candidates)]
    monkeypatch.setattr(backend, "_candidates", lambda _: others)
    backend.tune(SAMPLES)
    return list(backend.describe()["executables"])


def fail(_: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("INTERNAL ASSERT FAILED")


class ForgetsSpecialised:
    """Right in its first run, wrong once it was specialised, as a buggy optimisation pass is."""

    def __init__(self) -> None:
        self.runs = 0
        self.module = module()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        result: torch.Tensor = self.module(x)
        return result if self.runs == 1 else result * 0


@pytest.mark.parametrize(
    ("candidate", "used"),
    [
        (module(), True),
        (lambda x: module()(x) + 0.01, False),
        (lambda x: module()(x)[:1], False),
        (lambda x: module()(x) * (float("nan") if len(x) == 8 else 1), False),
        (ForgetsSpecialised(), False),
        (fail, False),
    ],
    ids=["equal", "other-values", "fewer-rows", "other-at-one-size", "other-when-specialised", "does-not-run"],
)
def test_only_what_gives_the_models_answers_is_compared(
    candidate: Callable[..., Any], used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuned(monkeypatch, candidate) == (["eager", "candidate-0"] if used else ["eager"])


def test_a_slow_candidate_does_not_hold_up_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch_backend, "_COMPARISON_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        assert tuned(monkeypatch, module()) == ["eager"]
    assert "too slow to be compared" in caplog.text
