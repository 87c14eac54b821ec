"""Ready is stood by for seconds, and never for another spec."""

from __future__ import annotations

import pytest

from mlserve_core.api.v1alpha1 import Condition, ModelDeploymentSpec, ModelDeploymentStatus
from mlserve_operator.patience import PATIENCE_SECONDS, Patience
from mlserve_operator.rollout.state import Observation, Route

SPEC = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://b/m"}})
ROUTE = Route(weights={"digits-1": 100})


def seen(now: float, route: Route | None) -> Observation:
    return Observation(now=now, generation=3, spec=SPEC, target="digits-1", route=route)


def said(ready: str, generation: int = 3) -> ModelDeploymentStatus:
    condition = Condition(type="Ready", status=ready, observed_generation=generation, last_transition_time="t")
    return ModelDeploymentStatus(conditions=[condition])


@pytest.mark.parametrize("route", [None, Route(weights={"digits-1": 50, "digits-2": 50})], ids=["silent", "edited"])
def test_a_moment_of_doubt_passes_and_a_longer_one_is_told(route: Route | None) -> None:
    patience = Patience()
    assert patience.lasts("digits", ROUTE, seen(100, ROUTE), said("True"))
    assert patience.lasts("digits", ROUTE, seen(101, route), said("True"))
    assert patience.lasts("digits", ROUTE, seen(100.9 + PATIENCE_SECONDS, route), said("True"))
    assert not patience.lasts("digits", ROUTE, seen(101 + PATIENCE_SECONDS, route), said("True"))
    assert patience.lasts("digits", ROUTE, seen(107, ROUTE), said("Unknown")), "confirmed again"
    assert patience.lasts("digits", ROUTE, seen(108, route), said("True")), "and the next doubt begins anew"


def test_a_pod_that_no_router_reaches_is_a_doubt_too() -> None:
    patience, cut_off = Patience(), {"unreached": {"digits-1": 2}}
    assert patience.lasts("digits", ROUTE, seen(100, ROUTE).model_copy(update=cut_off), said("True"))
    assert not patience.lasts("digits", ROUTE, seen(106, ROUTE).model_copy(update=cut_off), said("True"))


@pytest.mark.parametrize("status", [said("Unknown"), said("True", generation=2), ModelDeploymentStatus()])
def test_what_was_not_said_of_this_spec_is_not_stood_by(status: ModelDeploymentStatus) -> None:
    assert not Patience().lasts("digits", ROUTE, seen(100, None), status)


def test_how_long_routers_were_waited_for() -> None:
    patience = Patience()
    assert patience.waited("digits", 100) == 0
    patience.lasts("digits", ROUTE, seen(100, None), said("True"))
    assert patience.waited("digits", 160) == 60
    assert patience.waited("digits", 40) == 0, "a clock that was put back"
    patience.lasts("digits", ROUTE, seen(161, ROUTE), said("True"))
    assert patience.waited("digits", 162) == 0
