"""Drift of each live revision against the reference profile it came with: from pods' counters to a verdict.

Kept apart from the rollout's state because it runs for ever: a settled resource must not write a checkpoint every
minute. Losing this state costs one window, and counts nothing twice, since counting begins anew from what the pods
report then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pydantic import Field

from mlserve_core.api.v1alpha1 import Drift, DriftPolicy
from mlserve_core.statistics import panes
from mlserve_core.statistics.drift import CONFIDENCE, PREDICTION, DriftResult, DriftSettings, DriftVerdict, compare
from mlserve_core.statistics.performance import Labels
from mlserve_core.statistics.windows import Window, advance
from mlserve_core.wire import ProfileCounts
from mlserve_operator.rollout.state import Event, Frozen, Observation, PodObservation
from mlserve_operator.rollout.transition import normal, warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlserve_core.statistics.profile import ReferenceProfile
    from mlserve_core.wire import LaneCounts
    from mlserve_operator.rollout.analysis import Look
    from mlserve_operator.rollout.state import RolloutState

WORLD_MOVED: Final = "the inputs of both arms are far from their references"
NEWEST_ROWS: Final = 50
"""Rows that are compared with the reference ahead of a window."""


class RevisionDrift(Frozen):
    """What is remembered of one revision."""

    window: Window = Field(default_factory=Window)
    seen: dict[str, ProfileCounts] = Field(default_factory=dict)
    """Last-seen counts per `pod uid/boot id`."""
    labels: dict[str, Labels] = Field(default_factory=dict)
    """Last-seen cumulative labels per process that was told any, of whatever revision."""
    unread: tuple[str, ...] = ()
    """Pods of any revision whose labels were not read when counting began."""
    unasked: tuple[str, ...] = ()
    """Pods that could not be asked when counting began: their first answer is a beginning."""
    result: DriftResult | None = None
    """Of the newest closed window."""
    drifting: bool = False
    """Of the newest window that could tell."""
    usual: dict[str, float] = Field(default_factory=dict)
    """Effects in that window of what found no drift: how far this traffic is from the reference anyway."""
    recent: ProfileCounts | None = None
    """Counted since the newest rows were last compared with the reference."""
    moved: bool = False
    """Whether the newest rows are far from the reference; known long before a window can say so."""
    moved_at: float | None = None
    """When they last were."""


class DriftState(Frozen):
    """What is remembered of all live revisions."""

    revisions: dict[str, RevisionDrift] = Field(default_factory=dict)

    @property
    def results(self) -> dict[str, DriftResult]:
        """Newest result per revision: `Observation.drift`."""
        return {name: item.result for name, item in self.revisions.items() if item.result is not None}

    @property
    def moved_at(self) -> dict[str, float]:
        """`Observation.inputs_moved_at`."""
        return {name: item.moved_at for name, item in self.revisions.items() if item.moved_at is not None}


def settings(drift: Drift) -> DriftSettings:
    """The spec's settings in the words of the statistics."""
    return DriftSettings(
        effect=drift.effect_percent / 100,
        false_alarm_every=drift.false_alarm_every_windows,
        min_rows=drift.min_rows,
        classic=drift.policy is DriftPolicy.CLASSIC,
        effects={f.name: f.effect_percent / 100 for f in drift.features if f.effect_percent is not None},
        disabled=frozenset(f.name for f in drift.features if not f.enabled),
    )


def watch(
    state: DriftState, observation: Observation, profiles: Mapping[str, ReferenceProfile]
) -> tuple[DriftState, tuple[Event, ...], dict[str, DriftResult]]:
    """Count what the pods saw since the last call, and close windows whose time has come.

    Args:
        state: remembered from the last call.
        observation: `now`, `spec` and `pods` are used.
        profiles: reference profile per revision; a revision without one is not watched.

    Returns:
        The new state; Events, on transitions only; results of windows closed by this call, per revision.
    """
    if not observation.spec.drift.enabled:
        return DriftState(), (), {}
    wanted, events, closed = settings(observation.spec.drift), list[Event](), dict[str, DriftResult]()
    revisions = {}
    for name in observation.revisions:
        profile = profiles.get(name)
        if profile is None:
            continue
        before = state.revisions.get(name)
        digest = profile.digest()
        pods = [pod for pod in observation.pods if pod.revision == name]
        if before is None:
            revisions[name] = _begin(name, observation, pods, digest)
            continue
        after, pane = _pane(before, pods, digest)
        after, labels = _arrived(after, name, observation.pods)
        window, result = advance(
            before.window, profile, wanted, now=observation.now, seconds=observation.spec.drift.window_seconds,
            pane=pane, right=labels.right, labelled=labels.total,
        )  # fmt: skip
        after = after.model_copy(update={"window": window})
        if len(observation.revisions) > 1:
            after = _compare_newest(after, pane, profile, wanted, observation.now)
        if result is not None:
            events += _transition(name, result, drifting=before.drifting)
            closed[name] = result
            after = _remember(after, result)
        revisions[name] = after
    return DriftState(revisions=revisions), tuple(events), closed


def _remember(before: RevisionDrift, result: DriftResult) -> RevisionDrift:
    """With a closed window; one that could not tell changes nothing of what earlier ones told."""
    if result.verdict is DriftVerdict.INSUFFICIENT_DATA:
        return before.model_copy(update={"result": result})
    drifting = result.verdict is DriftVerdict.DRIFT
    # A first finding is no drift yet, for want of another, and not usual either.
    usual = {} if drifting else {item.name: item.effect for item in result.features if item.effect < item.threshold}
    return before.model_copy(update={"result": result, "drifting": drifting, "usual": usual})


def known(results: Mapping[str, DriftResult]) -> DriftState:
    """A state that begins with windows of earlier traffic."""
    return DriftState(revisions={name: _remember(RevisionDrift(), result) for name, result in results.items()})


def world_moved(state: RolloutState, observation: Observation, since: float) -> bool:
    """Whether the inputs of both arms were far from their references after `since`.

    Where the world turns, two good models may well disagree, and no difference of their predictions speaks against the
    canary. A window takes minutes to say so, and a comparison of predictions only seconds to fail.
    """
    moved = [observation.inputs_moved_at.get(name or "") for name in (state.stable, state.canary)]
    return all(at is not None and at > since for at in moved)


def without_predictions(look: Look) -> Look:
    """The look without what the arms predicted in it."""
    for arm in (look.canary, look.stable):
        arm.counters = arm.counters.model_copy(update={"predictions": (), "confidence": ()})
    return look


def _compare_newest(
    before: RevisionDrift, pane: ProfileCounts | None, profile: ReferenceProfile, wanted: DriftSettings, now: float
) -> RevisionDrift:
    """Whether the newest rows are far: significantly, and by half of the effect that counts beyond what is usual.

    Without the last a standing difference, too small for drift, would hold every rollout of a busy model for ever.
    """
    recent, moved = panes.add(before.recent, pane), before.moved
    if recent is not None and recent.rows >= NEWEST_ROWS:
        half = {name: effect / 2 for name, effect in wanted.effects.items()}
        found = compare(profile, recent, replace(wanted, effect=wanted.effect / 2, effects=half, classic=False))
        far = (
            item for item in found if item.drifted and item.effect >= before.usual.get(item.name, 0) + item.threshold
        )
        recent, moved = None, any(item.name not in {PREDICTION, CONFIDENCE} for item in far)
    moved_at = now if moved else before.moved_at
    return before.model_copy(update={"recent": recent, "moved": moved, "moved_at": moved_at})


def _begin(name: str, observation: Observation, pods: list[PodObservation], digest: str) -> RevisionDrift:
    """Readings from which counting begins."""
    asked = {_key(pod): lane for pod in pods if (lane := _lane(pod, digest)) is not None}
    return RevisionDrift(
        window=Window(start=observation.now),
        seen={key: lane.own for key, lane in asked.items() if lane.own is not None},
        labels=_labels(name, observation.pods),
        unread=tuple(pod.uid for pod in observation.pods if pod.telemetry is None),
        unasked=tuple(pod.uid for pod in pods if _lane(pod, digest) is None),
    )


def _pane(before: RevisionDrift, pods: list[PodObservation], digest: str) -> tuple[RevisionDrift, ProfileCounts | None]:
    """What was counted since the last call, merged over pods."""
    seen, unasked = dict(before.seen), set(before.unasked)
    pane = None
    for pod in pods:
        lane = _lane(pod, digest)
        if lane is None or lane.own is None:
            continue
        key = _key(pod)
        if key not in seen and pod.uid in unasked:
            unasked.discard(pod.uid)
        else:
            difference = panes.subtract(lane.own, seen.get(key))
            if difference is None:
                continue  # counters that went back without a restart are not used
            pane = panes.add(pane, difference)
        seen[key] = lane.own
    live = {pod.uid for pod in pods}
    kept = {key: counts for key, counts in seen.items() if key.partition("/")[0] in live}
    return before.model_copy(update={"seen": kept, "unasked": tuple(sorted(unasked))}), pane


def _arrived(before: RevisionDrift, name: str, pods: Sequence[PodObservation]) -> tuple[RevisionDrift, Labels]:
    """Labels of a revision's predictions that came since the last call, to whichever revision's pods they came."""
    told, unread = _labels(name, pods), set(before.unread)
    right = total = 0
    for key, new in told.items():
        uid, old = key.partition("/")[0], before.labels.get(key)
        if old is None and uid in unread:
            continue
        old = old or Labels()
        right, total = right + max(new.right - old.right, 0), total + max(new.total - old.total, 0)
    unread &= {pod.uid for pod in pods if pod.telemetry is None}
    live = {pod.uid for pod in pods}
    kept = {key: labels for key, labels in before.labels.items() if key.partition("/")[0] in live}
    after = before.model_copy(update={"labels": kept | told, "unread": tuple(sorted(unread))})
    return after, Labels(right, total)


def _labels(name: str, pods: Sequence[PodObservation]) -> dict[str, Labels]:
    """Cumulative labels of a revision's predictions per process that was told any."""
    found = {}
    for pod in pods:
        told = pod.telemetry
        if told is None or told.revision != pod.revision:
            continue
        feedback = told.live.feedback if pod.revision == name else told.other_feedback.get(name)
        if feedback is not None:
            found[_key(pod)] = Labels(feedback.right, feedback.labelled)
    return found


def _lane(pod: PodObservation, digest: str) -> LaneCounts | None:
    """The live lane of a pod that can be asked, counts on this profile and speaks for itself."""
    told = pod.telemetry
    if told is None or told.revision != pod.revision or told.live.own is None:
        return None
    return told.live if told.live.own.profile_digest == digest else None


def _key(pod: PodObservation) -> str:
    return f"{pod.uid}/{pod.telemetry.boot_id if pod.telemetry else ''}"


def _transition(name: str, after: DriftResult, *, drifting: bool) -> list[Event]:
    """An Event when drift begins or ends, and none in between: a window that cannot tell is neither."""
    if after.verdict is DriftVerdict.DRIFT and not drifting:
        return [warning("DriftDetected", f"{name}: {after.message}, severity {after.severity}")]
    if after.verdict is DriftVerdict.NO_DRIFT and drifting:
        return [normal("DriftEnded", f"{name}: {after.message}")]
    return []
