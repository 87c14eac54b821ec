"""Everything the API server holds, in one place: the store, the registry and the parts that watch over them."""

from __future__ import annotations

import copy
from pathlib import Path

from mlserve_local.apiserver import namespaces, rbac, tokens
from mlserve_local.apiserver.addresses import AddressPool
from mlserve_local.apiserver.crd import CustomResources
from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.registry import Registry, Resource
from mlserve_local.apiserver.storage import Store, Stored


class Cluster:
    """The state behind the HTTP surface. Not thread-safe: lives on one event loop."""

    def __init__(self, directory: Path | None = None, service_cidr: str = "10.96.0.0/16") -> None:
        self.store = Store(directory)
        self.registry = Registry(self.store)
        self.custom = CustomResources(self.store, self.registry)
        self.namespaces = namespaces.Namespaces(self.registry)
        self.addresses = AddressPool(service_cidr, self.registry)
        self.authorizer = rbac.Authorizer(self.registry)
        self.tokens = tokens.TokenIssuer(self.registry, directory)
        self.custom.load()

    def commit(self, resource: Resource, obj: Obj, live: Stored | None, *, dry_run: bool = False) -> Stored:
        """Write an object, or show what would have been written."""
        if dry_run:
            revision = live.revision if live is not None else 0
            if live is not None:
                obj["metadata"]["resourceVersion"] = live.data["metadata"]["resourceVersion"]
            return Stored(obj, revision)
        collection = self.registry.collection(resource)
        metadata = obj["metadata"]
        leaving = metadata.get("deletionTimestamp") and not metadata.get("finalizers")
        if (
            live is not None
            and leaving
            and not metadata.get("deletionGracePeriodSeconds")
            and not self._waits(resource, obj)
        ):
            self.store.delete(collection, live, obj)
            return Stored(obj, live.revision)
        stored = self.store.write(collection, obj)
        if resource.key == "apiextensions.k8s.io/customresourcedefinitions":
            self.custom.changed(stored.name)
        return stored

    @staticmethod
    def _waits(resource: Resource, obj: Obj) -> bool:
        """Namespaces also wait for ``spec.finalizers``."""
        return resource.key == "/namespaces" and bool(obj.get("spec", {}).get("finalizers"))

    def edit(self, resource: Resource, stored: Stored) -> Obj:
        """A private copy of an object, to change and commit."""
        return copy.deepcopy(stored.data)

    def close(self) -> None:
        """End all watches and close the file."""
        for collection in self.store.collections():
            collection.close()
        self.store.close()
