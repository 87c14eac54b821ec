"""KServe's inference clients, REST and gRPC, against a running server.

They ask for other versions of our libraries, so they run in an environment of their own; one run does all calls.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import RuntimeServer
from .test_tritonclient import ROWS, expected

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def answers(server: RuntimeServer) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("side_environments", ROOT / "tools" / "side_environments.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    script = Path(__file__).with_name("kserve_calls.py")
    result = subprocess.run(
        [tool.install("kserve") / "python", script, server.url, server.grpc],
        input=json.dumps(ROWS.tolist()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin"},  # nothing of ours on its import path
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_health(answers: dict[str, Any], protocol: str) -> None:
    assert [answers[protocol][name] for name in ("live", "ready", "model ready")] == [True, True, True]


def test_readiness_of_a_model_that_is_not_served(answers: dict[str, Any]) -> None:
    assert answers["rest"]["other model ready"] is False


@pytest.mark.parametrize("binary_out", [None, False, True], ids=["default-out", "json-out", "binary-out"])
@pytest.mark.parametrize("binary", [False, True], ids=["json-in", "binary-in"])
def test_rest_infer(answers: dict[str, Any], binary: bool, binary_out: bool | None) -> None:
    check(answers["rest"][f"infer {binary} {binary_out}"])


@pytest.mark.parametrize("binary", [False, True], ids=["typed-contents", "raw-contents"])
def test_grpc_infer(answers: dict[str, Any], binary: bool) -> None:
    check(answers["grpc"][f"infer {binary}"])


def check(answer: dict[str, Any]) -> None:
    assert (answer["id"], answer["model"], answer["name"]) == ("k-1", "tabular", "probabilities")
    assert answer["datatype"] == "FP32"
    np.testing.assert_allclose(answer["values"], expected(ROWS), rtol=1e-4, atol=1e-5)


def test_v1(answers: dict[str, Any]) -> None:
    assert answers["rest"]["v1 live"] is True
    assert answers["rest"]["v1 ready"] is True
    np.testing.assert_allclose(answers["rest"]["v1"]["predictions"], expected(ROWS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("protocol", "what", "status", "text"),
    [
        ("rest", "other model", 404, "model 'other' is not served here"),
        ("rest", "wrong shape", 400, "shape [5, 7], expected [-1, 30]"),
        ("grpc", "other model", "NOT_FOUND", "model 'other' is not served here"),
        ("grpc", "wrong shape", "INVALID_ARGUMENT", "shape [5, 7], expected [-1, 30]"),
    ],
)
def test_errors(answers: dict[str, Any], protocol: str, what: str, status: int | str, text: str) -> None:
    assert answers[protocol][what]["status"] == status
    assert text in answers[protocol][what]["text"]
