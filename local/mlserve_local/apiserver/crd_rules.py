"""Is a CustomResourceDefinition itself sound? Names, versions, and a structural schema whose rules compile."""

from __future__ import annotations

import re
from typing import Any, Final

from mlserve_local.apiserver.cel_rules import RuleError, check_fields, compile_expression
from mlserve_local.apiserver.errors import FieldError, Obj, forbidden_field, invalid_value, not_supported, required
from mlserve_local.apiserver.schema import compile_structural
from mlserve_local.apiserver.structural import Validator
from mlserve_local.apiserver.validation import dns_1035_label, dns_subdomain

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_NO_STRUCTURE: Final = (
    "description",
    "type",
    "default",
    "additionalProperties",
    "nullable",
    "x-kubernetes-preserve-unknown-fields",
)
MAX_DEPTH: Final = 200
_APPROVED: Final = "api-approved.kubernetes.io"
_TOO_COSTLY: Final = (
    "estimated messageExpression cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding "
    "maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
)


def definition(obj: Obj) -> list[FieldError]:
    """Everything wrong with a definition."""
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    found: list[FieldError] = []
    group, plural = spec.get("group", ""), names.get("plural", "")
    expected = f"{plural}.{group}"
    if obj["metadata"].get("name") != expected:
        found.append(
            invalid_value("metadata.name", obj["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group')
        )
    if not group:
        found.append(required("spec.group"))
    else:
        found += [invalid_value("spec.group", group, text) for text in dns_subdomain(group)]
        if "." not in group:
            found.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    if group.endswith((".k8s.io", ".kubernetes.io")) and not (obj["metadata"].get("annotations") or {}).get(_APPROVED):
        text = (
            f'protected groups must have approval annotation "{_APPROVED}", see '
            "https://github.com/kubernetes/enhancements/pull/1111"
        )
        found.append(required(f"metadata.annotations[{_APPROVED}]", text))
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        found.append(not_supported("spec.scope", spec.get("scope", ""), ["Cluster", "Namespaced"]))
    found += _names(names)
    found += _conversion(spec)
    versions = spec.get("versions") or []
    if not versions:
        found.append(required("spec.versions", "must have at least one version"))
    if sum(bool(v.get("storage")) for v in versions) != 1:
        text = "must have exactly one version marked as storage version"
        found.append(invalid_value("spec.versions", [v.get("name") for v in versions], text))
    seen: set[str] = set()
    for index, version in enumerate(versions):
        field = f"spec.versions[{index}]"
        if version.get("name") in seen:
            found.append(invalid_value("spec.versions", version.get("name"), "must contain unique version names"))
        seen.add(version.get("name", ""))
        found += [
            invalid_value(f"{field}.name", version.get("name", ""), t) for t in dns_1035_label(version.get("name", ""))
        ]
        found += _version(version, field)
    return found


def _conversion(spec: Obj) -> list[FieldError]:
    found: list[FieldError] = []
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        found.append(invalid_value("spec.preserveUnknownFields", True, text))
    conversion = spec.get("conversion") or {}
    if conversion.get("strategy") not in ("None", "Webhook"):
        found.append(not_supported("spec.conversion.strategy", conversion.get("strategy", ""), ["None", "Webhook"]))
    elif conversion["strategy"] == "Webhook" and not (conversion.get("webhook") or {}).get("clientConfig"):
        found.append(required("spec.conversion.webhook.clientConfig", "required when strategy is set to Webhook"))
    return found


def _names(names: Obj) -> list[FieldError]:
    found: list[FieldError] = []
    for key in ("plural", "singular", "kind", "listKind"):
        value = names.get(key, "")
        if not value:
            found.append(required(f"spec.names.{key}"))
            continue
        found += [invalid_value(f"spec.names.{key}", value, text) for text in dns_1035_label(value.lower())]
    for index, short in enumerate(names.get("shortNames") or ()):
        found += [invalid_value(f"spec.names.shortNames[{index}]", short, t) for t in dns_1035_label(short)]
    for index, category in enumerate(names.get("categories") or ()):
        found += [invalid_value(f"spec.names.categories[{index}]", category, t) for t in dns_1035_label(category)]
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        found.append(invalid_value("spec.names.listKind", names["listKind"], "kind and listKind may not be the same"))
    return found


def _version(version: Obj, field: str) -> list[FieldError]:
    found: list[FieldError] = []
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not isinstance(schema, dict):
        return [required(f"{field}.schema.openAPIV3Schema", "schemas are required")]
    place = f"{field}.schema.openAPIV3Schema"
    if schema.get("type") != "object":
        found.append(
            required(f"{place}.type", "must not be empty at the root")
            if not schema.get("type")
            else invalid_value(f"{place}.type", schema["type"], "must be object at the root")
        )
    checker = _SchemaChecker()
    checker.check(schema, place, root=True)
    metadata = (schema.get("properties") or {}).get("metadata") or {}
    if set(metadata.get("properties") or ()) - {"name", "generateName"}:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        found.append(forbidden_field(f"{place}.properties[metadata]", text))
    for index, selectable in enumerate(version.get("selectableFields") or ()):
        found += _selectable(selectable.get("jsonPath", ""), schema, f"{field}.selectableFields[{index}].jsonPath")
    found += checker.errors
    scale = (version.get("subresources") or {}).get("scale")
    if scale is not None:
        found += _scale(scale, f"{field}.subresources.scale")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        found += _column(column, f"{field}.additionalPrinterColumns[{index}]")
    return found


def _selectable(path: str, schema: Obj, field: str) -> list[FieldError]:
    if not path:
        return [required(field)]
    if not re.fullmatch(r"(\.[A-Za-z_][\w-]*)+", path):
        return [invalid_value(field, path, "is an invalid path: must be a simple path of fields")]
    node: Any = schema
    for name in path.strip(".").split("."):
        node = (node.get("properties") or {}).get(name) if isinstance(node, dict) else None
    if node is None:
        return [invalid_value(field, path, "is an invalid path: does not refer to a valid field")]
    if node.get("type") not in ("string", "boolean", "integer"):
        text = "must point to a field of type string, boolean or integer"
        return [invalid_value(field, path, text)]
    return []


def _scale(scale: Obj, field: str) -> list[FieldError]:
    found: list[FieldError] = []
    for key, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value = scale.get(key, "")
        if not value:
            found.append(required(f"{field}.{key}"))
        elif not re.fullmatch(r"(\.[A-Za-z_][\w-]*)+", value):
            found.append(invalid_value(f"{field}.{key}", value, "should be a json path"))
        elif not value.startswith(prefix):
            found.append(invalid_value(f"{field}.{key}", value, f"should be a json path under {prefix[:-1]}"))
    label = scale.get("labelSelectorPath")
    if label and not label.startswith((".spec.", ".status.")):
        found.append(
            invalid_value(f"{field}.labelSelectorPath", label, "should be a json path under either .spec or .status")
        )
    return found


def _column(column: Obj, field: str) -> list[FieldError]:
    found = [required(f"{field}.{k}") for k in ("name", "jsonPath") if not column.get(k)]
    kind = column.get("type", "")
    types = ["boolean", "date", "integer", "number", "string"]
    if not kind:
        found.append(required(f"{field}.type"))
    elif kind not in types:
        found.append(invalid_value(f"{field}.type", kind, f"must be one of {','.join(types)}"))
    path = column.get("jsonPath", "")
    if path and not path.startswith("."):
        found.append(invalid_value(f"{field}.jsonPath", path, "is an invalid json path"))
    return found


_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")


class _SchemaChecker:
    """Walks an openAPIV3Schema and collects what makes it not structural."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._depth = 0
        self._uncorrelated = ""  # the innermost list whose elements cannot be matched with their old selves

    def check(self, schema: Any, field: str, root: bool = False) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self.errors.append(invalid_value(field, "", f"schemas may not be nested deeper than {MAX_DEPTH} levels"))
        elif isinstance(schema, dict):
            self._node(schema, field, root)
        self._depth -= 1

    def _node(self, schema: Obj, field: str, root: bool) -> None:
        self._type(schema, field, root)
        self._forbidden(schema, field)
        self._list(schema, field)
        self._pattern(schema, field)
        self._rules(schema, field)
        for key, child in (schema.get("properties") or {}).items():
            if not (root and key == "metadata"):
                self.check(child, f"{field}.properties[{key}]")
        if isinstance(schema.get("items"), dict):
            outer = self._uncorrelated
            if schema.get("x-kubernetes-list-type") != "map":
                self._uncorrelated = outer or field
            self.check(schema["items"], f"{field}.items")
            self._uncorrelated = outer
        if isinstance(schema.get("additionalProperties"), dict):
            self.check(schema["additionalProperties"], f"{field}.additionalProperties")
        for name in ("allOf", "anyOf", "oneOf"):
            for index, branch in enumerate(schema.get(name) or ()):
                self._branch(branch, f"{field}.{name}[{index}]", bool(schema.get("x-kubernetes-int-or-string")))
        if isinstance(schema.get("not"), dict):
            self._branch(schema["not"], f"{field}.not", False)
        if "default" in schema:
            self._default(schema, field)

    def _branch(self, branch: Obj, field: str, int_or_string: bool) -> None:
        """Inside anyOf and the like only value validations are allowed."""
        for key in _NO_STRUCTURE:
            if branch.get(key) and not (int_or_string and key == "type"):
                self.errors.append(forbidden_field(f"{field}.{key}", "must be empty to be structural"))
        for key, child in (branch.get("properties") or {}).items():
            self._branch(child, f"{field}.properties[{key}]", False)

    def _type(self, schema: Obj, field: str, root: bool) -> None:
        kind = schema.get("type", "")
        loose = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
        if kind and kind not in _TYPES:
            self.errors.append(not_supported(f"{field}.type", kind, _TYPES))
        elif not kind and not loose and not root:
            self.errors.append(required(f"{field}.type", "must not be empty for specified object fields"))
        if kind == "array" and not isinstance(schema.get("items"), dict):
            self.errors.append(required(f"{field}.items", "must be specified"))
        if kind and schema.get("x-kubernetes-int-or-string"):
            self.errors.append(
                invalid_value(f"{field}.type", kind, "must be empty if x-kubernetes-int-or-string is true")
            )
        if schema.get("x-kubernetes-embedded-resource") and kind != "object":
            self.errors.append(
                invalid_value(f"{field}.type", kind, "must be object if x-kubernetes-embedded-resource is true")
            )

    def _forbidden(self, schema: Obj, field: str) -> None:
        if schema.get("properties") and schema.get("additionalProperties") not in (None, False):
            text = "additionalProperties and properties are mutual exclusive"
            self.errors.append(forbidden_field(f"{field}.additionalProperties", text))
        if schema.get("additionalProperties") is False:
            self.errors.append(
                forbidden_field(f"{field}.additionalProperties", "additionalProperties cannot be set to false")
            )
        if schema.get("uniqueItems"):
            text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            self.errors.append(forbidden_field(f"{field}.uniqueItems", text))
        for key, text in (
            ("$ref", "$ref is not supported"),
            ("definitions", "definitions is not supported"),
            ("dependencies", "dependencies is not supported"),
            ("patternProperties", "patternProperties is not supported"),
            ("id", "id is not supported"),
        ):
            if schema.get(key):
                self.errors.append(forbidden_field(f"{field}.{key}", text))

    def _list(self, schema: Obj, field: str) -> None:
        kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
        if kind and schema.get("type") != "array":
            self.errors.append(
                invalid_value(
                    f"{field}.type", schema.get("type", ""), "must be array if x-kubernetes-list-type is specified"
                )
            )
        if kind not in (None, "atomic", "map", "set"):
            self.errors.append(not_supported(f"{field}.x-kubernetes-list-type", kind, ["atomic", "map", "set"]))
        if kind == "map" and not keys:
            text = "must not be empty if x-kubernetes-list-type is map"
            self.errors.append(required(f"{field}.x-kubernetes-list-map-keys", text))
        items = schema.get("items") if isinstance(schema.get("items"), dict) else {}
        if kind == "set" and isinstance(items, dict) and items.get("type") in ("object", "array"):
            key = "x-kubernetes-map-type" if items["type"] == "object" else "x-kubernetes-list-type"
            if items.get(key, "atomic" if items["type"] == "array" else None) != "atomic":
                text = "must be atomic as item of a list with x-kubernetes-list-type=set"
                self.errors.append(invalid_value(f"{field}.items.{key}", items.get(key), text))
        for key in keys:
            if isinstance(items, dict) and key not in (items.get("properties") or {}):
                text = "entries must all be names of item properties"
                self.errors.append(invalid_value(f"{field}.x-kubernetes-list-map-keys", keys, text))
            elif (
                isinstance(items, dict)
                and key not in (items.get("required") or ())
                and "default" not in items["properties"][key]
            ):
                place = f"{field}.items.properties[{key}].default"
                text = (
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a "
                    "required property"
                )
                self.errors.append(required(place, text))

    def _pattern(self, schema: Obj, field: str) -> None:
        pattern = schema.get("pattern")
        if pattern:
            try:
                re.compile(pattern.replace("\\z", "\\Z"))
            except re.error as error:
                text = f"must be a valid regular expression, but isn't: error parsing regexp: {error}"
                self.errors.append(invalid_value(f"{field}.pattern", pattern, text))

    def _rules(self, schema: Obj, field: str) -> None:
        for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
            place = f"{field}.x-kubernetes-validations[{index}]"
            if not (rule.get("rule") or "").strip():
                self.errors.append(required(f"{place}.rule", "rule is not specified"))
                continue
            self._rule_options(rule, schema, place)
            for key in ("rule", "messageExpression"):
                if not rule.get(key):
                    continue
                try:
                    uses_old = "oldSelf" in compile_expression(rule[key]).variables()
                    check_fields(rule[key], schema)
                except RuleError as error:
                    text = f"compilation failed: {error}"
                    self.errors.append(invalid_value(f"{place}.{key}", rule if key == "rule" else rule[key], text))
                    continue
                if key == "messageExpression" and re.search(r"\bstring\(", rule[key]):
                    # The length of string(x) cannot be bounded, which is how a real server comes to refuse it.
                    self.errors.append(forbidden_field(f"{place}.{key}", _TOO_COSTLY))
                if uses_old and self._uncorrelated and key == "rule":
                    text = (
                        f"oldSelf cannot be used on the uncorrelatable portion of the schema within "
                        f"{self._uncorrelated}"
                    )
                    self.errors.append(invalid_value(f"{place}.rule", rule["rule"], text))

    def _rule_options(self, rule: Obj, schema: Obj, place: str) -> None:
        reason = rule.get("reason")
        if reason is not None and reason not in _REASONS:
            self.errors.append(not_supported(f"{place}.reason", reason, _REASONS))
        path = rule.get("fieldPath", "")
        names = re.findall(r"\.([\w-]+)|\['([^']+)'\]", path)
        node: Any = schema
        for plain, quoted in names:
            node = (node.get("properties") or {}).get(plain or quoted) if isinstance(node, dict) else None
        if path and (not names or node is None):
            text = "fieldPath must be a valid path: does not refer to a valid field"
            self.errors.append(invalid_value(f"{place}.fieldPath", path, text))
        if "\n" in rule.get("message", ""):
            self.errors.append(
                invalid_value(f"{place}.message", rule["message"], "message must not contain line breaks")
            )

    def _default(self, schema: Obj, field: str) -> None:
        validator = Validator()
        try:
            validator.validate(schema["default"], compile_structural(schema), f"{field}.default")
        except (AttributeError, TypeError):
            return  # the schema itself is broken, which other errors say
        self.errors += validator.errors


def definition_update(new: Obj, old: Obj) -> list[FieldError]:
    """What cannot change once clients rely on it."""
    found = [
        invalid_value(f"spec.{key}", new["spec"].get(key), "field is immutable")
        for key in ("group", "scope")
        if new["spec"].get(key) != old["spec"].get(key)
    ]
    names, before = new["spec"]["names"], old["spec"]["names"]
    found += [
        invalid_value(f"spec.names.{k}", names.get(k), "field is immutable")
        for k in ("kind", "plural")
        if names.get(k) != before.get(k)
    ]
    present = {v["name"] for v in new["spec"].get("versions") or ()}
    for index, stored in enumerate((old.get("status") or {}).get("storedVersions") or ()):
        if stored not in present:
            text = (
                f"missing from spec.versions; {stored} was previously a storage version, and must remain in "
                f"spec.versions "
                f"until a storage migration ensures no data remains persisted in {stored} and removes {stored} from "
                "status.storedVersions"
            )
            found.append(invalid_value(f"status.storedVersions[{index}]", stored, text))
    return found
