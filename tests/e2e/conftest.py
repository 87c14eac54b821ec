"""One suite for every cluster: a given one (MLSERVE_E2E_KUBECONFIG, mlserve installed), or a local one with the chart.

On the local cluster the chart is installed with the real helm, in both scopes one after the other if asked to, and its
API server enforces the chart's rules on the operator. On a cluster of machines the models of this repository have to be
where pods find them: MLSERVE_E2E_PATCH names a file that is merged into every ModelDeployment
(deploy/kind/digits-patch.yaml).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlserve_local.up import UpOptions, down, up

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
GIVEN = os.environ.get("MLSERVE_E2E_KUBECONFIG", "")
PATCH = os.environ.get("MLSERVE_E2E_PATCH", "")
SCOPES = os.environ.get("MLSERVE_E2E_SCOPES", "one-namespace").split()
"""all-namespaces, one-namespace or both: `make test-e2e` runs both."""
EVERYTHING = (
    "deployments,services,configmaps,pods,poddisruptionbudgets,networkpolicies,secrets,"
    "controllerrevisions,horizontalpodautoscalers"
)

Object = dict[str, Any]


@dataclass(frozen=True)
class World:
    """A namespace of a cluster as a user has it: kubectl and mlserve, nothing else."""

    kubeconfig: str
    namespace: str

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Output of a command; the test fails with what it said."""
        environment = {**os.environ, "KUBECONFIG": self.kubeconfig}
        command = [str(BIN / program), "--namespace", self.namespace, *arguments]
        if program == "mlserve":
            command = [str(BIN / program), *arguments, "--namespace", self.namespace]
        answer = subprocess.run(
            command, input=stdin, check=False, capture_output=True, text=True, env=environment, timeout=200, cwd=ROOT
        )
        if answer.returncode:
            pytest.fail(f"{' '.join(command)}: exit {answer.returncode}\n{answer.stdout}{answer.stderr}")
        return answer.stdout

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.run("kubectl", *arguments, stdin=stdin)

    def get(self, *arguments: str) -> Object:
        found: Object = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def apply(self, version: int, uri: str = "", **spec: Any) -> None:
        """Apply models/digits in a version."""
        name = "modeldeployment.yaml" if version == 1 else f"modeldeployment-v{version}.yaml"
        resource = yaml.safe_load((ROOT / "models" / "digits" / name).read_text())
        if uri:
            resource["spec"]["model"] = {"uri": uri, "version": str(version)}
        resource["spec"] |= spec
        text = yaml.safe_dump(resource)
        if PATCH:
            merge = ("patch", "--local", "--filename=-", "--type=merge", f"--patch-file={PATCH}", "--output=yaml")
            text = self.kubectl(*merge, stdin=text)
        self.kubectl("apply", "--filename=-", stdin=text)

    def until(self, condition: str, *, seconds: int = 120) -> None:
        """Wait for a condition such as Ready or Stalled=True."""
        self.kubectl("wait", f"--for=condition={condition}", "modeldeployment/digits", f"--timeout={seconds}s")

    def eventually(self, probe: Callable[[], Any], what: str, *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not probe():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come true within {seconds:g} s\n{self.kubectl('describe', 'mdep')}")
            time.sleep(0.2)

    def predict(self, digit: int) -> Object:
        """The answer to a picture of a digit."""
        sample = next((ROOT / "models" / "digits" / "samples").glob(f"{digit}_*.png"))
        answer: Object = json.loads(self.run("mlserve", "predict", "digits", str(sample), "--output=json"))
        return answer

    def serves(self, version: str) -> bool:
        """Whether `version` gets all requests."""
        stable = self.get("modeldeployment", "digits")["status"].get("stable", {})
        return stable.get("version") == version and stable.get("weight") == 100


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The given cluster's, or that of a local one without operator."""
    if GIVEN:
        yield GIVEN
        return
    os.chdir(ROOT)  # where file:// URIs begin on the local cluster
    cluster = up(UpOptions(data_dir=tmp_path_factory.mktemp("e2e"), operator=False, backoff_seconds=0.5))
    try:
        yield str(cluster.settings.kubeconfig)
    finally:
        down(cluster.data_dir)


@pytest.fixture(scope="session", params=["given"] if GIVEN else SCOPES)
def world(request: pytest.FixtureRequest, kubeconfig: str) -> Iterator[World]:
    """A fresh namespace that an operator with the chart's rights looks after."""
    here = World(kubeconfig, f"e2e-{uuid.uuid4().hex[:8]}")
    here.kubectl("create", "namespace", here.namespace)
    release = World(kubeconfig, "mlserve-system")
    if not GIVEN:
        subprocess.run([sys.executable, str(ROOT / "tools" / "install_helm.py")], check=True)
        scope = ["--set", f"watchNamespaces={{{here.namespace}}}"] if request.param == "one-namespace" else []
        options = ["--create-namespace", "--wait", "--timeout=60s", *scope]
        release.run("helm", "install", "mlserve", str(ROOT / "charts" / "mlserve"), *options)
    yield here
    if not GIVEN:
        log = release.kubectl("logs", "deployment/mlserve-operator")
        release.run("helm", "uninstall", "mlserve", "--wait")
        assert "forbidden" not in log.lower(), log
    here.kubectl("delete", "namespace", here.namespace, "--wait=false")


@pytest.fixture(autouse=True)
def clean(world: World) -> Iterator[None]:
    """Every test leaves nothing behind, and says so if the operator does."""
    yield
    world.kubectl("delete", "modeldeployments", "--all", "--timeout=30s")

    def left() -> list[Object]:
        selector = "--selector=app.kubernetes.io/managed-by=mlserve-operator"
        found: list[Object] = world.get(EVERYTHING, selector)["items"]
        return found

    world.eventually(lambda: not left(), "nothing left of the ModelDeployment")
