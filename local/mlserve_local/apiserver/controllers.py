"""Work that belongs to the API server's own state: garbage collection and the emptying of namespaces.

One background task looks at every change once. Objects whose owners are gone are deleted, foreground and orphaning
deletions are carried through, and a terminating namespace is emptied and then removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from mlserve_local.apiserver import namespaces, times
from mlserve_local.apiserver.deletion import FOREGROUND, ORPHAN, DeleteOptions, delete
from mlserve_local.apiserver.errors import Obj, StatusError
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.storage import Collection, Event, Stored

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

logger = logging.getLogger(__name__)

Key = tuple[str, str, str]  # collection, namespace, name
_BATCH: Final = 50


class Janitor:
    """Consumes changes of all collections. ``run`` until cancelled."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._dependents: dict[str, set[Key]] = defaultdict(set)
        self._queue: dict[Key, None] = {}
        self._spaces: dict[str, None] = {}
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Index what is stored, and listen from now on."""
        for resource in list(self._cluster.registry.storage_resources()):
            collection = self._cluster.registry.collection(resource)
            for stored in collection:
                self._index(collection, stored)
                self._queue[collection.key, stored.namespace, stored.name] = None
                if collection.key == "/namespaces":
                    self._spaces[stored.name] = None
        self._cluster.store.listeners.append(self._changed)
        self._wake.set()

    def _index(self, collection: Collection, stored: Stored) -> None:
        for reference in stored.data["metadata"].get("ownerReferences") or ():
            self._dependents[reference["uid"]].add((collection.key, stored.namespace, stored.name))

    def _changed(self, collection: Collection, event: Event) -> None:
        stored = event.after
        metadata = stored.data["metadata"]
        key = (collection.key, stored.namespace, stored.name)
        if event.type == "DELETED":
            for reference in metadata.get("ownerReferences") or ():
                self._forget(reference["uid"], key)
                self._requeue_owner(reference, stored.namespace)
            for dependent in self._dependents.get(stored.uid, ()):
                self._queue[dependent] = None
            if metadata.get("finalizers"):
                self._cluster.custom.resume_deletions()
        else:
            self._index(collection, stored)
            if metadata.get("ownerReferences") or metadata.get("deletionTimestamp"):
                self._queue[key] = None
        if collection.key == "/namespaces":
            self._spaces[stored.name] = None
        elif event.type == "DELETED" and stored.namespace:
            self._spaces[stored.namespace] = None
        if collection.key == "/nodes" and event.type == "DELETED":
            self._orphaned_pods(stored.name)
        if self._queue or self._spaces:
            self._wake.set()

    def _forget(self, uid: str, key: Key) -> None:
        found = self._dependents.get(uid)
        if found is not None:
            found.discard(key)
            if not found:
                del self._dependents[uid]

    def _requeue_owner(self, reference: Obj, namespace: str) -> None:
        """An owner that is being deleted in the foreground may have waited for this dependent."""
        resource = self._cluster.registry.by_kind(reference.get("apiVersion", ""), reference.get("kind", ""))
        if resource is not None:
            self._queue[resource.key, namespace if resource.namespaced else "", reference.get("name", "")] = None

    def _orphaned_pods(self, node: str) -> None:
        """Nobody will ever stop the pods of a node that is gone."""
        pods = self._cluster.registry.builtin("pods")
        for stored in self._cluster.registry.collection(pods).list():
            if stored.data["spec"].get("nodeName") == node:
                self._queue["/pods", stored.namespace, stored.name] = None

    async def run(self) -> None:
        """Work off the queue, a batch at a time so that requests get their turn."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue or self._spaces:
                for _ in range(min(_BATCH, len(self._queue))):
                    key = next(iter(self._queue))
                    del self._queue[key]
                    self._attempt(key)
                spaces, self._spaces = self._spaces, {}
                for name in spaces:
                    self._empty(name)
                await asyncio.sleep(0)

    def _find(self, key: Key) -> tuple[Resource, Stored] | None:
        resource = next((r for r in self._cluster.registry.storage_resources() if r.key == key[0]), None)
        if resource is None:
            return None
        stored = self._cluster.registry.collection(resource).get(key[1], key[2])
        return (resource, stored) if stored is not None else None

    def _attempt(self, key: Key) -> None:
        found = self._find(key)
        if found is None:
            return
        resource, stored = found
        try:
            metadata = stored.data["metadata"]
            if metadata.get("deletionTimestamp"):
                self._deleting(resource, stored)
            elif key[0] == "/pods" and self._node_is_gone(stored):
                delete(self._cluster, resource, stored, DeleteOptions(grace_seconds=0))
            elif metadata.get("ownerReferences"):
                self._check_owners(resource, stored)
        except StatusError as error:
            logger.warning("garbage collection of %s: %s", key, error)

    def _node_is_gone(self, pod: Stored) -> bool:
        node = pod.data["spec"].get("nodeName")
        nodes = self._cluster.registry.collection(self._cluster.registry.builtin("nodes"))
        return bool(node) and nodes.get("", node) is None and bool(pod.data["metadata"].get("deletionTimestamp"))

    def _owner(self, reference: Obj, namespace: str) -> Stored | bool | None:
        """The owner; None if it is gone; True if its kind is not known here, so nothing can be said."""
        resource = self._cluster.registry.by_kind(reference.get("apiVersion", ""), reference.get("kind", ""))
        if resource is None:
            return True
        space = namespace if resource.namespaced else ""
        stored = self._cluster.registry.collection(resource).get(space, reference.get("name", ""))
        return stored if stored is not None and stored.uid == reference.get("uid") else None

    def _check_owners(self, resource: Resource, stored: Stored) -> None:
        references = stored.data["metadata"]["ownerReferences"]
        owners = [(r, self._owner(r, stored.namespace)) for r in references]
        waiting = [
            (r, o)
            for r, o in owners
            if isinstance(o, Stored)
            and o.data["metadata"].get("deletionTimestamp")
            and FOREGROUND in o.data["metadata"].get("finalizers", ())
        ]
        solid = [r for r, o in owners if o is True or (isinstance(o, Stored) and (r, o) not in waiting)]
        if len(solid) == len(owners):
            return
        if solid:
            obj = self._cluster.edit(resource, stored)
            obj["metadata"]["ownerReferences"] = solid
            self._cluster.commit(resource, obj, stored)
            return
        policy = "Foreground" if waiting and self._dependents.get(stored.uid) else "Background"
        delete(self._cluster, resource, stored, DeleteOptions(policy=policy))

    def _deleting(self, resource: Resource, stored: Stored) -> None:
        finalizers = stored.data["metadata"].get("finalizers") or []
        if resource.key == "/pods" and not finalizers and self._node_is_gone(stored):
            delete(self._cluster, resource, stored, DeleteOptions(grace_seconds=0))
        elif ORPHAN in finalizers:
            for key in list(self._dependents.get(stored.uid, ())):
                self._release(key, stored.uid)
            self._drop_finalizer(resource, stored, ORPHAN)
        elif FOREGROUND in finalizers:
            self._foreground(resource, stored)

    def _release(self, key: Key, uid: str) -> None:
        found = self._find(key)
        if found is None:
            return
        resource, dependent = found
        obj = self._cluster.edit(resource, dependent)
        kept = [r for r in obj["metadata"].get("ownerReferences") or () if r["uid"] != uid]
        obj["metadata"]["ownerReferences"] = kept
        if not kept:
            del obj["metadata"]["ownerReferences"]
        self._cluster.commit(resource, obj, dependent)
        self._forget(uid, key)

    def _foreground(self, resource: Resource, owner: Stored) -> None:
        """Delete the dependents first; those that block hold the owner back, unless they wait for it in a circle."""
        blocked = False
        for key in list(self._dependents.get(owner.uid, ())):
            found = self._find(key)
            if found is None:
                self._forget(owner.uid, key)
                continue
            kind, dependent = found
            metadata = dependent.data["metadata"]
            if not metadata.get("deletionTimestamp"):
                self._check_owners(kind, dependent)
                found = self._find(key)
                if found is None:
                    continue
                dependent = found[1]
                metadata = dependent.data["metadata"]
            reference = next((r for r in metadata.get("ownerReferences") or () if r["uid"] == owner.uid), None)
            circle = FOREGROUND in (metadata.get("finalizers") or ()) and self._depends_on(owner, dependent.uid)
            blocked |= bool(reference and reference.get("blockOwnerDeletion")) and not circle
        if not blocked:
            self._drop_finalizer(resource, owner, FOREGROUND)

    def _depends_on(self, start: Stored, uid: str) -> bool:
        seen: set[str] = set()
        pending = [start]
        while pending:
            for reference in pending.pop().data["metadata"].get("ownerReferences") or ():
                if reference["uid"] == uid:
                    return True
                owner = self._owner(reference, start.namespace)
                if isinstance(owner, Stored) and owner.uid not in seen:
                    seen.add(owner.uid)
                    pending.append(owner)
        return False

    def _drop_finalizer(self, resource: Resource, stored: Stored, name: str) -> None:
        obj = self._cluster.edit(resource, stored)
        obj["metadata"]["finalizers"] = [f for f in obj["metadata"].get("finalizers", ()) if f != name]
        if not obj["metadata"]["finalizers"]:
            del obj["metadata"]["finalizers"]
        self._cluster.commit(resource, obj, stored)

    def _empty(self, name: str) -> None:
        """Delete everything in a terminating namespace, then the namespace."""
        spaces = self._cluster.registry.builtin("namespaces")
        stored = self._cluster.registry.collection(spaces).get("", name)
        if stored is None or not stored.data["metadata"].get("deletionTimestamp"):
            return
        left: dict[str, list[Stored]] = {}
        for resource in list(self._cluster.registry.storage_resources()):
            if not resource.namespaced:
                continue
            collection = self._cluster.registry.collection(resource)
            for item in collection.list(name):
                if not item.data["metadata"].get("deletionTimestamp"):
                    delete(self._cluster, resource, item, DeleteOptions(policy="Background"))
                elif self._node_is_gone(item) if resource.key == "/pods" else False:
                    delete(self._cluster, resource, item, DeleteOptions(grace_seconds=0))
            if remaining := collection.list(name):
                left[f"{resource.plural}.{resource.group}"] = remaining
        if left:
            self._tell_what_remains(spaces, stored, left)
        elif stored.data["spec"].get("finalizers"):
            obj = self._cluster.edit(spaces, stored)
            obj["spec"].pop("finalizers", None)
            self._cluster.commit(spaces, obj, stored)

    def _tell_what_remains(self, spaces: Resource, stored: Stored, left: dict[str, list[Stored]]) -> None:
        obj = self._cluster.edit(spaces, stored)
        old = {c["type"]: c for c in obj["status"].get("conditions") or ()}
        conditions = namespaces.deletion_conditions(left)
        for condition in conditions:
            before = old.get(condition["type"], {})
            same = before.get("status") == condition["status"]
            condition["lastTransitionTime"] = before["lastTransitionTime"] if same else times.now()
        obj["status"]["conditions"] = conditions
        if obj != stored.data:
            self._cluster.commit(spaces, obj, stored)
