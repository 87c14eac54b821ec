"""Why a revision's pods do not come up, in words a user can act on.

Pods, their containers' last words and the Deployment each know a part. The most telling one is chosen: a container
that said why it gave up, then an image that cannot be pulled, then a pod that found no node, then pods that could not
even be made (quota).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlserve_core.api.v1alpha1 import Reason
from mlserve_core.wire import TERMINATION_REASONS
from mlserve_operator.rollout.state import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Object = dict[str, Any]

IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
RESTARTS_UNTIL_TERMINAL: Final = 2
"""A container that failed so often will fail again; a first failure may have been the network's."""


def find_failure(pods: Sequence[Object], deployment: Object | None) -> Failure | None:
    """What keeps a revision from becoming available, or None if nothing is known to.

    Args:
        pods: the revision's pods.
        deployment: its Deployment.
    """
    waiting = [pod for pod in pods if not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]
    for explain in (_last_words, _image, _unschedulable):
        for pod in waiting:
            if (failure := explain(pod)) is not None:
                return failure
    return _not_created(deployment) if deployment is not None else None


def is_ready(pod: Object) -> bool:
    """Whether a pod takes requests: Ready and not on its way out."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _containers(pod: Object) -> Iterator[Object]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _last_words(pod: Object) -> Failure | None:
    for container in _containers(pod):
        state, last = container.get("state") or {}, container.get("lastState") or {}
        terminated = state.get("terminated") or last.get("terminated") or {}
        if not terminated or terminated.get("exitCode", 0) == 0:
            continue
        name, restarts = container["name"], int(container.get("restartCount", 0))
        word, _, text = (terminated.get("message") or "").strip().partition(": ")
        if word == "ChecksumMismatch":
            return Failure(reason=Reason.CHECKSUM_MISMATCH, message=text)
        terminal = restarts >= RESTARTS_UNTIL_TERMINAL
        if word in TERMINATION_REASONS:
            prefix = "the artifact could not be fetched: " if word == "FetchFailed" else ""
            return Failure(reason=Reason.MODEL_LOAD_FAILED, message=prefix + text, terminal=terminal)
        message = f"container {name} of pod {pod['metadata']['name']} {_end(terminated)}"
        return Failure(reason=Reason.MODEL_LOAD_FAILED, message=message, terminal=terminal)
    return None


def _end(terminated: Object) -> str:
    if terminated.get("reason") == "OOMKilled":
        return "ran out of memory: raise spec.runtime.resources.limits.memory"
    said = (terminated.get("message") or "").strip().splitlines()
    last = f"; its last line: {said[-1]}" if said else "; see its log"
    return f"ended with exit code {terminated.get('exitCode')}{last}"


def _image(pod: Object) -> Failure | None:
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in IMAGE_REASONS:
            detail = waiting.get("message") or waiting["reason"]
            message = f"image {container.get('image', '')} cannot be started: {detail}"
            return Failure(reason=Reason.IMAGE_PULL_FAILED, message=message, terminal=False)
        if waiting.get("reason") in {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}:
            message = f"container {container['name']} cannot be created: {waiting.get('message', '')}"
            return Failure(reason=Reason.MODEL_LOAD_FAILED, message=message, terminal=False)
    return None


def _unschedulable(pod: Object) -> Failure | None:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            message = f"no node can run pod {pod['metadata']['name']}: {condition.get('message', '')}"
            return Failure(reason=Reason.INSUFFICIENT_RESOURCES, message=message, terminal=False)
    return None


def _not_created(deployment: Object) -> Failure | None:
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            message = f"pods cannot be created: {condition.get('message', '')}"
            return Failure(reason=Reason.INSUFFICIENT_RESOURCES, message=message, terminal=False)
    return None
