"""Notices nodes that fell silent: marks them unknown by their Lease, and keeps the taints that say so.

A node that stays away loses its pods after their toleration has run out, so that others can take their place.
"""

from __future__ import annotations

import time
from typing import Final

from mlserve_local.client import STRATEGIC
from mlserve_local.controllers.shared import Context, enqueue_all, own_key
from mlserve_local.objects import NODES, PODS, Obj, condition, is_deleting, moment_of, name_of, timestamp
from mlserve_local.workqueue import WorkQueue

GRACE_SECONDS: Final = 40.0
EVICTION_SECONDS: Final = 300.0
NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"


def wanted_taints(node: Obj) -> list[Obj]:
    """The node's own taints, with those of this controller as its conditions ask."""
    spec = node.get("spec") or {}
    own = (NOT_READY, UNREACHABLE, UNSCHEDULABLE)
    taints = [taint for taint in spec.get("taints") or () if taint["key"] not in own]
    ready = (condition(node, "Ready") or {}).get("status")
    key = {"True": None, "Unknown": UNREACHABLE}.get(ready or "", NOT_READY)
    if spec.get("unschedulable"):
        taints.append({"key": UNSCHEDULABLE, "effect": "NoSchedule"})
    if key is not None:
        taints.append({"key": key, "effect": "NoSchedule"})
    return taints


class NodeLifecycleController:
    """Watches Leases, taints nodes, evicts from nodes that are gone."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        informers = context.informers
        self._nodes, self._leases, self._pods = informers.nodes, informers.node_leases, informers.pods
        self._events = context.recorder("node-controller")
        self._queue = WorkQueue("node", self._reconcile, workers=1)
        self._nodes.on_change(enqueue_all(self._queue, own_key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    async def _reconcile(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None:
            await self._evict(key)
            return
        now = time.time()
        node = await self._judge_silence(node, now)
        await self._write_taints(node)
        ready = condition(node, "Ready") or {}
        if ready.get("status") == "Unknown":
            silent = now - (moment_of(ready.get("lastTransitionTime")) or now)
            if silent >= EVICTION_SECONDS:
                await self._evict(key)
            self._queue.add_after(key, max(1.0, EVICTION_SECONDS - silent))
        # A silent node sends no event: look again when its Lease could have run out.
        self._queue.add_after(key, GRACE_SECONDS)

    async def _judge_silence(self, node: Obj, now: float) -> Obj:
        lease = self._leases.get(f"kube-node-lease/{name_of(node)}")
        renewed = moment_of((lease or {}).get("spec", {}).get("renewTime"))
        ready = condition(node, "Ready")
        if renewed is None or now - renewed < GRACE_SECONDS or (ready and ready["status"] == "Unknown"):
            return node
        entry = {
            "type": "Ready",
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
            "lastHeartbeatTime": (ready or {}).get("lastHeartbeatTime"),
            "lastTransitionTime": timestamp(now),
        }
        body = {"status": {"conditions": [entry]}}
        changed = await self._client.patch(NODES, "", name_of(node), body, subresource="status", kind=STRATEGIC)
        self._nodes.remember(changed)
        self._events(node, "Normal", "NodeNotReady", f"Node {name_of(node)} status is now: NodeNotReady")
        return changed

    async def _write_taints(self, node: Obj) -> None:
        wanted = wanted_taints(node)
        present = (node.get("spec") or {}).get("taints") or []
        if _keys(wanted) == _keys(present):
            return
        body = {
            "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"taints": wanted or None},
        }
        self._nodes.remember(await self._client.patch(NODES, "", name_of(node), body))

    async def _evict(self, node_name: str) -> None:
        """Nobody would answer a graceful deletion: delete for good."""
        for pod in self._pods:
            if pod["spec"].get("nodeName") == node_name and (not is_deleting(pod) or node_name not in self._known()):
                await self._client.delete(PODS, pod, gracePeriodSeconds=0)

    def _known(self) -> set[str]:
        return {name_of(node) for node in self._nodes}


def _keys(taints: list[Obj]) -> set[tuple[str, str, str]]:
    return {(taint["key"], taint.get("value", ""), taint["effect"]) for taint in taints}
