"""Trying a policy on the past: logged rows of two versions through the very code that would have decided.

Rows are counted by the counters a pod would use, cut into looks by time, and fed to `step` as the telemetry of one
pod per arm. What comes out is what the operator would have done with these requests.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase
from mlserve_core.statistics import ProfileCounter, ProfileError, ReferenceProfile
from mlserve_core.statistics.drift import ACCURACY, CONFIDENCE, PREDICTION, DriftVerdict
from mlserve_core.statistics.performance import Labels
from mlserve_core.statistics.windows import check_once
from mlserve_core.wire import LATENCY_EDGES_MICROS, FeedbackCounts, LaneCounts, TelemetrySnapshot, latency_bucket
from mlserve_operator.rollout import drift
from mlserve_operator.rollout.logged import judged, read_arm, with_predictions
from mlserve_operator.rollout.state import Observation, PodObservation, RevisionHealth, RolloutState
from mlserve_operator.rollout.step import step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mlserve_core.statistics.drift import DriftResult
    from mlserve_operator.rollout.logged import Arm, Columns

STABLE, CANARY = "stable", "canary"
ROWS_PER_LOOK: Final = 50
"""Canary rows of one look where no timestamps say how long a look is."""
MAX_LOOKS: Final = 200
"""A long log is cut into wider looks, so that trying a policy takes seconds."""
FULLEST_LOOK: Final = 0.5
"""Share of the rows in one look from which the clock is not believed."""
SETTLED: Final = frozenset({Phase.BAKING, Phase.ROLLED_BACK, Phase.ROLLING_BACK, Phase.PAUSED})


def replay(
    profile: ReferenceProfile, stable: Columns, canary: Columns, spec: ModelDeploymentSpec | None = None
) -> dict[str, Any]:
    """What the operator would have decided on these requests.

    Args:
        profile: the reference of stable; its features are read from the columns of the same names.
        stable: columns of stable's rows: features, `prediction`, and optionally `score`, `label`, `latency_ms`,
            `status`, `timestamp` (ISO 8601, UTC where it names no zone, or seconds).
        canary: the same of the new version.
        spec: the policy; its steps are replaced by one at the share that the rows have. Default: the defaults.

    Returns:
        `{"decision", "reason", "looks": [...], "drift": {"verdict", "features"}, "requests": {...}}`.

    Raises:
        ProfileError: when the rows or the policy do not fit the profile; says where.
    """
    columns = {STABLE: judged(stable), CANARY: judged(canary)}
    profile = with_predictions(profile, columns)
    arms = {name: read_arm(profile, name, given) for name, given in columns.items()}
    policy = _policy(spec, arms)
    _refuse_unknown(policy, profile)
    by_time = _by_time(arms, float(policy.rollout.analysis.interval_seconds))
    apart = _apart(arms, by_time)
    slices = [] if apart else by_time or _in_order(arms)
    policy = _hold(policy, len(slices))
    results = {name: _drift(profile, arm, policy) for name, arm in arms.items()}
    watched = results if policy.drift.enabled else {}
    state, looks = _run(profile, arms, policy, watched, slices)
    decision, reason = _decision(state, results)
    if apart:
        reason = f"AnalysisInconclusive: {apart}"
    elif decision == "Promote" and any(not {"prediction", "status"} & given.keys() for given in columns.values()):
        decision, reason = "Hold", "AnalysisInconclusive: nothing tells of the answers; log `prediction` or `status`"
    return {
        "decision": decision,
        "reason": reason,
        "looks": looks,
        "drift": _drift_json(results[STABLE], results[CANARY]),
        "requests": {name: len(arm) for name, arm in arms.items()},
    }


def check(profile: ReferenceProfile, data: Columns, spec: ModelDeploymentSpec | None = None) -> dict[str, Any]:
    """Rows against a reference alone: the same JSON, with no looks and no canary."""
    policy = spec or ModelDeploymentSpec.model_validate({"model": {"uri": "file:///replay"}})
    _refuse_unknown(policy, profile)
    data = judged(data)
    profile = with_predictions(profile, {"the data": data})
    result = _drift(profile, read_arm(profile, "the data", data), policy)
    drifted = result.verdict is DriftVerdict.DRIFT
    return {
        "decision": "Alert" if drifted else "Hold",
        "reason": f"{result.verdict}: {result.message}",
        "looks": [],
        "drift": _drift_json(result, None),
        "requests": {CANARY: 0, STABLE: result.rows},
    }


def _refuse_unknown(policy: ModelDeploymentSpec, profile: ReferenceProfile) -> None:
    """A misspelt override must not pass for none."""
    known = [*profile.feature_names, PREDICTION, CONFIDENCE, ACCURACY]
    unknown = [item.name for item in policy.drift.features if item.name not in known]
    if unknown:
        raise ProfileError(f"spec.drift.features names {', '.join(unknown)}; the profile has {', '.join(known)}")


# --- running ------------------------------------------------------------------------------------------------------


def _policy(spec: ModelDeploymentSpec | None, arms: Mapping[str, Arm]) -> ModelDeploymentSpec:
    """The policy with one step at the share that the rows have; whoever logged them need not have kept to weights."""
    given = (spec or ModelDeploymentSpec.model_validate({"model": {"uri": "file:///replay"}})).model_dump(by_alias=True)
    share = round(100 * len(arms[CANARY]) / (len(arms[CANARY]) + len(arms[STABLE])))
    given["replicas"], given["autoscaling"] = 1, None
    given["traffic"] = {}
    given["rollout"] |= {"strategy": "Canary", "steps": [{"weight": min(max(share, 1), 99), "holdSeconds": 0}]}
    given["rollout"]["analysis"] |= {"share": {"enabled": False}, "prometheus": []}
    return ModelDeploymentSpec.model_validate(given)


def _hold(policy: ModelDeploymentSpec, looks: int) -> ModelDeploymentSpec:
    """Hold the step until the last look: all of the rows are evidence, whatever the policy's own holds are."""
    seconds = min(looks * policy.rollout.analysis.interval_seconds, 31_536_000)
    steps = [step.model_copy(update={"hold_seconds": seconds}) for step in policy.rollout.steps]
    return policy.model_copy(update={"rollout": policy.rollout.model_copy(update={"steps": steps})})


def _drift(profile: ReferenceProfile, arm: Arm, policy: ModelDeploymentSpec) -> DriftResult:
    counter = ProfileCounter(profile)
    _count(counter, arm, np.arange(len(arm)))
    told = [(label, name) for label, name in zip(arm.labels, arm.names, strict=True) if label and name]
    labels = Labels(right=sum(label == name for label, name in told), total=len(told))
    return check_once(profile, counter.counts(), drift.settings(policy.drift), labels)


def _count(counter: ProfileCounter, arm: Arm, rows: NDArray[np.intp]) -> None:
    answered = rows[arm.status[rows] < 400]
    if answered.size == 0:
        return
    counter.update(
        arm.features[answered],
        predictions=arm.predictions[answered] if arm.predictions is not None else None,
        confidence=arm.scores[answered] if arm.scores is not None and counter.profile.predictions.classes else None,
    )


class _Pod:
    """Cumulative telemetry of one arm, as its pod would have told it."""

    def __init__(self, profile: ReferenceProfile, arm: Arm) -> None:
        self.arm, self.counter = arm, ProfileCounter(profile)
        self.rows = np.zeros(0, dtype=np.intp)
        self.requests = self.client_errors = self.server_errors = self.bad = 0
        self.latency = [0] * (len(LATENCY_EDGES_MICROS) + 1)
        self.confusion: dict[str, dict[str, int]] = {}

    def serve(self, rows: NDArray[np.intp]) -> None:
        arm, status = self.arm, self.arm.status[rows]
        _count(self.counter, arm, rows)
        self.requests += len(rows)
        self.client_errors += int(((status >= 400) & (status < 500)).sum())
        self.server_errors += int((status >= 500).sum())
        self.bad += int(arm.bad[rows].sum())
        for row in rows.tolist():
            label, name = arm.labels[row], arm.names[row]
            if label is not None and name is not None:
                counts = self.confusion.setdefault(label, {})
                counts[name] = counts.get(name, 0) + 1
            if arm.latency is not None and math.isfinite(arm.latency[row]):
                self.latency[latency_bucket(arm.latency[row] * 1000)] += 1

    def observe(self) -> PodObservation:
        counts = self.counter.counts()
        lane = LaneCounts(
            requests=self.requests, rows=self.counter.rows, client_errors=self.client_errors,
            server_errors=self.server_errors, bad_outputs=self.bad, latency=self.latency, own=counts, comparison=counts,
            feedback=FeedbackCounts(confusion=self.confusion),
        )  # fmt: skip
        name = self.arm.name
        told = TelemetrySnapshot(name="replay", revision=name, pod_uid=name, boot_id="replay", ready=True, live=lane)
        return PodObservation(name=name, uid=name, revision=name, telemetry=told)


def _run(
    profile: ReferenceProfile,
    arms: Mapping[str, Arm],
    policy: ModelDeploymentSpec,
    results: Mapping[str, DriftResult],
    slices: list[dict[str, NDArray[np.intp]]],
) -> tuple[RolloutState, list[dict[str, Any]]]:
    pods = {name: _Pod(profile, arm) for name, arm in arms.items()}
    interval = float(policy.rollout.analysis.interval_seconds)
    if arms[STABLE].latency is None or arms[CANARY].latency is None:
        analysis = policy.rollout.analysis
        silent = analysis.latency.model_copy(update={"enabled": False})
        rollout = policy.rollout.model_copy(update={"analysis": analysis.model_copy(update={"latency": silent})})
        policy = policy.model_copy(update={"rollout": rollout})
    state, watched, now, looks = RolloutState(), drift.known(results), 0.0, list[dict[str, Any]]()

    def tick(target: str) -> None:
        nonlocal state, watched
        live = {name: RevisionHealth(desired=1, ready=1) for name in arms}
        seen = Observation(
            now=now, generation=1, spec=policy, target=target, revisions=live, route=state.route,
            pods=tuple(pod.observe() for pod in pods.values()), drift=dict(results),
        )  # fmt: skip
        watched = drift.watch(watched, seen, dict.fromkeys(arms, profile))[0]
        state = step(state, seen.model_copy(update={"inputs_moved_at": watched.moved_at})).state

    for target in (STABLE, STABLE, CANARY, CANARY, CANARY, CANARY):
        tick(target)
    for rows in slices:
        now += interval
        for name, pod in pods.items():
            pod.serve(rows[name])
        tick(CANARY)
        looks.append(_look_json(state, {name: len(rows[name]) for name in arms}))
        if state.phase in SETTLED or state.promoting:
            break
    return state, looks


def _by_time(arms: Mapping[str, Arm], interval: float) -> list[dict[str, NDArray[np.intp]]] | None:
    """Rows of each look, where all rows have a time and last for some looks.

    A clock that jumped (one row of 1970 is enough) would leave nearly all rows in one look; then time tells nothing.
    """
    times = {name: arm.times for name, arm in arms.items() if arm.times is not None}
    if len(times) < len(arms):
        return None
    begin, end = min(t.min() for t in times.values()), max(t.max() for t in times.values())
    if end - begin < 5 * interval:
        return None
    n = min(math.ceil((end - begin) / interval), MAX_LOOKS)
    places = {name: np.minimum(((t - begin) * n / (end - begin)).astype(int), n - 1) for name, t in times.items()}
    rows = np.bincount(np.concatenate(list(places.values())), minlength=n)
    if rows.max() > FULLEST_LOOK * rows.sum():
        return None
    return [{name: np.flatnonzero(place == i) for name, place in places.items()} for i in range(n)]


def _in_order(arms: Mapping[str, Arm]) -> list[dict[str, NDArray[np.intp]]]:
    """Rows of each look in equal parts."""
    n = min(max(len(arms[CANARY]) // ROWS_PER_LOOK, 1), MAX_LOOKS)
    parts = {name: np.array_split(np.arange(len(arm)), n) for name, arm in arms.items()}
    return [{name: parts[name][i] for name in arms} for i in range(n)]


def _apart(arms: Mapping[str, Arm], by_time: list[dict[str, NDArray[np.intp]]] | None) -> str:
    """Why there is nothing to compare, or nothing: versions that ran one after the other met different worlds."""
    stable, canary = arms[STABLE].span, arms[CANARY].span
    if stable is None or canary is None:
        return ""
    if by_time is not None:
        together = any(all(rows.size for rows in look.values()) for look in by_time)
    else:
        together = stable[0] <= canary[1] and canary[0] <= stable[1]
    if together:
        return ""
    words = ", ".join(
        f"{name} {' to '.join(datetime.fromtimestamp(at, UTC).isoformat(timespec='seconds') for at in span)}"
        for name, span in ((STABLE, stable), (CANARY, canary))
    )
    return f"the versions did not run at the same time ({words}); log both at once, or leave out the timestamps"


# --- the answer ---------------------------------------------------------------------------------------------------


def _decision(state: RolloutState, results: Mapping[str, DriftResult]) -> tuple[str, str]:
    evidence = state.evidence
    if state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return "Rollback", f"{state.reason}: {state.message}"
    if state.phase is Phase.PAUSED:
        return "Pause", f"{state.reason}: {state.message}"
    if state.promoting or state.phase is Phase.BAKING:
        return "Promote", f"Promoted: {evidence.message if evidence else state.message}"
    held = evidence.hold if evidence is not None else ""
    if held and results[STABLE].verdict is DriftVerdict.DRIFT:
        return "Alert", f"{held}: {results[STABLE].message}"
    words = held or (evidence.message if evidence is not None else "") or state.message
    return "Hold", f"AnalysisInconclusive: {words}"


def _look_json(state: RolloutState, requests: dict[str, int]) -> dict[str, Any]:
    evidence = state.evidence
    return {
        "requests": requests,
        "verdict": evidence.verdict.value if evidence is not None else "Inconclusive",
        "phase": state.phase.value,
        "checks": [report.model_dump(mode="json", by_alias=True) for report in evidence.reports]
        if evidence is not None
        else [],
    }


def _drift_json(stable: DriftResult, canary: DriftResult | None) -> dict[str, Any]:
    found = stable.model_dump(mode="json", by_alias=True)
    return found | ({"canary": canary.model_dump(mode="json", by_alias=True)} if canary is not None else {})
