"""What every cluster contains before anybody has asked for anything, and what every namespace gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlserve_local.apiserver import rbac, rest
from mlserve_local.apiserver.decoding import Problems
from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.namespaces import INITIAL
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.rest import WriteOptions
from mlserve_local.apiserver.storage import Collection, Event

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

_LABEL: Final = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_OPTIONS: Final = WriteOptions(manager="mlserve-apiserver")


def ensure(cluster: Cluster, resource: Resource, obj: Obj, namespace: str = "") -> None:
    """Create an object unless there is one of that name."""
    name = obj["metadata"]["name"]
    if cluster.registry.collection(resource).get(namespace, name) is None:
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        rest.create(cluster, resource, rest.decode(resource, full, Problems()), namespace, _OPTIONS)


class NamespaceFurniture:
    """Puts the ServiceAccount ``default`` and the root certificate into every living namespace."""

    def __init__(self, cluster: Cluster, ca_certificate: str) -> None:
        self._cluster = cluster
        self._certificate = ca_certificate

    def furnish(self, namespace: str) -> None:
        """Create what a namespace lacks."""
        registry = self._cluster.registry
        ensure(self._cluster, registry.builtin("serviceaccounts"), {"metadata": {"name": "default"}}, namespace)
        data = {"ca.crt": self._certificate}
        note = {"kubernetes.io/description": "Contains a CA bundle that can be used to verify the API server."}
        metadata = {"name": "kube-root-ca.crt", "annotations": note}
        ensure(self._cluster, registry.builtin("configmaps"), {"metadata": metadata, "data": data}, namespace)

    def changed(self, collection: Collection, event: Event) -> None:
        """A listener of the store."""
        if collection.key == "/namespaces" and event.type == "ADDED":
            self.furnish(event.after.name)
        elif event.type == "DELETED" and (collection.key, event.after.name) in (
            ("/serviceaccounts", "default"),
            ("/configmaps", "kube-root-ca.crt"),
        ):
            space = self._cluster.registry.collection(self._cluster.registry.builtin("namespaces")).get(
                "", event.after.namespace
            )
            if space is not None and not space.data["metadata"].get("deletionTimestamp"):
                self.furnish(event.after.namespace)


def populate(cluster: Cluster, ca_certificate: str = "") -> None:
    """Namespaces, roles, bindings, and the Service of the API server itself."""
    furniture = NamespaceFurniture(cluster, ca_certificate)
    cluster.store.listeners.append(furniture.changed)
    registry = cluster.registry
    for name in INITIAL:
        ensure(cluster, registry.builtin("namespaces"), {"metadata": {"name": name}})
    for name, rules in rbac.ROLES.items():
        role: dict[str, Any] = {"metadata": {"name": name, "labels": _LABEL}, "rules": rules}
        if name in rbac.AGGREGATED:
            label = f"rbac.authorization.k8s.io/{rbac.AGGREGATED[name]}"
            role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}
        ensure(cluster, registry.builtin("clusterroles", rbac.GROUP), role)
    for name, groups in rbac.BINDINGS.items():
        subjects = [{"kind": "Group", "name": g, "apiGroup": rbac.GROUP} for g in groups]
        reference = {"apiGroup": rbac.GROUP, "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name, "labels": _LABEL}, "subjects": subjects, "roleRef": reference}
        ensure(cluster, registry.builtin("clusterrolebindings", rbac.GROUP), binding)
