"""Bytes from a client become an object only if every value fits its type.

The real server decodes into Go structs, which has visible effects: a wrong type is a 400 that names the Go field,
an unknown or repeated field is a warning or (``fieldValidation=Strict``) a 400, ``null`` and most zero values vanish.
``check`` walks an object along its :class:`Schema` and reproduces them for built-in kinds; ``prune`` does what is left
of it for custom resources, whose types are checked by their own schema (validation of values, 422).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mlserve_local.apiserver import quantity, times
from mlserve_local.apiserver.errors import Obj, bad_request
from mlserve_local.apiserver.go_types import POINTER_STRINGS, ZERO_VANISHES
from mlserve_local.apiserver.schema import Schema

MAX_NODES: Final = 500_000


class DecodeError(ValueError):
    """The value does not fit its type; the text is what a Go decoder says."""


@dataclass(slots=True)
class Problems:
    """Fields that strict decoding refuses and lenient decoding drops, in order of appearance."""

    unknown: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)

    def texts(self) -> list[str]:
        """One text per problem, as warnings and strict errors show it."""
        return [f'duplicate field "{p}"' for p in self.duplicate] + [f'unknown field "{p}"' for p in self.unknown]


def _no_constant(name: str) -> Any:
    raise ValueError(f"invalid character '{name[0]}' looking for beginning of value")


def parse_json(body: bytes) -> tuple[Any, list[tuple[Obj, str]]]:
    """Decode JSON; repeated members are reported as (object, key) since only the parser sees them."""
    repeated: list[tuple[Obj, str]] = []

    def build(pairs: list[tuple[str, Any]]) -> Obj:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    repeated.append((made, key))
                seen.add(key)
        return made

    try:
        return json.loads(body, object_pairs_hook=build, parse_constant=_no_constant), repeated
    except UnicodeDecodeError as error:
        raise DecodeError(f"invalid UTF-8 in body: {error.reason}") from None
    except RecursionError:
        raise DecodeError("exceeded max depth") from None
    except json.JSONDecodeError as error:
        what = "unexpected end of JSON input" if error.pos >= len(error.doc.rstrip()) else error.msg
        raise DecodeError(what) from None
    except ValueError as error:
        raise DecodeError(str(error)) from None


def parse_yaml(body: bytes) -> Any:
    """Decode YAML by way of its JSON form, as clients of the server expect; anchors cannot blow it up."""
    try:
        loaded = yaml.load(body, Loader=_Loader)  # noqa: S506 - a safe loader without timestamps
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        text = str(error).replace("\n", " ")
        raise DecodeError(f"error converting YAML to JSON: yaml: {text}") from None
    _count_nodes(loaded)
    return loaded


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Times stay text, as in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in _Loader.yaml_implicit_resolvers.items()
}


class _StrictLoader(_Loader):
    """A key that comes twice is an error, as in kubectl."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for (key, _), name in zip(node.value, keys, strict=True):
            if keys.count(name) > 1:
                raise yaml.MarkedYAMLError(problem=f'key "{name}" is set twice', problem_mark=key.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def parse_documents(text: str) -> list[Any]:
    """The documents of a YAML file as kubectl reads one: times stay text, a repeated key is an error.

    Raises:
        yaml.YAMLError: It is no YAML; the message has line and column.
    """
    return [document for document in yaml.load_all(text, Loader=_StrictLoader) if document is not None]


def _count_nodes(value: Any) -> None:
    stack, seen = [value], 0
    while stack:
        seen += 1
        if seen > MAX_NODES:
            raise DecodeError("document contains excessive aliasing")
        top = stack.pop()
        if isinstance(top, dict):
            if not all(isinstance(key, str) for key in top):
                raise DecodeError("error unmarshaling JSON: object keys must be strings")
            stack.extend(top.values())
        elif isinstance(top, list):
            stack.extend(top)


def find_path(root: Any, wanted: Obj) -> str:
    """Where an object lies in a document, written ``spec.containers[0]``."""
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        path, value = stack.pop()
        if value is wanted:
            return path
        if isinstance(value, dict):
            stack.extend((f"{path}.{k}" if path else k, v) for k, v in value.items())
        elif isinstance(value, list):
            stack.extend((f"{path}[{i}]", v) for i, v in enumerate(value))
    return ""


def duplicates(root: Any, repeated: list[tuple[Obj, str]]) -> list[str]:
    """The paths of repeated members."""
    places = ((find_path(root, obj), key) for obj, key in repeated)
    return [f"{path}.{key}" if path else key for path, key in places]


_GO_JSON: Final = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}
_GO_TYPE: Final = {"string": "string", "boolean": "bool", "number": "float64", "array": "[]", "object": "map"}


def json_kind(value: Any) -> str:
    """What Go's decoder calls a JSON value."""
    return _GO_JSON.get(type(value), "value")


def _refuse(value: Any, schema: Schema, owner: str, path: str) -> DecodeError:
    go_type = schema.format if schema.type == "integer" else _GO_TYPE.get(schema.type, schema.type)
    if schema.type == "object" and schema.name:
        go_type = schema.name.rpartition(".")[2]
    place = ".".join(part.partition("[")[0] for part in path.split("."))
    got = json_kind(value)
    return DecodeError(f"json: cannot unmarshal {got} into Go struct field {owner}.{place} of type {go_type or 'int'}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: _is_number(v) and float(v).is_integer(),
    "boolean": lambda v: isinstance(v, bool),
    "number": _is_number,
    "quantity": lambda v: isinstance(v, str) or _is_number(v),
    "int-or-string": lambda v: isinstance(v, str | int) and not isinstance(v, bool),
    "time": lambda v: isinstance(v, str),
    "micro-time": lambda v: isinstance(v, str),
}


def _scalar(value: Any, schema: Schema, owner: str, path: str) -> Any:
    """A scalar in its stored form; DecodeError if it has another kind or breaks the syntax of its kind."""
    kind = schema.special or schema.type
    fits = _KINDS.get(kind)
    if fits is not None and not fits(value):
        raise _refuse(value, schema, owner, path)
    match kind:
        case "string" if schema.format == "byte":
            _check_base64(value)
        case "integer":
            return _whole(value, schema, f"{owner}.{path}")
        case "quantity":
            if not quantity.is_quantity(value):
                raise DecodeError(f"quantities must match the regular expression '{quantity.PATTERN}'")
            return str(value)
        case "time" | "micro-time":
            _check_time(value, kind)
    return value


def _whole(value: float, schema: Schema, place: str) -> int:
    limit = 2 ** (31 if schema.format == "int32" else 63)
    if not -limit <= value < limit:
        kind = schema.format or "int64"
        raise DecodeError(f"json: cannot unmarshal number {value} into Go struct field {place} of type {kind}")
    return int(value)


def _check_time(value: str, kind: str) -> None:
    if not (times.is_time(value) if kind == "time" else times.is_micro_time(value)):
        layout = "2006-01-02T15:04:05Z07:00" if kind == "time" else "2006-01-02T15:04:05.000000Z07:00"
        raise DecodeError(f'parsing time "{value}" as "{layout}": cannot parse "{value}"')


def _check_base64(value: str) -> None:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        good = next((i for i, c in enumerate(value) if not (c.isalnum() or c in "+/=")), len(value))
        raise DecodeError(f"illegal base64 data at input byte {good}") from None


def _vanishes(key: str, value: Any, schema: Schema, owner: Schema) -> bool:
    """Zero values that Go's ``omitempty`` leaves out when the object is written again."""
    if key in owner.required:
        return False
    if value == "" and not schema.special:
        return key not in POINTER_STRINGS
    if value in ({}, []) and not isinstance(value, bool | int | float):
        return schema.type == "array" or (schema.values is not None and not schema.properties)
    if value is False or (value == 0 and not isinstance(value, str | bool)):
        return key in ZERO_VANISHES or (
            owner.name.endswith("Status") and key not in ("terminatingReplicas", "exitCode")
        )
    return False


def check(value: Any, schema: Schema, problems: Problems, path: str = "", owner: str = "") -> Any:
    """A normalised copy of a built-in object; raises DecodeError where a value does not fit its type."""
    if isinstance(value, dict):
        if schema.preserve_unknown:
            return value
        if schema.type != "object" or schema.special:
            raise _refuse(value, schema, owner, path)
        return _check_object(value, schema, problems, path)
    if isinstance(value, list):
        if schema.preserve_unknown:
            return value
        if schema.type != "array" or schema.items is None:
            raise _refuse(value, schema, owner, path)
        items = schema.items
        return [
            check(v, items, problems, f"{path}[{i}]", owner) if v is not None else _zero(items)
            for i, v in enumerate(value)
        ]
    if schema.type in ("object", "array"):
        if schema.preserve_unknown:
            return value
        raise _refuse(value, schema, owner, path)
    return _scalar(value, schema, owner, path)


def _zero(schema: Schema) -> Any:
    return {} if schema.type == "object" else ""


def _check_object(value: Obj, schema: Schema, problems: Problems, path: str) -> Obj:
    owner = schema.name.rpartition(".")[2]
    made: Obj = {}
    for key, member in value.items():
        known = schema.child(key)
        place = f"{path}.{key}" if path else key
        if known is None:
            problems.unknown.append(place)
            continue
        if member is None:
            if known.preserve_unknown and known.atomic_map is False:
                made[key] = None
            elif schema.values is not None and not schema.properties:
                made[key] = _zero(known)
            continue
        struct = owner or place.rpartition(".")[0].rpartition(".")[2]
        checked = check(member, known, problems, place, struct)
        if schema.properties and _vanishes(key, checked, known, schema):
            continue
        made[key] = checked
    return made


def prune(value: Any, schema: Schema, path: str = "", dropped: list[str] | None = None) -> Any:
    """A copy of a custom resource without the fields its schema does not know (kept if ``preserve_unknown``)."""
    if isinstance(value, dict):
        if schema.free_form and not schema.embedded:
            return value
        made: Obj = {}
        for key, member in value.items():
            known = schema.child(key)
            place = f"{path}.{key}" if path else key
            if known is not None:
                made[key] = prune(member, known, place, dropped)
            elif schema.preserve_unknown:
                made[key] = member
            elif dropped is not None:
                dropped.append(place)
        return made
    if isinstance(value, list) and schema.items is not None:
        items = schema.items
        return [prune(v, items, f"{path}[{i}]", dropped) for i, v in enumerate(value)]
    return value


def strict_error(kind: str, version: str, texts: list[str]) -> Exception:
    """400 of ``fieldValidation=Strict``."""
    message = f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {", ".join(texts)}'
    return bad_request(message)
