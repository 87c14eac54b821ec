"""Every recorded case of a real kube-apiserver against the embedded one, messages compared exactly.

The controllers run beside the server for the cases that need them (`kcm-*`).
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlserve_local.apiserver.__main__ import READY

HERE = Path(__file__).parent


def _replay() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_replay", HERE / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


replay = _replay()
CASES: list[tuple[str, dict[str, Any]]] = replay.load([str(HERE / "cases")])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("golden")
    kubeconfig = directory / "kubeconfig"
    with (directory / "server.log").open("w") as log, (directory / "controllers.log").open("w") as other:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlserve_local.apiserver", "--kubeconfig-out", str(kubeconfig)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith(READY), (directory / "server.log").read_text()
        controllers = subprocess.Popen(
            [sys.executable, "-m", "mlserve_local.controllers", "--kubeconfig", str(kubeconfig)],
            stdout=other,
            stderr=other,
        )
        yield line.split()[-1]
        for process in (controllers, server):
            process.terminate()
            process.wait(20)
        server.stdout.close()


def test_no_recording_is_left_out() -> None:
    assert len(CASES) >= 76


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for _, case in CASES])
def test_case(base: str, case: dict[str, Any]) -> None:
    differences = replay.replay_case(replay.Client(base), case, "exact", 0.0)
    assert not differences, "\n".join(differences[:20])
