from __future__ import annotations

from typing import Any

import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase, Reason
from mlserve_operator.failures import find_failure, is_ready
from mlserve_operator.kube import ApiError
from mlserve_operator.report import refusal
from mlserve_operator.rollout.state import Observation, RevisionHealth, RolloutState
from mlserve_operator.rollout.step import step

NOW = 1_000_000.0


def pod(
    *, containers: list[dict[str, Any]] | None = None, init: list[dict[str, Any]] | None = None, **status: Any
) -> Any:
    return {
        "metadata": {"name": "digits-1-x"},
        "status": {"containerStatuses": containers or [], "initContainerStatuses": init or [], **status},
    }


def ended(
    message: str, *, restarts: int = 0, code: int = 1, reason: str = "Error", last: bool = False
) -> dict[str, Any]:
    terminated = {"terminated": {"exitCode": code, "message": message, "reason": reason}}
    state = (
        {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": terminated}
        if last
        else {"state": terminated}
    )
    return {"name": "runtime", "restartCount": restarts, **state}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"name": "runtime", "image": "x/y:1", "state": {"waiting": {"reason": reason, "message": message}}}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: cpu"}
CASES = [
    pytest.param(
        pod(init=[ended("ChecksumMismatch: expected a, got b")]),
        Reason.CHECKSUM_MISMATCH, True, "expected a, got b", id="digest",
    ),
    pytest.param(
        pod(containers=[ended("ModelLoadFailed: no key conv1", restarts=1)]),
        Reason.MODEL_LOAD_FAILED, False, "no key conv1", id="load-first-time",
    ),
    pytest.param(
        pod(containers=[ended("ModelLoadFailed: no key conv1", restarts=3, last=True)]),
        Reason.MODEL_LOAD_FAILED, True, "no key conv1", id="load-again-and-again",
    ),
    pytest.param(
        pod(init=[ended("FetchFailed: no such bucket")]),
        Reason.MODEL_LOAD_FAILED, False, "could not be fetched: no such bucket", id="fetch",
    ),
    pytest.param(
        pod(containers=[ended("", reason="OOMKilled", code=137)]),
        Reason.MODEL_LOAD_FAILED, False, "limits.memory", id="out-of-memory",
    ),
    pytest.param(
        pod(containers=[ended("Traceback\nValueError: x", code=3)]),
        Reason.MODEL_LOAD_FAILED, False, "exit code 3; its last line: ValueError: x", id="any-other-end",
    ),
    pytest.param(
        pod(containers=[waiting("ImagePullBackOff", "not found")]),
        Reason.IMAGE_PULL_FAILED, False, "image x/y:1 cannot be started: not found", id="image",
    ),
    pytest.param(
        pod(containers=[waiting("CreateContainerConfigError", 'secret "a" not found')]),
        Reason.MODEL_LOAD_FAILED, False, 'secret "a" not found', id="configuration",
    ),
    pytest.param(
        pod(conditions=[UNSCHEDULABLE]), Reason.INSUFFICIENT_RESOURCES, False, "0/1 nodes: cpu", id="no-node",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason", "terminal", "text"), CASES)
def test_failures(body: dict[str, Any], reason: Reason, terminal: bool, text: str) -> None:
    failure = find_failure([body], None)
    assert failure is not None
    assert (failure.reason, failure.terminal) == (reason, terminal)
    assert text in failure.message


NO_FAILURE = [
    pytest.param(pod(containers=[waiting("ContainerCreating")]), id="starting"),
    pytest.param(pod(init=[{"name": "fetch", "state": {"terminated": {"exitCode": 0}}}]), id="fetched"),
    pytest.param(
        pod(containers=[ended("old", last=True)], conditions=[{"type": "Ready", "status": "True"}]), id="recovered"
    ),
]


@pytest.mark.parametrize("body", NO_FAILURE)
def test_no_failure(body: dict[str, Any]) -> None:
    assert find_failure([body], None) is None


def test_a_quota_is_told_by_the_deployment() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: team"}
    failure = find_failure([], {"status": {"conditions": [condition]}})
    assert failure is not None
    assert failure.reason is Reason.INSUFFICIENT_RESOURCES
    assert "exceeded quota" in failure.message


def test_a_pod_on_its_way_out_is_neither_ready_nor_a_failure() -> None:
    leaving = pod(containers=[waiting("ImagePullBackOff")], conditions=[{"type": "Ready", "status": "True"}])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not is_ready(leaving)
    assert find_failure([leaving], None) is None


def test_a_quota_takes_the_canary_back_after_its_deadline_and_is_named() -> None:
    """From the Deployment's condition to the remembered reason, through the real step."""
    condition = {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: team"}
    stuck = RevisionHealth(desired=1, failure=find_failure((), {"status": {"conditions": [condition]}}))
    state = RolloutState(phase=Phase.PROGRESSING, stable="v1", canary="v2", canary_since=NOW, clock=NOW)
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://m"}, "rollout": {"progressDeadlineSeconds": 60}})

    def look(now: float) -> RolloutState:
        health = {"v1": RevisionHealth(desired=1, ready=1), "v2": stuck}
        return step(
            state,
            Observation(now=now, generation=1, spec=spec, target="v2", revisions=health, route=state.route),
        ).state

    assert look(NOW + 59).phase is Phase.PROGRESSING
    after = look(NOW + 60)
    assert (after.phase, after.weight, after.stable) == (Phase.ROLLING_BACK, 0, "v1")
    assert after.rejected[0].reason is Reason.INSUFFICIENT_RESOURCES
    assert "exceeded quota: team" in after.rejected[0].message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('deployments.apps "x" is forbidden: exceeded quota: team', Reason.INSUFFICIENT_RESOURCES),
        ("admission webhook said no", Reason.OBJECT_REFUSED),
    ],
)
def test_a_refused_object_is_said_with_its_reason(message: str, reason: Reason) -> None:
    body = {"kind": "Deployment", "metadata": {"name": "x"}}
    assert refusal(body, ApiError(403, "Forbidden", message)) == (reason, f"Deployment x: {message}")
