"""Feedback counts for the version it is about, whichever pod it reached, and once."""

from __future__ import annotations

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase
from mlserve_core.wire import FeedbackCounts, LaneCounts, TelemetrySnapshot
from mlserve_operator.rollout.analysis import measure
from mlserve_operator.rollout.evidence import Evidence
from mlserve_operator.rollout.state import Observation, PodObservation, RolloutState

STATE = RolloutState(phase=Phase.PROGRESSING, stable="v1", canary="v2", weight=50)


def seen(now: float, *, requests: int, told: dict[str, FeedbackCounts]) -> Observation:
    """Two pods; feedback on v2 reaches the pod of v1."""
    lane = LaneCounts(requests=requests)
    pods = (
        PodObservation(
            name="a",
            uid="a",
            revision="v1",
            telemetry=TelemetrySnapshot(name="m", revision="v1", boot_id="1", live=lane, other_feedback=told),
        ),
        PodObservation(
            name="b",
            uid="b",
            revision="v2",
            telemetry=TelemetrySnapshot(name="m", revision="v2", boot_id="1", live=lane),
        ),
    )
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "file:///m"}})
    return Observation(now=now, generation=1, spec=spec, target="v2", pods=pods, route=STATE.route)


def labels(right: int, wrong: int) -> FeedbackCounts:
    return FeedbackCounts(confusion={"7": {"7": right, "1": wrong}}, rewards=right, reward_sum_milli=1000 * right)


def test_feedback_on_the_other_arm_counts_there_and_once() -> None:
    evidence, look = measure(Evidence(), STATE, seen(0, requests=10, told={}))
    assert look is None
    evidence, look = measure(evidence, STATE, seen(20, requests=50, told={"v2": labels(8, 2), "v0": labels(5, 5)}))
    assert look is not None
    assert (look.canary.counters.labelled, look.canary.counters.wrong, look.canary.counters.rewards) == (10, 2, 8)
    assert look.stable.counters.labelled == 0
    _, look = measure(evidence, STATE, seen(40, requests=90, told={"v2": labels(9, 2), "v0": labels(5, 5)}))
    assert look is not None
    assert (look.canary.counters.labelled, look.canary.counters.wrong) == (1, 0)
