"""A checkpoint is a ConfigMap: what is remembered of a fleet has to fit, or no decision could be written any more."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase
from mlserve_core.wire import FeatureCounts, LaneCounts, ProfileCounts, TelemetrySnapshot
from mlserve_operator.rollout.evidence import MAX_SEEN
from mlserve_operator.rollout.state import Observation, PodObservation, RevisionHealth, RolloutState
from mlserve_operator.rollout.step import step

NOW, INTERVAL = 1_000_000.0, 15
LIMIT = 1024 * 1024
SPEC = ModelDeploymentSpec.model_validate(
    {"model": {"uri": "s3://m"}, "replicas": 2, "rollout": {"steps": [{"weight": 50, "holdSeconds": 10_000}]}}
)
TRIAL = RolloutState(
    phase=Phase.PROGRESSING, stable="v1", canary="v2", weight=50, step=0, step_started_at=NOW, clock=NOW
)


def fleet(pods: int, features: int, look: int, *, boot: int = 0, first: int = 0) -> tuple[PodObservation, ...]:
    """Pods of both revisions that have seen 40 rows of every feature in each look."""
    bins = random.Random(0).choices(range(30), k=40 * look)
    counts = FeatureCounts(counts=[bins.count(i) for i in range(30)])
    told = ProfileCounts(
        profile_digest="p", rows=40 * look, features={f"feature-{i:03}": counts for i in range(features)}
    )
    lane = LaneCounts(requests=40 * look, rows=40 * look, own=told, comparison=told)

    def pod(revision: str, index: int) -> PodObservation:
        uid = f"00000000-0000-0000-{revision}-{first + index:012}"
        telemetry = TelemetrySnapshot(name="m", revision=revision, boot_id=f"{boot:032}", live=lane)
        return PodObservation(name=uid, uid=uid, revision=revision, telemetry=telemetry)

    return tuple(pod(revision, index) for revision in ("v1", "v2") for index in range(pods))


def observe(state: RolloutState, look: int, pods: tuple[PodObservation, ...]) -> Observation:
    values: dict[str, Any] = {"now": NOW + INTERVAL * look, "generation": 1, "spec": SPEC, "target": "v2"}
    health = {name: RevisionHealth(desired=2, ready=2) for name in ("v1", "v2")}
    return Observation(**values, revisions=health, route=state.route, pods=pods)


@pytest.mark.parametrize(("pods", "features"), [(300, 100), (1000, 0), (50, 1000), (2, 20_000)])
def test_a_fleet_fits_into_its_checkpoint(pods: int, features: int) -> None:
    state = TRIAL
    for look in range(3):
        state = step(state, observe(state, look, fleet(pods, features, look))).state
    assert state.evidence is not None
    assert state.evidence.requests_canary == 2 * 40 * pods, "requests are counted of every pod"
    assert len(state.model_dump_json(by_alias=True)) < LIMIT


def test_inputs_are_compared_on_as_many_pods_as_fit() -> None:
    state = TRIAL
    for look in range(3):
        state = step(state, observe(state, look, fleet(100, 100, look))).state
    assert state.evidence is not None
    assert sum(state.evidence.features["feature-000"].canary) == 2 * 40 * 25


def test_a_pod_that_takes_the_place_of_another_begins_anew() -> None:
    """What it counted before belongs to no look: at the time it may have had another weight."""
    state = TRIAL
    for look, first in ((0, 0), (1, 0), (2, 10), (3, 10)):  # ten pods leave, and ten that were not remembered remain
        everybody = fleet(35, 100, look)
        state = step(state, observe(state, look, [*everybody[first:35], *everybody[35 + first :]])).state  # type: ignore[arg-type]
    assert state.evidence is not None
    assert sum(state.evidence.features["feature-000"].canary) == 40 * (25 + 15 + 25)


def test_processes_that_ended_leave_little_behind() -> None:
    """A canary that crashes every look for hours."""
    state = TRIAL
    for look in range(150):
        state = step(state, observe(state, look, fleet(2, 30, 1, boot=look))).state
    assert state.evidence is not None
    assert len(state.evidence.seen) <= MAX_SEEN
    assert sum(bool(counters.features) for counters in state.evidence.seen.values()) <= 4
    assert len(state.model_dump_json(by_alias=True)) < LIMIT / 4
