"""Does a custom resource fit the schema of its CustomResourceDefinition?

The order of checks and the texts follow go-openapi's validator as kube-apiserver uses it, since kubectl shows them to
users. An update is ratcheted: a value that did not change is not judged again.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import FieldError, Obj, invalid_value, not_supported, required
from mlserve_local.apiserver.fieldsets import element_name
from mlserve_local.apiserver.go_types import go_text
from mlserve_local.apiserver.schema import MISSING, Schema

_BLOCKING: Final = frozenset({"NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid"})
_NIL: Final = "<nil>"


def type_name(value: Any) -> str:
    """The JSON type as go-openapi names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "string" if isinstance(value, str) else "object" if isinstance(value, dict) else "array"


def _go_format(value: Any) -> str:
    if isinstance(value, bool):
        return ""
    return "float64" if isinstance(value, float) else "int64" if isinstance(value, int) else ""


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _is_date_time(text: str) -> bool:
    return bool(re.match(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d", text)) and times.is_time(text.upper())


FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _is_date_time,
    "date": lambda t: re.fullmatch(r"\d{4}-\d\d-\d\d", t) is not None and times.is_time(t + "T00:00:00Z"),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": lambda t: "/" in t and _parses(lambda x: ipaddress.ip_network(x, strict=False))(t),
    "uri": lambda t: bool(urlsplit(t).scheme or t.startswith("/")) and " " not in t,
    "uuid": _parses(UUID),
    "byte": _parses(lambda t: base64.b64decode(t, validate=True)),
    "email": lambda t: re.fullmatch(r"[^@\s]+@[^@\s]+", t) is not None,
    "hostname": lambda t: re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?", t) is not None,
    "duration": lambda t: (
        re.fullmatch(r"[+-]?(\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h|d|w|hr|min|sec)[a-z]*\s*)+", t) is not None
    ),
    "mac": lambda t: re.fullmatch(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", t) is not None,
}


class Validator:
    """Collects the errors of one object."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def validate(self, value: Any, schema: Schema, path: str, old: Any = MISSING) -> None:
        """Judge a value, and what it contains, unless it is what it was."""
        if old is not MISSING and value == old and type(value) is type(old):
            return
        if value is None and schema.nullable:
            return
        if not self._type(value, schema, path):
            return
        self._values(value, schema, path)
        if isinstance(value, dict):
            self._object(value, schema, path, old if isinstance(old, dict) else {})
        elif isinstance(value, list):
            self._list(value, schema, path, old if isinstance(old, list) else [])
        self._combinations(value, schema, path)

    def _add(self, error: FieldError) -> None:
        self.errors.append(error)

    def _type(self, value: Any, schema: Schema, path: str) -> bool:
        wanted = "integer,string" if schema.special == "int-or-string" else schema.type
        if not wanted:
            return True
        got = type_name(value)
        names = wanted.split(",")
        fits = got in names or (got == "integer" and "number" in names)
        fits |= got == "number" and "integer" in names and isinstance(value, float) and value.is_integer()
        if fits:
            if schema.type == "integer":
                self._integer_format(value, schema, path)
            return True
        if schema.format and got not in ("string", "array"):
            wanted, got = schema.format, _go_format(value)
        text = (
            f'{path} in body must be of type {wanted}: "{got}"'
            if path
            else f'in body must be of type {wanted}: "{got}"'
        )
        self._add(FieldError("TypeInvalid", path, got, text))
        if schema.type == "integer" and isinstance(value, float):
            self._integer_format(value, schema, path)
        return False

    def _integer_format(self, value: Any, schema: Schema, path: str) -> None:
        bits = {"int32": 31, "int64": 63}.get(schema.format)
        if bits and (not float(value).is_integer() or not -(2**bits) <= value < 2**bits):
            text = f"Checked value must be of type integer with format {schema.format} in {path}"
            self._add(invalid_value(_NIL, "", text))

    def _say(self, path: str, value: Any, text: str) -> None:
        self._add(invalid_value(path, value, f"{path} in body {text}"))

    def _values(self, value: Any, schema: Schema, path: str) -> None:
        raw = schema.raw
        if isinstance(value, str):
            self._string(value, schema, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._number(value, raw, path)
        elif isinstance(value, list):
            self._size(len(value), raw, path, "Items", "items")
            if raw.get("uniqueItems") and any(v in value[:i] for i, v in enumerate(value)):
                self._say(path, value, "shouldn't contain duplicates")
        elif isinstance(value, dict):
            self._size(len(value), raw, path, "Properties", "properties")
        choices = raw.get("enum")
        if choices is not None and value not in choices:
            self._add(not_supported(path, value, [c if isinstance(c, str) else str(c) for c in choices]))

    def _size(self, size: int, raw: Obj, path: str, suffix: str, noun: str) -> None:
        high, low = raw.get(f"max{suffix}"), raw.get(f"min{suffix}", 0)
        if high is not None and size > high:
            self._add(FieldError("TooMany", path, size, f"must have at most {high} items"))
        if size < low:
            self._say(path, size, f"should have at least {low} {noun}")

    def _string(self, value: str, schema: Schema, path: str) -> None:
        raw = schema.raw
        if len(value) > raw.get("maxLength", len(value)):
            self._add(FieldError("TooLong", path, detail=f"may not be more than {raw['maxLength']} bytes"))
        if len(value) < raw.get("minLength", 0):
            self._say(path, value, f"should be at least {raw['minLength']} chars long")
        pattern = raw.get("pattern")
        if pattern and not _search(pattern, value):
            self._say(path, value, f"should match '{pattern}'")
        known = FORMATS.get(schema.format)
        if known is not None and not known(value):
            self._say(path, value, f'must be of type {schema.format}: "{value}"')

    def _number(self, value: float, raw: Obj, path: str) -> None:
        low, high = raw.get("minimum"), raw.get("maximum")
        if high is not None:
            if raw.get("exclusiveMaximum") and value >= high:
                self._say(path, value, f"should be less than {high}")
            elif value > high:
                self._say(path, value, f"should be less than or equal to {high}")
        if low is not None:
            if raw.get("exclusiveMinimum") and value <= low:
                self._say(path, value, f"should be greater than {low}")
            elif value < low:
                self._say(path, value, f"should be greater than or equal to {low}")
        factor = raw.get("multipleOf")
        if factor and (value / factor) % 1:
            self._say(path, value, f"should be a multiple of {factor}")

    def _object(self, value: Obj, schema: Schema, path: str, old: Obj) -> None:
        for key in sorted(schema.required - value.keys()):
            self._add(required(_join(path, key)))
        if schema.embedded:
            for key in ("apiVersion", "kind"):
                if not value.get(key):
                    self._add(required(_join(path, key)))
        for key in sorted(value):
            child = schema.child(key)
            if child is not None and not child.name:  # metadata has its own rules
                self.validate(value[key], child, _join(path, key), old.get(key, MISSING))

    def _list(self, value: list[Any], schema: Schema, path: str, old: list[Any]) -> None:
        before: dict[str, Any] = {}
        associative = schema.list_type in ("map", "set")
        if associative:
            self._unique(value, schema, path)
            before = {element_name(v, schema): v for v in old}
        if schema.items is None:
            return
        for index, item in enumerate(value):
            was = before.get(element_name(item, schema), MISSING) if associative else MISSING
            self.validate(item, schema.items, f"{path}[{index}]", was)

    def _unique(self, value: list[Any], schema: Schema, path: str) -> None:
        seen: set[str] = set()
        for index, item in enumerate(value):
            name = element_name(item, schema)
            if name in seen:
                shown = item
                if schema.list_type == "map" and isinstance(item, dict):
                    shown = {k: item[k] for k in schema.list_keys if k in item}
                self._add(FieldError("Duplicate", f"{path}[{index}]", shown))
            seen.add(name)

    def _combinations(self, value: Any, schema: Schema, path: str) -> None:
        raw = schema.raw
        for name in ("allOf", "anyOf", "oneOf"):
            if name not in raw:
                continue
            results = [_errors_of(value, sub, path) for sub in raw[name]]
            passing = sum(not r for r in results)
            if name == "allOf" and passing < len(results):
                self.errors += [e for r in results for e in r]
                none = "" if passing else ". None validated"
                self._reject(path, f"must validate all the schemas (allOf){none}")
            elif name == "anyOf" and not passing:
                self._reject(path, "must validate at least one schema (anyOf)")
                self.errors += results[0]
            elif name == "oneOf" and passing != 1:
                found = "Found none valid" if not passing else f"Found {passing} valid alternatives"
                self._reject(path, f"must validate one and only one schema (oneOf). {found}")
                self.errors += results[0] if not passing else []
        if "not" in raw and not _errors_of(value, raw["not"], path):
            self._reject(path, "must not validate the schema (not)")

    def _reject(self, path: str, text: str) -> None:
        """Combinations are judged without a field of their own."""
        self._add(invalid_value(_NIL, "", f'"{path}" {text}'))


def _errors_of(value: Any, source: Obj, path: str) -> list[FieldError]:
    """Errors against a branch of anyOf and the like: value validations without a structure of their own."""
    from mlserve_local.apiserver.schema import compile_structural

    nested = Validator()
    nested.validate(value, compile_structural(source), path)
    return nested.errors


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _search(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern.replace("\\z", "\\Z"), text) is not None
    except re.error:
        return True  # RE2 syntax that Python lacks; the CRD was accepted with it


def validate(obj: Obj, schema: Schema, old: Obj | None) -> list[FieldError]:
    """All errors of an object (kind, apiVersion and metadata are judged elsewhere)."""
    validator = Validator()
    shown = {k: v for k, v in obj.items() if k not in ("metadata", "kind", "apiVersion")}
    validator._object(shown, schema_without_system(schema), "", old or {})  # noqa: SLF001 - the root is no value
    validator._values(shown, schema, "")  # noqa: SLF001
    return validator.errors


def schema_without_system(schema: Schema) -> Schema:
    """The root type, whose ``required`` may name metadata."""
    system = {"metadata", "kind", "apiVersion"}
    if not schema.required & system:
        return schema
    return Schema(
        raw=schema.raw,
        type=schema.type,
        properties=schema.properties,
        values=schema.values,
        required=schema.required - system,
        preserve_unknown=schema.preserve_unknown,
    )


def blocks_rules(errors: list[FieldError]) -> bool:
    """CEL rules are only run on objects of the right shape."""
    return any(e.kind in _BLOCKING for e in errors)


def apply_defaults(value: Any, schema: Schema) -> None:
    """Fill in defaults in place; a null that may not be null counts as absent."""
    if isinstance(value, list) and schema.items is not None:
        for item in value:
            apply_defaults(item, schema.items)
    if not isinstance(value, dict):
        return
    named = {k: c for k, c in schema.properties.items() if not c.name}  # metadata has no defaults
    for key, child in named.items():
        if key in value and value[key] is None and not child.nullable and not child.preserve_unknown:
            del value[key]
        if key not in value and child.default is not MISSING:
            value[key] = _copy(child.default)
        if key in value:
            apply_defaults(value[key], child)
    if schema.values is not None:
        for key in value.keys() - schema.properties.keys():
            apply_defaults(value[key], schema.values)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value


def scale_errors(obj: Obj, paths: Iterator[str] | list[str]) -> list[FieldError]:
    """The numbers the scale subresource shows must be 32-bit counts."""
    found: list[FieldError] = []
    for path in paths:
        value: Any = obj
        keys = path.strip(".").split(".")
        for position, key in enumerate(keys):
            if not isinstance(value, dict):
                text = (
                    f"{path} accessor error: {go_text(value)} is of the type {_go_type(value)}, expected "
                    f"map[string]interface{{}}"
                )
                found.append(invalid_value(path, 0, text))
                break
            if key not in value:
                break
            value = value[key]
            if position < len(keys) - 1:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                text = f"{path} accessor error: {go_text(value)} is of the type {_go_type(value)}, expected int64"
                found.append(invalid_value(path, 0, text))
            elif value < 0:
                found.append(invalid_value(path, value, "should be a non-negative integer"))
            elif value > 2**31 - 1:
                found.append(invalid_value(path, value, f"should be less than or equal to {2**31 - 1}"))
    return found


def _go_type(value: Any) -> str:
    names = {str: "string", float: "float64", bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), "int64")
