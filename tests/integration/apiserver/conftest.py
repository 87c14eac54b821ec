"""A real API server process of its own for these tests: they crash it, flood it and count its objects."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlserve_local.apiserver.__main__ import READY

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CRD = yaml.safe_load((HERE / "tiny/crds/modeldeployments.yaml").read_text())
MODELS = "/apis/serving.example.dev/v1alpha1/namespaces/{}/modeldeployments"


@dataclass
class Server:
    """A running `python -m mlserve_local.apiserver`."""

    directory: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""
    kubeconfig: Path = field(init=False)

    def __post_init__(self) -> None:
        self.kubeconfig = self.directory / "kubeconfig"

    def start(self, port: int = 0) -> None:
        arguments = [
            "--port",
            str(port),
            "--data-dir",
            str(self.directory / "data"),
            "--kubeconfig-out",
            str(self.kubeconfig),
        ]
        with (self.directory / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlserve_local.apiserver", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(READY), (self.directory / "server.log").read_text()[-3000:]
        self.url = line.split()[-1]

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            assert self.process.stdout is not None
            self.process.stdout.close()

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def environment(self, **extra: str) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}", **extra}

    def run(self, *command: str, check: bool = True, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a client program; its output, both streams."""
        home = {"KUBECACHEDIR": str(self.directory / "cache"), "HELM_CACHE_HOME": str(self.directory / "helm")}
        done = subprocess.run(
            command,
            env=self.environment(**home),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            cwd=HERE,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shared server, with the example CRD."""
    made = Server(tmp_path_factory.mktemp("apiserver"))
    made.start()
    with made.client() as client:
        answer = client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=CRD)
        assert answer.status_code == 201, answer.text
    yield made
    made.stop()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


@pytest.fixture
def namespace(client: httpx.Client) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert client.post("/api/v1/namespaces", json=body).status_code == 201
    yield name
    client.delete(f"/api/v1/namespaces/{name}")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def model(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.example.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"uri": "s3://models/a"}, **spec},
    }
