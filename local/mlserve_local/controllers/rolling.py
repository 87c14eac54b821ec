"""The arithmetic of a rolling update: how far may each ReplicaSet be scaled right now? Pure, after Kubernetes' rules.

Two bounds hold at every moment: at most `replicas + maxSurge` pods exist, and at least `replicas - maxUnavailable`
are available.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlserve_local.objects import Obj, annotations_of, name_of, scaled, uid_of

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"


@dataclass(frozen=True, slots=True)
class Budget:
    """The bounds of one Deployment."""

    replicas: int
    surge: int
    unavailable: int


def budget(deployment: Obj) -> Budget:
    """Resolve the strategy's percentages; both zero would stand still, so then one may be unavailable.

    >>> budget({"spec": {"replicas": 2, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}})
    Budget(replicas=2, surge=1, unavailable=0)
    """
    spec = deployment["spec"]
    replicas = spec.get("replicas", 1)
    rolling = (spec.get("strategy") or {}).get("rollingUpdate")
    if rolling is None:
        return Budget(replicas, 0, 0)
    surge = scaled(rolling.get("maxSurge", "25%"), replicas, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Budget(replicas, surge, min(unavailable, replicas))


def size(replica_set: Obj) -> int:
    """The wanted number of pods."""
    return int(replica_set["spec"].get("replicas") or 0)


def available(replica_set: Obj) -> int:
    """The number of its pods that are available."""
    return int((replica_set.get("status") or {}).get("availableReplicas") or 0)


def _actual(replica_set: Obj) -> int:
    return int((replica_set.get("status") or {}).get("replicas") or 0)


def new_size(limits: Budget, new: Obj, every: Sequence[Obj]) -> int:
    """How large the new ReplicaSet may be without more pods than the surge allows."""
    room = limits.replicas + limits.surge - sum(size(rs) for rs in every)
    if size(new) >= limits.replicas:
        return limits.replicas
    return size(new) + max(0, min(room, limits.replicas - size(new)))


def old_sizes(limits: Budget, new: Obj, old: Sequence[Obj]) -> dict[str, int]:
    """The sizes of the old ReplicaSets (by UID) that keep enough pods available; unhealthy pods go first."""
    sizes = {uid_of(rs): size(rs) for rs in old}
    minimum = limits.replicas - limits.unavailable
    new_unavailable = size(new) - available(new)
    total = sum(sizes.values()) + size(new)
    removable = total - minimum - new_unavailable
    if removable <= 0:
        return sizes
    by_age = sorted(old, key=lambda rs: (rs["metadata"].get("creationTimestamp", ""), name_of(rs)))
    cleaned = 0
    for rs in by_age:
        unhealthy = sizes[uid_of(rs)] - available(rs)
        step = min(removable - cleaned, max(0, unhealthy))
        sizes[uid_of(rs)] -= step
        cleaned += step
    spare = available(new) + sum(min(available(rs), sizes[uid_of(rs)]) for rs in old) - minimum
    for rs in by_age:
        step = min(sizes[uid_of(rs)], max(0, spare))
        sizes[uid_of(rs)] -= step
        spare -= step
    return sizes


def proportional_sizes(limits: Budget, active: Sequence[Obj]) -> dict[str, int]:
    """Share a change of `replicas` in mid-rollout among the ReplicaSets according to their sizes (largest first)."""
    sizes = {uid_of(rs): size(rs) for rs in active}
    total = sum(sizes.values())
    allowed = limits.replicas + (limits.surge if limits.replicas > 0 else 0)
    to_add = allowed - total
    by_age = sorted(active, key=lambda rs: rs["metadata"].get("creationTimestamp", ""), reverse=to_add > 0)
    ordered = sorted(by_age, key=size, reverse=True)
    added = 0
    for rs in ordered:
        if to_add == 0 or not size(rs):
            continue
        base = int(annotations_of(rs).get(MAX_REPLICAS) or total) or 1
        share = round(size(rs) * allowed / base) - size(rs)
        rest = to_add - added
        step = min(share, rest) if to_add > 0 else max(share, rest)
        step = max(step, 0) if to_add > 0 else min(step, 0)
        sizes[uid_of(rs)] += step
        added += step
    if ordered:
        first = uid_of(ordered[0])
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def is_saturated(limits: Budget, rs: Obj) -> bool:
    """Has this ReplicaSet everything the Deployment wants?"""
    desired = annotations_of(rs).get(DESIRED)
    return size(rs) == limits.replicas == available(rs) and desired is not None and int(desired) == limits.replicas


def is_complete(deployment: Obj, status: Obj) -> bool:
    """All pods are of the new template, all available, none of the old left, and the spec was seen."""
    wanted = deployment["spec"].get("replicas", 1)
    return bool(
        status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def is_progressing(old: Obj, new: Obj) -> bool:
    """Did anything move forward since the last status?"""
    old_old = old.get("replicas", 0) - old.get("updatedReplicas", 0)
    new_old = new.get("replicas", 0) - new.get("updatedReplicas", 0)
    return bool(
        new.get("updatedReplicas", 0) > old.get("updatedReplicas", 0)
        or new_old < old_old
        or new.get("readyReplicas", 0) > old.get("readyReplicas", 0)
        or new.get("availableReplicas", 0) > old.get("availableReplicas", 0)
    )


def totals(new: Obj | None, every: Sequence[Obj]) -> Obj:
    """Counts of a Deployment's status, `omitempty` not yet applied."""

    def total(name: str) -> int:
        return sum(int((rs.get("status") or {}).get(name) or 0) for rs in every)

    wanted = sum(size(rs) for rs in every)
    return {
        "replicas": total("replicas"),
        "updatedReplicas": _actual(new) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(0, wanted - total("availableReplicas")),
        "terminatingReplicas": total("terminatingReplicas"),
    }
