"""A GitOps controller applies one YAML for ever: the operator writes no spec, and a re-apply changes nothing."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from mlserve_local.up import Cluster

from .conftest import BIN, Operators
from .rollouts import Object, Rollout

PATIENCE_SECONDS = 60.0
CHILDREN = "deployments,replicasets,pods,services,configmaps,controllerrevisions,networkpolicies"
"""Budgets are left out: their status is written by a controller, in its own time."""


@pytest.fixture
def rollout(chaos_cluster: Cluster, operators: Operators) -> Iterator[Rollout]:
    """A ModelDeployment in a namespace of its own; the operator runs."""
    operators.start()
    namespace = f"gitops-{uuid.uuid4().hex[:6]}"
    with httpx.Client(base_url=chaos_cluster.settings.api_url, timeout=30) as api:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        assert api.post("/api/v1/namespaces", json=body).is_success
        yield Rollout(api, chaos_cluster.data_dir / "scripts", namespace, "digits", "bad")
        api.delete(f"/api/v1/namespaces/{namespace}")


@pytest.fixture
def kubectl(chaos_cluster: Cluster, rollout: Rollout) -> Callable[..., str]:
    environment = {**os.environ, "KUBECONFIG": str(chaos_cluster.settings.kubeconfig)}

    def run(*arguments: str, stdin: str | None = None) -> str:
        command = [str(BIN / "kubectl"), "--namespace", rollout.namespace, *arguments]
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def kstatus(body: Object) -> str:
    """The generic rules of sigs.k8s.io/cli-utils/pkg/kstatus, as Argo CD's and Flux' health checks read a resource."""
    status = body.get("status", {})
    conditions = {item["type"]: item["status"] for item in status.get("conditions", ())}
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Reconciling") == "True" or conditions.get("Ready") != "True":
        return "InProgress"
    return "Current"


def until(rollout: Rollout, end: str, *, rolling: bool = False) -> list[str]:
    """Follow a resource to its end; every kstatus on the way, without repetitions."""
    deadline, seen = time.monotonic() + PATIENCE_SECONDS, list[str]()
    while not seen or seen[-1] != end:
        body = rollout.get(rollout.path)
        now = kstatus(body)
        if not seen or seen[-1] != now:
            seen.append(now)
        if rolling:
            rollout.count_from_trial()
        assert time.monotonic() < deadline, f"{seen}: {body.get('status')}"
    return seen


def manifest(version: str, **rollout: Any) -> str:
    """What lies in the repository."""
    analysis = {"intervalSeconds": 1, "minRequests": 1000, "marginPerMille": 50}
    plan = {"steps": [{"weight": 50, "holdSeconds": 1}], "analysis": analysis, "bakeSeconds": 1, **rollout}
    text: str = yaml.safe_dump(
        {
            "apiVersion": "mlserve.io/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "digits"},
            "spec": {
                "model": {"uri": "file:///model", "version": version},
                "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "16Mi"}}},
                "traffic": {"router": {"replicas": 1}},
                "rollout": plan,
                "drift": {"enabled": False},
            },
        }
    )
    return text


def test_the_same_yaml_for_ever(rollout: Rollout, kubectl: Callable[..., str], operators: Operators) -> None:
    kubectl("apply", "-f", "-", stdin=manifest("1"))
    assert until(rollout, "Current") == ["InProgress", "Current"]

    kubectl("apply", "-f", "-", stdin=manifest("bad"))
    assert until(rollout, "Failed", rolling=True) == ["InProgress", "Failed"]
    rejected = rollout.get(rollout.path)
    (rejection,) = rejected["status"]["rejected"]
    kept = f"ControllerRevision/{rejection['revision']}"
    wait(lambda: {n for n in versions(kubectl) if rejection["revision"] in n} == {kept}, "the canary is gone")
    before = versions(kubectl)
    kubectl("apply", "-f", "-", stdin=manifest("bad"))
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest("bad"))
    kubectl("annotate", "mdep", "digits", "example.org/synced=1")
    restart(operators)  # a new operator looks at everything once more before it takes up anything new
    kubectl("apply", "-f", "-", stdin=manifest("1").replace("name: digits", "name: other"))
    wait(lambda: kstatus(rollout.get(rollout.path.replace("digits", "other"))) == "Current", "the other is Ready")
    after = rollout.get(rollout.path)
    assert after["metadata"]["generation"] == 2, "the spec was written by the user alone"
    assert after["spec"] == rejected["spec"]
    assert after["status"]["rejected"] == [rejection]
    assert kstatus(after) == "Failed"
    assert {name: version for name, version in versions(kubectl).items() if name in before} == before

    rollout.script.unlink()
    kubectl("apply", "-f", "-", stdin=manifest("good"))
    assert until(rollout, "Current", rolling=True) == ["InProgress", "Current"]
    end = rollout.end_state()
    assert end["generation"] == 3
    assert end["rejected"] == [(rejection["revision"], "AnalysisFailed")], "a bad version is never forgotten"


def versions(kubectl: Callable[..., str]) -> dict[str, str]:
    """Resource version of every child; a router, its Services' slices and pods' annotations belong to all models."""
    template = r"jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion}{'\n'}{end}"
    lines = kubectl("get", CHILDREN, "-l", "mlserve.io/modeldeployment=digits", "-o", template).split()
    return dict(line.split("=") for line in lines)


def restart(operators: Operators) -> None:
    for process in list(operators.running):
        operators.kill(process)
    operators.start()


def wait(probe: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
