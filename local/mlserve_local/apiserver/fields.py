"""Which fields of a kind can be selected by ``fieldSelector``, as a table."""

from __future__ import annotations

from typing import Final

from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.selectors import FieldGetter, FieldSelector, build_field_selector, path_getter

_INVOLVED: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
# Resource -> {field: (path, value of an absent field)}
SELECTABLE: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "v1/pods": {
        **{
            f: (f, "")
            for f in (
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            )
        },
        "spec.hostNetwork": ("spec.hostNetwork", "false"),
    },
    "v1/nodes": {"spec.unschedulable": ("spec.unschedulable", "false")},
    "v1/namespaces": {"status.phase": ("status.phase", "")},
    "v1/secrets": {"type": ("type", "")},
    "v1/services": {"spec.clusterIP": ("spec.clusterIP", ""), "spec.type": ("spec.type", "")},
    "v1/replicationcontrollers": {"status.replicas": ("status.replicas", "0")},
    "v1/events": {
        **{f"involvedObject.{f}": (f"involvedObject.{f}", "") for f in _INVOLVED},
        "reason": ("reason", ""),
        "reportingComponent": ("reportingComponent", ""),
        "source": ("source.component", ""),
        "type": ("type", ""),
    },
    "events.k8s.io/v1/events": {
        **{f"regarding.{f}": (f"regarding.{f}", "") for f in _INVOLVED},
        "reason": ("reason", ""),
        "reportingController": ("reportingController", ""),
        "type": ("type", ""),
    },
    "apps/v1/replicasets": {"status.replicas": ("status.replicas", "0")},
    "batch/v1/jobs": {"status.successful": ("status.succeeded", "0")},
    "certificates.k8s.io/v1/certificatesigningrequests": {"spec.signerName": ("spec.signerName", "")},
}


def selector(resource: Resource, text: str) -> FieldSelector:
    """Parse a field selector for a resource; 400 if a field is not selectable."""
    if not text:
        return FieldSelector()
    getters: dict[str, FieldGetter] = {"metadata.name": path_getter("metadata.name")}
    own = SELECTABLE.get(f"{resource.api_version}/{resource.plural}")
    if resource.namespaced or (resource.custom is None and own is None):
        getters["metadata.namespace"] = path_getter("metadata.namespace")
    for field, (path, absent) in (own or {}).items():
        getters[field] = path_getter(path, absent)
    if "source" in getters:  # Events of the new API name their reporter elsewhere
        component, reporter = getters["source"], path_getter("reportingComponent")
        getters["source"] = lambda obj: component(obj) or reporter(obj)
    if resource.custom is not None:
        getters |= {path: path_getter(path) for path in resource.custom.selectable}

    def unsupported(field: str) -> str:
        if own is not None or resource.custom is not None:
            return f"field label not supported: {field}"
        return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'

    return build_field_selector(text, getters, unsupported)
