"""Up: what a canary has to show before it gets more, and what happens when it shows the opposite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import InconclusiveAction, Phase, Reason, RegressionAction, Until
from mlserve_operator.rollout import bins, plan
from mlserve_operator.rollout.evidence import CheckEvidence, Evidence, Verdict
from mlserve_operator.rollout.judge import Judgement, action_of
from mlserve_operator.rollout.state import Event, PauseCause
from mlserve_operator.rollout.transition import Transition, change, normal, reject, warning

if TYPE_CHECKING:
    from mlserve_core.api.v1alpha1 import Step
    from mlserve_operator.rollout.state import Observation, RolloutState

NOTHING: Final = Evidence()


# --- pods ---------------------------------------------------------------------------------------------------------


def watch_availability(state: RolloutState, observation: Observation) -> RolloutState:
    """Start the progress deadline when pods are missing, stop it when they are there."""
    if plan.is_available(observation, state.canary, plan.split(state, observation).canary):
        return state if state.canary_since is None else change(state, canary_since=None)
    return change(state, canary_since=observation.now) if state.canary_since is None else state


def failure(state: RolloutState, observation: Observation) -> tuple[Reason, str] | None:
    """Why the canary will not become available: a failure that stays, or time is up."""
    found = observation.health(state.canary).failure
    size = plan.split(state, observation).canary
    if size == 0 and plan.base_size(observation.spec) > 0:
        return Reason.INSUFFICIENT_RESOURCES, _no_room(state, observation)
    if plan.is_available(observation, state.canary, size):
        return None
    if found is not None and found.terminal:
        return found.reason, found.message
    deadline = observation.spec.rollout.progress_deadline_seconds
    if state.canary_since is None or observation.now - state.canary_since < deadline:
        return None
    if found is not None:
        return found.reason, found.message
    ready = observation.health(state.canary).ready
    message = f"{ready} of {size} pods of {state.canary} were ready after {deadline} s"
    return Reason.PROGRESS_DEADLINE_EXCEEDED, message


def _no_room(state: RolloutState, observation: Observation) -> str:
    """Why a canary cannot have a single pod, and what would let it have one."""
    needed, allowed = observation.gpus[state.canary or ""], observation.spec.rollout.max_surge_gpus
    return (
        f"a pod of {state.canary} asks for {needed} GPUs beside the last pod of {state.stable}, and"
        f" spec.rollout.maxSurgeGpus allows {allowed}: raise it (or replicas), then `mlserve rollout retry`"
    )


def lost_pods(state: RolloutState, observation: Observation) -> Transition:
    """A canary without a ready pod gets no requests; it climbs again when it is back."""
    if observation.health(state.stable).ready == 0:
        return state, ()
    message = f"{state.canary} lost its pods; all requests go to {state.stable}"
    state = change(
        state,
        weight=0,
        mirror_percent=0,
        step=None,
        step_started_at=None,
        climbing=False,
        promoting=False,
        message=message,
    )
    return state, (warning(Reason.CANARY_PROGRESSING, message),)


# --- pauses and verdicts ------------------------------------------------------------------------------------------


def follow_pauses(state: RolloutState, observation: Observation) -> Transition:
    """Take over `spec.rollout.paused`, and name the phase by whether anything holds the rollout."""
    wanted = observation.spec.rollout.paused
    others = tuple(cause for cause in state.pauses if cause is not PauseCause.SPEC)
    pauses: tuple[PauseCause, ...] = (*others, PauseCause.SPEC) if wanted else others
    return set_pauses(state, pauses, "spec.rollout.paused is set")


def set_pauses(state: RolloutState, pauses: tuple[PauseCause, ...], message: str) -> Transition:
    """Change what holds the rollout; an Event only when it begins or ends to be held."""
    phase = Phase.PAUSED if pauses else Phase.PROGRESSING
    if phase is state.phase and set(pauses) == set(state.pauses):
        return state, ()
    began, ended = phase is Phase.PAUSED and state.phase is not phase, phase is not Phase.PAUSED
    if ended:
        message = f"{state.canary} goes on at {state.weight} %"
    reason = Reason.CANARY_PROGRESSING if ended else Reason.CANARY_PAUSED
    state = change(state, phase=phase, pauses=pauses, reason=reason, message=message)
    event = normal(reason, message)
    return state, (event,) if began or ended else ()


def react(state: RolloutState, observation: Observation, judgement: Judgement) -> Transition:
    """What a new verdict leads to, apart from climbing."""
    state, events = _alerts(state, observation)
    if judgement.verdict is Verdict.FAILED:
        state, more = _failed(state, observation, judgement)
        return state, events + more
    evidence = state.evidence or NOTHING
    limit = observation.spec.rollout.analysis.error_limit
    if judgement.verdict is Verdict.ERROR and evidence.errors >= limit and PauseCause.ANALYSIS not in state.pauses:
        message = f"{evidence.errors} looks in a row could not be measured: {judgement.message}"
        state, more = set_pauses(state, (*state.pauses, PauseCause.ANALYSIS), message)
        return change(state, reason=Reason.ANALYSIS_INCONCLUSIVE), events + more
    return state, events


def _failed(state: RolloutState, observation: Observation, judgement: Judgement) -> Transition:
    if judgement.restart:
        return _restart_pod(state, observation, judgement)
    if judgement.action is RegressionAction.ROLLBACK:
        return reject(state, observation, judgement.reason, judgement.message)
    if PauseCause.ANALYSIS in state.pauses:
        return state, ()
    state, events = set_pauses(state, (*state.pauses, PauseCause.ANALYSIS), judgement.message)
    return change(state, reason=judgement.reason), tuple(warning(judgement.reason, event.message) for event in events)


def _restart_pod(state: RolloutState, observation: Observation, judgement: Judgement) -> Transition:
    """One bad pod in a good revision: restart the pod and judge afresh. `step` names it in the decision."""
    evidence = state.evidence or NOTHING
    name = next((pod.name for pod in observation.pods if pod.uid == judgement.restart), judgement.restart)
    evidence = evidence.model_copy(
        update={
            "restarted": (*evidence.restarted, judgement.restart),
            "checks": evidence.checks | {check: CheckEvidence() for check in judgement.checks},
            "pods": {uid: counts for uid, counts in evidence.pods.items() if uid != judgement.restart},
            "verdict": Verdict.INCONCLUSIVE,
        }
    )
    message = f"only {name} fails ({judgement.message}); it is restarted"
    return change(state, evidence=evidence), (warning(Reason.CANARY_PROGRESSING, message),)


def _alerts(state: RolloutState, observation: Observation) -> Transition:
    """Tell, once, of failed checks that shall have no other consequence."""
    evidence, rollout = state.evidence or NOTHING, observation.spec.rollout
    events: list[Event] = []
    for report in evidence.reports:
        alert = report.verdict is Verdict.FAILED and action_of(report.name, rollout) is RegressionAction.ALERT
        if alert and report.name not in evidence.alerted:
            evidence = evidence.model_copy(update={"alerted": (*evidence.alerted, report.name)})
            events.append(warning(Reason.ANALYSIS_FAILED, f"{report.name}: {report.message} ({report.evidence})"))
    return (change(state, evidence=evidence), tuple(events)) if events else (state, ())


# --- weights ------------------------------------------------------------------------------------------------------


def climb(state: RolloutState, observation: Observation) -> Transition:
    """One move up, if there is reason. The pods for it are available and the present route is confirmed."""
    spec = observation.spec
    if state.weight == 100:
        return _promoted(state, observation)
    if state.promoting:
        weight = plan.split(state, observation).weight
        message = f"{state.canary} takes {'all' if weight == 100 else f'{weight} % of'} requests"
        return change(state, weight=weight, mirror_percent=0, message=message), ()
    if plan.is_shadowing(state, spec):
        return _shadow(state, observation)
    if state.climbing:
        return _next_weight(state, observation) if _good(state) else _undecided(state, observation, hold_seconds=0)
    if state.step is None and plan.steps(state, spec):
        return _next_weight(state, observation)
    if state.step is None:  # no steps at all: readiness was the condition
        if state.shadowed:
            return _when_good(state, observation, hold_seconds=0)
        return _take_all(state, observation)
    if state.step_started_at is None:
        return change(state, step_started_at=observation.now), ()
    steps = plan.steps(state, spec)
    step = steps[min(state.step, len(steps) - 1)] if steps else None
    if step is not None and step.until is Until.CONCLUSIVE:
        return _until_conclusive(state, observation, step)
    return _when_good(state, observation, step.hold_seconds if step else 0)


def has_passed(state: RolloutState, observation: Observation) -> bool:
    """Whether every step is over with a good verdict, so that only a person is waited for."""
    steps = plan.steps(state, observation.spec)
    if not steps or state.step is None or plan.next_step(state) < len(steps):
        return False
    last = steps[-1]
    if not _good(state) or state.step_started_at is None or _held(state, observation) < last.hold_seconds:
        return False
    return last.until is not Until.CONCLUSIVE or _reward_bounds(state, observation)[0] > 0


def _shadow(state: RolloutState, observation: Observation) -> Transition:
    """Mirror requests, compare the answers, and go on to the steps once they are good."""
    spec = observation.spec
    if not state.mirror_percent:
        percent = plan.split(state, observation).weight
        message = f"{percent} % of requests are mirrored to {state.canary}"
        state = change(state, mirror_percent=percent, step_started_at=None, message=message)
        return state, (normal(Reason.CANARY_PROGRESSING, message),)
    if state.step_started_at is None:
        return change(state, step_started_at=observation.now), ()
    steps = plan.steps(state, spec)
    return _when_good(state, observation, steps[0].hold_seconds if steps else 0)


def _good(state: RolloutState) -> bool:
    evidence = state.evidence or NOTHING
    return evidence.verdict is Verdict.SUCCESSFUL and not evidence.hold


def _when_good(state: RolloutState, observation: Observation, hold_seconds: int) -> Transition:
    """Go on once the hold is over and the verdict is Successful; after `maxHoldSeconds` as the spec says."""
    if _good(state):
        return _advance(state, observation) if _held(state, observation) >= hold_seconds else (state, ())
    return _undecided(state, observation, hold_seconds)


def _held(state: RolloutState, observation: Observation) -> float:
    return 0.0 if state.step_started_at is None else observation.now - state.step_started_at


def _undecided(state: RolloutState, observation: Observation, hold_seconds: int) -> Transition:
    """Stay, until that has lasted too long."""
    held = _held(state, observation)
    if held < max(observation.spec.rollout.analysis.max_hold_seconds, hold_seconds):
        return state, ()
    return _inconclusive(state, observation, held)


def _inconclusive(state: RolloutState, observation: Observation, held: float) -> Transition:
    evidence, action = state.evidence or NOTHING, observation.spec.rollout.analysis.on_inconclusive
    message = f"no decision after {round(held)} s: {evidence.hold or evidence.message or 'no requests'}"
    if action is InconclusiveAction.ROLLBACK:
        return reject(state, observation, Reason.ANALYSIS_INCONCLUSIVE, message)
    if action is InconclusiveAction.PROMOTE and not evidence.hold and evidence.verdict is not Verdict.ERROR:
        state, events = _take_all(state, observation)
        return state, (warning(Reason.ANALYSIS_INCONCLUSIVE, f"{message}; promoted all the same"), *events)
    if state.reason == Reason.ANALYSIS_INCONCLUSIVE:
        return state, ()
    state = change(state, reason=Reason.ANALYSIS_INCONCLUSIVE, message=message)
    return state, (warning(Reason.ANALYSIS_INCONCLUSIVE, message),)


def _until_conclusive(state: RolloutState, observation: Observation, step: Step) -> Transition:
    """An A/B test: the reward decides, or time is up."""
    held = _held(state, observation)
    if held >= step.hold_seconds:
        low, high = _reward_bounds(state, observation)
        if low > 0 and _good(state):
            return _advance(state, observation)
        if high < 0:
            middle, radius = (low + high) / 2, (high - low) / 2
            message = f"the canary earns less: {middle:+.4f} ± {radius:.4f} per reward"
            return reject(state, observation, Reason.ANALYSIS_FAILED, message)
    longest = observation.spec.rollout.analysis.max_hold_seconds
    limit = step.max_seconds if step.max_seconds is not None else longest
    return _inconclusive(state, observation, held) if held >= limit else (state, ())


def _reward_bounds(state: RolloutState, observation: Observation) -> tuple[float, float]:
    """Between what and what the canary's mean reward is above stable's; endless without rewards."""
    evidence, analysis = state.evidence or NOTHING, observation.spec.rollout.analysis
    if not evidence.reward.weight:
        return -math.inf, math.inf
    difference, radius = bins.reward_difference(evidence, 1 / analysis.false_alarm_one_in)
    return difference - radius, difference + radius


def _advance(state: RolloutState, observation: Observation) -> Transition:
    """Prepare the next weight: its pods first."""
    if state.mirror_percent:
        return change(state, shadowed=True, mirror_percent=0, step_started_at=None), ()
    if plan.next_step(state) < len(plan.steps(state, observation.spec)):
        return change(state, climbing=True, step_started_at=observation.now), ()
    if not observation.spec.rollout.auto_promote:
        message = f"{state.canary} has passed every step and waits for `mlserve rollout promote`"
        if state.message == message:
            return state, ()
        return change(state, message=message), (normal(Reason.CANARY_PROGRESSING, message),)
    return _take_all(state, observation)


def _next_weight(state: RolloutState, observation: Observation) -> Transition:
    """The next step's weight; where GPUs are short, as much of it as the pods carry that fit at present."""
    goal, weight = plan.next_weight(state, observation.spec), plan.split(state, observation).weight
    if weight < goal:
        message = f"{state.canary} gets {weight} % of requests on its way to {goal} %"
        state = change(state, weight=weight, step_started_at=observation.now, climbing=True, message=message)
    else:
        message = f"{state.canary} gets {weight} % of requests"
        step = plan.next_step(state)
        state = change(state, weight=weight, step=step, step_started_at=None, climbing=False, message=message)
    return change(state, reason=Reason.CANARY_PROGRESSING), (normal(Reason.CANARY_PROGRESSING, message),)


def _take_all(state: RolloutState, observation: Observation) -> Transition:
    """The steps are over: scale the canary to stable's size, then give it everything."""
    waits = not observation.spec.rollout.auto_promote and not state.immediate and state.step is None
    if waits:
        message = f"{state.canary} is ready and waits for `mlserve rollout promote`"
        if state.message == message:
            return state, ()
        return change(state, message=message), (normal(Reason.CANARY_PROGRESSING, message),)
    return change(state, promoting=True, climbing=False), ()


def _promoted(state: RolloutState, observation: Observation) -> Transition:
    """Move the pointer: stable becomes previous and stays warm."""
    bake = observation.spec.rollout.bake_seconds
    new, old = state.canary, state.stable
    checks = state.evidence.checks if state.evidence is not None else {}
    baseline = {name: (check.stable, check.stable_bad) for name, check in checks.items()}
    warm = "keeps what GPUs are left" if plan.is_short_of_gpus(state, observation) else "stays warm"
    message = f"{new} replaces {old}, which {warm} for {bake} s"
    state = change(
        state, phase=Phase.BAKING, stable=new, previous=old, canary=None, canary_since=None, weight=0,
        mirror_percent=0, step=None, step_started_at=None, shadowed=False, climbing=False, promoting=False,
        immediate=False, pauses=(), evidence=None, baseline=baseline, retained_until=observation.now + bake,
        stalled=False, reason=Reason.PROMOTED, message=message,
    )  # fmt: skip
    return state, (normal(Reason.PROMOTED, message),)
