"""One tick of a rollout: `step(state, observation) -> Decision`.

Pure: the time is an argument, measurements are arguments, and what shall happen is returned as data. A settled
rollout returns the state it was given and asks for nothing.
"""

from __future__ import annotations

from mlserve_core.api.v1alpha1 import Phase
from mlserve_operator.rollout import plan
from mlserve_operator.rollout.schedule import PHASES, change
from mlserve_operator.rollout.state import Decision, Observation, RolloutState

MAX_SILENCE_SECONDS = 300.0
"""Longest time between two ticks that counts as passed. Beyond it either nobody looked or the clock jumped; a
deadline must not end, and a hold must not be served, by either."""
CLOCK_RESOLUTION_SECONDS = 10.0
"""The clock is remembered no finer, so that a tick without news writes no checkpoint."""


def step(state: RolloutState, observation: Observation) -> Decision:
    """Decide what to do now."""
    before = state
    state = _follow_clock(state, observation.now)
    state, events = PHASES[state.phase](state, observation)
    state = _remember_clock(state, observation.now)
    return Decision(
        state=state,
        route=state.route,
        revisions=plan.revisions(state, observation),
        events=events,
        compare_on=state.stable if state.canary is not None else None,
        requeue_after=_requeue_after(before, state, observation),
    )


def _follow_clock(state: RolloutState, now: float) -> RolloutState:
    """Move the timers with the wall clock when it jumps, backwards or by more than anyone could have slept."""
    if state.clock is None:
        return state
    passed = now - state.clock
    jump = min(passed, 0.0) + max(passed - MAX_SILENCE_SECONDS, 0.0)
    if jump == 0.0:
        return state
    timers = ("step_started_at", "canary_since", "drained_since", "retained_until")
    moved = {name: value + jump for name in timers if (value := getattr(state, name)) is not None}
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
    if state.phase is Phase.BAKING:
        left = (state.retained_until or observation.now) - observation.now
        return min(max(left, plan.CONFIRM_SECONDS), 60.0)
    return plan.WAIT_SECONDS
