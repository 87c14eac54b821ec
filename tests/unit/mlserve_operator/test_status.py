"""Conditions as people, kstatus and the printer columns read them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, ModelDeploymentStatus, Phase, Reason
from mlserve_core.statistics.drift import DriftResult, DriftVerdict, FeatureDrift, Severity
from mlserve_operator.rollout.evidence import Evidence, Verdict
from mlserve_operator.rollout.state import Failure, Observation, Rejection, RevisionHealth, RolloutState, Route
from mlserve_operator.status import Situation, build_status, read_status, timestamp

SPEC = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://b/m"}})
HEALTHY = RolloutState(phase=Phase.HEALTHY, stable="digits-1")
ONE_READY = {"digits-1": RevisionHealth(desired=1, ready=1)}
SERVING = Route(weights={"digits-1": 100})


def situation(
    state: RolloutState,
    revisions: dict[str, RevisionHealth],
    route: Route | None = SERVING,
    unreached: int = 0,
    **more: Any,
) -> Situation:
    """Of two router pods so many do not reach the revision."""
    observation = Observation(
        now=1_000_000.0, generation=3, spec=SPEC, target="digits-1", revisions=revisions, route=route,
        unreached={"digits-1": unreached} if unreached else {}, routers=2,
    )  # fmt: skip
    return Situation(
        name="digits", namespace="team", state=state, observation=observation, snapshots={}, digests={}, **more
    )


def kstatus(status: ModelDeploymentStatus, generation: int = 3) -> str:
    """The generic rules of sigs.k8s.io/cli-utils/pkg/kstatus."""
    conditions = {item.type: item for item in status.conditions}
    if status.observed_generation != generation:
        return "InProgress"
    if (item := conditions.get("Stalled")) and item.status == "True":
        return "Failed"
    if (item := conditions.get("Reconciling")) and item.status == "True":
        return "InProgress"
    ready = conditions.get("Ready")
    return "Current" if ready is not None and ready.status == "True" else "InProgress"


FAILED = Failure(reason=Reason.IMAGE_PULL_FAILED, message="no such image", terminal=False)
CASES = [
    pytest.param(
        situation(RolloutState(canary="digits-1"), {"digits-1": RevisionHealth(desired=1)}, Route()),
        ("Unknown", "CanaryProgressing", "False", "InProgress"), id="first-revision-starts",
    ),
    pytest.param(
        situation(RolloutState(canary="digits-1"), {"digits-1": RevisionHealth(desired=1, failure=FAILED)}, Route()),
        ("False", "ImagePullFailed", "False", "InProgress"), id="first-revision-has-trouble-that-may-pass",
    ),
    pytest.param(
        situation(
            RolloutState(canary="digits-1", stalled=True, reason="ModelLoadFailed", message="m"),
            {"digits-1": RevisionHealth(desired=1)}, Route(),
        ),
        ("False", "ModelLoadFailed", "False", "Failed"), id="first-revision-failed",
    ),
    pytest.param(situation(HEALTHY, ONE_READY), ("True", "Promoted", "True", "Current"), id="serves"),
    pytest.param(
        situation(
            RolloutState(
                phase=Phase.BAKING, stable="digits-0", pinned="digits-0", pinned_against="digits-1",
                rejected=(Rejection(revision="digits-1", reason=Reason.MANUAL_ABORT, message="undone", at=0),),
            ),
            {"digits-0": RevisionHealth(desired=1, ready=1)}, Route(weights={"digits-0": 100}),
        ),
        ("False", "RolledBack", "True", "InProgress"), id="another revision serves than the spec asks for",
    ),
    pytest.param(
        situation(HEALTHY, ONE_READY, None), ("Unknown", "CanaryProgressing", "True", "InProgress"), id="router-behind"
    ),
    pytest.param(
        situation(HEALTHY, ONE_READY, None, patient=True), ("True", "Promoted", "True", "Current"), id="router-slow"
    ),
    pytest.param(
        situation(HEALTHY, {"digits-1": RevisionHealth(desired=3, ready=2)}),
        ("Unknown", "CanaryProgressing", "True", "InProgress"), id="scaling-up",
    ),
    pytest.param(
        situation(HEALTHY, {"digits-1": RevisionHealth(desired=0)}),
        ("True", "Promoted", "False", "Current"), id="scaled-to-zero",
    ),
    pytest.param(
        situation(
            RolloutState(phase=Phase.PROGRESSING, stable="digits-1", canary="digits-2", weight=5, message="m"),
            {**ONE_READY, "digits-2": RevisionHealth(desired=1, ready=1)}, None,
        ),
        ("False", "CanaryProgressing", "True", "InProgress"), id="canary",
    ),
    pytest.param(
        situation(
            RolloutState(phase=Phase.ROLLED_BACK, stable="digits-1", stalled=True, reason="DriftRollback", message="m"),
            ONE_READY,
        ),
        ("False", "RolledBack", "True", "Failed"), id="rolled-back",
    ),
    pytest.param(
        situation(HEALTHY, ONE_READY, obstacle=("ObjectConflict", "Service digits exists")),
        ("False", "ObjectConflict", "True", "Failed"), id="somebody-elses-object",
    ),
    pytest.param(
        situation(HEALTHY, ONE_READY, unreached=1),
        ("Unknown", "NoHealthyUpstream", "True", "InProgress"), id="one-router-is-cut-off",
    ),
    pytest.param(
        situation(HEALTHY, ONE_READY, unreached=2),
        ("Unknown", "NoHealthyUpstream", "False", "InProgress"), id="no-router-reaches-a-ready-pod",
    ),
    pytest.param(
        situation(HEALTHY, ONE_READY, unreached=2, patient=True),
        ("True", "Promoted", "True", "Current"), id="for-a-moment-no-router-reaches-it",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "expected"), CASES)
def test_conditions(seen: Situation, expected: tuple[str, str, str, str]) -> None:
    status = build_status(seen, ModelDeploymentStatus())
    conditions = {item.type: item for item in status.conditions}
    ready, available = conditions["Ready"], conditions["Available"]
    assert (ready.status, ready.reason, available.status, kstatus(status)) == expected
    assert all(item.observed_generation == 3 for item in status.conditions)
    assert {item.status for item in status.conditions if item.type in {"Stalled", "Reconciling"}} <= {"True"}


@pytest.mark.parametrize(("seen", "expected"), CASES)
def test_the_same_situation_changes_nothing(seen: Situation, expected: tuple[str, str, str, str]) -> None:
    del expected
    first = build_status(seen, ModelDeploymentStatus())
    later = seen.observation.model_copy(update={"now": seen.observation.now + 60})
    again = build_status(Situation(**{**vars(seen), "observation": later}), first)
    assert again == first, "a look without news is no write"


def test_times_move_only_when_a_status_flips() -> None:
    first = build_status(situation(HEALTHY, ONE_READY), ModelDeploymentStatus())
    seen = situation(HEALTHY, ONE_READY, None)
    later = build_status(
        Situation(**{**vars(seen), "observation": seen.observation.model_copy(update={"now": 2_000_000.0})}), first
    )
    times = {item.type: item.last_transition_time for item in later.conditions}
    assert times["Available"] == timestamp(1_000_000.0)
    assert times["Ready"] == timestamp(2_000_000.0)


def test_weights_and_sizes() -> None:
    state = RolloutState(phase=Phase.PROGRESSING, stable="digits-1", canary="digits-2", weight=25, step=1)
    status = build_status(
        situation(state, {**ONE_READY, "digits-2": RevisionHealth(desired=2, ready=2)}), ModelDeploymentStatus()
    )
    assert status.stable is not None
    assert status.canary is not None
    assert (status.stable.weight, status.canary.weight, status.canary.step) == (75, 25, 1)
    assert status.replicas == 3
    assert "mlserve.io/modeldeployment=digits" in status.selector
    assert status.url == "http://digits.team.svc"


def test_what_holds_a_rollout_whose_checks_are_all_good_is_said() -> None:
    """Otherwise a canary that passes everything and gets no further looks stuck."""
    state = RolloutState(
        phase=Phase.PROGRESSING, stable="digits-1", canary="digits-2", weight=50, message="digits-2 gets 50 %",
        evidence=Evidence(verdict=Verdict.SUCCESSFUL, hold="the inputs of both arms are far from their references"),
    )  # fmt: skip
    status = build_status(situation(state, ONE_READY), ModelDeploymentStatus())
    told = {item.type: item.message for item in status.conditions}
    for kind in ("Ready", "Progressing", "CanaryHealthy"):
        assert told[kind] == "digits-2 gets 50 %; held: the inputs of both arms are far from their references"


def test_a_status_of_another_release_is_begun_anew() -> None:
    assert read_status({"status": {"phase": "Healthy"}}).phase is Phase.HEALTHY
    assert read_status({"status": {"phase": "Transcending", "replicas": 3}}) == ModelDeploymentStatus()
    assert read_status({}) == ModelDeploymentStatus()


@pytest.mark.parametrize(
    ("verdict", "condition"),
    [("Drift", "True"), ("NoDrift", "False"), ("InsufficientData", "Unknown"), (None, None)],
    ids=str,
)
def test_drift_is_a_condition_of_what_serves_and_too_little_data_is_no_answer(
    verdict: str | None, condition: str | None
) -> None:
    calm = situation(HEALTHY, ONE_READY)
    features = tuple(FeatureDrift(name=f"f{i}", effect=0.5 - i / 100, severity=Severity.HIGH) for i in range(40))
    told = DriftResult(verdict=DriftVerdict(verdict), rows=900, features=features, message="m") if verdict else None
    canary = DriftResult(verdict=DriftVerdict.DRIFT)
    drift = {"digits-2": canary} | ({"digits-1": told} if told else {})
    moved = dataclasses.replace(calm, observation=calm.observation.model_copy(update={"drift": drift}))
    status = build_status(moved, ModelDeploymentStatus())
    found = {item.type: (item.status, item.reason) for item in status.conditions}.get("DriftDetected")
    assert found == (None if condition is None else (condition, verdict))
    if status.drift is not None:
        assert (status.drift.verdict, status.drift.rows) == (verdict, 900)
        assert [item.name for item in status.drift.features][:2] == ["f0", "f1"]
        assert len(status.drift.features) <= 16, "every watcher reads the status; the rest is in the history"
