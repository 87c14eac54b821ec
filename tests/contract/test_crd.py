"""The CustomResourceDefinition is structural, documented, in step with the types, and its rules say what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cel
import kubernetes_validate
import pytest

from mlserve_core.api import rules
from mlserve_core.api import v1alpha1 as api
from mlserve_core.api.crd import custom_resource_definition
from mlserve_core.api.generate import generated_files

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCHEMA = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
FORBIDDEN = {"$ref", "$defs", "title", "const", "prefixItems", "exclusiveMinimum", "exclusiveMaximum", "examples"}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def test_generated_files_are_up_to_date() -> None:
    for path, content in generated_files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == content, f"{path}: run `make generate`"


def test_is_a_valid_object_of_the_newest_kubernetes() -> None:
    kubernetes_validate.validate(custom_resource_definition(), kubernetes_validate.latest_version(), strict=True)


def test_every_node_is_structural() -> None:
    for path, node in nodes(SCHEMA):
        assert not FORBIDDEN & node.keys(), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert (
            node.get("type") != "object"
            or path == ".metadata"
            or ({"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & node.keys())
        ), f"{path} would lose everything by pruning"
        assert set(node.get("required", ())) <= set(node.get("properties", ())), path


def test_every_field_is_described() -> None:
    for path, node in nodes(SCHEMA):
        for name, child in node.get("properties", {}).items():
            if (path, name) != ("", "metadata"):
                assert child.get("description", "").endswith((".", ")")), f"{path}.{name}"


def test_no_floats_anywhere() -> None:
    assert not [path for path, node in nodes(SCHEMA) if node.get("type") == "number"]


def test_lists_are_bounded_or_in_no_rule() -> None:
    """A kube-apiserver estimates the cost of a rule from maxItems and maxLength."""
    spec = SCHEMA["properties"]["spec"]
    for path, node in nodes(spec):
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string" and "enum" not in node and "{}" not in path:
            assert "maxLength" in node, path


def test_map_lists_require_their_keys() -> None:
    for path, node in nodes(SCHEMA):
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], path


def test_what_shapes_a_revision_has_no_defaults() -> None:
    for part in ("model", "runtime"):
        for path, node in nodes(SCHEMA["properties"]["spec"]["properties"][part]):
            assert path == "" or "default" not in node, f"spec.{part}{path}"


def test_defaults_of_the_schema_are_those_of_the_types() -> None:
    def apply(schema: dict[str, Any], value: Any) -> Any:
        if schema.get("type") != "object" or "properties" not in schema:
            return value
        for name, child in schema["properties"].items():
            if name not in value and "default" in child:
                value[name] = child["default"]
            if name in value:
                value[name] = apply(child, value[name])
        return value

    minimal = {"model": {"uri": "file:///m"}}
    by_types = api.ModelDeploymentSpec.model_validate(minimal)
    defaulted = apply(SCHEMA["properties"]["spec"], {**minimal})
    assert api.ModelDeploymentSpec.model_validate(defaulted) == by_types
    assert defaulted["rollout"]["analysis"]["errors"] == {"enabled": True}
    assert [step["weight"] for step in defaulted["rollout"]["steps"]] == [5, 25, 50]


STEP = {"weight": 5, "holdSeconds": 60, "until": "Held"}
FEEDBACK = {"reward": {"enabled": True}, "labels": {"enabled": True}}
RULE_CASES: list[tuple[type[api.ApiModel], dict[str, Any], str]] = [
    (api.Model, {"uri": "s3://bucket/m"}, ""),
    (api.Model, {"uri": "pvc://claim/path"}, ""),
    (api.Model, {"uri": "pvc://claim"}, "claim and a path"),
    (api.Model, {"uri": "ftp://x/y"}, "must begin with one of s3://"),
    (api.Model, {"uri": "file://"}, "must begin with"),
    (api.Runtime, {"device": "cpu"}, ""),
    (api.Runtime, {"device": "cuda", "gpu": {"count": 1}}, ""),
    (api.Runtime, {"gpu": {"count": 1}}, ""),
    (api.Runtime, {"device": "cpu", "gpu": {"count": 1}}, "device is cpu"),
    (api.Autoscaling, {"minReplicas": 1, "maxReplicas": 1}, ""),
    (api.Autoscaling, {"minReplicas": 2, "maxReplicas": 1}, "minReplicas must not"),
    (api.AutoscalingTargets, {"queueMillis": 5}, ""),
    (api.AutoscalingTargets, {"metrics": []}, "at least one target"),
    (api.Traffic, {"mode": "Envoy", "stickyHeader": "x-user"}, ""),
    (api.Traffic, {"mode": "Gateway", "gateway": {}}, ""),
    (api.Traffic, {"mode": "Gateway"}, "needs gateway.parentRefs"),
    (api.Traffic, {"mode": "Gateway", "gateway": {}, "stickyHeader": "x-user"}, "mode Envoy only"),
    (api.Traffic, {"mode": "Direct", "stickyHeader": "x-user"}, "mode Envoy only"),
    (api.Step, STEP, ""),
    (api.Step, {**STEP, "until": "Conclusive", "maxSeconds": 90}, ""),
    (api.Step, {**STEP, "until": "Conclusive"}, "needs maxSeconds"),
    (api.Step, {**STEP, "maxSeconds": 59}, "below holdSeconds"),
    (api.Rollout, {"steps": [STEP, {**STEP, "weight": 6}], "analysis": FEEDBACK}, ""),
    (api.Rollout, {"steps": [], "analysis": FEEDBACK}, ""),
    (api.Rollout, {"steps": [{**STEP, "weight": w} for w in range(1, 33)], "analysis": FEEDBACK}, ""),
    (api.Rollout, {"steps": [STEP, STEP], "analysis": FEEDBACK}, "must rise"),
    (api.Rollout, {"steps": [{**STEP, "weight": w} for w in [*range(1, 32), 31]], "analysis": FEEDBACK}, "must rise"),
    (
        api.Rollout,
        {
            "steps": [{**STEP, "until": "Conclusive"}],
            "analysis": {"reward": {"enabled": False}, "labels": {"enabled": True}},
        },
        "decided by rewards",
    ),
    (api.PrometheusCheck, {"max": "1"}, ""),
    (api.PrometheusCheck, {"name": "p"}, "max, min or both"),
    (api.ModelDeploymentSpec, {"traffic": {"mode": "Direct"}, "rollout": {"strategy": "BlueGreen"}}, ""),
    (api.ModelDeploymentSpec, {"traffic": {"mode": "Envoy"}, "rollout": {"strategy": "Canary"}}, ""),
    (api.ModelDeploymentSpec, {"traffic": {"mode": "Direct"}, "rollout": {"strategy": "Canary"}}, "cannot split"),
    (
        api.ModelDeploymentSpec,
        {"traffic": {"mode": "Direct"}, "rollout": {"strategy": "BlueGreen", "maxSurgeGpus": 1}},
        "pod by pod",
    ),
]


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    RULE_CASES,
    ids=[f"{k.__name__}-{c or 'ok'}-{i}" for i, (k, _, c) in enumerate(RULE_CASES)],
)
def test_rules(kind: type[api.ApiModel], value: dict[str, Any], complaint: str) -> None:
    broken = [rule.message for rule in rules.RULES[kind] if not cel.evaluate(rule.rule, {"self": value})]
    if complaint:
        assert len(broken) == 1
        assert complaint in broken[0]
    else:
        assert broken == []


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("digits", True),
        ("a" * 45, True),
        ("a" * 46, False),
        ("1digits", False),
        ("Digits", False),
        ("a.b", False),
        ("mlserve-router", False),
    ],
)
def test_names(name: str, fine: bool) -> None:
    verdicts = [cel.evaluate(rule.rule, {"self": {"metadata": {"name": name}}}) for rule in rules.ROOT_RULES]
    assert all(verdicts) is fine


def test_every_rule_is_tried_both_ways() -> None:
    assert {kind for kind, _, _ in RULE_CASES} == set(rules.RULES)
