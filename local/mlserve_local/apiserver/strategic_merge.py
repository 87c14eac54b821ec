"""Strategic merge patch: the patch type kubectl uses for built-in kinds.

Lists whose schema says ``x-kubernetes-patch-strategy: merge`` merge by their merge key (or as sets of scalars); the
patch may carry directives: ``$patch: delete|replace|merge``, ``$retainKeys``, ``$deleteFromPrimitiveList/<list>`` and
``$setElementOrder/<list>``.
"""

from __future__ import annotations

from typing import Any, Final

from mlserve_local.apiserver.errors import Obj, internal
from mlserve_local.apiserver.go_types import go_text
from mlserve_local.apiserver.schema import Schema

_DELETE_FROM: Final = "$deleteFromPrimitiveList/"
_SET_ORDER: Final = "$setElementOrder/"


def strategic_merge(target: Obj, patch: Obj, schema: Schema | None) -> Obj:
    """A merged copy of ``target``."""
    directive = patch.get("$patch")
    if directive == "replace":
        replaced: Obj = _clean({k: v for k, v in patch.items() if k != "$patch"})
        return replaced
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise internal(f"unknown patch type: {directive} in map: {go_text(patch)}")
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
            merged[name] = _ordered(merged[name], merged[name], [], order, child)
    return merged


def _check_order(patch: list[Any], order: Any, key: str) -> None:
    """``$setElementOrder`` must name everything that the patch brings, in the same order."""
    if not isinstance(order, list):
        return

    def identity(value: Any) -> Any:
        return value.get(key) if key and isinstance(value, dict) else value

    wished = iter([identity(v) for v in order])
    kept = [v for v in patch if not (isinstance(v, dict) and v.get("$patch") == "delete")]
    if not all(identity(v) in wished for v in kept):
        raise internal(
            f"The order in patch list:\n{go_text(kept)}\n doesn't match $setElementOrder list:\n{go_text(order)}\n"
        )


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
        _check_order(value, order, schema.patch_merge_key)
        if schema.patch_merge_key:
            return _merge_list(present, value, schema, order)
        merged = list(dict.fromkeys([*present, *value]))
        return _ordered(merged, present, value, order, schema)
    return value


def _merge_list(present: list[Any], patch: list[Any], schema: Schema, order: Any) -> list[Any]:
    """Merge a list of objects by key."""
    key = schema.patch_merge_key
    if any(isinstance(e, dict) and e.get("$patch") == "replace" for e in patch):
        replaced: list[Any] = _clean([e for e in patch if "$patch" not in e])
        return replaced
    merged: dict[Any, Any] = {e.get(key): e for e in present}
    touched: list[Any] = []
    for element in patch:
        if not isinstance(element, dict):
            raise internal(f"expected a map with the merge key {key}, got {go_text(element)}")
        identity = element.get(key)
        if identity is None:
            raise internal(f"map: {go_text(element)} does not contain declared merge key: {key}")
        if element.get("$patch") == "delete":
            merged.pop(identity, None)
            continue
        merged[identity] = strategic_merge(merged.get(identity, {}), element, schema.items)
        touched.append(merged[identity])
    return _ordered(list(merged.values()), present, touched, order, schema)


def _ordered(values: list[Any], present: list[Any], patch: list[Any], order: Any, schema: Schema | None) -> list[Any]:
    """Weave what the patch names, in its order, with the rest of the live list, in the live order.

    Where the live list knows both candidates it decides; otherwise what the patch names comes first.
    """
    key = schema.patch_merge_key if schema is not None else ""

    def identity(value: Any) -> Any:
        return value.get(key) if key and isinstance(value, dict) else value

    rank = {identity(v): i for i, v in enumerate(order if isinstance(order, list) else patch)}
    live = {identity(v): i for i, v in enumerate(present)}
    named = sorted((v for v in values if identity(v) in rank), key=lambda v: rank[identity(v)])
    others = sorted((v for v in values if identity(v) not in rank), key=lambda v: live.get(identity(v), len(live)))
    woven: list[Any] = []
    while named and others:
        left, right = live.get(identity(named[0])), live.get(identity(others[0]))
        later = left is not None and right is not None and right < left
        woven.append(others.pop(0) if later else named.pop(0))
    return woven + named + others


def _clean(value: Any) -> Any:
    """Drop directives and nulls from what is taken over whole."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items() if not k.startswith("$") and v is not None}
    return [_clean(v) for v in value] if isinstance(value, list) else value
