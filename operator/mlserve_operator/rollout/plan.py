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


def next_weight(state: RolloutState, spec: ModelDeploymentSpec) -> int:
    """The weight after the present one; 100 once the steps are over."""
    plan = steps(state, spec)
    index = 0 if state.step is None else state.step + 1
    if state.promoting or index >= len(plan):
        return 100
    return plan[index].weight


def canary_size(state: RolloutState, observation: Observation, weight: int) -> int:
    """Pods a canary needs for a weight: its share of stable's size, at least one.

    A share of 25 % of 10 pods needs 3; the last step before 100 % needs all of them.
    """
    full = full_size(state, observation)
    share = max(weight, state.mirror_percent)
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
        plans.append(
            RevisionPlan(revision=state.canary, role=Role.CANARY, replicas=_canary_replicas(state, observation))
        )
    if state.previous is not None:
        plans.append(RevisionPlan(revision=state.previous, role=Role.PREVIOUS, replicas=full))
    return tuple(plans)


def _canary_replicas(state: RolloutState, observation: Observation) -> int:
    if state.stable is None:
        return base_size(observation.spec)
    if state.phase is Phase.ROLLING_BACK:
        return canary_size(state, observation, max(state.weight, 1))
    return canary_size(state, observation, max(state.weight, wanted_weight(state, observation.spec)))


def wanted_weight(state: RolloutState, spec: ModelDeploymentSpec) -> int:
    """The weight that the canary's pods must be ready for: its own, or the first step's before there is one."""
    if state.promoting or state.step is None:
        return next_weight(state, spec)
    return state.weight
