"""The CustomResourceDefinition, made from the pydantic types so that the two cannot disagree.

pydantic writes JSON Schema, Kubernetes wants *structural* schemas: no `$ref`, no `anyOf` with null, no `title`,
`additionalProperties` never beside `properties`. `structural_schema` translates one into the other and adds what
JSON Schema has no word for: defaults of nested objects, list-map keys, int-or-string, and the CEL rules of
`rules.py`.

Defaults are written for the whole spec but `spec.model` and `spec.runtime`: what the user set there is hashed
into the revision, and a default that a later release changes must not give running models a new revision. Nor are
defaults written inside list items: a list belongs to who applied it, and an item that the server filled up looks to
`kubectl apply` and to GitOps tools as if somebody had changed it. There the description says what holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from mlserve_core.api import rules
from mlserve_core.api import v1alpha1 as api

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Schema = dict[str, Any]

QUANTITY_PATTERN: Final = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)

LIST_MAP_KEYS: Final[dict[type[BaseModel], tuple[str, ...]]] = {
    api.Condition: ("type",),
    api.FeatureOverride: ("name",),
    api.PrometheusCheck: ("name",),
}
"""Lists of these types are maps in disguise: two field managers may own different entries."""

_CONSTRAINTS: Final = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "enum")

PRINTER_COLUMNS: Final[tuple[Schema, ...]] = (
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Stable", "type": "string", "jsonPath": ".status.stable.revision"},
    {"name": "Canary", "type": "string", "jsonPath": ".status.canary.revision"},
    {"name": "Weight", "type": "integer", "jsonPath": ".status.canary.weight"},
    {"name": "Drift", "type": "string", "jsonPath": ".status.drift.verdict"},
    {"name": "Replicas", "type": "integer", "jsonPath": ".status.replicas"},
    {"name": "URL", "type": "string", "jsonPath": ".status.url", "priority": 1},
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
        "priority": 1,
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)


def structural_schema(model: type[BaseModel], *, defaults: bool) -> Schema:
    """The structural schema of a type.

    Args:
        model: a pydantic model; aliases give the property names.
        defaults: whether defaults are written (for what users write, not for what is observed).
    """
    properties: Schema = {}
    required: list[str] = []
    raw = model.model_json_schema(by_alias=True, mode="validation")
    for field in model.model_fields.values():
        name = str(field.alias)
        with_defaults = defaults and _unwrap(field) not in (api.Model, api.Runtime)
        schema = _property(field, raw["properties"][name], raw.get("$defs", {}), defaults=with_defaults)
        schema = {"description": field.description or "", **schema}
        if field.is_required():
            required.append(name)
        elif defaults and (default := _default(field)) is not None and (with_defaults or default == {}):
            schema["default"] = default
        properties[name] = schema
    schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if model in rules.RULES:
        schema["x-kubernetes-validations"] = [rule.to_schema() for rule in rules.RULES[model]]
    return schema


def custom_resource_definition() -> Schema:
    """The CustomResourceDefinition of ModelDeployment, ready to be applied."""
    version = {
        "name": api.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root_schema()},
        "additionalPrinterColumns": list(PRINTER_COLUMNS),
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{api.PLURAL}.{api.GROUP}"},
        "spec": {
            "group": api.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": api.KIND,
                "listKind": f"{api.KIND}List",
                "plural": api.PLURAL,
                "singular": api.SINGULAR,
                "shortNames": list(api.SHORT_NAMES),
                "categories": list(api.CATEGORIES),
            },
            "versions": [version],
        },
    }


def _root_schema() -> Schema:
    def text(description: str) -> Schema:
        return {"description": description, "type": "string"}

    return {
        "description": "A PyTorch model that is served, and how its versions follow one another.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": text("Version of the schema, mlserve.io/v1alpha1."),
            "kind": text("ModelDeployment."),
            "metadata": {"type": "object"},
            "spec": {
                "description": "What the user wants.",
                **structural_schema(api.ModelDeploymentSpec, defaults=True),
            },
            "status": {
                "description": "What the operator observed; written by it alone.",
                **structural_schema(api.ModelDeploymentStatus, defaults=False),
            },
        },
        "x-kubernetes-validations": [rule.to_schema() for rule in rules.ROOT_RULES],
    }


def _property(field: FieldInfo, raw: Schema, definitions: Schema, *, defaults: bool) -> Schema:
    model = _unwrap(field)
    branches = [branch for branch in raw.get("anyOf", []) if branch.get("type") != "null"]
    if len(branches) == 1:  # `X | None`: an optional field is simply not required
        raw = branches[0]
    if raw.get("type") == "array":
        return _list(model, raw, definitions)
    if model is not None:
        return structural_schema(model, defaults=defaults)
    return _leaf(raw, definitions)


def _list(model: type[BaseModel] | None, raw: Schema, definitions: Schema) -> Schema:
    items = _leaf(raw["items"], definitions) if model is None else structural_schema(model, defaults=False)
    schema: Schema = {"type": "array", **_constraints(raw), "items": items}
    if model in LIST_MAP_KEYS:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(LIST_MAP_KEYS[model])}
    else:
        schema["x-kubernetes-list-type"] = "atomic"
    return schema


def _leaf(raw: Schema, definitions: Schema) -> Schema:
    if "$ref" in raw:
        raw = definitions[raw["$ref"].rpartition("/")[2]]
    kinds = {branch.get("type") for branch in raw.get("anyOf", [])}
    if kinds == {"integer", "string"}:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY_PATTERN,
            "x-kubernetes-int-or-string": True,
        }
    if raw["type"] == "object":
        values = raw.get("additionalProperties", True)
        if values is True:
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        return {"type": "object", "additionalProperties": _leaf(values, definitions)}
    return {"type": raw["type"], **_constraints(raw)}


def _constraints(raw: Schema) -> Schema:
    return {key: raw[key] for key in _CONSTRAINTS if key in raw}


def _default(field: FieldInfo) -> Any:
    """The default worth writing down, as JSON; None if there is none."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(value, list):
        return [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in value] or None
    if value in ("", {}):  # says nothing, unlike an empty object, which carries the defaults of its fields
        return None
    return str(value) if isinstance(value, str) else value


def _unwrap(field: FieldInfo) -> type[BaseModel] | None:
    """The model inside `X`, `X | None` or `list[X]`; None if there is none."""
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
