"""Which resources exist right now: the built-in table plus whatever CustomResourceDefinitions add.

A :class:`Resource` is one served (group, version, plural). Requests look it up by path, controllers inside the server
by group and kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from mlserve_local.apiserver import conversion, kinds
from mlserve_local.apiserver.errors import Obj, qualified
from mlserve_local.apiserver.schema import Schema, definition, definitions
from mlserve_local.apiserver.storage import Collection, Store, Stored


@dataclass(slots=True, frozen=True)
class Subresource:
    """A path below an object. ``group`` and ``version`` are set where they differ from the parent's."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(slots=True, eq=False)
class Resource:
    """One served resource: names, type, and the collection its objects live in."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    schema: Schema
    key: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = kinds.ALL_VERBS
    subresources: dict[str, Subresource] = field(default_factory=dict)
    list_kind: str = ""
    has_generation: bool = False
    returns_deleted: bool = False
    custom: Any = None  # crd.CustomVersion for custom resources
    to_version: Callable[[Obj], Obj] | None = None
    from_version: Callable[[Obj], Obj] | None = None
    prefix: bytes = b""
    item_prefix: bytes = b"{"

    def __post_init__(self) -> None:
        self.list_kind = self.list_kind or f"{self.kind}List"
        head = orjson.dumps({"kind": self.kind, "apiVersion": self.api_version})
        self.prefix = head[:-1] + b","
        self.item_prefix = self.prefix if self.custom is not None else b"{"

    @property
    def api_version(self) -> str:
        """``apps/v1``, or ``v1`` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified_kind(self) -> str:
        """``Deployment.apps``."""
        return qualified(self.kind, self.group)

    @property
    def qualified_name(self) -> str:
        """``deployments.apps``."""
        return qualified(self.plural, self.group)

    def view(self, stored: Stored) -> Obj:
        """The object as this version shows it, without kind and apiVersion. Not to be changed in place."""
        return self.to_version(stored.data) if self.to_version else stored.data

    def full(self, stored: Stored) -> Obj:
        """The object as this version shows it, with kind and apiVersion."""
        return {"kind": self.kind, "apiVersion": self.api_version, **self.view(stored)}

    def encode(self, stored: Stored) -> bytes:
        """JSON of an object, kind and apiVersion first."""
        raw = orjson.dumps(self.to_version(stored.data)) if self.to_version else stored.raw
        return self.prefix + raw[1:]

    def encode_item(self, stored: Stored) -> bytes:
        """JSON of an object inside a list: built-in kinds leave kind and apiVersion out there."""
        raw = orjson.dumps(self.to_version(stored.data)) if self.to_version else stored.raw
        return self.item_prefix + raw[1:]


def _definition_names() -> dict[tuple[str, str, str], str]:
    return {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, source in definitions().items()
        for gvk in source.get("x-kubernetes-group-version-kind", ())
    }


def _subresources(row: kinds.Kind) -> dict[str, Subresource]:
    found: dict[str, Subresource] = {}
    if "s" in row.flags:
        found["status"] = Subresource("status", row.kind, kinds.STATUS_VERBS)
    if "x" in row.flags:
        found["scale"] = Subresource("scale", "Scale", kinds.STATUS_VERBS, "autoscaling", "v1")
    for name, kind, verbs in row.subresources:
        group, _, rest = kind.rpartition("/")[0].rpartition("/")
        found[name] = Subresource(name, kind.rpartition("/")[2], verbs, group, rest)
    return found


class Registry:
    """Lookup of resources by path, and of the collection behind each."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.by_path: dict[tuple[str, str, str], Resource] = {}
        self.generation = 0  # changes whenever discovery does
        names = _definition_names()
        for (group, version), rows in kinds.KINDS.items():
            for row in rows:
                self.add(self._builtin(group, version, row, names))
        self.builtin_groups = {group for group, _ in kinds.KINDS}

    def _builtin(self, group: str, version: str, row: kinds.Kind, names: dict[tuple[str, str, str], str]) -> Resource:
        path = f"{group}/{version}/{row.plural}"
        verbs: tuple[str, ...] = kinds.ALL_VERBS
        if "o" in row.flags:
            verbs = ("create",)
        elif row.kind == "Namespace":
            verbs = tuple(v for v in verbs if v != "deletecollection")
        to_version, from_version = conversion.CONVERSIONS.get(path, (None, None))
        return Resource(
            group=group,
            version=version,
            kind=row.kind,
            plural=row.plural,
            singular=row.kind.lower(),
            namespaced="c" not in row.flags,
            schema=definition(names[group, version, row.kind]),
            key=kinds.SHARED_STORAGE.get(path, f"{group}/{row.plural}"),
            short_names=row.short,
            categories=row.categories,
            verbs=verbs,
            subresources=_subresources(row),
            has_generation="g" in row.flags,
            returns_deleted="r" in row.flags,
            to_version=to_version,
            from_version=from_version,
        )

    def add(self, resource: Resource) -> None:
        """Serve a resource."""
        self.by_path[resource.group, resource.version, resource.plural] = resource
        self.generation += 1

    def remove(self, resource: Resource) -> None:
        """Stop serving a resource."""
        if self.by_path.pop((resource.group, resource.version, resource.plural), None) is not None:
            self.generation += 1

    def get(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource at a path."""
        return self.by_path.get((group, version, plural))

    def builtin(self, plural: str, group: str = "", version: str = "v1") -> Resource:
        """A resource that is always there."""
        return self.by_path[group, version, plural]

    def collection(self, resource: Resource) -> Collection:
        """Where the objects of a resource are."""
        return self.store.collection(resource.key)

    def versions(self, group: str) -> list[str]:
        """Served versions of a group, preferred first."""
        found = dict.fromkeys(v for g, v, _ in self.by_path if g == group)
        if group in self.builtin_groups:
            return list(found)
        return sorted(found, key=conversion.version_priority)

    def groups(self) -> list[str]:
        """Served groups, the core group left out; built-in ones first."""
        found = [g for g, _ in kinds.KINDS if g]
        return list(dict.fromkeys(found + sorted(g for g, _, _ in self.by_path if g and g not in self.builtin_groups)))

    def resources(self, group: str, version: str) -> list[Resource]:
        """All resources of a group and version."""
        return [r for (g, v, _), r in self.by_path.items() if g == group and v == version]

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource of an ownerReference; another version of the group will do."""
        group, _, version = api_version.rpartition("/")
        found = [r for (g, _, _), r in self.by_path.items() if g == group and r.kind == kind]
        return next((r for r in found if r.version == version), found[0] if found else None)

    def storage_resources(self) -> Iterator[Resource]:
        """One resource per collection: the version objects are stored in."""
        seen: set[str] = set()
        for resource in list(self.by_path.values()):
            if resource.key not in seen and resource.to_version is None and "list" in resource.verbs:
                seen.add(resource.key)
                yield resource
