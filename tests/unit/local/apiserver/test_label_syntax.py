"""Label selectors: what is read, and how a malformed one is refused."""

from __future__ import annotations

import pytest

from mlserve_local.apiserver.errors import StatusError
from mlserve_local.apiserver.selectors import parse_label_selector

NOT_AN_INTEGER = "for 'Gt', 'Lt' operators, the value must be an integer"


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("! a , b", {"b": "1"}, True),
        ("a=", {"a": ""}, True),
        ("a==1,b!=2", {"a": "1"}, True),
        ("a in (x, y)", {"a": "y"}, True),
        ("a in (x,,)", {"a": ""}, True),
        ("a in ()", {"a": ""}, True),
        ("a notin (x)", {}, True),
        ("in in (in)", {"in": "in"}, True),
        ("a>1,a<10", {"a": "5"}, True),
        ("a>1", {"a": "x"}, False),
        ("example.dev/a=b", {"example.dev/a": "c"}, False),
    ],
)
def test_selection(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse_label_selector(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a notin b", "unable to parse requirement: found 'b' expected: '('"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a>x", f'unable to parse requirement: values[0]: Invalid value: "x": {NOT_AN_INTEGER}'),
    ],
)
def test_refusal(text: str, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_label_selector(text)
    assert (refused.value.code, refused.value.message) == (400, message)
