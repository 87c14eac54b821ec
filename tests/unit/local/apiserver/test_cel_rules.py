"""Rules of custom resources: what the library adds, what is refused, and which rules run on an update."""

from __future__ import annotations

from typing import Any

import pytest

from mlserve_local.apiserver.cel_rules import RuleError, RuleRunner, check_fields, compile_expression, rewrite
from mlserve_local.apiserver.schema import compile_structural


def errors(schema: dict[str, Any], new: Any, old: Any = None) -> list[str]:
    wrapped = {"type": "object", "properties": {"spec": schema}}
    runner = RuleRunner(compile_structural(wrapped))
    return [e.message() for e in runner.errors({"spec": new}, None if old is None else {"spec": old})]


def rule(text: str, **more: Any) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": text, **more}]}


TEXT = {"type": "string"}
HOLDS = {
    "ip": ({**TEXT, **rule("isIP(self) && ip(self).family() == 4")}, "10.0.0.1", "::1"),
    "cidr": ({**TEXT, **rule("cidr('10.0.0.0/8').containsIP(self)")}, "10.1.1.1", "11.1.1.1"),
    "quantity": ({**TEXT, **rule("quantity(self).compareTo(quantity('64Gi')) <= 0")}, "2Gi", "65Gi"),
    "quantity-arithmetic": (
        {**TEXT, **rule("quantity(self).add(quantity('1Gi')).isLessThan(quantity('3Gi'))")},
        "1Gi",
        "2Gi",
    ),
    "url": ({**TEXT, **rule("isURL(self) && url(self).getScheme() == 'https'")}, "https://a/b", "http://a/b"),
    "find": ({**TEXT, **rule("self.find('[0-9]+') == '12'")}, "a12", "a"),
    "index-of-list": ({"type": "array", "items": TEXT, **rule("self.indexOf('b') == 1")}, ["a", "b"], ["b"]),
    "sorted": ({"type": "array", "items": {"type": "integer"}, **rule("self.isSorted()")}, [1, 2], [2, 1]),
    "sum": ({"type": "array", "items": {"type": "integer"}, **rule("self.sum() == 3")}, [1, 2], [2, 2]),
    "date-time": (
        {**TEXT, "format": "date-time", **rule("self > timestamp('2020-01-01T00:00:00Z')")},
        "2021-01-01T00:00:00Z",
        "2019-01-01T00:00:00Z",
    ),
    "optional": ({"type": "object", "properties": {"a": TEXT}, **rule("self.?a.orValue('x') == 'x'")}, {}, {"a": "y"}),
    "format": ({"type": "integer", **rule("'%d' .format([self]) == '3'")}, 3, 4),
    "escaped": (
        {"type": "object", "properties": {"a-b": TEXT}, **rule("self.a__dash__b == 'x'")},
        {"a-b": "x"},
        {"a-b": "y"},
    ),
}


@pytest.mark.parametrize("name", HOLDS)
def test_library(name: str) -> None:
    schema, good, bad = HOLDS[name]
    assert errors(schema, good) == []
    assert len(errors(schema, bad)) == 1


def test_transition_rules_run_only_where_there_was_a_value() -> None:
    schema = {**TEXT, **rule("self == oldSelf", message="immutable")}
    assert errors(schema, "a") == []
    assert errors(schema, "a", "a") == []
    assert errors(schema, "b", "a") == ['spec: Invalid value: "b": immutable']


def test_optional_old_self_sees_the_creation() -> None:
    schema = {**TEXT, **rule("oldSelf.hasValue() || self == 'first'", optionalOldSelf=True)}
    assert errors(schema, "first") == []
    assert errors(schema, "second") != []
    assert errors(schema, "second", "first") == []


def test_an_unchanged_value_is_not_judged_again() -> None:
    schema = {**TEXT, **rule("self.size() < 3")}
    assert errors(schema, "long", "long") == []
    assert errors(schema, "longer", "long") != []


def test_message_expression_wins_and_field_path_extends() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        **rule(
            "self.n < 3",
            messageExpression="'at most 2, got ' + string(self.n)",
            message="no",
            fieldPath=".n",
            reason="FieldValueForbidden",
        ),
    }
    assert errors(schema, {"n": 5}) == ["spec.n: Forbidden: at most 2, got 5"]


def test_list_maps_correlate_by_key() -> None:
    item = {"type": "object", "properties": {"k": TEXT, "v": TEXT}, "required": ["k"], **rule("self.v == oldSelf.v")}
    schema = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    assert errors(schema, [{"k": "b", "v": "2"}, {"k": "a", "v": "1"}], [{"k": "a", "v": "1"}]) == []
    assert errors(schema, [{"k": "b", "v": "2"}, {"k": "a", "v": "x"}], [{"k": "a", "v": "1"}]) != []


def test_errors_while_evaluating_are_failures() -> None:
    assert errors({"type": "object", "properties": {"a": TEXT}, **rule("self.a == 'x'")}, {}) != []


@pytest.mark.parametrize("text", ["self.", "self..a", "1 +", "self.all(x,"])
def test_broken_expressions_are_refused(text: str) -> None:
    with pytest.raises(RuleError):
        compile_expression(text)


def test_undeclared_fields_are_refused() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": TEXT}}}}
    check_fields("self.a.b.startsWith('self.nope') && has(self.a.b) && self.metadata.name != ''", schema)
    for text in ("self.nope == 1", "has(self.a.nope)", "self.a.nope.size() > 1", "oldSelf.nope"):
        with pytest.raises(RuleError, match="undefined field 'nope'"):
            check_fields(text, schema)


def test_optional_chains_are_rewritten() -> None:
    assert rewrite("self.?a.?b.orValue(1)") == 'optional_select(optional_select(self, "a"), "b").orValue(1)'
