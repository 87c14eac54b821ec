"""Gives each pending pod a node that has room for it, or says why there is none."""

from __future__ import annotations

import logging
import time

from mlserve_local.client import STRATEGIC
from mlserve_local.controllers.scheduling import Amounts, explain, score, unfit_reasons, used_by
from mlserve_local.controllers.shared import Context, enqueue_all
from mlserve_local.objects import (
    NODES,
    PODS,
    Obj,
    condition,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    timestamp,
    uid_of,
)
from mlserve_local.workqueue import WorkQueue

log = logging.getLogger(__name__)
SCHEDULER_NAME = "default-scheduler"


class Scheduler:
    """Binds pods whose schedulerName is the default one."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._pods = context.informers.pods
        self._nodes = context.informers.nodes
        self._events = context.recorder(SCHEDULER_NAME)
        # One worker: each decision must see the ones before.
        self._queue = WorkQueue("scheduler", self._schedule, workers=1)
        self._pods.on_change(enqueue_all(self._queue, lambda pod: [key_of(pod)] if _pending(pod) else []))
        self._pods.on_change(self._freed)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _freed(self, old: Obj | None, new: Obj | None) -> None:
        finished = new is None or (new.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if old is not None and old["spec"].get("nodeName") and finished:
            self._retry_pending()

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is not None and (old is None or _capacity(old) != _capacity(new)):
            self._retry_pending()

    def _retry_pending(self) -> None:
        for pod in self._pods:
            if _pending(pod):
                self._queue.add(key_of(pod))

    async def _schedule(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or not _pending(pod):
            return
        used = self._used()
        fits: list[Obj] = []
        refusals: list[list[str]] = []
        for node in self._nodes:
            reasons = unfit_reasons(pod, node, used.get(name_of(node), {}))
            if reasons:
                refusals.append(reasons)
            else:
                fits.append(node)
        if fits:
            best = max(fits, key=lambda node: (score(node, used.get(name_of(node), {})), name_of(node)))
            await self._bind(pod, name_of(best))
        else:
            await self._refuse(pod, explain(refusals))

    def _used(self) -> dict[str, Amounts]:
        by_node: dict[str, list[Obj]] = {}
        for pod in self._pods:
            node = pod["spec"].get("nodeName")
            if node:
                by_node.setdefault(node, []).append(pod)
        return {node: used_by(pods) for node, pods in by_node.items()}

    async def _bind(self, pod: Obj, node: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)},
            "target": {"apiVersion": "v1", "kind": NODES.kind, "name": node},
        }
        await self._client.request("POST", PODS.path(namespace_of(pod), name_of(pod), "binding"), binding)
        self._pods.remember(await self._client.get(PODS, namespace_of(pod), name_of(pod)))
        self._events(pod, "Normal", "Scheduled", f"Successfully assigned {key_of(pod)} to {node}")

    async def _refuse(self, pod: Obj, message: str) -> None:
        old = condition(pod, "PodScheduled")
        if old and old.get("status") == "False" and old.get("message") == message:
            return
        self._events(pod, "Warning", "FailedScheduling", message)
        entry = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": old["lastTransitionTime"] if old else timestamp(time.time()),
            "observedGeneration": pod["metadata"].get("generation"),
        }
        await self._client.patch(
            PODS,
            namespace_of(pod),
            name_of(pod),
            {"status": {"conditions": [entry]}},
            subresource="status",
            kind=STRATEGIC,
        )


def _pending(pod: Obj) -> bool:
    spec = pod["spec"]
    if spec.get("nodeName") or is_deleting(pod) or spec.get("schedulingGates"):
        return False
    return bool(spec.get("schedulerName", SCHEDULER_NAME) == SCHEDULER_NAME)


def _capacity(node: Obj) -> tuple[object, ...]:
    status, spec = node.get("status") or {}, node.get("spec") or {}
    ready = (condition(node, "Ready") or {}).get("status")
    labels = node["metadata"].get("labels")
    return (status.get("allocatable"), spec.get("taints"), spec.get("unschedulable"), ready, labels)
