"""Labels, names and ownership of everything the operator makes."""

from __future__ import annotations

from typing import Any, Final

from mlserve_core.api import v1alpha1 as api
from mlserve_core.wire import (
    COMPONENT_ROUTER,
    COMPONENT_RUNTIME,
    FIELD_MANAGER,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_MODELDEPLOYMENT,
    LABEL_NAME,
    LABEL_PART_OF,
    LABEL_REVISION,
)

Object = dict[str, Any]

MANAGED: Final = {LABEL_MANAGED_BY: FIELD_MANAGER}
"""On every child; the watches select by it."""


def model_labels(name: str, revision: str = "") -> dict[str, str]:
    """Labels of an object that belongs to one ModelDeployment, or to one of its revisions."""
    labels = {
        LABEL_NAME: "mlserve",
        LABEL_INSTANCE: name,
        LABEL_COMPONENT: COMPONENT_RUNTIME,
        LABEL_PART_OF: name,
        **MANAGED,
        LABEL_MODELDEPLOYMENT: name,
    }
    return {**labels, LABEL_REVISION: revision} if revision else labels


def router_labels(router: str) -> dict[str, str]:
    """Labels of a router's objects. They belong to no single ModelDeployment, so they carry no such label."""
    return {
        LABEL_NAME: "mlserve",
        LABEL_INSTANCE: router,
        LABEL_COMPONENT: COMPONENT_ROUTER,
        LABEL_PART_OF: "mlserve",
        **MANAGED,
    }


def runtime_selector(name: str, revision: str = "") -> dict[str, str]:
    """What selects the runtime pods of a ModelDeployment or of one revision; immutable in a Deployment."""
    labels = {LABEL_MODELDEPLOYMENT: name, LABEL_COMPONENT: COMPONENT_RUNTIME}
    return {**labels, LABEL_REVISION: revision} if revision else labels


def router_selector(router: str) -> dict[str, str]:
    """What selects a router's pods; immutable in a Deployment."""
    return {LABEL_INSTANCE: router, LABEL_COMPONENT: COMPONENT_ROUTER}


def owner_reference(owner: Object, *, controller: bool = True) -> Object:
    """Ownership by a ModelDeployment: Kubernetes collects the child, whether or not the operator runs.

    It does not block the owner's deletion: that would need a permission on finalizers and gain nothing.
    """
    reference = {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    return {**reference, "controller": True} if controller else reference


def is_owned_by(body: Object, uid: str) -> bool:
    """Whether that ModelDeployment is among the owners of an object."""
    return any(reference.get("uid") == uid for reference in body["metadata"].get("ownerReferences") or ())


def child(api_version: str, kind: str, name: str, owner: Object, labels: dict[str, str], **content: Any) -> Object:
    """An object of one ModelDeployment."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(owner)],
        },
        **content,
    }
