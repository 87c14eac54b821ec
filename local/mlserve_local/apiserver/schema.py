"""One shape for every type: built-in kinds and custom resources are walked by the same code.

Decoding, pruning, strategic merge and server-side apply all need to know, at each field, what may be there and how
it merges. Two sources describe that: the OpenAPI definitions of Kubernetes (shipped by ``kubernetes-validate``) and
the ``openAPIV3Schema`` of a CustomResourceDefinition. Both are compiled into :class:`Schema` once.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

MISSING: Final = object()
RELEASE: Final = "v1.36.0"

# Keys of list maps that the server defaults, so that an apply may leave them out.
_KEY_DEFAULTS: Final = {
    "io.k8s.api.core.v1.ContainerPort": {"protocol": "TCP"},
    "io.k8s.api.core.v1.ServicePort": {"protocol": "TCP"},
}
_FREE_FORM: Final = frozenset(
    {
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
    }
)
_SCALARS: Final = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "micro-time",
}
OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


@dataclass(slots=True, eq=False)
class Schema:
    """A compiled type. ``type`` is empty where any value is allowed.

    ``special`` names the scalars with their own syntax: quantity, int-or-string, time, micro-time.
    ``list_type`` is ``atomic``, ``set`` or ``map`` (by ``list_keys``); ``atomic_map`` makes a map one value.
    ``raw`` is the source: for a custom resource the structural schema with its value validations.
    """

    name: str = ""
    type: str = ""
    special: str = ""
    format: str = ""
    description: str = ""
    properties: dict[str, Schema] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    items: Schema | None = None
    values: Schema | None = None
    list_type: str = "atomic"
    list_keys: tuple[str, ...] = ()
    key_defaults: dict[str, Any] = field(default_factory=dict)
    atomic_map: bool = False
    patch_merge_key: str = ""
    patch_strategy: frozenset[str] = frozenset()
    preserve_unknown: bool = False
    embedded: bool = False
    nullable: bool = False
    default: Any = MISSING
    raw: dict[str, Any] = field(default_factory=dict)

    def child(self, key: str) -> Schema | None:
        """The type of a member: a named field, else the value type of a map."""
        return self.properties.get(key) or self.values

    @property
    def free_form(self) -> bool:
        """Nothing is known below: unknown members are kept as they are."""
        return self.preserve_unknown and not self.properties

    def element_key(self, item: dict[str, Any]) -> tuple[Any, ...]:
        """The identity of a list-map element: its key fields, defaulted."""
        return tuple(item.get(k, self.key_defaults.get(k)) for k in self.list_keys)


@functools.cache
def definitions() -> dict[str, Any]:
    """The OpenAPI definitions of all built-in types, as published."""
    package = resources.files("kubernetes_validate").joinpath("kubernetes-json-schema")
    text = package.joinpath(f"{RELEASE}-local", "_definitions.json").read_text()
    loaded: dict[str, Any] = json.loads(text)["$defs"]
    return loaded


_compiled: dict[str, Schema] = {}


def definition(name: str) -> Schema:
    """The compiled type of a definition; recursive types share one object."""
    if name in _compiled:
        return _compiled[name]
    schema = _compiled[name] = Schema(name=name)
    if name in _SCALARS:
        schema.special = _SCALARS[name]
        schema.type = "string" if "time" in schema.special else ""
    elif name in _FREE_FORM:
        schema.preserve_unknown = True
        schema.atomic_map = True
    else:
        _fill(schema, definitions()[name])
    schema.key_defaults = _KEY_DEFAULTS.get(name, {})
    return schema


def _type_name(declared: Any) -> str:
    if isinstance(declared, list):
        return str(next((t for t in declared if t != "null"), ""))
    return str(declared or "")


def _fill(schema: Schema, source: dict[str, Any]) -> None:
    """Compile a published definition into ``schema``."""
    schema.type = _type_name(source.get("type"))
    schema.format = source.get("format", "")
    schema.description = source.get("description", "")
    schema.required = frozenset(source.get("required", ()))
    schema.properties = {k: _compile(v) for k, v in source.get("properties", {}).items()}
    schema.atomic_map = source.get("x-kubernetes-map-type") == "atomic"
    extra = source.get("additionalProperties")
    if isinstance(extra, dict):
        schema.values = _compile(extra)
    if "items" in source:
        schema.items = _compile(source["items"])
        schema.key_defaults = schema.items.key_defaults
    schema.list_type = source.get("x-kubernetes-list-type", "atomic")
    schema.list_keys = tuple(source.get("x-kubernetes-list-map-keys", ()))
    schema.patch_merge_key = source.get("x-kubernetes-patch-merge-key", "")
    schema.patch_strategy = frozenset(filter(None, source.get("x-kubernetes-patch-strategy", "").split(",")))


def _compile(source: dict[str, Any]) -> Schema:
    """A property: a reference, possibly with merge annotations of its own, or an inline type."""
    reference = source.get("$ref", "")
    if not reference:
        schema = Schema()
        _fill(schema, source)
        return schema
    target = definition(reference.rpartition("/")[2])
    annotated = any(key.startswith("x-kubernetes-") for key in source)
    if not annotated and "description" not in source:
        return target
    return _annotated(target, source) if annotated else target


def _annotated(target: Schema, source: dict[str, Any]) -> Schema:
    """A reference that changes how its target merges (``x-kubernetes-patch-strategy: retainKeys`` and the like)."""
    copy = Schema(
        name=target.name,
        type=target.type or "object",
        special=target.special,
        required=target.required,
        properties=target.properties,
        values=target.values,
        description=source.get("description", ""),
        atomic_map=target.atomic_map or source.get("x-kubernetes-map-type") == "atomic",
        preserve_unknown=target.preserve_unknown,
    )
    copy.patch_strategy = frozenset(filter(None, source.get("x-kubernetes-patch-strategy", "").split(",")))
    return copy


def compile_structural(source: dict[str, Any], root: bool = False) -> Schema:
    """Compile a structural schema of a CustomResourceDefinition."""
    schema = Schema(raw=source, type=source.get("type", ""), format=source.get("format", ""))
    schema.description = source.get("description", "")
    schema.required = frozenset(source.get("required", ()))
    schema.nullable = bool(source.get("nullable"))
    schema.preserve_unknown = bool(source.get("x-kubernetes-preserve-unknown-fields"))
    schema.embedded = bool(source.get("x-kubernetes-embedded-resource"))
    if source.get("x-kubernetes-int-or-string"):
        schema.special = "int-or-string"
    schema.default = source.get("default", MISSING)
    schema.properties = {k: compile_structural(v) for k, v in (source.get("properties") or {}).items()}
    extra = source.get("additionalProperties")
    if isinstance(extra, dict):
        schema.values = compile_structural(extra)
    elif extra:
        schema.values = Schema(preserve_unknown=True)
    if isinstance(source.get("items"), dict):
        schema.items = compile_structural(source["items"])
    schema.list_type = source.get("x-kubernetes-list-type", "atomic")
    schema.list_keys = tuple(source.get("x-kubernetes-list-map-keys") or ())
    if schema.items is not None and schema.list_type == "map":
        found = {k: schema.items.properties[k].default for k in schema.list_keys if k in schema.items.properties}
        schema.key_defaults = {k: v for k, v in found.items() if v is not MISSING}
    schema.atomic_map = source.get("x-kubernetes-map-type") == "atomic"
    if root or schema.embedded:
        schema.type = schema.type or "object"
        schema.properties = {
            **schema.properties,
            "apiVersion": Schema(type="string"),
            "kind": Schema(type="string"),
            "metadata": definition(OBJECT_META) if root else _embedded_meta(),
        }
    return schema


@functools.cache
def _embedded_meta() -> Schema:
    """ObjectMeta inside a custom resource: pruned and checked like the object's own."""
    return definition(OBJECT_META)
