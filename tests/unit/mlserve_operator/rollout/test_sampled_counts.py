"""A busy pod counts a sample of its rows on the bins; rows of one request stay as dependent as they were."""

from __future__ import annotations

import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase
from mlserve_core.wire import LaneCounts, ProfileCounts, TelemetrySnapshot
from mlserve_operator.rollout import bins
from mlserve_operator.rollout.analysis import measure
from mlserve_operator.rollout.evidence import Evidence
from mlserve_operator.rollout.state import Observation, PodObservation, RolloutState

STATE = RolloutState(phase=Phase.PROGRESSING, stable="v1", canary="v2", weight=50)
SPEC = ModelDeploymentSpec.model_validate({"model": {"uri": "file:///m"}})


def pod(revision: str, requests: int, rows: int, predictions: list[int]) -> PodObservation:
    counts = ProfileCounts(profile_digest="p", rows=sum(predictions), predictions=predictions)
    lane = LaneCounts(requests=requests, rows=rows, own=counts, comparison=counts)
    told = TelemetrySnapshot(name="m", revision=revision, boot_id="1", live=lane)
    return PodObservation(name=revision, uid=revision, revision=revision, telemetry=told)


def wealth(requests: int, rows: int, counted: int) -> float:
    """The highest log wealth after one look at a canary that answers 60 : 40 where stable answers 40 : 60."""
    share = counted // 100
    evidence: Evidence | None = None
    for now, (n, seen) in ((0, (0, 0)), (20, (requests, share))):
        pods = (
            pod("v1", n, n * rows // requests, [40 * seen, 60 * seen]),
            pod("v2", n, n * rows // requests, [60 * seen, 40 * seen]),
        )
        observation = Observation(now=now, generation=1, spec=SPEC, target="v2", pods=pods, route=STATE.route)
        evidence, look = measure(evidence, STATE, observation)
    assert look is not None
    assert evidence is not None
    changed = bins.add_look(evidence, look, SPEC.rollout.analysis)
    return max(value for row in changed["predictions"].wealth for value in row)


@pytest.mark.parametrize("counted", [10_000, 1_000], ids=["all rows", "one in ten"])
def test_ten_rows_a_request_weigh_a_tenth_each_however_many_were_counted(counted: int) -> None:
    alone = wealth(requests=counted, rows=counted, counted=counted)
    together = wealth(requests=1_000, rows=10_000, counted=counted)
    assert together == pytest.approx(alone / 10, rel=0.1)
