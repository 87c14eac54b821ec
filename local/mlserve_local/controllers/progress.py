"""Conditions of a Deployment: is it available, does it get on, has it missed its deadline? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlserve_local.controllers.rolling import budget, is_complete, is_progressing, totals
from mlserve_local.objects import Obj, moment_of, name_of, timestamp, without_empty

AVAILABLE, PROGRESSING, FAILURE = "Available", "Progressing", "ReplicaFailure"
NO_DEADLINE: Final = 2**31 - 1


def base_status(deployment: Obj, new: Obj | None, every: Sequence[Obj], now: float) -> Obj:
    """Counts and availability; the other conditions as they were."""
    old = deployment.get("status") or {}
    counts = totals(new, every)
    terminating = counts.pop("terminatingReplicas")
    status = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        **without_empty(counts.items()),
        "terminatingReplicas": terminating,
        **without_empty([("collisionCount", old.get("collisionCount"))]),
        "conditions": list(old.get("conditions") or ()),
    }
    limits = budget(deployment)
    if counts["availableReplicas"] >= limits.replicas - limits.unavailable:
        entry = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        entry = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    set_condition(status, AVAILABLE, *entry, now=now)
    return status


def find(status: Obj, kind: str) -> Obj | None:
    """The condition of that type."""
    return next((c for c in status.get("conditions") or () if c["type"] == kind), None)


def drop(status: Obj, kind: str) -> None:
    """Remove a condition."""
    status["conditions"] = [c for c in status.get("conditions") or () if c["type"] != kind]


def set_condition(status: Obj, kind: str, value: str, reason: str, message: str, *, now: float) -> None:
    """Add or replace a condition; one of equal status and reason stays, its times included."""
    old = find(status, kind)
    if old and old["status"] == value and old.get("reason") == reason:
        return
    since = old["lastTransitionTime"] if old and old["status"] == value else timestamp(now)
    drop(status, kind)
    status["conditions"].append(
        {
            "type": kind,
            "status": value,
            "lastUpdateTime": timestamp(now),
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }
    )


def has_deadline(deployment: Obj) -> bool:
    """Does it have to make progress within a time?"""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    return deadline is not None and deadline != NO_DEADLINE


def judge_progress(deployment: Obj, status: Obj, new: Obj | None, now: float) -> None:
    """Set `Progressing` from what moved between the old status and this one."""
    if not has_deadline(deployment):
        drop(status, PROGRESSING)
        return
    old = deployment.get("status") or {}
    current = find(status, PROGRESSING)
    settled = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    if settled and current and current.get("reason") == "NewReplicaSetAvailable":
        return
    what = f'ReplicaSet "{name_of(new)}"' if new else f'Deployment "{name_of(deployment)}"'
    if is_complete(deployment, status):
        message = f"{what} has successfully progressed."
        set_condition(status, PROGRESSING, "True", "NewReplicaSetAvailable", message, now=now)
    elif is_progressing(old, status):
        since = current["lastTransitionTime"] if current and current["status"] == "True" else timestamp(now)
        drop(status, PROGRESSING)
        set_condition(status, PROGRESSING, "True", "ReplicaSetUpdated", f"{what} is progressing.", now=now)
        status["conditions"][-1]["lastTransitionTime"] = since
    elif timed_out(deployment, status, now):
        message = f"{what} has timed out progressing."
        set_condition(status, PROGRESSING, "False", "ProgressDeadlineExceeded", message, now=now)


def timed_out(deployment: Obj, status: Obj, now: float) -> bool:
    """Has nothing moved for longer than the deadline? A complete rollout cannot time out."""
    current = find(status, PROGRESSING)
    if current is None or current.get("reason") == "NewReplicaSetAvailable" or deployment["spec"].get("paused"):
        return False
    if current.get("reason") == "ProgressDeadlineExceeded":
        return True
    return bool(now > (moment_of(current["lastUpdateTime"]) or now) + deployment["spec"]["progressDeadlineSeconds"])


def deadline_in(deployment: Obj, status: Obj, now: float) -> float | None:
    """Seconds until the deadline has to be looked at again; None if there is nothing to wait for."""
    current = find(status, PROGRESSING)
    done = ("NewReplicaSetAvailable", "ProgressDeadlineExceeded")
    if not has_deadline(deployment) or current is None or current.get("reason") in done:
        return None
    deadline = float(deployment["spec"]["progressDeadlineSeconds"])
    return max(1.0, (moment_of(current["lastUpdateTime"]) or now) + deadline - now + 1)


def judge_pause(deployment: Obj, status: Obj, now: float) -> None:
    """Say that a Deployment is paused, or was resumed: the deadline does not run meanwhile."""
    current = find(status, PROGRESSING)
    if not has_deadline(deployment) or (current and current.get("reason") == "ProgressDeadlineExceeded"):
        return
    paused = bool(current and current.get("reason") == "DeploymentPaused")
    if deployment["spec"].get("paused") and not paused:
        set_condition(status, PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused", now=now)
    elif not deployment["spec"].get("paused") and paused:
        set_condition(status, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now=now)
