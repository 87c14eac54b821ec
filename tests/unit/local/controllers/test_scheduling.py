"""Does it fit, and if not, in which words is it said?"""

from __future__ import annotations

from decimal import Decimal

import pytest

from mlserve_local.controllers.node_lifecycle import wanted_taints
from mlserve_local.controllers.scheduling import explain, pod_requests, tolerates, unfit_reasons, used_by


def node(ready="True", taints=(), unschedulable=False, labels=None, **allocatable):
    return {
        "metadata": {"name": "n1", "labels": labels or {}},
        "spec": {"taints": list(taints), "unschedulable": unschedulable},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10", **allocatable},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(cpu="100m", *, containers=None, init=(), phase="Pending", **spec):
    made = containers or [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]
    return {"spec": {"containers": made, "initContainers": list(init), **spec}, "status": {"phase": phase}}


def container(cpu, **more):
    return {"name": "x", "resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("made", "cpu"),
    [
        pytest.param(pod("1500m"), "1.5", id="one"),
        pytest.param(pod(containers=[container("1"), container("250m")]), "1.25", id="sum"),
        pytest.param(pod("1", init=[container("3")]), "3", id="a larger init container"),
        pytest.param(pod("1", init=[container("500m")]), "1", id="a smaller init container"),
        pytest.param(pod("1", init=[container("500m", restartPolicy="Always")]), "1.5", id="a sidecar stays"),
        pytest.param(
            pod("1", init=[container("1", restartPolicy="Always"), container("2")]), "3", id="init beside a sidecar"
        ),
    ],
)
def test_requests(made, cpu):
    assert pod_requests(made)["cpu"] == Decimal(cpu)


def test_a_limit_without_a_request_reserves_too():
    made = pod(containers=[{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}])
    assert pod_requests(made) == {"nvidia.com/gpu": Decimal(1)}


def test_finished_pods_hold_nothing():
    assert used_by([pod("1"), pod("1", phase="Succeeded"), pod("1", phase="Failed")]) == {"cpu": 1, "pods": 1}


GPU = pod(containers=[{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}])
TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("made", "on", "expected"),
    [
        pytest.param(pod(), node(), [], id="fits"),
        pytest.param(pod("4100m"), node(), ["Insufficient cpu"], id="cpu"),
        pytest.param(GPU, node(), ["Insufficient nvidia.com/gpu"], id="no gpu"),
        pytest.param(GPU, node(**{"nvidia.com/gpu": "1"}), [], id="gpu"),
        pytest.param(pod(), node(pods="0"), ["Too many pods"], id="full"),
        pytest.param(pod(), node(ready="False"), ["node(s) were not ready"], id="not ready"),
        pytest.param(pod(), node(unschedulable=True), ["node(s) were unschedulable"], id="cordoned"),
        pytest.param(pod(), node(taints=[TAINT]), ["node(s) had untolerated taint {k: v}"], id="taint"),
        pytest.param(
            pod(tolerations=[{"key": "k", "operator": "Exists"}]), node(taints=[TAINT]), [], id="tolerated taint"
        ),
        pytest.param(
            pod(nodeSelector={"disk": "ssd"}),
            node(),
            ["node(s) didn't match Pod's node affinity/selector"],
            id="selector",
        ),
        pytest.param(pod(nodeSelector={"disk": "ssd"}), node(labels={"disk": "ssd"}), [], id="selector matches"),
    ],
)
def test_fit(made, on, expected):
    assert unfit_reasons(made, on, {}) == expected


def test_what_others_use_counts():
    used = used_by([pod("3")])
    assert unfit_reasons(pod("1"), node(), used) == []
    assert unfit_reasons(pod("1001m"), node(), used) == ["Insufficient cpu"]


def test_the_message_counts_nodes_by_reason():
    message = explain([["Insufficient cpu"], ["Insufficient cpu", "Too many pods"]])
    assert message.startswith("0/2 nodes are available: 1 Too many pods, 2 Insufficient cpu. preemption: 0/2 nodes")


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Equal", "value": "v"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration, expected):
    assert tolerates(pod(tolerations=[toleration]), TAINT) is expected


@pytest.mark.parametrize(
    ("ready", "expected"),
    [("True", set()), ("False", {"node.kubernetes.io/not-ready"}), ("Unknown", {"node.kubernetes.io/unreachable"})],
)
def test_taints_follow_the_condition_and_leave_others_alone(ready, expected):
    start = [TAINT, {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    found = {taint["key"] for taint in wanted_taints(node(ready=ready, taints=start))}
    assert found == expected | {"k"}
