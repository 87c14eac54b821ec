"""Selectors, quantities, ages and protobuf: the small languages of the API."""

from __future__ import annotations

import base64
from decimal import Decimal

import pytest

from mlserve_local.apiserver import protobuf, quantity, times
from mlserve_local.apiserver.errors import StatusError
from mlserve_local.apiserver.selectors import from_label_selector, parse_label_selector
from mlserve_local.apiserver.tables import json_path

LABELS = {"env": "prod", "tier": "web", "n": "5"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("env=prod", True),
        ("env==dev", False),
        ("env!=dev", True),
        ("other!=x", True),
        ("env", True),
        ("!env", False),
        ("env in (prod, dev),tier notin (db)", True),
        ("env in (dev)", False),
        ("n>4", True),
        ("n<5", False),
        ("x>1", False),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize("text", ["a in (", "a b", "=x", "a in x", ",,a"])
def test_malformed_selectors_are_400(text: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_label_selector(text)
    assert refused.value.code == 400


def test_label_selector_objects() -> None:
    expressions = [{"key": "tier", "operator": "In", "values": ["web"]}, {"key": "x", "operator": "DoesNotExist"}]
    assert from_label_selector({"matchLabels": {"env": "prod"}, "matchExpressions": expressions}).matches(LABELS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        ("500m", "0.5"),
        ("1Gi", "1073741824"),
        ("1e3", "1000"),
        ("1.5k", "1500"),
        (".5", "0.5"),
        ("-2n", "-2e-9"),
    ],
)
def test_quantities(text: str, value: str) -> None:
    assert quantity.parse(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1GB", "one", "1 Gi", "Gi", "1e", "--1"])
def test_what_is_no_quantity(text: str) -> None:
    assert not quantity.is_quantity(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (205, "3m25s"),
        (3600, "60m"),
        (10_800, "3h"),
        (12_000, "3h20m"),
        (100_000, "27h"),
        (400_000, "4d15h"),
        (10_000_000, "115d"),
        (100_000_000, "3y62d"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert times.human_duration(seconds) == text


def test_printer_paths() -> None:
    obj = {"a": {"b-c": [{"type": "x", "n": 1}, {"type": "y", "n": 2}]}}
    assert json_path(".a.b-c[?(@.type=='y')].n")(obj) == [2]
    assert json_path(".a.b-c[0].type")(obj) == ["x"]
    assert json_path(".a.b-c[*].n")(obj) == [1, 2]
    assert json_path(".none.at.all")(obj) == []


def test_protobuf_secret_and_unknown_fields() -> None:
    body = base64.b64decode(
        "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEjsKIQoBYRIAGgAiACoAMgA4AEIAWgYKAXgSAXliBgoBbhIBMRIGCgFrEgF2Eg4KBHV0ZjgSBmdyw7zDnxoAIgA="
    )
    decoded = protobuf.decode(body)
    assert (decoded["metadata"]["name"], decoded["metadata"]["labels"]) == ("a", {"x": "y"})
    assert decoded["data"] == {"k": "v", "utf8": "grüß"}
    for broken in (b"", b"k8s", b"k8s\x00\xff", b"{}"):
        with pytest.raises(protobuf.ProtobufError):
            protobuf.decode(broken)
