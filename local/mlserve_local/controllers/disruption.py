"""Keeps the status of PodDisruptionBudgets, by which the API server decides on evictions."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mlserve_local.controllers.replicas import is_active, is_ready
from mlserve_local.controllers.shared import NAMESPACE, Context, enqueue_all, own_key
from mlserve_local.objects import (
    DISRUPTION_BUDGETS,
    Obj,
    condition,
    controller_of,
    key_of,
    labels_of,
    matches,
    namespace_of,
    owner_uid,
    scaled,
    timestamp,
    uid_of,
    with_transition,
)
from mlserve_local.workqueue import WorkQueue


def budget_status(budget: Obj, pods: Sequence[Obj], expected: int, now: float) -> Obj:
    """The status for the matching pods. `expected`: how many there should be, by their controllers' scale."""
    spec, old = budget["spec"], budget.get("status") or {}
    healthy = sum(is_ready(pod) and is_active(pod) for pod in pods)
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - scaled(spec["maxUnavailable"], expected, round_up=True))
    else:
        desired = scaled(spec.get("minAvailable"), expected, round_up=True)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    reason = "SufficientPods" if allowed else "InsufficientPods"
    generation = budget["metadata"].get("generation", 0)
    entry = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "reason": reason,
        "message": "",
        "observedGeneration": generation,
    }
    return {
        **{key: old[key] for key in ("disruptedPods",) if key in old},
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": generation,
        "conditions": [with_transition(entry, condition(budget, "DisruptionAllowed"), timestamp(now))],
    }


class DisruptionController:
    """Recounts a budget whenever a pod it selects changes."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        informers = context.informers
        self._budgets, self._pods = informers.budgets, informers.pods
        self._owners = {
            "ReplicaSet": informers.replica_sets,
            "Deployment": informers.deployments,
            "Job": informers.jobs,
        }
        self._queue = WorkQueue("disruption", self._reconcile)
        self._budgets.on_change(enqueue_all(self._queue, own_key))
        self._pods.on_change(enqueue_all(self._queue, self._selecting))
        informers.replica_sets.on_change(enqueue_all(self._queue, self._in_namespace))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _selecting(self, pod: Obj) -> list[str]:
        budgets = self._budgets.by_index(NAMESPACE, namespace_of(pod))
        return [key_of(b) for b in budgets if matches(b["spec"].get("selector"), labels_of(pod))]

    def _in_namespace(self, replica_set: Obj) -> list[str]:
        return [key_of(b) for b in self._budgets.by_index(NAMESPACE, namespace_of(replica_set))]

    def _expected(self, budget: Obj, pods: Sequence[Obj]) -> int:
        """With a number in minAvailable the pods themselves count, else the scale of their controllers."""
        minimum = budget["spec"].get("minAvailable")
        if minimum is not None and not str(minimum).endswith("%"):
            return len(pods)
        total, seen = 0, set()
        for pod in pods:
            owner = controller_of(pod)
            if owner is None:
                total += 1
                continue
            informer = self._owners.get(owner["kind"])
            found = informer.get(f"{namespace_of(pod)}/{owner['name']}") if informer else None
            if found is not None and (parent := controller_of(found)) and parent["kind"] == "Deployment":
                found = self._owners["Deployment"].get(f"{namespace_of(pod)}/{parent['name']}") or found
            identity = uid_of(found) if found else owner_uid(pod)
            if identity not in seen:
                seen.add(identity)
                total += int((found or {}).get("spec", {}).get("replicas", 1))
        return total

    async def _reconcile(self, key: str) -> None:
        budget = self._budgets.get(key)
        if budget is None:
            return
        selector = budget["spec"].get("selector")
        in_namespace = self._pods.by_index(NAMESPACE, namespace_of(budget))
        pods = [p for p in in_namespace if matches(selector, labels_of(p)) and _counts(p)]
        status = budget_status(budget, pods, self._expected(budget, pods), time.time())
        if status != budget.get("status"):
            body = {**budget, "status": status}
            self._budgets.remember(await self._client.replace(DISRUPTION_BUDGETS, body, "status"))


def _counts(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
