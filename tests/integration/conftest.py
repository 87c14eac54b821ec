"""Local clusters for integration tests: real processes, real kubectl, nothing stands in for Kubernetes.

`cluster` has API server, controllers, node and network; `operator_cluster` has the operator as well. Both live for the
whole session, so a test works in a namespace of its own: the fixture `namespace` makes one and deletes it afterwards,
and `world` is that of `operator_cluster` with what a user does there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlserve_local.up import Cluster, UpOptions, down, up

from .world import Stream, World
from .world import operator_pid as find_operator

BIN = Path(sys.executable).parent
CRDS = Path(__file__).resolve().parents[2] / "crds"
WEB_SERVER = "web=python3 -m http.server"
SHELL = "shell=/bin/sh"
MODEL_SERVER = f"model-server={sys.executable} -I -S {Path(__file__).parents[1] / 'chaos' / 'model_server.py'} /none"
"""Answers everything with 200 and costs next to nothing, for tests of what lies in front of it."""


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster: `kubectl(...)`, `get(...)`, `apply(...)` and `wait(...)` are what a test needs of it."""

    cluster: Cluster

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.settings.kubeconfig

    @property
    def base_url(self) -> str:
        """Of the API server."""
        return self.cluster.settings.api_url

    @property
    def operator_url(self) -> str:
        """Of the operator's management port."""
        return self.cluster.settings.operator_url

    @property
    def logs(self) -> Path:
        return self.cluster.data_dir / "logs"

    def environment(self) -> dict[str, str]:
        """For subprocesses that talk to the cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; with `check` a failure fails the test with what kubectl said."""
        result = subprocess.run(
            [str(BIN / "kubectl"), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=timeout,
            check=False,
        )
        if check and result.returncode != 0:
            pytest.fail(f"kubectl {' '.join(arguments)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Standard output of kubectl."""
        return self.run(*arguments, stdin=stdin, timeout=timeout).stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ... -o json`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def apply(self, *objects: dict[str, Any], namespace: str) -> None:
        """`kubectl apply` of objects."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--namespace", namespace, "-f", "-", stdin=document)

    def wait(self, probe: Callable[[], Any], *, seconds: float = 30, what: str = "") -> Any:
        """Ask until the probe returns something true, and return it; the test fails with the last answer."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer, problem = probe(), ""
            except (AssertionError, LookupError, OSError, pytest.fail.Exception) as error:
                answer, problem = None, repr(error)
            if answer:
                return answer
            if time.monotonic() > deadline:
                pytest.fail(f"{what or probe} did not come true within {seconds:g} s; last: {problem or answer!r}")
            time.sleep(0.1)


def _start(directory: Path, *, operator: bool, crds: Path | None = None) -> Iterator[LocalCluster]:
    options = UpOptions(
        data_dir=directory,
        operator=operator,
        crds=crds,
        images=(WEB_SERVER, SHELL, MODEL_SERVER),
        fake_gpus=2,
        backoff_seconds=0.5,
        autoscaler_seconds=2.0,
    )
    cluster = up(options)
    try:
        yield LocalCluster(cluster)
    finally:
        down(cluster.data_dir)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """API server, controllers, node (2 fake GPUs; images `web`, `shell` and `model-server`) and network."""
    yield from _start(tmp_path_factory.mktemp("cluster"), operator=False, crds=CRDS)


@pytest.fixture(scope="module")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Without the custom resource definition too, for what installs it; lives for one module."""
    yield from _start(tmp_path_factory.mktemp("bare-cluster"), operator=False)


@pytest.fixture(scope="session")
def operator_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """The same with the custom resource definition and the operator."""
    yield from _start(tmp_path_factory.mktemp("operator-cluster"), operator=True)


def _namespace(cluster: LocalCluster) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(cluster: LocalCluster) -> Iterator[str]:
    """A namespace of `cluster` for one test."""
    yield from _namespace(cluster)


@pytest.fixture
def operator_namespace(operator_cluster: LocalCluster) -> Iterator[str]:
    """A namespace of `operator_cluster` for one test."""
    yield from _namespace(operator_cluster)


@pytest.fixture
def world(operator_cluster: LocalCluster, operator_namespace: str) -> World:
    """A namespace of `operator_cluster`, seen by a user."""
    return World(operator_cluster, operator_namespace)


@pytest.fixture
def operator_pid(operator_cluster: LocalCluster) -> Callable[[], int]:
    """Process of the operator at present (the supervisor starts a new one when it ends)."""
    return lambda: find_operator(operator_cluster)


@pytest.fixture
def operator_down(operator_pid: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Freeze the operator: it neither acts nor is it restarted. It goes on after the test."""
    stopped: list[int] = []

    def stop() -> None:
        stopped.append(operator_pid())
        os.kill(stopped[-1], signal.SIGSTOP)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def stream(world: World) -> Callable[..., Stream]:
    """Makes a stream of requests to a model of the world, at 50 a second if not told otherwise."""
    return lambda name="digits", **options: Stream(world.url(name), name, **options)
