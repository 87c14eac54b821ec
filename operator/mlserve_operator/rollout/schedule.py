"""From verdicts to weights: one function per phase.

The order of every change is fixed. Up: pods available, in the route at 0, confirmed, weight, hold. Down: weight to
stable, confirmed, drained, scaled down. A promotion moves a pointer and weights and restarts no pod. Nothing here
measures or judges; a phase function takes what is known and returns the next state and the Events to send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import Phase, Reason
from mlserve_operator.rollout import climb, plan
from mlserve_operator.rollout.transition import (
    Transition,
    begin,
    change,
    goal,
    normal,
    reject,
    remember_rejected,
    settle,
    warning,
    withdraw,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlserve_operator.rollout.judge import Judgement
    from mlserve_operator.rollout.state import Observation, RolloutState

UNREADY_GRACE_SECONDS: Final = 30.0
"""How long a promoted revision may be without a ready pod before the warm previous one takes over."""


def pending(state: RolloutState, observation: Observation, _: Judgement | None) -> Transition:
    """Wait for the first revision; there is nothing to go back to, so a failure waits for a better spec."""
    target, now = observation.target, observation.now
    if state.canary != target:
        message = f"{target} is starting"
        state = change(
            state, canary=target, canary_since=now, stalled=False, reason=Reason.CANARY_PROGRESSING, message=message
        )
        return state, (normal(Reason.CANARY_PROGRESSING, message),)
    if plan.is_available(observation, target, plan.base_size(observation.spec)):
        state = change(
            state, phase=Phase.HEALTHY, stable=target, canary=None, canary_since=None,
            stalled=False, reason="", message="",
        )  # fmt: skip
        return state, (normal(Reason.PROMOTED, f"{target} serves"),)
    failed = climb.failure(state, observation)
    if failed is None:
        return state, ()
    reason, message = failed
    if state.stalled and (state.reason, state.message) == (reason, message):
        return state, ()
    return change(state, stalled=True, reason=reason, message=message), (warning(reason, message),)


def resting(state: RolloutState, observation: Observation, _: Judgement | None) -> Transition:
    """Healthy or RolledBack: nothing to do until the wanted revision is another one."""
    return settle(state, observation)


def progressing(state: RolloutState, observation: Observation, judgement: Judgement | None) -> Transition:
    """Progressing or Paused: climb, unless the canary is unwanted, failing, worse, or held."""
    if state.canary != goal(state, observation):
        return withdraw(state, observation, f"{state.canary} is no longer wanted")
    state = climb.watch_availability(state, observation)
    failed = climb.failure(state, observation)
    if failed is not None:
        return reject(state, observation, *failed)
    if state.weight > 0 and observation.health(state.canary).ready == 0:
        return climb.lost_pods(state, observation)
    state, events = climb.follow_pauses(state, observation)
    if judgement is not None and not state.immediate:
        state, more = climb.react(state, observation, judgement)
        events += more
    if state.phase is Phase.ROLLING_BACK or state.pauses:
        return state, events
    # Never move on before the pods are there and every router runs what was decided last.
    if not plan.is_available(observation, state.canary, plan.split(state, observation).canary):
        return state, events
    if observation.route != state.route:
        return state, events
    state, more = climb.climb(state, observation)
    return state, events + more


def baking(state: RolloutState, observation: Observation, judgement: Judgement | None) -> Transition:
    """The new revision has all of the traffic; the old one stays warm until it has proved itself."""
    if goal(state, observation) != state.stable:
        return settle(state, observation)
    health, now = observation.health(state.stable), observation.now
    if judgement is not None and judgement.action is not None:
        back = go_back(state, observation, judgement.reason, judgement.message)
        if back is not None:
            return back
    if health.ready == 0 and plan.base_size(observation.spec) > 0:
        return _unready_after_promotion(state, observation)
    if state.canary_since is not None:
        state = change(state, canary_since=None)
    if state.retained_until is None or now >= state.retained_until:
        return settle(state, observation)
    return state, ()


def rolling_back(state: RolloutState, observation: Observation, _: Judgement | None) -> Transition:
    """Down: weight to stable, confirmed, drained, scaled down. Never onto a stable that cannot serve."""
    if state.weight > 0:
        if observation.health(state.stable).ready == 0 and observation.health(state.canary).ready > 0:
            message = f"{state.canary} should be rolled back, but {state.stable} has no ready pod; what serves is kept"
            if state.stalled and state.message == message:
                return state, ()
            reason = state.reason or Reason.ROLLED_BACK
            return change(state, stalled=True, message=message), (warning(reason, message),)
        return change(state, weight=0, mirror_percent=0, step=None, step_started_at=None, stalled=False), ()
    if state.mirror_percent:
        state = change(state, mirror_percent=0)
    if observation.route != state.route:
        return state, ()
    if state.drained_since is None:
        state = change(state, drained_since=observation.now)
    if not _drained(state, observation):
        return state, ()
    return settle(state, observation)


PHASES: Final[dict[Phase, Callable[[RolloutState, Observation, Judgement | None], Transition]]] = {
    Phase.PENDING: pending,
    Phase.HEALTHY: resting,
    Phase.PROGRESSING: progressing,
    Phase.PAUSED: progressing,
    Phase.BAKING: baking,
    Phase.ROLLING_BACK: rolling_back,
    Phase.ROLLED_BACK: resting,
}


def go_back(state: RolloutState, observation: Observation, reason: Reason, message: str) -> Transition | None:
    """Back from a promoted revision to the previous one; None if that cannot serve, or was itself found bad."""
    previous = state.previous
    rejection = state.rejection(previous) if previous is not None else None
    if previous is None or (rejection is not None and rejection.reason != Reason.MANUAL_ABORT):
        return None
    if plan.is_warm(state, observation):
        return _back_at_once(state, observation, reason, message)
    if plan.is_short_of_gpus(state, observation):
        return _back_pod_by_pod(state, observation, reason, message)
    return None


def _back_at_once(state: RolloutState, observation: Observation, reason: Reason, message: str) -> Transition:
    """Swap roles, so that the promoted revision is the canary on its way out."""
    state = change(
        state,
        stable=state.previous,
        canary=state.stable,
        previous=None,
        retained_until=None,
        weight=100,
        canary_since=None,
    )
    return reject(state, observation, reason, message)


def _back_pod_by_pod(state: RolloutState, observation: Observation, reason: Reason, message: str) -> Transition:
    """A previous revision without its GPUs gets them back as it went: by an immediate trial, the other way round."""
    state = remember_rejected(state, state.stable or "", reason, message, observation.now)
    told = warning(reason, f"{state.stable} is rolled back, as {state.previous} gets its GPUs back: {message}")
    state = change(state, pinned=state.previous, pinned_against=observation.target)
    state, events = begin(state, observation)
    return change(state, immediate=True), (told, *events)


def _unready_after_promotion(state: RolloutState, observation: Observation) -> Transition:
    """Back to the warm previous revision when the promoted one cannot serve; once, and only onto a ready one."""
    now = observation.now
    failed = observation.health(state.stable).failure
    if state.canary_since is None:
        state = change(state, canary_since=now)
    waited = now - (state.canary_since or now)
    if (failed is None or not failed.terminal) and waited < UNREADY_GRACE_SECONDS:
        return state, ()
    reason = failed.reason if failed else Reason.ANALYSIS_FAILED
    message = failed.message if failed else f"no pod of {state.stable} was ready for {round(waited)} s"
    return go_back(state, observation, reason, message) or (state, ())


def _drained(state: RolloutState, observation: Observation) -> bool:
    """No request in flight at the canary, or none can be by now. A pod neither ready nor answering serves nobody."""
    since = observation.now if state.drained_since is None else state.drained_since
    if observation.now - since >= observation.spec.traffic.timeout_seconds:
        return True
    pods = [pod for pod in observation.pods if pod.revision == state.canary]
    return all(pod.telemetry.in_flight == 0 if pod.telemetry is not None else not pod.ready for pod in pods)
