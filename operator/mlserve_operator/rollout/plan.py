"""How many pods each live revision needs, and when a decision has to be looked at again.

Stable is never smaller than its traffic needs; a canary is sized by the share it is about to get, and to stable's
full size before it takes over, so that a promotion never meets a small fleet.
"""

from __future__ import annotations

import math
from typing import Final

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase, Step, Strategy, TrafficMode
from mlserve_operator.rollout.state import Observation, RevisionPlan, Role, RolloutState

CONFIRM_SECONDS: Final = 1.0
"""How soon to ask the routers again while a change of weights is under way."""
WAIT_SECONDS: Final = 5.0
"""How soon to look again while pods come up (their changes wake the operator earlier)."""


def steps(state: RolloutState, spec: ModelDeploymentSpec) -> tuple[Step, ...]:
    """Weights a rollout climbs through before it takes everything; none where there is no split."""
    stepless = spec.rollout.strategy in {Strategy.ALL_AT_ONCE, Strategy.BLUE_GREEN}
    if state.immediate or stepless or spec.traffic.mode is TrafficMode.DIRECT or base_size(spec) == 0:
        return ()
    return tuple(spec.rollout.steps)


def base_size(spec: ModelDeploymentSpec) -> int:
    """Pods the spec asks for: `replicas`, or the autoscaler's lower bound."""
    return spec.autoscaling.min_replicas if spec.autoscaling else spec.replicas


def full_size(state: RolloutState, observation: Observation) -> int:
    """Pods that all of the traffic needs: what stable runs at present, where an autoscaler decides that."""
    spec = observation.spec
    if spec.autoscaling is None:
        return spec.replicas
    running = observation.health(state.stable).desired
    return min(max(running, spec.autoscaling.min_replicas), spec.autoscaling.max_replicas)


def weights(state: RolloutState, spec: ModelDeploymentSpec) -> tuple[int, ...]:
    """Every weight of the plan, 100 last."""
    return (*(step.weight for step in steps(state, spec) if step.weight < 100), 100)


def next_step(state: RolloutState) -> int:
    """Index of the step after the present one; past the end when only the promotion is left."""
    return 0 if state.step is None else state.step + 1


def next_weight(state: RolloutState, spec: ModelDeploymentSpec) -> int:
    """The weight after the present one; 100 once the steps are over."""
    plan, index = steps(state, spec), next_step(state)
    if state.promoting or index >= len(plan):
        return 100
    return plan[index].weight


def is_shadowing(state: RolloutState, spec: ModelDeploymentSpec) -> bool:
    """Whether the mirrored part of a Shadow rollout is under way or still to come."""
    shadow = spec.rollout.strategy is Strategy.SHADOW and spec.traffic.mode is not TrafficMode.DIRECT
    return shadow and not state.shadowed and state.step is None and not state.promoting and not state.immediate


def canary_size(state: RolloutState, observation: Observation) -> int:
    """Pods the canary needs for the share it has, or is about to get: that part of stable's size, at least one.

    A share of 25 % of 10 pods needs 3; before it takes everything it needs all of them.
    """
    spec = observation.spec
    if state.stable is None:
        return base_size(spec)
    share = max(state.weight, state.mirror_percent)
    if state.phase is not Phase.ROLLING_BACK:
        if is_shadowing(state, spec):
            share = max(share, spec.rollout.shadow_percent)
        elif state.promoting or state.climbing or state.step is None:
            share = max(share, next_weight(state, spec))
    full = full_size(state, observation)
    return min(full, max(1, math.ceil(full * share / 100)))


def is_available(observation: Observation, revision: str | None, replicas: int) -> bool:
    """Whether enough pods of a revision are ready to be sent requests."""
    return revision is not None and observation.health(revision).ready >= replicas


def revisions(state: RolloutState, observation: Observation) -> tuple[RevisionPlan, ...]:
    """Every revision that must be live, with its size."""
    base, full = base_size(observation.spec), full_size(state, observation)
    plans = []
    if state.stable is not None:
        # With a rollout under way the autoscaler must not shrink stable below what it would need alone.
        floor = full if state.canary is not None else base
        plans.append(RevisionPlan(revision=state.stable, role=Role.STABLE, replicas=floor))
    if state.canary is not None:
        plans.append(RevisionPlan(revision=state.canary, role=Role.CANARY, replicas=canary_size(state, observation)))
    if state.previous is not None:
        plans.append(RevisionPlan(revision=state.previous, role=Role.PREVIOUS, replicas=full))
    return tuple(plans)
