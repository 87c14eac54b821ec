"""POST, PUT, PATCH and DELETE of whole objects and of their status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from mlserve_local.apiserver import decoding, rest
from mlserve_local.apiserver.apply import apply_config
from mlserve_local.apiserver.bodies import check_kind, read_object, read_options, write_options
from mlserve_local.apiserver.decoding import DecodeError, Problems
from mlserve_local.apiserver.deletion import DeleteOptions, delete
from mlserve_local.apiserver.errors import (
    FieldError,
    Obj,
    StatusError,
    bad_request,
    invalid,
    invalid_options,
    invalid_value,
    not_found,
    required,
    success,
    unsupported_media_type,
)
from mlserve_local.apiserver.patch import json_patch, merge_patch
from mlserve_local.apiserver.reading import list_filter, list_reply, object_reply
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import Reply, Request, Target, negotiate
from mlserve_local.apiserver.rest import WriteOptions, check_names, find, strategy_of
from mlserve_local.apiserver.storage import Stored
from mlserve_local.apiserver.strategic_merge import strategic_merge

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"


def create(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """POST to a collection."""
    wanted = negotiate(request.headers.get("accept", ""))
    options = write_options(request, "CreateOptions")
    obj = read_object(request, resource)
    if resource.namespaced:
        check_names(obj["metadata"], target.namespace, "")
    stored = rest.create(cluster, resource, obj, target.namespace, options)
    return object_reply(resource, stored, wanted, request, 201)


def update(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """PUT of an object or of its status."""
    wanted = negotiate(request.headers.get("accept", ""))
    options = write_options(request, "UpdateOptions", target.subresource)
    obj = read_object(request, resource)
    check_names(obj["metadata"], target.namespace if resource.namespaced else "", target.name)
    live = cluster.registry.collection(resource).get(target.namespace if resource.namespaced else "", target.name)
    if live is None:
        if not strategy_of(resource).create_on_update or target.subresource:
            raise not_found(resource.plural, resource.group, target.name)
        obj["metadata"]["name"] = target.name
        stored = rest.create(cluster, resource, obj, target.namespace, options)
        return object_reply(resource, stored, wanted, request, 201)
    if resource.custom is not None and not obj["metadata"].get("resourceVersion"):
        error = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid(resource.plural, resource.group, target.name, [error])
    stored = rest.update(cluster, resource, live, obj, options)
    return object_reply(resource, stored, wanted, request)


def patch(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """PATCH of an object or of its status, in any of the four forms."""
    wanted = negotiate(request.headers.get("accept", ""))
    media = request.content_type
    accepted = [JSON_PATCH, MERGE_PATCH, *([STRATEGIC] if resource.custom is None else []), APPLY]
    if media not in accepted:
        raise unsupported_media_type(accepted)
    if media == APPLY and not request.param("fieldManager"):
        raise invalid_options("PatchOptions", [required("fieldManager", "is required for apply patch")])
    options = write_options(request, "PatchOptions", target.subresource)
    if media == APPLY:
        stored, created = apply_config(cluster, request, resource, target, options)
        return object_reply(resource, stored, wanted, request, 201 if created else 200)
    if "force" in request.query:
        error = FieldError("Forbidden", "force", detail="may not be specified for non-apply patch")
        raise invalid_options("PatchOptions", [error])
    live = find(cluster, resource, target.namespace, target.name)
    patched = apply_patch(request, resource.full(live), media, resource)
    return object_reply(
        resource, store_patched(cluster, request, resource, target, live, patched, options), wanted, request
    )


def apply_patch(request: Request, current: Obj, media: str, resource: Resource | None) -> Obj:
    """The patched document; 400 if the patch cannot be read."""
    try:
        body, _ = decoding.parse_json(request.body)
    except DecodeError as error:
        raise bad_request(f"error decoding patch: {error}") from None
    if media == JSON_PATCH:
        patched = json_patch(current, body)
    elif not isinstance(body, dict):
        got = "array" if isinstance(body, list) else "value"
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {got} into Go value of type map[string]interface {{}}"
        )
    elif media == STRATEGIC and resource is not None:
        patched = strategic_merge(current, body, resource.schema)
    else:
        patched = merge_patch(current, body)
    if not isinstance(patched, dict):
        raise bad_request("error decoding patch: the patched document is not an object")
    return patched


def store_patched(
    cluster: Cluster,
    request: Request,
    resource: Resource,
    target: Target,
    live: Stored,
    patched: Obj,
    options: WriteOptions,
) -> Stored:
    """Decode the result of a patch and store it over ``live``."""
    problems = Problems()
    try:
        obj = rest.decode(resource, check_kind(patched, resource), problems)
    except DecodeError as error:
        raise _patch_error(patched, str(error)) from None
    mode = request.param("fieldValidation", "Warn") or "Warn"
    if problems.texts() and mode == "Strict":
        raise _patch_error(patched, f"strict decoding error: {', '.join(problems.texts())}")
    if mode == "Warn":
        request.warnings += problems.texts()
    check_names(obj["metadata"], target.namespace if resource.namespaced else "", target.name)
    return rest.update(cluster, resource, live, obj, options)


def _patch_error(patched: Obj, why: str) -> StatusError:
    return invalid("", "", "", [invalid_value("patch", orjson.dumps(patched).decode(), why)])


def remove(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """DELETE of one object."""
    wanted = negotiate(request.headers.get("accept", ""), transforms=False)
    options = DeleteOptions.read(read_options(request), request.query)
    stored = find(cluster, resource, target.namespace, target.name)
    last, gone = delete(cluster, resource, stored, options)
    if not gone or resource.returns_deleted:
        return object_reply(resource, last, wanted, request)
    details: dict[str, Any] = {"name": stored.name, "group": resource.group, "kind": resource.plural, "uid": stored.uid}
    return Reply(200, orjson.dumps(success(details={k: v for k, v in details.items() if v})))


def remove_collection(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """DELETE of everything a selector finds."""
    wanted = negotiate(request.headers.get("accept", ""))
    options = DeleteOptions.read(read_options(request), request.query)
    chosen = list_filter(request, resource, target)
    found = [s for s in cluster.registry.collection(resource).list(chosen.namespace) if chosen.matches(s)]
    for stored in found:
        delete(cluster, resource, stored, options)
    metadata = {
        "resourceVersion": str(cluster.store.revision),
        **({"continue": ""} if resource.custom is not None else {}),
    }
    return list_reply(resource, found, metadata, wanted, request)
