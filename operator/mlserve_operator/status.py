"""The status of a ModelDeployment, from what is remembered and what is seen.

Read by people, by kstatus (Flux, Argo CD, `kubectl wait`) and by the scale subresource. `Ready` means that what the
spec asks for serves; `Available` that anything does. `Stalled` goes with every failure that will not pass by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mlserve_core.api.conditions import Claim, merge_conditions
from mlserve_core.api.v1alpha1 import (
    AnalysisStatus,
    CheckStatus,
    ConditionType,
    DriftStatus,
    FeatureDriftStatus,
    LastCommand,
    ModelDeploymentStatus,
    Phase,
    PreviousStatus,
    Reason,
    RejectedStatus,
    RequestCounts,
    RevisionStatus,
)
from mlserve_core.statistics.drift import DriftVerdict
from mlserve_operator.resources.metadata import runtime_selector
from mlserve_operator.resources.service import url
from mlserve_operator.rollout.evidence import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlserve_core.statistics.drift import DriftResult
    from mlserve_operator.rollout.revisions import Snapshot
    from mlserve_operator.rollout.state import Failure, Observation, RolloutState

SHOWN_FEATURES = 5
_ACTIVE = frozenset({Phase.PENDING, Phase.PROGRESSING, Phase.PAUSED, Phase.ROLLING_BACK})


@dataclass(frozen=True)
class Situation:
    """What a status is made of.

    Attributes:
        name: the ModelDeployment.
        namespace: its namespace.
        state: what is remembered.
        observation: what is seen.
        snapshots: kept revisions by name.
        digests: digest of the artifact by revision, as its pods told.
        obstacle: why objects cannot be made (reason, message); None if they can.
        patient: Ready was said a moment ago: routers that do not confirm the route are no reason yet to take it back.
    """

    name: str
    namespace: str
    state: RolloutState
    observation: Observation
    snapshots: Mapping[str, Snapshot]
    digests: Mapping[str, str]
    obstacle: tuple[str, str] | None = None
    patient: bool = False

    @property
    def failure(self) -> Failure | None:
        """Why the wanted revision does not come up, if it does not."""
        state = self.state
        waited_for = state.canary if state.canary is not None else state.stable
        health = self.observation.health(waited_for)
        return health.failure if health.ready < max(health.desired, 1) else None

    @property
    def drift(self) -> DriftResult | None:
        """The newest window of the revision that serves."""
        return self.observation.drift.get(self.state.stable or "")


def read_status(owner: dict[str, Any]) -> ModelDeploymentStatus:
    """The stored status; an empty one in place of what another release wrote and this one cannot read."""
    try:
        return ModelDeploymentStatus.model_validate(owner.get("status") or {})
    except ValidationError:
        return ModelDeploymentStatus()


def build_status(situation: Situation, before: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """The whole status; equal to `before` when nothing happened."""
    state, observation = situation.state, situation.observation
    now = timestamp(observation.now)
    return ModelDeploymentStatus(
        observed_generation=observation.generation,
        phase=state.phase,
        url=url(situation.name, situation.namespace),
        replicas=sum(health.desired for health in observation.revisions.values()),
        selector=",".join(f"{key}={value}" for key, value in sorted(runtime_selector(situation.name).items())),
        stable=_revision(situation, state.stable, 100 - state.weight),
        canary=_canary(situation),
        previous=_previous(state),
        rejected=[
            RejectedStatus(revision=item.revision, reason=item.reason, message=item.message, at=timestamp(item.at))
            for item in state.rejected
        ],
        drift=_drift(situation),
        last_command=_last_command(state),
        conditions=merge_conditions(before.conditions, claims(situation), generation=observation.generation, now=now),
    )


def claims(situation: Situation) -> list[Claim]:
    """What is true now, condition by condition."""
    state = situation.state
    ready, reason, message = _ready(situation)
    active = state.phase in _ACTIVE and not state.stalled
    found = [
        Claim(ConditionType.READY, ready, reason, message),
        _available(situation),
        Claim(ConditionType.PROGRESSING, active, _progress_reason(state), _progress(state)),
        Claim(ConditionType.RECONCILING, active or (ready is None), reason, message),
        Claim(ConditionType.STALLED, state.stalled or situation.obstacle is not None, reason, message),
    ]
    if state.canary is not None and state.stable is not None:
        found.append(_canary_healthy(state))
    if (result := situation.drift) is not None:
        known = {DriftVerdict.DRIFT: True, DriftVerdict.NO_DRIFT: False}
        found.append(
            Claim(ConditionType.DRIFT_DETECTED, known.get(result.verdict), str(result.verdict.value), result.message)
        )
    return found


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the second, as Kubernetes writes times."""
    return datetime.fromtimestamp(int(seconds), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ready(situation: Situation) -> tuple[bool | None, str, str]:
    state, observation, failure = situation.state, situation.observation, situation.failure
    if situation.obstacle is not None:
        return False, *situation.obstacle
    if state.stalled:
        if state.phase is Phase.ROLLED_BACK:
            return (
                False,
                Reason.ROLLED_BACK,
                f"{state.stable} serves; the spec's revision was rolled back: {state.message}",
            )
        return False, state.reason or Reason.ROLLED_BACK, state.message
    if failure is not None:
        return False, failure.reason, failure.message
    if state.phase is Phase.PENDING:
        return None, Reason.CANARY_PROGRESSING, state.message or "the first revision is starting"
    if state.phase in _ACTIVE:
        reason = Reason.CANARY_PAUSED if state.phase is Phase.PAUSED else state.reason or Reason.CANARY_PROGRESSING
        return False, reason, _progress(state)
    if state.stable != observation.target:  # until a revision that undo chose has proved itself, or the next trial
        rejection = state.rejection(observation.target)
        reason = Reason.ROLLED_BACK if rejection is not None else Reason.CANARY_PROGRESSING
        return False, reason, f"{state.stable} serves; the spec asks for {observation.target}"
    return _serves(situation)


def _serves(situation: Situation) -> tuple[bool | None, str, str]:
    state, observation = situation.state, situation.observation
    if observation.route != state.route and not situation.patient:
        return None, Reason.CANARY_PROGRESSING, "waiting for every router pod to run the newest routes"
    if not observation.is_reached and not situation.patient:
        return None, Reason.NO_HEALTHY_UPSTREAM, _unreached(observation)
    health = observation.health(state.stable)
    if health.ready < health.desired:
        return None, Reason.CANARY_PROGRESSING, f"{health.ready} of {health.desired} pods of {state.stable} are ready"
    return True, Reason.PROMOTED, f"{state.stable} serves all requests"


def _unreached(observation: Observation) -> str:
    """Who does not reach what, and where to look."""
    found = ", ".join(
        f"{count} of {observation.routers} router pods reach no pod of {revision}"
        for revision, count in observation.unreached.items()
    )
    return f"{found}, though its probes pass: check NetworkPolicies and the operator's cluster domain and DNS resolver"


def _available(situation: Situation) -> Claim:
    state, observation = situation.state, situation.observation
    if state.stable is None:
        return Claim(ConditionType.AVAILABLE, False, "NothingServes", "no revision has been ready yet")
    serving = [revision for revision in (state.stable, state.canary) if observation.health(revision).ready > 0]
    if not serving:
        wanted = observation.health(state.stable).desired
        reason = "NothingServes" if wanted else "ScaledToZero"
        return Claim(ConditionType.AVAILABLE, False, reason, f"0 of {wanted} pods of {state.stable} are ready")
    cut_off = [
        revision for revision in serving if observation.unreached.get(revision or "", 0) == observation.routers > 0
    ]
    if cut_off == serving and not situation.patient:
        return Claim(ConditionType.AVAILABLE, False, Reason.NO_HEALTHY_UPSTREAM, _unreached(observation))
    return Claim(ConditionType.AVAILABLE, True, "Serving", f"{serving[0]} serves")


def _progress(state: RolloutState) -> str:
    """The state's message, with what the next step waits for although the verdict is good."""
    hold = state.evidence.hold if state.evidence is not None and state.phase is Phase.PROGRESSING else ""
    return f"{state.message}; held: {hold}" if hold and hold not in state.message else state.message


def _progress_reason(state: RolloutState) -> str:
    if state.reason:
        return state.reason
    return Reason.CANARY_PROGRESSING if state.phase in _ACTIVE else Reason.PROMOTED


def _canary_healthy(state: RolloutState) -> Claim:
    evidence = state.evidence
    verdict = evidence.verdict if evidence is not None else Verdict.INCONCLUSIVE
    status = {Verdict.SUCCESSFUL: True, Verdict.FAILED: False}.get(verdict)
    if state.phase is Phase.ROLLING_BACK:
        status, verdict = False, Verdict.FAILED
    reason = {
        Verdict.SUCCESSFUL: "AnalysisSuccessful",
        Verdict.FAILED: Reason.ANALYSIS_FAILED,
        Verdict.INCONCLUSIVE: Reason.ANALYSIS_INCONCLUSIVE,
        Verdict.ERROR: "AnalysisError",
    }[verdict]
    return Claim(ConditionType.CANARY_HEALTHY, status, reason, _progress(state))


def _revision(situation: Situation, revision: str | None, weight: int, **more: Any) -> RevisionStatus | None:
    if revision is None:
        return None
    snapshot = situation.snapshots.get(revision)
    return RevisionStatus(
        revision=revision,
        version=snapshot.model.version if snapshot else "",
        digest=situation.digests.get(revision) or (snapshot.model.digest if snapshot else ""),
        weight=weight,
        ready_replicas=situation.observation.health(revision).ready,
        **more,
    )


def _canary(situation: Situation) -> RevisionStatus | None:
    state = situation.state
    started = timestamp(state.step_started_at) if state.step_started_at is not None else None
    return _revision(
        situation,
        state.canary,
        state.weight if state.stable is not None else 0,
        step=state.step,
        step_started_at=started,
        analysis=_analysis(state),
    )


def _analysis(state: RolloutState) -> AnalysisStatus | None:
    evidence = state.evidence
    if evidence is None:
        return None
    return AnalysisStatus(
        verdict=evidence.verdict,
        requests=RequestCounts(canary=evidence.requests_canary, stable=evidence.requests_stable),
        looks=evidence.looks,
        checks=[
            CheckStatus(name=item.name, verdict=item.verdict, evidence=item.evidence, message=item.message)
            for item in evidence.reports
        ],
    )


def _previous(state: RolloutState) -> PreviousStatus | None:
    if state.previous is None:
        return None
    until = timestamp(state.retained_until) if state.retained_until is not None else ""
    return PreviousStatus(revision=state.previous, retained_until=until)


def _drift(situation: Situation) -> DriftStatus | None:
    result = situation.drift
    if result is None:
        return None
    return DriftStatus(
        verdict=result.verdict,
        severity=result.severity,
        window=f"{timestamp(result.window_start)}/{timestamp(result.window_end)}",
        rows=result.rows,
        features=[
            FeatureDriftStatus(name=item.name, effect_percent=f"{100 * item.effect:.1f}", severity=item.severity)
            for item in result.features[:SHOWN_FEATURES]
        ],
    )


def _last_command(state: RolloutState) -> LastCommand | None:
    record = state.last_command
    return LastCommand(command=record.text, at=timestamp(record.at), message=record.message) if record else None
