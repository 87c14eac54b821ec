"""An API server by itself, and the writing half of an operator: nothing is scaled or run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlserve_local.apiserver.__main__ import READY
from mlserve_operator import kube
from mlserve_operator.execute import Executor
from mlserve_operator.index import Index
from mlserve_operator.kube import Kube

Object = dict[str, Any]
NAMESPACE = "default"


@dataclass
class Operator:
    """The writing half of an operator."""

    api: Kube
    index: Index
    executor: Executor

    async def get(self, kind: kube.Kind, name: str) -> Object:
        found = await self.api.get(kind, NAMESPACE, name)
        assert found is not None, f"{kind.kind} {name} is gone"
        return found


@contextmanager
def serving(directory: Path) -> Iterator[tuple[Path, str]]:
    """An API server; its kubeconfig and its address."""
    kubeconfig = directory / "kubeconfig"
    arguments = ["--port", "0", "--data-dir", str(directory / "data"), "--kubeconfig-out", str(kubeconfig)]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlserve_local.apiserver", *arguments], stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(READY), (directory / "log").read_text()
    try:
        yield kubeconfig, line.split()[-1]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of an API server. It does not know the kind of the owners, so it collects nobody's objects."""
    with serving(tmp_path_factory.mktemp("apiserver")) as (kubeconfig, _):
        yield kubeconfig


@pytest.fixture
async def operator(server: Path) -> AsyncIterator[Operator]:
    async with Kube(str(server)) as api:
        is_leader = asyncio.Event()
        is_leader.set()
        index = Index()
        yield Operator(api, index, Executor(api, index, is_leader))
