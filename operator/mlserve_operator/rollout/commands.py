"""Promote, abort, retry, pause, resume, undo: what a person asks for by annotation, carried out exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlserve_core.api.v1alpha1 import Phase, Reason
from mlserve_operator.rollout import climb, plan
from mlserve_operator.rollout.evidence import CheckEvidence
from mlserve_operator.rollout.schedule import go_back
from mlserve_operator.rollout.state import Command, CommandRecord, Event, PauseCause, RolloutState, Verb
from mlserve_operator.rollout.transition import Transition, change, normal, reject, remember_rejected

if TYPE_CHECKING:
    from mlserve_operator.rollout.state import Observation

TRIAL = frozenset({Phase.PROGRESSING, Phase.PAUSED})


def carry_out(state: RolloutState, observation: Observation) -> Transition:
    """Do what a new command asks for, and record what came of it."""
    command = observation.command
    if command is None or (state.last_command is not None and state.last_command.text == command.text):
        return state, ()
    acted, events, message = _ACTIONS[command.verb](state, observation, command)
    record = CommandRecord(text=command.text, at=observation.now, message=message)
    told = normal("Command", f"{command.verb}: {message}")
    return change(acted, last_command=record), (told, *events)


Outcome = tuple[RolloutState, tuple[Event, ...], str]


def _promote(state: RolloutState, observation: Observation, _: Command) -> Outcome:
    if state.phase not in TRIAL:
        return state, (), "no revision is on trial"
    passed = climb.has_passed(state, observation)
    planned = plan.steps(state, observation.spec) or plan.is_shadowing(state, observation.spec)
    state = change(
        state,
        phase=Phase.PROGRESSING,
        promoting=True,
        immediate=not passed,  # what has passed is judged until it has everything; what has not would never get there
        climbing=False,
        pauses=(),
        canary_since=observation.now,
    )
    if passed:
        return state, (), f"{state.canary} is promoted: it has passed every step"
    how = "without waiting for evidence" if planned else "as soon as its pods are ready"
    return state, (), f"{state.canary} is promoted {how}"


def _abort(state: RolloutState, observation: Observation, _: Command) -> Outcome:
    if state.phase in TRIAL:
        name = state.canary
        state, events = reject(state, observation, Reason.MANUAL_ABORT, "aborted by command")
        return state, events, f"{name} is rolled back"
    if state.phase is Phase.BAKING:
        name, back = state.stable, go_back(state, observation, Reason.MANUAL_ABORT, "aborted by command")
        if back is not None:
            return *back, f"{name} is rolled back"
    return state, (), "no revision is on trial or warm enough to go back to"


def _retry(state: RolloutState, observation: Observation, _: Command) -> Outcome:
    if state.phase is Phase.PENDING:
        return change(state, canary_since=observation.now, stalled=False), (), "waiting for the pods once more"
    if state.rejection(observation.target) is None and state.pinned is None:
        return state, (), f"{observation.target} is not rejected"
    kept = tuple(item for item in state.rejected if item.revision != observation.target)
    return change(state, rejected=kept, pinned=None), (), f"{observation.target} is tried again"


def _pause(state: RolloutState, _: Observation, __: Command) -> Outcome:
    if state.phase not in TRIAL:
        return state, (), "no revision is on trial"
    pauses = (*(cause for cause in state.pauses if cause is not PauseCause.COMMAND), PauseCause.COMMAND)
    state, events = climb.set_pauses(state, pauses, "paused by command")
    return state, events, f"{state.canary} stays at {state.weight} %"


def _resume(state: RolloutState, observation: Observation, _: Command) -> Outcome:
    if not state.pauses:
        return state, (), "nothing is paused"
    if state.evidence is not None:
        # What made the comparison invalid is taken for repaired: those checks begin anew.
        fresh = {"errors": 0, "features": {}, "share": CheckEvidence(), "query_failures": {}}
        state = change(state, evidence=state.evidence.model_copy(update=fresh))
    kept = tuple(cause for cause in state.pauses if cause is PauseCause.SPEC and observation.spec.rollout.paused)
    state, events = climb.set_pauses(state, kept, "spec.rollout.paused is set")
    return state, events, "spec.rollout.paused still holds it" if kept else f"{state.canary} goes on"


def _undo(state: RolloutState, observation: Observation, command: Command) -> Outcome:
    if state.stable is None:
        return state, (), "nothing serves yet"
    if state.phase in TRIAL and not command.argument:
        return _abort(state, observation, command)
    serving = state.stable
    kept = tuple(name for name in (state.previous, *observation.history) if name is not None)
    choices = [name for name in kept if name != serving and state.rejection(name) is None and name != state.canary]
    wanted = command.argument or (choices[0] if choices else "")
    if wanted == serving and state.phase in TRIAL:
        return _abort(state, observation, command)
    if not wanted or wanted == serving or wanted not in kept:
        known = ", ".join(dict.fromkeys(kept)) or "none"
        return state, (), f"no kept revision to go back to{f' named {wanted}' if wanted else ''}; kept: {known}"
    message = f"undone by command in favour of {wanted}"
    state = remember_rejected(state, observation.target, Reason.MANUAL_ABORT, message, observation.now)
    forgiven = tuple(item for item in state.rejected if item.revision != wanted)
    state = change(state, rejected=forgiven, pinned=wanted, pinned_against=observation.target)
    return state, (), f"going back to {wanted}"


_ACTIONS = {
    Verb.PROMOTE: _promote,
    Verb.ABORT: _abort,
    Verb.RETRY: _retry,
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.UNDO: _undo,
}
