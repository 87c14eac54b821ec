"""Which ReplicaSet belongs to a Deployment's present template, and which revision is which. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from mlserve_local.controllers.rolling import DESIRED, MAX_REPLICAS, budget, size
from mlserve_local.objects import (
    DEPLOYMENTS,
    Obj,
    annotations_of,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    safe_hash,
)

HASH_LABEL: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
HISTORY: Final = "deployment.kubernetes.io/revision-history"
_OWN: Final = ("kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX_REPLICAS)


def same_template(left: Obj, right: Obj) -> bool:
    """Equal but for the hash label that the controller adds."""
    return _plain(left) == _plain(right)


def _plain(template: Obj) -> Obj:
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    kept = {key: value for key, value in metadata.items() if key not in ("labels", "creationTimestamp") and value}
    return {"metadata": {**kept, "labels": labels}, "spec": template["spec"]}


def find_new(deployment: Obj, replica_sets: Sequence[Obj]) -> Obj | None:
    """The oldest ReplicaSet with the Deployment's template."""
    found = [rs for rs in replica_sets if same_template(rs["spec"]["template"], deployment["spec"]["template"])]
    return min(found, key=lambda rs: (rs["metadata"].get("creationTimestamp", ""), name_of(rs)), default=None)


def revision_of(obj: Obj) -> int:
    """The revision annotation as a number, 0 without one."""
    return int(annotations_of(obj).get(REVISION) or 0)


def template_hash(deployment: Obj) -> str:
    """Names the template; a collision count of the status gives another name for the same template."""
    text = json.dumps(_plain(deployment["spec"]["template"]), sort_keys=True)
    collisions = (deployment.get("status") or {}).get("collisionCount")
    return safe_hash(text + str(collisions or ""))


def annotations_for(deployment: Obj, replica_set: Obj | None, revision: int) -> dict[str, str]:
    """Annotations of the new ReplicaSet: the Deployment's, its sizes, its revision and the revisions it was before."""
    limits = budget(deployment)
    inherited = {key: value for key, value in annotations_of(deployment).items() if key not in _OWN}
    present = annotations_of(replica_set) if replica_set else {}
    found = {
        **present,
        **inherited,
        DESIRED: str(limits.replicas),
        MAX_REPLICAS: str(limits.replicas + limits.surge),
    }
    old = revision_of(replica_set) if replica_set else 0
    if old < revision:
        found[REVISION] = str(revision)
        if old:
            found[HISTORY] = ",".join(filter(None, [present.get(HISTORY), str(old)]))
    return found


def new_replica_set(deployment: Obj, revision: int, replicas: int) -> Obj:
    """The ReplicaSet of the Deployment's present template."""
    spec = deployment["spec"]
    name = template_hash(deployment)
    template_metadata = spec["template"].get("metadata") or {}
    labels = {**(template_metadata.get("labels") or {}), HASH_LABEL: name}
    selector = spec["selector"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name_of(deployment)}-{name}",
            "namespace": namespace_of(deployment),
            "labels": labels,
            "annotations": annotations_for(deployment, None, revision),
            "ownerReferences": [owner_reference(deployment, DEPLOYMENTS)],
        },
        "spec": {
            "replicas": replicas,
            **({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: name}},
            "template": {**spec["template"], "metadata": {**template_metadata, "labels": labels}},
        },
    }


def surplus(deployment: Obj, old: Sequence[Obj]) -> list[Obj]:
    """Old empty ReplicaSets beyond the history limit, oldest first."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    empty = [rs for rs in old if size(rs) == 0 and not (rs.get("status") or {}).get("replicas") and labels_of(rs)]
    empty.sort(key=lambda rs: (revision_of(rs), rs["metadata"].get("creationTimestamp", "")))
    return empty[: max(0, len(empty) - limit)]
