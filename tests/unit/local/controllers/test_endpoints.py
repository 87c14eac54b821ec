"""Endpoints, disruption budgets and Jobs: the shapes that a real controller manager writes."""

from __future__ import annotations

import pytest

from mlserve_local.controllers.disruption import budget_status
from mlserve_local.controllers.endpoints import slices, subsets
from mlserve_local.controllers.job import backoff, missing_pods, verdict

NOW = 1_800_000_000.0


def service(**spec):
    ports = [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]
    return {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports, **spec}}


def pod(name, ip="127.97.0.2", *, ready=True, deleting=False, port=8080, phase="Running", app="web"):
    metadata = {"name": name, "namespace": "n", "uid": f"u-{name}", "labels": {"app": app}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": "node",
            "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}],
        },
        "status": {"podIP": ip, "phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def test_a_slice_as_recorded_from_a_real_cluster():
    ((endpoints, ports),) = slices(service(), [pod("p1")])
    assert endpoints == [
        {
            "addresses": ["127.97.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node",
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "p1", "uid": "u-p1"},
        }
    ]
    assert ports == [{"name": "http", "protocol": "TCP", "port": 8080}]


@pytest.mark.parametrize(
    ("made", "spec", "expected"),
    [
        pytest.param(pod("p", ready=False), {}, (False, False, False), id="not ready"),
        pytest.param(pod("p", deleting=True), {}, (False, True, True), id="drains"),
        pytest.param(
            pod("p", ready=False), {"publishNotReadyAddresses": True}, (True, False, False), id="published early"
        ),
    ],
)
def test_conditions_of_an_endpoint(made, spec, expected):
    (((endpoint,), _),) = slices(service(**spec), [made])
    found = endpoint["conditions"]
    assert (found["ready"], found["serving"], found["terminating"]) == expected


def test_without_pods_there_is_one_empty_slice():
    others = [pod("a", app="other"), pod("b", ip=""), pod("c", phase="Succeeded")]
    assert slices(service(), others) == [([], [])]


def test_pods_with_different_numbers_of_a_named_port_are_in_different_slices():
    found = slices(service(), [pod("a", port=1), pod("b", port=2), pod("c", port=1)])
    assert [(len(endpoints), ports[0]["port"]) for endpoints, ports in found] == [(2, 1), (1, 2)]


def test_subsets_leave_out_what_terminates():
    found = subsets(service(), [pod("a"), pod("b", ready=False), pod("c", deleting=True)])
    assert [a["targetRef"]["name"] for a in found[0]["addresses"]] == ["a"]
    assert [a["targetRef"]["name"] for a in found[0]["notReadyAddresses"]] == ["b"]
    assert found[0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def budget(**spec):
    return {"metadata": {"name": "b", "generation": 1}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "healthy", "expected", "allowed", "desired"),
    [
        pytest.param({"minAvailable": 1}, 1, 1, 0, 1, id="the recorded one"),
        pytest.param({"minAvailable": 1}, 3, 3, 2, 1, id="two may go"),
        pytest.param({"minAvailable": "50%"}, 3, 3, 1, 2, id="half rounds up"),
        pytest.param({"maxUnavailable": 1}, 3, 3, 1, 2, id="one at a time"),
        pytest.param({"maxUnavailable": "25%"}, 3, 4, 0, 3, id="one is missing already"),
        pytest.param({"minAvailable": 1}, 0, 0, 0, 1, id="no pods"),
    ],
)
def test_disruptions_allowed(spec, healthy, expected, allowed, desired):
    pods = [pod(str(n)) for n in range(healthy)]
    status = budget_status(budget(**spec), pods, expected, NOW)
    assert (status["disruptionsAllowed"], status["desiredHealthy"], status["currentHealthy"]) == (
        allowed,
        desired,
        healthy,
    )
    (entry,) = status["conditions"]
    assert (entry["status"], entry["reason"]) == (
        ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    )


def job(**spec):
    return {"metadata": {"name": "j"}, "spec": {"completions": 2, "parallelism": 1, **spec}}


def worker(phase):
    ended = {"state": {"terminated": {"finishedAt": "2027-01-15T08:00:00Z"}}}
    return {"metadata": {"name": "w"}, "spec": {}, "status": {"phase": phase, "containerStatuses": [ended]}}


DONE, FAILED, RUNS = worker("Succeeded"), worker("Failed"), worker("Running")


@pytest.mark.parametrize(
    ("made", "pods", "expected"),
    [
        pytest.param(job(), [DONE, RUNS], None, id="goes on"),
        pytest.param(job(), [DONE, DONE], "Complete", id="complete"),
        pytest.param(job(backoffLimit=1), [FAILED, FAILED], "Failed", id="too many failures"),
        pytest.param(job(backoffLimit=2), [FAILED, FAILED], None, id="may fail again"),
        pytest.param(job(completions=None), [DONE, RUNS], None, id="a work queue waits for the rest"),
        pytest.param(job(completions=None), [DONE], "Complete", id="a work queue is done"),
    ],
)
def test_a_job_ends(made, pods, expected):
    found = verdict(made, pods, NOW)
    assert (found and found[0]) == expected


@pytest.mark.parametrize(
    ("made", "pods", "expected"),
    [
        pytest.param(job(), [], 1, id="the first"),
        pytest.param(job(parallelism=5), [], 2, id="no more than completions"),
        pytest.param(job(parallelism=5), [DONE], 1, id="no more than are left"),
        pytest.param(job(), [RUNS], 0, id="enough"),
        pytest.param(job(parallelism=0), [RUNS], -1, id="too many"),
    ],
)
def test_how_many_more_pods(made, pods, expected):
    assert missing_pods(made, pods) == expected


def test_a_job_waits_longer_after_each_failure():
    ended = 1_800_000_000.0
    assert [backoff([FAILED] * n, ended) for n in (0, 1, 2, 3)] == [0, 10, 20, 40]
