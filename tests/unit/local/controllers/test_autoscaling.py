"""The autoscaler's arithmetic, on the examples of the Kubernetes documentation and beyond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_local.controllers.autoscaling import History, PodSample, clamp, proposal, rate_limited, stabilised
from mlserve_local.controllers.pod_metrics import parse_metric


def autoscaler(least=1, most=10, **behavior):
    return {"spec": {"minReplicas": least, "maxReplicas": most, "behavior": behavior}}


def samples(*values, ready=True):
    return [PodSample(value, 1.0, ready) for value in values]


@pytest.mark.parametrize(
    ("current", "pods", "target", "expected"),
    [
        pytest.param(1, samples(2.0), 1.0, 2, id="twice the target"),
        pytest.param(4, samples(0.5, 0.5, 0.5, 0.5), 1.0, 2, id="half the target"),
        pytest.param(2, samples(1.05, 1.05), 1.0, 2, id="within the tolerance"),
        pytest.param(3, samples(1.5, 1.5, 1.5), 1.0, 5, id="rounds up"),
        pytest.param(2, samples(2.0, None), 1.0, 2, id="a missing pod counts as idle when rising"),
        pytest.param(2, samples(4.0, None), 1.0, 4, id="and damps the rise"),
        pytest.param(2, samples(0.1, None), 1.0, 2, id="and as on target when falling"),
        pytest.param(1, samples(None), 1.0, None, id="nothing measured"),
        pytest.param(2, [*samples(3.0), *samples(9.0, ready=False)], 1.0, 3, id="unready pods are not measured"),
    ],
)
def test_proposal(current, pods, target, expected):
    found = proposal(current, pods, target)
    assert (found and found[0]) == expected


@given(st.lists(st.floats(0, 50), min_size=1, max_size=20), st.floats(0.1, 10))
def test_with_all_pods_measured_the_proposal_meets_the_target(values, target):
    replicas, average = proposal(len(values), samples(*values), target)
    if replicas != len(values):
        assert sum(values) / max(replicas, 1e-9) <= target * 1.001 or replicas == 0
        assert abs(average / target - 1) > 0.1 - 1e-9


def test_scaling_down_waits_until_the_load_has_stayed_low():
    spec, history = autoscaler(scaleDown={"stabilizationWindowSeconds": 60}), History()
    assert stabilised(spec, history, 5, 5, 0) == 5
    assert stabilised(spec, history, 5, 2, 30) == 5
    assert stabilised(spec, history, 5, 2, 59) == 5
    assert stabilised(spec, history, 5, 2, 61) == 2


def test_after_a_restart_the_present_size_is_held_for_a_window():
    spec, history = autoscaler(scaleDown={"stabilizationWindowSeconds": 60}), History()
    assert stabilised(spec, history, 7, 1, 1000) == 7


def test_scaling_up_is_immediate_without_a_window():
    assert stabilised(autoscaler(), History(), 2, 8, 0) == 8


def test_by_default_a_rise_is_bounded_by_four_pods_or_a_doubling():
    assert rate_limited(autoscaler(), History(), 1, 100, 0) == 5
    assert rate_limited(autoscaler(), History(), 10, 100, 0) == 20


def test_what_was_added_in_the_period_counts():
    history = History(changes=[(0.0, 4)])
    assert rate_limited(autoscaler(), history, 5, 100, 10) == 5
    assert rate_limited(autoscaler(), history, 5, 100, 16) == 10


def test_a_disabled_direction_does_not_move():
    assert rate_limited(autoscaler(scaleDown={"selectPolicy": "Disabled"}), History(), 5, 1, 0) == 5


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(0, (2, "TooFewReplicas")), (5, (5, "DesiredWithinRange")), (99, (10, "TooManyReplicas"))],
)
def test_bounds(wanted, expected):
    assert clamp(autoscaler(least=2), wanted) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# HELP x y\nx 1.5\n", 1.5),
        ('x{a="1"} 2\nx{a="2"} 3e0 1700000000', 5.0),
        ("xy 1\nx_total 2", None),
        ("", None),
    ],
    ids=["plain", "labels are summed", "other names", "empty"],
)
def test_a_pods_own_metric(text, expected):
    assert parse_metric(text, "x") == expected
