"""One tick of a rollout: `step(state, observation) -> Decision`.

Pure: the time is an argument, measurements are arguments, and what shall happen is returned as data. A settled
rollout returns the state it was given and asks for nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlserve_core.api.v1alpha1 import DriftAction, Phase
from mlserve_operator.rollout import bake, drift, plan
from mlserve_operator.rollout.accumulate import add_look
from mlserve_operator.rollout.analysis import measure
from mlserve_operator.rollout.commands import carry_out
from mlserve_operator.rollout.judge import judge
from mlserve_operator.rollout.schedule import PHASES
from mlserve_operator.rollout.state import Decision, Observation, RolloutState
from mlserve_operator.rollout.transition import change

if TYPE_CHECKING:
    from mlserve_operator.rollout.judge import Judgement

MAX_SILENCE_SECONDS = 300.0
"""Longest time between two ticks that counts as passed. Beyond it either nobody looked or the clock jumped; a
deadline must not end, and a hold must not be served, by either."""
CLOCK_RESOLUTION_SECONDS = 10.0
"""The clock is remembered no finer, so that a tick without news writes no checkpoint."""


def step(state: RolloutState, observation: Observation) -> Decision:
    """Decide what to do now: clock, command, measure, judge, schedule."""
    before = state
    state = _follow_clock(state, observation.now)
    state, events = carry_out(state, observation)
    state, judgement = _analyse(state, observation)
    state, more = PHASES[state.phase](state, observation, judgement)
    state = _remember_clock(state, observation.now)
    return Decision(
        state=state,
        route=state.route,
        revisions=plan.revisions(state, observation),
        events=events + more,
        restart=_restarts(before, state, observation),
        compare_on=state.stable if state.canary is not None else None,
        requeue_after=_requeue_after(before, state, observation),
    )


def _is_compared(state: RolloutState) -> bool:
    """Whether looks are taken: requests reach a revision that has to prove itself."""
    if state.phase is Phase.BAKING:
        return state.previous is not None
    return state.phase in {Phase.PROGRESSING, Phase.PAUSED} and (state.weight > 0 or state.mirror_percent > 0)


def _analyse(state: RolloutState, observation: Observation) -> tuple[RolloutState, Judgement | None]:
    """Take and judge a look, if one is due."""
    if state.phase is Phase.BAKING and state.previous is not None:
        evidence, judgement = bake.analyse(state, observation)
        return change(state, evidence=evidence), judgement
    if not _is_compared(state):
        return state, None
    began = state.evidence.seen_at if state.evidence is not None else observation.now
    evidence, look = measure(state.evidence, state, observation)
    if evidence is None or look is None:
        return change(state, evidence=evidence), None
    moved = drift.world_moved(state, observation, began)
    weights = plan.weights(state, observation.spec)
    evidence = add_look(evidence, drift.without_predictions(look) if moved else look, observation, weights)
    target = plan.next_weight(state, observation.spec)
    evidence, judgement = judge(state, evidence, look.problems, observation, weights, target)
    if moved and not judgement.hold and observation.spec.drift.on_drift is not DriftAction.ALERT:
        judgement = replace(judgement, hold=drift.WORLD_MOVED)
        evidence = evidence.model_copy(update={"hold": judgement.hold})
    return change(state, evidence=evidence), judgement


def _restarts(before: RolloutState, state: RolloutState, observation: Observation) -> tuple[str, ...]:
    """Names of pods that were condemned in this tick."""
    old = before.evidence.restarted if before.evidence else ()
    new = set(state.evidence.restarted if state.evidence else ()) - set(old)
    return tuple(pod.name for pod in observation.pods if pod.uid in new)


def _follow_clock(state: RolloutState, now: float) -> RolloutState:
    """Move the timers with the wall clock when it jumps, backwards or by more than anyone could have slept."""
    if state.clock is None:
        return state
    passed = now - state.clock
    jump = min(passed, 0.0) + max(passed - MAX_SILENCE_SECONDS, 0.0)
    if jump == 0.0:
        return state
    timers = ("step_started_at", "canary_since", "drained_since", "retained_until")
    moved: dict[str, object] = {name: value + jump for name in timers if (value := getattr(state, name)) is not None}
    if state.evidence is not None and jump < 0.0:  # or no look would be due until the clock is where it was
        moved["evidence"] = state.evidence.model_copy(update={"seen_at": state.evidence.seen_at + jump})
    return change(state, clock=now, **moved)


def _remember_clock(state: RolloutState, now: float) -> RolloutState:
    """Keep the time while timers run, and forget it when the rollout rests."""
    if state.phase in {Phase.HEALTHY, Phase.ROLLED_BACK}:
        return state if state.clock is None else change(state, clock=None)
    if state.clock is not None and 0 <= now - state.clock < CLOCK_RESOLUTION_SECONDS:
        return state
    return change(state, clock=now)


def _requeue_after(before: RolloutState, state: RolloutState, observation: Observation) -> float | None:
    """When the next tick can bring something new."""
    if state.phase is not before.phase:
        return 0.0
    if state.phase in {Phase.HEALTHY, Phase.ROLLED_BACK}:
        return None
    if state.stable is not None and observation.route != state.route:
        return plan.CONFIRM_SECONDS
    interval = float(observation.spec.rollout.analysis.interval_seconds)
    is_waiting = state.canary_since is not None or state.phase is Phase.ROLLING_BACK
    waits = [plan.WAIT_SECONDS if is_waiting else interval]
    if state.evidence is not None and _is_compared(state):
        waits.append(state.evidence.seen_at + interval - observation.now)
    if state.retained_until is not None:
        waits.append(state.retained_until - observation.now)
    return max(min(waits), plan.CONFIRM_SECONDS)
