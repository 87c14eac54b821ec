"""Arithmetic of a ReplicaSet: which pods count, which go first, what the status says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlserve_local.objects import (
    Obj,
    annotations_of,
    condition,
    is_deleting,
    is_true,
    labels_of,
    matches,
    moment_of,
    name_of,
    without_empty,
)


def is_active(pod: Obj) -> bool:
    """Neither finished nor being deleted."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") and not is_deleting(pod)


def is_ready(pod: Obj) -> bool:
    """By its condition."""
    return is_true(pod, "Ready")


def available_in(pod: Obj, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the pod counts as available; 0 if it does, None if it is not ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready["status"] != "True":
        return None
    since = moment_of(ready.get("lastTransitionTime"))
    return max(0.0, (since or now) + min_ready_seconds - now) if min_ready_seconds else 0.0


def deletion_order(pod: Obj, now: float) -> tuple[Any, ...]:
    """Sort key: pods to delete first come first (unassigned, pending, unready, cheap, young ones)."""
    status = pod.get("status") or {}
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    cost = int(annotations_of(pod).get("controller.kubernetes.io/pod-deletion-cost") or 0)
    restarts = max((int(s.get("restartCount") or 0) for s in status.get("containerStatuses") or ()), default=0)
    ready_for = now - (moment_of((condition(pod, "Ready") or {}).get("lastTransitionTime")) or now)
    age = now - (moment_of(pod["metadata"].get("creationTimestamp")) or now)
    return (
        bool(pod["spec"].get("nodeName")),
        phases.get(status.get("phase", "Pending"), 0),
        is_ready(pod),
        cost,
        round(ready_for) if is_ready(pod) else 0,
        -restarts,
        round(age),
        name_of(pod),
    )


@dataclass(frozen=True, slots=True)
class PodCounts:
    """How many pods of a ReplicaSet are in which state."""

    replicas: int
    labelled: int
    ready: int
    available: int
    terminating: int
    next_available_in: float | None
    """Seconds until another ready pod becomes available, if one will."""


def count(replica_set: Obj, pods: Sequence[Obj], now: float) -> PodCounts:
    """Count the pods that the ReplicaSet owns."""
    spec = replica_set["spec"]
    wanted = (spec["template"]["metadata"] or {}).get("labels") or {}
    active = [pod for pod in pods if is_active(pod)]
    waits = [available_in(pod, spec.get("minReadySeconds") or 0, now) for pod in active]
    coming = [wait for wait in waits if wait]
    return PodCounts(
        replicas=len(active),
        labelled=sum(matches({"matchLabels": wanted}, labels_of(pod)) for pod in active),
        ready=sum(is_ready(pod) for pod in active),
        available=sum(wait == 0 for wait in waits),
        terminating=sum(is_deleting(pod) for pod in pods),
        next_available_in=min(coming) if coming else None,
    )


def replica_set_status(replica_set: Obj, counts: PodCounts) -> Obj:
    """The status as the controller writes it; `replicas` and `terminatingReplicas` are always there."""
    old = replica_set.get("status") or {}
    return {
        "replicas": counts.replicas,
        **without_empty(
            [
                ("fullyLabeledReplicas", counts.labelled),
                ("readyReplicas", counts.ready),
                ("availableReplicas", counts.available),
            ]
        ),
        "terminatingReplicas": counts.terminating,
        "observedGeneration": replica_set["metadata"].get("generation", 0),
        **without_empty([("conditions", old.get("conditions"))]),
    }


def pod_from_template(template: Obj, owner: Obj, reference: Obj) -> Obj:
    """A pod as a ReplicaSet or Job creates it."""
    metadata = template.get("metadata") or {}
    prefix = f"{name_of(owner)}-"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": prefix,
            "namespace": owner["metadata"]["namespace"],
            **without_empty([("labels", metadata.get("labels")), ("annotations", metadata.get("annotations"))]),
            "ownerReferences": [reference],
            **without_empty([("finalizers", metadata.get("finalizers"))]),
        },
        "spec": template["spec"],
    }
