"""Server-side apply requests: from the YAML of a client to a merged object with its managers."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

from mlserve_local.apiserver import decoding, managed_fields, rest
from mlserve_local.apiserver.bodies import report
from mlserve_local.apiserver.decoding import DecodeError, Problems
from mlserve_local.apiserver.errors import Obj, bad_request, conflict, internal, not_found
from mlserve_local.apiserver.fieldsets import element_name
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import Request, Target
from mlserve_local.apiserver.schema import Schema
from mlserve_local.apiserver.storage import Stored

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster
    from mlserve_local.apiserver.rest import WriteOptions

KUBECTL: Final = "kubectl"  # the one manager that takes over from client-side apply


def _read(request: Request, resource: Resource) -> Obj:
    try:
        config = decoding.parse_yaml(request.body)
    except DecodeError as error:
        raise bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(config, dict):
        raise bad_request(
            "error decoding YAML: error unmarshaling JSON: json: cannot unmarshal value into Go value of type "
            "map[string]interface {}"
        )
    version, kind = config.get("apiVersion") or "", config.get("kind") or ""
    if (version, kind) != (resource.api_version, resource.kind):
        group, _, number = str(version).rpartition("/")
        raise bad_request(f"invalid object type: {group}/{number}, Kind={kind}")
    metadata = config.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    if (metadata or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    return config


def apply_config(
    cluster: Cluster, request: Request, resource: Resource, target: Target, options: WriteOptions
) -> tuple[Stored, bool]:
    """Apply a configuration. Returns the stored object and whether it was created."""
    config = _read(request, resource)
    metadata = config.setdefault("metadata", {}) or {}
    rest.check_names(metadata, target.namespace if resource.namespaced else "", target.name)
    _check_types(config, resource)
    live = cluster.registry.collection(resource).get(target.namespace if resource.namespaced else "", target.name)
    if live is None:
        _check_creation(resource, target, metadata)
    intent = _intent(config, resource, target.subresource)
    writer = managed_fields.Writer(resource.schema, resource.api_version, options.manager, target.subresource)
    current = resource.view(live) if live is not None else None
    if current is not None and resource.from_version is None and live is not None:
        current = live.data
    upgrade = current is not None and options.manager == KUBECTL
    merged, managed = managed_fields.apply(
        current,
        intent,
        rest.skeleton_of(resource),
        writer,
        force=request.flag("force"),
        yielding=managed_fields.last_applied(current, resource.schema) if upgrade and current else None,
    )
    if upgrade:
        _keep_annotation(merged, config)
    made = _decode(request, resource, merged)
    if live is None:
        made["metadata"]["name"] = target.name
        return rest.create(cluster, resource, made, target.namespace, options, managed), True
    if not metadata.get("resourceVersion"):
        made["metadata"].pop("resourceVersion", None)
    return rest.update(cluster, resource, live, made, options, managed), False


def _keep_annotation(merged: Obj, config: Obj) -> None:
    """An object that kubectl once applied client-side goes on telling what was applied last."""
    annotations = merged["metadata"].get("annotations") or {}
    if managed_fields.LAST_APPLIED not in annotations:
        return
    said = copy.deepcopy(config)
    own = said["metadata"].get("annotations") or {}
    own.pop(managed_fields.LAST_APPLIED, None)
    text = json.dumps(said, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    merged["metadata"]["annotations"] = {**annotations, managed_fields.LAST_APPLIED: text}


def _check_creation(resource: Resource, target: Target, metadata: Obj) -> None:
    if target.subresource:
        raise not_found(resource.plural, resource.group, target.name)
    if metadata.get("uid"):
        why = f"uid mismatch: the provided object specified uid {metadata['uid']}, and no existing object was found"
        raise conflict(resource.plural, resource.group, target.name, why)


def _intent(config: Obj, resource: Resource, subresource: str) -> Obj:
    """The part of a configuration that the endpoint is about, without what belongs to the system."""
    intent = {k: v for k, v in config.items() if k not in ("apiVersion", "kind")}
    intent["metadata"] = {k: v for k, v in (config.get("metadata") or {}).items() if v is not None}
    if "status" in resource.subresources:
        if subresource == "status":
            kept = {k: v for k, v in intent["metadata"].items() if k in ("name", "namespace", "uid", "resourceVersion")}
            return {"metadata": kept, **({"status": intent["status"]} if "status" in intent else {})}
        intent.pop("status", None)
    return intent


def _decode(request: Request, resource: Resource, merged: Obj) -> Obj:
    problems = Problems()
    full = {"apiVersion": resource.api_version, "kind": resource.kind, **merged}
    try:
        made = rest.decode(resource, full, problems)
    except DecodeError as error:
        raise internal(f"failed to convert the applied object: {error}") from None
    report(request, resource, problems)
    return made


def _check_types(config: Obj, resource: Resource) -> None:
    """Every field must be declared and of its type: apply cannot work on guesses."""
    found: list[str] = []
    _walk(config, resource.schema, "", found)
    if not found:
        return
    metadata = config.get("metadata") or {}
    name = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
    gvk = f"{resource.group}/{resource.version}, Kind={resource.kind}"
    text = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {f}" for f in found)
    raise internal(f"failed to create typed patch object ({name}; {gvk}): {text}")


def _walk(value: Any, schema: Schema, path: str, found: list[str]) -> None:
    if value is None or (schema.preserve_unknown and not schema.properties):
        return
    if isinstance(value, dict) and schema.type == "object":
        for key, member in value.items():
            child = schema.child(key)
            if child is not None:
                _walk(member, child, f"{path}.{key}", found)
            elif not schema.preserve_unknown and (schema.properties or schema.raw):
                found.append(f"{path}.{key}: field not declared in schema")
    elif isinstance(value, list) and schema.type == "array" and schema.items is not None:
        _walk_list(value, schema, schema.items, path, found)
    elif not _fits(value, schema):
        shown = {"object": "map", "array": "list"}.get(schema.type, schema.type)
        found.append(f"{path}: expected {shown}, got &value.valueUnstructured{{Value:{value!r}}}")


def _walk_list(value: list[Any], schema: Schema, items: Schema, path: str, found: list[str]) -> None:
    seen: set[str] = set()
    for index, item in enumerate(value):
        place = f"{path}[{index}]"
        if schema.list_type in ("map", "set"):
            if schema.list_type == "map" and not isinstance(item, dict):
                found.append(f"{place}: expected map, got {item!r}")
                continue
            missing = [k for k in schema.list_keys if k not in item and k not in schema.key_defaults]
            if missing and len(missing) == len(schema.list_keys):
                found.append(
                    f"{path}: element {index}: associative list with keys has an element that omits key field "
                    f"{missing[0]!r}"
                )
                continue
            name = element_name(item, schema)
            text = (
                f"[={name[2:]}]"
                if name.startswith("v:")
                else "[" + name[3:-1].replace('":', "=").replace('"', "", 1) + "]"
            )
            if name in seen:
                found.append(f"{path}: duplicate entries for key {text}")
            seen.add(name)
            place = f"{path}{text}"
        _walk(item, items, place, found)


def _fits(value: Any, schema: Schema) -> bool:
    if schema.special:
        return isinstance(value, str | int | float) and not isinstance(value, bool)
    match schema.type:
        case "string":
            return isinstance(value, str)
        case "integer":
            return (isinstance(value, int) and not isinstance(value, bool)) or (
                isinstance(value, float) and value.is_integer()
            )
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "object" | "array":
            return False
    return True
