"""How many pods each live revision needs, and when a decision has to be looked at again.

Stable is never smaller than its traffic needs; a canary is sized by the share it is about to get, and to stable's
full size before it takes over, so that a promotion never meets a small fleet.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase, Step, Strategy, TrafficMode
from mlserve_operator.rollout.state import Observation, RevisionPlan, Role, RolloutState
from mlserve_operator.rollout.surge import Fleets, Split, next_split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlserve_operator.rollout.state import RevisionHealth

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
    """Pods that all of the traffic needs: what stable runs at present, where an autoscaler decides that.

    A stable that gives up pods to the canary tells nothing about that any more; then it is what stable ran before.
    """
    spec = observation.spec
    if spec.autoscaling is None:
        return spec.replicas
    running = observation.health(state.stable).desired
    if state.full_size is not None and _rivals(state, observation) is not None:
        running = state.full_size
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


def split(state: RolloutState, observation: Observation) -> Split:
    """Sizes for the share the canary has, or is about to get, and the share they allow.

    The canary gets that part of stable's size, at least one pod: 25 % of 10 pods are 3, and before it takes
    everything it needs all of them. Stable keeps its size unless GPUs are short (see surge.py).
    """
    if state.stable is None:
        return Split(0, base_size(observation.spec), 0)
    share, full = _share(state, observation.spec), full_size(state, observation)
    if (fleets := _fleets(state, observation)) is not None and state.canary is not None:
        return next_split(fleets, state.weight, share)
    return Split(full, min(full, max(1, math.ceil(full * share / 100))), share)


def _share(state: RolloutState, spec: ModelDeploymentSpec) -> int:
    share = max(state.weight, state.mirror_percent)
    if state.phase is Phase.ROLLING_BACK:
        return share
    if is_shadowing(state, spec):
        return max(share, spec.rollout.shadow_percent)
    if state.promoting or state.climbing or state.step is None:
        return max(share, next_weight(state, spec))
    return share


def is_available(observation: Observation, revision: str | None, replicas: int) -> bool:
    """Whether enough pods of a revision are ready to be sent requests."""
    return revision is not None and observation.health(revision).ready >= replicas


def is_short_of_gpus(state: RolloutState, observation: Observation) -> bool:
    """Whether two revisions are given GPUs from one bounded stock."""
    return _fleets(state, observation) is not None


def is_warm(state: RolloutState, observation: Observation) -> bool:
    """Whether the previous revision can take all requests at once: one short of GPUs was given only what was left."""
    needed = full_size(state, observation) if _fleets(state, observation) is not None else 1
    return is_available(observation, state.previous, max(needed, 1))


def revisions(state: RolloutState, observation: Observation) -> tuple[RevisionPlan, ...]:
    """Every revision that must be live, with its size."""
    plans, fleets = _without_limit(state, observation), _fleets(state, observation)
    if fleets is None:
        return plans
    planned = {item.revision: item.replicas for item in plans}
    return tuple(_within(item, planned, fleets, state, observation) for item in plans)


def _without_limit(state: RolloutState, observation: Observation) -> tuple[RevisionPlan, ...]:
    base, full, wanted = base_size(observation.spec), full_size(state, observation), split(state, observation)
    fleets, plans = _fleets(state, observation), []
    if state.stable is not None:
        # With a rollout under way the autoscaler must not shrink stable below what it would need alone.
        size = wanted.stable if state.canary is not None else full if fleets is not None else base
        if state.phase is Phase.ROLLING_BACK:
            size = full
        plans.append(RevisionPlan(revision=state.stable, role=Role.STABLE, replicas=size))
    if state.canary is not None:
        size = wanted.canary
        if state.phase is Phase.ROLLING_BACK:  # drained before it shrinks
            size = max(observation.health(state.canary).desired, 1)
        plans.append(RevisionPlan(revision=state.canary, role=Role.CANARY, replicas=size))
    if state.previous is not None:
        size = full if fleets is None else fleets.beside_canary(full)
        plans.append(RevisionPlan(revision=state.previous, role=Role.PREVIOUS, replicas=size))
    return tuple(plans)


# --- short of GPUs ------------------------------------------------------------------------------------------------


def _rivals(state: RolloutState, observation: Observation) -> tuple[str, str] | None:
    """Two revisions (the old one first) that are given GPUs from one bounded stock; None where nothing is bounded."""
    pair = (state.previous, state.stable) if state.canary is None else (state.stable, state.canary)
    old, new = pair
    gpus = observation.gpus
    if observation.spec.rollout.max_surge_gpus is None or old is None or new is None:
        return None
    return (old, new) if gpus.get(old, 0) > 0 and gpus.get(new, 0) > 0 else None


def _fleets(state: RolloutState, observation: Observation) -> Fleets | None:
    rivals, full = _rivals(state, observation), full_size(state, observation)
    if rivals is None or full == 0:
        return None
    old, new = (observation.gpus[revision] for revision in rivals)
    return Fleets(full, old, new, observation.spec.rollout.max_surge_gpus or 0)


def _within(
    item: RevisionPlan, planned: Mapping[str, int], fleets: Fleets, state: RolloutState, observation: Observation
) -> RevisionPlan:
    """A size that can be asked for now: no GPU that a pod still holds, no pod that requests may still be sent to."""
    own, names = item.revision, planned.keys() | observation.revisions.keys()
    held = sum(observation.gpus.get(name, 0) * _pods(name, planned, observation) for name in names - {own})
    room = (fleets.budget - held) // observation.gpus[own] - _leaving(observation.health(own))
    running = observation.health(own).desired
    size = max(min(item.replicas, room), min(item.replicas, running))
    if observation.route != state.route:
        size = max(size, running)
    ceiling = size if state.canary is not None or item.role is Role.PREVIOUS else None
    return item.model_copy(update={"replicas": size, "ceiling": ceiling})


def _pods(revision: str, planned: Mapping[str, int], observation: Observation) -> int:
    """Pods that are there or planned, and those that have not ended yet."""
    health = observation.health(revision)
    return max(health.pods, planned.get(revision, 0) + _leaving(health))


def _leaving(health: RevisionHealth) -> int:
    return max(health.pods - health.desired, 0)
