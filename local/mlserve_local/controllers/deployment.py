"""Rolls a Deployment from one template to the next by resizing its ReplicaSets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mlserve_local.client import ApiError
from mlserve_local.controllers import progress
from mlserve_local.controllers.replicas import is_active
from mlserve_local.controllers.revisions import (
    REVISION,
    annotations_for,
    find_new,
    new_replica_set,
    revision_of,
    same_template,
    surplus,
)
from mlserve_local.controllers.rolling import (
    DESIRED,
    MAX_REPLICAS,
    budget,
    is_complete,
    is_saturated,
    new_size,
    old_sizes,
    proportional_sizes,
    size,
)
from mlserve_local.controllers.shared import OWNER, Context, enqueue_all, own_key
from mlserve_local.objects import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Obj,
    annotations_of,
    controller_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    uid_of,
)
from mlserve_local.workqueue import WorkQueue


class DeploymentController:
    """Strategies RollingUpdate and Recreate, pause, scaling in mid-rollout, history, progress deadline."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._deployments = context.informers.deployments
        self._replica_sets = context.informers.replica_sets
        self._pods = context.informers.pods
        self._events = context.recorder("deployment-controller")
        self._fresh: set[str] = set()
        """UIDs of ReplicaSets made since the last status."""
        self._queue = WorkQueue("deployment", self._reconcile)
        self._deployments.on_change(enqueue_all(self._queue, own_key))
        self._replica_sets.on_change(enqueue_all(self._queue, _owner_key))
        self._pods.on_change(self._pod_gone)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _pod_gone(self, old: Obj | None, new: Obj | None) -> None:
        """Recreate waits for the last old pod to end."""
        owner = controller_of(old) if old is not None and new is None else None
        if old is None or owner is None or owner["kind"] != "ReplicaSet":
            return
        replica_set = self._replica_sets.get(f"{namespace_of(old)}/{owner['name']}")
        for key in _owner_key(replica_set) if replica_set else ():
            self._queue.add(key)

    async def _reconcile(self, key: str) -> None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return
        every = [rs for rs in self._replica_sets.by_index(OWNER, uid_of(deployment)) if not is_deleting(rs)]
        if is_deleting(deployment):
            await self._write_status(deployment, find_new(deployment, every), every)
        elif deployment["spec"].get("paused") or _is_scaling(deployment, every):
            await self._scale(deployment, every)
        elif (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            await self._recreate(deployment, every)
        else:
            await self._roll(deployment, every)

    # --- strategies -------------------------------------------------------------------------------------------------

    async def _roll(self, deployment: Obj, every: Sequence[Obj]) -> None:
        limits = budget(deployment)
        old = [rs for rs in every if not same_template(rs["spec"]["template"], deployment["spec"]["template"])]
        room = max(0, min(limits.replicas, limits.replicas + limits.surge - sum(size(rs) for rs in old)))
        new = await self._ensure_new(deployment, every, room)
        current = [*old, new]
        target = new_size(limits, new, current)
        if target != size(new):
            new = await self._resize(deployment, new, target)
        else:
            sizes = old_sizes(limits, new, old)
            old = [await self._resize(deployment, rs, sizes[uid_of(rs)]) for rs in old]
        await self._finish(deployment, new, old)

    async def _recreate(self, deployment: Obj, every: Sequence[Obj]) -> None:
        old = [rs for rs in every if not same_template(rs["spec"]["template"], deployment["spec"]["template"])]
        new = find_new(deployment, every)
        old = [await self._resize(deployment, rs, 0) for rs in old]
        if any(pod for rs in old for pod in self._pods.by_index(OWNER, uid_of(rs)) if _occupies(pod)):
            await self._write_status(deployment, new, [*old, *([new] if new else [])])
            return
        replicas = deployment["spec"].get("replicas", 1)
        new = await self._ensure_new(deployment, every, replicas)
        new = await self._resize(deployment, new, replicas)
        await self._finish(deployment, new, old)

    async def _scale(self, deployment: Obj, every: Sequence[Obj]) -> None:
        """Paused, or `replicas` changed: resize what is there, roll nothing."""
        new = find_new(deployment, every)
        old = [rs for rs in every if rs is not new]
        limits = budget(deployment)
        active = [rs for rs in every if size(rs) > 0]
        if len(active) <= 1:
            latest = max(every, key=revision_of, default=None)
            chosen = active[0] if active else (new or latest)
            sizes = {uid_of(chosen): limits.replicas} if chosen else {}
        elif new is not None and is_saturated(limits, new):
            sizes = {uid_of(rs): 0 for rs in old}
        elif (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            sizes = {}
        else:
            sizes = proportional_sizes(limits, active)
        resized = {uid_of(rs): await self._resize(deployment, rs, sizes.get(uid_of(rs), size(rs))) for rs in every}
        new = resized[uid_of(new)] if new else None
        await self._write_status(deployment, new, list(resized.values()))

    async def _finish(self, deployment: Obj, new: Obj, old: Sequence[Obj]) -> None:
        status = await self._write_status(deployment, new, [*old, new])
        if is_complete(deployment, status):
            for replica_set in surplus(deployment, old):
                await self._client.delete(REPLICA_SETS, replica_set)
                self._replica_sets.forget(replica_set)

    # --- ReplicaSets ------------------------------------------------------------------------------------------------

    async def _ensure_new(self, deployment: Obj, every: Sequence[Obj], replicas: int) -> Obj:
        """The ReplicaSet of the present template, made if need be, with the newest revision number."""
        new = find_new(deployment, every)
        revision = max((revision_of(rs) for rs in every if rs is not new), default=0) + 1
        if new is None:
            new = await self._create(deployment, revision, replicas)
        else:
            revision = max(revision, revision_of(new))
            wanted = annotations_for(deployment, new, revision)
            if wanted != annotations_of(new):
                new = await self._patch(new, {"metadata": {"annotations": wanted}})
        if annotations_of(deployment).get(REVISION) != str(revision):
            body = {"metadata": {"annotations": {REVISION: str(revision)}}}
            namespace, name = namespace_of(deployment), name_of(deployment)
            # Through /status, as kube-controller-manager does: there an annotation leaves the generation alone.
            written = await self._client.patch(DEPLOYMENTS, namespace, name, body, subresource="status")
            self._deployments.remember(written)
        return new

    async def _create(self, deployment: Obj, revision: int, replicas: int) -> Obj:
        wanted = new_replica_set(deployment, revision, replicas)
        try:
            created = await self._client.create(REPLICA_SETS, wanted)
            self._fresh.add(uid_of(created))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            created = await self._client.get(REPLICA_SETS, namespace_of(deployment), name_of(wanted))
            owner = controller_of(created)
            mine = owner is not None and owner["uid"] == uid_of(deployment)
            if not mine or not same_template(created["spec"]["template"], deployment["spec"]["template"]):
                await self._count_collision(deployment)
                raise
        self._replica_sets.remember(created)
        if replicas:
            message = f"Scaled up replica set {name_of(created)} from 0 to {replicas}"
            self._events(deployment, "Normal", "ScalingReplicaSet", message)
        return created

    async def _count_collision(self, deployment: Obj) -> None:
        """The name is taken by something else: the next attempt hashes to another."""
        status = deployment.get("status") or {}
        collisions = int(status.get("collisionCount") or 0) + 1
        body = {**deployment, "status": {**status, "collisionCount": collisions}}
        self._deployments.remember(await self._client.replace(DEPLOYMENTS, body, "status"))

    async def _resize(self, deployment: Obj, replica_set: Obj, replicas: int) -> Obj:
        limits = budget(deployment)
        marks = {DESIRED: str(limits.replicas), MAX_REPLICAS: str(limits.replicas + limits.surge)}
        present: Mapping[str, str] = annotations_of(replica_set)
        if size(replica_set) == replicas and all(present.get(key) == value for key, value in marks.items()):
            return replica_set
        before = size(replica_set)
        body = {"metadata": {"annotations": marks}, "spec": {"replicas": replicas}}
        changed = await self._patch(replica_set, body)
        if before != replicas:
            direction = "up" if replicas > before else "down"
            message = f"Scaled {direction} replica set {name_of(replica_set)} from {before} to {replicas}"
            self._events(deployment, "Normal", "ScalingReplicaSet", message)
        return changed

    async def _patch(self, replica_set: Obj, body: Obj) -> Obj:
        body["metadata"]["resourceVersion"] = replica_set["metadata"]["resourceVersion"]
        changed = await self._client.patch(REPLICA_SETS, namespace_of(replica_set), name_of(replica_set), body)
        self._replica_sets.remember(changed)
        return changed

    # --- status -----------------------------------------------------------------------------------------------------

    async def _write_status(self, deployment: Obj, new: Obj | None, every: Sequence[Obj]) -> Obj:
        now = time.time()
        status = progress.base_status(deployment, new, every, now)
        self._report_failures(status, new, every, now)
        progress.judge_pause(deployment, status, now)
        if not deployment["spec"].get("paused"):
            self._note_new(deployment, status, new, now)
            progress.judge_progress(deployment, status, new, now)
        if status != deployment.get("status"):
            # The revision annotation may have been written since: take the newest object.
            latest = self._deployments.get(key_of(deployment)) or deployment
            written = await self._client.replace(DEPLOYMENTS, {**latest, "status": status}, "status")
            self._deployments.remember(written)
        wait = progress.deadline_in(deployment, status, now)
        if wait is not None:
            self._queue.add_after(key_of(deployment), wait)
        return status

    def _note_new(self, deployment: Obj, status: Obj, new: Obj | None, now: float) -> None:
        """A rollout begins when its ReplicaSet appears: the deadline runs from there."""
        if new is None or not progress.has_deadline(deployment):
            return
        kind, known = progress.PROGRESSING, progress.find(status, progress.PROGRESSING) is not None
        if uid_of(new) in self._fresh:
            self._fresh.discard(uid_of(new))
            message = f'Created new replica set "{name_of(new)}"'
            progress.set_condition(status, kind, "True", "NewReplicaSetCreated", message, now=now)
        elif not known:
            message = f'Found new replica set "{name_of(new)}"'
            progress.set_condition(status, kind, "True", "FoundNewReplicaSet", message, now=now)

    def _report_failures(self, status: Obj, new: Obj | None, every: Sequence[Obj], now: float) -> None:
        for replica_set in [*([new] if new else []), *every]:
            failure = progress.find(replica_set.get("status") or {}, progress.FAILURE)
            if failure and failure["status"] == "True":
                progress.set_condition(status, progress.FAILURE, "True", failure["reason"], failure["message"], now=now)
                return
        progress.drop(status, progress.FAILURE)


def _is_scaling(deployment: Obj, every: Sequence[Obj]) -> bool:
    wanted = str(deployment["spec"].get("replicas", 1))
    return any(size(rs) > 0 and annotations_of(rs).get(DESIRED, wanted) != wanted for rs in every)


def _occupies(pod: Obj) -> bool:
    return is_active(pod) or is_deleting(pod)


def _owner_key(replica_set: Obj) -> list[str]:
    owner = controller_of(replica_set)
    return [f"{namespace_of(replica_set)}/{owner['name']}"] if owner and owner["kind"] == "Deployment" else []
