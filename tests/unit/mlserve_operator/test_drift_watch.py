"""The operator's side of drift: profiles of other releases are told of once, and clocks may jump."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
from mlserve_core.statistics import ProfileCounter, build_profile
from mlserve_core.statistics.drift import DriftVerdict
from mlserve_core.wire import LABEL_REVISION, LaneCounts, TelemetrySnapshot
from mlserve_operator.drift import DriftWatch
from mlserve_operator.history import History
from mlserve_operator.rollout.state import Observation, PodObservation, RevisionHealth

SPEC = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://m"}})
REFERENCE = np.random.default_rng(0).standard_normal((20_000, 3))
PROFILE = build_profile(REFERENCE)
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
POD = {"metadata": {"name": "p", "labels": {LABEL_REVISION: "v1"}}, "status": READY}


class OnePod:
    """In place of the index and of HTTP: one ready pod that tells its profile."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.told = profile

    def of_model(self, kind: str, namespace: str, name: str) -> list[dict[str, Any]]:
        return [POD] if (kind, namespace, name) == ("Pod", "bank", "m") else []

    async def profile(self, _: dict[str, Any]) -> dict[str, Any]:
        return self.told


def watching(profile: dict[str, Any]) -> tuple[DriftWatch, History]:
    history, pod = History(), OnePod(profile)
    return DriftWatch(pod, pod, history), history  # type: ignore[arg-type]


def seen(counter: ProfileCounter, now: float) -> Observation:
    told = TelemetrySnapshot(name="m", revision="v1", boot_id="1", live=LaneCounts(own=counter.counts()))
    pod = PodObservation(name="p", uid="p", revision="v1", telemetry=told)
    return Observation(now=now, generation=1, spec=SPEC, target="v1", revisions={"v1": RevisionHealth()}, pods=(pod,))


async def test_a_profile_of_another_release_is_told_of_once_and_not_watched(caplog) -> None:
    watch, history = watching(json.loads(PROFILE.to_json()) | {"schemaVersion": 9})
    counter, told = ProfileCounter(PROFILE), []
    for now in range(0, 3_000, 300):
        observation, events = await watch.watch("key", "bank", "m", seen(counter, float(now)))
        assert observation.drift == {}
        told += events
    assert [(event.type, event.reason) for event in told] == [("Warning", "DriftNotWatched")]
    assert "schema version 9" in told[0].message
    (record,) = caplog.records
    assert "drift of bank/v1 is not watched" in record.message
    assert "schema version 9, this release reads version 1" in record.message
    history.close()


JUMPS = {
    "backwards by an hour": [0.0, 300.0, -3_300.0, -3_000.0, -2_700.0],
    "forwards by a year": [0.0, 300.0, 31_536_300.0, 31_536_600.0, 31_536_900.0],
    "to 1970 and back": [1_770_000_000.0, 1_770_000_300.0, 5.0, 1_770_000_600.0, 1_770_000_900.0],
}


@pytest.mark.parametrize("name", list(JUMPS))
async def test_a_clock_that_jumps_neither_alarms_nor_crashes(name: str) -> None:
    watch, history = watching(json.loads(PROFILE.to_json()))
    counter, random, results = ProfileCounter(PROFILE), np.random.default_rng(1), []
    for now in JUMPS[name]:
        counter.update(random.standard_normal((1_000, 3)))
        observation, events = await watch.watch("key", "bank", "m", seen(counter, now))
        assert events == ()
        results.append(observation.drift.get("v1"))
    assert results[-1] is not None, "windows close again after the jump"
    assert {result.verdict for result in results if result} == {DriftVerdict.NO_DRIFT}
    history.close()


async def test_profiles_of_revisions_that_are_gone_are_forgotten() -> None:
    watch, history = watching(json.loads(PROFILE.to_json()))
    counter = ProfileCounter(PROFILE)
    await watch.watch("key", "bank", "m", seen(counter, 0.0))
    gone = seen(counter, 300.0).model_copy(update={"revisions": {"v2": RevisionHealth()}})
    await watch.watch("key", "bank", "m", gone)
    assert watch._profiles[("bank", "m")] == watch._read_profiles[("bank", "m")] == {}
    watch.forget("key", "bank", "m")
    assert not watch._profiles
    history.close()
