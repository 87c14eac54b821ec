"""Phases, conditions, probes and back-off follow the kubelet's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_local.node.backoff import CrashBackoff, describe
from mlserve_local.node.probes import ProbeState, port_number
from mlserve_local.node.status import ContainerRecord, PodView, phase, pod_status


def record(state: str, code: int = 0, *, sidecar: bool = False, started: bool = False, name: str = "c"):
    states = {
        "waiting": {"waiting": {"reason": "x"}},
        "running": {"running": {"startedAt": "t"}},
        "ended": {"terminated": {"exitCode": code}},
    }
    return ContainerRecord(name, "image", state=states[state], sidecar=sidecar, started=started)


W, R, OK, BAD = record("waiting"), record("running"), record("ended"), record("ended", 1)


@pytest.mark.parametrize(
    ("policy", "init", "main", "expected"),
    [
        pytest.param("Always", [], [W], "Pending", id="nothing started"),
        pytest.param("Always", [R], [W], "Pending", id="init runs"),
        pytest.param("Always", [BAD], [W], "Pending", id="init is tried again"),
        pytest.param("Never", [BAD], [W], "Failed", id="init failed for good"),
        pytest.param("Always", [OK], [R], "Running", id="runs"),
        pytest.param("Always", [], [R, W], "Running", id="one of two runs"),
        pytest.param("Always", [], [BAD], "Running", id="will be restarted"),
        pytest.param("OnFailure", [], [BAD], "Running", id="failed, will be restarted"),
        pytest.param("OnFailure", [], [OK], "Succeeded", id="done"),
        pytest.param("Never", [], [OK, BAD], "Failed", id="one failed"),
        pytest.param("Never", [], [OK, R], "Running", id="one still runs"),
        pytest.param("Always", [record("running", sidecar=True)], [W], "Pending", id="sidecar has not started"),
        pytest.param("Always", [record("running", sidecar=True, started=True)], [R], "Running", id="sidecar runs"),
    ],
)
def test_phase(policy, init, main, expected):
    assert phase(policy, init, main) == expected


def test_a_container_that_waits_for_its_restart_does_not_make_the_pod_pending():
    crashed = record("waiting")
    crashed.last_state = {"terminated": {"exitCode": 1}}
    assert phase("Always", [], [crashed]) == "Running"


def view(**pod):
    return PodView({"metadata": {"name": "p"}, "spec": {}, **pod}, "127.97.0.2", "127.0.0.1", "T0", "T1")


def conditions(status):
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}


def test_ready_names_the_containers_that_are_not():
    ready = record("running", name="a")
    ready.ready = True
    found = conditions(pod_status(view(), [], [ready, record("running", name="b")]))
    assert found["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [b]")
    assert found["Initialized"] == ("True", None, None)


def test_a_readiness_gate_holds_the_pod_back():
    ready = record("running")
    ready.ready = True
    gated = view(spec={"readinessGates": [{"conditionType": "x/y"}]})
    found = conditions(pod_status(gated, [], [ready]))
    assert (found["Ready"][0], found["ContainersReady"][0]) == ("False", "True")
    opened = {"conditions": [{"type": "x/y", "status": "True"}]}
    gated = view(spec={"readinessGates": [{"conditionType": "x/y"}]}, status=opened)
    assert conditions(pod_status(gated, [], [ready]))["Ready"][0] == "True"


def test_transition_times_change_with_the_status_only():
    old = {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "T-1"}]}
    status = pod_status(view(status=old), [], [record("running")])
    times = {c["type"]: c["lastTransitionTime"] for c in status["conditions"]}
    assert (times["Ready"], times["Initialized"]) == ("T-1", "T1")


def test_the_first_restart_is_immediate_and_the_waits_double_up_to_the_cap():
    backoff = CrashBackoff(base=10, cap=300)
    waits = [backoff.after(now, now + 1) for now in range(0, 20, 2)]
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300, 300]


def test_a_long_run_is_a_recovery():
    backoff = CrashBackoff(base=10, cap=300)
    assert [backoff.after(0, 1), backoff.after(2, 3), backoff.after(3, 700)] == [0, 10, 0]


@pytest.mark.parametrize(("seconds", "text"), [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (0.25, "250ms")])
def test_durations_are_spelled_as_in_go(seconds, text):
    assert describe(seconds) == text


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_needs_as_many_results_in_a_row_as_its_threshold(results, successes, failures):
    state = ProbeState(successes, failures)
    for index, ok in enumerate(results):
        before = state.verdict
        if state.observe(ok=ok):
            threshold = successes if ok else failures
            assert results[index + 1 - threshold : index + 1] == [ok] * threshold
            assert state.verdict is ok
            assert before is not ok
        else:
            assert state.verdict is before


def test_a_port_by_name_lists_the_names_there_are():
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 80}]}
    assert (port_number("http", container), port_number("81", container), port_number(82, container)) == (80, 81, 82)
    with pytest.raises(ValueError, match=r"no port named 'x'; it has \['http'\]"):
        port_number("x", container)
