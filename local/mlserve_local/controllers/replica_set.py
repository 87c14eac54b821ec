"""Keeps as many pods of a template as asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mlserve_local.client import ApiError
from mlserve_local.controllers.replicas import (
    count,
    deletion_order,
    is_active,
    pod_from_template,
    replica_set_status,
)
from mlserve_local.controllers.shared import OWNER, Context, enqueue_all, own_key
from mlserve_local.objects import (
    PODS,
    REPLICA_SETS,
    Obj,
    condition,
    controller_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    owner_reference,
    timestamp,
    uid_of,
    with_transition,
)
from mlserve_local.workqueue import WorkQueue


class ReplicaSetController:
    """Creates and deletes pods; adopts none: every pod here is made by its ReplicaSet."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._pods = context.informers.pods
        self._replica_sets = context.informers.replica_sets
        self._events = context.recorder("replicaset-controller")
        self._queue = WorkQueue("replicaset", self._reconcile)
        self._replica_sets.on_change(enqueue_all(self._queue, own_key))
        self._pods.on_change(enqueue_all(self._queue, _owner_key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    async def _reconcile(self, key: str) -> None:
        replica_set = self._replica_sets.get(key)
        if replica_set is None:
            return
        failure: ApiError | None = None
        if not is_deleting(replica_set):
            try:
                await self._adjust(replica_set, self._owned(replica_set))
            except ApiError as error:
                failure = error
        await self._write_status(replica_set, failure)
        if failure is not None:
            raise failure

    def _owned(self, replica_set: Obj) -> list[Obj]:
        return self._pods.by_index(OWNER, uid_of(replica_set))

    async def _adjust(self, replica_set: Obj, pods: Sequence[Obj]) -> None:
        active = [pod for pod in pods if is_active(pod)]
        missing = (replica_set["spec"].get("replicas") or 0) - len(active)
        if missing > 0:
            await asyncio.gather(*(self._create(replica_set) for _ in range(missing)))
        elif missing < 0:
            now = time.time()
            victims = sorted(active, key=lambda pod: deletion_order(pod, now))[:-missing]
            await asyncio.gather(*(self._delete(replica_set, pod) for pod in victims))

    async def _create(self, replica_set: Obj) -> None:
        reference = owner_reference(replica_set, REPLICA_SETS)
        pod = pod_from_template(replica_set["spec"]["template"], replica_set, reference)
        try:
            created = await self._client.create(PODS, pod)
        except ApiError as error:
            self._events(replica_set, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self._pods.remember(created)
        self._events(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {name_of(created)}")

    async def _delete(self, replica_set: Obj, pod: Obj) -> None:
        answer = await self._client.delete(PODS, pod)
        if answer.get("kind") == "Pod" and is_deleting(answer):
            self._pods.remember(answer)
        else:
            self._pods.forget(pod)
        self._events(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    async def _write_status(self, replica_set: Obj, failure: ApiError | None) -> None:
        counts = count(replica_set, self._owned(replica_set), time.time())
        status = replica_set_status(replica_set, counts)
        status["conditions"] = _conditions(replica_set, failure)
        if not status["conditions"]:
            del status["conditions"]
        if status != replica_set.get("status"):
            written = await self._client.replace(REPLICA_SETS, {**replica_set, "status": status}, "status")
            self._replica_sets.remember(written)
        if counts.next_available_in is not None:
            self._queue.add_after(key_of(replica_set), counts.next_available_in + 0.05)


def _conditions(replica_set: Obj, failure: ApiError | None) -> list[Obj]:
    others = [c for c in (replica_set.get("status") or {}).get("conditions") or () if c["type"] != "ReplicaFailure"]
    if failure is None:
        return others
    entry = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure.message}
    return [*others, with_transition(entry, condition(replica_set, "ReplicaFailure"), timestamp(time.time()))]


def _owner_key(pod: Obj) -> list[str]:
    owner = controller_of(pod)
    return [f"{namespace_of(pod)}/{owner['name']}"] if owner and owner["kind"] == "ReplicaSet" else []
