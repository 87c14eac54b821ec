"""Rules between the fields of built-in kinds: which field is refused, and for what reason."""

from __future__ import annotations

from typing import Any

import pytest

from mlserve_local.apiserver import decoding, kind_rules, network_rules, pod_rules, rest
from mlserve_local.apiserver.registry import Registry
from mlserve_local.apiserver.storage import Store

POD = {"containers": [{"name": "c", "image": "x:1"}]}
ONCE = {"template": {"spec": {**POD, "restartPolicy": "Never"}}}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(Store(None))


def completed(registry: Registry, plural: str, group: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object as the rules see it: decoded and with its defaults."""
    resource = registry.builtin(plural, group)
    given = {"metadata": {"name": "x"}, "spec": spec}
    return rest.decode(resource, given, decoding.Problems())


@pytest.mark.parametrize(
    ("spec", "broken"),
    [
        ({"type": "ExternalName"}, {("Required", "spec.externalName")}),
        ({"type": "ExternalName", "externalName": "a_b"}, {("Invalid", "spec.externalName")}),
        ({"ports": [{"port": 80, "nodePort": 30001}]}, {("Forbidden", "spec.ports[0].nodePort")}),
        ({"ports": [{"port": 80}], "externalTrafficPolicy": "Local"}, {("Invalid", "spec.externalTrafficPolicy")}),
        ({"ports": [{"port": 80}], "externalIPs": ["x"]}, {("Invalid", "spec.externalIPs[0]")}),
        ({"ports": [{"port": 80}], "loadBalancerClass": "a.b/c"}, {("Forbidden", "spec.loadBalancerClass")}),
        ({"ports": [{"port": 80}], "selector": {"a b": "c"}}, {("Invalid", "spec.selector")}),
        ({"ports": [{"port": 80}]}, set()),
    ],
)
def test_services(registry: Registry, spec: dict[str, Any], broken: set[tuple[str, str]]) -> None:
    found = network_rules.service(completed(registry, "services", "", spec))
    assert {(e.kind, e.field) for e in found} == broken


def _path(**path: Any) -> dict[str, Any]:
    return {"rules": [{"http": {"paths": [path]}}]}


BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
PLACE = "spec.rules[0].http.paths[0]"


@pytest.mark.parametrize(
    ("spec", "broken"),
    [
        ({}, {("Invalid", "spec")}),
        ({"rules": [{"host": "A_b"}]}, {("Invalid", "spec.rules[0].host")}),
        (_path(path="/", backend=BACKEND), {("Required", f"{PLACE}.pathType")}),
        (_path(path="x", pathType="Prefix", backend=BACKEND), {("Invalid", f"{PLACE}.path")}),
        (_path(path="/", pathType="Prefix", backend={}), {("Invalid", f"{PLACE}.backend")}),
        (_path(path="/", pathType="Prefix", backend={"service": {"name": "s"}}), {("Required", f"{PLACE}.backend")}),
        (_path(path="/", pathType="Prefix", backend=BACKEND), set()),
        ({"defaultBackend": BACKEND}, set()),
    ],
)
def test_ingresses(registry: Registry, spec: dict[str, Any], broken: set[tuple[str, str]]) -> None:
    found = network_rules.ingress(completed(registry, "ingresses", "networking.k8s.io", spec))
    assert {(e.kind, e.field) for e in found} == broken


@pytest.mark.parametrize(
    ("spec", "broken"),
    [
        ({"schedule": "* * * * *"}, set()),
        ({"schedule": "@hourly"}, set()),
        ({"schedule": "bad"}, {("Invalid", "spec.schedule")}),
        ({"schedule": ""}, {("Required", "spec.schedule")}),
        ({"schedule": "* * * * *", "timeZone": "Nope/X"}, {("Invalid", "spec.timeZone")}),
        ({"schedule": "* * * * *", "concurrencyPolicy": "X"}, {("NotSupported", "spec.concurrencyPolicy")}),
        (
            {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": POD}}}},
            {("Required", "spec.jobTemplate.spec.template.spec.restartPolicy")},
        ),
    ],
)
def test_cron_jobs(registry: Registry, spec: dict[str, Any], broken: set[tuple[str, str]]) -> None:
    given = {"jobTemplate": {"spec": ONCE}, **spec}
    found = pod_rules.cron_job(completed(registry, "cronjobs", "batch", given))
    assert {(e.kind, e.field) for e in found} == broken


@pytest.mark.parametrize(
    ("spec", "broken"),
    [
        ({}, {("Required", "spec.accessModes"), ("Required", "spec.resources[storage]")}),
        (
            {"accessModes": ["X"], "resources": {"requests": {"storage": "-1"}}},
            {("NotSupported", "spec.accessModes"), ("Invalid", "spec.resources[storage]")},
        ),
        ({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, set()),
    ],
)
def test_volume_claims(registry: Registry, spec: dict[str, Any], broken: set[tuple[str, str]]) -> None:
    found = kind_rules.volume_claim(completed(registry, "persistentvolumeclaims", "", spec))
    assert {(e.kind, e.field) for e in found} == broken


def test_what_a_stateful_set_may_change(registry: Registry) -> None:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "serviceName": "s", "template": {"spec": POD}}
    old, more, renamed = (
        completed(registry, "statefulsets", "apps", {**spec, **change})
        for change in ({}, {"replicas": 3}, {"serviceName": "t"})
    )
    assert pod_rules.stateful_set_update(more, old) == []
    (error,) = pod_rules.stateful_set_update(renamed, old)
    assert (error.kind, error.field) == ("Forbidden", "spec")


def test_a_container_limit_is_its_default_and_its_request(registry: Registry) -> None:
    limit = {"type": "Container", "default": {"cpu": "1"}, "max": {"memory": "1Gi"}, "min": {"cpu": "100m"}}
    made = completed(registry, "limitranges", "", {"limits": [limit]})["spec"]["limits"][0]
    assert made["default"] == {"cpu": "1", "memory": "1Gi"}
    assert made["defaultRequest"] == {"cpu": "100m", "memory": "1Gi"}
