"""Sets of field paths, the currency of server-side apply.

A set is kept in the very form that ``managedFields`` shows (FieldsV1): a trie of ``f:<field>``, ``k:{<keys>}`` and
``v:<value>`` members. A node is in the set if it is empty or holds ``"."``; a node that only has children is not.
All operations return new tries and never change their arguments.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from mlserve_local.apiserver.schema import Schema

Trie = dict[str, Any]
SELF: Final = "."
_ANY: Final = Schema(preserve_unknown=True)


def is_member(node: Trie) -> bool:
    """Whether the path of a node is itself in the set."""
    return not node or SELF in node


def _node(member: bool, children: Trie) -> Trie | None:
    if not children:
        return {} if member else None
    return {SELF: {}, **children} if member else children


def union(a: Trie, b: Trie) -> Trie:
    """Paths of either set. Arguments are children of a common node, without ``"."``."""
    made = dict(a)
    for key, right in b.items():
        left = made.get(key)
        if left is None:
            made[key] = right
        elif left is not right and left != right:
            member = is_member(left) or is_member(right)
            made[key] = _node(member, union(_children(left), _children(right))) or {}
    return made


def _children(node: Trie) -> Trie:
    return {k: v for k, v in node.items() if k != SELF} if SELF in node else node


def difference(a: Trie, b: Trie) -> Trie:
    """Paths of ``a`` that are not in ``b``."""
    made: Trie = {}
    for key, left in a.items():
        right = b.get(key)
        if right is None:
            made[key] = left
            continue
        node = _node(is_member(left) and not is_member(right), difference(_children(left), _children(right)))
        if node is not None:
            made[key] = node
    return made


def intersection(a: Trie, b: Trie) -> Trie:
    """Paths in both sets."""
    made: Trie = {}
    for key, left in a.items():
        right = b.get(key)
        if right is None:
            continue
        node = _node(is_member(left) and is_member(right), intersection(_children(left), _children(right)))
        if node is not None:
            made[key] = node
    return made


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def element_name(item: Any, schema: Schema) -> str:
    """The path element of an entry of a set or list map."""
    if schema.list_type == "map" and isinstance(item, dict):
        keys = {k: v for k, v in zip(schema.list_keys, schema.element_key(item), strict=True) if v is not None}
        return "k:" + _dump(keys)
    return "v:" + _dump(item)


def _descends(value: Any, schema: Schema) -> bool:
    """Whether the set looks inside a value, or takes it as one leaf."""
    if isinstance(value, dict):
        return not schema.atomic_map
    return isinstance(value, list) and schema.list_type in ("map", "set")


def members(value: Any, schema: Schema) -> list[tuple[str, Any, Schema]]:
    """The (path element, value, type) entries directly inside a value that is descended into."""
    if isinstance(value, dict):
        return [(f"f:{k}", v, schema.child(k) or _ANY) for k, v in value.items()]
    items = schema.items or _ANY
    return [(element_name(v, schema), v, items) for v in value]


def everything(value: Any, schema: Schema) -> Trie:
    """The node of a value that is new: its leaves and every container on the way."""
    if not value or not _descends(value, schema):
        return {}
    children = {name: everything(v, s) for name, v, s in members(value, schema)}
    return {SELF: {}, **children}


def applied(value: Any, schema: Schema) -> Trie:
    """The node of an applied configuration: leaves, list elements and free map keys; named structs only by content."""
    children: Trie = {}
    for name, member, kind in members(value, schema):
        named = name.startswith("f:") and name[2:] in schema.properties
        if member == [] and named and _descends(member, kind):
            continue  # an empty associative list says nothing
        if member is None or not _descends(member, kind) or not member:
            children[name] = {}
            continue
        inner = applied(member, kind)
        children[name] = _node(not named, inner) or {}
    return children


@dataclass(slots=True)
class Comparison:
    """What changed between two states of an object."""

    added: Trie
    modified: Trie
    removed: Trie

    @property
    def changed(self) -> Trie:
        """What was added or modified."""
        return union(self.added, self.modified)


def compare(old: Any, new: Any, schema: Schema) -> Comparison:
    """The paths that were added, changed in value, or removed between two objects."""
    result = Comparison({}, {}, {})
    before = {name: value for name, value, _ in members(old, schema)}
    after = members(new, schema)
    for name, value, kind in after:
        if name not in before:
            result.added[name] = everything(value, kind)
            continue
        _compare_member(result, name, before.pop(name), value, kind)
    kinds = {name: kind for name, _, kind in members(old, schema)}
    for name, value in before.items():
        result.removed[name] = everything(value, kinds[name])
    return result


def _compare_member(result: Comparison, name: str, old: Any, new: Any, kind: Schema) -> None:
    if old is new or (old == new and type(old) is type(new)):
        return
    both = type(old) is type(new) and _descends(old, kind) and (old or new)
    if not both:
        result.modified[name] = {}
        return
    inner = compare(old, new, kind)
    for target, found in (
        (result.added, inner.added),
        (result.modified, inner.modified),
        (result.removed, inner.removed),
    ):
        if found:
            target[name] = found


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """The live value with an applied configuration laid over it."""
    if isinstance(live, dict) and isinstance(config, dict) and not schema.atomic_map:
        merged = dict(live)
        for key, value in config.items():
            merged[key] = merge(live[key], value, schema.child(key) or _ANY) if key in live else value
        return merged
    if isinstance(live, list) and isinstance(config, list) and schema.list_type in ("map", "set"):
        return _merge_lists(live, config, schema)
    return config


def _merge_lists(live: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    """Keep the live order for what only lives there, the configured order for what is configured."""
    items = schema.items or _ANY
    left = {element_name(v, schema): v for v in live}
    right = {element_name(v, schema): v for v in config}
    pending = list(right)
    merged: list[Any] = []

    def take(name: str) -> None:
        merged.append(merge(left[name], right[name], items) if name in left else right[name])

    for name, value in left.items():
        if name not in right:
            merged.append(value)
            continue
        while pending:
            first = pending.pop(0)
            take(first)
            if first == name:
                break
            if first in left:  # the configuration moved it; its own turn in the live order is void
                continue
        else:
            continue
    for name in pending:
        take(name)
    return merged


def remove_unowned(value: Any, last: Trie, owned: Trie, schema: Schema) -> Any:
    """Drop what was applied before (``last``) and is owned by nobody now; emptied parents go with it."""
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for key, member in value.items():
            found = _keep(member, f"f:{key}", last, owned, schema.child(key) or _ANY)
            if found is not _GONE:
                kept[key] = found
        return kept
    items = schema.items or _ANY
    survivors = (_keep(v, element_name(v, schema), last, owned, items) for v in value)
    return [v for v in survivors if v is not _GONE]


_GONE: Final = object()


def _keep(member: Any, name: str, last: Trie, owned: Trie, kind: Schema) -> Any:
    before = last.get(name)
    if before is None:
        return member
    now = owned.get(name)
    if now is None:
        return _GONE
    if not before or not now or not _descends(member, kind):
        return member
    return remove_unowned(member, before, now, kind)


def paths(trie: Trie, prefix: str = "") -> list[str]:
    """The members as text: ``.spec.containers[name="main"].image``."""
    found: list[str] = []
    for key in sorted(trie):
        if key == SELF:
            continue
        place = prefix + _element_text(key)
        node = trie[key]
        if is_member(node):
            found.append(place)
        found.extend(paths(node, place))
    return found


def _element_text(key: str) -> str:
    kind, _, rest = key.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        return "[" + ",".join(f"{k}={_dump(v)}" for k, v in json.loads(rest).items()) + "]"
    return f"[={rest}]"
