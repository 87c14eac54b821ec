from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_operator.comparison import merge_patch, says

SAME = [
    pytest.param({"a": 1, "extra": 2}, {"a": 1}, id="foreign-fields-do-not-matter"),
    pytest.param({}, {"a": "", "b": [], "c": {}, "d": None, "e": False}, id="empty-values-are-dropped-by-the-server"),
    pytest.param({"env": [{"name": "X"}]}, {"env": [{"name": "X", "value": ""}]}, id="empty-value-in-a-list"),
    pytest.param({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1000m"}}, id="cpu"),
    pytest.param({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, id="memory"),
    pytest.param({"limits": {"nvidia.com/gpu": "1"}}, {"limits": {"nvidia.com/gpu": 1}}, id="a-number-as-text"),
    pytest.param({"averageValue": "50m"}, {"averageValue": "0.05"}, id="metric-target"),
]
DIFFERENT = [
    pytest.param({"a": 1}, {"a": 2}, id="value"),
    pytest.param({}, {"a": 1}, id="missing"),
    pytest.param({"a": [1]}, {"a": [1, 2]}, id="shorter-list"),
    pytest.param({"a": [1, 2]}, {"a": [1]}, id="longer-list"),
    pytest.param({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}, id="quantity"),
    pytest.param(
        {"selector": {"a": "1", "b": "2"}}, {"selector": {"a": "1"}}, id="a-selector-with-one-more-selects-less"
    ),
    pytest.param({"value": "abc"}, {"value": "abd"}, id="text-is-no-quantity"),
    pytest.param({"name": "1"}, {"name": "1000m"}, id="only-quantities-are-quantities"),
]


@pytest.mark.parametrize(("live", "wanted"), SAME)
def test_says(live: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert says(live, wanted)


@pytest.mark.parametrize(("live", "wanted"), DIFFERENT)
def test_does_not_say(live: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert not says(live, wanted)


json_values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)


def apply_patch(target: Any, patch: Any) -> Any:
    """RFC 7386, as the RFC writes it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_patch(result.get(key), value)
    return result


@given(json_objects, json_objects)
def test_a_merge_patch_leads_from_one_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge_patch(before, after)
    assert apply_patch(before, patch) == after
    assert bool(patch) == (before != after)


@given(json_objects)
def test_everything_says_itself(value: dict[str, Any]) -> None:
    assert says(value, value)
