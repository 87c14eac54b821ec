"""Tables: what ``kubectl get`` prints is decided by the server.

Built-in kinds have a row of columns in printers.py, custom resources bring theirs as JSONPaths.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.printer import Column, Printer
from mlserve_local.apiserver.printers import PRINTERS
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.schema import OBJECT_META, definition
from mlserve_local.apiserver.storage import Stored

_COMPLETED: Final = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}


def partial(resource: Resource, stored: Stored, version: str = "v1") -> Obj:
    """Only the metadata of an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": resource.view(stored)["metadata"],
    }


def table(resource: Resource, found: list[Stored], include: str, version: str = "v1") -> Obj:
    """A meta.k8s.io Table of objects; ``include`` is None, Metadata or Object."""
    printer = _printer(resource)
    rows = []
    for stored in found:
        obj = stored.data if resource.custom is None else resource.view(stored)
        row: Obj = {"cells": printer.cells(obj)}
        phase = (obj.get("status") or {}).get("phase") if resource.key == "/pods" else None
        if phase in _COMPLETED:
            row["conditions"] = [{"type": "Completed", "status": "True", "reason": phase, "message": _COMPLETED[phase]}]
        if include == "Object":
            row["object"] = resource.full(stored)
        elif include != "None":
            row["object"] = partial(resource, stored, version)
        rows.append(row)
    columns = [_definition(c) for c in printer.columns]
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows,
    }


def _definition(column: Column) -> Obj:
    properties = definition(OBJECT_META).properties
    description = column.description
    if not description and column.name == "Name":
        description = properties["name"].description
    elif not description and column.name in ("Age", "Created At"):
        description = properties["creationTimestamp"].description
    return {
        "name": column.name,
        "type": column.type,
        "format": "name" if column.name == "Name" else "",
        "description": description,
        "priority": column.priority,
    }


def _printer(resource: Resource) -> Printer:
    if resource.custom is not None:
        return _custom(resource)
    return PRINTERS.get(resource.key, _DEFAULT)


_NAME: Final = Column("Name")
_DEFAULT: Final = Printer(
    (_NAME, Column("Created At", type="date")),
    lambda o: [o["metadata"]["name"], o["metadata"].get("creationTimestamp")],
)


def _custom(resource: Resource) -> Printer:
    declared = resource.custom.columns
    if not declared:
        declared = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": " "}]
    columns = [_NAME]
    readers: list[Callable[[Obj], Any]] = []
    for column in declared:
        path = column["jsonPath"]
        text = column.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
        if text == " ":
            text = ""
        columns.append(Column(column["name"], column["type"], column.get("priority", 0), text))
        readers.append(_reader(path, column["type"]))
    return Printer(tuple(columns), lambda o: [o["metadata"]["name"], *(read(o) for read in readers)])


_TOKEN: Final = re.compile(
    r"\.(?P<field>(?:[\w-]|\\\.)+)|\[(?P<index>-?\d+)\]|\[\*\]|\['(?P<quoted>[^']+)'\]"
    r"|\[\?\(@\.(?P<key>[\w.-]+)\s*==\s*(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<bare>[^\s)]+))\)\]"
)


def json_path(path: str) -> Callable[[Any], list[Any]]:
    """The part of kubectl's JSONPath that printer columns use: fields, indices, ``[*]`` and equality filters."""
    steps = list(_TOKEN.finditer(path))

    def find(obj: Any) -> list[Any]:
        values = [obj]
        for step in steps:
            values = [found for value in values for found in _step(value, step)]
        return values

    return find


def _step(value: Any, step: re.Match[str]) -> list[Any]:
    name = step["field"] or step["quoted"]
    if name is not None:
        key = name.replace("\\.", ".")
        return [value[key]] if isinstance(value, dict) and key in value else []
    if not isinstance(value, list):
        return list(value.values()) if isinstance(value, dict) and step[0] == "[*]" else []
    if step["index"] is not None:
        position = int(step["index"])
        return [value[position]] if -len(value) <= position < len(value) else []
    if step["key"] is None:
        return value
    wanted = next(v for v in (step["single"], step["double"], step["bare"]) if v is not None)
    keys = step["key"].split(".")
    return [item for item in value if _text_at(item, keys) == wanted]


def _text_at(item: Any, keys: list[str]) -> str | None:
    for key in keys:
        item = item.get(key) if isinstance(item, dict) else None
    return None if item is None else str(item).lower() if isinstance(item, bool) else str(item)


def _reader(path: str, kind: str) -> Callable[[Obj], Any]:
    find = json_path(path)

    def read(obj: Obj) -> Any:
        found = find(obj)
        if not found:
            return None
        value = found[0]
        match kind:
            case "date":
                return times.age(value) if isinstance(value, str) and times.is_time(value) else "<invalid>"
            case "integer":
                return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
            case "number":
                return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
            case "boolean":
                return value if isinstance(value, bool) else None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, dict | list):
            return str(value).replace("'", '"')
        return ",".join(str(v) for v in found) if len(found) > 1 else str(value)

    return read
