"""A rollback waits for requests in flight, and for nothing else."""

from __future__ import annotations

import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
from mlserve_core.wire import TelemetrySnapshot
from mlserve_operator.rollout.schedule import _drained
from mlserve_operator.rollout.state import Observation, PodObservation, RolloutState

STATE = RolloutState(stable="v1", canary="v2", drained_since=1000.0)


def pod(*, ready: bool, in_flight: int | None) -> PodObservation:
    told = None
    if in_flight is not None:
        told = TelemetrySnapshot(name="m", revision="v2", boot_id="b", in_flight=in_flight)
    return PodObservation(name="p", uid="u", revision="v2", ready=ready, telemetry=told)


@pytest.mark.parametrize(
    ("pods", "seconds", "drained"),
    [
        pytest.param([], 1, True, id="no pods"),
        pytest.param([pod(ready=True, in_flight=0)], 1, True, id="idle"),
        pytest.param([pod(ready=True, in_flight=3)], 1, False, id="busy"),
        pytest.param([pod(ready=True, in_flight=None)], 1, False, id="ready but cannot be asked"),
        pytest.param([pod(ready=False, in_flight=None)], 1, True, id="never started"),
        pytest.param([pod(ready=False, in_flight=2)], 1, False, id="going away with requests"),
        pytest.param([pod(ready=True, in_flight=3)], 31, True, id="no request can last so long"),
    ],
)
def test_drained(pods: list[PodObservation], seconds: int, *, drained: bool) -> None:
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "file:///m"}})
    seen = Observation(now=1000.0 + seconds, generation=1, spec=spec, target="v2", pods=tuple(pods))
    assert _drained(STATE, seen) is drained
