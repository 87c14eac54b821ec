"""Strategic merge patch: the patch type kubectl uses for built-in kinds.

Lists whose schema says ``x-kubernetes-patch-strategy: merge`` merge by their merge key (or as sets of scalars); the
patch may carry directives: ``$patch: delete|replace|merge``, ``$retainKeys``, ``$deleteFromPrimitiveList/<list>`` and
``$setElementOrder/<list>``.
"""

from __future__ import annotations

from typing import Any, Final

from mlserve_local.apiserver.errors import Obj, bad_request
from mlserve_local.apiserver.schema import Schema

_DELETE_FROM: Final = "$deleteFromPrimitiveList/"
_SET_ORDER: Final = "$setElementOrder/"


def strategic_merge(target: Obj, patch: Obj, schema: Schema | None) -> Obj:
    """A merged copy of ``target``."""
    directive = patch.get("$patch")
    if directive == "replace":
        return _clean({k: v for k, v in patch.items() if k != "$patch"})
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type: {directive}")
    merged = dict(target)
    retained = patch.get("$retainKeys")
    if isinstance(retained, list):
        merged = {k: v for k, v in merged.items() if k in retained}
    _delete_from_primitive_lists(merged, patch)
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            merged.pop(key, None)
            continue
        child = schema.child(key) if schema is not None else None
        order = patch.get(_SET_ORDER + key)
        merged[key] = _merge_value(merged.get(key), value, child, order)
    for key, order in patch.items():
        name = key.removeprefix(_SET_ORDER)
        if key.startswith(_SET_ORDER) and name not in patch and isinstance(merged.get(name), list):
            child = schema.child(name) if schema is not None else None
            merged[name] = _ordered(merged[name], [], order, child)
    return merged


def _delete_from_primitive_lists(merged: Obj, patch: Obj) -> None:
    for key, doomed in patch.items():
        name = key.removeprefix(_DELETE_FROM)
        if key.startswith(_DELETE_FROM) and isinstance(merged.get(name), list) and isinstance(doomed, list):
            merged[name] = [v for v in merged[name] if v not in doomed]


def _merge_value(current: Any, value: Any, schema: Schema | None, order: Any) -> Any:
    if isinstance(value, dict):
        return strategic_merge(current if isinstance(current, dict) else {}, value, schema)
    if isinstance(value, list):
        merges = schema is not None and "merge" in schema.patch_strategy
        if not merges or schema is None:
            return _clean([v for v in value if not (isinstance(v, dict) and "$patch" in v)])
        present = current if isinstance(current, list) else []
        if schema.patch_merge_key:
            return _merge_list(present, value, schema, order)
        merged = list(dict.fromkeys([*value, *present])) if present else list(dict.fromkeys(value))
        return _ordered(merged, value, order, schema)
    return value


def _merge_list(present: list[Any], patch: list[Any], schema: Schema, order: Any) -> list[Any]:
    """Merge a list of objects by key: what the patch names comes first, unless the patch gives the order."""
    key = schema.patch_merge_key
    if any(isinstance(e, dict) and e.get("$patch") == "replace" for e in patch):
        return _clean([e for e in patch if "$patch" not in e])
    merged: dict[Any, Any] = {e.get(key): e for e in present}
    touched: list[Any] = []
    for element in patch:
        if not isinstance(element, dict):
            raise bad_request(f"map: expected an object with merge key {key}, got {element!r}")
        identity = element.get(key)
        if identity is None:
            raise bad_request(f'map: {element} does not contain declared merge key: {key}')
        if element.get("$patch") == "delete":
            merged.pop(identity, None)
            continue
        merged[identity] = strategic_merge(merged.get(identity, {}), element, schema.items)
        touched.append(identity)
    if isinstance(order, list):
        return _ordered(list(merged.values()), patch, order, schema)
    new = [i for i in touched if i in merged]
    rest = [i for i in merged if i not in new]
    known = {e.get(key) for e in present}
    if all(i in known for i in new):  # nothing is new: keep the order of the live list
        return list(merged.values())
    return [merged[i] for i in new] + [merged[i] for i in rest]


def _ordered(values: list[Any], patch: list[Any], order: Any, schema: Schema | None) -> list[Any]:
    """Bring a list into the order the client asked for; elements it did not name keep their relative place."""
    if not isinstance(order, list):
        return values
    key = schema.patch_merge_key if schema is not None else ""

    def identity(value: Any) -> Any:
        return value.get(key) if key and isinstance(value, dict) else value

    rank = {identity(v): i for i, v in enumerate(order)}
    named = sorted((v for v in values if identity(v) in rank), key=lambda v: rank[identity(v)])
    result: list[Any] = []
    for value in values:  # each unnamed element stays behind the named ones that preceded it
        if identity(value) not in rank:
            result.append(value)
    if not result:
        return named
    merged: list[Any] = []
    position = 0
    for value in values:
        if identity(value) in rank:
            merged.append(named[position])
            position += 1
        else:
            merged.append(value)
    return merged


def _clean(value: Any) -> Any:
    """Drop directives and nulls from what is taken over whole."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items() if not k.startswith("$") and v is not None}
    return [_clean(v) for v in value] if isinstance(value, list) else value
