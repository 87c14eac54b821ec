"""Paths below an object that are no part of it: scale, binding, eviction, token, finalize."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import orjson

from mlserve_local.apiserver import decoding, managed_fields, rest, times
from mlserve_local.apiserver.bodies import document, write_options
from mlserve_local.apiserver.deletion import DeleteOptions, delete
from mlserve_local.apiserver.errors import (
    Obj,
    StatusError,
    bad_request,
    conflict,
    invalid,
    invalid_options,
    invalid_value,
    required,
    success,
    unknown_resource,
    unsupported_media_type,
)
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import Reply, Request, Target
from mlserve_local.apiserver.rest import find
from mlserve_local.apiserver.selectors import format_label_selector, from_label_selector
from mlserve_local.apiserver.storage import Stored
from mlserve_local.apiserver.tokens import AUDIENCE
from mlserve_local.apiserver.writing import APPLY, JSON_PATCH, MERGE_PATCH, STRATEGIC, apply_patch

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

_MIN_TOKEN_SECONDS = 600


def handle(cluster: Cluster, request: Request, resource: Resource, target: Target, verb: str) -> Reply:
    """Answer a request for a subresource other than status and the node's streams."""
    match target.subresource:
        case "scale":
            return scale(cluster, request, resource, target, verb)
        case "binding":
            return binding(cluster, request, resource, target)
        case "eviction":
            return eviction(cluster, request, resource, target)
        case "token":
            return token(cluster, request, resource, target)
        case "finalize":
            return finalize(cluster, request, resource, target)
    raise unknown_resource()


def _body(request: Request, kind: str) -> Obj:
    parsed, _ = document(request, kind)
    if not isinstance(parsed, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind})")
    return parsed


def _at(obj: Obj, path: str) -> Any:
    value: Any = obj
    for key in path.strip(".").split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _paths(resource: Resource) -> tuple[str, str, str]:
    """Where a resource keeps the wished count, the present count and the selector."""
    if resource.custom is None:
        return ".spec.replicas", ".status.replicas", ""
    found = resource.custom.scale
    return found["specReplicasPath"], found["statusReplicasPath"], found.get("labelSelectorPath", "")


def _scale_of(resource: Resource, stored: Stored) -> Obj:
    wished, present, selector_path = _paths(resource)
    metadata = stored.data["metadata"]
    keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Obj = {"replicas": _at(stored.data, present) or 0}
    selector = stored.data.get("spec", {}).get("selector")
    if selector_path:
        text = _at(stored.data, selector_path)
    elif resource.key == "/replicationcontrollers":
        text = format_label_selector({"matchLabels": selector})
    else:
        text = format_label_selector(selector) if resource.custom is None else ""
    if text:
        status["selector"] = text
    count = _at(stored.data, wished)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: metadata[k] for k in keys if k in metadata},
        "spec": {"replicas": count} if count else {},
        "status": status,
    }


def scale(cluster: Cluster, request: Request, resource: Resource, target: Target, verb: str) -> Reply:
    """The count of a workload, for kubectl scale and autoscalers."""
    stored = find(cluster, resource, target.namespace, target.name)
    current = _scale_of(resource, stored)
    if verb == "get":
        return Reply(200, orjson.dumps(current))
    if verb == "update":
        options = write_options(request, "UpdateOptions", "scale")
        wanted = _body(request, "Scale")
    else:
        options = write_options(request, "PatchOptions", "scale")
        wanted = _patched_scale(request, current)
    metadata = wanted.get("metadata") or {}
    rest.check_names(metadata, target.namespace, target.name)
    count = (wanted.get("spec") or {}).get("replicas", 0)
    if isinstance(count, bool) or not isinstance(count, int):
        raise bad_request('Scale in version "v1" cannot be handled as a Scale: spec.replicas must be an integer')
    revision = metadata.get("resourceVersion")
    if revision and revision != stored.data["metadata"]["resourceVersion"]:
        raise conflict(resource.plural, resource.group, target.name)
    obj = copy.deepcopy(stored.data)
    path = _paths(resource)[0].strip(".").split(".")
    parent = obj
    for key in path[:-1]:
        parent = parent.setdefault(key, {})
    changed = parent.get(path[-1]) != count
    parent[path[-1]] = count
    managed = managed_fields.decode(obj["metadata"].get("managedFields"))
    owned: Any = {}
    for key in reversed(path):
        owned = {f"f:{key}": owned}
    if request.content_type == APPLY:
        managed = managed_fields.apply_path(
            managed, owned, resource.api_version, options.manager, changed=changed, force=request.flag("force")
        )
    elif changed:
        managed = managed_fields.take_path(managed, owned, resource.api_version, options.manager)
    obj["metadata"].pop("resourceVersion", None)
    updated = rest.update(
        cluster,
        resource,
        stored,
        obj,
        rest.WriteOptions(options.manager, "", options.dry_run, options.user, options.warnings),
        managed,
    )
    return Reply(200, orjson.dumps(_scale_of(resource, updated)))


def _patched_scale(request: Request, current: Obj) -> Obj:
    if request.content_type != APPLY:
        if request.content_type not in (JSON_PATCH, MERGE_PATCH, STRATEGIC):
            raise unsupported_media_type([JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY])
        return apply_patch(request, current, request.content_type, None)
    if not request.param("fieldManager"):
        raise invalid_options("PatchOptions", [required("fieldManager", "is required for apply patch")])
    try:
        config = decoding.parse_yaml(request.body)
    except decoding.DecodeError as error:
        raise bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(config, dict) or config.get("kind") != "Scale":
        raise bad_request("invalid object type: a Scale of autoscaling/v1 was expected")
    return config


def binding(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """Assign a pod to a node: once, and only while it lives."""
    options = write_options(request, "CreateOptions")
    body = _body(request, "Binding")
    stored = find(cluster, resource, target.namespace, target.name)
    node = (body.get("target") or {}).get("name")
    kind = (body.get("target") or {}).get("kind", "Node")
    if not node or kind not in ("", "Node"):
        error = (
            invalid_value("target.kind", kind, "must be empty or 'Node'")
            if node
            else invalid_value("target.name", "", "Required value")
        )
        raise invalid("Binding", "", target.name, [error])
    taken = stored.data["spec"].get("nodeName")
    if stored.data["metadata"].get("deletionTimestamp"):
        raise conflict(
            "pods/binding", "", target.name, f"pod {target.name} is being deleted, cannot be assigned to a host"
        )
    if taken:
        raise conflict("pods/binding", "", target.name, f'pod {target.name} is already assigned to node "{taken}"')
    obj = copy.deepcopy(stored.data)
    obj["spec"]["nodeName"] = node
    annotations = (body.get("metadata") or {}).get("annotations")
    if annotations:
        obj["metadata"]["annotations"] = {**obj["metadata"].get("annotations", {}), **annotations}
    conditions = [c for c in obj["status"].get("conditions", []) if c["type"] != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": times.now()}
    obj["status"]["conditions"] = [*conditions, scheduled]
    cluster.commit(resource, obj, stored, dry_run=options.dry_run)
    return Reply(201, orjson.dumps(success(201)))


def _budget_refusal(name: str, status: Obj) -> StatusError:
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    cause = {
        "reason": "DisruptionBudget",
        "message": f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently",
    }
    return StatusError(429, "TooManyRequests", message, {"causes": [cause]})


def eviction(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """Delete a pod unless a PodDisruptionBudget forbids it now."""
    body = _body(request, "Eviction")
    said = (body.get("metadata") or {}).get("name")
    if said and said != target.name:
        raise bad_request("name in URL does not match name in Eviction object")
    stored = find(cluster, resource, target.namespace, target.name)
    options = DeleteOptions.read(body.get("deleteOptions") or {}, request.query)
    phase = stored.data.get("status", {}).get("phase")
    if phase not in ("Succeeded", "Failed", "Pending") and not stored.data["metadata"].get("deletionTimestamp"):
        _spend_budget(cluster, stored, options.dry_run)
    delete(cluster, resource, stored, options)
    return Reply(201, orjson.dumps(success(201)))


def _spend_budget(cluster: Cluster, pod: Stored, dry_run: bool) -> None:
    budgets = cluster.registry.builtin("poddisruptionbudgets", "policy")
    labels = pod.data["metadata"].get("labels")
    matching = [
        b
        for b in cluster.registry.collection(budgets).list(pod.namespace)
        if b.data["spec"].get("selector") is not None
        and from_label_selector(b.data["spec"]["selector"]).matches(labels)
    ]
    if len(matching) > 1:
        raise StatusError(
            500,
            "InternalError",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            {},
        )
    for budget in matching:
        status = budget.data.get("status", {})
        if status.get("observedGeneration", 0) < budget.data["metadata"].get("generation", 0):
            raise StatusError(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
                {
                    "causes": [
                        {
                            "reason": "DisruptionBudget",
                            "message": f"The disruption budget {budget.name} is still being processed by the server.",
                        }
                    ],
                    "retryAfterSeconds": 10,
                },
            )
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod.data["status"].get("conditions", []))
        if not ready and status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0:
            continue
        if status.get("disruptionsAllowed", 0) <= 0:
            raise _budget_refusal(budget.name, status)
        made = copy.deepcopy(budget.data)
        made["status"]["disruptionsAllowed"] -= 1
        made["status"].setdefault("disruptedPods", {})[pod.name] = times.now()
        cluster.commit(budgets, made, budget, dry_run=dry_run)


def token(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """A short-lived credential of a ServiceAccount."""
    body = _body(request, "TokenRequest")
    stored = find(cluster, resource, target.namespace, target.name)
    spec = body.get("spec") or {}
    seconds = spec.get("expirationSeconds") or 3600
    if seconds < _MIN_TOKEN_SECONDS:
        error = invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        raise invalid("TokenRequest", "authentication.k8s.io", "", [error])
    audiences = spec.get("audiences") or [AUDIENCE]
    issued = cluster.tokens.issue(stored.namespace, stored.name, stored.uid, audiences, seconds)
    metadata = {"name": stored.name, "namespace": stored.namespace, "uid": stored.uid, "creationTimestamp": times.now()}
    made = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": metadata,
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec.get("boundObjectRef")},
        "status": {"token": issued, "expirationTimestamp": times.after(seconds)},
    }
    return Reply(201, orjson.dumps(made))


def finalize(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """Set the finalizers of a namespace."""
    body = _body(request, "Namespace")
    stored = find(cluster, resource, "", target.name)
    obj = copy.deepcopy(stored.data)
    obj["spec"]["finalizers"] = (body.get("spec") or {}).get("finalizers") or []
    if not obj["spec"]["finalizers"]:
        del obj["spec"]["finalizers"]
    updated = cluster.commit(resource, obj, stored)
    return Reply(200, resource.encode(updated))
