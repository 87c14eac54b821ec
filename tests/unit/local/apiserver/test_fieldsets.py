"""Field sets: the algebra holds for any sets, and merging keeps what belongs to others."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlserve_local.apiserver import fieldsets
from mlserve_local.apiserver.schema import Schema, compile_structural

LEAF = st.one_of(st.integers(0, 3), st.text("ab", max_size=2))
VALUES = st.recursive(LEAF, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
FREE = Schema(preserve_unknown=True)


def trie(value: dict[str, Any]) -> fieldsets.Trie:
    return fieldsets.compare({}, value, FREE).added


def paths(value: fieldsets.Trie) -> set[str]:
    return set(fieldsets.paths(value))


@given(OBJECTS, OBJECTS)
def test_sets_behave_like_sets(a: dict[str, Any], b: dict[str, Any]) -> None:
    left, right = trie(a), trie(b)
    assert paths(fieldsets.union(left, right)) == paths(left) | paths(right)
    assert paths(fieldsets.difference(left, right)) == paths(left) - paths(right)
    assert paths(fieldsets.intersection(left, right)) == paths(left) & paths(right)


@given(OBJECTS)
def test_nothing_differs_from_itself(a: dict[str, Any]) -> None:
    change = fieldsets.compare(a, dict(a), FREE)
    assert (change.added, change.modified, change.removed) == ({}, {}, {})


@given(OBJECTS, OBJECTS)
def test_what_is_added_one_way_is_removed_the_other(a: dict[str, Any], b: dict[str, Any]) -> None:
    forth, back = fieldsets.compare(a, b, FREE), fieldsets.compare(b, a, FREE)
    assert paths(forth.added) == paths(back.removed)
    assert paths(forth.modified) == paths(back.modified)


@given(OBJECTS, OBJECTS)
def test_a_merge_contains_the_configuration(a: dict[str, Any], b: dict[str, Any]) -> None:
    merged = fieldsets.merge(a, b, FREE)
    assert fieldsets.merge(merged, b, FREE) == merged
    assert fieldsets.compare(b, fieldsets.merge(merged, b, FREE), FREE).modified == {}


ENV = compile_structural(
    {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}},
    }
)


def names(*values: str) -> list[dict[str, str]]:
    return [{"name": v} for v in values]


def test_list_maps_keep_the_live_order_and_append() -> None:
    assert fieldsets.merge(names("a", "b"), names("b", "c"), ENV) == names("a", "b", "c")
    assert fieldsets.merge(names("a"), names("b"), ENV) == names("a", "b")
    assert fieldsets.merge(names("a", "b"), names("b", "a"), ENV) == names("b", "a")


def test_only_what_nobody_owns_is_removed() -> None:
    value = [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]
    last = fieldsets.applied({"env": value}, Schema(properties={"env": ENV}))["f:env"]
    owned = {'k:{"name":"b"}': {".": {}, "f:name": {}}}
    assert fieldsets.remove_unowned(value, last, owned, ENV) == [{"name": "b"}]
