"""The patch types, pure: documents in, documents out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_local.apiserver.errors import StatusError
from mlserve_local.apiserver.patch import json_patch, merge_patch
from mlserve_local.apiserver.schema import definition
from mlserve_local.apiserver.strategic_merge import strategic_merge

JSON = st.recursive(st.integers(0, 2), lambda i: st.dictionaries(st.sampled_from("abc"), i, max_size=3), max_leaves=6)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(DOCUMENTS, DOCUMENTS)
def test_merge_patch_is_idempotent_and_leaves_its_arguments_alone(a: Any, b: Any) -> None:
    before = repr((a, b))
    once = merge_patch(a, b)
    assert merge_patch(once, b) == once
    assert repr((a, b)) == before


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "/l/1", "value": 9}, {"l": [1, 9, 2], "o": {"a": 1}}),
        ({"op": "add", "path": "/l/-", "value": 9}, {"l": [1, 2, 9], "o": {"a": 1}}),
        ({"op": "remove", "path": "/l/0"}, {"l": [2], "o": {"a": 1}}),
        ({"op": "replace", "path": "/o/new", "value": 3}, {"l": [1, 2], "o": {"a": 1, "new": 3}}),
        ({"op": "move", "from": "/o/a", "path": "/b"}, {"l": [1, 2], "o": {}, "b": 1}),
        ({"op": "copy", "from": "/l", "path": "/o/l"}, {"l": [1, 2], "o": {"a": 1, "l": [1, 2]}}),
        ({"op": "test", "path": "/o/a", "value": 1}, {"l": [1, 2], "o": {"a": 1}}),
        ({"op": "replace", "path": "", "value": {"x": 1}}, {"x": 1}),
    ],
    ids=lambda v: v.get("op", "") if isinstance(v, dict) else "",
)
def test_json_patch(operation: dict[str, Any], expected: Any) -> None:
    document = {"l": [1, 2], "o": {"a": 1}}
    assert json_patch(document, [operation]) == expected
    assert document == {"l": [1, 2], "o": {"a": 1}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/l/7", "value": 1},
        {"op": "remove", "path": "/none"},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "test", "path": "/l", "value": []},
        {"op": "nope", "path": "/l"},
        {"op": "add", "path": "l", "value": 1},
        {"op": "add"},
    ],
)
def test_failing_operations_are_one_422(operation: dict[str, Any]) -> None:
    with pytest.raises(StatusError) as refused:
        json_patch({"l": [1]}, [operation])
    assert refused.value.code == 422


POD = definition("io.k8s.api.core.v1.PodSpec")


def containers(*names: str, **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": n, **more} for n in names]}


def test_strategic_lists_merge_by_key_and_weave_orders() -> None:
    live = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}
    changed = strategic_merge(live, {"containers": [{"name": "b", "image": "3"}, {"name": "c"}]}, POD)
    assert [c["name"] for c in changed["containers"]] == ["a", "b", "c"]
    assert changed["containers"][1] == {"name": "b", "image": "3"}
    ordered = strategic_merge(live, {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}, POD)
    assert [c["name"] for c in ordered["containers"]] == ["b", "a"]


def test_strategic_directives() -> None:
    live = {**containers("a", "b"), "nodeSelector": {"x": "1"}, "tolerations": [{"key": "t"}]}
    assert strategic_merge(live, {"containers": [{"name": "a", "$patch": "delete"}]}, POD)["containers"] == [
        {"name": "b"}
    ]
    assert strategic_merge(live, {"containers": [{"$patch": "replace"}, {"name": "z"}]}, POD)["containers"] == [
        {"name": "z"}
    ]
    assert strategic_merge(live, {"nodeSelector": {"$patch": "replace", "y": "2"}}, POD)["nodeSelector"] == {"y": "2"}
    assert strategic_merge(live, {"tolerations": [{"key": "u"}]}, POD)["tolerations"] == [{"key": "u"}]
    assert "nodeSelector" not in strategic_merge(live, {"nodeSelector": None}, POD)


def test_an_element_without_its_key_is_refused() -> None:
    with pytest.raises(StatusError, match="merge key: name"):
        strategic_merge(containers("a"), {"containers": [{"image": "x"}]}, POD)
