"""Namespaces gate creation and empty themselves before they go.

Deleting a namespace only marks it; everything inside is deleted in rounds until nothing is left, then the finalizer
``kubernetes`` is taken off and the namespace disappears. Each living one gets its ServiceAccount and root certificate.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from mlserve_local.apiserver.errors import Obj, StatusError, forbidden, not_found
from mlserve_local.apiserver.registry import Registry, Resource
from mlserve_local.apiserver.storage import Stored

INITIAL: Final = ("default", "kube-node-lease", "kube-public", "kube-system")


def deletion_conditions(left: dict[str, list[Stored]]) -> list[Obj]:
    """What the status of a terminating namespace says about ``left``, its remaining objects by resource."""
    counts = [f"{resource} has {len(found)} resource instances" for resource, found in sorted(left.items())]
    holders = Counter(f for found in left.values() for s in found for f in s.data["metadata"].get("finalizers", ()))
    held = [f"{name} in {count} resource instances" for name, count in sorted(holders.items())]
    remaining = f"Some resources are remaining: {', '.join(counts)}"
    finalizers = f"Some content in the namespace has finalizers remaining: {', '.join(held)}"
    rows = (
        ("DeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered"),
        (
            "DeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "DeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("ContentRemaining", "True", "SomeResourcesRemain", remaining),
        ("FinalizersRemaining", "True", "SomeFinalizersRemain", finalizers)
        if held
        else ("FinalizersRemaining", "False", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    )
    return [
        {"type": f"Namespace{kind}", "status": status, "reason": reason, "message": message}
        for kind, status, reason, message in rows
    ]


class Namespaces:
    """The admission side of namespaces."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._resource = registry.builtin("namespaces")

    def check_open(self, resource: Resource, namespace: str, name: str) -> None:
        """Refuse to create in a namespace that is missing (404) or terminating (403)."""
        stored = self._registry.collection(self._resource).get("", namespace)
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
