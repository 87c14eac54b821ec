"""What Prometheus is told of a rollout: the numbers a decision rests on, and nothing once it is over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mlserve_core.api.v1alpha1 import DriftStatus, FeatureDriftStatus, ModelDeploymentStatus, Phase, Reason
from mlserve_operator import metrics
from mlserve_operator.rollout.simulation import Behaviour, World, trial
from mlserve_operator.rollout.state import RolloutState

NOT_A_ROLLBACK = {
    Reason.CANARY_PAUSED,
    Reason.CANARY_PROGRESSING,
    Reason.INVALID_SPEC,
    Reason.NO_HEALTHY_UPSTREAM,
    Reason.OBJECT_CONFLICT,
    Reason.OBJECT_REFUSED,
    Reason.PREDICTION_DRIFT,
    Reason.PROMOTED,
    Reason.ROLLED_BACK,
    Reason.ROUTER_FULL,
}


@pytest.fixture
def seen() -> Iterator[None]:
    metrics.show("team", "digits", ModelDeploymentStatus())
    yield
    metrics.forget("team", "digits")


def samples(prefix: str) -> dict[tuple[str, ...], float]:
    """Values of the metrics of that name, by metric and further labels."""
    return {
        (
            sample.name,
            *(value for label, value in sample.labels.items() if label not in {"namespace", "name"}),
        ): sample.value
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith(prefix) and sample.labels.get("name") == "digits" and "_created" not in sample.name
    }


def show(world: World) -> None:
    before = world.state
    world.tick()
    metrics.count_decision("team", "digits", before, world.state)
    metrics.show_evidence("team", "digits", world.state)


@pytest.mark.usefixtures("seen")
def test_evidence_is_shown_as_it_grows_and_goes_with_the_rollout() -> None:
    world = trial({}, Behaviour(), Behaviour(errors=0.2), np.random.default_rng(0), rate=30)
    assert samples("mlserve_rollout_log_e") == {}
    highest = 0.0
    while world.state.phase is not Phase.ROLLING_BACK:
        show(world)
        worse = ("mlserve_rollout_log_e_value", "errors", "worse")
        highest = max(highest, samples("mlserve_rollout_log_e").get(worse, 0.0))
    threshold = samples("mlserve_rollout_log_e")["mlserve_rollout_log_e_threshold", "errors", "worse"]
    assert highest >= threshold > 0, "what is shown is what was decided on"
    counted = world.state.evidence.checks["errors"] if world.state.evidence else None
    assert counted is not None
    shown = samples("mlserve_rollout_check_events")
    assert shown["mlserve_rollout_check_events", "errors", "canary", "all"] == counted.canary
    assert shown["mlserve_rollout_check_events", "errors", "canary", "bad"] == counted.canary_bad > 0
    assert samples("mlserve_rollout_looks") == {("mlserve_rollout_looks",): world.state.evidence.looks}
    assert [key[1] for key, value in samples("mlserve_rollout_verdict").items() if value] == ["Failed"]

    while world.state.phase is not Phase.ROLLED_BACK:
        show(world)
    assert (
        samples("mlserve_rollout_log_e") == samples("mlserve_rollout_check") == samples("mlserve_rollout_looks") == {}
    )
    assert samples("mlserve_rollbacks_total")["mlserve_rollbacks_total", "AnalysisFailed"] == 1
    assert samples("mlserve_promotions_total") == {("mlserve_promotions_total",): 0}


@pytest.mark.usefixtures("seen")
def test_a_promotion_is_counted_once() -> None:
    world = trial({"rollout": {"bakeSeconds": 60}}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=50)
    while world.state.phase is not Phase.BAKING:
        show(world)
    for _ in range(3):
        show(world)
    assert samples("mlserve_promotions_total") == {("mlserve_promotions_total",): 1}
    roles = {key[2] for key in samples("mlserve_rollout_check_events")}
    assert roles == {"canary"}, "after the promotion there is no other arm"


@pytest.mark.usefixtures("seen")
def test_the_first_revision_and_a_return_are_no_promotions() -> None:
    healthy = RolloutState(phase=Phase.HEALTHY, stable="v1")
    metrics.count_decision("team", "digits", RolloutState(canary="v1"), healthy)
    baking = RolloutState(phase=Phase.BAKING, stable="v2", previous="v1")
    metrics.count_decision("team", "digits", baking, RolloutState(phase=Phase.ROLLING_BACK, stable="v1", canary="v2"))
    assert samples("mlserve_promotions_total") == {("mlserve_promotions_total",): 0}


def test_nothing_is_left_of_a_deleted_resource() -> None:
    metrics.show("team", "digits", ModelDeploymentStatus())
    world = trial({}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=30)
    while not world.state.evidence or not world.state.evidence.reports:
        show(world)
    assert len(samples("mlserve_")) > 20
    metrics.forget("team", "digits")
    assert samples("mlserve_") == {}


def test_every_reason_is_known_to_roll_back_or_not_to() -> None:
    """A counter that begins with 1 hides its first rollback from `increase()`: every reason begins with 0."""
    assert set(metrics.ROLLBACK_REASONS) | NOT_A_ROLLBACK == set(Reason)
    assert set(metrics.ROLLBACK_REASONS) & NOT_A_ROLLBACK == set()


@pytest.mark.usefixtures("seen")
def test_drift_is_shown_by_feature_and_a_feature_that_is_told_no_more_goes() -> None:
    def told(verdict: str, severity: str, **effects: str) -> ModelDeploymentStatus:
        features = [FeatureDriftStatus(name=name, effect_percent=effect) for name, effect in effects.items()]
        return ModelDeploymentStatus(drift=DriftStatus(verdict=verdict, severity=severity, rows=900, features=features))

    metrics.show("team", "digits", told("Drift", "high", age="41.5", accuracy="7.0"))
    assert samples("mlserve_drift") == {
        ("mlserve_drift_effect", "age"): 0.415,
        ("mlserve_drift_effect", "accuracy"): 0.07,
        ("mlserve_drift_severity",): 3.0,
        ("mlserve_drift_window_rows",): 900.0,
    }
    metrics.show("team", "digits", told("NoDrift", "none", age="1.0"))
    assert samples("mlserve_drift_effect") == {("mlserve_drift_effect", "age"): 0.01}
    assert samples("mlserve_drift_severity") == {("mlserve_drift_severity",): 0.0}
    metrics.forget("team", "digits")
    assert samples("mlserve_drift") == {}
