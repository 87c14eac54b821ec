"""The real helm against a local cluster, and a model under a steady stream of requests."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
OPERATOR_NAMESPACE = "mlserve-system"
LOCAL_URL = "mlserve.io/local-url"


@dataclass(frozen=True)
class Helm:
    """`helm(...)` with the cluster's kubeconfig; fails the test with what helm said."""

    binary: Path
    cluster: Any

    def __call__(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [self.binary, *arguments, "--namespace", OPERATOR_NAMESPACE]
        environment = self.cluster.environment()
        answer = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=180)
        if check and answer.returncode:
            pytest.fail(f"helm {' '.join(map(str, arguments))}: {answer.stdout}{answer.stderr}{self.diagnosis()}")
        return answer

    def install(self, chart: Path, *options: str) -> None:
        self("install", "mlserve", chart, "--create-namespace", "--wait", "--timeout", "60s", *options)

    def upgrade(self, chart: Path, *options: str) -> None:
        self("upgrade", "mlserve", chart, "--wait", "--timeout", "60s", *options)

    def diagnosis(self) -> str:
        show = [
            ("get", "pods,deployments", "--all-namespaces", "--output=wide"),
            ("--namespace", OPERATOR_NAMESPACE, "logs", "deployment/mlserve-operator", "--tail=40"),
        ]
        return "\n\n".join(self.cluster.run(*command, check=False).stdout for command in show)


@pytest.fixture(scope="module")
def helm(bare_cluster: Any) -> Helm:
    subprocess.run([sys.executable, str(ROOT / "tools" / "install_helm.py")], check=True)
    return Helm(Path(sys.executable).parent / "helm", bare_cluster)


@dataclass
class Model:
    """models/digits in a namespace of the cluster."""

    cluster: Any
    namespace: str
    name: str = "digits"

    def apply(self) -> None:
        resource = yaml.safe_load((ROOT / "models" / "digits" / "modeldeployment.yaml").read_text())
        resource["metadata"]["name"] = self.name
        self.cluster.kubectl("apply", "--namespace", self.namespace, "--filename=-", stdin=yaml.safe_dump(resource))

    def resource(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get("modeldeployment", self.name, "--namespace", self.namespace)
        return found

    def is_ready(self) -> bool:
        conditions = self.resource().get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def serves(self) -> None:
        """Wait until it is Ready and its front door has an address for the laptop."""
        self.cluster.wait(self.is_ready, seconds=90, what=f"{self.name} to be Ready")
        self.cluster.wait(self.address, seconds=10, what="an address of the front door")

    def address(self) -> str:
        service = self.cluster.get("service", self.name, "--namespace", self.namespace)
        return str(service["metadata"].get("annotations", {}).get(LOCAL_URL, ""))

    def pods(self) -> dict[str, tuple[str, int]]:
        """The runtime pods: UID and restarts. Routers may roll when their image changes; a request must not notice."""
        selector = f"--selector=mlserve.io/modeldeployment={self.name}"
        found = self.cluster.get("pods", "--namespace", self.namespace, selector)["items"]
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                sum(status["restartCount"] for status in pod["status"].get("containerStatuses", [])),
            )
            for pod in found
        }

    def stream(self) -> Stream:
        return Stream(self.cluster, self.address() + "/predict")


@dataclass
class Stream:
    """Requests one after the other, from several threads, until the block ends."""

    cluster: Any
    url: str
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        sample = next((ROOT / "models" / "digits" / "samples").glob("*.png")).read_bytes()
        for _ in range(2):
            thread = threading.Thread(target=self._run, args=(sample,))
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, sample: bytes) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self.url, content=sample, headers={"Content-Type": "image/png"})
                    problem = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
                except httpx.HTTPError as error:
                    problem = repr(error)
                with self._lock:
                    self.answers += 1
                    self.failures += [problem] if problem else []
                self._stop.wait(0.02)

    def goes_on(self, when: str, requests: int = 50) -> None:
        """Wait for so many more answers; not one since the beginning may have failed."""
        enough = self.answers + requests
        self.cluster.wait(lambda: self.answers >= enough, what=f"requests {when}")
        assert self.failures == [], f"{len(self.failures)} of {self.answers} requests failed {when}"


@pytest.fixture
def model(bare_cluster: Any) -> Iterator[Callable[..., Model]]:
    """`model()` makes a namespace and a handle; the namespaces go with the test."""
    made: list[str] = []
    numbers = itertools.count()

    def make(namespace: str = "") -> Model:
        name = namespace or f"models-{next(numbers)}"
        bare_cluster.kubectl("create", "namespace", name)
        made.append(name)
        return Model(bare_cluster, name)

    yield make
    for name in made:
        bare_cluster.run("delete", "namespace", name, "--wait=false", check=False)


@pytest.fixture
def operator_log(bare_cluster: Any) -> Callable[[], list[dict[str, Any]]]:
    """Lines of the operator's log as objects."""

    def read() -> list[dict[str, Any]]:
        text = bare_cluster.kubectl("--namespace", OPERATOR_NAMESPACE, "logs", "deployment/mlserve-operator")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    return read
