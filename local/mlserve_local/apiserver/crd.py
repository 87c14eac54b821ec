"""CustomResourceDefinitions: from a stored definition to served resources, and back when it is deleted.

A definition is established in the same step that stores it, so a client that sees the answer may use the new resource
at once. Deleting one deletes its objects first (with events), then ends their watches and takes the paths away.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final

from mlserve_local.apiserver import decoding, structural, times
from mlserve_local.apiserver.cel_rules import RuleRunner
from mlserve_local.apiserver.errors import FieldError, Obj, bad_request, invalid_value
from mlserve_local.apiserver.kinds import STATUS_VERBS
from mlserve_local.apiserver.registry import Registry, Resource, Subresource
from mlserve_local.apiserver.schema import OBJECT_META, Schema, compile_structural, definition
from mlserve_local.apiserver.storage import Store, Stored

CLEANUP_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
# The order in which discovery lists the verbs of custom resources.
VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


@dataclass(slots=True)
class CustomVersion:
    """One served version of a custom resource: its type and its rules."""

    source: Obj
    schema: Schema
    rules: RuleRunner
    preserve: bool
    columns: list[Obj] = field(default_factory=list)
    selectable: list[str] = field(default_factory=list)
    scale: Obj | None = None
    deprecation: str = ""  # what every answer warns of

    def decode(self, obj: Obj, problems: decoding.Problems) -> Obj:
        """Prune, check metadata, fill in defaults."""
        if not obj.get("kind") or not obj.get("apiVersion"):
            raise bad_request("Object 'Kind' is missing in the request body")
        metadata = obj.get("metadata", {})
        made: Obj = decoding.prune({k: v for k, v in obj.items() if k != "metadata"}, self.schema, "", problems.unknown)
        made["metadata"] = decoding.check(metadata, definition(OBJECT_META), problems, "metadata", "ObjectMeta")
        problems.unknown.sort()
        structural.apply_defaults(made, self.schema)
        return made

    def errors(self, obj: Obj, old: Obj | None) -> list[FieldError]:
        """Structural errors, scale paths, then the rules unless the object has the wrong shape."""
        found = structural.validate(obj, self.schema, old)
        if self.scale:
            found += structural.scale_errors(obj, [self.scale["specReplicasPath"], self.scale["statusReplicasPath"]])
        if not self.rules:
            return found
        if structural.blocks_rules(found):
            text = (
                "some validation rules were not checked because the object was invalid; "
                "correct the existing errors to complete validation"
            )
            return [*found, invalid_value("<nil>", None, text)]
        return found + self.rules.errors(obj, old)


def compile_version(version: Obj) -> CustomVersion:
    """The type of one version of a definition."""
    source = version.get("schema", {}).get(
        "openAPIV3Schema", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    )
    schema = compile_structural(source, root=True)
    subresources = version.get("subresources") or {}
    return CustomVersion(
        source=source,
        schema=schema,
        rules=RuleRunner(schema),
        preserve=schema.preserve_unknown,
        columns=version.get("additionalPrinterColumns") or [],
        selectable=[f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or []],
        scale=subresources.get("scale"),
    )


class CustomResources:
    """Keeps the registry in step with the stored definitions."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._crds = registry.builtin("customresourcedefinitions", "apiextensions.k8s.io")
        self._served: dict[str, list[Resource]] = {}

    def load(self) -> None:
        """Serve what an earlier run had stored."""
        for stored in self._registry.collection(self._crds).list():
            if _condition(stored.data, "Established") == "True":
                self._serve(stored.data)

    def changed(self, name: str) -> None:
        """A definition was written: accept its names if they are free, and serve it."""
        collection = self._registry.collection(self._crds)
        stored = collection.get("", name)
        if stored is None:
            return
        if stored.data["metadata"].get("deletionTimestamp"):
            self._delete(stored)
            return
        status = self._new_status(stored.data)
        if status != stored.data.get("status"):
            updated = copy.deepcopy(stored.data)
            updated["status"] = status
            stored = self._store.write(collection, updated)
        if _condition(stored.data, "Established") == "True":
            self._serve(stored.data)

    def _new_status(self, crd: Obj) -> Obj:
        spec, status = crd["spec"], copy.deepcopy(crd.get("status") or {})
        versions = status.setdefault("storedVersions", [])
        storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
        if storage not in versions:
            versions.append(storage)
        accepted = dict(status.get("acceptedNames") or {"kind": "", "plural": ""})
        problem = self._name_conflict(crd, accepted)
        status["acceptedNames"] = accepted
        conditions = {c["type"]: c for c in status.get("conditions") or ()}
        if problem is None:
            names = ("NamesAccepted", "True", "NoConflicts", "no conflicts found")
            established = ("Established", "True", "InitialNamesAccepted", "the initial names have been accepted")
        else:
            names = ("NamesAccepted", "False", problem[0], problem[1])
            established = ("Established", "False", "NotAccepted", "not all names are accepted")
        if conditions.get("Established", {}).get("status") == "True":
            established = ("", "", "", "")
        for type_, value, reason, message in (names, established):
            if type_:
                _set_condition(conditions, type_, value, reason, message)
        status["conditions"] = list(conditions.values())
        return status

    def _name_conflict(self, crd: Obj, accepted: Obj) -> tuple[str, str] | None:
        """Take over the wished names that are free into ``accepted``; the first taken one as (reason, message)."""
        wished, mine = crd["spec"]["names"], crd["metadata"]["name"]
        taken_names: set[str] = set()
        taken_kinds: set[str] = set()
        for other in self._registry.collection(self._crds).list():
            if other.name == mine or other.data["spec"]["group"] != crd["spec"]["group"]:
                continue
            names = (other.data.get("status") or {}).get("acceptedNames") or {}
            taken_names.update(
                filter(None, [names.get("plural"), names.get("singular"), *(names.get("shortNames") or ())])
            )
            taken_kinds.update(filter(None, [names.get("kind"), names.get("listKind")]))
        problem: tuple[str, str] | None = None
        for key, reason, taken in (
            ("plural", "PluralConflict", taken_names),
            ("singular", "SingularConflict", taken_names),
            ("shortNames", "ShortNamesConflict", taken_names),
            ("kind", "KindConflict", taken_kinds),
            ("listKind", "ListKindConflict", taken_kinds),
        ):
            values = wished.get(key) or []
            clash = [v for v in ([values] if isinstance(values, str) else values) if v in taken]
            if not clash:
                if key in wished:
                    accepted[key] = wished[key]
                continue
            problem = (reason, f'"{clash[0]}" is already in use')
        if "categories" in wished:
            accepted["categories"] = wished["categories"]
        return problem

    def _serve(self, crd: Obj) -> None:
        """Put the served versions into the registry, in place of those of an older definition."""
        self._withdraw(crd["metadata"]["name"])
        spec, names = crd["spec"], crd["status"]["acceptedNames"]
        key = f"{spec['group']}/{names['plural']}"
        served: list[Resource] = []
        for version in spec["versions"]:
            resource = self._resource(spec, names, version, key)
            if version.get("storage"):
                self._refresh(resource)
            if version.get("served"):
                served.append(resource)
        self._served[crd["metadata"]["name"]] = served
        for resource in served:
            self._registry.add(resource)

    def _resource(self, spec: Obj, names: Obj, version: Obj, key: str) -> Resource:
        custom = compile_version(version)
        if version.get("deprecated"):
            default = f"{spec['group']}/{version['name']} {names['kind']} is deprecated"
            custom.deprecation = version.get("deprecationWarning") or default
        subresources: dict[str, Subresource] = {}
        declared = version.get("subresources") or {}
        if "status" in declared:
            subresources["status"] = Subresource("status", names["kind"], STATUS_VERBS)
        if "scale" in declared:
            subresources["scale"] = Subresource("scale", "Scale", STATUS_VERBS, "autoscaling", "v1")
        return Resource(
            group=spec["group"],
            version=version["name"],
            kind=names["kind"],
            plural=names["plural"],
            singular=names.get("singular", ""),
            namespaced=spec["scope"] == "Namespaced",
            schema=custom.schema,
            key=key,
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            verbs=VERBS,
            subresources=subresources,
            list_kind=names.get("listKind", ""),
            has_generation=True,
            custom=custom,
            to_version=None if version.get("storage") else _converter(custom),
            from_version=None if version.get("storage") else _converter(_storage_version(spec)),
        )

    def _refresh(self, resource: Resource) -> None:
        """Objects stored earlier get the defaults of the present schema when read."""
        collection = self._registry.collection(resource)
        for stored in collection.list():
            data = copy.deepcopy(stored.data)
            structural.apply_defaults(data, resource.schema)
            if data != stored.data:
                collection.put(Stored(data, stored.revision))

    def _withdraw(self, name: str) -> list[Resource]:
        served = self._served.pop(name, [])
        for resource in served:
            self._registry.remove(resource)
        return served

    def _delete(self, stored: Stored) -> None:
        """Delete the objects of a definition; once none is left, the definition goes."""
        name = stored.name
        resources = self._served.get(name, [])
        for resource in resources[:1]:
            collection = self._registry.collection(resource)
            for item in collection.list():
                if item.data["metadata"].get("finalizers"):
                    if not item.data["metadata"].get("deletionTimestamp"):
                        self._mark(resource, item)
                    continue
                self._store.delete(collection, item)
            if len(collection):
                return
        for resource in self._withdraw(name):
            self._store.drop(resource.key)
        crds = self._registry.collection(self._crds)
        last = copy.deepcopy(stored.data)
        finalizers = [f for f in last["metadata"].get("finalizers", []) if f != CLEANUP_FINALIZER]
        last["metadata"]["finalizers"] = finalizers
        if finalizers:
            if finalizers != stored.data["metadata"].get("finalizers"):
                self._store.write(crds, last)
            return
        del last["metadata"]["finalizers"]
        self._store.delete(crds, stored, last)
        for other in crds.list():  # names that were taken may be free now
            self.changed(other.name)

    def _mark(self, resource: Resource, item: Stored) -> None:
        marked = copy.deepcopy(item.data)
        marked["metadata"] |= {"deletionTimestamp": times.now(), "deletionGracePeriodSeconds": 0}
        marked["metadata"]["generation"] = marked["metadata"].get("generation", 0) + 1
        self._store.write(self._registry.collection(resource), marked)

    def resume_deletions(self) -> None:
        """Called when an object with finalizers is gone: a waiting definition may go on."""
        for stored in self._registry.collection(self._crds).list():
            if stored.data["metadata"].get("deletionTimestamp"):
                self._delete(stored)


def _converter(custom: CustomVersion) -> Any:
    """Show a stored object as another version does: its fields only, with its defaults (conversion strategy None)."""

    def convert(data: Obj) -> Obj:
        shown: Obj = decoding.prune({k: v for k, v in data.items() if k != "metadata"}, custom.schema)
        made = copy.deepcopy(shown)
        made["metadata"] = data["metadata"]
        structural.apply_defaults(made, custom.schema)
        return made

    return convert


def _storage_version(spec: Obj) -> CustomVersion:
    return compile_version(next(v for v in spec["versions"] if v.get("storage")))


def _condition(crd: Obj, type_: str) -> str:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return next((c["status"] for c in conditions if c["type"] == type_), "")


def _set_condition(conditions: dict[str, Obj], type_: str, status: str, reason: str, message: str) -> None:
    old = conditions.get(type_)
    moved = old is None or old["status"] != status
    since = times.now() if moved or old is None else old["lastTransitionTime"]
    conditions[type_] = {
        "type": type_,
        "status": status,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
