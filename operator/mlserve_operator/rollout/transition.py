"""The moves of a rollout that several phases make: begin a trial, end it, reject, come to rest."""

from __future__ import annotations

from mlserve_core.api.v1alpha1 import Phase, Reason
from mlserve_operator.rollout import plan
from mlserve_operator.rollout.state import MAX_REJECTED, Event, Observation, Rejection, RolloutState

Transition = tuple[RolloutState, tuple[Event, ...]]


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


def _no_trial(state: RolloutState) -> RolloutState:
    """The state with every trace of a trial cleared, except what was found out."""
    return change(
        state,
        canary=None,
        previous=None,
        retained_until=None,
        canary_since=None,
        full_size=None,
        baseline={},
        weight=0,
        mirror_percent=0,
        step=None,
        step_started_at=None,
        drained_since=None,
        shadowed=False,
        climbing=False,
        promoting=False,
        immediate=False,
        pauses=(),
        evidence=state.evidence.closed() if state.evidence is not None else None,
    )


def begin(state: RolloutState, observation: Observation) -> Transition:
    """Put the wanted revision on trial beside stable."""
    wanted = goal(state, observation)
    message = f"{wanted} is starting beside {state.stable}"
    state = change(
        _no_trial(state),
        phase=Phase.PROGRESSING,
        canary=wanted,
        canary_since=observation.now,
        full_size=plan.full_size(state, observation),
        immediate=wanted != observation.target,
        evidence=None,
        stalled=False,
        reason=Reason.CANARY_PROGRESSING,
        message=message,
    )
    return state, (normal(Reason.CANARY_PROGRESSING, message),)


def settle(state: RolloutState, observation: Observation) -> Transition:
    """What comes when no canary is live: rest, rest after a rollback, or the next trial."""
    wanted, state = goal(state, observation), _no_trial(state)
    if wanted == state.stable == observation.target:
        others = tuple(item for item in state.rejected if item.revision != wanted)
        return change(
            state, phase=Phase.HEALTHY, stalled=False, reason="", message="", pinned=None, rejected=others
        ), ()
    rejection = state.rejection(wanted)
    if wanted != state.stable and rejection is None:
        return begin(state, observation)
    rejection = rejection or state.rejection(observation.target)
    reason = rejection.reason if rejection else Reason.MANUAL_ABORT
    message = rejection.message if rejection else f"{state.stable} was chosen by undo"
    return change(state, phase=Phase.ROLLED_BACK, stalled=True, reason=reason, message=message), ()


def remember_rejected(state: RolloutState, revision: str, reason: Reason, message: str, now: float) -> RolloutState:
    """Add a revision to those that are not tried again; the oldest are forgotten."""
    entry = Rejection(revision=revision, reason=reason, message=message, at=now)
    others = tuple(item for item in state.rejected if item.revision != revision)
    return change(state, rejected=(*others, entry)[-MAX_REJECTED:])


def reject(state: RolloutState, observation: Observation, reason: Reason, message: str) -> Transition:
    """Remember the canary as bad and take it out of the traffic."""
    canary = state.canary or ""
    state = remember_rejected(state, canary, reason, message, observation.now)
    state = change(_leaving(state), pinned=None, reason=reason, message=message)
    return _send_home(state, observation), (warning(reason, f"{canary} is rolled back: {message}"),)


def withdraw(state: RolloutState, observation: Observation, message: str) -> Transition:
    """Take the canary out of the traffic without holding anything against it."""
    state = change(_leaving(state), reason=Reason.CANARY_PROGRESSING, message=message)
    return _send_home(state, observation), (normal(Reason.CANARY_PROGRESSING, message),)


def _leaving(state: RolloutState) -> RolloutState:
    return change(
        state, phase=Phase.ROLLING_BACK, climbing=False, promoting=False, drained_since=None, pauses=(), stalled=False
    )


def _send_home(state: RolloutState, observation: Observation) -> RolloutState:
    """All requests to stable at once, if it can serve; else the phase RollingBack waits for it."""
    if observation.health(state.stable).ready == 0 and state.weight > 0:
        return state
    return change(state, weight=0, mirror_percent=0, step=None, step_started_at=None)
