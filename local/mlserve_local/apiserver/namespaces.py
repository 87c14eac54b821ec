"""Namespaces gate creation and empty themselves before they go.

Deleting a namespace only marks it; everything inside is deleted in rounds until nothing is left, then the finalizer
``kubernetes`` is taken off and the namespace disappears. Each living one gets its ServiceAccount and root certificate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlserve_local.apiserver.errors import StatusError, forbidden, not_found
from mlserve_local.apiserver.registry import Resource

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

INITIAL: Final = ("default", "kube-node-lease", "kube-public", "kube-system")


class Namespaces:
    """The admission side of namespaces."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._resource = cluster.registry.builtin("namespaces")

    def check_open(self, resource: Resource, namespace: str, name: str) -> None:
        """Refuse to create in a namespace that is missing (404) or terminating (403)."""
        stored = self._cluster.registry.collection(self._resource).get("", namespace)
        if stored is None:
            raise not_found("namespaces", "", namespace)
        if stored.data["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            error: StatusError = forbidden(resource.plural, resource.group, name, why)
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            error.details = {**(error.details or {}), "causes": [cause]}
            raise error
