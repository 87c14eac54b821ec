"""From verdicts to weights: one function per phase.

The order of every change is fixed. Up: pods available, in the route at 0, confirmed, weight, hold. Down: weight to
stable, confirmed, drained, scaled down. A promotion moves a pointer and weights and restarts no pod. Nothing here
measures or judges; a phase function takes what is known and returns the next state and the Events to send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import Phase, Reason
from mlserve_operator.rollout import plan
from mlserve_operator.rollout.state import MAX_REJECTED, Event, Observation, Rejection, RolloutState

if TYPE_CHECKING:
    from collections.abc import Callable

Transition = tuple[RolloutState, tuple[Event, ...]]

UNREADY_GRACE_SECONDS: Final = 30.0
"""How long a promoted revision may be without a ready pod before the warm previous one takes over."""


def normal(reason: str, message: str) -> Event:
    """An Event that tells of progress."""
    return Event(type="Normal", reason=reason, message=message)


def warning(reason: str, message: str) -> Event:
    """An Event somebody should read."""
    return Event(type="Warning", reason=reason, message=message)


def change(state: RolloutState, **values: object) -> RolloutState:
    """A state with some fields replaced."""
    return state.model_copy(update=values)


def goal(state: RolloutState, observation: Observation) -> str:
    """The revision to run: the spec's, unless `undo` chose another since."""
    if state.pinned is not None and state.pinned_against == observation.target:
        return state.pinned
    return observation.target


def begin(state: RolloutState, observation: Observation) -> Transition:
    """Put the wanted revision on trial beside stable."""
    wanted = goal(state, observation)
    state = change(
        state,
        phase=Phase.PROGRESSING,
        canary=wanted,
        previous=None,
        retained_until=None,
        canary_since=observation.now,
        weight=0,
        mirror_percent=0,
        step=None,
        step_started_at=None,
        drained_since=None,
        promoting=False,
        immediate=wanted != observation.target,
        evidence=None,
        stalled=False,
        reason=Reason.CANARY_PROGRESSING,
        message=f"{wanted} is starting beside {state.stable}",
    )
    return state, (normal(Reason.CANARY_PROGRESSING, state.message),)


def settle(state: RolloutState, observation: Observation) -> Transition:
    """Choose what comes when no canary is live: rest, rest after a rollback, or the next trial."""
    wanted = goal(state, observation)
    state = change(
        state, canary=None, weight=0, mirror_percent=0, step=None, step_started_at=None, canary_since=None,
        drained_since=None, promoting=False, immediate=False, pauses=(),
    )  # fmt: skip
    if wanted == state.stable == observation.target:
        return change(state, phase=Phase.HEALTHY, stalled=False, reason="", message=""), ()
    rejection = state.rejection(observation.target)
    if wanted == state.stable or (rejection is not None and wanted == observation.target):
        message = rejection.message if rejection else f"{state.stable} was chosen by undo"
        reason = rejection.reason if rejection else Reason.MANUAL_ABORT
        return change(state, phase=Phase.ROLLED_BACK, stalled=True, reason=reason, message=message), ()
    return begin(state, observation)


def reject(state: RolloutState, observation: Observation, reason: Reason, message: str) -> Transition:
    """Remember the canary as bad and take it out of the traffic."""
    assert state.canary is not None  # noqa: S101 - callers have one
    entry = Rejection(revision=state.canary, reason=reason, message=message, at=observation.now)
    others = tuple(item for item in state.rejected if item.revision != state.canary)
    state = change(
        state,
        phase=Phase.ROLLING_BACK,
        rejected=(*others, entry)[-MAX_REJECTED:],
        pinned=None,
        promoting=False,
        drained_since=None,
        pauses=(),
        reason=reason,
        message=message,
    )
    events = (warning(reason, f"{entry.revision} is rolled back: {message}"),)
    state, more = rolling_back(state, observation)
    return state, events + more


def withdraw(state: RolloutState, observation: Observation, message: str) -> Transition:
    """Take the canary out of the traffic without holding anything against it."""
    state = change(
        state, phase=Phase.ROLLING_BACK, promoting=False, drained_since=None, pauses=(), reason="", message=message
    )
    events = (normal(Reason.CANARY_PROGRESSING, message),)
    state, more = rolling_back(state, observation)
    return state, events + more


# --- one function per phase ---------------------------------------------------------------------------------------


def pending(state: RolloutState, observation: Observation) -> Transition:
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
    failed = _failure(state, observation)
    if failed is None:
        return state, ()
    reason, message = failed
    if state.stalled and (state.reason, state.message) == (reason, message):
        return state, ()
    return change(state, stalled=True, reason=reason, message=message), (warning(reason, message),)


def resting(state: RolloutState, observation: Observation) -> Transition:
    """Healthy or RolledBack: nothing to do until the wanted revision is another one."""
    return settle(state, observation)


def progressing(state: RolloutState, observation: Observation) -> Transition:
    """Climb: scale, route at 0, confirm, weight, hold, next."""
    if state.canary != goal(state, observation):
        return withdraw(state, observation, f"{state.canary} is no longer wanted")
    failed = _failure(state, observation)
    if failed is not None:
        return reject(state, observation, *failed)
    if state.weight > 0 and observation.health(state.canary).ready == 0:
        return _lost_pods(state, observation)
    size = plan.canary_size(state, observation, plan.wanted_weight(state, observation.spec))
    if not plan.is_available(observation, state.canary, size):
        return state, ()
    if observation.route != state.route:
        return state, ()  # never move on before every router runs what was decided last
    if state.weight == 100:
        return _promoted(state, observation)
    if state.promoting or not plan.steps(state, observation.spec):
        return _take_all(state, observation)
    return state, ()


def baking(state: RolloutState, observation: Observation) -> Transition:
    """The new revision has all of the traffic; the old one stays warm until it has proved itself."""
    if goal(state, observation) != state.stable:
        return settle(change(state, previous=None, retained_until=None), observation)
    health, now = observation.health(state.stable), observation.now
    if health.ready == 0 and plan.base_size(observation.spec) > 0:
        return _unready_after_promotion(state, observation)
    state = change(state, canary_since=None)
    if state.retained_until is None or now >= state.retained_until:
        return settle(change(state, previous=None, retained_until=None), observation)
    return state, ()


def rolling_back(state: RolloutState, observation: Observation) -> Transition:
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


PHASES: Final[dict[Phase, Callable[[RolloutState, Observation], Transition]]] = {
    Phase.PENDING: pending,
    Phase.HEALTHY: resting,
    Phase.PROGRESSING: progressing,
    Phase.PAUSED: progressing,
    Phase.BAKING: baking,
    Phase.ROLLING_BACK: rolling_back,
    Phase.ROLLED_BACK: resting,
}


# --- parts --------------------------------------------------------------------------------------------------------


def _failure(state: RolloutState, observation: Observation) -> tuple[Reason, str] | None:
    """Why the canary will not become available: a failure that stays, or time is up."""
    failure = observation.health(state.canary).failure
    size = plan.canary_size(state, observation, plan.wanted_weight(state, observation.spec))
    if plan.is_available(observation, state.canary, size):
        return None
    if failure is not None and failure.terminal:
        return failure.reason, failure.message
    deadline = observation.spec.rollout.progress_deadline_seconds
    if state.canary_since is None or observation.now - state.canary_since < deadline:
        return None
    if failure is not None:
        return failure.reason, failure.message
    ready = observation.health(state.canary).ready
    return (
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        f"{ready} of {size} pods of {state.canary} were ready after {deadline} s",
    )


def _lost_pods(state: RolloutState, observation: Observation) -> Transition:
    """A canary without a ready pod gets no requests; it climbs again when it is back."""
    if observation.health(state.stable).ready == 0:
        return state, ()
    message = f"{state.canary} lost its pods; all requests go to {state.stable}"
    state = change(
        state, weight=0, step=None, step_started_at=None, promoting=False, canary_since=observation.now, message=message
    )
    return state, (warning(Reason.CANARY_PROGRESSING, message),)


def _take_all(state: RolloutState, observation: Observation) -> Transition:
    """Give the canary everything, once it has stable's size."""
    if not state.promoting:
        state = change(state, promoting=True, canary_since=observation.now)
    if not plan.is_available(observation, state.canary, plan.full_size(state, observation)):
        return state, ()
    message = f"{state.canary} takes all requests"
    return change(state, weight=100, message=message), ()


def _promoted(state: RolloutState, observation: Observation) -> Transition:
    """Move the pointer: stable becomes previous and stays warm."""
    bake = observation.spec.rollout.bake_seconds
    new, old = state.canary, state.stable
    message = f"{new} replaces {old}, which stays warm for {bake} s"
    state = change(
        state, phase=Phase.BAKING, stable=new, previous=old, canary=None, canary_since=None, weight=0,
        mirror_percent=0, step=None, step_started_at=None, promoting=False, immediate=False, pauses=(),
        retained_until=observation.now + bake, stalled=False, reason=Reason.PROMOTED, message=message,
    )  # fmt: skip
    return state, (normal(Reason.PROMOTED, message),)


def _unready_after_promotion(state: RolloutState, observation: Observation) -> Transition:
    """Back to the warm previous revision when the promoted one cannot serve; once, and only onto a ready one."""
    now = observation.now
    failure = observation.health(state.stable).failure
    if state.canary_since is None:
        state = change(state, canary_since=now)
    waited = now - (state.canary_since or now)
    if (failure is None or not failure.terminal) and waited < UNREADY_GRACE_SECONDS:
        return state, ()
    if state.previous is None or observation.health(state.previous).ready == 0:
        return state, ()
    reason = failure.reason if failure else Reason.ANALYSIS_FAILED
    message = failure.message if failure else f"no pod of {state.stable} was ready for {round(waited)} s"
    return back_to_previous(state, observation, reason, message)


def back_to_previous(state: RolloutState, observation: Observation, reason: Reason, message: str) -> Transition:
    """Swap roles so that the promoted revision is the canary on its way out."""
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


def _drained(state: RolloutState, observation: Observation) -> bool:
    """No request in flight at the canary, or none can be by now."""
    assert state.drained_since is not None  # noqa: S101 - set by the caller
    if observation.now - state.drained_since >= observation.spec.traffic.timeout_seconds:
        return True
    pods = [pod for pod in observation.pods if pod.revision == state.canary]
    return all(pod.telemetry is not None and pod.telemetry.in_flight == 0 for pod in pods)
