"""The common path of every write: what must hold whatever the kind, and in which order things happen.

    decode -> default -> managed fields -> admission -> system fields -> validation -> storage

Custom resources and built-in kinds differ only in where defaults and validation come from.
"""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlserve_local.apiserver import decoding, managed_fields, times, validation
from mlserve_local.apiserver.errors import (
    FieldError,
    Obj,
    already_exists,
    bad_request,
    conflict,
    internal,
    invalid,
    not_found,
)
from mlserve_local.apiserver.managed_fields import Writer
from mlserve_local.apiserver.names import random_suffix
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import ADMIN, User
from mlserve_local.apiserver.storage import Stored
from mlserve_local.apiserver.strategies import STRATEGIES
from mlserve_local.apiserver.strategy import PLAIN, Strategy

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

_NO_GENERATION_KEYS: Final = ("metadata", "status")


@dataclass(slots=True)
class WriteOptions:
    """How a write was asked for."""

    manager: str = "unknown"
    subresource: str = ""
    dry_run: bool = False
    user: User = ADMIN
    warnings: list[str] = field(default_factory=list)


def strategy_of(resource: Resource) -> Strategy:
    """The hooks of a resource; a version may have its own."""
    if resource.custom is not None:
        return PLAIN
    path = f"{resource.api_version}/{resource.plural}"
    return STRATEGIES.get(path) or STRATEGIES.get(resource.key, PLAIN)


def skeleton_of(resource: Resource) -> Obj:
    """What an empty object of the kind contains: the structs Go always writes."""
    skeleton = strategy_of(resource).skeleton or {}
    made: Obj = {"metadata": {}, **copy.deepcopy(skeleton)}
    if resource.custom is None:
        made |= {k: made.get(k, {}) for k in ("spec", "status") if k in resource.schema.properties}
    return made


def decode(resource: Resource, obj: Obj, problems: decoding.Problems) -> Obj:
    """A complete object (with kind and apiVersion) from a client as the server keeps it, defaults filled in.

    Raises DecodeError for values that do not fit a built-in type. The result has no kind and apiVersion.
    """
    if resource.custom is not None:
        made: Obj = resource.custom.decode(obj, problems)
        if resource.from_version is not None:
            made = resource.from_version(made)
    else:
        made = decoding.check(obj, resource.schema, problems, "", resource.kind)
        if resource.from_version is not None:
            made = resource.from_version(made)
        strategy_of(resource).default(made)
    made.pop("kind", None)
    made.pop("apiVersion", None)
    made.setdefault("metadata", {})
    return made


def _writer(resource: Resource, options: WriteOptions) -> Writer:
    return Writer(resource.schema, resource.api_version, options.manager, options.subresource)


def create(
    cluster: Cluster,
    resource: Resource,
    obj: Obj,
    namespace: str,
    options: WriteOptions,
    managed: managed_fields.Managed | None = None,
) -> Stored:
    """Store a decoded object under a name that is not taken. ``managed`` is given by an apply that creates."""
    metadata = obj["metadata"]
    if resource.namespaced:
        metadata["namespace"] = namespace
        cluster.namespaces.check_open(resource, namespace, str(metadata.get("name", "")))
    else:
        metadata.pop("namespace", None)
    revision = metadata.pop("resourceVersion", "")
    generated = not metadata.get("name") and bool(metadata.get("generateName"))
    if generated:
        metadata["name"] = metadata["generateName"][:58] + random_suffix()
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "uid", "generation"):
        metadata.pop(key, None)
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": times.now()}
    _track(resource, None, obj, options, managed)
    strategy = strategy_of(resource)
    _drop_status(resource, obj)
    strategy.admit(cluster, obj, None, options.user)
    strategy.prepare_create(obj)
    if resource.has_generation:
        metadata["generation"] = 1
    errors = _errors(resource, obj, None)
    if errors:
        raise invalid(resource.kind, resource.key.partition("/")[0], metadata.get("name", ""), errors)
    if revision and managed is None:
        raise internal("resourceVersion should not be set on objects to be created")
    collection = cluster.registry.collection(resource)
    name = metadata["name"]
    while (taken := collection.get(metadata.get("namespace", ""), name)) and generated:
        name = metadata["name"] = metadata["generateName"][:58] + random_suffix()
    if taken:
        leaving = "object is being deleted: " if taken.data["metadata"].get("deletionTimestamp") else ""
        raise already_exists(resource.plural, resource.group, name, leaving)
    options.warnings += strategy.warn(obj)
    metadata.pop("resourceVersion", None)
    return cluster.commit(resource, obj, None, dry_run=options.dry_run)


def _track(
    resource: Resource, live: Obj | None, obj: Obj, options: WriteOptions, managed: managed_fields.Managed | None
) -> None:
    if managed is not None:
        obj["metadata"]["managedFields"] = managed_fields.encode(managed)
        if not obj["metadata"]["managedFields"]:
            del obj["metadata"]["managedFields"]
        return
    tracked = obj
    if "status" in resource.subresources and not options.subresource:  # the main endpoint does not write the status
        tracked = {k: v for k, v in obj.items() if k != "status"}
        live = {k: v for k, v in live.items() if k != "status"} if live is not None else None
    skeleton = skeleton_of(resource)
    if tracked is not obj:
        skeleton.pop("status", None)
    managed_fields.update(live, tracked, skeleton, _writer(resource, options))


def _drop_status(resource: Resource, obj: Obj) -> None:
    if resource.custom is not None and "status" in resource.subresources:
        obj.pop("status", None)


def _errors(resource: Resource, obj: Obj, old: Obj | None, status_only: bool = False) -> list[FieldError]:
    """Everything that is wrong with an object, metadata first."""
    found = validation.metadata_errors(obj["metadata"], resource.key)
    if old is not None:
        found += validation.metadata_update_errors(obj["metadata"], old["metadata"])
    if resource.custom is not None:
        return found + list(resource.custom.errors(obj, old))
    strategy = strategy_of(resource)
    if status_only:
        return found
    found += strategy.validate(obj)
    if old is not None:
        found += strategy.validate_update(obj, old)
    return found


def update(
    cluster: Cluster,
    resource: Resource,
    live: Stored,
    obj: Obj,
    options: WriteOptions,
    managed: managed_fields.Managed | None = None,
) -> Stored:
    """Replace ``live`` by a decoded object. An object that does not change keeps its resourceVersion."""
    old = live.data
    metadata = obj["metadata"]
    _check_preconditions(cluster, resource, live, metadata)
    metadata["name"], metadata["uid"] = live.name, live.uid
    for key in (
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ):
        if key in old["metadata"]:
            metadata[key] = old["metadata"][key]
        else:
            metadata.pop(key, None)
    metadata.pop("selfLink", None)
    obj = _keep_other_half(resource, obj, old, options.subresource)
    _track(resource, old, obj, options, managed)
    obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    strategy = strategy_of(resource)
    if not options.subresource:
        strategy.admit(cluster, obj, old, options.user)
    strategy.prepare_update(obj, old)
    if options.subresource != "status":
        _bump_generation(resource, obj, old)
    errors = _errors(resource, obj, old, status_only=options.subresource == "status")
    if errors:
        raise invalid(resource.kind, resource.key.partition("/")[0], live.name, errors)
    if managed_fields.same_but_for_times(old, obj):
        return live
    options.warnings += strategy.warn(obj)
    return cluster.commit(resource, obj, live, dry_run=options.dry_run)


def _check_preconditions(cluster: Cluster, resource: Resource, live: Stored, metadata: Obj) -> None:
    revision, uid = metadata.get("resourceVersion") or "", metadata.get("uid") or ""
    if revision:
        if not str(revision).isdigit():
            raise internal(f'strconv.ParseUint: parsing "{revision}": invalid syntax')
        if revision != live.data["metadata"]["resourceVersion"]:
            raise conflict(resource.plural, resource.group, live.name)
    if uid and uid != live.uid:
        group = f"{resource.group}/" if resource.group else ""
        key = f"/registry/{group}{resource.plural}/{live.namespace}/{live.name}".replace("//", "/")
        raise conflict(
            resource.plural,
            resource.group,
            live.name,
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live.uid}",
        )


def _keep_other_half(resource: Resource, obj: Obj, old: Obj, subresource: str) -> Obj:
    """The main endpoint keeps the old status, the status endpoint everything but the status."""
    if "status" not in resource.subresources:
        return obj
    if subresource == "status":
        metadata = {**old["metadata"]}
        if resource.custom is None:  # built-in kinds accept labels and annotations here as well
            metadata |= {k: v for k, v in obj["metadata"].items() if k in ("labels", "annotations", "managedFields")}
        elif "managedFields" in obj["metadata"]:
            metadata["managedFields"] = obj["metadata"]["managedFields"]
        kept = {k: v for k, v in old.items() if k not in ("status", "metadata")}
        return {"metadata": metadata, **kept, **({"status": obj["status"]} if "status" in obj else {})}
    made = {k: v for k, v in obj.items() if k != "status"}
    if "status" in old:
        made["status"] = old["status"]
    return made


def _bump_generation(resource: Resource, obj: Obj, old: Obj) -> None:
    if not resource.has_generation:
        return
    ignored = _NO_GENERATION_KEYS if "status" in resource.subresources else ("metadata",)
    if resource.key == "/pods":
        changed = obj.get("spec") != old.get("spec")
    else:
        changed = any(obj.get(k) != old.get(k) for k in obj.keys() | old.keys() if k not in ignored)
    if resource.key == "apps/deployments":  # its controller watches annotations too
        changed |= obj["metadata"].get("annotations") != old["metadata"].get("annotations")
    if changed:
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def find(cluster: Cluster, resource: Resource, namespace: str, name: str) -> Stored:
    """The stored object, or a 404."""
    stored = cluster.registry.collection(resource).get(namespace if resource.namespaced else "", name)
    if stored is None:
        raise not_found(resource.plural, resource.group, name)
    return stored


def check_names(metadata: Any, namespace: str, name: str) -> None:
    """Names in the body must be those of the URL, or absent."""
    if not isinstance(metadata, dict):
        return
    said = metadata.get("name")
    if name and said and said != name:
        raise bad_request(f"the name of the object ({said}) does not match the name on the URL ({name})")
    if namespace and metadata.get("namespace") and metadata["namespace"] != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
