"""What every controller keeps asking of an API object: its key, its owner, its conditions, does a selector match.

Objects stay plain dictionaries, as the API sends them: a typed mirror of the Kubernetes API would be larger than
everything that uses it. Nothing here does input or output.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind lives in the API: `Resource("apps/v1", "deployments", "Deployment")`."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path; without a namespace the collection over all namespaces."""
        root = "/api/v1" if self.group_version == "v1" else f"/apis/{self.group_version}"
        parts = [root, *(["namespaces", namespace] if self.namespaced and namespace else []), self.plural]
        return "/".join([*parts, *([name] if name else []), *([subresource] if subresource else [])])


PODS: Final = Resource("v1", "pods", "Pod")
NODES: Final = Resource("v1", "nodes", "Node", namespaced=False)
SERVICES: Final = Resource("v1", "services", "Service")
ENDPOINTS: Final = Resource("v1", "endpoints", "Endpoints")
CONFIG_MAPS: Final = Resource("v1", "configmaps", "ConfigMap")
SECRETS: Final = Resource("v1", "secrets", "Secret")
EVENTS: Final = Resource("v1", "events", "Event")
DEPLOYMENTS: Final = Resource("apps/v1", "deployments", "Deployment")
REPLICA_SETS: Final = Resource("apps/v1", "replicasets", "ReplicaSet")
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
AUTOSCALERS: Final = Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
JOBS: Final = Resource("batch/v1", "jobs", "Job")
DISRUPTION_BUDGETS: Final = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
LEASES: Final = Resource("coordination.k8s.io/v1", "leases", "Lease")


def key_of(obj: Obj) -> str:
    """`namespace/name`, or the name alone of a cluster-scoped object."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def split_key(key: str) -> tuple[str, str]:
    """The inverse of key_of; the namespace is empty for cluster-scoped objects."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def name_of(obj: Obj) -> str:
    """metadata.name."""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Obj) -> str:
    """metadata.namespace; empty for cluster-scoped objects."""
    return str(obj["metadata"].get("namespace", ""))


def uid_of(obj: Obj) -> str:
    """metadata.uid."""
    return str(obj["metadata"].get("uid", ""))


def labels_of(obj: Obj) -> dict[str, str]:
    """metadata.labels, never None."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Obj) -> dict[str, str]:
    """metadata.annotations, never None."""
    return obj["metadata"].get("annotations") or {}


def is_deleting(obj: Obj) -> bool:
    """Has its deletion begun?"""
    return bool(obj["metadata"].get("deletionTimestamp"))


def version_of(obj: Obj) -> int:
    """ResourceVersion as a number: Kubernetes guarantees that versions of one kind compare as integers."""
    return int(obj["metadata"].get("resourceVersion") or 0)


# --- time -----------------------------------------------------------------------------------------------------------


def timestamp(moment: float) -> str:
    """Seconds since the epoch as `2026-01-02T03:04:05Z`, the API's Time."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: float) -> str:
    """Seconds since the epoch as the API's MicroTime, six digits of fraction."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment_of(text: str | None) -> float | None:
    """The inverse of timestamp and micro_timestamp; None stays None."""
    return datetime.fromisoformat(text).timestamp() if text else None


# --- owners ---------------------------------------------------------------------------------------------------------


def controller_of(obj: Obj) -> Obj | None:
    """The owner reference marked `controller`, if any."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def owner_uid(obj: Obj) -> str:
    """UID of the controlling owner, or nothing."""
    owner = controller_of(obj)
    return str(owner["uid"]) if owner else ""


def owner_reference(owner: Obj, resource: Resource) -> Obj:
    """A controlling reference that also blocks foreground deletion of the owner, as controllers set it."""
    return {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


# --- selectors ------------------------------------------------------------------------------------------------------


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Evaluate a metav1 LabelSelector; None matches nothing, the empty selector everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(e, labels) for e in selector.get("matchExpressions") or ())


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case "Lt":
            return value is not None and int(value) < int(values[0])
    return False


# --- conditions -----------------------------------------------------------------------------------------------------


def condition(obj: Obj, kind: str) -> Obj | None:
    """The entry of status.conditions of that type."""
    for entry in (obj.get("status") or {}).get("conditions") or ():
        if entry["type"] == kind:
            return dict(entry)
    return None


def is_true(obj: Obj, kind: str) -> bool:
    """Is that condition there with status True?"""
    entry = condition(obj, kind)
    return entry is not None and entry.get("status") == "True"


def with_transition(new: Obj, old: Obj | None, now: str) -> Obj:
    """`new` with the old lastTransitionTime if the status is the same, else with `now`."""
    same = old is not None and old.get("status") == new["status"] and old.get("lastTransitionTime")
    return {**new, "lastTransitionTime": old["lastTransitionTime"] if same and old else now}


# --- numbers --------------------------------------------------------------------------------------------------------


def scaled(value: int | str | None, total: int, *, round_up: bool) -> int:
    """An IntOrString resolved against a total.

    >>> scaled("25%", 2, round_up=True), scaled("25%", 2, round_up=False), scaled(3, 2, round_up=True)
    (1, 0, 3)
    """
    if value is None:
        return 0
    text = str(value)
    if not text.endswith("%"):
        return int(text)
    share = int(text[:-1]) * total / 100
    return math.ceil(share) if round_up else math.floor(share)


_SAFE: Final = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no look-alikes: generated names shall spell nothing."""


def safe_hash(text: str, length: int = 10) -> str:
    """A hash that may be part of a name, in the alphabet of generated names."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    letters = []
    for _ in range(length):
        number, index = divmod(number, len(_SAFE))
        letters.append(_SAFE[index])
    return "".join(letters)


def without_empty(pairs: Iterable[tuple[str, Any]]) -> Obj:
    """A dictionary without zeros, empty strings, empty containers and None: Go's `omitempty`."""
    return {key: value for key, value in pairs if value not in (0, "", None, [], {})}
