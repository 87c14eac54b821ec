"""Deleting: at once, after a grace period, or when the last finalizer is gone."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlserve_local.apiserver import times
from mlserve_local.apiserver.crd import CLEANUP_FINALIZER
from mlserve_local.apiserver.decoding import json_kind
from mlserve_local.apiserver.errors import (
    FieldError,
    Obj,
    bad_request,
    conflict,
    forbidden,
    invalid_options,
    invalid_value,
    not_supported,
)
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.storage import Stored

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

POLICIES: Final = ("Foreground", "Background", "Orphan")
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@dataclass(slots=True)
class DeleteOptions:
    """How a deletion was asked for, by query and body."""

    grace_seconds: int | None = None
    policy: str = ""
    dry_run: bool = False
    preconditions: Obj = field(default_factory=dict)

    @classmethod
    def read(cls, body: Obj, query: dict[str, list[str]]) -> DeleteOptions:
        """Merge body and query; 422 for values that mean nothing."""
        policy = body.get("propagationPolicy") or next(iter(query.get("propagationPolicy", ())), "")
        orphan = body.get("orphanDependents")
        if orphan is None and "orphanDependents" in query:
            orphan = query["orphanDependents"][0] == "true"
        dry_run = body.get("dryRun") or query.get("dryRun") or []
        found: list[FieldError] = []
        if orphan is not None and policy:
            text = "orphanDependents and deletionPropagation cannot be both set"
            found.append(invalid_value("propagationPolicy", policy, text))
        elif policy and policy not in POLICIES:
            found.append(not_supported("propagationPolicy", policy, [*POLICIES, "nil"]))
        if any(d != "All" for d in dry_run):
            found.append(not_supported("dryRun", dry_run, ["All"]))
        if found:
            raise invalid_options("DeleteOptions", found)
        if orphan is not None:
            policy = "Orphan" if orphan else "Background"
        grace: Any = body.get("gracePeriodSeconds")
        if grace is None and query.get("gracePeriodSeconds"):
            grace = query["gracePeriodSeconds"][0]
            if not re.fullmatch(r"[+-]?\d+", grace):
                raise bad_request(f'strconv.ParseInt: parsing "{grace}": invalid syntax')
            grace = int(grace)
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int)):
            raise bad_request(
                'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal '
                f"{json_kind(grace)} into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
            )
        return cls(grace, policy, bool(dry_run), body.get("preconditions") or {})


def delete(cluster: Cluster, resource: Resource, stored: Stored, options: DeleteOptions) -> tuple[Stored, bool]:
    """Delete or mark an object. Returns its last or present state and whether it is gone."""
    _check(resource, stored, options)
    if resource.key == "/namespaces":
        return _mark_namespace(cluster, resource, stored, options)
    if resource.key == "apiextensions.k8s.io/customresourcedefinitions":
        return _mark_definition(cluster, resource, stored, options)
    metadata = stored.data["metadata"]
    finalizers = _finalizers(metadata.get("finalizers", []), options.policy)
    grace = _grace(resource, stored.data, options)
    deleting = metadata.get("deletionTimestamp")
    force = resource.key == "/pods" and grace == 0 and bool(metadata.get("deletionGracePeriodSeconds"))
    if deleting and not force and finalizers == metadata.get("finalizers", []):
        if not finalizers and grace == 0:
            return _remove(cluster, resource, stored, stored.data, options), True
        if grace >= (metadata.get("deletionGracePeriodSeconds") or 0):
            return stored, False
    last = copy.deepcopy(stored.data)
    made = last["metadata"]
    if not deleting and made.get("generation"):
        made["generation"] += 1
    made |= {"deletionTimestamp": times.after(grace), "deletionGracePeriodSeconds": grace}
    made["finalizers"] = finalizers
    if not finalizers:
        del made["finalizers"]
        if grace == 0:
            return _leave(cluster, resource, stored, last, options), True
    return cluster.commit(resource, last, stored, dry_run=options.dry_run), False


def _check(resource: Resource, stored: Stored, options: DeleteOptions) -> None:
    uid, revision = options.preconditions.get("uid"), options.preconditions.get("resourceVersion")
    if uid and uid != stored.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {stored.uid}"
        raise conflict(resource.plural, resource.group, stored.name, why)
    present = stored.data["metadata"]["resourceVersion"]
    if revision and revision != present:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion in object "
            f"meta: {present}"
        )
        raise conflict(resource.plural, resource.group, stored.name, why)


def _finalizers(present: list[str], policy: str) -> list[str]:
    """The finalizers that the propagation policy asks for, besides those of others."""
    kept = [f for f in present if f not in (FOREGROUND, ORPHAN)] if policy else list(present)
    if policy == "Foreground":
        kept.append(FOREGROUND)
    elif policy == "Orphan":
        kept.append(ORPHAN)
    return kept


def _grace(resource: Resource, data: Obj, options: DeleteOptions) -> int:
    """Only pods that run somewhere get time to stop."""
    if resource.key != "/pods":
        return 0
    spec, status = data.get("spec") or {}, data.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    wanted = options.grace_seconds
    if wanted is None:
        wanted = spec.get("terminationGracePeriodSeconds", 30)
    return max(int(wanted), 1) if wanted < 0 else int(wanted)


def _remove(cluster: Cluster, resource: Resource, stored: Stored, last: Obj, options: DeleteOptions) -> Stored:
    if options.dry_run:
        return Stored(last, stored.revision)
    return cluster.store.delete(cluster.registry.collection(resource), stored, last)


IMMORTAL: Final = ("default", "kube-public", "kube-system")


def _leave(cluster: Cluster, resource: Resource, stored: Stored, marked: Obj, options: DeleteOptions) -> Stored:
    """Remove at once. Watchers of pods see that one is leaving before they see that it is gone."""
    if resource.key != "/pods":
        return _remove(cluster, resource, stored, stored.data, options)
    if not options.dry_run:
        stored = cluster.store.write(cluster.registry.collection(resource), marked)
    return _remove(cluster, resource, stored, marked, options)


def _mark_namespace(
    cluster: Cluster, resource: Resource, stored: Stored, options: DeleteOptions
) -> tuple[Stored, bool]:
    if stored.data["metadata"].get("deletionTimestamp"):
        if not stored.data.get("spec", {}).get("finalizers") and not stored.data["metadata"].get("finalizers"):
            return _remove(cluster, resource, stored, stored.data, options), True
        return stored, False
    if stored.name in IMMORTAL:
        raise forbidden("namespaces", "", stored.name, "this namespace may not be deleted")
    last = copy.deepcopy(stored.data)
    last["metadata"]["deletionTimestamp"] = times.now()
    last.setdefault("status", {})["phase"] = "Terminating"
    return cluster.commit(resource, last, stored, dry_run=options.dry_run), False


def _mark_definition(
    cluster: Cluster, resource: Resource, stored: Stored, options: DeleteOptions
) -> tuple[Stored, bool]:
    if stored.data["metadata"].get("deletionTimestamp"):
        return stored, False
    last = copy.deepcopy(stored.data)
    last["metadata"]["deletionTimestamp"] = times.now()
    finalizers = last["metadata"].setdefault("finalizers", [])
    if CLEANUP_FINALIZER not in finalizers:
        finalizers.append(CLEANUP_FINALIZER)
    condition = {
        "type": "Terminating",
        "status": "True",
        "lastTransitionTime": times.now(),
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    }
    status = last.setdefault("status", {})
    status["conditions"] = [*(status.get("conditions") or ()), condition]
    if options.dry_run:
        return Stored(last, stored.revision), False
    marked = cluster.store.write(cluster.registry.collection(resource), last)
    cluster.custom.changed(stored.name)
    return marked, False
